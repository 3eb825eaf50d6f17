"""A change feed for stores that have none: the difference between two listings."""

import itertools
import threading
from collections.abc import Callable, Iterable
from typing import Final

from cryptfs.crypto.keys import random_bytes
from cryptfs.store.base import Call, Change, Changes, Stat

__all__ = ["ListingFeed"]


class ListingFeed:
    """Remembers the listings its last cursors stand for. Thread-safe.

    A cursor lives as long as this object and two calls: older ones, and those of another run, give everything there is.
    Two, so that a caller whose work on the last answer failed may ask again with the cursor before. `run` tells this
    object's cursors from those of all others; random if not given.
    """

    KEPT: Final = 2

    def __init__(self, listing: Callable[[Call], Iterable[Stat]], run: str = "") -> None:
        self._listing = listing
        self._run = run or random_bytes(8).hex()
        self._numbers = itertools.count(1)
        self._seen: dict[str, dict[str, Stat]] = {}
        self._lock = threading.Lock()

    def since(self, cursor: str, call: Call) -> Changes:
        """What differs from the listing `cursor` stands for. Errors of the listing pass, and leave the cursor alive."""
        now = {stat.key: stat for stat in self._listing(call)}
        with self._lock:
            before = self._seen.get(cursor, {})
            changes = [Change(key, stat) for key, stat in now.items() if before.get(key) != stat]
            changes += [Change(key, None) for key in before if key not in now]
            following = f"{self._run}.{next(self._numbers)}"
            self._seen[following] = now
            while len(self._seen) > self.KEPT:
                del self._seen[next(iter(self._seen))]
        return changes, following
