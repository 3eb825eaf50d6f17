"""For values and bytes nobody thought of: what is written reads back, and nothing but our errors ever comes out.

Hypothesis runs from a fixed seed (`derandomize`), so a failure repeats; it prints the smallest example it finds.
"""

import contextlib
import random

import pytest
from format_samples import (
    BODY,
    BODY2,
    CHECKPOINT,
    GENESIS,
    JOIN_BODY,
    LOG,
    LOG_KEY,
    META_KEY,
    ONE,
    PACK_KEY,
    PAGED,
    ROTATE,
    SAMPLES,
    SEED,
    STATE,
    TOKEN,
    Sample,
    V,
    replace_struct,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from cryptfs.crypto.keys import checkpoint_ctx, join_ctx, join_key, manifest_ctx, pack_ctx, segment_ctx
from cryptfs.crypto.seal import open_sealed, seal, sealed_len
from cryptfs.errors import CryptfsError
from cryptfs.format import checkpoint, crl, header, join, manifest, names, pack, rollup, segment, statement, wraps
from cryptfs.format.codec import decode, encode
from cryptfs.format.content import Content, FileKeyBox, Hole, Inline, Loc, MRef, Page, Paged, Patch, Root, Run
from cryptfs.format.limits import STAMP_MAX
from cryptfs.format.operation import (
    Adopted,
    Create,
    DelXattr,
    Expire,
    Link,
    OpId,
    Put,
    Range,
    Rekey,
    Relocate,
    Rename,
    Replaced,
    Restore,
    Retire,
    Rmdir,
    Rules,
    SetAttr,
    SetXattr,
    Undelete,
    Unlink,
    Unretire,
    Where,
)
from cryptfs.format.segment_body import SegmentBody, decode_body
from cryptfs.format.segment_rules import check_body

SECRET = TOKEN.secret
properties = settings(derandomize=True, deadline=None, max_examples=150, database=None)

# ---- strategies: every value that the format allows ----------------------------------------------------------------

id16 = st.binary(min_size=16, max_size=16).filter(lambda one: not one.startswith(b"\xff" * 8))
id32 = st.binary(min_size=32, max_size=32)
u32 = st.integers(0, 2**32 - 1)
i64 = st.integers(-(2**63), 2**63 - 1)
off = st.integers(0, 2**62)
ver = st.lists(st.builds(OpId, id16, st.integers(0, STAMP_MAX)), min_size=1, max_size=8, unique=True).map(
    lambda ops: tuple(sorted(ops))
)
maybe_ver = ver | st.just(())
name = st.binary(min_size=1, max_size=255).filter(lambda one: not {0, 47} & set(one) and one not in (b".", b".."))
key_sets = st.lists(id16, min_size=1, max_size=3, unique=True).map(lambda eids: b"".join(sorted(eids)))
box = st.binary(min_size=104, max_size=104)
container = st.builds(Where, st.integers(1, 2), id32)
containers = st.lists(container, min_size=1, max_size=4, unique=True).map(lambda found: tuple(sorted(found)))
place = st.builds(Loc, st.integers(1, 2), id32, off)


@st.composite
def contents(draw: st.DrawFn) -> Content:
    chunk_log2 = draw(st.sampled_from((16, 17, 18, 19, 20, 22)))
    counts = draw(st.lists(st.integers(1, 12), max_size=5))
    fkvs = draw(st.lists(u32, min_size=1, max_size=3, unique=True))
    spans = [
        Hole(n) if draw(st.booleans()) else Run(n, 0, draw(st.sampled_from(fkvs)), draw(place), bytes(32 * n))
        for n in counts
    ]
    total = sum(counts) << chunk_log2
    size = total - draw(st.integers(0, (1 << chunk_log2) - 1)) if total else 0
    used = sorted({span.fkv for span in spans if isinstance(span, Run)})
    keys = tuple(FileKeyBox(fkv, draw(key_sets), draw(box)) for fkv in used)
    digest = draw(st.just(b"") | id32)
    if draw(st.booleans()) or not size:
        return Content(draw(id16), size, chunk_log2, digest, keys, Inline(tuple(spans)))
    at, patches = 0, []
    for span in spans:
        patches.append(Patch(at, span))
        at += span.count
    ref = MRef(draw(key_sets), draw(place), draw(st.integers(73, 5000)), draw(id32))
    return Content(draw(id16), size, chunk_log2, digest, keys, Paged(ref, tuple(patches)))


owner = (u32, u32, off, i64)
modes = st.integers(0, 0o7777)
nothing = st.just(b"")
creates = st.one_of(
    st.builds(Create, id16, name, st.just(0), modes, *owner, nothing, st.none() | contents()),
    st.builds(Create, id16, name, st.sampled_from((1, 3, 4, 5, 6)), modes, *owner, nothing, st.none()),
    st.builds(Create, id16, name, st.just(2), modes, *owner, name, st.none()),
)
replaced = st.builds(Replaced, id16, ver, maybe_ver)
ranges = st.lists(st.integers(1, 2**40), min_size=1, max_size=4).map(
    lambda sizes: tuple(Range(sum(sizes[:i]), 5 * i, size) for i, size in enumerate(sizes))
)
ops = st.one_of(
    creates,
    st.builds(Put, id16, ver, contents(), i64),
    st.builds(Link, id16, id16, name),
    st.builds(Unlink, id16, ver, maybe_ver),
    st.builds(Rmdir, id16, ver),
    st.builds(Rename, id16, ver, id16, name, st.none() | replaced, st.integers(0, 1)),
    st.builds(Rename, id16, ver, id16, name, replaced, st.just(2)),
    st.builds(SetAttr, id16, st.just(15), st.integers(0, 0o7777), u32, u32, i64),
    st.builds(SetXattr, id16, name, st.binary(max_size=300)),
    st.builds(DelXattr, id16, name),
    st.builds(Undelete, id16, id16, name),
    st.builds(Restore, id16, ver, ver),
    st.builds(Rekey, id16, ver, contents()),
    st.builds(Retire, containers),
    st.builds(Unretire, containers),
    st.builds(Adopted, containers),
    st.builds(Relocate, st.just(1), id32, st.just(2), id32, ranges),
    st.builds(Expire, st.integers(0, STAMP_MAX)),
    st.builds(Rules, st.integers(0, 65535)),
)
heads = st.lists(id16.filter(lambda one: one != LOG), max_size=5, unique=True).map(
    lambda logs: tuple(segment.LogHead(log, 2, bytes(32)) for log in sorted(logs))
)
frontiers = st.lists(id32, min_size=1, max_size=5, unique=True).map(lambda ids: tuple(sorted(ids)))
packs = st.builds(segment.PackRef, id32, st.integers(0, 1 << 24), st.integers(1, 2))
bodies = st.builds(
    SegmentBody,
    fmt=st.just(1),
    prev=id32.filter(any),
    stamp=st.integers(1, STAMP_MAX),
    mheads=frontiers,
    vec=heads,
    wall_ms=i64,
    rules=st.integers(0, 65535),
    client=st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=16),
    first_op=st.integers(0, STAMP_MAX - 100),
    packs=st.lists(packs, max_size=2, unique_by=lambda one: one.id).map(tuple),
    attest=st.just(()),
    ops=st.lists(ops, max_size=8).map(tuple),
    ext=st.just(()),
)

