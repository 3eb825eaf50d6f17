"""One object of each class, small, with everything that reads it: what the tests of this room tamper with."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace

from cryptfs.crypto.keys import EpochSecret, KeyLabel, derive, eid, epoch_commit, sign_public, write_secret
from cryptfs.crypto.seal import seal, sealed_len
from cryptfs.errors import AuthError, Damaged
from cryptfs.format import checkpoint, checkpoint_making, crl, join, pack, rollup, segment, statement, wraps
from cryptfs.format.codec import FMT, encode
from cryptfs.format.content import Content, FileKeyBox, Hole, Inline, Loc, MRef, Page, Paged, Patch, Root, Run
from cryptfs.format.operation import Create, OpId, Put, Rename, Replaced, SetXattr, Unlink


def stream(seed: str, length: int) -> bytes:
    """`length` fixed bytes that look random, different for every `seed`."""
    return hashlib.shake_256(seed.encode()).digest(length)


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


# ---- the cast ------------------------------------------------------------------------------------------------------

SEED = stream("anna's device", 32)
PUB = sign_public(SEED)
OTHER_SEED = stream("bob's device", 32)
RECOVERY_SEED = stream("recovery", 32)
CERT = stream("certificate", 200)
SECRET = stream("invitation", 16)
DEVICE = statement.Device(CERT, PUB, b"", "Anna's laptop")
POLICY = statement.Policy(0, (), "", 0, 7, 0, 1, ())
RECOVERY = statement.Recovery(sign_public(RECOVERY_SEED), stream("kem", 32), b"")
GENESIS_OP = statement.Genesis("family", stream("member", 16), "Anna", DEVICE, POLICY, RECOVERY)
GENESIS = statement.make_genesis(
    time_ms=1, nonce=stream("nonce", 16), op=GENESIS_OP, sign_seed=SEED, recovery_seed=RECOVERY_SEED
)
V = GENESIS.id
OTHER_V = stream("another vault", 32)
ENTRY = V
LOG = ENTRY[:16]

SECRETS = [EpochSecret(stream(f"epoch {i}", 32)) for i in range(3)]
EIDS = [eid(epoch_commit(V, es)) for es in SECRETS]
ONE = b"".join(sorted(EIDS[:1]))
TWO = b"".join(sorted(EIDS[:2]))


def key(label: KeyLabel, ks: bytes = ONE, vault: bytes = V) -> bytes:
    held = dict(zip(EIDS, SECRETS, strict=True))
    wanted = [ks[at : at + 16] for at in range(0, len(ks), 16)]
    if not held.keys() >= set(wanted):
        raise AuthError("an epoch is not here")
    epochs = [(one, held[one]) for one in wanted]
    return derive(write_secret(vault, epochs), label, vault, ks)


LOG_KEY, META_KEY, PACK_KEY = key(KeyLabel.LOG), key(KeyLabel.META), key(KeyLabel.PACK)

# ---- contents ------------------------------------------------------------------------------------------------------

FID = stream("fid", 16)
BOX = FileKeyBox(0, ONE, stream("box", 104))
BODY2 = stream("records", sealed_len(100))
PACK_ID, OTHER_D = stream("pack", 32), stream("another segment", 32)

EMPTY = Content(FID, 0, 16, sha(b""), (), Inline(()))
HERE = Content(FID, 100, 16, b"", (BOX,), Inline((Run(1, 0, 0, Loc(0, b"", 0), sha(BODY2)),)))
PACKED = Content(
    FID,
    (5 << 16) + 1,
    16,
    stream("digest", 32),
    (BOX, FileKeyBox(3, TWO, stream("box 3", 104))),
    Inline(
        (
            Run(2, 0, 0, Loc(1, PACK_ID, 64), stream("hashes", 64)),
            Hole(3),
            Run(1, 0, 3, Loc(2, OTHER_D, 9), stream("last", 32)),
        )
    ),
)
ROOT_REF = MRef(ONE, Loc(1, PACK_ID, 4096), sealed_len(300), stream("root", 32))
PAGED = Content(
    FID,
    5000 << 16,
    16,
    b"",
    (FileKeyBox(3, TWO, stream("box 3", 104)),),
    Paged(ROOT_REF, (Patch(7, Run(1, 0, 3, Loc(2, OTHER_D, 9), stream("patch", 32))), Patch(4096, Hole(904)))),
)
ROOT = Root(FMT, (BOX,), (MRef(ONE, Loc(1, PACK_ID, 9000), sealed_len(200), stream("page", 32)), None))
PAGE = Page(FMT, (Hole(4095), Run(1, 0, 0, Loc(1, PACK_ID, 64), stream("one", 32))))

# ---- objects -------------------------------------------------------------------------------------------------------

VER = (OpId(stream("log a", 16), 3), OpId(stream("log c", 16), 0))
VER = tuple(sorted(VER))
INO, DIR = stream("inode", 16), stream("directory", 16)
OPS = (
    Create(DIR, b"letter.txt", 0, 0o644, 1000, 1000, 0, 1_700_000_000_000_000_000, b"", HERE),
    Put(INO, VER, PACKED, -5),
    Rename(INO, VER[:1], DIR, b"\xff name", Replaced(DIR, VER[:1], ()), 2),
    SetXattr(INO, b"user.comment", b""),
    Unlink(INO, VER, VER[1:]),
)
HEADS = (segment.LogHead(stream("log a", 16), 4, stream("D a", 32)),)
BODY = segment.SegmentBody(
    fmt=FMT,
    prev=bytes(32),
    stamp=9,
    mheads=(V,),
    vec=HEADS,
    wall_ms=1_700_000_000_000,
    rules=1,
    client="cryptfs test",
    first_op=0,
    packs=(segment.PackRef(PACK_ID, 70_000, 1),),
    attest=(segment.Attest(5, stream("root hash", 32)),),
    ops=OPS,
    ext=(),
)


def make_segment(seq: int = 0, ks: bytes = ONE, body: segment.SegmentBody = BODY, **changed: object) -> bytes:
    body = body if seq == 0 else replace_struct(body, prev=stream(f"D {seq - 1}", 32), first_op=5)
    settings = {"log_key": key(KeyLabel.LOG, ks), "sign_seed": SEED, "body2": BODY2, "vault": V} | changed
    return segment.build_segment(ks=ks, log_id=LOG, seq=seq, body=body, **settings)[0]


def replace_struct(value: object, /, **changed: object) -> object:
    """Like dataclasses.replace, for wire structs."""
    fields = {name: getattr(value, name) for name in value.__struct_fields__}
    return type(value)(**(fields | changed))


ROTATE = statement.make_statement(
    vault=V,
    prev=(V,),
    author=ENTRY,
    time_ms=2,
    nonce=stream("nonce 2", 16),
    op=statement.Rotate(statement.Epoch(epoch_commit(V, SECRETS[0]), (ENTRY,), b"")),
    sign_seed=SEED,
)
RECS = (wraps.Rec(ENTRY, sha(CERT), 1, stream("wrap", 113)), wraps.Rec(bytes(32), sha(b"r"), 1, stream("wrap r", 80)))
WRAPS = wraps.make_wraps(vault=V, author=ENTRY, eid=EIDS[0], recs=RECS, sign_seed=SEED)
JOIN_BODY = join.JoinBody(FMT, "Bob", DEVICE, statement.prove_possession(V, CERT, PUB, SEED), 5, ())
SEALED_JOIN = join.make_join(vault=V, body=JOIN_BODY, sign_seed=SEED, secret=SECRET)
CLEAR_JOIN = join.make_join(vault=V, body=JOIN_BODY, sign_seed=SEED)
TOKEN = join.Token(FMT, V, SECRET, 1, 1_800_000_000_000, (V,), HEADS[0], "file:///shared/family")
SEGMENT = make_segment()
SECOND = make_segment(1)
ROLLUP = rollup.build_rollup(V, LOG, 0, [SEGMENT, SECOND])
CRL = crl.build_crl(V, stream("a revocation list", 300))


def make_pack(ks: bytes = ONE) -> bytes:
    records = [seal(stream("file key", 32), b"", stream(f"chunk {i}", 50 + i)) for i in range(3)]
    at, recs = pack.records_at(len(ks) // 16), []
    for i, record in enumerate(records):
        recs.append(pack.PackRecord(FID, 0, 0, b"", i, at, len(record), 50 + i, 0, sha(record)))
        at += len(record)
    index = pack.PackIndex(
        FMT, 1, (pack.PackKey(FID, 0, ks, BOX.box),), (pack.PackHint(FID, INO, b"a/b", 153, 7),), tuple(recs), ()
    )
    header = pack.pack_header(V, ks, pack.index_len(index))
    return header + b"".join(records) + pack.seal_index(key(KeyLabel.PACK, ks), header, index)


PACK = make_pack()

ROWS = {table: [encode((stream(f"key {table} {i}", 16), i)) for i in range(table)] for table in range(1, 8)}
STATE = checkpoint_making.State(9, 1, (V,), (checkpoint.CheckpointLog(LOG, 0, stream("D", 32), 9),), tables=ROWS)


def make_checkpoint(ks: bytes = ONE, state: checkpoint_making.State = STATE) -> bytes:
    return checkpoint_making.build_checkpoint(
        vault=V, ks=ks, author=ENTRY, meta_key=key(KeyLabel.META, ks), state=state, client="test", sign_seed=SEED
    )[0]


CHECKPOINT = make_checkpoint()

# ---- readers: everything a client checks, in order -----------------------------------------------------------------


def read_genesis(data: bytes, vault: bytes = V) -> object:
    parsed = statement.parse_statement(data, vault)
    if not parsed.raw.is_genesis:
        raise Damaged("not the genesis")
    parsed.verify(parsed.payload.op.device.sign_pub)
    return parsed.payload


def read_statement(data: bytes, vault: bytes = V, pub: bytes = PUB) -> object:
    raw = statement.split_statement(data, vault)
    if raw.author != ENTRY:
        raise AuthError("author unknown")
    raw.verify(pub)
    return raw.open().payload


def read_wraps(data: bytes, vault: bytes = V, pub: bytes = PUB) -> object:
    parsed = wraps.parse_wraps(data, vault)
    if parsed.author != ENTRY:
        raise AuthError("author unknown")
    return parsed.open(pub)


def read_join(data: bytes, vault: bytes = V) -> object:
    return join.parse_join(data, vault).open(SECRET)


def read_segment(
    data: bytes, vault: bytes = V, pub: bytes = PUB, log_key: bytes | None = None, log_id: bytes = LOG
) -> object:
    raw = segment.parse_segment(data, vault)
    if raw.log_id != log_id:
        raise AuthError("log unknown")
    segment.verify_segment(raw, pub)
    return segment.open_segment(raw, log_key or key(KeyLabel.LOG, raw.ks)), bytes(raw.body2)


def read_rollup(data: bytes, vault: bytes = V, pub: bytes = PUB) -> object:
    parsed = rollup.parse_rollup(data, vault)
    if parsed.bad or parsed.log_id != LOG:
        raise Damaged("not all segments are good")
    for raw in parsed.segments:
        segment.verify_segment(raw, pub)
    return [segment.open_segment(raw, key(KeyLabel.LOG, raw.ks)) for raw in parsed.segments]


def read_pack(data: bytes, vault: bytes = V, pack_key: bytes | None = None) -> object:
    """Without the check of the id, which would find everything before the rest is asked."""
    header = pack.parse_pack_header(data[:304], len(data), vault)
    index = pack.open_index(pack_key or key(KeyLabel.PACK, header.ks), header, data[header.index_at :])
    at = header.records_at
    for rec in index.recs:
        if rec.off != at or sha(data[at : at + rec.len]) != rec.hash:
            raise Damaged("record")
        at += rec.len
    if at != header.index_at:
        raise Damaged("bytes between records and index")
    return index


def read_checkpoint(data: bytes, vault: bytes = V, pub: bytes = PUB, meta_key: bytes | None = None) -> object:
    raw = checkpoint.parse_checkpoint(data, len(data), vault)
    if raw.author != ENTRY:
        raise AuthError("author unknown")
    checkpoint.verify_checkpoint(raw, pub)
    meta_key = meta_key or key(KeyLabel.META, raw.ks)
    head = checkpoint.open_head(raw, meta_key)
    return head, [*checkpoint.read_tables(raw, head, meta_key, data)]


@dataclass(frozen=True)
class Sample:
    """An object and the function that reads it; `twin` is a different object of the class and of the same length."""

    name: str
    data: bytes
    read: Callable[..., object]
    twin: bytes

    def __str__(self) -> str:
        return self.name


_OTHER_BODY = replace_struct(BODY, stamp=8)
_OTHER_GENESIS = statement.make_genesis(
    time_ms=1,
    nonce=stream("nonce 3", 16),
    op=GENESIS_OP,
    sign_seed=SEED,
    recovery_seed=RECOVERY_SEED,
)
_OTHER_ROTATE = statement.make_statement(
    vault=V,
    prev=(V,),
    author=ENTRY,
    time_ms=2,
    nonce=stream("nonce 4", 16),
    op=ROTATE.payload.op,
    sign_seed=SEED,
)

SAMPLES = [
    Sample("genesis", GENESIS.data, read_genesis, _OTHER_GENESIS.data),
    Sample("statement", ROTATE.data, read_statement, _OTHER_ROTATE.data),
    Sample(
        "wraps",
        WRAPS,
        read_wraps,
        wraps.make_wraps(vault=V, author=ENTRY, eid=EIDS[1], recs=RECS, sign_seed=SEED),
    ),
    Sample(
        "sealed join request",
        SEALED_JOIN,
        read_join,
        join.make_join(vault=V, body=JOIN_BODY, sign_seed=SEED, secret=SECRET),
    ),
    Sample(
        "clear join request",
        CLEAR_JOIN,
        read_join,
        join.make_join(vault=V, body=replace_struct(JOIN_BODY, time_ms=6), sign_seed=SEED),
    ),
    Sample("segment", SEGMENT, read_segment, make_segment(body=_OTHER_BODY)),
    Sample("segment of two epochs", make_segment(ks=TWO), read_segment, make_segment(ks=TWO, body=_OTHER_BODY)),
    Sample(
        "rollup",
        ROLLUP,
        read_rollup,
        rollup.build_rollup(V, LOG, 0, [make_segment(body=_OTHER_BODY), SECOND]),
    ),
    Sample("pack", PACK, read_pack, make_pack()),
    Sample("checkpoint", CHECKPOINT, read_checkpoint, make_checkpoint(state=replace(STATE, rules=2))),
]
SIGNED = [sample for sample in SAMPLES if sample.name != "pack"]
