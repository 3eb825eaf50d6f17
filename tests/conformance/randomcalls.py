"""Random system calls, the same on two directories: what must give the same results on both.

Used by the differential tests here and by the crash tests.
"""

import errno
import os
import random
import stat
from pathlib import Path

from rawcalls import EXCHANGE, NOREPLACE, renameat2

__all__ = ["CLOSED", "World", "choose", "result", "short"]

SLOTS = 4
CLOSED = 1 << 19  # no descriptor: EBADF in every call
NAMES = ["a", "b", "c", "dd", "e\u0301", "é"]
MODES = [0o600, 0o644, 0o755, 0o4755, 0o2711, 0o1777, 0o400, 0]
SIZES = [0, 1, 100, 4095, 4096, 4097, 65_536, 70_000, 140_000]


class World:
    """One directory under random calls, with some open files. The same choices act alike in both worlds."""

    def __init__(self, top: Path) -> None:
        self.top, self.open = os.fsencode(top), [CLOSED] * SLOTS

    def path(self, rel: str) -> bytes:
        return self.top + b"/" + os.fsencode(rel)

    def close(self) -> None:
        for fd in self.open:
            if fd != CLOSED:
                os.close(fd)

    # Each call returns what must be equal in both worlds.

    def do_open(self, slot: int, rel: str, flags: int, mode: int) -> object:
        fd = os.open(self.path(rel), flags | os.O_NOFOLLOW | os.O_NONBLOCK, mode)
        if self.open[slot] != CLOSED:
            os.close(self.open[slot])
        self.open[slot] = fd
        return os.fstat(fd).st_size if stat.S_ISREG(os.fstat(fd).st_mode) else 0

    def do_pwrite(self, slot: int, at: int, data: bytes) -> object:
        return os.pwrite(self.open[slot], data, at)

    def do_write(self, slot: int, data: bytes) -> object:
        return os.write(self.open[slot], data), os.lseek(self.open[slot], 0, os.SEEK_CUR)

    def do_pread(self, slot: int, at: int, size: int) -> object:
        return os.pread(self.open[slot], size, at)

    def do_ftruncate(self, slot: int, size: int) -> object:
        return os.ftruncate(self.open[slot], size)

    def do_fsync(self, slot: int) -> object:
        return os.fsync(self.open[slot])

    def do_fstat(self, slot: int) -> object:
        info = os.fstat(self.open[slot])
        return info.st_mode, 0 if stat.S_ISDIR(info.st_mode) else info.st_size, info.st_nlink, info.st_uid, info.st_gid

    def do_fchmod(self, slot: int, mode: int) -> object:
        return os.fchmod(self.open[slot], mode)

    def do_futimes(self, slot: int, moment: int) -> object:
        return os.utime(self.open[slot], ns=(moment, moment + 1))

    def do_close(self, slot: int) -> object:
        fd, self.open[slot] = self.open[slot], CLOSED
        return os.close(fd)

    def do_unlink(self, rel: str) -> object:
        return os.unlink(self.path(rel))

    def do_rmdir(self, rel: str) -> object:
        return os.rmdir(self.path(rel))

    def do_mkdir(self, rel: str, mode: int) -> object:
        return os.mkdir(self.path(rel), mode)

    def do_symlink(self, rel: str, aim: str) -> object:
        return os.symlink(os.fsencode(aim), self.path(rel))

    def do_mkfifo(self, rel: str, mode: int) -> object:
        return os.mkfifo(self.path(rel), mode)

    def do_link(self, old: str, new: str) -> object:
        return os.link(self.path(old), self.path(new), follow_symlinks=False)

    def do_rename(self, old: str, new: str, flags: int) -> object:
        return renameat2(self.path(old), self.path(new), flags)

    def do_truncate(self, rel: str, size: int) -> object:
        return os.truncate(self.path(rel), size)

    def do_chmod(self, rel: str, mode: int) -> object:
        return os.chmod(self.path(rel), mode)

    def do_chown(self, rel: str, uid: int, gid: int) -> object:
        return os.lchown(self.path(rel), uid, gid)

    def do_utime(self, rel: str, moment: int) -> object:
        return os.utime(self.path(rel), ns=(moment, moment + 1), follow_symlinks=False)

    def do_stat(self, rel: str) -> object:
        info = os.lstat(self.path(rel))
        size = 0 if stat.S_ISDIR(info.st_mode) else info.st_size
        return info.st_mode, size, info.st_nlink, info.st_uid, info.st_gid

    def do_readlink(self, rel: str) -> object:
        return os.readlink(self.path(rel))

    def do_listdir(self, rel: str) -> object:
        return sorted(os.listdir(self.path(rel)))

    def do_read(self, rel: str) -> object:
        fd = os.open(self.path(rel), os.O_RDONLY | os.O_NONBLOCK)
        try:
            return os.read(fd, 1 << 20)
        finally:
            os.close(fd)

    def do_setxattr(self, rel: str, key: str, value: bytes, flags: int) -> object:
        return os.setxattr(self.path(rel), f"user.{key}", value, flags, follow_symlinks=False)

    def do_getxattr(self, rel: str, key: str) -> object:
        return os.getxattr(self.path(rel), f"user.{key}", follow_symlinks=False)

    def do_removexattr(self, rel: str, key: str) -> object:
        return os.removexattr(self.path(rel), f"user.{key}", follow_symlinks=False)


