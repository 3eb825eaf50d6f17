"""State(S): what the tree was at a stamp, read beside the running replica without changing anything.

Of every row that changed later, the undo log has what it was before; so the rows of then are those of now, but for the
oldest thing that is remembered of each. Rows come one by one in the order of a checkpoint (docs/format.md).
"""

import heapq
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import msgspec

from cryptfs.format.codec import encode
from cryptfs.tree.core import Core, StateTable
from cryptfs.tree.database import Database
from cryptfs.tree.external import SHAPES, STATE_TABLES, Outward
from cryptfs.tree.facts import Facts
from cryptfs.tree.ids import Ids
from cryptfs.tree.integrate import NeedsRebuild
from cryptfs.tree.schema import floor_of

__all__ = ["StateAt", "state_at"]

Row = tuple[Any, ...]
Key = tuple[Any, ...]

_ORDERED: Final[dict[StateTable, str]] = {
    # By inode where that is not the order of the table: `local` has an index of inodes, and leads.
    "node": "SELECT n.* FROM local l CROSS JOIN node n ON n.st = l.st WHERE l.ino IS NOT NULL ORDER BY l.ino",
    "dirent": "SELECT d.* FROM local l CROSS JOIN dirent d ON d.parent = l.st WHERE l.ino IS NOT NULL"
    " ORDER BY l.ino, d.name",
    "alias": "SELECT a.* FROM local l CROSS JOIN alias a ON a.old = l.st WHERE l.ino IS NOT NULL ORDER BY l.ino",
    "landing": "SELECT * FROM landing ORDER BY op",
    "xattr": "SELECT x.* FROM local l CROSS JOIN xattr x ON x.st = l.st WHERE l.ino IS NOT NULL ORDER BY l.ino, x.key",
    "container": "SELECT * FROM container ORDER BY place, id",
    "history": "SELECT h.* FROM local l CROSS JOIN history h ON h.st = l.st WHERE l.ino IS NOT NULL"
    " ORDER BY l.ino, h.cver",
}
_MOMENTS: Final = "SELECT log, first_op, seq, ops, stamp, wall_ms, digest FROM moment WHERE stamp <= ? ORDER BY 1, 2, 3"
_LATER: Final = """SELECT min(u) FROM
    (SELECT min(u) AS u FROM applied WHERE stamp > ? UNION ALL SELECT min(u) FROM tentative)"""


class StateAt:
    """The State at `stamp`, read through a connection on which nothing is written meanwhile.

    Raises NeedsRebuild if the way back does not reach so far.
    """

    def __init__(self, db: Database, vault: bytes, stamp: int) -> None:
        if stamp < floor_of(db):
            raise NeedsRebuild("the state of then cannot be told any more")
        self._db = db
        self._stamp = stamp
        self._outward = Outward(Ids(db, vault), Facts(db))
        self._before: dict[int, dict[Key, Row | None]] = {}
        """Rows that changed later, by table and key: what they were; None if they were not there."""
        self._look_back()

    def _look_back(self) -> None:
        first = self._db.one(_LATER, (self._stamp,))[0]
        if first is None:
            return
        decode = msgspec.msgpack.Decoder(tuple).decode
        for table, key, before in self._db.each(
            "SELECT tbl, key, before FROM undo WHERE u >= ? ORDER BY u, n", (first,)
        ):
            found = self._before.setdefault(table, {})
            place = decode(key)
            if place not in found:
                found[place] = None if before is None else decode(before)

    def tables(self) -> Iterator[tuple[int, Iterator[bytes]]]:
        """Every table of the State with its number, and its encoded rows ascending by key; one after the other."""
        for number, table in enumerate(STATE_TABLES, 1):
            yield number, (encode(row) for row in self.rows(table))

    def rows(self, table: StateTable) -> Iterator[Row]:
        """Rows of a table in external form, ascending by key."""
        turn, key = SHAPES[table]
        before = self._before.get(STATE_TABLES.index(table) + 1, {})
        stored = self._db.each(_ORDERED[table])
        present = (turn(self._outward, row) for row in stored if row[:key] not in before)
        if not before:
            return present
        old = sorted(
            (turn(self._outward, row) for row in before.values() if row is not None), key=lambda row: row[:key]
        )
        return heapq.merge(present, old, key=lambda row: row[:key])

    def moments(self) -> Iterator[bytes]:
        """Which operations came in which segment, and when by its author's clock: encoded."""
        return (encode(row) for row in self._db.each(_MOMENTS, (self._stamp,)))


@contextmanager
def state_at(core: Core, stamp: int) -> Iterator[StateAt]:
    """The State at `stamp` as it is committed by this call, for another thread to read beside the one that writes.

    Raises NeedsRebuild, ReplicaDamaged.
    """
    core.commit()
    db = core.beside()
    try:
        yield StateAt(db, core.vault, stamp)
    finally:
        db.close()
