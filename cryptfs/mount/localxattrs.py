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
    """Keeps them in named values of the replica, spread over 256 of these so that a change rewrites little."""

    _BUCKETS = 256

    def __init__(self, meta: MetaLike) -> None:
        self._meta = meta
        self._buckets: list[dict[int, dict[bytes, bytes]]] = [{} for _ in range(self._BUCKETS)]

    def load(self) -> Iterable[tuple[int, dict[bytes, bytes]]]:
        """Everything kept."""
        for number in range(self._BUCKETS):
            value = self._meta.meta_get(_bucket_name(number))
            if value:
                self._buckets[number] = msgspec.msgpack.decode(value, type=dict[int, dict[bytes, bytes]])
        return [item for bucket in self._buckets for item in bucket.items()]

    def save(self, st: int, attributes: dict[bytes, bytes]) -> None:
        """Keep these for `st`; an empty dictionary removes the record."""
        number = st % self._BUCKETS
        bucket = self._buckets[number]
        if attributes:
            bucket[st] = attributes
        else:
            bucket.pop(st, None)
        self._meta.meta_set(_bucket_name(number), msgspec.msgpack.encode(bucket))


def _bucket_name(number: int) -> str:
    return f"local_xattrs/{number:02x}"


class LocalXattrs:
    """All of them in memory: the kernel asks for `security.capability` before every write."""

    __slots__ = ("_all", "_names", "_store")

    def __init__(self, store: LocalXattrStore | None) -> None:
        self._store = store
        self._all = dict(store.load()) if store is not None else {}
        self._names = {name for attributes in self._all.values() for name in attributes}

    def ever(self, key: bytes) -> bool:
        """Whether any inode has had one of that name since the mount began."""
        return key in self._names

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
        self._names.add(key)
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
