"""How the logs stood at a stamp, as a checkpoint tells it: made from what is known here, compared with it, taken over.

What is told is a function of the segments at or below the stamp, so whoever has them can say whether it is so. Only
how many earlier places are told is up to the author: those that some log may still name in a later vector, since no
log goes back in what it has seen, and new logs follow a segment that introduces them.
"""

from collections.abc import Iterable
from typing import Final

from cryptfs.format.checkpoint_head import CheckpointLog
from cryptfs.format.checkpoint_logs import PLACES_MAX, Attested, LogPast, PastPlace, Seen
from cryptfs.format.segment_body import Attest, LogHead
from cryptfs.vault.logs import Logs, LogState
from cryptfs.vault.logstate import KeptPlace, Told

__all__ = ["begin_logs", "heads_at", "past_at", "tells_the_same"]

_ATTESTED_MAX: Final = 16
"""States about which it is told what a log says, the newest; the floor is one of the newest."""


def heads_at(logs: Logs, stamp: int) -> tuple[CheckpointLog, ...] | None:
    """The last segment at or below the stamp of every log, among those that are in the tree; None if not known."""
    heads = []
    for log_id in logs.ids():
        low, high = logs.base(log_id), logs.state(log_id).taken
        if low and (first := logs.kept(log_id, low)) is not None and first.stamp > stamp:
            return None
        while low < high:  # the number of those at or below it: stamps grow along a log
            middle = (low + high) // 2
            place = logs.kept(log_id, middle)
            if place is None:
                return None
            low, high = (middle + 1, high) if place.stamp <= stamp else (low, middle)
        if low and (last := logs.kept(log_id, low - 1)) is not None:
            heads.append(CheckpointLog(log_id, low - 1, last.digest, last.stamp))
    return tuple(heads)


def past_at(logs: Logs, heads: Iterable[CheckpointLog], open_logs: Iterable[bytes]) -> tuple[LogPast, ...] | None:
    """What is to be told of each log at its head; `open_logs` are those that may go on. None if not all is known."""
    states: dict[bytes, LogState] = {}
    for head in heads:
        state = logs.state_after(head.log, head.seq, head.digest)
        if state is None:
            return None
        states[head.log] = state
    readers = [(log_id, states[log_id]) for log_id in open_logs if log_id in states]
    told = []
    for log_id, state in states.items():
        named = [other.seen.get(log_id, -1) for reader, other in readers if reader != log_id]
        told.append(_told(logs, log_id, state, min(named, default=state.next_seq - 1)))
    return tuple(told)


def _told(logs: Logs, log_id: bytes, state: LogState, least: int) -> LogPast:
    last = state.next_seq - 1
    places = []
    for seq in range(max(least, last - PLACES_MAX, 0), last):
        place = logs.kept(log_id, seq)
        if place is not None:
            told = place.told
            places.append(PastPlace(seq, place.digest, place.stamp, place.mheads, told.next_n, told.wall_ms))
    attested = [Attested(seq, Attest(stamp, root)) for stamp, (seq, root) in sorted(state.attested.items())]
    return LogPast(
        log_id, state.begun, state.next_n, state.wall_ms, state.mheads, state.telling, state.asking,
        tuple(Seen(log, state.seen[log]) for log in sorted(state.seen)), tuple(attested[-_ATTESTED_MAX:]),
        tuple(places),
    )  # fmt: skip


def tells_the_same(logs: Logs, heads: Iterable[CheckpointLog], past: Iterable[LogPast]) -> bool:
    """Whether everything that a checkpoint with these heads says of the logs is so, as far as it is known here."""
    mine = past_at(logs, heads, ())
    if mine is None:
        return False
    for one, here in zip(past, mine, strict=True):
        said = {attested.said.stamp: (attested.seq, attested.said.root) for attested in one.attested}
        state = _state(one)
        same = _fixed(state) == _fixed(_state(here))
        known = logs.state(one.log).attested
        if not same or any(known.get(stamp, what) != what for stamp, what in said.items()):
            return False
        if any(
            (kept := logs.kept(one.log, place.seq)) is not None and kept != _kept(place, kept) for place in one.places
        ):
            return False
    return True


def _fixed(state: LogState) -> tuple[object, ...]:
    return (
        state.next_n, state.mheads, state.seen, state.telling, state.asking, state.wall_ms, state.begun,
    )  # fmt: skip


def _state(past: LogPast) -> LogState:
    """As `LogState`, but for its last segment."""
    return LogState(
        next_n=past.next_n, mheads=past.mheads, seen={seen.log: seen.seq for seen in past.seen},
        telling=past.telling, asking=past.asking, wall_ms=past.wall_ms, begun=past.begun,
        attested={one.said.stamp: (one.seq, one.said.root) for one in past.attested},
    )  # fmt: skip


def _kept(place: PastPlace, like: KeptPlace | None = None) -> KeptPlace:
    """As it is kept; what is not told is taken from `like`."""
    tells, asks, attest = (
        (like.told.tells, like.told.asks, like.told.attest) if like is not None else (False, False, ())
    )
    told = Told(place.next_n, place.wall_ms, tells, asks, attest)
    prev, vec = (like.prev, like.vec) if like is not None else (b"", ())
    return KeptPlace(place.digest, place.stamp, place.mheads, prev, vec, told)


def begin_logs(logs: Logs, heads: Iterable[CheckpointLog], past: Iterable[LogPast]) -> None:
    """Have the logs, of which nothing was read, begin where a checkpoint stands."""
    found = []
    for head, one in zip(heads, past, strict=True):
        state = _state(one)
        state.next_seq, state.digest, state.stamp = head.seq + 1, head.digest, head.stamp
        places = [(place.seq, _kept(place)) for place in one.places]
        found.append((LogHead(head.log, head.seq, head.digest), state, places))
    logs.begin_at(found)
