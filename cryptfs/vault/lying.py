"""Where objects lie that may be looked at one by one: in the store, or as copies on this disk.

For work that must not wait for a mount, a tree or a lock. Blocking; nothing is ever written.
"""

from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Protocol

from cryptfs.crypto.keys import chance
from cryptfs.errors import NotFound
from cryptfs.format.names import ObjectName, parse_name
from cryptfs.store.base import Call, Store
from cryptfs.store.retry import Retries
from cryptfs.vault.disk import local_disk

__all__ = ["Copied", "Lying", "StoreWindows", "Stored", "copies_in", "objects_in"]

_WINDOW: Final = 4 << 20
_WINDOWS: Final = 24
"""Bytes fetched at once, and how many such pieces are kept: what lies side by side is fetched once."""
_LIST_SECONDS: Final = 600.0
_GET_SECONDS: Final = 300.0


class Lying(Protocol):
    """One object, or one copy of it: its `key`, the name behind that, and its `size` in bytes."""

    key: str
    name: ObjectName
    size: int

    def read(self, off: int, length: int) -> bytes:
        """At most `length` bytes from `off`; fewer where it ends or is gone. Raises StoreError, LocalDisk."""


class StoreWindows:
    """Reads a store in large pieces, the last ones of which are kept."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._kept: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._retries = Retries(chance())

    def get(self, key: str, off: int, length: int) -> bytes:
        """Exactly this range, as far as it is there; not kept."""
        try:
            return self._retries.run(lambda call: self.store.get(key, call, off, length), Call.within(_GET_SECONDS))
        except NotFound:
            return b""

    def read(self, key: str, off: int, length: int) -> bytes:
        """The same through the pieces."""
        first, last = off // _WINDOW, (off + length - 1) // _WINDOW
        joined = b"".join(self._window(key, number) for number in range(first, last + 1))
        return joined[off - first * _WINDOW :][:length]

    def _window(self, key: str, number: int) -> bytes:
        at = key, number
        if at not in self._kept:
            self._kept[at] = self.get(key, number * _WINDOW, _WINDOW)
            if len(self._kept) > _WINDOWS:
                self._kept.popitem(last=False)
        self._kept.move_to_end(at)
        return self._kept[at]


class Stored:
    """An object in the store."""

    __slots__ = ("_windows", "key", "name", "size")

    def __init__(self, windows: StoreWindows, key: str, name: ObjectName, size: int) -> None:
        self._windows = windows
        self.key, self.name, self.size = key, name, size

    def read(self, off: int, length: int) -> bytes:
        """See Lying."""
        return self._windows.read(self.key, off, length) if length > 0 else b""


class Copied:
    """A copy on this disk."""

    __slots__ = ("_path", "key", "name", "size")

    def __init__(self, path: Path, key: str, name: ObjectName, size: int) -> None:
        self._path = path
        self.key, self.name, self.size = key, name, size

    def read(self, off: int, length: int) -> bytes:
        """See Lying."""
        with local_disk("reading a copy"):
            try:
                with self._path.open("rb") as file:
                    file.seek(off)
                    return file.read(length)
            except FileNotFoundError:
                return b""  # evicted meanwhile


def objects_in(windows: StoreWindows) -> Iterator[Stored]:
    """Every object of ours in a store. Raises StoreError."""
    for stat in windows.store.list("", Call.within(_LIST_SECONDS)):
        name = parse_name(stat.key)
        if name is not None:
            yield Stored(windows, stat.key, name, stat.size)


def copies_in(directory: Path, prefix: str, suffix: str = "") -> Iterator[Copied]:
    """The files of a directory that are named like objects: `prefix` in place of the folder, and `suffix` behind."""
    with local_disk("looking for copies"):
        paths = sorted(directory.iterdir()) if directory.is_dir() else []
    for path in paths:
        key = prefix + path.name.removesuffix(suffix)
        name = parse_name(key)
        if name is not None and path.name.endswith(suffix):
            with local_disk("looking for copies"):
                yield Copied(path, key, name, path.stat().st_size)
