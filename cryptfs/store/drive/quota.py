"""How fast Google Drive may be asked: a bucket of creates, a meter of quota units (docs/google-drive.md, "Limits").

Pure: the time comes in, the wait comes out; who called sleeps. One `Pace` serves all calls of a store. Devices of one
account know nothing of each other: they come to share its three creates a second by each backing off when throttled,
and creeping back (additive increase, multiplicative decrease: Chiu and Jain, 1989).
"""

import threading
from dataclasses import dataclass
from enum import Enum
from typing import Final

__all__ = ["Kind", "Limits", "Pace"]


class Kind(Enum):
    """What a call counts as: (quota units, whether it is one of the three writes a second)."""

    DOWNLOAD = (200, False)
    LISTING = (100, False)
    WRITE = (50, True)
    METADATA = (5, False)

    @property
    def units(self) -> int:
        """Units that Google counts."""
        return self.value[0]

    @property
    def writes(self) -> bool:
        """Whether it counts against the creates of an account."""
        return self.value[1]


@dataclass(frozen=True, slots=True)
class Limits:
    """Numbers of the pace, each with its reason."""

    rate: float = 2.5  # creates a second to begin with: below the three that Google advises, which others share
    rate_max: float = 3.0  # Google's advice for one account
    rate_min: float = 0.05  # one in twenty seconds: so slow that throttling ends, so fast that its end is noticed
    burst: float = 8.0  # a save after a pause goes at once; rclone lets 100 calls go and is not refused for it
    gain: float = 0.02  # creates a second won back by each that was accepted
    calm_s: float = 1.0  # answers to calls that were under way together count as one request to slow down
    minute_units: int = 300_000  # of 325,000 a minute and user: the clocks of two sides differ

    def __post_init__(self) -> None:
        if not (0 < self.rate_min <= self.rate <= self.rate_max and self.burst >= 1 and self.minute_units > 200):
            raise ValueError("limits of a pace out of range")


_MINUTE: Final = 61
"""Seconds until what was spent within one second counts no more."""


class Pace:
    """Says when the next call may begin. Thread-safe. Times are seconds of any clock that only runs forward."""

    def __init__(self, now: float, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._lock = threading.Lock()
        self._rate = self._limits.rate
        self._tokens = self._limits.burst
        self._at = now
        self._slowed_at = float("-inf")
        self._spent: dict[int, int] = {}  # units by second, of the last minute and of calls that wait
        self.units = 0
        """All units since the start."""

    @property
    def rate(self) -> float:
        """Creates a second at present."""
        return self._rate

    def ask(self, kind: Kind, now: float) -> float:
        """Seconds to wait before a call of this kind. The call is booked: it must be made, or given back."""
        with self._lock:
            wait = self._units_wait(kind.units, now)
            if kind.writes:
                self._fill(now)
                self._tokens -= 1
                wait = max(wait, -self._tokens / self._rate)
            self._book(kind.units, now + wait)
        return wait

    def give_back(self, kind: Kind, now: float) -> None:
        """A call that was booked is not made."""
        with self._lock:
            if kind.writes:
                self._tokens = min(self._limits.burst, self._tokens + 1)
            self._book(-kind.units, now)

    def accepted(self, kind: Kind) -> None:
        """A write went through: creep back."""
        if kind.writes:
            with self._lock:
                self._rate = min(self._limits.rate_max, self._rate + self._limits.gain)

    def slow_down(self, now: float, after: float = 0.0) -> None:
        """Google asked for it: half the rate, and nothing before `after` seconds have passed."""
        with self._lock:
            self._fill(now)
            self._tokens = min(self._tokens, -after * self._rate)
            if now - self._slowed_at >= self._limits.calm_s:
                self._slowed_at = now
                self._rate = max(self._limits.rate_min, self._rate / 2)

    def _fill(self, now: float) -> None:
        self._tokens = min(self._limits.burst, self._tokens + max(0.0, now - self._at) * self._rate)
        self._at = max(self._at, now)

    def _book(self, units: int, at: float) -> None:
        self._spent[int(at)] = self._spent.get(int(at), 0) + units
        self.units += units

    def _units_wait(self, units: int, now: float) -> float:
        """Seconds until the units of the last minute and these are within the limit."""
        self._spent = {second: spent for second, spent in self._spent.items() if second + _MINUTE > now}
        over = sum(self._spent.values()) + units - self._limits.minute_units
        for second in sorted(self._spent):
            if over <= 0:
                return 0.0
            over -= self._spent[second]
            if over <= 0:
                return second + _MINUTE - now
        return 0.0
