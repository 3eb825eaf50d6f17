"""A store in memory that never fails: the plainest thing that keeps the contract of `Store`."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from cryptfs.errors import Exists, LocalDisk, NotFound
from cryptfs.store.base import Buffer, Call, Cap, Changes, Space, Stat, check_key
from cryptfs.store.listing_feed import ListingFeed

__all__ = ["MemoryStore", "read_local"]

_TOTAL: Final = 1 << 40


class MemoryStore:
    """Objects in a dictionary. Ids are numbers that are never used twice, times are those numbers too."""

    caps: frozenset[Cap] = frozenset({Cap.ATOMIC_PUT, Cap.IF_ABSENT, Cap.STRONG_LIST})

    def __init__(self) -> None:
        self._objects: dict[str, tuple[bytes, int]] = {}
        self._births = 0
        self._lock = threading.Lock()
        self._feed = ListingFeed(lambda call: self.list("", call))

    def put(self, key: str, data: Buffer, call: Call, *, if_absent: bool = False) -> Stat:  # noqa: ARG002 - always sure
        """See Store."""
        check_key(key)
        call.check()
        with self._lock:
            found = self._objects.get(key)
            if found is None:
                self._births += 1
                self._objects[key] = found = (bytes(data), self._births)
            elif found[0] != data:
                raise Exists(f"another object lies under {key}")
            return _stat(key, found)

    def put_file(self, key: str, path: Path, call: Call, *, if_absent: bool = False) -> Stat:
        """See Store."""
        return self.put(key, read_local(path), call, if_absent=if_absent)

    def get(self, key: str, call: Call, start: int = 0, length: int | None = None) -> bytes:
        """See Store."""
        check_key(key)
        if start < 0 or (length is not None and length < 0):
            raise ValueError("a range cannot be negative")
        call.check()
        with self._lock:
            if key not in self._objects:
                raise NotFound(f"no object {key}")
            data, _ = self._objects[key]
        return data[start:] if length is None else data[start : start + length]

    def stat(self, key: str, call: Call) -> Stat | None:
        """See Store."""
        check_key(key)
        call.check()
        with self._lock:
            found = self._objects.get(key)
        return None if found is None else _stat(key, found)

    def delete(self, key: str, call: Call) -> None:
        """See Store."""
        check_key(key)
        call.check()
        with self._lock:
            self._objects.pop(key, None)

    def list(self, prefix: str, call: Call, after: str = "") -> Iterator[Stat]:
        """See Store."""
        call.check()
        with self._lock:
            found = sorted(item for item in self._objects.items() if item[0].startswith(prefix) and item[0] > after)
        return (_stat(key, item) for key, item in found)

    def changes(self, cursor: str, call: Call) -> Changes:
        """See Store."""
        return self._feed.since(cursor, call)

    def space(self, call: Call) -> Space | None:
        """See Store."""
        call.check()
        return Space(_TOTAL, max(0, _TOTAL - self.used()))

    def close(self) -> None:
        """See Store."""

    # ---- for simulations: what an operator of the store could do, behind the back of every rule -------------------

    def used(self) -> int:
        """Bytes of all objects."""
        with self._lock:
            return sum(len(data) for data, _ in self._objects.values())

    def remove(self, key: str) -> bytes:
        """Take an object away and return its bytes. KeyError if there is none."""
        with self._lock:
            return self._objects.pop(key)[0]

    def snapshot(self) -> dict[str, bytes]:
        """A copy of everything, to be given to `restore` later."""
        with self._lock:
            return {key: data for key, (data, _) in self._objects.items()}

    def restore(self, objects: dict[str, bytes]) -> None:
        """Replace everything: a rollback, or a loss."""
        with self._lock:
            kept = self._objects
            self._objects = {}
            for key, data in objects.items():
                old = kept.get(key)
                if old is None or old[0] != data:
                    self._births += 1
                    old = (data, self._births)
                self._objects[key] = old


def read_local(path: Path) -> bytes:
    """All of a local file. `LocalDisk`."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise LocalDisk(f"{path}: {error.strerror}") from error


def _stat(key: str, item: tuple[bytes, int]) -> Stat:
    data, birth = item
    return Stat(key, len(data), birth, str(birth))
