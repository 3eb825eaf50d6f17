"""The thin adapter to pyfuse3: types, errors, deadlines. Every way out of a handler is a reply or a FUSEError.

Anything else that left a handler would end the mount (docs/mount.md, "Traps", 1). Handlers that never wait are plain
functions behind `answer`; those that may wait for content are coroutines behind `handler`, with a deadline. Most of
the latter have their answer at once, and the frequent ones pay for no coroutine then: they are behind `prompt`.
"""

# ruff: noqa: ARG002, PLR0917  # pyfuse3 dictates the signatures and documents them

import errno
import functools
import logging
import os
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from types import CoroutineType
from typing import Any, Final, ParamSpec, TypeVar

import pyfuse3
import trio
from pyfuse3 import EntryAttributes, FileInfo, FUSEError, ReaddirToken, RequestContext, SetattrFields, StatvfsData

from cryptfs.errors import CryptfsError, FsError
from cryptfs.mount.attributes import Attributes
from cryptfs.mount.changing import Change
from cryptfs.mount.deadline import within
from cryptfs.mount.files import Opened
from cryptfs.mount.filesystem import FileSystem

__all__ = ["DATA_SECONDS", "Adapter", "answer", "handler", "prompt"]

DATA_SECONDS: Final = 30.0
"""A reader cannot be interrupted, not even by SIGKILL, until we reply."""

_ATTR_TIMEOUT: Final = 60.0
_ENTRY_TIMEOUT: Final = 60.0
"""Every change passes the daemon or is told by the invalidator; this bounds what a lost notification can do."""

_PREFERRED_IO: Final = 1 << 16
"""st_blksize: programs that buffer write one chunk a request instead of 4 KiB."""

_ACTIONABLE: Final = {errno.ENOSPC, errno.EDQUOT}
"""The only errors of our own disk a program can act on."""

P = ParamSpec("P")
T = TypeVar("T")

_log = logging.getLogger(__name__)

requests: Counter[str] = Counter()
"""How many requests of each kind arrived, for `status` and tests."""


def answer(method: Callable[P, T]) -> Callable[P, Coroutine[Any, Any, T]]:
    """The gate of a handler that never waits."""
    name = method.__name__

    @functools.wraps(method)
    async def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
        requests[name] += 1
        try:
            return method(*args, **kwargs)
        except FUSEError:
            raise
        except Exception as err:
            raise _refusal(name, err) from err

    return guarded


def handler(
    seconds: float,
) -> Callable[[Callable[P, Coroutine[Any, Any, T]]], Callable[P, Coroutine[Any, Any, T]]]:
    """The gate of a handler that may wait; it replies within `seconds`, with ETIMEDOUT if need be."""
    return prompt(seconds)


