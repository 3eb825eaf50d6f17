"""The way back: what every State row was before it was changed, in the order of the changes.

Entries are buffered in memory and written at commit. `u` numbers sealed segments and tentative operations as they were
applied, in steps of two; what the sealing of tentative operations itself changes stands under the odd number just above
the last of them, so that it is undone after everything later and before everything earlier.
"""

from collections.abc import Iterator
from enum import IntEnum
from typing import Any, Final

import msgspec

from cryptfs.tree.database import Database

__all__ = ["Recorder", "Table", "UndoLog"]

Key = tuple[Any, ...]
Row = tuple[Any, ...]
Recorder = dict[tuple[int, Key], Row | None]
"""What rows were before a difference was begun, by table and key."""


class Table(IntEnum):
    """Tables whose rows are undone; numbers 1 to 7 are those of checkpoints."""

    NODE = 1
    DIRENT = 2
    ALIAS = 3
    LANDING = 4
    XATTR = 5
    CONTAINER = 6
    HISTORY = 7
    NOTICE = 100
    MTIME_SET = 101
    """No table: from here on the mtime of this directory is one that was set by hand."""


_DELETE: Final = {
    Table.NODE: "DELETE FROM node WHERE st = ?",
    Table.DIRENT: "DELETE FROM dirent WHERE parent = ? AND name = ?",
    Table.ALIAS: "DELETE FROM alias WHERE old = ?",
    Table.LANDING: "DELETE FROM landing WHERE op = ?",
    Table.XATTR: "DELETE FROM xattr WHERE st = ? AND key = ?",
    Table.CONTAINER: "DELETE FROM container WHERE place = ? AND id = ?",
    Table.HISTORY: "DELETE FROM history WHERE st = ? AND cver = ?",
    Table.NOTICE: "DELETE FROM notice WHERE op = ? AND seen = 0",
}
_SELECT: Final = {
    Table.NODE: "SELECT * FROM node WHERE st = ?",
    Table.DIRENT: "SELECT * FROM dirent WHERE parent = ? AND name = ?",
}
_INSERT: Final = {
    Table.NODE: "INSERT OR REPLACE INTO node VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
    Table.DIRENT: "INSERT OR REPLACE INTO dirent VALUES(?,?,?,?,?)",
    Table.ALIAS: "INSERT OR REPLACE INTO alias VALUES(?,?)",
    Table.LANDING: "INSERT OR REPLACE INTO landing VALUES(?,?)",
    Table.XATTR: "INSERT OR REPLACE INTO xattr VALUES(?,?,?)",
    Table.CONTAINER: "INSERT OR REPLACE INTO container VALUES(?,?,?,?,?,?,?)",
    Table.HISTORY: "INSERT OR REPLACE INTO history VALUES(?,?,?,?,?,?)",
}

_HIGHEST_UNIT: Final = """SELECT coalesce(max(u), 0) FROM
    (SELECT max(u) AS u FROM undo UNION ALL SELECT max(u) FROM applied UNION ALL SELECT max(u) FROM tentative)"""


class UndoLog:
    """Remembers and restores. `u` is where entries go; `enabled` is off for what will never be undone."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(tuple).decode
        self._buffer: list[tuple[int, int, int, Key, Row | None]] = []
        self.u = (self._number(_HIGHEST_UNIT) + 2) & ~1
        self.enabled = True
        self.recorder: Recorder | None = None
        # Never repeats: relabelling may add to a unit that an earlier run of the program has written.
        self._n = self._number("SELECT coalesce(max(n), 0) FROM undo")

    def _number(self, question: str) -> int:
        rows: list[tuple[int]] = self._db.all(question)
        return rows[0][0]

    def next_u(self) -> int:
        """Begin a new unit: its number, even."""
        self.u += 2
        return self.u

    def note(self, table: int, key: Key, before: Row | None) -> None:
        """Remember that the row `key` of `table` was `before` (None: was not there)."""
        if self.enabled:
            self._n += 1
            self._buffer.append((self.u, self._n, table, key, before))
        if self.recorder is not None:
            self.recorder.setdefault((table, key), before)

    def flush(self) -> None:
        """Write what is buffered. Called before every commit and every look back."""
        if self._buffer:
            encode = self._encode
            self._db.many(
                "INSERT INTO undo VALUES(?,?,?,?,?)",
                (
                    (u, n, int(table), encode(key), None if before is None else encode(before))
                    for u, n, table, key, before in self._buffer
                ),
            )
            self._buffer.clear()

    def entries(self, from_u: int, to_u: int | None = None) -> Iterator[tuple[int, int, int, Key, Row | None]]:
        """(u, n, table, key, before) of all units from `from_u` on (below `to_u`), oldest first."""
        self.flush()
        rows = self._db.all(
            "SELECT u, n, tbl, key, before FROM undo WHERE u >= ? AND u < ? ORDER BY u, n",
            (from_u, to_u if to_u is not None else 1 << 62),
        )
        decode = self._decode
        for u, n, table, key, before in rows:
            yield u, n, table, decode(key), None if before is None else decode(before)

    def note_at(self, u: int, table: int, key: Key, before: Row | None) -> None:
        """Remember a change that belongs to unit `u`, not to the present one."""
        self._n += 1
        self._buffer.append((u, self._n, table, key, before))

    def rewrite(self, u: int, n: int, before: Row) -> None:
        """Change what an entry remembers."""
        self._db.run("UPDATE undo SET before = ? WHERE u = ? AND n = ?", (self._encode(before), u, n))

    def undo_from(self, from_u: int) -> None:
        """Restore all rows changed since the beginning of unit `from_u`, newest change first, and forget the changes.

        Whoever holds rows in memory has to read them again (`Rows.reload`).
        """
        recorder = self.recorder
        for _, _, table, key, before in reversed(list(self.entries(from_u))):
            if table == Table.MTIME_SET:
                continue
            if recorder is not None and table in _SELECT and (table, key) not in recorder:
                recorder[(table, key)] = self._db.one(_SELECT[Table(table)], key)
            if before is None:
                self._db.run(_DELETE[Table(table)], key)
            else:
                self._db.run(_INSERT[Table(table)], before)
        self._db.run("DELETE FROM undo WHERE u >= ?", (from_u,))

    def forget_below(self, below_u: int) -> None:
        """Forget how to undo everything below unit `below_u`."""
        self.flush()
        self._db.run("DELETE FROM undo WHERE u < ?", (below_u,))