# ---- what is written reads back ------------------------------------------------------------------------------------


@properties
@given(body=bodies, seq=st.integers(1, STAMP_MAX))
def test_any_segment_reads_back(body: SegmentBody, seq: int) -> None:
    data, digest = segment.build_segment(
        vault=V, ks=ONE, log_id=LOG, seq=seq, log_key=LOG_KEY, body=body, sign_seed=SEED
    )
    raw = segment.parse_segment(data, V)
    assert (raw.seq, raw.digest) == (seq, digest)
    assert segment.open_segment(raw, LOG_KEY) == body


@properties
@given(content=contents())
def test_any_content_reads_back(content: Content) -> None:
    assert decode(Content, encode(content), 1 << 20) == content


@properties
@given(
    log=id16,
    seq=st.integers(0, STAMP_MAX),
    more=st.integers(0, 1000),
    digest=id32,
    foreign=st.text(max_size=90) | st.from_regex(r"[mwjlpc]?[0-9a-f]?/[0-9a-f-]{0,90}", fullmatch=True),
)
def test_any_name_reads_back(log: bytes, seq: int, more: int, digest: bytes, foreign: str) -> None:
    assert names.parse_name(names.segment_name(log, seq, digest)) == names.SegmentName(log, seq, digest[:8])
    last = min(seq + more, STAMP_MAX)
    rolled = names.parse_name(names.rollup_name(log, seq, last, digest))
    assert rolled == names.RollupName(log, seq, last, digest[:8])
    names.parse_name(foreign)


