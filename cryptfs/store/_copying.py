"""Moving bytes into and comparing them with an open file, in pieces between which a call can be given up."""

import errno
import os
import stat
from pathlib import Path
from typing import Final, Protocol, Self

from cryptfs.errors import LocalDisk
from cryptfs.store.base import Buffer, Call

__all__ = ["BytesSource", "FileSource", "Source", "read_range"]

# Big enough that the calls cost nothing, small enough that a slow disk answers an abort within a second.
PIECE: Final = 8 << 20

# copy_file_range refuses some pairs of files; sendfile then reads through the page cache.
_NO_RANGE_COPY: Final = frozenset({errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF})


class Source(Protocol):
    """Bytes on their way into a store."""

    size: int

    def write_to(self, fd: int, call: Call) -> None:
        """Write everything to the empty file `fd`. OSError of that file; `LocalDisk` when the source fails."""

    def equals(self, fd: int, call: Call) -> bool:
        """Whether the open file `fd` holds exactly these bytes."""


def read_range(fd: int, start: int, length: int, call: Call) -> bytes:
    """`length` bytes of a file from `start`; fewer where it ends."""
    pieces = []
    while length > 0:
        call.check()
        piece = os.pread(fd, min(length, PIECE), start)
        if not piece:
            break
        pieces.append(piece)
        start += len(piece)
        length -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


class BytesSource:
    """An object in memory."""

    def __init__(self, data: Buffer) -> None:
        self._view = memoryview(data).cast("B")
        self.size = len(self._view)

    def write_to(self, fd: int, call: Call) -> None:
        """See Source."""
        at = 0
        while at < self.size:
            call.check()
            at += os.write(fd, self._view[at : at + PIECE])

    def equals(self, fd: int, call: Call) -> bool:
        """See Source."""
        if os.fstat(fd).st_size != self.size:
            return False
        for at in range(0, self.size, PIECE):
            want = self._view[at : at + PIECE]
            if read_range(fd, at, len(want), call) != want:
                return False
        return True


class FileSource:
    """An object in a local file, which must not change while it is read. Use as a context manager.

    Copies inside the kernel: on file systems that share blocks (btrfs, XFS) copy_file_range moves no data at all.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1
        self.size = 0

    def __enter__(self) -> Self:
        try:
            self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise LocalDisk(f"{self._path}: {error.strerror}") from error
        status = os.fstat(self._fd)
        if not stat.S_ISREG(status.st_mode):
            os.close(self._fd)
            raise LocalDisk(f"{self._path}: not a regular file")
        self.size = status.st_size
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    @property
    def fd(self) -> int:
        """The open file, for reading alone."""
        return self._fd

    def write_to(self, fd: int, call: Call) -> None:
        """See Source."""
        at = 0
        in_ranges = True
        while at < self.size:
            call.check()
            piece = min(PIECE, self.size - at)
            if in_ranges:
                moved = self._copy_range(fd, at, piece)
                in_ranges = moved > 0
                at += moved
                continue
            os.lseek(fd, at, os.SEEK_SET)
            moved = os.sendfile(fd, self._fd, at, piece)
            if moved == 0:
                raise LocalDisk(f"{self._path}: became shorter while it was sent")
            at += moved
        if os.fstat(self._fd).st_size != self.size:
            raise LocalDisk(f"{self._path}: changed while it was sent")

    def _copy_range(self, fd: int, at: int, piece: int) -> int:
        """Bytes moved; 0 where this pair of files, or a file system that claims the end too early, cannot."""
        try:
            return os.copy_file_range(self._fd, fd, piece, at, at)
        except OSError as error:
            if error.errno in _NO_RANGE_COPY:
                return 0
            raise

    def equals(self, fd: int, call: Call) -> bool:
        """See Source."""
        if os.fstat(fd).st_size != self.size:
            return False
        for at in range(0, self.size, PIECE):
            try:
                mine = read_range(self._fd, at, PIECE, call)
            except OSError as error:
                raise LocalDisk(f"{self._path}: {error.strerror}") from error
            if read_range(fd, at, PIECE, call) != mine:
                return False
        return True