def choose(rng: random.Random) -> tuple[str, tuple]:
    """One random call with its arguments."""

    def path() -> str:
        return "/".join(rng.choice(NAMES) for _ in range(rng.choice([1, 1, 2, 2, 3])))

    def data() -> bytes:
        return bytes([rng.randrange(256)]) * rng.choice(SIZES[1:])

    slot, at = rng.randrange(SLOTS), rng.choice(SIZES) + rng.randrange(3)
    root = os.geteuid() == 0
    flags = rng.choice(
        [
            os.O_RDWR,
            os.O_RDWR | os.O_CREAT,
            os.O_RDWR | os.O_CREAT | os.O_EXCL,
            os.O_RDWR | os.O_TRUNC,
            os.O_RDWR | os.O_APPEND,
            os.O_RDONLY,
        ]
    )
    menu = [
        (12, "do_open", (slot, path(), flags, rng.choice(MODES))),
        (8, "do_pwrite", (slot, at, data())),
        (5, "do_write", (slot, data())),
        (5, "do_pread", (slot, at, rng.choice(SIZES))),
        (3, "do_ftruncate", (slot, at)),
        (1, "do_fsync", (slot,)),
        (3, "do_fstat", (slot,)),
        (1, "do_fchmod", (slot, rng.choice(MODES))),
        (1, "do_futimes", (slot, rng.randrange(2**60))),
        (3, "do_close", (slot,)),
        (6, "do_unlink", (path(),)),
        (4, "do_rmdir", (path(),)),
        (8, "do_mkdir", (path(), 0o755)),
        (2, "do_symlink", (path(), path())),
        (1, "do_mkfifo", (path(), 0o644)),
        (5, "do_link", (path(), path())),
        (9, "do_rename", (path(), path(), rng.choice([0, 0, 0, NOREPLACE, EXCHANGE]))),
        (3, "do_truncate", (path(), at)),
        (2, "do_chmod", (path(), rng.choice(MODES) | 0o700)),
        (2 * root, "do_chown", (path(), rng.choice([-1, 0, 4242]), rng.choice([-1, 0, 4343]))),
        (2, "do_utime", (path(), rng.randrange(-(2**60), 2**60))),
        (5, "do_stat", (path(),)),
        (2, "do_readlink", (path(),)),
        (4, "do_listdir", (path(),)),
        (5, "do_read", (path(),)),
        (3, "do_setxattr", (path(), rng.choice("xyz"), data()[:900], rng.choice([0, 0, 1, 2]))),
        (2, "do_getxattr", (path(), rng.choice("xyz"))),
        (1, "do_removexattr", (path(), rng.choice("xyz"))),
    ]
    _, name, args = rng.choices(menu, weights=[weight for weight, _, _ in menu])[0]
    return name, args


def result(world: World, name: str, args: tuple) -> object:
    try:
        return getattr(world, name)(*args)
    except OSError as err:
        return errno.errorcode[err.errno or 0]


def short(args: tuple) -> str:
    return ", ".join(
        f"{arg[:1]!r}*{len(arg)}" if isinstance(arg, bytes) and len(arg) > 20 else repr(arg) for arg in args
    )
