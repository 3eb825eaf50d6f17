"""Open files: opening, reading, writing, truncating, and when their bytes are handed over."""

import logging
import os
import stat
from errno import EBADF, EFBIG, EROFS
from typing import Final, NamedTuple

from cryptfs.errors import CryptfsError, FsError
from cryptfs.format.operation import SET_MODE, SetAttr
from cryptfs.mount.attributes import Attributes, Caller
from cryptfs.mount.inodes import Inodes, OpenFile
from cryptfs.mount.names import Names
from cryptfs.mount.times import new_mtime
from cryptfs.vault.content import FILE_SIZE_MAX

__all__ = ["FileHandle", "Files", "Opened"]

_REMOTE_SYNC_SECONDS: Final = 25.0
"""`fsync=remote` answers within the deadline of a handler; what is not confirmed by then stays queued."""

_log = logging.getLogger(__name__)


class FileHandle:
    """One open(2) of a file."""

    __slots__ = ("opened", "readable", "st", "writable")

    def __init__(self, st: int, opened: OpenFile, flags: int) -> None:
        self.st = st
        self.opened = opened
        access = flags & os.O_ACCMODE
        self.readable = access != os.O_WRONLY
        self.writable = access != os.O_RDONLY


class Opened(NamedTuple):
    """Number of a new handle, and whether the kernel's pages of the file are still those of this version."""

    fh: int
    keep_cache: bool


