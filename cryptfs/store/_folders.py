"""Opening the folders and files of a directory store without trusting what lies there.

Everything is opened relative to an open folder and never through a link, so that nobody who may write to the directory
can lead us out of it or make us wait on a FIFO.
"""

import contextlib
import errno
import os
import re
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from cryptfs.crypto.keys import random_bytes
from cryptfs.errors import Fatal, StoreGone
from cryptfs.faults import Faults
from cryptfs.store.base import is_folder

__all__ = ["Folders", "folder_names", "is_there", "mode_of", "open_object", "temporary_name"]

_TEMPORARY: Final = re.compile(r"\.tmp-[0-9a-f]{32}")
_STALE_S: Final = 86_400  # no upload of ours takes a day without a new temporary name
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FOLDER: Final = _DIRECTORY | os.O_NOFOLLOW
_OBJECT: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Folders:
    """Opens the directory `path` and the folders in it. Thread-safe. Raises OSError, and the errors named below."""

    def __init__(self, path: Path, faults: Faults) -> None:
        self._path = path
        self._faults = faults
        self._identity: tuple[int, int] | None = None  # device and inode of the directory when last seen
        self._settled: set[str] = set()  # folders whose entry in the directory is known to be durable
        self._swept = False
        self._lock = threading.Lock()  # guards _swept

    @contextlib.contextmanager
    def root(self) -> Iterator[int]:
        """The directory. `StoreGone` while it is away or its mount point stands empty in its place, `Fatal`."""
        try:
            fd = os.open(self._path, _DIRECTORY)
        except FileNotFoundError as error:
            raise StoreGone(f"the folder {self._path} is not there") from error
        except NotADirectoryError as error:
            raise Fatal(f"{self._path} is not a folder", "Name a folder, or move away what bears its name.") from error
        with _closing(fd):
            status = os.fstat(fd)
            identity = (status.st_dev, status.st_ino)
            if self._identity not in (None, identity) and not is_there(fd, "genesis"):
                raise StoreGone(f"the folder {self._path} is not the one it was; is its disk mounted?")
            self._identity = identity
            yield fd

    @contextlib.contextmanager
    def reading(self, folder: str) -> Iterator[int | None]:
        """A folder, "" for the directory itself; None if it is not there (yet)."""
        with self.root() as root:
            if not folder:
                yield root
                return
            try:
                fd = os.open(folder, _FOLDER, dir_fd=root)
            except FileNotFoundError:
                yield None
                return
            with _closing(fd):
                yield fd

    @contextlib.contextmanager
    def writing(self, folder: str) -> Iterator[int]:
        """A folder, made when missing, whose own entry is durable."""
        with self.root() as root:
            self._sweep(root)
            if not folder:
                yield root
                return
            try:
                fd = os.open(folder, _FOLDER, dir_fd=root)
            except FileNotFoundError:
                fd = self._make(root, folder)
            with _closing(fd):
                if folder not in self._settled:
                    # Whoever made it may have died before its entry reached the disk, with all our objects in it.
                    self._faults.step("store.put.sync-root")
                    os.fsync(root)
                    self._settled.add(folder)
                yield fd

    def _make(self, root: int, folder: str) -> int:
        self._faults.step("store.put.make-folder")
        self._settled.discard(folder)
        mode = mode_of(root)
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, mode, dir_fd=root)
        fd = os.open(folder, _FOLDER, dir_fd=root)
        with contextlib.suppress(PermissionError):  # some file systems know no modes; another member's folder is his
            os.fchmod(fd, mode)
        return fd

    def _sweep(self, root: int) -> None:
        """Once: remove the temporary files that crashes of this user left behind. Best effort."""
        with self._lock:
            if self._swept:
                return
            self._swept = True
        oldest = time.time() - _STALE_S
        with contextlib.suppress(OSError):
            for folder in ("", *folder_names(root)):
                with _closing(os.open(folder or ".", _FOLDER, dir_fd=root)) as at:
                    for name in filter(_TEMPORARY.fullmatch, os.listdir(at)):  # noqa: PTH208 - pathlib takes no fd
                        status = os.stat(name, dir_fd=at, follow_symlinks=False)
                        if status.st_mtime < oldest and status.st_uid == os.geteuid():
                            os.unlink(name, dir_fd=at)


def temporary_name() -> str:
    """A name nobody else uses and every reader ignores."""
    return f".tmp-{random_bytes(16).hex()}"


@contextlib.contextmanager
def open_object(at: int | None, name: str) -> Iterator[int | None]:
    """The file of an object in a folder, None if there is none; links, devices, FIFOs and folders are none."""
    if at is None:
        yield None
        return
    try:
        fd = os.open(name, _OBJECT, dir_fd=at)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ELOOP, errno.ENXIO):  # missing, a link, a socket
            raise
        yield None
        return
    with _closing(fd):
        yield fd if stat.S_ISREG(os.fstat(fd).st_mode) else None


def is_there(at: int, name: str) -> bool:
    """Whether the name is taken, by whatever."""
    try:
        os.stat(name, dir_fd=at, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def folder_names(root: int) -> list[str]:
    """Those of our folders that are there."""
    with os.scandir(root) as entries:
        return [entry.name for entry in entries if is_folder(entry.name) and entry.is_dir(follow_symlinks=False)]


def mode_of(at: int) -> int:
    """Permission bits of an open folder, and its habit of handing down its group."""
    return os.fstat(at).st_mode & (stat.S_ISGID | 0o777)


@contextlib.contextmanager
def _closing(fd: int) -> Iterator[int]:
    try:
        yield fd
    finally:
        os.close(fd)
