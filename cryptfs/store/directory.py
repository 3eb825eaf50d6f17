"""A store in a directory: a local disk, a network mount, or a folder that another tool synchronises.

An object is a file, written under a temporary name, made durable, then linked to its own (docs/format.md, "Objects,
names, folders", rule 5), so that a reader sees it whole or not at all. Whatever does not bear the name of an object is
somebody else's and ignored. The directory is not trusted: links and devices in place of objects are never followed.
"""

import contextlib
import errno
import os
import re
import stat
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from cryptfs.errors import Exists, Fatal, NotFound, StoreGone
from cryptfs.faults import Faults
from cryptfs.store._copying import BytesSource, FileSource, Source, read_range
from cryptfs.store._os_errors import mapped
from cryptfs.store.base import Buffer, Call, Cap, Changes, Space, Stat, is_folder, is_key, split_key
from cryptfs.store.listing_feed import ListingFeed
from cryptfs.store.watching import FolderWatch

__all__ = ["DirectoryStore"]

_TEMPORARY: Final = re.compile(r"\.tmp-[0-9a-f]{32}")
_NOTICED: Final = ("c", "j", "l", "m", "w")  # folders of which `changes` tells; packs are named by segments
_STALE_S: Final = 86_400  # no upload of ours takes a day without a new temporary name
_BATCH: Final = 1024  # names looked at between two looks at the clock
_NO_LINKS: Final = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})  # vfat, some FUSE and network
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_OBJECT: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a planted FIFO must not hold us


