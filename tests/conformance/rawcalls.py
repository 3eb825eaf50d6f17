"""The Linux system calls that Python does not offer, with their errno as OSError, and acting as another user."""

import contextlib
import ctypes
import errno
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Self

__all__ = [
    "AT_EMPTY_PATH",
    "EXCHANGE",
    "NOREPLACE",
    "WHITEOUT",
    "Dirent",
    "RawDir",
    "as_user",
    "fails_with",
    "fallocate",
    "getxattr_into",
    "listxattr_into",
    "open_handle",
    "path_handle",
    "renameat2",
    "syncfs",
    "utimens",
]  # fmt: skip

NOREPLACE, EXCHANGE, WHITEOUT = 1, 2, 4
AT_EMPTY_PATH = 0x1000
AT_FDCWD, AT_SYMLINK_NOFOLLOW = -100, 0x100
_HANDLE_ROOM = 128

_libc = ctypes.CDLL(None, use_errno=True)
for _name in ("opendir", "readdir"):
    getattr(_libc, _name).restype = ctypes.c_void_p
_libc.telldir.restype = ctypes.c_long
_libc.getxattr.restype = _libc.listxattr.restype = ctypes.c_ssize_t


def _checked(result: int, what: str = "") -> int:
    if result == -1:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), what)
    return result


def renameat2(old: Path | bytes, new: Path | bytes, flags: int) -> None:
    """rename with flags (renameat2(2))."""
    _checked(_libc.renameat2(AT_FDCWD, os.fsencode(old), AT_FDCWD, os.fsencode(new), ctypes.c_uint(flags)))


def fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    """fallocate(2) itself, without the C library's emulation."""
    _checked(_libc.fallocate(fd, mode, ctypes.c_int64(offset), ctypes.c_int64(length)))


def syncfs(fd: int) -> None:
    """syncfs(2)."""
    _checked(_libc.syncfs(fd))


def utimens(path: Path, atime: tuple[int, int], mtime: tuple[int, int], *, follow: bool = True) -> None:
    """utimensat(2) with raw (seconds, nanoseconds): nanoseconds may be UTIME_NOW or UTIME_OMIT."""
    times = struct.pack("qqqq", *atime, *mtime)
    _checked(_libc.utimensat(AT_FDCWD, os.fsencode(path), times, 0 if follow else AT_SYMLINK_NOFOLLOW))


def getxattr_into(path: Path, name: bytes, size: int) -> bytes:
    """getxattr(2) with a buffer of exactly `size` bytes; 0 asks for the length, which comes back as that many bytes."""
    room = ctypes.create_string_buffer(max(size, 1))
    got = _checked(_libc.getxattr(os.fsencode(path), name, room, ctypes.c_size_t(size)))
    return bytes(got) if size == 0 else room.raw[:got]


def listxattr_into(path: Path, size: int) -> bytes:
    """listxattr(2), as `getxattr_into`."""
    room = ctypes.create_string_buffer(max(size, 1))
    got = _checked(_libc.listxattr(os.fsencode(path), room, ctypes.c_size_t(size)))
    return bytes(got) if size == 0 else room.raw[:got]


def path_handle(path: Path) -> bytes:
    """name_to_handle_at(2): the whole `struct file_handle`."""
    room = ctypes.create_string_buffer(struct.pack("Ii", _HANDLE_ROOM, 0), 8 + _HANDLE_ROOM)
    mount_id = ctypes.c_int()
    _checked(_libc.name_to_handle_at(AT_FDCWD, os.fsencode(path), room, ctypes.byref(mount_id), 0))
    return room.raw[: 8 + struct.unpack_from("I", room.raw)[0]]


def open_handle(mount_fd: int, handle: bytes, flags: int = os.O_RDONLY) -> int:
    """open_by_handle_at(2)."""
    return _checked(_libc.open_by_handle_at(mount_fd, handle, flags))


class Dirent(NamedTuple):
    """One entry as readdir(3) gave it; `tell` is the position after it."""

    name: bytes
    ino: int
    kind: int
    tell: int


class RawDir:
    """An open directory stream with its positions."""

    def __init__(self, path: Path) -> None:
        self._stream = ctypes.c_void_p(_libc.opendir(os.fsencode(path)))
        if not self._stream.value:
            _checked(-1, str(path))

    def read(self) -> Dirent | None:
        """The next entry, None at the end."""
        ctypes.set_errno(0)
        entry = _libc.readdir(self._stream)
        if not entry:
            if ctypes.get_errno():
                _checked(-1)
            return None
        ino, tell, _, kind = struct.unpack("QqHB", ctypes.string_at(entry, 19))
        return Dirent(ctypes.string_at(entry + 19), ino, kind, tell)

    def rest(self) -> list[Dirent]:
        """All entries from here."""
        return list(iter(self.read, None))

    def tell(self) -> int:
        return int(_libc.telldir(self._stream))

    def seek(self, position: int) -> None:
        _libc.seekdir(self._stream, ctypes.c_long(position))

    def rewind(self) -> None:
        _libc.rewinddir(self._stream)

    def close(self) -> None:
        _libc.closedir(self._stream)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextlib.contextmanager
def as_user(uid: int, gid: int | None = None, groups: tuple[int, ...] = ()) -> Iterator[None]:
    """Make system calls as another user, without capabilities. The calling process must be root."""
    before = os.getgroups()
    os.setgroups(list(groups))
    os.setegid(uid if gid is None else gid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(before)


@contextlib.contextmanager
def fails_with(*codes: int) -> Iterator[None]:
    """The block must fail with one of these errno values."""
    names = "/".join(errno.errorcode[code] for code in codes)
    failure = None
    try:
        yield
    except OSError as err:
        failure = err
    if failure is None:
        raise AssertionError(f"expected {names}, but it succeeded")
    if failure.errno not in codes:
        raise AssertionError(f"expected {names}, got {errno.errorcode.get(failure.errno or 0)}") from failure
