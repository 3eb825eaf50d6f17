"""The border to this machine's disk: the operating system's errors become ours, with advice."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptfs.errors import LocalDisk, LocalDiskFull

__all__ = ["Space", "local_disk", "space_of", "sync_directory"]


@dataclass(frozen=True, slots=True)
class Space:
    """Bytes: all there are, and those that still can be written."""

    total: int
    free: int


@contextmanager
def local_disk(doing: str) -> Iterator[None]:
    """Map OSError inside the block to LocalDiskFull (ENOSPC, EDQUOT) or LocalDisk. `doing` names no user data."""
    try:
        yield
    except OSError as err:
        reason = os.strerror(err.errno) if err.errno else "unknown error"
        if err.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise LocalDiskFull(f"The local disk is full ({doing}).") from err
        raise LocalDisk(f"The local disk failed while {doing}: {reason}.") from err


def space_of(directory: Path) -> Space:
    """The space of the file system that holds `directory`. Raises LocalDisk."""
    with local_disk("asking for its space"):
        status = os.statvfs(directory)
    return Space(status.f_blocks * status.f_frsize, status.f_bavail * status.f_frsize)


def sync_directory(directory: Path) -> None:
    """Make names created or removed in `directory` durable. Raises OSError."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
