"""What everybody has acknowledged: the stable stamp S, and who has seen a given segment.

docs/replication.md, "Stability". Pure functions over what is applied here. Time plays no part: a log that is silent
holds S, and what rests on it, until it speaks again or an administrator closes it.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from cryptfs.format.segment_body import LogHead
from cryptfs.format.statement import NewLog
from cryptfs.group.ends import log_ends
from cryptfs.group.graph import Node
from cryptfs.group.membership import Membership
from cryptfs.group.validity import counts
from cryptfs.vault.logs import Logs

__all__ = ["LogSight", "owing", "sight_of", "stable_stamp"]


@dataclass(frozen=True, slots=True)
class LogSight:
    """One log as it stands here.

    `unfinished`: its entry may write, and not all segments below its end are applied. `last`: stamp of its last applied
    segment, None before the first. `carried`: the least stamp of an applied segment that has seen the statement which
    opens it (for a `log` statement, of the last segment of the log it closes), None if there is none. `seen`: the
    highest segment of the log asked about that its applied segments name, -1 if none.
    """

    log: bytes
    unfinished: bool
    last: int | None
    carried: int | None
    seen: int


def stable_stamp(before: int, sights: Iterable[LogSight]) -> int:
    """S: at or below it no segment can appear any more. `before` is S as it was; it never falls."""
    lower = [one.last if one.last is not None else one.carried for one in sights if one.unfinished]
    known = [stamp for stamp in lower if stamp is not None]
    return max(before, min(known)) if known else before


def owing(sights: Iterable[LogSight], seq: int) -> list[bytes]:
    """Logs that have not acknowledged segment `seq` of the log asked about, sorted.

    Also those that nothing here carries: a log may be exempt from starting after a segment that introduces it.
    """
    return sorted(one.log for one in sights if one.unfinished and one.seen < seq)


def sight_of(membership: Membership, logs: Logs, own: bytes) -> list[LogSight]:
    """Every log that a statement opens, as applied here; `seen` is about the log `own`, which sees itself whole.

    Segments that were read and wait for the replica count as applied: hand them over before.
    """
    graph, resolved = membership.graph, membership.resolved
    ends = log_ends(graph, resolved, {})
    sights = []
    for log_id in sorted(ends):
        state = logs.state(log_id)
        opener = graph.log_opener(log_id)
        begun = state.next_seq > 0
        sights.append(
            LogSight(
                log_id,
                counts(log_id, state.next_seq, ends),
                state.stamp if begun else None,
                None if begun or opener is None else _carried(logs, opener),
                state.next_seq - 1 if log_id == own else state.seen.get(own, -1),
            )
        )
    return sights


def _carried(logs: Logs, opener: Node) -> int | None:
    op = opener.statement.payload.op
    if isinstance(op, NewLog):
        closed = [moment[0] for cut in op.closes if (moment := logs.moment(cut.log_id, cut.count - 1)) is not None]
        if closed:
            return max(closed)
    found = [stamp for log_id in logs.ids() if (stamp := _first_carrier(logs, log_id, opener)) is not None]
    return min(found, default=None)


def _first_carrier(logs: Logs, log_id: bytes, opener: Node) -> int | None:
    """Stamp of the first segment of a log that has seen `opener`: what a log has seen only grows."""
    low, high = 0, logs.state(log_id).next_seq
    while low < high:
        middle = (low + high) // 2
        digest = logs.digest_at(log_id, middle)
        placed = logs.place(LogHead(log_id, middle, digest)) if digest is not None else None
        if placed is not None and placed.view & opener.bit:
            high = middle
        else:
            low = middle + 1
    moment = logs.moment(log_id, low) if low < logs.state(log_id).next_seq else None
    return moment[0] if moment is not None else None
