"""When slowing down is worth telling: a word from Google now and then is everyday, an hour of nothing else is not.

Pure: the time comes in. Google has no error of its own for the 750 GB a day that an account may upload; what is seen
then is "slow down" to every write and nothing else, which is how it is known here.
"""

import threading
from typing import Final

from cryptfs.errors import Quota, Retry, StoreError

__all__ = ["Throttle"]

_EVERYDAY_S: Final = 60.0
_CAPPED_S: Final = 600.0
_PARKED_S: Final = 3600.0
_CAP: Final = "Google Drive has taken no upload for ten minutes: most likely the account's 750 GB of a day are used up."
_CAP_ADVICE: Final = "Nothing need be done: it is tried again every hour, and what waits is kept here until then."


class Throttle:
    """What Google said last about our speed. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._since: dict[bool, float] = {}  # by whether it was a write: when the present row of refusals began
        self._parked_until = float("-inf")

    def check(self, now: float) -> None:
        """Whether writes may be tried. Raises Quota."""
        with self._lock:
            if now < self._parked_until:
                raise Quota(_CAP, _CAP_ADVICE, state="daily limit")

    def accepted(self, *, writes: bool) -> None:
        """A call went through."""
        with self._lock:
            self._since.pop(writes, None)

    def refused(self, error: Retry, now: float, *, writes: bool) -> StoreError:
        """Google asked to slow down by `error`; returns what to tell."""
        with self._lock:
            lasted = now - self._since.setdefault(writes, now)
            if writes and lasted >= _CAPPED_S:
                self._parked_until = now + _PARKED_S
                self._since.pop(writes)
                return Quota(_CAP, _CAP_ADVICE, state="daily limit")
        return Retry(str(error), error.advice, error.after, state=error.state, passing=lasted < _EVERYDAY_S)
