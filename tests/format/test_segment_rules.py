"""One segment and one chain of them: what B may say, and how a log continues (S2, S8)."""

import pytest
from format_samples import (
    BODY,
    BODY2,
    LOG,
    LOG_KEY,
    OPS,
    PACK_ID,
    PUB,
    SECOND,
    SEED,
    SEGMENT,
    TWO,
    V,
    make_segment,
    read_rollup,
    read_segment,
    replace_struct,
    stream,
)

from cryptfs.crypto.seal import seal
from cryptfs.errors import Damaged, Invalid
from cryptfs.format import segment
from cryptfs.format.codec import encode
from cryptfs.format.limits import BODY2_MAX, OPS_MAX, SEGMENT_MAX, STAMP_MAX
from cryptfs.format.operation import Expire, SetXattr
from cryptfs.format.rollup import build_rollup, parse_rollup
from cryptfs.format.segment import Attest, LogHead, PackRef, segment_len
from cryptfs.format.segment_rules import LOG_START, ChainTip, check_body, follow

I64 = 2**63
A, B = sorted((stream("log a", 16), stream("log b", 16)))
D = stream("D", 32)
IDS = tuple(sorted(stream(f"statement {i}", 32) for i in range(257)))

BAD = {
    "fmt": [0, -1],
    "prev": [b"", D, bytes(31)],
    "stamp": [0, -1, STAMP_MAX + 1],
    "mheads": [(), (IDS[1], IDS[0]), (IDS[0], IDS[0]), (bytes(31),), IDS],
    "vec": [
        (LogHead(LOG, 0, D),),
        (LogHead(B, 0, D), LogHead(A, 0, D)),
        (LogHead(A, 0, D), LogHead(A, 1, D)),
        (LogHead(A, -1, D),),
        (LogHead(A, STAMP_MAX + 1, D),),
        (LogHead(A, 0, bytes(31)),),
        (LogHead(b"short", 0, D),),
        tuple(LogHead(i.to_bytes(16, "big"), 0, D) for i in range(4097)),
    ],
    "wall_ms": [-I64 - 1, I64],
    "rules": [-1, 65536],
    "client": ["x" * 65, "ü" * 33, "a\nb", "a\x1b[31m", "\x7f", "\x9b"],
    "first_op": [1, -1, STAMP_MAX],
    "packs": [
        (PackRef(b"", 1, 1),),
        (PackRef(PACK_ID, -1, 1),),
        (PackRef(PACK_ID, 1 << 40, 1),),
        (PackRef(PACK_ID, 1, 0),),
        (PackRef(PACK_ID, 1, 3),),
        (PackRef(PACK_ID, 1, 1), PackRef(PACK_ID, 1, 1)),
    ],
    "attest": [
        (Attest(-1, D),),
        (Attest(STAMP_MAX + 1, D),),
        (Attest(1, b""),),
        (Attest(2, D), Attest(1, D)),
        (Attest(1, D), Attest(1, D)),
    ],
    "ops": [(SetXattr(b"", b"k", b""),), (*OPS, Expire(-1)), (Expire(0),) * (OPS_MAX + 1)],
}


def test_good_body_passes() -> None:
    check_body(BODY, LOG, 0, len(BODY2))
    check_body(replace_struct(BODY, ops=(), packs=(), attest=(), vec=()), LOG, 0, 0)


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in BAD.items() for value in values])
def test_body_out_of_range_is_refused(field: str, value: object) -> None:
    with pytest.raises(Invalid):
        check_body(replace_struct(BODY, **{field: value}), LOG, 0, len(BODY2))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("stamp", STAMP_MAX),
        ("mheads", IDS[:256]),
        ("client", "x" * 64),
        ("client", ""),
        ("wall_ms", -I64),
        ("packs", (PackRef(PACK_ID, 0, 2),)),
        ("ops", (Expire(0),) * OPS_MAX),
        ("vec", (LogHead(A, 0, D), LogHead(B, STAMP_MAX, D))),
    ],
)
def test_outermost_body_passes(field: str, value: object) -> None:
    check_body(replace_struct(BODY, **{field: value}), LOG, 0, len(BODY2))


