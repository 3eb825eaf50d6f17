"""The rows of the table `node`, written behind: a node that changes five times in a second is written once.

Unpacking a file sets its size, times, owner and mode one after the other, and nobody can tell what the database held in
between: all of it is one transaction until the next commit. `Database` writes what waits before anybody asks the table.
"""

from typing import Final, NamedTuple

from cryptfs.tree.database import Database

__all__ = ["NodeRow", "NodeRows"]


class NodeRow(NamedTuple):
    """A node as stored; sizes in bytes, times in ns, the rest as in `tree/schema.py`."""

    st: int
    kind: int
    mode: int
    uid: int
    gid: int
    rdev: int
    size: int
    mtime_ns: int
    ctime_ns: int
    cver: bytes
    content: bytes | None
    target: bytes
    last_parent: int | None
    last_name: bytes | None
    gone_l: int | None


_SELECT: Final = "SELECT * FROM node WHERE st = ?"
_PUT: Final = "INSERT OR REPLACE INTO node VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
_DELETE: Final = "DELETE FROM node WHERE st = ?"
_KEPT_MAX: Final = 8_000
"""Rows kept in memory, about 400 bytes each; when full, all that are written are dropped: a look-up each."""
_LATE_MAX: Final = 4_000
"""Rows that wait to be written."""


class NodeRows:
    """Reads, and writes late. One instance a replica, one thread."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._kept: dict[int, NodeRow] = {}
        self._late: dict[int, NodeRow] = {}

    def in_memory(self, st: int) -> NodeRow | None:
        """The row if no question to the database is needed; it may exist all the same."""
        return self._kept.get(st) or self._late.get(st)

    def get(self, st: int) -> NodeRow | None:
        """The row, None if there is no such node."""
        known = self._kept.get(st) or self._late.get(st)
        if known is not None:
            return known
        row = self._db.stored(_SELECT, (st,))
        if row is None:
            return None
        found = NodeRow._make(row)
        self._keep(found)
        return found

    def put(self, row: NodeRow) -> None:
        """Write a row, by the next flush."""
        if not self._late:
            self._db.wait(self.flush)
        self._late[row.st] = row
        self._keep(row)
        if len(self._late) >= _LATE_MAX:
            self.flush()

    def delete(self, st: int) -> None:
        """Take a row away."""
        self._late.pop(st, None)
        self._kept.pop(st, None)
        self._db.run(_DELETE, (st,))

    def flush(self) -> None:
        """Write what waits."""
        late, self._late = self._late, {}
        if late:
            self._db.many(_PUT, late.values())

    def forget(self) -> None:
        """Rows may have changed behind our back. What waits is newer: what changed the table had it written first."""
        self._kept.clear()

    def _keep(self, row: NodeRow) -> None:
        if len(self._kept) >= _KEPT_MAX:
            self._kept.clear()
        self._kept[row.st] = row
