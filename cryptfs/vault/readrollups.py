"""Reads rollups: each segment in one as if it lay by itself, and no rollup again before something has come.

A rollup of which every number is read is left alone, since it says the same again: unless somebody builds on a segment
that is not here, though another of its number may be. Then the log forks, and the other branch is looked for.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from cryptfs.crypto.keys import chance
from cryptfs.errors import CryptfsError, Damaged, HostileStore, NeedsUpdate, NotFound
from cryptfs.format.names import RollupName, parse_name
from cryptfs.format.segment import RawSegment
from cryptfs.format.segment_body import LogHead
from cryptfs.vault.logobjects import LogObjects
from cryptfs.vault.logs import Logs

__all__ = ["LATE_READ", "Budget", "RollupReader"]

LATE_READ: Final = 64
"""Segments beyond the end of one log that a pull reads: whoever was removed can upload as many as he likes."""
_AGAIN: Final = 1 / 16
"""Share of the pulls in which a refused rollup is read once more: a tool that synchronises the folder may have shown
half of it."""


@dataclass(slots=True)
class Budget:
    """How much of one log may yet be read at once: `late` segments beyond its end."""

    late: int = LATE_READ


class Judge(Protocol):
    """What a `LogReader` does with segments that others bring."""

    def take_in(self, log_id: bytes, seq: int, raw: RawSegment, name: str, budget: Budget) -> bool | frozenset[bytes]:
        """Judge a segment that lies in the object `name`: whether it was taken in, or for segments of which logs it
        waits; for a decision of the group if there are none.
        """  # noqa: D205 - one sentence

    def is_news(self, log_id: bytes, raw: RawSegment) -> bool:
        """Whether a segment was not read yet, and can be judged now."""

    def refuse(self, name: str, err: CryptfsError) -> None:
        """An object is not what it should be."""


class RollupReader:
    """Reads rollups for one `LogReader`. `problems`: objects that were refused, and why."""

    def __init__(self, objects: LogObjects, logs: Logs, judge: Judge, problems: dict[str, str]) -> None:
        self._objects = objects
        self._logs = logs
        self._judge = judge
        self._problems = problems
        self._tried: dict[str, int] = {}
        self._came = 0
        self.waits: dict[bytes, frozenset[bytes]] = {}
        """Logs whose next segment in a rollup has to wait, and the logs of which it waits for segments."""
        self.gone = False
        """A rollup that was listed was not there: another may hold its segments by now."""

    def something_came(self) -> None:
        """A segment was read, or the group changed: it may be what others have waited for."""
        self._came += 1

    def logs(self) -> list[bytes]:
        """Logs that may go on in a rollup."""
        return [log_id for log_id in self._objects.rolled_up() if self.unread_of(log_id)]

    def unread(self) -> list[str]:
        """Rollups that hold, by their names, segments that were not read."""
        return [key for log_id in self._objects.rolled_up() for key in self.unread_of(log_id)]

    def unread_of(self, log_id: bytes) -> list[str]:
        """As `unread`, of one log, in the order in which they are read."""
        return self._objects.rollups(log_id, self._logs.state(log_id).next_seq)

    async def read_on(self, log_id: bytes, budget: Budget) -> bool:
        """Read a log on in its rollups; whether any segment was taken in. Raises StoreError."""
        moved = False
        for key in self.unread_of(log_id):
            moved = await self._read(log_id, key, budget) or moved
        return moved

    async def look_for(self, heads: Iterable[LogHead]) -> bool:
        """Look for segments that others name, wherever their numbers are; as `read_on`."""
        moved = False
        for head in sorted(heads, key=lambda one: (one.log, one.seq, one.digest)):
            for key in self._objects.rollups(head.log, head.seq, head.seq):
                moved = await self._read(head.log, key, Budget()) or moved
        return moved

    async def _read(self, log_id: bytes, key: str, budget: Budget) -> bool:
        if self._tried.get(key) == self._came and not (key in self._problems and chance().random() < _AGAIN):
            return False
        self._problems.pop(key, None)
        try:
            moved = self._take_in(log_id, key, await self._objects.segments(key), budget)
        except NotFound:
            self.gone, moved = True, False
        except (HostileStore, NeedsUpdate) as err:
            self._judge.refuse(key, err)
            moved = False
        self._tried[key] = self._came
        return moved

    def _take_in(self, log_id: bytes, key: str, segments: Sequence[RawSegment], budget: Budget) -> bool:
        moved = False
        self.waits.pop(log_id, None)
        for raw in segments:
            if budget.late > 0 and self._judge.is_news(log_id, raw):
                waits = self._judge.take_in(log_id, raw.seq, raw, key, budget)
                moved = moved or waits is True
                if isinstance(waits, frozenset):
                    self.waits[log_id] = waits
        name = parse_name(key)
        if isinstance(name, RollupName) and len(segments) <= name.last - name.first:
            self._judge.refuse(key, Damaged("a rollup lacks segments that its name promises"))
        return moved