# ---- nothing but our errors ----------------------------------------------------------------------------------------

CLEAR_PARSERS = [
    header.object_class,
    *(lambda data, kind=kind: header.parse_header(kind, data, V) for kind in header.ObjectClass),
    lambda data: statement.parse_statement(data, V),
    statement.genesis_vault,
    lambda data: wraps.parse_wraps(data, V).open(bytes(32)),
    lambda data: join.parse_join(data, V).open(SECRET),
    lambda data: segment.parse_segment(data, V),
    lambda data: segment.segment_len_in(memoryview(data)),
    lambda data: rollup.parse_rollup(data, V),
    lambda data: crl.parse_crl(data, V),
    lambda data: pack.parse_pack_header(data, len(data), V),
    lambda data: checkpoint.parse_checkpoint(data, len(data), V),
    lambda data: join.decode_token(data.decode(errors="replace")),
    lambda data: join.decode_token("cfs1-" + data.decode("latin-1")),
]
KINDS = [
    SegmentBody, statement.Payload, wraps.WrapsPayload, join.JoinBody, join.Token, pack.PackIndex,
    checkpoint.CheckpointHead, Content, Root, Page,
]  # fmt: skip


def only_our_errors(call: object, data: bytes) -> None:
    with contextlib.suppress(CryptfsError):
        call(data)


@properties
@given(
    data=st.binary(max_size=400) | st.binary(max_size=300).map(lambda rest: SAMPLES[len(rest) % 10].data[:48] + rest)
)
def test_parsers_raise_only_our_errors_on_any_bytes(data: bytes) -> None:
    for parser in CLEAR_PARSERS:
        only_our_errors(parser, data)
    for kind in KINDS:
        only_our_errors(lambda plain, kind=kind: decode(kind, plain, 1 << 20), data)
    only_our_errors(decode_body, data)


def open_plaintext(kind: str, plain: bytes) -> None:
    """Let a member who holds the keys seal any bytes, and read them as everybody does."""
    if kind == "segment":
        fixed = LOG + bytes(8) + len(BODY2).to_bytes(4, "big") + bytes(4)
        head = header.pack_header(header.ObjectClass.SEGMENT, V, ONE, sealed_len(len(plain)), fixed)
        raw = segment.parse_segment(head + seal(LOG_KEY, segment_ctx(head), plain) + BODY2 + bytes(64), V)
        segment.open_segment(raw, LOG_KEY)
    elif kind == "pack":
        head = pack.pack_header(V, ONE, sealed_len(len(plain)))
        sealed = seal(PACK_KEY, pack_ctx(head), plain)
        pack.open_index(PACK_KEY, pack.parse_pack_header(head, len(head) + len(sealed), V), sealed)
    elif kind == "checkpoint":
        fixed = V + STATE.stamp.to_bytes(8, "big")
        head = header.pack_header(header.ObjectClass.CHECKPOINT, V, ONE, sealed_len(len(plain)), fixed)
        data = head + seal(META_KEY, checkpoint_ctx(head), plain) + bytes(64)
        checkpoint.open_head(checkpoint.parse_checkpoint(data, len(data) + BLOCKS_LEN, V), META_KEY)
    elif kind == "root":
        manifest.open_root(META_KEY, V, ONE, PAGED, seal(META_KEY, manifest_ctx(V, ONE, PAGED.fid, 1, 0), plain))
    elif kind == "page":
        record = seal(META_KEY, manifest_ctx(V, ONE, PAGED.fid, 0, 0), plain)
        manifest.open_page(META_KEY, V, ONE, PAGED, record, number=0)
    elif kind == "statement":
        statement.RawStatement(V, bytes(32), V, plain, bytes(64), b"").open()
    elif kind == "join":
        open_sealed(join_key(V, SECRET), join_ctx(b""), seal(join_key(V, SECRET), join_ctx(b""), plain))
        join.check_join(decode(join.JoinBody, plain, 1 << 20), JOIN_BODY.device.sign_pub)


