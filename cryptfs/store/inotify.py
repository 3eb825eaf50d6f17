"""Being told by the kernel that names in folders came, went or were written: inotify(7) without a dependency.

The kernel tells of what happens on this machine only: on a network mount the doings of others stay unseen, so whoever
waits here still has to look for himself now and then.
"""

import ctypes
import errno
import os
import select
import struct
from pathlib import Path
from typing import Final, NamedTuple

from cryptfs.store.base import Abort, Call

__all__ = ["Inotify", "Seen"]

_CREATE: Final = 0x100
_DELETE: Final = 0x200
_MOVED_FROM: Final = 0x40
_MOVED_TO: Final = 0x80
_CLOSE_WRITE: Final = 0x8
_OVERFLOW: Final = 0x4000
_IGNORED: Final = 0x8000
_ONLYDIR: Final = 0x0100_0000
_MASK: Final = _CREATE | _DELETE | _MOVED_FROM | _MOVED_TO | _CLOSE_WRITE | _ONLYDIR

_EVENT: Final = struct.Struct("iIII")  # watch, mask, cookie, length of the name that follows
_BUFFER: Final = 64 << 10
_LONGEST_MS: Final = 3_600_000  # poll(2) counts milliseconds in 32 bits


class Seen(NamedTuple):
    """Something happened to `name` in `folder`. Both empty: the kernel lost count, anything may have happened."""

    folder: str
    name: str


class Inotify:
    """Watches folders. One thread at a time; OSError where the kernel has no inotify (left)."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd: int = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise _last_error()
        self._folders: dict[int, str] = {}

    def watch(self, path: Path, folder: str) -> bool:
        """Watch the directory `path`, spoken of as `folder`. Returns whether it was not watched before; OSError."""
        number: int = self._libc.inotify_add_watch(self._fd, os.fsencode(path), _MASK)
        if number < 0:
            raise _last_error()
        fresh = self._folders.get(number) != folder
        self._folders[number] = folder
        return fresh

    def wait(self, call: Call) -> list[Seen]:
        """What happened since the last time; waits for something until the deadline. Empty when late or aborted."""
        wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        try:
            with (call.abort or Abort()).waking(lambda: os.eventfd_write(wake, 1)):
                poll = select.poll()
                poll.register(self._fd, select.POLLIN)
                poll.register(wake, select.POLLIN)
                poll.poll(min(call.remaining() * 1000, _LONGEST_MS))
        finally:
            os.close(wake)
        return self._drain()

    def close(self) -> None:
        """Stop watching."""
        os.close(self._fd)

    def _drain(self) -> list[Seen]:
        seen: list[Seen] = []
        while True:
            try:
                data = os.read(self._fd, _BUFFER)
            except BlockingIOError:
                return seen
            at = 0
            while at < len(data):
                number, mask, _, length = _EVENT.unpack_from(data, at)
                at += _EVENT.size
                name = os.fsdecode(data[at : at + length].rstrip(b"\0"))
                at += length
                if mask & _OVERFLOW:
                    seen.append(Seen("", ""))
                elif mask & _IGNORED:  # the folder itself went, which its parent tells of
                    self._folders.pop(number, None)
                elif number in self._folders:
                    seen.append(Seen(self._folders[number], name))


def _last_error() -> OSError:
    code = ctypes.get_errno() or errno.ENOSYS
    return OSError(code, os.strerror(code))
