"""A vault's files for the commands that work with or without a mount: one interface, two ways behind it.

While the vault is mounted its journal belongs to the mount process, so the mount point is the way in. Otherwise the
command opens the vault itself and calls the same file system the mount would serve.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from cryptfs.cli.output import NoInput
from cryptfs.errors import FsError, NotAllowed
from cryptfs.mount.attributes import Attributes
from cryptfs.mount.changing import Change
from cryptfs.mount.filesystem import FileSystem

__all__ = ["DirectTree", "Item", "MountedTree", "Tree", "split_path"]

_PIECE: Final = 1 << 20
"""Bytes moved at a time: enough for the store's ranged gets, little enough for a phone's memory."""

_ROOT: Final = 1

Sink = Callable[[bytes | memoryview], object]
Source = Callable[[int], bytes]
"""Gives at most that many bytes, none at the end."""


class Item(NamedTuple):
    """One file, directory or link. `mode` with the type bits, `size` in bytes, `mtime_ns` since 1970."""

    name: bytes
    mode: int
    nlink: int
    uid: int
    gid: int
    size: int
    mtime_ns: int

    @property
    def is_dir(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.mode)

    @property
    def is_link(self) -> bool:
        return stat.S_ISLNK(self.mode)


class Tree(Protocol):
    """Paths are bytes from the root of the vault. Every method raises NoInput with the path in its text."""

    async def stat(self, path: bytes) -> Item:
        """What lies at `path`; a link is not followed."""

    async def list(self, path: bytes) -> list[Item]:
        """Entries of a directory by name, without `.` and `..`."""

    async def readlink(self, path: bytes) -> bytes:
        """Target of a link."""

    async def read(self, path: bytes, sink: Sink) -> None:
        """Give all bytes of a file to `sink`, in pieces."""

    async def write(self, path: bytes, source: Source, mode: int, mtime_ns: int) -> None:
        """Make or replace the contents of a file. `mode` counts for a new file only."""

    async def mkdir(self, path: bytes, mode: int) -> None:
        """Make a directory; one that is there already is fine."""

    async def symlink(self, path: bytes, target: bytes) -> None:
        """Make a link."""


def split_path(path: bytes) -> list[bytes]:
    """Names on the way from the root. `.` and repeated slashes say nothing; raises NoInput for `..`."""
    names = [name for name in path.split(b"/") if name not in {b"", b"."}]
    if b".." in names:
        raise NoInput(f"{os.fsdecode(path)}: paths in a vault start at its root; '..' leads nowhere")
    return names


class MountedTree:
    """The files below a mount point."""

    def __init__(self, point: Path) -> None:
        self._point = os.fsencode(point)

    async def stat(self, path: bytes) -> Item:
        found = os.lstat(self._at(path))
        return self._item(path.rstrip(b"/").rpartition(b"/")[2], found)

    async def list(self, path: bytes) -> list[Item]:
        with os.scandir(self._at(path)) as entries:
            items = [self._item(entry.name, entry.stat(follow_symlinks=False)) for entry in entries]
        return sorted(items)

    async def readlink(self, path: bytes) -> bytes:
        return os.readlink(self._at(path))

    async def read(self, path: bytes, sink: Sink) -> None:
        descriptor = os.open(self._at(path), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb", buffering=0) as stream:
            while piece := stream.read(_PIECE):
                sink(piece)

    async def write(self, path: bytes, source: Source, mode: int, mtime_ns: int) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self._at(path), flags, stat.S_IMODE(mode))
        with os.fdopen(descriptor, "wb", buffering=0) as stream:
            while piece := source(_PIECE):
                stream.write(piece)
            os.utime(stream.fileno(), ns=(mtime_ns, mtime_ns))
            os.fsync(stream.fileno())

    async def mkdir(self, path: bytes, mode: int) -> None:
        try:
            os.mkdir(self._at(path), stat.S_IMODE(mode))
        except FileExistsError:
            if not (await self.stat(path)).is_dir:
                raise

    async def symlink(self, path: bytes, target: bytes) -> None:
        os.symlink(target, self._at(path))

    def _at(self, path: bytes) -> bytes:
        return b"/".join([self._point, *split_path(path)])

    @staticmethod
    def _item(name: bytes, found: os.stat_result) -> Item:
        return Item(name, found.st_mode, found.st_nlink, found.st_uid, found.st_gid, found.st_size, found.st_mtime_ns)


class _Caller(NamedTuple):
    """Whoever runs the command."""

    uid: int
    gid: int


class DirectTree:
    """The files of a vault that this very process has open. Links are never followed."""

    def __init__(self, files: FileSystem) -> None:
        self._fs = files
        self._caller = _Caller(os.getuid(), os.getgid())

    async def stat(self, path: bytes) -> Item:
        with _naming(path):
            return self._item((split_path(path) or [b"/"])[-1], self._find(path))

    async def list(self, path: bytes) -> list[Item]:
        with _naming(path):
            directory = self._find(path, stat.S_ISDIR)
            entries = self._fs.vault.replica.entries(directory.st)
            return [self._item(name, self._fs.getattr(st)) for name, st, _kind in entries]

    async def readlink(self, path: bytes) -> bytes:
        with _naming(path):
            return self._fs.readlink(self._find(path).st)

    async def read(self, path: bytes, sink: Sink) -> None:
        with _naming(path):
            found = self._find(path, stat.S_ISREG)
            opened = self._fs.files.open(found.st, os.O_RDONLY)
            try:
                offset = 0
                while piece := await self._fs.files.read(opened.fh, offset, _PIECE):
                    sink(piece)
                    offset += len(piece)
            finally:
                await self._fs.files.release(opened.fh)

    async def write(self, path: bytes, source: Source, mode: int, mtime_ns: int) -> None:
        with _naming(path):
            parent, name = self._parent(path)
            files = self._fs.files
            there = self._fs.names.lookup(parent, name)
            if there is None:
                opened, there = files.create(parent, name, stat.S_IMODE(mode), os.O_WRONLY, self._caller)
            elif not stat.S_ISREG(there.mode):
                raise FsError(errno.EISDIR if stat.S_ISDIR(there.mode) else errno.EEXIST)
            else:
                opened = await files.open_truncated(there.st, os.O_WRONLY, self._caller)
            try:
                offset = 0
                while piece := source(_PIECE):
                    offset += await files.write(opened.fh, offset, piece)
                await files.flush(opened.fh)
                await self._fs.setattr(there.st, Change(mtime_ns=mtime_ns))
            finally:
                await files.release(opened.fh)

    async def mkdir(self, path: bytes, mode: int) -> None:
        with _naming(path):
            parent, name = self._parent(path)
            there = self._fs.names.lookup(parent, name)
            if there is None:
                self._fs.names.mkdir(parent, name, stat.S_IMODE(mode), self._caller)
            elif not stat.S_ISDIR(there.mode):
                raise FsError(errno.EEXIST)

    async def symlink(self, path: bytes, target: bytes) -> None:
        with _naming(path):
            parent, name = self._parent(path)
            self._fs.names.symlink(parent, name, target, self._caller)

    def inode(self, path: bytes) -> int:
        """The inode number behind `path`."""
        with _naming(path):
            return self._find(path).st

    def _find(self, path: bytes, kind: Callable[[int], bool] | None = None) -> Attributes:
        """What lies at `path`, of the `kind` asked for. Raises FsError."""
        found = self._fs.getattr(_ROOT)
        for name in split_path(path):
            if not stat.S_ISDIR(found.mode):
                raise FsError(errno.ENOTDIR)
            step = self._fs.names.lookup(found.st, name)
            if step is None:
                raise FsError(errno.ENOENT)
            found = step
        if kind is not None and not kind(found.mode):
            raise FsError(errno.EISDIR if stat.S_ISDIR(found.mode) else errno.ENOTDIR)
        return found

    def _parent(self, path: bytes) -> tuple[int, bytes]:
        names = split_path(path)
        if not names:
            raise FsError(errno.EISDIR)
        return self._find(b"/".join(names[:-1]), stat.S_ISDIR).st, names[-1]

    @staticmethod
    def _item(name: bytes, found: Attributes) -> Item:
        return Item(name, found.mode, found.nlink, found.uid, found.gid, found.size, found.mtime_ns)


@contextlib.contextmanager
def _naming(path: bytes) -> Iterator[None]:
    """What the tree answers in error numbers, the person hears in words and with the path."""
    try:
        yield
    except FsError as err:
        raise _PathRefused(path, err) from err


class _PathRefused(NoInput):
    """A path the tree refuses; the number behind it decides the exit code."""

    def __init__(self, path: bytes, err: FsError) -> None:
        super().__init__(f"{os.fsdecode(path) or '/'}: {os.strerror(err.errno)}")
        if err.errno in {errno.EROFS, errno.EACCES, errno.EPERM}:
            self.exit_code = NotAllowed.exit_code  # type: ignore[misc]  # belongs to this refusal
            self.advice = "This vault can only be read here."
