"""Whether a log segment counts: the rules S3 to S8 that need to know the group (docs/format.md, "Segments").

Each rule is a function of objects, never of a clock or of the order they came in. S3 to S6 and S8 never change once
decided; S7 may, when statements arrive, and then the state is recomputed. Signature (S1), chain and form (S2) are
judged before, in the format room.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from cryptfs.errors import Invalid
from cryptfs.format.operation import Expire, Rules
from cryptfs.format.segment_body import LogHead, SegmentBody
from cryptfs.format.statement import CLOSE_LOST, Close, NewLog
from cryptfs.group.authority import Admission, Tier
from cryptfs.group.ends import LogEnd
from cryptfs.group.graph import Node, StatementGraph, View
from cryptfs.group.roster import Resolved, Resolver

__all__ = ["Claim", "Missing", "Placed", "begins_anywhere", "counts", "given_up", "judge_segment", "next_stamp"]

_STAMP_LIMIT: Final = 1 << 62


@dataclass(frozen=True, slots=True)
class Placed:
    """A segment that was judged before: its stamp L, and closure(mheads)."""

    stamp: int
    view: View


@dataclass(frozen=True, slots=True)
class Claim:
    """A segment to be judged: verified, opened, and continuing its log.

    `before` is the previous segment of the log, None at seq 0; `seen` the highest seq of each other log that earlier
    segments of this log named.
    """

    log_id: bytes
    seq: int
    ks: bytes
    body: SegmentBody
    before: Placed | None
    seen: Mapping[bytes, int]


@dataclass(frozen=True, slots=True)
class Missing:
    """What must arrive before a segment can be judged: statements by id, segments by place."""

    statements: frozenset[bytes] = frozenset()
    heads: frozenset[LogHead] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.statements or self.heads)


def judge_segment(
    claim: Claim, resolver: Resolver, place: Callable[[LogHead], Placed | None], lost: Callable[[LogHead], bool]
) -> Placed | Missing:
    """Judge S3 to S6 and S8. Returns the segment's place, or what it waits for.

    `place(head)`: where a segment stands that was judged before, None if it is not known; `lost(head)`: whether it was
    given up (`given_up`). Raises Invalid for a broken rule: final, and its author's doing.
    """
    graph, body = resolver.graph, claim.body
    opener, owner = graph.log_opener(claim.log_id), graph.log_owner(claim.log_id)
    if opener is None or owner is None:
        return Missing(statements=frozenset({claim.log_id}))
    heads = {head: place(head) for head in body.vec if not lost(head)}
    missing = Missing(
        frozenset(one for one in body.mheads if one not in graph),
        frozenset(head for head, placed in heads.items() if placed is None),
    )
    if missing:
        return missing
    known = [placed for placed in heads.values() if placed is not None]
    view = graph.view(body.mheads)
    _check_stamp(claim, known, waived=len(heads) < len(body.vec))
    _check_citations(claim, view, opener, known)
    if claim.ks != b"".join(resolver(view).eids):
        raise Invalid("a segment is sealed under other epochs than those its author had seen")  # S5
    if claim.seq == 0:
        _check_start(claim, graph, opener, owner, known)
    _check_roles(body, owner.tier)
    return Placed(body.stamp, view)


def next_stamp(before: Placed | None, heads: list[Placed]) -> int:
    """L of a segment that follows `before` and has seen `heads` (S3)."""
    return 1 + max([placed.stamp for placed in heads] + ([before.stamp] if before else []), default=0)


def counts(log_id: bytes, seq: int, ends: Mapping[bytes, LogEnd]) -> bool:
    """S7: whether segment `seq` of a log exists for the state; `ends` from `ends.log_ends` over everything known.

    A log without valid admission ends at nothing there, and readers have none. That the segment lies on the chain to
    the end is for `ends.surviving` to say.
    """
    end = ends.get(log_id)
    return end is not None and (end.count is None or seq < end.count)


def given_up(graph: StatementGraph, now: Resolved) -> Callable[[LogHead], bool]:
    """Tells which places in logs were given up as lost by a valid `close`."""
    first_lost: dict[bytes, int] = {}
    for statement in now.valid:
        op = graph.node(statement).statement.payload.op
        if isinstance(op, Close) and op.reason == CLOSE_LOST:
            for cut in op.cuts:
                first_lost[cut.log_id] = min(cut.count, first_lost.get(cut.log_id, cut.count))
    return lambda head: head.log in first_lost and head.seq >= first_lost[head.log]


# ---- the rules -------------------------------------------------------------------------------------------------------


def _check_stamp(claim: Claim, heads: list[Placed], *, waived: bool) -> None:
    """S3. Where a head was waived its stamp is unknown, so the author's own may only be higher."""
    for head in claim.body.vec:
        if head.seq < claim.seen.get(head.log, -1):
            raise Invalid("a segment has seen less of another log than the one before it")
    expected = next_stamp(claim.before, heads)
    stamp = claim.body.stamp
    if stamp > _STAMP_LIMIT or (stamp < expected if waived else stamp != expected):
        raise Invalid("a segment's stamp does not follow from what it has seen")


def _check_citations(claim: Claim, view: View, opener: Node, heads: list[Placed]) -> None:
    """S4: its author was in, the log open, and nothing its author had seen is forgotten."""
    if not opener.bit & view:  # which has the author's admission among its ancestors
        raise Invalid("a segment does not cite the statement that opens its log")
    for placed in [*heads, *([claim.before] if claim.before else [])]:
        if placed.view & ~view:
            raise Invalid("a segment cites less than what it has seen")


def _check_start(claim: Claim, graph: StatementGraph, opener: Node, owner: Admission, heads: list[Placed]) -> None:
    """S6: a new log starts above a segment that introduces it, so that nobody has called that stamp stable yet."""
    op = opener.statement.payload.op
    if begins_anywhere(graph, opener, owner):
        return
    if isinstance(op, NewLog):
        named = {head.log: head.seq for head in claim.body.vec}
        if any(cut.count > 0 and named.get(cut.log_id, -1) < cut.count - 1 for cut in op.closes):
            raise Invalid("a new log does not start after the logs it closes")
    elif not any(opener.bit & placed.view for placed in heads):
        raise Invalid("the first segment of a log has not seen the one that introduces its author")


def begins_anywhere(graph: StatementGraph, opener: Node, owner: Admission) -> bool:
    """Whether a log is exempt from S6: who opened it cannot have seen where it ought to begin.

    The founder's first, one of an entry that the recovery key added, and one opened after an administrator's `close`.
    """
    if isinstance(opener.statement.payload.op, NewLog):
        return _closed_by_another(graph, opener, owner)
    return owner.adder is None or owner.adder.tier is Tier.RECOVERY


def _closed_by_another(graph: StatementGraph, opener: Node, owner: Admission) -> bool:
    """Whether the log was opened after an administrator had closed one of the same device."""
    logs = set(graph.logs_of(owner.entry))
    for node in graph.nodes(graph.before(opener)):
        op = node.statement.payload.op
        another = isinstance(op, Close) and not node.flaw and node.author.entry != owner.entry
        if isinstance(op, Close) and another and any(cut.log_id in logs for cut in op.cuts):
            return True
    return False


def _check_roles(body: SegmentBody, tier: Tier) -> None:
    """S8, the half that depends on the role. Readers have no log, so theirs never come here."""
    if tier < Tier.OWNER and any(isinstance(op, Rules) for op in body.ops):
        raise Invalid("only an owner may change the merge rules")
    if tier < Tier.ADMIN and any(isinstance(op, Expire) for op in body.ops):
        raise Invalid("only administrators may let history expire")
