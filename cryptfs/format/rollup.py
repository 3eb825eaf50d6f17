"""A rollup: many segments of one log in one object, verbatim (docs/format.md, "Rollups").

Not signed itself: each segment is verified on its own, and one bad segment does not spoil the others.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cryptfs.crypto.keys import SIGNATURE_LEN
from cryptfs.errors import Damaged, NeedsUpdate
from cryptfs.format.header import ObjectClass, pack_header, parse_header
from cryptfs.format.limits import ROLLUP_MAX, STAMP_MAX
from cryptfs.format.segment import RawSegment, parse_segment, segment_len, segment_len_in

__all__ = ["Rollup", "build_rollup", "parse_rollup"]

_FIXED: Final = struct.Struct(">16sQQ")
_COUNT_MAX: Final = ROLLUP_MAX // segment_len(1, 0, 0)


@dataclass(frozen=True, slots=True)
class Rollup:
    """Segments `first`..`last` of a log. `segments` holds those of good shape, ascending; `bad` the other numbers."""

    log_id: bytes
    first: int
    last: int
    segments: tuple[RawSegment, ...]
    bad: tuple[int, ...]


def build_rollup(vault: bytes, log_id: bytes, first: int, segments: Sequence[bytes]) -> bytes:
    """Put complete segment objects, ascending from number `first`, into one object.

    Raises ValueError if there is none, one is not the segment it should be, or the whole is too large.
    """
    if not segments:
        raise ValueError("a rollup of nothing")
    for seq, data in enumerate(segments, first):
        raw = parse_segment(data, vault)
        if (raw.log_id, raw.seq) != (log_id, seq):
            raise ValueError(f"not segment {seq} of the log")
    fixed = _FIXED.pack(log_id, first, first + len(segments) - 1)
    header = pack_header(ObjectClass.ROLLUP, vault, b"", len(segments), fixed)
    rollup = b"".join((header, *segments))
    if len(rollup) > ROLLUP_MAX:
        raise ValueError("the rollup is too large")
    return rollup


def parse_rollup(data: bytes | memoryview, vault: bytes) -> Rollup:
    """Take a rollup apart; the segments are views into `data`, still to be verified.

    A segment that is not of the right shape is left out. Those after it are found by its length; if that is impossible
    too, they are lost with it. Raises Damaged for a wrong header or bytes left over, NeedsUpdate for an unknown suite.
    """
    if len(data) > ROLLUP_MAX:
        raise Damaged("rollup is too large")
    view = memoryview(data)
    header = parse_header(ObjectClass.ROLLUP, view, vault)
    log_id, first, last = _FIXED.unpack(header.fixed)
    if not first <= last <= STAMP_MAX or last - first + 1 != header.length or header.length > _COUNT_MAX:
        raise Damaged("rollup does not hold what its header says")
    segments: list[RawSegment] = []
    bad: list[int] = []
    at = len(header.raw)
    for seq in range(first, last + 1):
        length = segment_len_in(view[at:])
        if length < SIGNATURE_LEN or at + length > len(view):
            return Rollup(log_id, first, last, tuple(segments), (*bad, *range(seq, last + 1)))
        try:
            raw = parse_segment(view[at : at + length], vault)
        except (Damaged, NeedsUpdate):
            raw = None
        if raw is not None and (raw.log_id, raw.seq) == (log_id, seq):
            segments.append(raw)
        else:
            bad.append(seq)
        at += length
    if at != len(view):
        raise Damaged("rollup is longer than its header says")
    return Rollup(log_id, first, last, tuple(segments), tuple(bad))
