"""Time stamps of files: one clock reading a request, never the same stamp twice, and the rules of atime."""

import time
from typing import Final, Literal

__all__ = ["AtimeRule", "Clock", "atime_is_due", "new_mtime"]

AtimeRule = Literal["relatime", "noatime", "strictatime"]

_STEP_TOLERATED_NS: Final = 1_000_000_000
"""A clock set back by less than this is waited out nanosecond by nanosecond; a greater step is believed."""

_DAY_NS: Final = 24 * 3600 * 1_000_000_000


class Clock:
    """The wall clock in ns, strictly increasing but for real steps backwards.

    The kernel notices a new version of a file by size and mtime alone (docs/mount.md, "What the kernel may cache"), so
    two versions must never carry one time.
    """

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last = 0

    def now(self) -> int:
        """The time for this request."""
        now = time.time_ns()
        last = self._last
        if last - _STEP_TOLERATED_NS < now <= last:
            now = last + 1
        self._last = now
        return now


def new_mtime(shown: int, now: int) -> int:
    """The mtime of a new version of a file that shows `shown`: `now`, but never the same (utimens may have set it)."""
    return now if now != shown else now + 1


def atime_is_due(rule: AtimeRule, atime: int, mtime: int, ctime: int, now: int) -> bool:
    """Whether reading at `now` moves the access time; relatime as mount(8) has it."""
    if rule == "relatime":
        return atime <= mtime or atime <= ctime or now - atime >= _DAY_NS
    return rule == "strictatime"
