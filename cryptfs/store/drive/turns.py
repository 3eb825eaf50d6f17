"""One thread at a time for each name, where two would each make the same file."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from cryptfs.store.base import Call

__all__ = ["Turns"]

_LOOK_S: Final = 0.25
"""Seconds between two looks at the time of a call that waits; its clock may not be the machine's."""


class Turns:
    """Names that somebody is busy with. Thread-safe."""

    def __init__(self) -> None:
        self._busy: set[str] = set()
        self._changed = threading.Condition()

    @contextmanager
    def of(self, name: str, call: Call) -> Iterator[None]:
        """While inside, nobody else is inside for this name. Raises Retry when late or aborted."""
        with self._changed:
            while name in self._busy:
                call.check()
                self._changed.wait(min(_LOOK_S, call.remaining()))
            call.check()
            self._busy.add(name)
        try:
            yield
        finally:
            with self._changed:
                self._busy.remove(name)
                self._changed.notify_all()
