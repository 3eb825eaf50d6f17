"""Rules of form for segments (docs/format.md, S2 and S8): what can be judged without knowing the group.

`check_body` looks at one segment, `follow` at one after the other. Stamps against other logs, membership and key set
(S3 to S7) need more than the log itself and are judged where the group is known.
"""

from dataclasses import dataclass
from typing import Final

from cryptfs.errors import Invalid
from cryptfs.format.codec import check_ext, check_fmt
from cryptfs.format.form import ascending, frontier, id16, id32, int64, need, text, uint
from cryptfs.format.limits import OPS_MAX, PACK_MAX, STAMP_MAX
from cryptfs.format.operation_rules import check_op
from cryptfs.format.segment_body import PACK_SHARED, PACK_SOLO, LogHead, SegmentBody

__all__ = ["LOG_START", "ChainTip", "check_body", "check_head", "follow"]

_ZEROS: Final = bytes(32)
_CLIENT_MAX: Final = 64
_RULES_MAX: Final = 0xFFFF
_VECTOR_MAX: Final = 4096
"""Logs that may have moved since the own previous segment; ended logs count, so this is well above the active ones."""


def check_head(head: LogHead, what: str) -> None:
    """A place in a log. Raises Invalid."""
    id16(head.log, what)
    uint(head.seq, STAMP_MAX, what)
    id32(head.digest, what)


def check_body(body: SegmentBody, log_id: bytes, seq: int, body2: int) -> None:
    """Check B of segment `seq` of log `log_id` (16 bytes), whose body2 has `body2` bytes.

    Raises Invalid, or NeedsUpdate for a later format, a critical extension or a later codec.
    """
    check_fmt(body.fmt)
    check_ext(body.ext)
    id32(body.prev, "previous digest")
    need((seq == 0) == (body.prev == _ZEROS), "only the first segment has no predecessor")
    uint(body.stamp - 1, STAMP_MAX - 1, "stamp")
    frontier(body.mheads, "membership heads")
    need(bool(body.mheads), "membership heads are missing")
    _check_vector(body.vec, log_id)
    int64(body.wall_ms, "wall clock")
    uint(body.rules, _RULES_MAX, "number of the rules")
    text(body.client, _CLIENT_MAX, "client")
    need(len(body.ops) <= OPS_MAX, "too many operations")
    uint(body.first_op, STAMP_MAX - len(body.ops), "operation number")
    need(seq > 0 or body.first_op == 0, "operations of a log count from 0")
    _check_packs_and_attests(body)
    for op in body.ops:
        check_op(op, body2)


def _check_vector(vec: tuple[LogHead, ...], log_id: bytes) -> None:
    need(len(vec) <= _VECTOR_MAX, "vector is too long")
    for head in vec:
        check_head(head, "vector")
        need(head.log != log_id, "the own log stands in its vector")
    ascending((head.log for head in vec), "logs of the vector")


def _check_packs_and_attests(body: SegmentBody) -> None:
    seen = set()
    for pack in body.packs:
        id32(pack.id, "pack id")
        uint(pack.size, PACK_MAX, "size of a pack")
        need(pack.kind in (PACK_SHARED, PACK_SOLO), "no such kind of pack")
        seen.add(pack.id)
    need(len(seen) == len(body.packs), "a pack is named twice")
    last = -1
    for attest in body.attest:
        need(last < attest.stamp <= STAMP_MAX, "attestations are not sorted or out of range")
        id32(attest.root, "root")
        last = attest.stamp


@dataclass(frozen=True, slots=True)
class ChainTip:
    """Where a log stands: what the next segment must continue. `seq` and `ops` are those of the next segment."""

    seq: int
    digest: bytes
    ops: int
    stamp: int


LOG_START: Final = ChainTip(0, _ZEROS, 0, 0)
"""The tip of a log without segments."""


def follow(tip: ChainTip, seq: int, digest: bytes, body: SegmentBody) -> ChainTip:
    """The tip after the segment `seq` with digest D `digest` and body `body`.

    Raises Invalid unless it continues `tip`: number, previous digest, operation count, growing stamp (S2). Callers hand
    segments over in order; a gap is not a broken rule but something missing, and theirs to notice.
    """
    if seq != tip.seq:
        raise Invalid(f"expected segment {tip.seq}, got {seq}")
    if body.prev != tip.digest:
        # Same number, other past: a fork. Two devices share one key, or the store shows us another history.
        raise Invalid("segment does not continue the history of its log")
    if body.first_op != tip.ops:
        raise Invalid("operations of a log are not counted through")
    if body.stamp <= tip.stamp:
        raise Invalid("stamps of a log do not grow")
    return ChainTip(seq + 1, digest, tip.ops + len(body.ops), body.stamp)
