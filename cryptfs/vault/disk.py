"""The border to this machine's disk: the operating system's errors become ours, with advice."""

import errno
import os
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final

from cryptfs.errors import LocalDisk, LocalDiskFull

__all__ = ["Space", "in_words", "local_disk", "space_of", "sync_directory"]

_RESERVE_MIN: Final = 4 << 20
_RESERVE_MAX: Final = 64 << 20
"""Bounds in bytes."""
_UNIT: Final = 1024


@dataclass(frozen=True, slots=True)
class Space:
    """Bytes: all there are, and those that still can be written."""

    total: int
    free: int

    @property
    def reserve(self) -> int:
        """What is left free on a local disk, so that what was accepted already still fits."""
        return max(_RESERVE_MIN, min(_RESERVE_MAX, self.total // 50))


class local_disk:  # noqa: N801  # used as a function; a generator would cost each cached read 1 µs more
    """Map OSError inside the block to LocalDiskFull (ENOSPC, EDQUOT) or LocalDisk. `doing` names no user data."""

    __slots__ = ("_doing",)

    def __init__(self, doing: str) -> None:
        self._doing = doing

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not isinstance(err, OSError):
            return
        reason = os.strerror(err.errno) if err.errno else "unknown error"
        if err.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise LocalDiskFull(f"The local disk is full ({self._doing}).") from err
        raise LocalDisk(f"The local disk failed while {self._doing}: {reason}.") from err


def space_of(directory: Path) -> Space:
    """The space of the file system that holds `directory`. Raises LocalDisk."""
    with local_disk("asking for its space"):
        status = os.statvfs(directory)
    return Space(status.f_blocks * status.f_frsize, status.f_bavail * status.f_frsize)


def in_words(count: int) -> str:
    """So many bytes, for people: `692 bytes`, `9.6 MiB`."""
    if count < _UNIT:
        return f"{count} bytes"
    amount = float(count)
    for unit in ("KiB", "MiB", "GiB"):
        amount /= _UNIT
        if amount < _UNIT:
            return f"{amount:.1f} {unit}"
    return f"{amount / _UNIT:.1f} TiB"


def sync_directory(directory: Path) -> None:
    """Make names created or removed in `directory` durable. Raises OSError."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
