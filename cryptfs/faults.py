"""Named steps at which a test may make a run fail (docs/faults.md, "Methods").

Whatever could leave something half done calls `faults.step("room.action.step")` just before it does it. Production
hands out `Faults()`, which does nothing; a test hands out one that raises, or kills the process, at the n-th step, for
n from 1 until a run ends without reaching it.
"""

import threading
from collections.abc import Callable

__all__ = ["Faults"]


class Faults:
    """Counts the steps a run passes and acts on the chosen one.

    `at` counts from 1. `act` receives the name of the step and raises, kills or looks away. With `sticky` every step
    from `at` on acts, else that one only. `count` is the number of steps passed (while there is an `act`), `fired` the
    first step acted on ("" if none). Any thread may call `step`.
    """

    def __init__(self, at: int = 0, act: Callable[[str], None] | None = None, *, sticky: bool = False) -> None:
        self.at = at
        self.act = act
        self.sticky = sticky
        self.count = 0
        self.fired = ""
        self._lock = threading.Lock()

    def step(self, name: str) -> None:
        """Pass the step `name`; raises whatever `act` raises."""
        if self.act is None:
            return
        with self._lock:
            self.count += 1
            due = self.count == self.at or (self.sticky and 0 < self.at < self.count)
            if due:
                self.fired = self.fired or name
        if due:
            self.act(name)
