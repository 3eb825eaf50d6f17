"""How much of the one thread long work in the background may take.

Everything of a vault runs on one thread; who works for minutes gives it back every few milliseconds, and leaves it to
the programs for as long as it has had it itself.
"""

from typing import Final

import trio

__all__ = ["Pace"]

_SLICE: Final = 0.005
"""Seconds of work between two rests: what a program may have to wait longer than otherwise."""

_LONGEST: Final = 0.05
"""Seconds that one piece of work can have taken; more was waiting for a store, while others had their turn."""


class Pace:
    """Call `step` after each small piece of work. `share` of the time is for the work: 1.0 all of it, 0.5 half."""

    def __init__(self, share: float = 1.0) -> None:
        self._rest = 1 / share - 1
        self._began = trio.current_time()

    async def step(self) -> None:
        """Rest if it is time to."""
        worked = min(trio.current_time() - self._began, _LONGEST)
        if worked >= _SLICE:
            await trio.sleep(worked * self._rest)
            self._began = trio.current_time()