def prompt(
    seconds: float,
) -> Callable[[Callable[P, T | Coroutine[Any, Any, T]]], Callable[P, Coroutine[Any, Any, T]]]:
    """The same for a plain function that returns its answer, or now and then a coroutine that will have it."""

    def wrap(method: Callable[P, T | Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
        name = method.__name__

        @functools.wraps(method)
        async def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
            requests[name] += 1
            try:
                result = method(*args, **kwargs)
                if isinstance(result, CoroutineType):
                    return await within(seconds, result)
                return result  # type: ignore[return-value]  # noqa: TRY300  # what else T | Coroutine can be
            except FUSEError:
                raise
            except Exception as err:  # Cancelled and KeyboardInterrupt are no Exceptions: they pass
                raise _refusal(name, err) from err

        return guarded

    return wrap


def _refusal(name: str, err: Exception) -> FUSEError:
    """What the kernel is told of an error."""
    match err:
        case FsError():
            return FUSEError(err.errno)
        case CryptfsError():
            return _trouble(err)
        case trio.TooSlowError():
            return FUSEError(errno.ETIMEDOUT)
    return _own_fault(name, err)


class _Said:
    """The trouble logged last: a condition that lasts is said once, not at every request."""

    text = ""


def _trouble(err: CryptfsError) -> FUSEError:
    """Not the program's fault: the log says what the program cannot be told."""
    text = f"{err} {err.advice}"
    if text != _Said.text:
        _log.warning("%s", text)
        _Said.text = text
    return FUSEError(err.errno)


def _own_fault(name: str, err: Exception) -> FUSEError:
    _log.error("handler %s failed", name, exc_info=err)
    code = err.errno if isinstance(err, OSError) and err.errno in _ACTIONABLE else errno.EIO
    return FUSEError(code or errno.EIO)


def entry_attributes(attributes: Attributes) -> EntryAttributes:
    """The one way to what the kernel gets; sets every field."""
    st, mode, nlink, uid, gid, rdev, size, blocks, atime_ns, mtime_ns, ctime_ns = attributes
    entry = EntryAttributes()
    entry.st_ino = st
    entry.generation = 0
    entry.entry_timeout = _ENTRY_TIMEOUT
    entry.attr_timeout = _ATTR_TIMEOUT
    entry.st_mode = mode
    entry.st_nlink = nlink
    entry.st_uid = uid
    entry.st_gid = gid
    entry.st_rdev = rdev
    entry.st_size = size
    entry.st_blksize = _PREFERRED_IO
    entry.st_blocks = blocks
    entry.st_atime_ns = atime_ns
    entry.st_mtime_ns = mtime_ns
    entry.st_ctime_ns = ctime_ns
    return entry


def file_info(opened: Opened) -> FileInfo:
    """The one way to what the kernel is told of an open file; sets every field."""
    return FileInfo(fh=opened.fh, direct_io=False, keep_cache=opened.keep_cache, nonseekable=False)


def _nothing() -> EntryAttributes:
    """A negative entry the kernel may not keep; cheaper than an ENOENT."""
    entry = EntryAttributes()
    entry.st_ino = 0
    entry.entry_timeout = 0
    entry.attr_timeout = 0
    return entry


class Adapter(pyfuse3.Operations):
    """What pyfuse3 calls. One a process: pyfuse3 keeps its state in the module."""

    supports_dot_lookup = True
    enable_writeback_cache = False
    enable_acl = False

    def __init__(self, fs: FileSystem, *, xattrs: bool = True) -> None:
        super().__init__()
        self._fs = fs
        self._inodes = fs.inodes
        self._names = fs.names
        self._files = fs.files
        self._listings = fs.listings
        self._xattrs = fs.xattrs if xattrs else None
        self._nothing = _nothing()
        self.started = trio.Event()
        """Set when the kernel and we have agreed on the protocol."""

    def init(self) -> None:
        self.started.set()

    # ---- inodes and names ------------------------------------------------------------------------------------------

    @answer
    def lookup(self, parent_inode: int, name: bytes, ctx: RequestContext) -> EntryAttributes:
        found = self._names.lookup(parent_inode, name)
        return self._nothing if found is None else entry_attributes(found)

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        try:
            self._inodes.forget(inode_list)
        except CryptfsError as err:
            _trouble(err)  # nobody waits for an answer to this one

    @answer
    def getattr(self, inode: int, ctx: RequestContext) -> EntryAttributes:
        return entry_attributes(self._inodes.attributes(inode))

    @handler(DATA_SECONDS)
    async def setattr(
        self, inode: int, attr: EntryAttributes, fields: SetattrFields, fh: int | None, ctx: RequestContext
    ) -> EntryAttributes:
        wanted = Change(
            attr.st_mode if fields.update_mode else None,
            attr.st_uid if fields.update_uid else None,
            attr.st_gid if fields.update_gid else None,
            attr.st_size if fields.update_size else None,
            attr.st_atime_ns if fields.update_atime else None,
            attr.st_mtime_ns if fields.update_mtime else None,
        )
        return entry_attributes(await self._fs.setattr(inode, wanted))

    @answer
    def readlink(self, inode: int, ctx: RequestContext) -> bytes:
        return self._names.readlink(inode)

    @answer
    def mknod(self, parent_inode: int, name: bytes, mode: int, rdev: int, ctx: RequestContext) -> EntryAttributes:
        return entry_attributes(self._names.mknod(parent_inode, name, mode, rdev, ctx))

    @answer
    def mkdir(self, parent_inode: int, name: bytes, mode: int, ctx: RequestContext) -> EntryAttributes:
        return entry_attributes(self._names.mkdir(parent_inode, name, mode, ctx))

    @answer
    def unlink(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        self._names.unlink(parent_inode, name)

    @answer
    def rmdir(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        self._names.rmdir(parent_inode, name)

    @answer
    def symlink(self, parent_inode: int, name: bytes, target: bytes, ctx: RequestContext) -> EntryAttributes:
        return entry_attributes(self._names.symlink(parent_inode, name, target, ctx))

    @answer
    def rename(
        self,
        parent_inode_old: int,
        name_old: bytes,
        parent_inode_new: int,
        name_new: bytes,
        flags: int,
        ctx: RequestContext,
    ) -> None:
        self._fs.rename((parent_inode_old, name_old), (parent_inode_new, name_new), flags)

    @answer
    def link(self, inode: int, new_parent_inode: int, new_name: bytes, ctx: RequestContext) -> EntryAttributes:
        return entry_attributes(self._names.link(inode, new_parent_inode, new_name))

    # ---- files -----------------------------------------------------------------------------------------------------

    @answer
    def create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        opened, attributes = self._files.create(parent_inode, name, mode, flags, ctx)
        return file_info(opened), entry_attributes(attributes)

    @prompt(DATA_SECONDS)
    def open(self, inode: int, flags: int, ctx: RequestContext) -> FileInfo | Coroutine[Any, Any, FileInfo]:
        if flags & os.O_TRUNC:
            return self._open_truncated(inode, flags, ctx)
        return file_info(self._files.open(inode, flags))

    async def _open_truncated(self, inode: int, flags: int, ctx: RequestContext) -> FileInfo:
        return file_info(await self._files.open_truncated(inode, flags, ctx))

    @prompt(DATA_SECONDS)
    def read(self, fh: int, off: int, size: int) -> Any:  # any contiguous buffer; pyfuse3's type says bytes
        here = self._files.read_here(fh, off, size)
        return self._files.read(fh, off, size) if here is None else here

    @handler(DATA_SECONDS)
    async def write(self, fh: int, off: int, buf: bytes) -> int:
        return await self._files.write(fh, off, buf)

    @prompt(DATA_SECONDS)
    def flush(self, fh: int) -> Coroutine[Any, Any, None] | None:
        return self._files.flush(fh) if self._files.changed(fh) else None

    @prompt(DATA_SECONDS)
    def release(self, fh: int) -> Coroutine[Any, Any, None] | None:
        if self._files.changed(fh):
            return self._files.release(fh)
        self._files.close(fh)
        return None

    @handler(DATA_SECONDS)
    async def fsync(self, fh: int, datasync: bool) -> None:
        await self._files.fsync(fh)

    @answer
    def poll(self, inode: int, fh: int, poll_handle: object, ctx: RequestContext) -> int:
        # The kernel remembers this and says "always ready", which is what files are.
        raise FUSEError(errno.ENOSYS)

    # ---- directories -----------------------------------------------------------------------------------------------

    @answer
    def opendir(self, inode: int, ctx: RequestContext) -> int:
        return self._listings.opendir(inode)

    @answer
    def readdir(self, fh: int, start_id: int, token: ReaddirToken) -> None:
        known = self._inodes.known
        reply = pyfuse3.readdir_reply
        for name, attributes, offset, counts in self._listings.list_from(fh, start_id):
            if not reply(token, name, entry_attributes(attributes), offset):
                return
            if counts:
                known(attributes.st)

    @answer
    def releasedir(self, fh: int) -> None:
        self._listings.releasedir(fh)

    @handler(DATA_SECONDS)
    async def fsyncdir(self, fh: int, datasync: bool) -> None:
        await self._files.commit()

    @answer
    def statfs(self, ctx: RequestContext) -> StatvfsData:
        space = self._fs.statfs()
        data = StatvfsData()
        data.f_bsize = data.f_frsize = space.block
        data.f_blocks = space.blocks
        data.f_bfree = data.f_bavail = space.free
        data.f_files = space.files
        data.f_ffree = data.f_favail = space.files_free
        data.f_namemax = space.name_max
        return data

    # ---- extended attributes ---------------------------------------------------------------------------------------

    @answer
    def getxattr(self, inode: int, name: bytes, ctx: RequestContext) -> bytes:
        if self._xattrs is None:
            # Remembered by the kernel for the life of the mount: no question before every write.
            raise FUSEError(errno.ENOSYS)
        value = self._xattrs.find(inode, name)
        if value is None:
            raise FUSEError(errno.ENODATA)
        return value

    @answer
    def listxattr(self, inode: int, ctx: RequestContext) -> Sequence[bytes]:
        if self._xattrs is None:
            raise FUSEError(errno.ENOSYS)
        return self._xattrs.list(inode, ctx)

    @answer
    def setxattr(self, inode: int, name: bytes, value: bytes, ctx: RequestContext) -> None:
        if self._xattrs is None:
            raise FUSEError(errno.ENOSYS)
        self._xattrs.set(inode, name, value)

    @answer
    def removexattr(self, inode: int, name: bytes, ctx: RequestContext) -> None:
        if self._xattrs is None:
            raise FUSEError(errno.ENOSYS)
        self._xattrs.remove(inode, name)

    @answer
    def access(self, inode: int, mode: int, ctx: RequestContext) -> bool:
        # Never asked with default_permissions: rights are the kernel's.
        return True
