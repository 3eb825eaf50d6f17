"""The bytes of one upload: read again wherever the store is in them, and known by their sums.

A file is read with `pread`, not mapped: a mapped file that somebody shortens ends the process.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol

from cryptfs.errors import LocalDisk
from cryptfs.store._copying import FileSource, read_range
from cryptfs.store.base import Buffer, Call
from cryptfs.store.drive.idmap import Sums

__all__ = ["BytesSource", "Source", "opened_file"]

_PIECE: Final = 1 << 20


class Source(Protocol):
    """What can be uploaded."""

    @property
    def sums(self) -> Sums:
        """Size and hashes of all of it."""

    def read(self, begin: int, length: int) -> bytes:
        """At most `length` bytes from `begin`. Raises LocalDisk."""


class BytesSource:
    """Bytes in memory."""

    def __init__(self, data: Buffer) -> None:
        self._data = bytes(data)
        md5 = hashlib.md5(self._data, usedforsecurity=False)
        self.sums = Sums(len(self._data), md5.hexdigest(), hashlib.sha256(self._data).hexdigest())

    def read(self, begin: int, length: int) -> bytes:
        """See Source."""
        return self._data[begin : begin + length]


class _OpenFile:
    """A local file that must not change while it is sent: what arrives is compared with `sums`."""

    def __init__(self, path: Path, descriptor: int, size: int, call: Call) -> None:
        self._path = path
        self._descriptor = descriptor
        self._size = size
        self.sums = self._hashed(call)

    def _hashed(self, call: Call) -> Sums:
        md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
        for at in range(0, self._size, _PIECE):
            call.check()
            piece = self.read(at, _PIECE)
            md5.update(piece)
            sha256.update(piece)
        return Sums(self._size, md5.hexdigest(), sha256.hexdigest())

    def read(self, begin: int, length: int) -> bytes:
        """See Source."""
        wanted = max(0, min(length, self._size - begin))
        try:
            data = read_range(self._descriptor, begin, wanted, Call())
        except OSError as error:
            raise LocalDisk(f"{self._path}: {error.strerror}") from error
        if len(data) != wanted:
            raise LocalDisk(f"{self._path}: became shorter while it was sent")
        return data


@contextmanager
def opened_file(path: Path, call: Call) -> Iterator[Source]:
    """The file `path`, open and hashed. Raises LocalDisk, Retry when late."""
    with FileSource(path) as file:
        yield _OpenFile(path, file.fd, file.size, call)
