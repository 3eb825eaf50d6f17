"""The State in external form: rows as checkpoints have them (docs/format.md, "Checkpoints"), free of local numbers.

Inodes have 16 bytes, versions are sorted op ids, contents are encoded as on the wire. Two replicas that have applied
the same segments give the same rows; while operations are tentative the rows mean nothing to anybody else.
"""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from cryptfs.format.operation import Ver
from cryptfs.tree.core import Core, StateTable
from cryptfs.tree.facts import Facts
from cryptfs.tree.ids import Ids, op_id_of

__all__ = ["STATE_TABLES", "Outward", "state_rows"]

Row = tuple[Any, ...]


class Outward:
    """Turns rows as stored, of the tables that `ids` and `facts` belong to, into external ones."""

    def __init__(self, ids: Ids, facts: Facts) -> None:
        self._ids = ids
        self._facts = facts

    def node(self, row: Row) -> Row:
        st, kind, mode, uid, gid, rdev, size, mtime, ctime, cver, content, target, last_parent, last_name, gone = row
        return (
            self._ino(st), kind, mode, uid, gid, rdev, size, mtime, ctime, self._ver(cver), target,
            self._content(content), self._ino(last_parent), last_name, gone,
        )  # fmt: skip

    def dirent(self, row: Row) -> Row:
        parent, name, st, _, lver = row
        return self._ino(parent), name, self._ino(st), self._ver(lver)

    def alias(self, row: Row) -> Row:
        old, new = row
        return self._ino(old), self._ino(new)

    def landing(self, row: Row) -> Row:
        op, st = row
        return op_id_of(self._ids.external(op)), self._ino(st)

    def xattr(self, row: Row) -> Row:
        st, key, value = row
        return self._ino(st), key, value

    def container(self, row: Row) -> Row:
        return row

    def history(self, row: Row) -> Row:
        st, cver, content, size, mtime, sup = row
        return self._ino(st), self._ver(cver), self._content(content), size, mtime, sup

    def _ino(self, st: int | None) -> bytes | None:
        return None if st is None else self._ids.ino_of(st)

    def _ver(self, blob: bytes) -> Ver:
        return self._ids.ver_of(blob)

    def _content(self, carrier: bytes | None) -> bytes | None:
        return None if carrier is None else self._facts.encoded(self._ids.external(carrier))


class Shape(NamedTuple):
    """How rows of a table are turned outward, and how many columns are their key, in either form."""

    turn: Callable[[Outward, Row], Row]
    key: int


SHAPES: Final[dict[StateTable, Shape]] = {
    "node": Shape(Outward.node, 1),
    "dirent": Shape(Outward.dirent, 2),
    "alias": Shape(Outward.alias, 1),
    "landing": Shape(Outward.landing, 1),
    "xattr": Shape(Outward.xattr, 2),
    "container": Shape(Outward.container, 2),
    "history": Shape(Outward.history, 2),
}
STATE_TABLES: Final = tuple(SHAPES)
"""In the order of their numbers in a checkpoint, from 1."""


def state_rows(core: Core, table: StateTable) -> list[Row]:
    """Rows of one of STATE_TABLES in the column order of the schema, sorted by key."""
    outward, (turn, key) = Outward(core.ids, core.facts), SHAPES[table]
    return sorted((turn(outward, row) for row in core.all_rows(table)), key=lambda row: row[:key])
