"""A store in a directory: a local disk, a network mount, or a folder that another tool synchronises.

An object is a file, written under a temporary name, made durable, then linked to its own (docs/format.md, "Objects"),
so that a reader sees it whole or not at all. Whatever does not bear the name of an object is somebody else's and
ignored: temporary files, conflict copies of other tools, what people leave lying about.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from cryptfs.errors import Exists, NotFound, Retry
from cryptfs.faults import Faults
from cryptfs.store._copying import BytesSource, FileSource, Source, read_range
from cryptfs.store._folders import Folders, folder_names, is_there, mode_of, open_object, temporary_name
from cryptfs.store._os_errors import mapped
from cryptfs.store.base import Buffer, Call, Cap, Changes, Space, Stat, is_folder, is_key, split_key
from cryptfs.store.listing_feed import ListingFeed
from cryptfs.store.watching import FolderWatch

__all__ = ["DirectoryStore"]

_NOTICED: Final = ("c", "j", "l", "m", "w")  # folders of which `changes` tells; packs are named by segments
_BATCH: Final = 1024  # names looked at between two looks at the clock
_NO_LINKS: Final = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})  # vfat, some FUSE and network


class DirectoryStore:
    """Keeps objects as files below `path`, which must exist: making it is left to who founds a vault.

    Files and folders get the permissions of that directory, so a directory open to a group stays so all the way down.
    """

    def __init__(self, path: Path, faults: Faults | None = None) -> None:
        self._path = path
        self._faults = faults or Faults()
        self._folders = Folders(path, self._faults)
        self._links = True  # until the file system turns out to have no hard links
        self._feed = ListingFeed(self._noticed)
        self._watch = FolderWatch(path, _NOTICED)

    @property
    def caps(self) -> frozenset[Cap]:
        """See Store. IF_ABSENT needs hard links."""
        caps = frozenset({Cap.ATOMIC_PUT, Cap.STRONG_LIST})
        return caps | {Cap.IF_ABSENT} if self._links else caps

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
        with self._opened(folder, call, "store.get") as at, open_object(at, name) as fd:
            if fd is None:
                raise NotFound(f"no object {key} in {self._path}")
            left = max(0, os.fstat(fd).st_size - start)
            return read_range(fd, start, left if length is None else min(length, left), call)

    def stat(self, key: str, call: Call) -> Stat | None:
        """See Store."""
        folder, name = split_key(key)
        with self._opened(folder, call, "store.stat") as at:
            return _stat(at, folder, name)

    def delete(self, key: str, call: Call) -> None:
        """See Store. Durable on return: who collects forgets what it has deleted."""
        folder, name = split_key(key)
        with self._opened(folder, call, "store.delete") as at:
            if at is None:
                return
            if _stat(at, folder, name) is not None:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=at)
            # Also when it was gone: an attempt before this one may have failed right here.
            self._faults.step("store.delete.sync")
            os.fsync(at)

    def list(self, prefix: str, call: Call, after: str = "") -> Iterator[Stat]:
        """See Store."""
        folder, slash, _ = prefix.partition("/")
        if slash:
            parts: Sequence[str] = [f"{folder}/"] if is_folder(folder) else []
        else:
            parts = [part for part in self._parts(call) if part.startswith(prefix)]
        for part in parts:
            yield from self._list_part(part, prefix, after, call)

    def changes(self, cursor: str, call: Call) -> Changes:
        """See Store."""
        return self._feed.since(cursor, call)

    def wait_for_change(self, call: Call) -> bool:
        """Sleep until `changes` may have something to tell (True) or the time of the call is up (False).

        One thread at a time. On a network mount only this machine's doings are noticed: wait half a minute, then look.
        """
        return self._watch.wait(call)

    def space(self, call: Call) -> Space | None:
        """See Store."""
        with self._opened("", call, "store.space") as at:
            if at is None:
                return None
            status = os.fstatvfs(at)
        return Space(status.f_blocks * status.f_frsize, status.f_bavail * status.f_frsize)

    def close(self) -> None:
        """See Store."""
        self._watch.close()

    @contextlib.contextmanager
    def _opened(self, folder: str, call: Call, step: str) -> Iterator[int | None]:
        """A folder open for looking, with everything that can go wrong inside turned into errors of the store."""
        call.check()
        with mapped(str(self._path)), self._folders.reading(folder) as at:
            self._faults.step(step)
            yield at

    # ---- placing an object ---------------------------------------------------------------------------------------

    def _place(self, key: str, source: Source, call: Call) -> Stat:
        """Make `key` an object of these bytes, whole and durable, or leave nothing but a temporary file."""
        folder, name = split_key(key)
        call.check()
        with mapped(str(self._path)), self._folders.writing(folder) as at:
            placed = self._holds(at, key, name, source, call) or self._write(at, name, source, call)
            # The name was taken meanwhile: by equal bytes, by others (Exists), or by something that is no object.
            if not placed and not self._holds(at, key, name, source, call) and is_there(at, name):
                raise Exists(f"{self._path / key} is not a file")
            self._faults.step("store.put.sync-folder")
            os.fsync(at)
            found = _stat(at, folder, name)
        if found is None:
            raise Retry(f"{key} was removed from {self._path} while it was written")
        return found

    def _holds(self, at: int, key: str, name: str, source: Source, call: Call) -> bool:
        """Whether the object lies there already, durable. `Exists` if another does."""
        with open_object(at, name) as fd:
            if fd is None:
                return False
            if not source.equals(fd, call):
                raise Exists(f"another object lies under {key} in {self._path}")
            # An attempt cut short, or another tool, may have left it in memory only.
            self._faults.step("store.put.sync-found")
            os.fsync(fd)
            return True

    def _write(self, at: int, name: str, source: Source, call: Call) -> bool:
        """Write a new file and give it its name. Returns whether the name was free."""
        temporary = temporary_name()
        mode = mode_of(at) & 0o666 | 0o600
        with contextlib.ExitStack() as stack:
            self._faults.step("store.put.create")
            fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode, dir_fd=at)
            stack.callback(self._discard, at, temporary)
            stack.callback(os.close, fd)
            with contextlib.suppress(PermissionError):  # some file systems know no modes
                os.fchmod(fd, mode)
            self._faults.step("store.put.write")
            source.write_to(fd, call)
            self._faults.step("store.put.sync")
            # After a failure nothing is known about this file: it is thrown away, the next attempt writes a new one.
            os.fsync(fd)
            self._faults.step("store.put.link")
            return self._give_name(at, temporary, name)

    def _give_name(self, at: int, temporary: str, name: str) -> bool:
        """Returns whether the name was free."""
        if self._links:
            try:
                os.link(temporary, name, src_dir_fd=at, dst_dir_fd=at, follow_symlinks=False)
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
            else:
                return True
        # Of two racers the later wins here. Harmless: no two honest devices ever write different bytes under one key.
        if is_there(at, name):
            return False
        os.rename(temporary, name, src_dir_fd=at, dst_dir_fd=at)
        self._links = False
        return True

    def _discard(self, at: int, temporary: str) -> None:
        with contextlib.suppress(OSError):  # what stays is swept away another day
            self._faults.step("store.put.discard")
            os.unlink(temporary, dir_fd=at)

    # ---- listing -------------------------------------------------------------------------------------------------

    def _parts(self, call: Call) -> Sequence[str]:
        """The objects at the top, and each folder with a slash, in the order of keys."""
        with self._opened("", call, "store.list") as root:
            if root is None:
                return []
            names = os.listdir(root)  # noqa: PTH208 - pathlib takes no descriptors
            return sorted([*filter(is_key, names), *(f"{name}/" for name in folder_names(root))])

    def _list_part(self, part: str, prefix: str, after: str, call: Call) -> Iterator[Stat]:
        folder, slash, _ = part.partition("/")
        if slash:
            with self._opened(folder, call, "store.list") as at:
                names = [] if at is None else os.listdir(at)  # noqa: PTH208 - pathlib takes no descriptors
        else:
            folder, part, names = "", "", [part]
        wanted = sorted(name for name in names if _is_wanted(part + name, prefix, after))
        for first in range(0, len(wanted), _BATCH):
            with self._opened(folder, call, "store.list.stat") as at:
                found = [_stat(at, folder, name) for name in wanted[first : first + _BATCH]]
            yield from filter(None, found)

    def _noticed(self, call: Call) -> Iterator[Stat]:
        """What `changes` tells of: everything but packs."""
        for part in self._parts(call):
            if not part.endswith("/") or part[:-1] in _NOTICED:
                yield from self._list_part(part, part, "", call)


def _is_wanted(key: str, prefix: str, after: str) -> bool:
    return key.startswith(prefix) and key > after and is_key(key)


def _stat(at: int | None, folder: str, name: str) -> Stat | None:
    """What a folder (None: not there) holds under a name; anything but a file is not there either."""
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