class Files:
    """All open files of the mount. Handle numbers are never used twice.

    Between two awaits everything holds; `FileContent` orders concurrent writers of one inode itself.
    """

    def __init__(self, inodes: Inodes, names: Names, *, fsync_remote: bool) -> None:
        self._inodes = inodes
        self._names = names
        self._vault = inodes.vault
        self._fsync_remote = fsync_remote
        self._handles: dict[int, FileHandle] = {}
        self._next = 1
        self.failed_hand_overs = 0

    # ---- opening and closing ---------------------------------------------------------------------------------------

    def create(self, parent: int, name: bytes, mode: int, flags: int, caller: Caller) -> tuple[Opened, Attributes]:
        """A new file, open. The handle may do what `flags` says whatever `mode` will forbid later.

        A name that appeared since the kernel looked is EEXIST: the kernel looks again and opens it.
        """
        attributes = self._names.create(parent, name, mode, caller)
        return self._opened(attributes.st, flags), attributes

    def open(self, st: int, flags: int) -> Opened:
        """Open the regular file `st`, without O_TRUNC. Never waits; the kernel opens nothing else by this call."""
        if flags & os.O_ACCMODE and self._vault.read_only:
            raise FsError(EROFS)
        return self._opened(st, flags)

    async def open_truncated(self, st: int, flags: int, caller: Caller) -> Opened:
        """Open with O_TRUNC: truncates in one step with opening, and the file loses its privileges.

        The kernel sends no other call for either (docs/mount.md, "Traps", 2 and 3).
        """
        if self._vault.read_only:
            raise FsError(EROFS)
        opened = self.open(st, flags)
        handle = self._handles[opened.fh]
        try:
            await self._truncate(st, handle.opened, 0)
        except BaseException:
            self.close(opened.fh)
            raise
        if caller.uid != 0:
            self._drop_privileges(st)
        return opened

    def _opened(self, st: int, flags: int) -> Opened:
        inodes = self._inodes
        opened = inodes.hold(st, writing=flags & os.O_ACCMODE != os.O_RDONLY)
        keep = inodes.keeps_pages(st, opened)
        fh = self._next
        self._next = fh + 1
        self._handles[fh] = FileHandle(st, opened, flags)
        return Opened(fh, keep)

    def handle(self, fh: int) -> FileHandle:
        """Raises EBADF for a number that is not open."""
        handle = self._handles.get(fh)
        if handle is None:
            raise FsError(EBADF)
        return handle

    def changed(self, fh: int) -> bool:
        """Whether there is something to hand over."""
        content = self.handle(fh).opened.content
        return content.dirty and not content.detached

    async def flush(self, fh: int) -> None:
        """close(2) of one descriptor: hand over, so that an error reaches the program."""
        if self.changed(fh):
            self.handle(fh).opened.content.hand_over_now()

    async def release(self, fh: int) -> None:
        """The last descriptor is gone. Data of a shared mapping may have come after every flush."""
        handle = self.handle(fh)
        content = handle.opened.content
        try:
            try:
                if content.dirty and not content.detached:
                    content.hand_over_now()
            finally:
                self.close(fh)
        except CryptfsError as err:
            # Nobody hears this answer; the vault keeps the dirty content and tries again.
            self.failed_hand_overs += 1
            _log.error("inode %d could not be handed over at its last close: %s", handle.st, err)

    def close(self, fh: int) -> None:
        """The last descriptor is gone, and nothing is left to hand over."""
        handle = self._handles.pop(fh)
        st, opened = handle.st, handle.opened
        inodes = self._inodes
        if st in inodes.kept and handle.writable:
            # Every local write went through the kernel: its pages are those of the version left behind.
            inodes.kept[st] = opened.version
        inodes.let_go(st, opened, writing=handle.writable)

    async def fsync(self, fh: int) -> None:
        """Durable on this machine, or in the store with `fsync=remote`."""
        content = self.handle(fh).opened.content
        if self._fsync_remote:
            if content.dirty and not content.detached:
                content.hand_over_now()
        else:
            content.persist()
        await self.commit()

    async def commit(self) -> None:
        """What fsync of a file and of a directory promise alike."""
        if self._fsync_remote:
            await self._vault.sync(_REMOTE_SYNC_SECONDS)
        else:
            await self._vault.commit()

    async def hand_over_all(self) -> None:
        """Hand over every open file that changed; the last act of a mount. Errors are counted and logged."""
        for st, opened in list(self._inodes.opened.items()):
            content = opened.content
            if content.dirty and not content.detached:
                try:
                    content.hand_over_now()
                except CryptfsError as err:
                    self.failed_hand_overs += 1
                    _log.error("inode %d could not be handed over: %s", st, err)

    # ---- bytes -----------------------------------------------------------------------------------------------------

    def read_here(self, fh: int, offset: int, length: int) -> bytes | memoryview | None:
        """As `read` if that needs no waiting, else None."""
        handle = self.handle(fh)
        here = handle.opened.content.read_here(offset, length)
        if offset == 0 and here is not None:
            # Once a pass, not once a request: relatime has nothing to say about the middle of a file.
            self._inodes.accessed(handle.st)
        return here

    async def read(self, fh: int, offset: int, length: int) -> bytes | memoryview:
        """`length` bytes at `offset`, fewer only at the end of the file."""
        here = self.read_here(fh, offset, length)
        if here is None:
            handle = self.handle(fh)
            here = await handle.opened.content.read(offset, length)
            if offset == 0:
                self._inodes.accessed(handle.st)
        return here

    async def write(self, fh: int, offset: int, data: bytes) -> int:
        """Write all of `data`; returns its length. Raises EFBIG beyond 16 TiB.

        The kernel has chosen the offset of O_APPEND under its lock of the inode.
        """
        handle = self.handle(fh)
        length = len(data)
        if offset + length > FILE_SIZE_MAX:
            raise FsError(EFBIG)
        inodes = self._inodes
        content = handle.opened.content
        now = inodes.clock.now()
        if content.detached:
            self._orphan_changed(handle.st, now)
        await content.write(offset, data, new_mtime(content.mtime_ns, now))
        return length

    async def truncate(self, st: int, size: int) -> None:
        """Set the size of a file, open or not. Growing makes a hole."""
        if size > FILE_SIZE_MAX:
            raise FsError(EFBIG)
        if self._vault.read_only:
            raise FsError(EROFS)
        inodes = self._inodes
        opened = inodes.hold(st, writing=True)
        try:
            await self._truncate(st, opened, size)
            if opened.handles == 1 and opened.content.dirty and not opened.content.detached:
                # Nobody will close it: truncate(2) of a file that is not open is complete when it returns.
                opened.content.hand_over_now()
        finally:
            inodes.let_go(st, opened, writing=True)

    async def _truncate(self, st: int, opened: OpenFile, size: int) -> None:
        content = opened.content
        now = self._inodes.clock.now()
        if content.detached:
            self._orphan_changed(st, now)
        await content.truncate(size, new_mtime(content.mtime_ns, now))

    def _orphan_changed(self, st: int, now: int) -> None:
        orphan = self._inodes.orphans.get(st)
        if orphan is not None:
            orphan.mtime_ns = orphan.ctime_ns = now

    def _drop_privileges(self, st: int) -> None:
        """Take setuid away, and setgid where it means a privilege, as a write by somebody else does."""
        inodes = self._inodes
        orphan = inodes.orphans.get(st)
        node = orphan or inodes.replica.node(st)
        if node is None:
            return
        mode = node.mode & ~stat.S_ISUID
        if mode & stat.S_IXGRP:
            mode &= ~stat.S_ISGID
        if mode == node.mode:
            return
        if orphan is not None:
            orphan.mode = mode
        else:
            self._vault.submit(SetAttr(inodes.replica.ino_of(st), SET_MODE, mode, 0, 0, 0))
