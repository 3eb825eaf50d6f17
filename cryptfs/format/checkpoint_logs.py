"""What a checkpoint says of the logs themselves: an extension of its head (docs/format.md, "Checkpoints").

Who starts from a checkpoint never reads the segments below it, and yet has to judge later ones, which count on from
them and name them. So of every log it is told how it stood after its last segment within the state, and where those
earlier segments stand that a later vector may still name.
"""

from collections.abc import Sequence
from typing import Final

from cryptfs.errors import Invalid
from cryptfs.format.checkpoint_head import CheckpointHead, CheckpointLog
from cryptfs.format.codec import Ext, Wire, decode, encode
from cryptfs.format.form import ascending, frontier, id16, id32, int64, need, uint
from cryptfs.format.limits import CHECKPOINT_HEAD_MAX, STAMP_MAX
from cryptfs.format.segment_body import Attest

__all__ = ["PLACES_MAX", "Attested", "LogPast", "PastPlace", "Seen", "logs_extension", "past_of_logs"]

_EXT: Final = 1
PLACES_MAX: Final = 4096
"""Earlier segments of one log that are told of; older ones can be named by no honest device."""


class Seen(Wire, frozen=True):
    """The highest segment `seq` of another log that a log has named."""

    log: bytes
    seq: int


class Attested(Wire, frozen=True):
    """Segment `seq` was the first of its log to say something about the state that `said` names."""

    seq: int
    said: Attest


class PastPlace(Wire, frozen=True):
    """An earlier segment: number, D, L, what it cites, operations up to and with it, its author's clock."""

    seq: int
    digest: bytes
    stamp: int
    mheads: tuple[bytes, ...]
    next_n: int
    wall_ms: int


class LogPast(Wire, frozen=True):
    """A log after its last segment in the state.

    `begun`: stamp of its first segment; `next_n`: operations; `wall_ms`: its author's clock; `mheads`: what that last
    segment cites; `telling`, `asking`: its last segments that say something, and that wait for everybody's word, -1 if
    none; `seen` sorted by log; `attested` by stamp; `places` by number, below the last segment.
    """

    log: bytes
    begun: int
    next_n: int
    wall_ms: int
    mheads: tuple[bytes, ...]
    telling: int
    asking: int
    seen: tuple[Seen, ...]
    attested: tuple[Attested, ...]
    places: tuple[PastPlace, ...]


def logs_extension(past: Sequence[LogPast]) -> Ext:
    """As an extension of the head; who does not know it can read the checkpoint, and not start from it."""
    return Ext(_EXT, False, encode(tuple(past)))


def past_of_logs(head: CheckpointHead) -> tuple[LogPast, ...]:
    """Of every log of `head.heads`, in that order. Raises Invalid if it is not told, or cannot be."""
    told = next((one.value for one in head.ext if one.id == _EXT), None)
    if told is None:
        raise Invalid("a checkpoint does not say how the logs stood")
    past = decode(tuple[LogPast, ...], told, CHECKPOINT_HEAD_MAX)
    need([one.log for one in past] == [one.log for one in head.heads], "a checkpoint tells of other logs than it has")
    for one, at in zip(past, head.heads, strict=True):
        _check(one, at)
    return past


def _check(one: LogPast, head: CheckpointLog) -> None:
    uint(one.begun, head.stamp, "stamp")
    uint(one.next_n, STAMP_MAX, "number of operations")
    int64(one.wall_ms, "wall clock")
    frontier(one.mheads, "membership heads")
    need(bool(one.mheads), "membership heads are missing")
    for number in (one.telling, one.asking):
        uint(number + 1, head.seq + 1, "segment number")
    for seen in one.seen:
        id16(seen.log, "log id")
        uint(seen.seq, STAMP_MAX, "segment number")
    ascending((seen.log for seen in one.seen), "logs that were seen")
    for attested in one.attested:
        uint(attested.seq, head.seq, "segment number")
        uint(attested.said.stamp, STAMP_MAX, "stamp")
        id32(attested.said.root, "root")
    need(_grows([attested.said.stamp for attested in one.attested]), "attestations are not sorted")
    need(len(one.places) <= PLACES_MAX, "too many places")
    for place in one.places:
        id32(place.digest, "segment digest")
        uint(place.stamp, head.stamp, "stamp")
        frontier(place.mheads, "membership heads")
        uint(place.next_n, one.next_n, "number of operations")
        int64(place.wall_ms, "wall clock")
    need(_grows([*(place.seq for place in one.places), head.seq]), "places are not sorted")
    need(_grows([*(place.stamp for place in one.places), head.stamp]), "stamps of a log do not grow")


def _grows(numbers: list[int]) -> bool:
    return all(one < other for one, other in zip([-1, *numbers], numbers, strict=False))