class DirectoryStore:
    """Keeps objects as files below `path`, which must exist: making it is left to who founds a vault.

    Files and folders get the permissions of that directory, so a directory open to a group stays so all the way down.
    """

    def __init__(self, path: Path, faults: Faults | None = None) -> None:
        self._path = path
        self._faults = faults or Faults()
        self._identity: tuple[int, int] | None = None  # device and inode of the directory when last seen
        self._links = True
        self._settled: set[str] = set()  # folders whose entry in the directory is known to be durable
        self._swept = False
        self._lock = threading.Lock()  # guards _swept
        self._feed = ListingFeed(self._noticed)
        self._watch = FolderWatch(path, _NOTICED)

    @property
    def caps(self) -> frozenset[Cap]:
        """See Store. IF_ABSENT goes when the file system turns out to have no hard links."""
        caps = {Cap.ATOMIC_PUT, Cap.STRONG_LIST}
        return frozenset(caps | {Cap.IF_ABSENT} if self._links else caps)

    def put(self, key: str, data: Buffer, call: Call, *, if_absent: bool = False) -> Stat:  # noqa: ARG002 - always sure
        """See Store."""
        return self._place(key, BytesSource(data), call)

    def put_file(self, key: str, path: Path, call: Call, *, if_absent: bool = False) -> Stat:  # noqa: ARG002 - as put
        """See Store."""
        with FileSource(path) as source:
            return self._place(key, source, call)

    def get(self, key: str, call: Call, start: int = 0, length: int | None = None) -> bytes:
        """See Store."""
        folder, name = split_key(key)
        if start < 0 or (length is not None and length < 0):
            raise ValueError("a range cannot be negative")
        call.check()
        with mapped(str(self._path)), self._folder(folder) as at, self._object(at, name) as fd:
            self._faults.step("store.get")
            if fd is None:
                raise NotFound(f"no object {key} in {self._path}")
            left = max(0, os.fstat(fd).st_size - start)
            return read_range(fd, start, left if length is None else min(length, left), call)

    def stat(self, key: str, call: Call) -> Stat | None:
        """See Store."""
        folder, name = split_key(key)
        call.check()
        with mapped(str(self._path)), self._folder(folder) as at:
            self._faults.step("store.stat")
            return self._stat(at, folder, name)

    def delete(self, key: str, call: Call) -> None:
        """See Store. Durable on return: who collects forgets what it has deleted."""
        folder, name = split_key(key)
        call.check()
        with mapped(str(self._path)), self._folder(folder) as at:
            self._faults.step("store.delete")
            if at is None or self._stat(at, folder, name) is None:
                return
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=at)
            self._faults.step("store.delete.sync")
            os.fsync(at)

    def list(self, prefix: str, call: Call, after: str = "") -> Iterator[Stat]:
        """See Store."""
        folder, slash, _ = prefix.partition("/")
        for part in [folder + slash] if slash else self._parts(call):
            yield from self._list_part(part, prefix, after, call)

    def changes(self, cursor: str, call: Call) -> Changes:
        """See Store."""
        return self._feed.since(cursor, call)

    def space(self, call: Call) -> Space | None:
        """See Store."""
        call.check()
        with mapped(str(self._path)), self._folder("") as at:
            self._faults.step("store.space")
            if at is None:
                return None
            status = os.fstatvfs(at)
        return Space(status.f_blocks * status.f_frsize, status.f_bavail * status.f_frsize)

    def wait_for_change(self, call: Call) -> bool:
        """Sleep until `changes` may have something to tell (True) or the time of the call is up (False).

        One thread at a time. On a network mount only this machine's doings are noticed: wait half a minute, then look.
        """
        return self._watch.wait(call)

    def close(self) -> None:
        """See Store."""
        self._watch.close()

    # ---- placing an object ---------------------------------------------------------------------------------------

    def _place(self, key: str, source: Source, call: Call) -> Stat:
        """Make `key` an object of these bytes, whole and durable, or leave nothing but a temporary file."""
        folder, name = split_key(key)
        call.check()
        with mapped(str(self._path)), contextlib.ExitStack() as stack:
            at = stack.enter_context(self._folder_for_writing(folder))
            if not self._holds(at, key, name, source, call) and not self._write(at, name, source, call):
                self._holds(at, key, name, source, call)  # lost a race: to equal bytes, or Exists is raised
            self._faults.step("store.put.sync-folder")
            os.fsync(at)
            placed = self._stat(at, folder, name)
        if placed is None:
            raise NotFound(f"{key} was removed from {self._path} while it was written")
        return placed

    def _holds(self, at: int, key: str, name: str, source: Source, call: Call) -> bool:
        """Whether the object lies there already, durable. `Exists` if the name holds anything else."""
        with self._object(at, name) as fd:
            if fd is None:
                if _is_there(at, name):
                    raise Exists(f"{self._path / key} is not a file")
                return False
            if not source.equals(fd, call):
                raise Exists(f"another object lies under {key} in {self._path}")
            # An attempt cut short, or another tool, may have left it in memory only.
            self._faults.step("store.put.sync-found")
            os.fsync(fd)
            return True

    def _write(self, at: int, name: str, source: Source, call: Call) -> bool:
        """Write a new file and give it its name. Returns whether the name was free."""
        temporary = f".tmp-{os.urandom(16).hex()}"
        mode = self._mode(at) & 0o666
        with contextlib.ExitStack() as stack:
            self._faults.step("store.put.create")
            fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode | 0o600, dir_fd=at)
            stack.callback(self._discard, at, temporary)
            stack.callback(os.close, fd)
            with contextlib.suppress(PermissionError, NotImplementedError):
                os.fchmod(fd, mode | 0o600)
            self._faults.step("store.put.write")
            source.write_to(fd, call)
            self._faults.step("store.put.sync")
            # After a failure nothing is known about this file: it is thrown away, and written anew by the next attempt.
            os.fsync(fd)
            self._faults.step("store.put.link")
            return self._give_name(at, temporary, name)

    def _give_name(self, at: int, temporary: str, name: str) -> bool:
        if self._links:
            try:
                os.link(temporary, name, src_dir_fd=at, dst_dir_fd=at, follow_symlinks=False)
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                self._links = False
            else:
                return True
        # Of two racers the later wins here. Harmless: no two honest devices ever write different bytes under one key.
        if _is_there(at, name):
            return False
        os.rename(temporary, name, src_dir_fd=at, dst_dir_fd=at)
        return True

    def _discard(self, at: int, temporary: str) -> None:
        with contextlib.suppress(OSError):  # the sweep of a later day takes what stays
            self._faults.step("store.put.discard")
            os.unlink(temporary, dir_fd=at)

    def _sweep(self, root: int) -> None:
        """Once: remove temporary files of this user that a crash left behind. Best effort."""
        with self._lock:
            if self._swept:
                return
            self._swept = True
        oldest = time.time() - _STALE_S
        with contextlib.suppress(OSError):
            for folder in ["", *(part.rstrip("/") for part in _folders(root))]:
                with _opened(folder or ".", _DIRECTORY | os.O_NOFOLLOW, root) as at:
                    for name in filter(_TEMPORARY.fullmatch, os.listdir(at)):  # noqa: PTH208 - pathlib takes no descriptors
                        status = os.stat(name, dir_fd=at, follow_symlinks=False)
                        if status.st_mtime < oldest and status.st_uid == os.geteuid():
                            os.unlink(name, dir_fd=at)

    # ---- looking into folders ------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _root(self) -> Iterator[int]:
        """The open directory. `StoreGone` while it is away, or while its mount point stands empty in its place."""
        try:
            fd = os.open(self._path, _DIRECTORY)
        except FileNotFoundError as error:
            raise StoreGone(f"the folder {self._path} is not there") from error
        except NotADirectoryError as error:
            raise Fatal(f"{self._path} is not a folder", "Name a folder.") from error
        try:
            status = os.fstat(fd)
            identity = (status.st_dev, status.st_ino)
            if self._identity not in (None, identity) and not _is_there(fd, "genesis"):
                raise StoreGone(f"the folder {self._path} is not the one it was; is its disk mounted?")
            self._identity = identity
            yield fd
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def _folder(self, folder: str) -> Iterator[int | None]:
        """An open folder, None if it is not there (yet)."""
        with self._root() as root:
            if not folder:
                yield root
                return
            try:
                opened = os.open(folder, _DIRECTORY | os.O_NOFOLLOW, dir_fd=root)
            except FileNotFoundError:
                yield None
                return
            try:
                yield opened
            finally:
                os.close(opened)

    @contextlib.contextmanager
    def _folder_for_writing(self, folder: str) -> Iterator[int]:
        """An open folder, made when missing, whose own entry is durable."""
        with self._root() as root:
            self._sweep(root)
            if not folder:
                yield root
                return
            try:
                fd = os.open(folder, _DIRECTORY | os.O_NOFOLLOW, dir_fd=root)
            except FileNotFoundError:
                self._faults.step("store.put.make-folder")
                mode = self._mode(root)
                with contextlib.suppress(FileExistsError):
                    os.mkdir(folder, mode, dir_fd=root)
                fd = os.open(folder, _DIRECTORY | os.O_NOFOLLOW, dir_fd=root)
                self._settled.discard(folder)
                with contextlib.suppress(PermissionError, NotImplementedError):
                    os.fchmod(fd, mode)
            try:
                if folder not in self._settled:
                    # Whoever made it may have died before its entry reached the disk, with all our objects in it.
                    self._faults.step("store.put.sync-root")
                    os.fsync(root)
                    self._settled.add(folder)
                yield fd
            finally:
                os.close(fd)

    @contextlib.contextmanager
    def _object(self, at: int | None, name: str) -> Iterator[int | None]:
        """The open file of an object, None if there is none; links, devices and folders are none."""
        fd = None
        if at is not None:
            try:
                fd = os.open(name, _OBJECT, dir_fd=at)
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ELOOP, errno.ENXIO):
                    raise
        try:
            yield fd if fd is not None and stat.S_ISREG(os.fstat(fd).st_mode) else None
        finally:
            if fd is not None:
                os.close(fd)

    def _stat(self, at: int | None, folder: str, name: str) -> Stat | None:
        if at is None:
            return None
        try:
            status = os.stat(name, dir_fd=at, follow_symlinks=False)
        except FileNotFoundError:
            return None
        if not stat.S_ISREG(status.st_mode):
            return None
        key = f"{folder}/{name}" if folder else name
        return Stat(key, status.st_size, status.st_mtime_ns // 1_000_000, f"{status.st_ino:x}")

    @staticmethod
    def _mode(at: int) -> int:
        """Permission bits of a directory, and its habit of handing down its group."""
        return os.fstat(at).st_mode & (stat.S_ISGID | 0o777)

    def _parts(self, call: Call) -> Sequence[str]:
        """The top as an empty string, each folder with a slash, in the order of their keys."""
        call.check()
        with mapped(str(self._path)), self._folder("") as root:
            self._faults.step("store.list")
            return ["", *_folders(root)] if root is not None else []

    def _list_part(self, part: str, prefix: str, after: str, call: Call) -> Iterator[Stat]:
        names = self._names(part, prefix, after, call)
        for first in range(0, len(names), _BATCH):
            yield from self._stats(part.rstrip("/"), names[first : first + _BATCH], call)

    def _names(self, part: str, prefix: str, after: str, call: Call) -> Sequence[str]:
        """Names in one part that are keys with this prefix beyond `after`, sorted."""
        call.check()
        with mapped(str(self._path)), self._folder(part.rstrip("/")) as at:
            self._faults.step("store.list")
            names = [] if at is None else os.listdir(at)  # noqa: PTH208 - pathlib takes no descriptors
        return sorted(name for name in names if (key := part + name).startswith(prefix) and key > after and is_key(key))

    def _stats(self, folder: str, names: Sequence[str], call: Call) -> Sequence[Stat]:
        call.check()
        with mapped(str(self._path)), self._folder(folder) as at:
            found = [self._stat(at, folder, name) for name in names]
        return [status for status in found if status is not None]

    def _noticed(self, call: Call) -> Iterator[Stat]:
        """What `changes` tells: everything but packs."""
        for part in self._parts(call):
            if part.rstrip("/") in ("", *_NOTICED):
                yield from self._list_part(part, part, "", call)


def _is_there(at: int, name: str) -> bool:
    """Whether the name is taken, by whatever."""
    try:
        os.stat(name, dir_fd=at, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _folders(root: int) -> list[str]:
    """Names of our folders, each with a slash, sorted as keys are."""
    with os.scandir(root) as entries:
        return sorted(f"{e.name}/" for e in entries if is_folder(e.name) and e.is_dir(follow_symlinks=False))


@contextlib.contextmanager
def _opened(name: str, flags: int, at: int) -> Iterator[int]:
    fd = os.open(name, flags, dir_fd=at)
    try:
        yield fd
    finally:
        os.close(fd)
