"""The time an emulated Drive lives in: the machine's, or one that only moves when told to."""

import threading
import time
from typing import Protocol


class Clock(Protocol):
    """Seconds since 1970."""

    def now(self) -> float: ...

    def sleep(self, seconds: float, over: threading.Event) -> None:
        """Let `seconds` pass; come back earlier when `over` is set."""


class RealClock:
    """The time of the machine."""

    def now(self) -> float:
        return time.time()

    def sleep(self, seconds: float, over: threading.Event) -> None:
        if seconds > 0:
            over.wait(seconds)


class VirtualClock:
    """Moves by `advance` alone, and by the waits of the emulator itself, which take no time."""

    def __init__(self, start: float = 1_800_000_000.0) -> None:
        self._now, self._lock = start, threading.Lock()

    def now(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        with self._lock:
            self._now += seconds

    def sleep(self, seconds: float, over: threading.Event) -> None:
        if not over.is_set():
            self.advance(max(0.0, seconds))
