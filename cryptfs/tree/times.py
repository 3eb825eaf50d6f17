"""The times this machine shows for what was last changed here: ctime, mtime of directories, atime.

The State has times too, but those follow from segments; a program that has just changed a file must not see its times
move when the change is sealed. Kept in memory until commit, because a busy directory changes with every operation.
"""

from collections.abc import Sequence
from typing import Any, Final

from cryptfs.tree.database import Database

__all__ = ["Times"]

_TIMES: Final = "SELECT ctime_ns, dir_mtime_ns, atime_ns FROM local WHERE st = ?"
_NONE: Final = (None, None, None)


class Times:
    """[ctime_ns, dir_mtime_ns, atime_ns] by node, None where the State decides. Never undone."""

    def __init__(self, db: Database, shown: dict[int, Any]) -> None:
        self._db = db
        self._changed: dict[int, list[int | None]] = {}
        self._shown = shown

    def unwritten(self, st: int) -> Sequence[int | None] | None:
        """The times of a node if they changed since the last commit; else the table has them."""
        return self._changed.get(st)

    def of(self, st: int) -> Sequence[int | None]:
        """The times of a node, wherever they are."""
        return self._changed.get(st) or self._db.one(_TIMES, (st,)) or _NONE

    def changed(self, st: int) -> list[int | None]:
        """The times of a node, to be changed in place."""
        self._shown.pop(st, None)
        times = self._changed.get(st)
        if times is None:
            times = self._changed[st] = list(self._db.one(_TIMES, (st,)) or _NONE)
        return times

    def born(self, st: int, now_ns: int) -> None:
        """Times of a node made now."""
        self._shown.pop(st, None)
        self._changed[st] = [now_ns, None, now_ns]

    def forget(self, st: int) -> None:
        """Somebody else changed the node: the State decides again."""
        times = self.changed(st)
        times[0] = times[1] = None

    def drop(self, st: int) -> None:
        """The node is no more."""
        self._shown.pop(st, None)
        self._changed.pop(st, None)

    def flush(self) -> None:
        """Write what is buffered. Called before every commit."""
        if self._changed:
            self._db.many(
                "INSERT INTO local(st, ctime_ns, dir_mtime_ns, atime_ns) VALUES(?1, ?2, ?3, ?4)"
                " ON CONFLICT(st) DO UPDATE SET ctime_ns = ?2, dir_mtime_ns = ?3, atime_ns = ?4",
                [(st, *times) for st, times in self._changed.items()],
            )
            self._changed.clear()