RAW_CHECKPOINT = checkpoint.parse_checkpoint(CHECKPOINT, len(CHECKPOINT), V)
BLOCKS_LEN = len(CHECKPOINT) - RAW_CHECKPOINT.blocks_at
PLAINTEXTS = {
    "segment": encode(BODY),
    "pack": encode(pack.PackIndex(1, 1, (), (), (), ())),
    "checkpoint": encode(checkpoint.open_head(RAW_CHECKPOINT, META_KEY)),
    "root": encode(Root(1, (), (None, None))),
    "page": encode(Page(1, (Hole(4096),))),
    "statement": encode(ROTATE.payload),
    "join": encode(JOIN_BODY),
}


@properties
@given(data=st.binary(max_size=300))
def test_sealed_rubbish_raises_only_our_errors(data: bytes) -> None:
    for kind in PLAINTEXTS:
        only_our_errors(lambda plain, kind=kind: open_plaintext(kind, plain), data)


@pytest.mark.parametrize("kind", PLAINTEXTS)
def test_mutated_plaintexts_raise_only_our_errors(kind: str) -> None:
    """Bytes changed, removed, doubled and exchanged in what a member seals: refused, or another good value."""
    seed = f"mutations of {kind}"
    rng = random.Random(seed)
    plain = PLAINTEXTS[kind]
    open_plaintext(kind, plain)
    for _ in range(400):
        data = bytearray(plain)
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(data))
            match rng.randrange(4):
                case 0:
                    data[at] = rng.choice((0, 0x7F, 0x80, 0x90, 0x9F, 0xC0, 0xC4, 0xCF, 0xDD, 0xFF, rng.randrange(256)))
                case 1:
                    del data[at : at + rng.randint(1, 8)]
                case 2:
                    data[at:at] = data[at : at + rng.randint(1, 16)]
                case _:
                    data[at:at] = rng.randbytes(rng.randint(1, 4))
            if not data:
                break
        only_our_errors(lambda changed: open_plaintext(kind, changed), bytes(data))


@pytest.mark.parametrize("sample", SAMPLES, ids=str)
def test_mutated_objects_raise_only_our_errors(sample: Sample) -> None:
    seed = f"mutations of {sample}"
    rng = random.Random(seed)
    for _ in range(150):
        data = bytearray(sample.data)
        for _ in range(rng.randint(1, 6)):
            at = rng.randrange(min(len(data), 160) if rng.random() < 0.7 else len(data))
            data[at] = rng.randrange(256)
        only_our_errors(sample.read, bytes(data[: rng.randint(0, len(data))] if rng.random() < 0.3 else data))


@properties
@given(body=bodies, at=st.integers(0, 11), other=bodies)
def test_rules_of_form_are_total(body: SegmentBody, at: int, other: SegmentBody) -> None:
    """A body put together from two others is judged, whatever it says."""
    field = SegmentBody.__struct_fields__[at]
    mixed = replace_struct(body, **{field: getattr(other, field)})
    only_our_errors(lambda _: check_body(mixed, LOG, 1, 0), b"")
    assert GENESIS.id == V
