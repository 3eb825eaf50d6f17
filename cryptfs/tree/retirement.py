"""How far this device is with the containers it has retired: local facts, kept with the replica.

What is missing here (a replica that was rebuilt) is noted anew and waited for anew, so a loss only ever delays.
"""

from typing import NamedTuple

from cryptfs.tree.database import Database
from cryptfs.tree.places import Place

__all__ = ["Retirement", "Retirements"]


class Retirement(NamedTuple):
    """`place` is retired by own segment `seq` at the latest, noted at `asked_ms`.

    `acked_ms`: when every counted log had acknowledged that, None before; `gone`: its object was deleted.
    """

    where: int
    id: bytes
    seq: int
    asked_ms: int
    acked_ms: int | None
    gone: int

    @property
    def place(self) -> Place:
        """The container."""
        return Place(self.where, self.id)


class Retirements:
    """Table `retirement`."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def all(self) -> list[Retirement]:
        """All that is noted, by container."""
        return [Retirement._make(row) for row in self._db.all("SELECT * FROM retirement ORDER BY place, id")]

    def ask(self, place: Place, seq: int, now_ms: int) -> None:
        """The container is retired, as own segment `seq` tells, or an earlier one."""
        self._db.run("INSERT OR IGNORE INTO retirement VALUES(?, ?, ?, ?, NULL, 0)", (*place, seq, now_ms))

    def acknowledge(self, place: Place, now_ms: int) -> None:
        """Everybody has acknowledged it."""
        self._db.run("UPDATE retirement SET acked_ms = ? WHERE place = ? AND id = ?", (now_ms, *place))

    def deleted(self, place: Place) -> None:
        """Its object is gone."""
        self._db.run("UPDATE retirement SET gone = 1 WHERE place = ? AND id = ?", place)

    def forget(self, place: Place) -> None:
        """The container is in use again."""
        self._db.run("DELETE FROM retirement WHERE place = ? AND id = ?", place)
