"""Where each log ends: removals, closings and forks shorten it, an accept lengthens it.

The reasons are in docs/membership.md, "Ends of logs".

    end = max( min(cuts of valid removals that hit the entry, valid closings, fork proof), accepts )

It is a function of the statements and of the signed segments that are here, in whatever order they came. Segments at or
beyond the end, or off the chain to the segment it names, do not exist for the state; they are kept as late work.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from cryptfs.format.statement import Accept, Close, Cut, NewLog, Remove
from cryptfs.group.graph import StatementGraph
from cryptfs.group.roster import Resolved

__all__ = [
    "FOREVER", "NOTHING_SETTLED", "HeldSegment", "LogEnd", "Settled", "closers", "log_ends", "surviving",
]  # fmt: skip

_ZERO: Final = bytes(32)


@dataclass(frozen=True, slots=True)
class HeldSegment:
    """A segment whose signature verified: its place, its digest D, D of the one before (zeros at 0), its stamp L.

    `prev` is empty for one that stands for all before it as well: those came in a checkpoint and were never read.
    """

    seq: int
    digest: bytes
    prev: bytes
    stamp: int = 0


@dataclass(frozen=True, slots=True)
class LogEnd:
    """Segments with seq < `count` may exist (None: all); `last` is D of segment count-1, empty if nobody named it."""

    count: int | None
    last: bytes = b""


FOREVER: Final = LogEnd(None)
"""The end of a log nobody cut."""


@dataclass(frozen=True, slots=True)
class Settled:
    """The floor F as far as logs are concerned: its stamp, and how much of each log is in the state there.

    Nothing of that goes away, and nothing is added at or below the stamp (docs/replication.md, "Floor").
    """

    stamp: int
    heads: Mapping[bytes, Cut]


NOTHING_SETTLED: Final = Settled(-1, {})
"""While there is no floor."""

_NOTHING: Final = LogEnd(0)


def log_ends(
    graph: StatementGraph,
    now: Resolved,
    held: Mapping[bytes, Iterable[HeldSegment]],
    settled: Settled = NOTHING_SETTLED,
) -> dict[bytes, LogEnd]:
    """The effective end of every log any statement opens. `held` are the segments here, by log id.

    A log whose entry was not validly admitted, or whose `log` statement is void, ends before it begins.
    """
    limits: dict[bytes, list[Cut]] = {}
    accepts: dict[bytes, list[Cut]] = {}
    for statement in now.valid:
        op = graph.node(statement).statement.payload.op
        cuts = op.cuts if isinstance(op, Close | Accept) else op.closes if isinstance(op, NewLog) else ()
        kind = accepts if isinstance(op, Accept) else limits
        for cut in cuts:
            kind.setdefault(cut.log_id, []).append(cut)
    ends: dict[bytes, LogEnd] = {}
    for admission in graph.entries():
        for log_id in graph.logs_of(admission.entry):
            opener = graph.log_opener(log_id)
            firm = settled.heads.get(log_id)
            chain = _Chain(held.get(log_id, ()), firm)
            if opener is None or opener.id not in now.valid:  # the entry is then valid, too
                ends[log_id] = _NOTHING if firm is None else LogEnd(firm.count, firm.last)
                continue
            removed = [_removal_cut(graph, one, log_id) for one in now.removals.get(admission.entry, ())]
            end = _end(limits.get(log_id, []) + removed, accepts.get(log_id, []), chain)
            ends[log_id] = _settled(end, firm, chain, settled.stamp)
    return ends


def closers(graph: StatementGraph, now: Resolved, log_id: bytes) -> set[bytes]:
    """Entries whose valid closings, or new logs, name this log."""
    found = set()
    for statement in now.valid:
        node = graph.node(statement)
        op = node.statement.payload.op
        cuts = op.cuts if isinstance(op, Close) else op.closes if isinstance(op, NewLog) else ()
        if any(cut.log_id == log_id for cut in cuts):
            found.add(node.author.entry)
    return found


def _settled(end: LogEnd, firm: Cut | None, chain: "_Chain", stamp: int) -> LogEnd:
    """The end in view of the floor: not before what is settled, and not behind what comes too late."""
    count, last = (firm.count, firm.last) if firm is not None else (0, b"")
    if any(one.seq == count and one.stamp <= stamp for one in chain.by_digest.values()):
        return LogEnd(count, last)
    return LogEnd(count, last) if end.count is not None and end.count < count else end


def surviving(end: LogEnd, held: Iterable[HeldSegment], firm: Cut | None = None) -> list[HeldSegment]:
    """The segments that exist for the state, ascending: on the chain to the end, or up to a gap or fork.

    From number 0 on, or from the one that stands for all before it. `firm` is what is settled of the log.
    """
    return _Chain(held, firm).up_to(end)


def _removal_cut(graph: StatementGraph, removal: bytes, log_id: bytes) -> Cut:
    """Where the removal cuts the log; one that does not list it had not seen it, and cuts it at nothing."""
    op = graph.node(removal).statement.payload.op
    cuts = op.cuts if isinstance(op, Remove) else ()
    return next((cut for cut in cuts if cut.log_id == log_id), Cut(log_id, 0, _ZERO))


def _end(limits: list[Cut], accepts: list[Cut], chain: "_Chain") -> LogEnd:
    lowest = _lowest(limits, chain)
    raised = _highest(accepts, chain)
    if raised is None or lowest.count is None or (raised.count or 0) <= lowest.count:
        return lowest
    return raised


def _lowest(limits: list[Cut], chain: "_Chain") -> LogEnd:
    bounds = [LogEnd(cut.count, cut.last if cut.count else b"") for cut in limits]
    if chain.fork is not None:
        bounds.append(LogEnd(chain.fork, chain.only_at(chain.fork - 1)))
    if not bounds:
        return FOREVER
    # Of several digests named for one place, the one that is here counts; two that are here would be a fork below it.
    return min(bounds, key=lambda end: (end.count, end.last not in chain.by_digest, end.last))


def _highest(accepts: list[Cut], chain: "_Chain") -> LogEnd | None:
    """The furthest accepted segment that is here; for accepts on different branches, the end of what they share."""
    branches = [chain.back_from(cut.last) for cut in accepts if cut.last in chain.by_digest and cut.count]
    branches = [branch for branch in branches if branch]
    if not branches:
        return None
    longest = max(branches, key=max)
    shared = set(longest.items())
    for branch in branches:
        if not set(branch.items()) <= set(longest.items()):
            shared &= set(branch.items())
    if not shared:
        return None
    seq, digest = max(shared)
    return LogEnd(seq + 1, digest)


class _Chain:
    """The segments of one log that are here, branches and all."""

    def __init__(self, held: Iterable[HeldSegment], firm: Cut | None = None) -> None:
        self.by_digest = {one.digest: one for one in held}
        self._at: dict[int, set[bytes]] = {}
        for one in self.by_digest.values():
            self._at.setdefault(one.seq, set()).add(one.digest)
        self._base = next((one for one in self.by_digest.values() if not one.prev), None)
        self._firm = firm.last if firm is not None else b""
        below = firm.count if firm is not None else 0  # a fork that deep changes nothing any more
        forks = [seq for seq, digests in self._at.items() if len(digests) > 1 and seq >= below]
        self.fork = min(forks) if forks else None

    def only_at(self, seq: int) -> bytes:
        """D of the one segment at `seq`, empty if there is none or more than one."""
        digests = self._at.get(seq, set())
        return next(iter(digests)) if len(digests) == 1 else b""

    def back_from(self, digest: bytes) -> dict[int, bytes]:
        """Place and digest of each segment from the segment `digest` back as far as the chain is here."""
        path: dict[int, bytes] = {}
        one = self.by_digest.get(digest)
        while one is not None and one.seq not in path:
            path[one.seq] = one.digest
            before = self.by_digest.get(one.prev)
            one = before if before is not None and before.seq == one.seq - 1 else None
        return path

    def up_to(self, end: LogEnd) -> list[HeldSegment]:
        """See `surviving`."""
        path = self.back_from(end.last or self._firm)
        found: list[HeldSegment] = []
        before, first = _ZERO, 0
        if self._base is not None:
            before, first = b"", self._base.seq
        while end.count is None or first + len(found) < end.count:
            seq = first + len(found)
            last_place = bool(end.last) and end.count is not None and seq == end.count - 1
            digest = path.get(seq) or (end.last if last_place else self.only_at(seq))
            one = self.by_digest.get(digest)
            if one is None or one.seq != seq or one.prev != before:
                break
            found.append(one)
            before = one.digest
        return found
