"""Extended attributes that never leave this device: `security.*` and `trusted.*`.

A file capability that came over the network would be an attack, and labels of one machine mean nothing on another.
"""

from collections.abc import Iterable
from typing import Protocol

import msgspec

__all__ = ["LocalXattrStore", "LocalXattrs", "MetaXattrs"]


class LocalXattrStore(Protocol):
    """Where they are kept, one record an inode; disposable like the replica beside which it lies."""

    def load(self) -> Iterable[tuple[int, dict[bytes, bytes]]]: ...
    def save(self, st: int, attributes: dict[bytes, bytes]) -> None: ...


class MetaLike(Protocol):
    """The replica's table of named values."""

    def meta_get(self, key: str) -> bytes | None: ...
    def meta_set(self, key: str, value: bytes) -> None: ...


class MetaXattrs:
    """Keeps all of them in one named value of the replica: few files carry any."""

    _KEY = "local_xattrs"

    def __init__(self, meta: MetaLike) -> None:
        self._meta = meta
        self._all: dict[int, dict[bytes, bytes]] = {}

    def load(self) -> Iterable[tuple[int, dict[bytes, bytes]]]:
        """Everything kept."""
        value = self._meta.meta_get(self._KEY)
        if value:
            self._all = msgspec.msgpack.decode(value, type=dict[int, dict[bytes, bytes]])
        return list(self._all.items())

    def save(self, st: int, attributes: dict[bytes, bytes]) -> None:
        """Keep these for `st`; an empty dictionary removes the record."""
        if attributes:
            self._all[st] = attributes
        else:
            self._all.pop(st, None)
        self._meta.meta_set(self._KEY, msgspec.msgpack.encode(self._all))


class LocalXattrs:
    """All of them in memory: the kernel asks for `security.capability` before every write."""

    __slots__ = ("_all", "_store")

    def __init__(self, store: LocalXattrStore | None) -> None:
        self._store = store
        self._all = dict(store.load()) if store is not None else {}

    def get(self, st: int, key: bytes) -> bytes | None:
        """The value, None if there is none."""
        attributes = self._all.get(st)
        return None if attributes is None else attributes.get(key)

    def keys(self, st: int) -> list[bytes]:
        """Names of all, in order of creation."""
        return list(self._all.get(st, ()))

    def set(self, st: int, key: bytes, value: bytes) -> None:
        """Set one."""
        attributes = self._all.setdefault(st, {})
        attributes[key] = value
        self._save(st, attributes)

    def remove(self, st: int, key: bytes) -> bool:
        """Remove one; False if there was none."""
        attributes = self._all.get(st)
        if attributes is None or attributes.pop(key, None) is None:
            return False
        self._save(st, attributes)
        return True

    def drop(self, st: int) -> None:
        """The inode is gone."""
        if self._all.pop(st, None) is not None and self._store is not None:
            self._store.save(st, {})

    def _save(self, st: int, attributes: dict[bytes, bytes]) -> None:
        if not attributes:
            del self._all[st]
        if self._store is not None:
            self._store.save(st, attributes)
