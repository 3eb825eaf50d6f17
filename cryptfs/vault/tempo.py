"""When the store is looked at again: often while somebody works, rarely while nobody does, and when as a whole.

No clock and no chance of its own: moments come in as seconds that only run forward, audits as seconds since 1970,
because they have to survive a restart. The numbers are those of docs/replication.md, "Pull".
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

__all__ = ["FOLLOWED", "LISTED", "TOLD", "Audits", "PullPace", "Tempo"]

_LIVELY: Final = 120.0
"""Seconds after the last activity, here or elsewhere, in which more of it is expected at any moment."""
_CALM: Final = 900.0
"""Seconds after which nobody seems to be at work."""
_SPREAD: Final = 0.2
"""Share of a wait that is left to chance, so that devices which began together do not ask together for ever."""


@dataclass(frozen=True, slots=True)
class Tempo:
    """Seconds between two looks: soon after activity, a while after it, and when nothing has happened for long."""

    lively: float
    calm: float
    idle: float


FOLLOWED: Final = Tempo(3.0, 10.0, 60.0)
"""A store with a change feed: a look is one call that says only what is new."""
LISTED: Final = Tempo(10.0, 10.0, 60.0)
"""A store that can only be listed: a look is several calls, and some providers charge for each."""
TOLD: Final = Tempo(30.0, 30.0, 30.0)
"""A directory tells of changes by itself, but not of those that another machine made on a network mount."""


class PullPace:
    """Says when the next look is due. `chance` draws from [0, 1). Owned by the task that pulls.

    All moments are seconds of one clock that only runs forward.
    """

    def __init__(self, tempo: Tempo, chance: Callable[[], float], now: float) -> None:
        self._tempo = tempo
        self._chance = chance
        self._active = now  # a start is activity: somebody wants to see the folder
        self._looked = now
        self._not_before = now
        self._asked = False
        self._draw()

    def _draw(self) -> None:
        self._factor = 1.0 + _SPREAD * (self._chance() - 0.5)

    def stirred(self, now: float) -> None:
        """Somebody changes something, here or elsewhere: more may follow."""
        self._active = max(self._active, now)

    def noticed(self, at: float) -> None:
        """The store said that there is something new; look at the moment `at`, also if calls have failed."""
        self._asked = True
        self._not_before = at

    def looked(self, now: float) -> None:
        """A look has come to its end, whoever asked for it."""
        self._looked = self._not_before = now
        self._asked = False
        self._draw()

    def failed(self, now: float, seconds: float) -> None:
        """A look failed; the next one comes in `seconds`, as the policy for retries says."""
        self._not_before = now + seconds
        self._asked = True

    def due(self, now: float) -> float:
        """The moment of the next look, as things are at `now`."""
        if self._asked:
            return self._not_before
        silent = now - self._active
        tempo = self._tempo
        wait = tempo.lively if silent < _LIVELY else tempo.calm if silent < _CALM else tempo.idle
        return self._looked + wait * self._factor


_HOURLY: Final = 3_600.0
"""Seconds between two audits while there are changes: what a feed has missed is found within the hour."""
_DAILY: Final = 86_400.0
"""In any case: a folder that nobody changes must not shrink unnoticed."""
_UNEASY: Final = 30.0
"""While something is missing, or waits for what is not here: an audit may answer it."""


@dataclass(slots=True)
class Audits:
    """When everything is listed, although there is a cheaper way to see what is new. Seconds since 1970.

    `last`: the end of the last audit, 0 if there was none. `stirred`: anything was new since then.
    """

    last: float = 0.0
    stirred: bool = False

    def due(self, now: float, *, uneasy: bool) -> bool:
        """Whether it is time at `now`; a clock that was set back makes it so."""
        every = _UNEASY if uneasy else _HOURLY if self.stirred else _DAILY
        return not 0.0 <= now - self.last < every

    def done(self, now: float) -> None:
        """An audit has come to its end."""
        self.last, self.stirred = now, False
