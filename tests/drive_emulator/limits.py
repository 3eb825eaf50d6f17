"""How fast one may go: writes a second, quota units a minute and a day."""

from dataclasses import dataclass

from tests.drive_emulator.answers import Refusal, usage
from tests.drive_emulator.clock import Clock
from tests.drive_emulator.settings import Settings

WRITES = frozenset(
    [
        "files.create",
        "files.update",
        "files.copy",
        "files.delete",
        "upload.start",
        "permissions.create",
        "permissions.update",
        "permissions.delete",
    ]
)
"""Calls that count against writes a second, whether they succeed or not."""

UNITS = {
    "files.get_media": 200,
    "files.list": 100,
    "changes.list": 100,
    "drives.list": 100,
    "permissions.list": 100,
    "files.get": 5,
    "files.generateIds": 5,
    "changes.getStartPageToken": 5,
    "about.get": 5,
    "drives.get": 5,
    "permissions.get": 5,
    "upload.chunk": 0,
    "upload.query": 0,
    "token": 0,
    "revoke": 0,
    "authorize": 0,
}
"""Quota units of a call; one that is not here writes and costs 50."""


@dataclass(slots=True)
class _Bucket:
    """Holds up to `size`, filled at `rate` a second."""

    level: float
    at: float

    def take(self, now: float, rate: float, size: float, count: float) -> bool:
        self.level = min(size, self.level + (now - self.at) * rate)
        self.at = now
        if self.level < count:
            return False
        self.level -= count
        return True


class Gate:
    """Refuses what comes too fast. Used under the lock of the world."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings, self._clock = settings, clock
        self._buckets: dict[str, _Bucket] = {}
        self._day: tuple[int, int] = (0, 0)
        self._refused = 0
        self.units: dict[str, int] = {}  # used so far, by account; "" is all of them

    def check(self, email: str, call: str) -> None:
        """Count one call. Raises Refusal."""
        limits = self._settings.limits
        self._count_units(email, UNITS.get(call, 50))
        rate = limits.writes_per_second
        if call in WRITES and rate is not None and not self._take("writes " + email, rate, limits.write_burst, 1):
            self._refused += 1
            late = limits.write_refusal == "429" or (limits.write_refusal == "both" and self._refused % 2 == 0)
            reason, status = ("rateLimitExceeded", 429) if late else ("userRateLimitExceeded", 403)
            raise usage(reason, status, limits.retry_after, limits.new_error_shape)

    def _count_units(self, email: str, units: int) -> None:
        limits = self._settings.limits
        day = int(self._clock.now() // 86_400)
        used = self._day[1] if self._day[0] == day else 0
        if limits.project_units_per_day is not None and used + units > limits.project_units_per_day:
            raise usage("dailyLimitExceeded")
        for whose, bound in (("user " + email, limits.user_units_per_minute), ("all", limits.project_units_per_minute)):
            if bound is not None and not self._take(whose, bound / 60, bound, units):
                reason = "userRateLimitExceeded" if whose != "all" else "rateLimitExceeded"
                raise usage(reason, 403, limits.retry_after, limits.new_error_shape)
        self._day = (day, used + units)
        for whose in (email, ""):
            self.units[whose] = self.units.get(whose, 0) + units

    def _take(self, name: str, rate: float, size: float, count: float) -> bool:
        now = self._clock.now()
        return self._buckets.setdefault(name, _Bucket(size, now)).take(now, rate, size, count)


def refuse_scope() -> Refusal:
    """The token was not given for Drive as a whole."""
    return Refusal(403, "insufficientPermissions", "Insufficient Permission: Request had insufficient scopes.")
