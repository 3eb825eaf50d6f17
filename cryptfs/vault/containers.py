"""Containers: the packs and segment bodies that hold sealed records, as far as they lie on this machine.

A record is written once, sealed, into the local pack being filled; that file is write-ahead data, upload body and read
cache in one. A `Container` object stays the same while it goes through its states, so whoever holds a `Ref` need not
know:

    filling ──close──▶ closed ──upload──▶ confirmed (in the cache, may be evicted) ◀──fetch── remote

Dead records are left out when a pack is closed. What lived in the old file then has a new place; `Ref`s follow the
`moved` table of the old container.
"""

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from cryptfs.crypto.seal import sealed_len
from cryptfs.errors import LocalDisk
from cryptfs.vault.disk import local_disk, sync_directory
from cryptfs.vault.journal import Record
from cryptfs.vault.sparse import SparseCopy

__all__ = ["PACK_HEADER_LEN", "Container", "Holder", "OpenPack", "Ref", "Written"]

PACK_HEADER_LEN: Final = 48
"""Bytes of a pack header without its key set; records begin after header and key set."""

_TAIL: Final = 256 << 10
"""Bytes that a pack being filled gathers in memory before it writes them to its file."""


class Ref(NamedTuple):
    """Where one sealed chunk lies: `off` in bytes into the container; `hash` is the SHA-256 of the record."""

    container: "Container"
    off: int
    fkv: int
    hash: bytes


class Holder(Protocol):
    """Whoever has chunks in a pack: tells whether a record is still wanted, and what the index says of it."""

    @property
    def fid(self) -> bytes:
        """Id of the key lineage of its content."""

    def wants(self, index: int, ref: Ref) -> bool:
        """Whether chunk `index` still is this record, in what is to be sealed or is open."""


class Written(NamedTuple):
    """One record of a pack being filled: chunk `chunk` of `holder`, `length` bytes sealed, `plain_len` opened."""

    holder: Holder
    chunk: int
    ref: Ref
    length: int
    plain_len: int


