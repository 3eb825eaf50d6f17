"""One value, one spelling: whatever else decodes to the same value, or to a longer or shorter array, is refused."""

import pytest
from format_samples import (
    BODY,
    CHECKPOINT,
    GENESIS,
    HERE,
    JOIN_BODY,
    LOG,
    LOG_KEY,
    META_KEY,
    PACK,
    PACK_KEY,
    PACKED,
    PAGE,
    PAGED,
    PUB,
    RECS,
    ROOT,
    ROTATE,
    SEED,
    TOKEN,
    V,
    read_segment,
)
from reference_format import misspelt, pack, unpack

from cryptfs.crypto.keys import SignLabel, segment_ctx, sign
from cryptfs.crypto.seal import seal, sealed_len
from cryptfs.errors import Invalid, NeedsUpdate
from cryptfs.format.checkpoint import CheckpointHead, open_head, parse_checkpoint
from cryptfs.format.codec import FMT, Ext, check_ext, decode, encode
from cryptfs.format.content import Content, Page, Root
from cryptfs.format.header import ObjectClass, pack_header
from cryptfs.format.join import JoinBody, Token
from cryptfs.format.pack import PackIndex, open_index, parse_pack_header
from cryptfs.format.segment import SegmentBody, parse_segment
from cryptfs.format.statement import Payload
from cryptfs.format.wraps import WrapsPayload

CAP = 1 << 20
HEAD = open_head(parse_checkpoint(CHECKPOINT, len(CHECKPOINT), V), META_KEY)
_PACK_HEADER = parse_pack_header(PACK[:304], len(PACK), V)
INDEX = open_index(PACK_KEY, _PACK_HEADER, PACK[_PACK_HEADER.index_at :])
WRAPS = WrapsPayload(FMT, V[:16], RECS, (), ())

VALUES = [
    (SegmentBody, BODY),
    (Payload, GENESIS.payload),
    (Payload, ROTATE.payload),
    (WrapsPayload, WRAPS),
    (JoinBody, JOIN_BODY),
    (Token, TOKEN),
    (PackIndex, INDEX),
    (CheckpointHead, HEAD),
    (Content, HERE),
    (Content, PACKED),
    (Content, PAGED),
    (Root, ROOT),
    (Page, PAGE),
]
each_value = pytest.mark.parametrize(("kind", "value"), VALUES, ids=lambda v: getattr(v, "__name__", ""))


def parts(value: object, path: tuple[int, ...] = ()) -> list[tuple[int, ...]]:
    """Paths of all lists in a value."""
    if not isinstance(value, list):
        return []
    return [path] + [found for at, item in enumerate(value) for found in parts(item, (*path, at))]


def at_path(value: object, path: tuple[int, ...], change: object) -> object:
    if not path:
        return change(value)
    return [at_path(item, path[1:], change) if at == path[0] else item for at, item in enumerate(value)]


@each_value
def test_the_reference_reads_the_same_bytes(kind: type, value: object) -> None:
    data = encode(value)
    assert pack(unpack(data)) == data
    assert decode(kind, data, CAP) == value


@each_value
def test_over_long_integers_strings_and_arrays(kind: type, value: object) -> None:
    """T-canonical."""
    variants = misspelt(unpack(encode(value)))
    assert len(variants) > 20
    for data in variants:
        with pytest.raises(Invalid):
            decode(kind, data, CAP)


@each_value
@pytest.mark.parametrize("more", [0, None, False, "", b"", []], ids=repr)
def test_longer_arrays(kind: type, value: object, more: object) -> None:
    plain = unpack(encode(value))
    for path in parts(plain):
        longer = pack(at_path(plain, path, lambda items: [*items, more]))
        try:
            found = decode(kind, longer, CAP)
        except Invalid:
            continue
        assert encode(found) == longer, path  # a list of any length took one more of its own kind


@each_value
def test_shorter_arrays(kind: type, value: object) -> None:
    plain = unpack(encode(value))
    with pytest.raises(Invalid):
        decode(kind, pack(plain[:-1]), CAP)
    for path in parts(plain):
        shorter = pack(at_path(plain, path, lambda items: items[:-1]))
        try:
            assert encode(decode(kind, shorter, CAP)) == shorter
        except Invalid:
            continue


@each_value
def test_other_types_in_place(kind: type, value: object) -> None:
    """A value of another type anywhere is refused; floats, maps, nil and text for bytes above all."""
    plain = unpack(encode(value))
    for at, item in enumerate(plain):
        for odd in (b"\xc0", b"\xca\x00\x00\x00\x00", b"\xcb" + bytes(8), b"\x80", b"\x81\x01\x02", b"\xd4\x01\x01"):
            data = pack(plain)
            head = len(data) - sum(len(pack(one)) for one in plain)
            before = b"".join(pack(one) for one in plain[:at])
            after = b"".join(pack(one) for one in plain[at + 1 :])
            with pytest.raises(Invalid):
                decode(kind, data[:head] + before + odd + after, CAP)
        if isinstance(item, bytes):
            with pytest.raises(Invalid):
                decode(kind, pack([*plain[:at], "text", *plain[at + 1 :]]), CAP)


