"""New files in a directory of this machine, under paths that others chose.

Paths come from whoever wrote into the vault. So each name is taken apart, nothing leads upwards or through a link, and
what is there already is never opened: the new file gets another name.
"""

import os
import stat
from collections.abc import Iterator
from typing import BinaryIO, Final

from cryptfs.errors import LocalDisk
from cryptfs.format.limits import NAME_MAX
from cryptfs.tree.conflict_name import marked_name

__all__ = ["Outside", "tame"]

_DEPTH_MAX: Final = 64
"""Directories deep; what lies deeper comes to lie in the last one of them."""
_TRIES: Final = 10_000
"""Names of one stem."""
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def tame(path: bytes) -> list[bytes]:
    """The names in a path that may be used: none empty, none that leads elsewhere, none too long; perhaps none."""
    names = [name.replace(b"\0", b"") for name in path.split(b"/")]
    names = [
        marked_name(name, b"") if len(name) > NAME_MAX else name for name in names if name not in {b"", b".", b".."}
    ]
    return [*names[:_DEPTH_MAX], *names[-1:]] if len(names) > _DEPTH_MAX + 1 else names


class Outside:
    """Makes files below `top`, which is there. Raises OSError, and LocalDisk where there is no name left."""

    def __init__(self, top: os.PathLike[str]) -> None:
        self._top = os.open(top, _DIRECTORY & ~os.O_NOFOLLOW)
        self._following: dict[bytes, int] = {}
        """The number to try next, by path."""

    def close(self) -> None:
        """No more files."""
        os.close(self._top)

    def create(self, names: list[bytes]) -> tuple[BinaryIO, bytes]:
        """A new file for writing, and its path as it came to be; at least one name, as `tame` gives them."""
        at, path = os.dup(self._top), b""
        try:
            for name in names[:-1]:
                below, found = self._enter(at, name)
                os.close(at)
                at, path = below, path + found + b"/"
            made, path = self._make(at, path, names[-1])
            return os.fdopen(made, "wb"), path
        finally:
            os.close(at)

    def rename(self, path: bytes, names: list[bytes]) -> bytes:
        """Give a file that `create` made another name, as free as that one was; returns its path."""
        place, found = self.create(names)  # what is renamed over is empty, and our own
        place.close()
        os.rename(path, found, src_dir_fd=self._top, dst_dir_fd=self._top)
        return found

    def _enter(self, at: int, name: bytes) -> tuple[int, bytes]:
        """The directory of that name, made if need be; another one if the name is something else."""
        for tried in _numbered(name, 1):
            try:
                os.mkdir(tried, 0o700, dir_fd=at)
            except FileExistsError:
                if not stat.S_ISDIR(os.stat(tried, dir_fd=at, follow_symlinks=False).st_mode):
                    continue
            return os.open(tried, _DIRECTORY, dir_fd=at), tried
        raise LocalDisk("Too many files want one name.")

    def _make(self, at: int, path: bytes, name: bytes) -> tuple[int, bytes]:
        first = self._following.get(path + name, 1)
        for number, tried in enumerate(_numbered(name, first), first):
            try:
                made = os.open(tried, _NEW, 0o600, dir_fd=at)
            except FileExistsError:
                continue
            self._following[path + name] = number + 1
            return made, path + tried
        raise LocalDisk("Too many files want one name.")


def _numbered(name: bytes, first: int) -> Iterator[bytes]:
    """The name, from number 2 on with it."""
    for number in range(first, first + _TRIES):
        yield name if number == 1 else marked_name(name, b" %d" % number)