class Container:
    """One container. `num` is its local number (-1: never was local), `where` and `id` its final name (b"" before)."""

    __slots__ = (
        "_fd", "id", "last_used", "moved", "named", "num", "path", "relocated", "size", "sparse", "verified", "where",
    )  # fmt: skip

    def __init__(self, num: int, where: int = 0, id_: bytes = b"", path: Path | None = None, size: int = 0) -> None:
        self.num = num
        self.where = where
        self.id = id_
        self.path = path
        """The whole object (packs) or body2 (segments) on this disk; None: only in the store, or here in part."""
        self.sparse: SparseCopy | None = None
        """The parts of it that are here while the whole is not."""
        self.size = size
        self.moved: dict[int, tuple[Container, int]] = {}
        self.relocated: Callable[[int], tuple[Container, int] | None] | None = None
        """Where its holder says that the record at an offset was copied; None while nothing was (`tree/places.py`)."""
        self.verified = False
        """All of it was written here, or compared with its digest: records need no check of their own."""
        self.named = True
        """A segment names this pack already."""
        self.last_used = 0
        self._fd = -1

    @property
    def place(self) -> tuple[int, bytes]:
        """Its final name, for the tree."""
        return self.where, self.id

    def read(self, off: int, length: int) -> bytes | memoryview | None:
        """The record at `off`; None if it is not on this disk. Raises LocalDisk."""
        fd = self._fd
        if fd < 0:
            if self.path is None:
                return self.sparse.read(off, length) if self.sparse is not None else None
            with local_disk("opening a cached pack"):
                try:
                    fd = self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
                except FileNotFoundError:
                    self.path = None  # somebody cleaned the cache: it comes from the store again
                    return None
        with local_disk("reading a cached pack"):
            data = os.pread(fd, length, off)
        return data if len(data) == length else None

    def close_file(self) -> None:
        """Give the descriptor back; the next read opens it again."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def drop_file(self, *, keep_readable: bool = False) -> None:
        """Remove the file. `keep_readable`: files open in programs may still read it until this object is gone."""
        if self.path is not None:
            if keep_readable and self._fd < 0:
                with local_disk("opening a pack"):
                    self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            with local_disk("removing a pack"):
                self.path.unlink(missing_ok=True)
            self.path = None
        if self.sparse is not None:
            self.sparse.remove()
            if not keep_readable:
                self.sparse = None
        if not keep_readable:
            self.close_file()

    def __del__(self) -> None:
        self.close_file()


@dataclass(slots=True)
class _Durable:
    """What of a pack is durable: bytes below `journaled` in the journal, below `synced` in the file, and its name."""

    journaled: int = 0
    synced: int = 0
    synced_name: bool = False


class OpenPack(Container):
    """The pack being filled. Appending happens on the trio thread only; `flush_and_sync` in one worker thread."""

    __slots__ = ("_doubtful", "_durable", "_fill", "_tail", "_tail_start", "ks", "live", "records")

    def __init__(self, num: int, ks: bytes, path: Path, *, recovered: bool = False) -> None:
        """`recovered`: a file that an earlier run left. Nothing is appended; records come by `adopt_record`."""
        super().__init__(num, path=path)
        self.ks = ks
        self.records: list[Written] = []
        self.verified = not recovered
        self.named = False
        self.live = not recovered
        """Still being filled; later the buffer is gone."""
        if recovered:
            self.size = path.stat().st_size
            self._set_buffer(bytearray(), self.size)
            return
        self.size = PACK_HEADER_LEN + len(ks)
        self._set_buffer(bytearray(_TAIL), self.size)
        with local_disk("making a pack"):
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)

    def _set_buffer(self, tail: bytearray, start: int) -> None:
        self._tail = tail
        self._tail_start = start  # offset in the file of the first byte of the tail
        self._fill = 0  # bytes used in the tail
        self._durable = _Durable(start, start)
        self._doubtful = False

    def adopt_record(self, holder: Holder, index: int, ref: Ref, plain_len: int) -> None:
        """Count a record of an earlier run as one of this pack's."""
        self.records.append(Written(holder, index, ref, sealed_len(plain_len), plain_len))

    def reserve(self, length: int) -> memoryview:
        """Room for a record of `length` bytes, to be filled at once and counted with `take`. Raises LocalDisk(Full)."""
        if self._fill + length > len(self._tail):
            self.flush()
            if length > len(self._tail):
                self._tail = bytearray(length)
        return memoryview(self._tail)[self._fill : self._fill + length]

    def take(self, length: int) -> int:
        """Count the reserved bytes as written. Returns the offset of the record."""
        off = self.size
        self._fill += length
        self.size += length
        return off

    def flush(self) -> None:
        """Write what is in memory to the file (into the operating system's cache). Raises LocalDisk, LocalDiskFull."""
        if self._fill:
            with local_disk("writing a pack"):
                _write_all(self._fd, memoryview(self._tail)[: self._fill], self._tail_start)
            self._tail_start += self._fill
            self._fill = 0

    def finish_filling(self) -> None:
        """Flush, and give the memory back: nothing is appended any more."""
        self.flush()
        self.live = False
        self._tail = bytearray()

    def read(self, off: int, length: int) -> bytes | memoryview | None:
        """As `Container.read`, from memory where the record has not left it."""
        at = off - self._tail_start
        if self.live and at >= 0:
            return bytes(memoryview(self._tail)[at : at + length]) if at + length <= self._fill else None
        return super().read(off, length)

    # ---- durability ---------------------------------------------------------------------------------------------

    def undurable(self) -> int:
        """Bytes that neither the file nor the journal holds durably."""
        return self.size - max(self._durable.journaled, self._durable.synced)

    def unsynced(self) -> int:
        """Bytes that the file does not hold durably."""
        return self.size - self._durable.synced

    def riding_record(self) -> Record | None:
        """The undurable bytes, for the journal. The caller marks them with `mark_journaled` once they are durable."""
        start = max(self._durable.journaled, self._durable.synced)
        if start == self.size:
            return None
        data = self._bytes_from(start)
        return Record(self.num, start, data)

    def mark_journaled(self, upto: int) -> None:
        self._durable.journaled = max(self._durable.journaled, upto)

    def mark_synced(self, upto: int) -> None:
        self._durable.synced = max(self._durable.synced, upto)

    def sync_file(self, upto: int) -> None:
        """Make the file durable up to `upto`, which was flushed before. In a worker thread; raises OSError.

        After a failed flush the kernel may call the next one a success although pages are gone: the bytes are then
        written once more, to a new file that takes the place of the old one.
        """
        if upto <= self._durable.synced or self._fd < 0:
            return
        try:
            if self._doubtful:
                self._write_anew()
            os.fdatasync(self._fd)
            if not self._durable.synced_name and self.path is not None:
                sync_directory(self.path.parent)
                self._durable.synced_name = True
        except OSError:
            self._doubtful = True
            raise
        self._doubtful = False

    def _write_anew(self) -> None:
        if self.path is None:
            raise OSError(errno.ENOENT, "a pack file is gone")
        size = os.fstat(self._fd).st_size
        temporary = self.path.with_suffix(".again")
        fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            done = 0
            while done < size:
                piece = os.pread(self._fd, 1 << 20, done)
                _write_all(fd, memoryview(piece), done)
                done += len(piece)
            os.fsync(fd)
            temporary.rename(self.path)
            os.dup2(fd, self._fd, inheritable=False)  # whoever reads or appends goes on with the new file
        finally:
            os.close(fd)

    def _bytes_from(self, start: int) -> bytes:
        parts = []
        if start < self._tail_start:
            data = os.pread(self._fd, self._tail_start - start, start)
            if len(data) != self._tail_start - start:
                raise LocalDisk("a pack file is shorter than what was written to it")
            parts.append(data)
        at = max(0, start - self._tail_start)
        parts.append(bytes(memoryview(self._tail)[at : self._fill]))
        return b"".join(parts)


def _write_all(fd: int, data: memoryview, off: int) -> None:
    done = 0
    while done < len(data):
        done += os.pwrite(fd, data[done:], off + done)
