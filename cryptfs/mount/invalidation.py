"""The one task that tells the kernel what changed behind its back.

`pyfuse3.invalidate_*` may wait for handlers that hold the directory or the pages, so no handler calls it, none waits
for this task, and it runs in a thread of its own (docs/mount.md, "Traps", 4 to 6). Handlers have deadlines, so it has.
"""

import errno
import logging
from collections.abc import Iterable

import pyfuse3
import trio

from cryptfs.mount.inodes import Inodes
from cryptfs.mount.names import Names

__all__ = ["Invalidator"]

_FORGOTTEN = {errno.ENOENT, errno.ENOTCONN}
"""The kernel has forgotten the inode, or the mount is going away: what it does not know needs no invalidation."""

_log = logging.getLogger(__name__)


class Invalidator:
    """An ordered, coalescing list of what the kernel shall forget. Bounded by what the kernel knows.

    `told` counts notifications that were delivered.
    """

    def __init__(self, inodes: Inodes, names: Names) -> None:
        self._inodes = inodes
        self._names = names
        self._waiting: dict[tuple[int, bytes], None] = {}
        self._something = trio.Event()
        self._nothing = trio.Event()
        self._nothing.set()
        self._limiter = trio.CapacityLimiter(1)
        self.told = 0

    def pulled(self, entries: Iterable[tuple[int, bytes]], inodes: Iterable[int]) -> None:
        """The net difference of a pull, after its commit: names (directory, name), then inodes."""
        known = self._inodes.lookups
        for parent, name in entries:
            self._names.changed(parent)
            if parent == pyfuse3.ROOT_INODE or parent in known:
                self.tell(parent, name)
        for st in inodes:
            self._inodes.changed_elsewhere(st)
            if st == pyfuse3.ROOT_INODE or st in known:
                self.tell(st)

    def tell(self, inode: int, name: bytes = b"") -> None:
        """Have the kernel forget the entry `name` of the directory `inode`, or attributes and pages of `inode`."""
        self._waiting[inode, name] = None
        self._something.set()
        if self._nothing.is_set():
            self._nothing = trio.Event()

    async def delivered(self) -> None:
        """Return when the kernel was told everything. Not for handlers: it may have to wait for them."""
        await self._nothing.wait()

    async def run(self) -> None:
        """Deliver until cancelled."""
        while True:
            await self._something.wait()
            while self._waiting:
                key = next(iter(self._waiting))
                del self._waiting[key]
                await trio.to_thread.run_sync(_notify, *key, limiter=self._limiter, abandon_on_cancel=True)
                self.told += 1
            self._something = trio.Event()
            self._nothing.set()


def _notify(inode: int, name: bytes) -> None:
    try:
        if name:
            pyfuse3.invalidate_entry(inode, name)
        else:
            pyfuse3.invalidate_inode(inode)
    except OSError as err:
        if err.errno not in _FORGOTTEN:
            _log.warning("the kernel refused to forget inode %d: %s", inode, err)
