"""Segments that the store has told of and that are not read yet: their names, and when each is worth a try.

A name waits until its segment is taken in: what it builds on may be missing, its log may not be opened yet, its bytes
may not verify. Nothing is fetched again before something has changed that may matter to it, so a look that shows
nothing new reads nothing.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from cryptfs.crypto.keys import chance
from cryptfs.format.names import SegmentName, parse_name, segment_name

__all__ = ["Waiting"]

_READ_AGAIN: Final = 8
"""Refused objects of one log that are read once more at a time."""


class Waiting:
    """Owned by a `LogReader`. `knows(log, seq, h16)`: whether that segment was read."""

    def __init__(self, knows: Callable[[bytes, int, bytes], bool]) -> None:
        self._knows = knows
        self._names: dict[bytes, dict[int, list[str]]] = {}
        self._turn = 0
        self._judged: dict[str, int] = {}  # the turn in which an object was read last, in vain
        self._for: dict[str, frozenset[bytes]] = {}  # of those that verify: logs with what they wait for
        self.problems: dict[str, str] = {}
        """Objects that were refused, and why."""

    def __iter__(self) -> Iterator[str]:
        return (name for log in self._names.values() for names in log.values() for name in names)

    # ---- what the store tells ---------------------------------------------------------------------------------------

    def all_told(self) -> None:
        """The next names are all there are; what is among them is worth a try whatever it came to before."""
        self._names.clear()
        self._judged.clear()
        self._for.clear()

    def told(self, keys: Iterable[str]) -> None:
        """The store has these objects; those that are told anew may have other bytes by now."""
        for key in keys:
            name = parse_name(key)
            if isinstance(name, SegmentName) and not self._knows(name.log_id, name.seq, name.h16):
                there = self._names.setdefault(name.log_id, {}).setdefault(name.seq, [])
                if key not in there:
                    there.append(key)
                self._judged.pop(key, None)

    def _take_out(self, name: SegmentName, key: str) -> None:
        log = self._names[name.log_id]
        log[name.seq].remove(key)
        if not log[name.seq]:
            del log[name.seq]
        self._judged.pop(key, None)
        self._for.pop(key, None)

    # ---- what came of it --------------------------------------------------------------------------------------------

    def something_came(self) -> None:
        """A segment was read, or the group changed: it may be what others have waited for."""
        self._turn += 1

    def in_vain(self, key: str, for_: frozenset[bytes] | None = None) -> None:
        """It was read in vain. None: it was refused, or is not there; else it waits for segments of these logs, or for
        a decision of the group if there are none.
        """  # noqa: D205 - one sentence
        self._judged[key] = self._turn
        if for_ is None:
            self._for.pop(key, None)
        else:
            self._for[key] = for_
            self.problems.pop(key, None)

    def taken(self, key: str) -> None:
        """It was taken in."""
        self.problems.pop(key, None)
        name = parse_name(key)
        if isinstance(name, SegmentName):
            self._take_out(name, key)

    @property
    def held_up(self) -> bool:
        """Whether something that verifies waits for what is not here."""
        return bool(self._for)

    def for_what(self, log_id: bytes) -> frozenset[bytes] | None:
        """Logs with what the segments of a log wait for that could be read; None if there are none such."""
        names = (key for names in self._names.get(log_id, {}).values() for key in names)
        found = [self._for[key] for key in names if key in self._for]
        return frozenset().union(*found) if found else None

    # ---- what to try ------------------------------------------------------------------------------------------------

    def logs(self) -> list[bytes]:
        """Logs of which something waits, sorted."""
        return sorted(log_id for log_id, names in self._names.items() if names)

    def numbers(self, log_id: bytes) -> list[int]:
        """Numbers of the segments of a log that wait, sorted."""
        return sorted(self._names.get(log_id, ()))

    def names(self, log_id: bytes, seq: int) -> list[str]:
        """Objects that wait under one number."""
        return self._names.get(log_id, {}).get(seq, [])

    def candidates(self, log_id: bytes, seq: int, first: bytes = b"") -> list[str]:
        """Objects to try under one number: fresh ones, that with the digest `first` before the others, and a few of
        those refused. A tool that synchronises the folder may have shown half of one, or its key has come since.
        """  # noqa: D205 - one sentence
        self._drop_known(log_id, seq)
        names = [key for key in self._names.get(log_id, {}).get(seq, ()) if self._judged.get(key) != self._turn]
        refused = [key for key in names if key in self.problems]
        again = chance().sample(refused, min(len(refused), _READ_AGAIN))
        fresh = sorted(set(names).difference(refused))
        return sorted(fresh, key=lambda key: not (first and key == segment_name(log_id, seq, first))) + again

    def _drop_known(self, log_id: bytes, seq: int) -> None:
        """What was told here and taken in on another way, as this device's own segments from its journal."""
        for key in list(self._names.get(log_id, {}).get(seq, ())):
            name = parse_name(key)
            if isinstance(name, SegmentName) and self._knows(log_id, seq, name.h16):
                self.taken(key)
