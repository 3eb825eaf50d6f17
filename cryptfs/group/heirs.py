"""Whose packs a device may take over: those of its own member, and those of logs that have ended.

What a segment is entitled to has to be the same on every device and for ever, whatever arrives later. So it is read
off what the segment itself has seen, and off what admissions fix: nothing here asks which statements are valid. Ending
a log of another takes a statement of an administrator's or owner's, valid or not; they may take over any pack
themselves, so they give nobody more than they have. But who was one and is not any more can still write such a
statement, and a writer in league with him act on it (docs/replication.md, "Adoption").
"""

from collections.abc import Iterable, Iterator

from cryptfs.format.operation import Adopted, Op
from cryptfs.format.statement import Close, NewLog, Remove
from cryptfs.group.authority import Admission, Tier
from cryptfs.group.graph import Node, StatementGraph, View

__all__ = ["heritage", "inherited"]


def inherited(graph: StatementGraph, log_id: bytes, mheads: Iterable[bytes], ops: Iterable[Op]) -> tuple[bytes, ...]:
    """The `heritage` of a segment with these operations; empty, and unasked, if none of them takes anything over."""
    return heritage(graph, log_id, mheads) if any(isinstance(op, Adopted) for op in ops) else ()


def heritage(graph: StatementGraph, log_id: bytes, mheads: Iterable[bytes]) -> tuple[bytes, ...]:
    """Logs, other than `log_id` itself, whose containers a segment of that log may take over, sorted.

    `mheads`: the statements that the segment names; all of them are here.
    """
    owner = graph.log_owner(log_id)
    if owner is None:
        return ()
    view = graph.view(mheads)
    opened = {one: of for one, of in _opened(graph, view) if one != log_id}
    ended = {one for node in graph.nodes(view) for one in _ended_by(node, opened)}
    return tuple(sorted(one for one, of in opened.items() if of.member == owner.member or one in ended))


def _opened(graph: StatementGraph, view: View) -> Iterator[tuple[bytes, Admission]]:
    """Logs that a statement in `view` opens, and whose they are."""
    for admission in graph.entries():
        for log_id in graph.logs_of(admission.entry):
            opener = graph.log_opener(log_id)
            if opener is not None and opener.bit & view:
                yield log_id, admission


def _ended_by(node: Node, opened: dict[bytes, Admission]) -> Iterator[bytes]:
    """Logs that a statement says to have ended, if its author could take their packs over himself."""
    op, author = node.statement.payload.op, node.author
    if isinstance(op, Remove):
        named = {one for one, of in opened.items() if of.entry in op.targets or of.member in op.members}
    elif isinstance(op, Close):
        named = {cut.log_id for cut in op.cuts}
    elif isinstance(op, NewLog):
        named = {cut.log_id for cut in op.closes}
    else:
        return
    for one in named & opened.keys():
        if author.tier >= Tier.ADMIN or author.member == opened[one].member:
            yield one
