"""The feeds of changes, one a user and one a shared drive: late, out of order, or twice where the settings say so."""

import heapq
import random
from dataclasses import dataclass, field

from tests.drive_emulator.clock import Clock
from tests.drive_emulator.settings import Settings


@dataclass(slots=True)
class Change:
    """Something about `file_id` changed; its present state is looked up on reading. `gone`: it went out of sight."""

    file_id: str
    at: float
    gone: bool
    drive: str | None


@dataclass(slots=True)
class _Feed:
    """Entries get their place when they come out, so nothing is lost by entries that overtake each other."""

    out: list[Change] = field(default_factory=list)
    waiting: list[tuple[float, int, Change]] = field(default_factory=list)


class Feeds:
    """All feeds. A token is the number of entries that came out before, plus one, as text."""

    def __init__(self, settings: Settings, clock: Clock, chance: random.Random) -> None:
        self._settings, self._clock, self._random = settings, clock, chance
        self._feeds: dict[str, _Feed] = {}
        self._count = 0

    def add(self, email: str, file_id: str, drive: str | None, *, gone: bool, foreign: bool = False) -> None:
        """Tell a user that a file changed, or (`gone`) went out of sight. `foreign`: it belongs to another user."""
        if not foreign or self._settings.feed.shows_foreign:
            self._put(email, Change(file_id, self._clock.now(), gone, drive))

    def note_drive(self, drive: str | None, file_id: str) -> None:
        """Tell all who follow a shared drive."""
        if drive is not None:
            self._put("drive " + drive, Change(file_id, self._clock.now(), False, drive))

    def _put(self, whose: str, change: Change) -> None:
        settings = self._settings.feed
        if settings.lose and self._random.random() < settings.lose:
            return
        times = 1 + (self._random.random() < settings.repeat if settings.repeat else 0)
        for turn in range(times):
            late = settings.lag_seconds + self._random.uniform(0, settings.lag_jitter) + turn
            self._count += 1
            heapq.heappush(self._of(whose).waiting, (change.at + late, self._count, change))

    def _of(self, whose: str) -> _Feed:
        return self._feeds.setdefault(whose, _Feed())

    def _let_out(self, whose: str) -> _Feed:
        feed = self._of(whose)
        while feed.waiting and feed.waiting[0][0] <= self._clock.now():
            feed.out.append(heapq.heappop(feed.waiting)[2])
        return feed

    def end(self, whose: str) -> int:
        """Place after the last entry that came out."""
        return len(self._let_out(whose).out)

    def read(self, whose: str, start: int, count: int) -> list[Change]:
        """At most `count` entries from a place on."""
        return self._let_out(whose).out[start : start + count]
