"""Which segments are in the tree: heads of the logs, and what it takes to undo and redo those above the floor.

The floor U is the stamp at and below which nothing is undone any more.
"""

import struct
from typing import Final, NamedTuple

import msgspec

from cryptfs.tree.database import Database
from cryptfs.tree.schema import floor_of
from cryptfs.tree.segment import IntegratedSegment, Position
from cryptfs.tree.undo import UndoLog

__all__ = ["Applied", "AppliedRow", "Head"]

_I64: Final = struct.Struct(">q")


class Head(NamedTuple):
    """The last segment of a log that was integrated."""

    seq: int
    digest: bytes
    stamp: int


class AppliedRow(NamedTuple):
    """A segment above the floor: its place in the order, its number, the unit of the undo log where it starts."""

    position: Position
    seq: int
    u: int


class Applied:
    """Tables `head`, `applied`, and the floor."""

    def __init__(self, db: Database, undo: UndoLog) -> None:
        self._db = db
        self._undo = undo
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(IntegratedSegment).decode

    def heads(self) -> dict[bytes, Head]:
        """The last integrated segment of every log."""
        rows = self._db.all("SELECT log, seq, digest, stamp FROM head ORDER BY log")
        return {log: Head(seq, digest, stamp) for log, seq, digest, stamp in rows}

    def set_head(self, seg: IntegratedSegment) -> None:
        """`seg` is in the tree; if none of its log is beyond it, it is the head. Its moment is remembered for good."""
        self._db.run(
            "INSERT OR REPLACE INTO moment VALUES(?, ?, ?, ?, ?, ?, ?)",
            (seg.log, seg.first_op, seg.seq, len(seg.ops), seg.stamp, seg.wall_ms, seg.digest),
        )
        head = self.heads().get(seg.log)
        if head is None or head.seq <= seg.seq:
            self.put_head(seg.log, Head(seg.seq, seg.digest, seg.stamp))

    def put_head(self, log: bytes, head: Head) -> None:
        """The last segment of a log that is in the tree."""
        self._db.run("INSERT OR REPLACE INTO head VALUES(?, ?, ?, ?)", (log, *head))

    def rows(self) -> list[AppliedRow]:
        """All segments above the floor, in order."""
        rows = self._db.all("SELECT stamp, log, seq, u FROM applied ORDER BY stamp, log")
        return [AppliedRow((stamp, log), seq, u) for stamp, log, seq, u in rows]

    def last(self) -> Position | None:
        """Place of the last segment above the floor."""
        row = self._db.one("SELECT stamp, log FROM applied ORDER BY stamp DESC, log DESC LIMIT 1")
        return None if row is None else (row[0], row[1])

    def segment(self, position: Position) -> IntegratedSegment:
        """A segment above the floor, to be applied again."""
        row = self._db.one("SELECT body FROM applied WHERE stamp = ? AND log = ?", position)
        return self._decode(row[0])

    def add(self, seg: IntegratedSegment, u: int) -> None:
        """`seg` was applied as unit `u`."""
        self._db.run("INSERT INTO applied VALUES(?, ?, ?, ?, ?)", (*seg.position, seg.seq, u, self._encode(seg)))

    def remove(self, rows: list[AppliedRow]) -> None:
        """These were undone."""
        for row in rows:
            self._db.run("DELETE FROM applied WHERE stamp = ? AND log = ?", row.position)

    def floor(self) -> int:
        """The stamp U; -1 at first."""
        return floor_of(self._db)

    def forget_floor(self) -> None:
        """Nothing is applied any more."""
        self._db.run("DELETE FROM meta WHERE k = 'floor'")

    def advance(self, stamp: int, first_tentative: int | None) -> None:
        """Raise the floor, and forget how to undo what lies at or below it."""
        if stamp <= self.floor():
            return
        self._db.run("INSERT OR REPLACE INTO meta VALUES('floor', ?)", (_I64.pack(stamp),))
        self._db.run("DELETE FROM applied WHERE stamp <= ?", (stamp,))
        first = self._db.one("SELECT min(u) FROM applied")[0]
        kept = [u for u in (first, first_tentative) if u is not None]
        self._undo.forget_below(min(kept, default=self._undo.u + 2))
