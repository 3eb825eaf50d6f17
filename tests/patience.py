"""Waiting for what another process or thread brings about and nothing announces, on a machine that may be busy."""

import time
from collections.abc import Callable

import trio

__all__ = ["SECONDS", "until", "until_async"]

SECONDS = 120.0
"""For what takes a moment on a quiet machine: whoever waited this long waits for something that hangs."""


def until(condition: Callable[[], object], seconds: float = SECONDS, what: str = "it did not come about") -> None:
    """Return when `condition` holds. AssertionError `what` when that takes longer."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.02)


async def until_async(condition: Callable[[], object], seconds: float = SECONDS) -> None:
    """The same where trio runs. Raises TooSlowError."""
    with trio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110 - nothing announces it
            await trio.sleep(0.01)