def test_only_the_first_segment_has_no_predecessor() -> None:
    later = replace_struct(BODY, prev=D, first_op=7)
    check_body(later, LOG, 1, len(BODY2))
    for body, seq in (
        (later, 0),
        (BODY, 1),
        (replace_struct(later, prev=D[:31]), 1),
        (replace_struct(later, first_op=STAMP_MAX - len(OPS) + 1), 1),
    ):
        with pytest.raises(Invalid):
            check_body(body, LOG, seq, len(BODY2))


# ---- chain ---------------------------------------------------------------------------------------------------------


def test_log_grows_step_by_step() -> None:
    tip = follow(LOG_START, 0, D, BODY)
    assert tip == ChainTip(1, D, len(OPS), BODY.stamp)
    second = replace_struct(BODY, prev=D, first_op=len(OPS), stamp=10)
    assert follow(tip, 1, PACK_ID, second) == ChainTip(2, PACK_ID, 2 * len(OPS), 10)
    for seq, changed, reason in [
        (0, {}, "expected segment 1, got 0"),
        (2, {}, "expected segment 1, got 2"),
        (1, {"prev": PACK_ID}, "history"),
        (1, {"prev": bytes(32)}, "history"),
        (1, {"first_op": len(OPS) - 1}, "counted"),
        (1, {"first_op": len(OPS) + 1}, "counted"),
        (1, {"stamp": 9}, "stamps"),
        (1, {"stamp": 3}, "stamps"),
    ]:
        with pytest.raises(Invalid, match=reason):
            follow(tip, seq, PACK_ID, replace_struct(second, **changed))


# ---- the object ----------------------------------------------------------------------------------------------------


def test_sealing_the_same_body_twice_gives_unrelated_bytes() -> None:
    one, two = make_segment(), make_segment()
    assert one[:96] == two[:96]
    assert sum(a == b for a, b in zip(one[96:300], two[96:300], strict=True)) < 20


def test_body2_travels_in_clear_between_seal_and_signature() -> None:
    body, body2 = read_segment(SEGMENT)
    assert body == BODY
    assert body2 == BODY2
    assert SEGMENT[-64 - len(BODY2) : -64] == BODY2


def test_length_is_known_before_sealing() -> None:
    assert segment_len(1, len(encode(BODY)), len(BODY2)) == len(SEGMENT)
    assert segment_len(2, len(encode(BODY)), len(BODY2)) == len(make_segment(ks=TWO))


def test_writer_refuses_what_no_reader_would_accept() -> None:
    with pytest.raises(Invalid):
        make_segment(body=replace_struct(BODY, stamp=0))
    with pytest.raises(ValueError, match="too large"):
        make_segment(body2=bytes(BODY2_MAX + 1))
    big = replace_struct(BODY, ops=tuple(SetXattr(A, b"%d" % i, bytes(65536)) for i in range(64)))
    with pytest.raises(ValueError, match="too large"):
        make_segment(body=big)
    with pytest.raises(ValueError, match="header"):
        make_segment(vault=V[:31])
    assert len(make_segment(body2=BODY2 + bytes(BODY2_MAX - len(BODY2)))) < SEGMENT_MAX


def test_sizes_are_refused_before_anything_is_hashed() -> None:
    with pytest.raises(Damaged, match="too large"):
        segment.parse_segment(bytes(SEGMENT_MAX + 1), V)
    grown = SEGMENT[:88] + (BODY2_MAX + 1).to_bytes(4, "big") + SEGMENT[92:]
    with pytest.raises(Damaged):
        segment.parse_segment(grown + bytes(BODY2_MAX + 1 - len(BODY2)), V)