@each_value
def test_trailing_bytes_and_truncation(kind: type, value: object) -> None:
    data = encode(value)
    for changed in (data + b"\0", data + data, *(data[:end] for end in range(len(data)))):
        with pytest.raises(Invalid):
            decode(kind, changed, CAP)


@each_value
def test_cap_is_enforced_before_decoding(kind: type, value: object) -> None:
    data = encode(value)
    assert decode(kind, data, len(data)) == value
    with pytest.raises(Invalid, match="longer than"):
        decode(kind, data, len(data) - 1)


@pytest.mark.parametrize(
    "kind", sorted({kind for kind, _ in VALUES}, key=lambda kind: kind.__name__), ids=lambda kind: kind.__name__
)
@pytest.mark.parametrize("opening", [b"\x91", b"\xdd\xff\xff\xff\xff", b"\xdc\xff\xff", b"\x9f", b"\x81\x00"])
def test_depth_and_promised_lengths_cost_nothing(kind: type, opening: bytes) -> None:
    for data in (opening * 100_000, b"\x98" + opening * 100_000, b"\x9d\x01" + opening * 1000):
        with pytest.raises(Invalid):
            decode(kind, data, CAP)


def reseal(plain: bytes) -> bytes:
    """A segment by its rightful author with any plaintext."""
    fixed = LOG + bytes(8) + bytes(4) + bytes(4)
    header = pack_header(ObjectClass.SEGMENT, V, V[:16], sealed_len(len(plain)), fixed)
    data = header + seal(LOG_KEY, segment_ctx(header), plain)
    digest = parse_segment(data + bytes(64), V).digest
    return data + sign(SEED, SignLabel.SEGMENT, V, digest)


def test_author_cannot_have_two_readings_of_one_segment() -> None:
    body = unpack(encode(BODY))
    body[11] = []
    assert read_segment(reseal(pack(body)), pub=PUB, log_key=LOG_KEY)
    for data in misspelt(body):
        with pytest.raises(Invalid):
            read_segment(reseal(data), pub=PUB, log_key=LOG_KEY)
    for value in ([*body, 0], body[:-1]):
        with pytest.raises(Invalid):
            read_segment(reseal(pack(value)), pub=PUB, log_key=LOG_KEY)


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body[11].append([99, 1, 2]),
        lambda body: body[11].append([31]),
        lambda body: body.__setitem__(0, 2),
        lambda body: body.append("a field of format 2") or body.__setitem__(0, 2),
        lambda body: body[12].append([7, True, b""]),
    ],
    ids=["operation 99", "operation 31", "format 2", "longer format 2", "critical extension"],
)
def test_what_a_later_version_writes_asks_for_an_update(change: object) -> None:
    body = unpack(encode(BODY))
    body[11] = []
    change(body)
    with pytest.raises(NeedsUpdate):
        read_segment(reseal(pack(body)), pub=PUB, log_key=LOG_KEY)


@pytest.mark.parametrize("tag", [0, 13, 14, 19, 25, 29, -1])
def test_operation_tags_that_stand_for_nothing_yet(tag: int) -> None:
    body = unpack(encode(BODY))
    body[11] = [[tag]]
    with pytest.raises(NeedsUpdate):
        read_segment(reseal(pack(body)), pub=PUB, log_key=LOG_KEY)


def test_malformed_known_operation_is_not_excused_as_new() -> None:
    body = unpack(encode(BODY))
    body[11] = [[3, b"too short"]]
    with pytest.raises(Invalid):
        read_segment(reseal(pack(body)), pub=PUB, log_key=LOG_KEY)


def test_extensions() -> None:
    check_ext((Ext(0, False, b""), Ext(5, False, b"x")))
    with pytest.raises(Invalid):
        check_ext((Ext(5, False, b""), Ext(5, False, b"")))
    with pytest.raises(Invalid):
        check_ext((Ext(5, False, b""), Ext(4, True, b"")))
    with pytest.raises(NeedsUpdate):
        check_ext((Ext(4, True, b""), Ext(5, False, b"")))


def test_errors_carry_no_content() -> None:
    """A message may land in a log: it names the rule, never the bytes."""
    with pytest.raises(Invalid, match=r"^JoinBody is not what the format says \(ValidationError\)$"):
        decode(JoinBody, encode(TOKEN), CAP)
