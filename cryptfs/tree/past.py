"""What is no longer there, as the replica keeps it: old versions of files, deleted nodes, and when segments were made.

Only looking; what is found here is brought back by `undelete` and `restore` operations like any other change
(docs/history.md).
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

from cryptfs.tree.conflict_name import MARK
from cryptfs.tree.core import Core
from cryptfs.tree.ids import op_id_of
from cryptfs.tree.rows import Entry, History, NodeRow

__all__ = [
    "Moment", "all_entries", "all_gone", "all_nodes", "all_replaced", "gone_from", "marked_entries", "moment_of",
    "moments_at", "moments_since", "replaced",
]  # fmt: skip

_NODE: Final = "SELECT * FROM node WHERE gone_l IS NOT NULL"
_PAGE: Final = 2_000
"""Rows read at once by those who look at everything."""
_MOMENT: Final = "SELECT log, seq, first_op, ops, stamp, wall_ms, digest FROM moment"


class Moment(NamedTuple):
    """A segment: `seq` of the log `log`, `ops` operations from number `first_op`, its stamp L, its author's clock."""

    log: bytes
    seq: int
    first_op: int
    ops: int
    stamp: int
    wall_ms: int
    digest: bytes


def replaced(core: Core, st: int) -> list[History]:
    """Old versions of a file, the one that was replaced last first."""
    return sorted(core.rows.history(st), key=lambda old: (old.sup_l, old.cver), reverse=True)


def gone_from(core: Core, parent: int) -> list[NodeRow]:
    """Nodes without a name whose last one was in the directory `parent`, the one that was dropped last first."""
    found = [NodeRow._make(row) for row in core.question(_NODE + " AND last_parent = ?", (parent,))]
    return sorted(found, key=_dropped, reverse=True)


def all_gone(core: Core) -> Iterator[NodeRow]:
    """All nodes without a name, in no particular order."""
    return map(NodeRow._make, core.question(_NODE, ()))


def _dropped(node: NodeRow) -> tuple[bool, int, int]:
    """Key of the time of a drop: tentative ones, whose stamps are negative, are later than all others."""
    gone = node.gone_l or 0
    return gone < 0, abs(gone), node.st


def moment_of(core: Core, op: bytes) -> Moment | None:
    """The segment that carries the sealed operation `op` (24 bytes); None if it was not seen since the rebuild."""
    ident = op_id_of(op)
    rows = core.question(
        _MOMENT + " WHERE log = ? AND first_op <= ? ORDER BY first_op DESC, seq DESC LIMIT 1", (ident.log, ident.n)
    )
    found = Moment._make(rows[0]) if rows else None
    return found if found is not None and ident.n < found.first_op + found.ops else None


def moments_at(core: Core, stamp: int) -> list[Moment]:
    """The segments with this stamp that have operations: one a log at most."""
    rows = core.question(_MOMENT + " WHERE stamp = ? AND ops > 0 ORDER BY log", (stamp,))
    return [Moment._make(row) for row in rows]


def moments_since(core: Core, log: bytes, wall_ms: int) -> list[Moment]:
    """The segments of a log that its author dates `wall_ms` or later, oldest first."""
    rows = core.question(_MOMENT + " WHERE log = ? AND wall_ms >= ? AND ops > 0 ORDER BY seq", (log, wall_ms))
    return [Moment._make(row) for row in rows]


def all_nodes(core: Core) -> Iterator[NodeRow]:
    """All nodes, linked or not, by number; a page at a time, so that changes may come in between."""
    last = 0
    while rows := core.question("SELECT * FROM node WHERE st > ? ORDER BY st LIMIT ?", (last, _PAGE)):
        yield from map(NodeRow._make, rows)
        last = rows[-1][0]


def all_entries(core: Core) -> Iterator[Entry]:
    """All entries, by directory and name, in the same way."""
    last: tuple[int, bytes] = (0, b"")
    while rows := core.question(
        "SELECT * FROM dirent WHERE (parent, name) > (?, ?) ORDER BY parent, name LIMIT ?", (*last, _PAGE)
    ):
        yield from map(Entry._make, rows)
        last = rows[-1][0], rows[-1][1]


def all_replaced(core: Core) -> Iterator[History]:
    """All old versions, by node and version, in the same way."""
    last: tuple[int, bytes] = (0, b"")
    while rows := core.question(
        "SELECT * FROM history WHERE (st, cver) > (?, ?) ORDER BY st, cver LIMIT ?", (*last, _PAGE)
    ):
        yield from map(History._make, rows)
        last = rows[-1][0], rows[-1][1]


def marked_entries(core: Core) -> list[Entry]:
    """Entries whose names have the mark of conflicted copies in them, by directory and name."""
    rows = core.question("SELECT * FROM dirent WHERE instr(name, ?) > 0 ORDER BY parent, name", (MARK,))
    return [Entry._make(row) for row in rows]