def test_reserved_bytes_and_huge_numbers_in_the_header() -> None:
    for at, value in ((95, 1), (92, 128), (80, 255)):
        changed = SEGMENT[:at] + bytes([value]) + SEGMENT[at + 1 :]
        with pytest.raises(Damaged):
            segment.parse_segment(changed, V)


def test_segment_under_another_logs_header_or_number() -> None:
    """Even its own author cannot let a sealed body stand at another place of the log."""
    raw = segment.parse_segment(SEGMENT, V)
    for at, part in ((64, A), (80, (1).to_bytes(8, "big"))):
        moved = SEGMENT[:at] + part + SEGMENT[at + len(part) :]
        resigned = segment.parse_segment(moved, V)
        with pytest.raises(Exception, match="do not open"):
            segment.open_segment(resigned, LOG_KEY)
    assert segment.open_segment(raw, LOG_KEY) == BODY


def test_segment_sealed_for_nobody_opens_for_nobody() -> None:
    with pytest.raises(Exception, match="do not open"):
        read_segment(SEGMENT, log_key=stream("other", 32))
    assert seal(LOG_KEY, b"", b"") != seal(LOG_KEY, b"", b"")


# ---- rollups -------------------------------------------------------------------------------------------------------


def test_rollup_holds_its_segments_byte_for_byte() -> None:
    rolled = build_rollup(V, LOG, 0, [SEGMENT, SECOND])
    assert rolled.endswith(SEGMENT + SECOND)
    assert len(read_rollup(rolled)) == 2
    parsed = parse_rollup(rolled, V)
    assert (parsed.log_id, parsed.first, parsed.last, parsed.bad) == (LOG, 0, 1, ())
    assert [raw.digest for raw in parsed.segments] == [segment.parse_segment(s, V).digest for s in (SEGMENT, SECOND)]


def test_one_bad_segment_does_not_spoil_the_others() -> None:
    rolled = build_rollup(V, LOG, 0, [SEGMENT, SECOND])
    at = len(rolled) - len(SECOND) - len(SEGMENT)
    damaged = bytearray(rolled)
    damaged[at] ^= 1  # its magic
    parsed = parse_rollup(bytes(damaged), V)
    assert parsed.bad == (0,)
    segment.verify_segment(parsed.segments[0], PUB)
    assert parsed.segments[0].seq == 1


def test_segment_whose_length_is_destroyed_takes_those_after_it_along() -> None:
    rolled = bytearray(build_rollup(V, LOG, 0, [SEGMENT, SECOND]))
    rolled[len(rolled) - len(SECOND) + 12] = 255
    parsed = parse_rollup(bytes(rolled), V)
    assert parsed.bad == (1,)
    assert len(parsed.segments) == 1


def test_rollup_of_other_segments_than_it_says() -> None:
    with pytest.raises(ValueError, match="not segment"):
        build_rollup(V, LOG, 0, [SECOND])
    with pytest.raises(ValueError, match="not segment"):
        build_rollup(V, A, 0, [SEGMENT])
    with pytest.raises(ValueError, match="nothing"):
        build_rollup(V, LOG, 0, [])
    rolled = build_rollup(V, LOG, 0, [SEGMENT, SECOND])
    shifted = rolled[:64] + (1).to_bytes(8, "big") + (2).to_bytes(8, "big") + rolled[80:]
    assert parse_rollup(shifted, V).bad == (1, 2)
    for count, first, last in ((2, 1, 0), (3, 0, 1), (2**32 - 1, 0, 2**32 - 2), (1, STAMP_MAX + 1, STAMP_MAX + 1)):
        header = rolled[:12] + count.to_bytes(4, "big") + rolled[16:64]
        with pytest.raises(Damaged):
            parse_rollup(header + first.to_bytes(8, "big") + last.to_bytes(8, "big") + rolled[80:], V)


def test_keys_do_not_show_in_what_is_printed() -> None:
    raw = segment.parse_segment(SEGMENT, V)
    assert raw.sig.hex() not in repr(raw)
    assert repr(SEED) not in repr(raw)
