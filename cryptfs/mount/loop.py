"""A stand-in for the name `trio` inside pyfuse3: looks before it sleeps, and sleeps late while requests keep coming.

Waking a sleeping process across CPUs costs more than answering a request (docs/mount.md, "Costs"). pyfuse3's workers
take a lock, wait for the descriptor, receive, answer: with stock trio that is two trips through the scheduler and five
system calls a request. Here a worker first asks whether a request is there, and after the last one it looks for up to
100 µs before it sleeps. It leans on the names pyfuse3 uses, no more: `Lock`, `ClosedResourceError`, `open_nursery`, and
`current_task`, `current_trio_token`, `wait_readable`, `notify_closing` of `lowlevel`.

Every other task keeps running: a look that fails yields to all of them, and one that succeeds does so every 0.5 ms.
"""

import os
import select
from time import perf_counter_ns
from types import SimpleNamespace
from typing import Final

import pyfuse3
import trio
from trio.lowlevel import ParkingLot, checkpoint

__all__ = ["ReadLock", "SpinningReader", "install", "uninstall", "wants_stock_loop"]

_SPIN_NS: Final = 100_000
_TURN_NS: Final = 500_000
"""As long may requests be answered back to back before other tasks get their turn."""

_KEEP_COMING_NS: Final = 1_000_000
"""Requests that come further apart are not worth waiting awake for."""

_LOOKS: Final = 16
"""Looks between two turns of the other tasks: a look takes 1 µs, a trip through the scheduler ten."""

_MOST_SKIPPED: Final = 64
"""Waits slept through after spins that found nothing: client and daemon may share one CPU."""


class ReadLock:
    """A mutex without ceremony: free means taken at once, and whoever returns first takes it, waiting or not.

    At most one waiter is roused at a time; it looks again and parks again. trio.Lock hands over in order instead, which
    makes two workers alternate and pay for the scheduler at every request.
    """

    __slots__ = ("_held", "_lot", "_roused")

    def __init__(self) -> None:
        self._held = False
        self._roused = False
        self._lot = ParkingLot()

    async def __aenter__(self) -> None:
        while self._held:
            await self._lot.park()
            self._roused = False
        self._held = True

    async def __aexit__(self, *error: object) -> None:
        self._held = False
        if self._lot and not self._roused:
            self._roused = True
            self._lot.unpark()


class SpinningReader:
    """Waits for one descriptor. The state between two waits decides whether the next one spins.

    `spins`, `sleeps` count how waits that found nothing at once went on, for tests and measurements.
    """

    def __init__(self) -> None:
        self.spins = 0
        self.sleeps = 0
        self._poll = select.poll()
        self._fd = -1
        self._closed = False
        self._turn_began = 0
        self._keep_coming = False
        self._skip = 0
        self._skipped = 0

    async def wait_readable(self, fd: int) -> None:
        """Return when `fd` is readable. Raises trio.ClosedResourceError once `notify_closing` was called."""
        if fd != self._fd:
            self._poll.register(fd, select.POLLIN)
            self._fd = fd
        if self._closed:
            raise trio.ClosedResourceError
        now = perf_counter_ns()
        if self._poll.poll(0):
            if now - self._turn_began > _TURN_NS:
                await checkpoint()
                self._turn_began = perf_counter_ns()
            return
        if self._keep_coming and self._may_spin() and await self._spin(now):
            return
        self.sleeps += 1
        await trio.lowlevel.wait_readable(fd)
        if self._closed:
            raise trio.ClosedResourceError
        self._turn_began = perf_counter_ns()
        self._keep_coming = self._turn_began - now < _KEEP_COMING_NS

    def notify_closing(self, fd: int) -> None:
        """Wake whoever waits, spinning or asleep."""
        self._closed = True
        trio.lowlevel.notify_closing(fd)

    def _may_spin(self) -> bool:
        if self._skipped < self._skip:
            self._skipped += 1
            return False
        return True

    async def _spin(self, began: int) -> bool:
        """Look until something is there or the time is up; True if something was."""
        self.spins += 1
        poll = self._poll.poll
        while True:
            await checkpoint()
            if self._closed:
                raise trio.ClosedResourceError
            for _ in range(_LOOKS):
                if poll(0):
                    self._skip = self._skipped = 0
                    self._turn_began = perf_counter_ns()
                    return True
            if perf_counter_ns() - began > _SPIN_NS:
                self._skip = min(_MOST_SKIPPED, self._skip * 2 + 1)
                self._skipped = 0
                return False


def wants_stock_loop() -> bool:
    """Whether the environment asks for plain trio (CRYPTFS_STOCK_LOOP=1)."""
    return os.environ.get("CRYPTFS_STOCK_LOOP", "") not in ("", "0")


def install() -> SpinningReader:
    """Put the stand-in into pyfuse3, for the mount about to be served; call between `init` and `main`."""
    reader = SpinningReader()
    lowlevel = SimpleNamespace(
        current_task=trio.lowlevel.current_task,
        current_trio_token=trio.lowlevel.current_trio_token,
        wait_readable=reader.wait_readable,
        notify_closing=reader.notify_closing,
    )
    stand_in = SimpleNamespace(
        Lock=ReadLock,
        ClosedResourceError=trio.ClosedResourceError,
        open_nursery=trio.open_nursery,
        lowlevel=lowlevel,
    )
    vars(pyfuse3)["trio"] = stand_in
    return reader


def uninstall() -> None:
    """Back to plain trio."""
    vars(pyfuse3)["trio"] = trio
