"""A pack of which some ranges are on this disk: a file with holes where the others would be.

Nothing keeps a record of which ranges are there but the file itself: after a start they are what the file system says
is no hole. That may be more than was ever written whole, after a crash, or on a file system that knows no holes. It
does no harm: every record that is read here is compared with the hash signed for it, and what fails is fetched again.
"""

import errno
import hashlib
import os
from pathlib import Path
from typing import Final

from cryptfs.vault.disk import local_disk
from cryptfs.vault.extents import Extents

__all__ = ["SparseCopy"]

_NO_MORE_DATA: Final = errno.ENXIO
_PIECE: Final = 1 << 20


class SparseCopy:
    """One such file. `present`: the ranges that are there, as far as is known; `fresh`: all of them came in this run.

    `complete_wrong`: all of it is here and is not what its name says, so it is not compared as a whole again.
    """

    __slots__ = ("_fd", "complete_wrong", "fresh", "path", "present")

    def __init__(self, path: Path, *, fresh: bool = False) -> None:
        """`fresh`: there is no file yet, or none that counts."""
        self.path = path
        self.complete_wrong = False
        self.present = Extents()
        self.fresh = fresh
        self._fd = -1

    def open(self) -> None:
        """Open the file if it is not, and see what is in it. Raises LocalDisk."""
        if self._fd >= 0:
            return
        with local_disk("opening a cached pack"):
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | (os.O_TRUNC if self.fresh else 0)
            self._fd = os.open(self.path, flags, 0o600)
            self.present = _data_of(self._fd)

    def read(self, off: int, length: int) -> bytes | None:
        """These bytes if they seem to be here; None else. Raises LocalDisk."""
        self.open()
        if not self.present.covers(off, off + length):
            return None
        with local_disk("reading a cached pack"):
            data = os.pread(self._fd, length, off)
        if len(data) != length:  # somebody cut the file
            self.present.remove(off, off + length)
            return None
        return data

    def write(self, off: int, data: bytes | memoryview) -> None:
        """Put bytes there; the caller counts them as present afterwards. It is open. In a thread; raises OSError."""
        view, done = memoryview(data), 0
        while done < len(view):
            done += os.pwrite(self._fd, view[done:], off + done)

    def digest(self) -> bytes:
        """SHA-256 of the whole file, which is open. In a thread; raises OSError."""
        digest, at = hashlib.sha256(), 0
        while piece := os.pread(self._fd, _PIECE, at):
            digest.update(piece)
            at += len(piece)
        return digest.digest()

    def remove(self) -> None:
        """Remove the file; whoever reads on from this object still may, until it is gone."""
        with local_disk("removing a pack"):
            self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Give the descriptor back. Nothing may be called afterwards."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __del__(self) -> None:
        self.close()


def _data_of(fd: int) -> Extents:
    found, at, size = Extents(), 0, os.fstat(fd).st_size
    while at < size:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as err:
            if err.errno != _NO_MORE_DATA:
                raise
            break
        at = os.lseek(fd, start, os.SEEK_HOLE)
        found.add(start, at)
    return found
