"""The least a file system in Python can cost: pyfuse3 and the loop of cryptfs, with nothing behind them.

    python floor.py MOUNTPOINT FILES

One directory of `FILES` empty-handed files of 4 KiB and one large one. Every answer is made up on the spot: no tree, no
keys, no cache, no checks. What `cpu.py` measures here is the kernel's round trip, trio and the binding; nothing written
on pyfuse3 gets below it.
"""

import errno
import stat
import sys
from collections.abc import Sequence

import pyfuse3
import trio
from pyfuse3 import EntryAttributes, FileInfo, FUSEError, ReaddirToken, RequestContext

from cryptfs.mount import loop

FOLDER, BIG, FIRST = 2, 3, 16
BIG_SIZE, SMALL_SIZE = 64 << 20, 4096
SECONDS = 60.0


class Floor(pyfuse3.Operations):
    """Answers what `cpu.py` asks, and remembers nothing but removed and renamed names."""

    def __init__(self, files: int) -> None:
        super().__init__()
        self.names = {b"file-%05d.dat" % number: FIRST + number for number in range(files)}
        self.zeros = memoryview(bytes(1 << 20))

    def attributes(self, inode: int) -> EntryAttributes:
        entry = EntryAttributes()
        entry.st_ino = inode
        entry.entry_timeout = entry.attr_timeout = SECONDS
        if inode in (pyfuse3.ROOT_INODE, FOLDER):
            entry.st_mode, entry.st_nlink = stat.S_IFDIR | 0o755, 2
        else:
            entry.st_mode, entry.st_nlink = stat.S_IFREG | 0o644, 1
            entry.st_size = BIG_SIZE if inode == BIG else SMALL_SIZE
        entry.st_mtime_ns = entry.st_ctime_ns = entry.st_atime_ns = 1_700_000_000_000_000_000
        return entry

    async def lookup(self, parent_inode: int, name: bytes, ctx: RequestContext) -> EntryAttributes:
        inode = {b"small": FOLDER, b"big": BIG}.get(name) if parent_inode == pyfuse3.ROOT_INODE else None
        inode = inode or self.names.get(name)
        if inode is None:
            raise FUSEError(errno.ENOENT)
        return self.attributes(inode)

    async def getattr(self, inode: int, ctx: RequestContext) -> EntryAttributes:
        return self.attributes(inode)

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        pass

    async def open(self, inode: int, flags: int, ctx: RequestContext) -> FileInfo:
        return FileInfo(fh=inode, keep_cache=True)

    async def read(self, fh: int, off: int, size: int) -> bytes:
        end = min(off + size, BIG_SIZE if fh == BIG else SMALL_SIZE)
        return self.zeros[: max(0, end - off)]  # type: ignore[return-value]  # any buffer will do

    async def flush(self, fh: int) -> None:
        pass

    async def release(self, fh: int) -> None:
        pass

    async def opendir(self, inode: int, ctx: RequestContext) -> int:
        return inode

    async def readdir(self, fh: int, start_id: int, token: ReaddirToken) -> None:
        for at, (name, inode) in enumerate(list(self.names.items())[start_id:], start_id + 1):
            if not pyfuse3.readdir_reply(token, name, self.attributes(inode), at):
                return

    async def releasedir(self, fh: int) -> None:
        pass

    async def getxattr(self, inode: int, name: bytes, ctx: RequestContext) -> bytes:
        raise FUSEError(errno.ENODATA)

    async def listxattr(self, inode: int, ctx: RequestContext) -> Sequence[bytes]:
        return []

    async def rename(  # noqa: PLR0917  # pyfuse3 dictates the signature
        self, parent_inode_old: int, name_old: str, parent_inode_new: int, name_new: str, flags: int,
        ctx: RequestContext,
    ) -> None:  # fmt: skip
        self.names[name_new] = self.names.pop(name_old)  # type: ignore[index,arg-type]  # names are bytes

    async def unlink(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        del self.names[name]


def main() -> None:
    point, files = sys.argv[1:]
    options = set(pyfuse3.default_options) | {"fsname=floor", "default_permissions"}
    pyfuse3.init(Floor(int(files)), point, options)
    loop.install()
    try:
        trio.run(pyfuse3.main)
    finally:
        pyfuse3.close(unmount=True)


if __name__ == "__main__":
    main()
