"""Files without a name that are still open: every call by descriptor works until the last close."""

import ctypes
import fcntl
import mmap
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rawcalls import renameat2

_libc = ctypes.CDLL(None, use_errno=True)


def gone_by_unlink(path: Path) -> None:
    path.unlink()


def gone_by_rename(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(b"the new one")
    other.rename(path)


def gone_with_its_directory(path: Path) -> None:
    path.unlink()
    path.parent.rmdir()
    path.parent.parent.rmdir()


@pytest.fixture(params=[gone_by_unlink, gone_by_rename, gone_with_its_directory])
def gone(request: pytest.FixtureRequest, target: Path) -> Iterator[int]:
    path = target / "deep/er/file"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"0123456789" * 1000)
    fd = os.open(path, os.O_RDWR)
    request.param(path)
    yield fd
    os.close(fd)
    names = [str(found.relative_to(target)) for found in target.rglob("*") if not found.is_dir()]
    assert names in ([], ["deep/er/file"]), "something was left over (.fuse_hidden?)"


def test_fstat_shows_no_link_and_the_size(gone: int) -> None:
    info = os.fstat(gone)
    assert (info.st_nlink, info.st_size, stat.S_ISREG(info.st_mode)) == (0, 10_000, True)


def test_read_write_truncate(gone: int) -> None:
    assert os.pread(gone, 10, 9990) == b"0123456789"
    os.pwrite(gone, b"abc", 20_000)
    assert os.fstat(gone).st_size == 20_003
    assert os.pread(gone, 100, 9_995) == b"56789" + bytes(95)
    os.ftruncate(gone, 5)
    assert os.pread(gone, 100, 0) == b"01234"
    os.ftruncate(gone, 300_000)
    assert os.pread(gone, 10, 299_990) == bytes(10)


def test_big_writes(gone: int) -> None:
    block = os.urandom(1 << 20)
    for number in range(8):
        os.pwrite(gone, block, number << 20)
    os.fsync(gone)
    os.posix_fadvise(gone, 0, 0, os.POSIX_FADV_DONTNEED)
    for number in range(8):
        assert os.pread(gone, 1 << 20, number << 20) == block


def test_fsync_fdatasync_flush(gone: int) -> None:
    os.write(gone, b"x")
    os.fsync(gone)
    os.fdatasync(gone)
    os.close(os.dup(gone))
    assert os.pread(gone, 2, 0) == b"x1"


def test_msync_and_shared_map(gone: int) -> None:
    with mmap.mmap(gone, 8192) as memory:
        memory[100:103] = b"map"
        memory.flush()
        memory[4096:4099] = b"end"
    assert os.pread(gone, 3, 100) == b"map"
    os.fsync(gone)
    assert os.pread(gone, 3, 4096) == b"end"


def test_fchmod_fchown(gone: int) -> None:
    os.fchmod(gone, 0o600)
    assert stat.S_IMODE(os.fstat(gone).st_mode) == 0o600
    os.fchown(gone, os.getuid(), os.getgid())
    assert os.fstat(gone).st_uid == os.getuid()


def test_futimens(gone: int) -> None:
    os.utime(gone, ns=(1_234_567_891, 9_876_543_211))
    assert (os.fstat(gone).st_atime_ns, os.fstat(gone).st_mtime_ns) == (1_234_567_891, 9_876_543_211)


def test_fxattrs(gone: int) -> None:
    os.setxattr(gone, "user.one", b"1")
    os.setxattr(gone, "user.two", b"2")
    assert sorted(os.listxattr(gone)) == ["user.one", "user.two"]
    assert os.getxattr(gone, "user.two") == b"2"
    os.removexattr(gone, "user.one")
    assert os.listxattr(gone) == ["user.two"]


def test_locks(gone: int) -> None:
    fcntl.flock(gone, fcntl.LOCK_EX)
    fcntl.flock(gone, fcntl.LOCK_UN)
    fcntl.lockf(gone, fcntl.LOCK_EX)
    fcntl.lockf(gone, fcntl.LOCK_UN)


def test_lseek_and_advice(gone: int) -> None:
    assert os.lseek(gone, 0, os.SEEK_END) == 10_000
    assert os.lseek(gone, 0, os.SEEK_HOLE) == 10_000
    os.posix_fadvise(gone, 0, 0, os.POSIX_FADV_WILLNEED)
    assert os.fstatvfs(gone).f_namemax > 0


def test_reopened_through_proc(gone: int) -> None:
    again = os.open(f"/proc/self/fd/{gone}", os.O_RDWR)
    try:
        os.pwrite(again, b"second way", 0)
        assert os.pread(gone, 10, 0) == b"second way"
        os.ftruncate(again, 3)
    finally:
        os.close(again)
    assert os.fstat(gone).st_size == 3


def test_linked_back_from_nothing_is_refused_or_right(gone: int, target: Path) -> None:
    """Linux refuses to link an inode whose count is 0 (ENOENT); whoever allows it brings back all bytes."""
    try:
        os.link(f"/proc/self/fd/{gone}", target / "back", follow_symlinks=True)
    except OSError:
        return
    assert (target / "back").read_bytes() == b"0123456789" * 1000
    (target / "back").unlink()


def test_many_unlinked_files_stay_apart(target: Path) -> None:
    fds = []
    for number in range(200):
        fd = os.open(target / "same name", os.O_RDWR | os.O_CREAT | os.O_EXCL)
        os.write(fd, b"%d" % number * 100)
        (target / "same name").unlink()
        fds.append(fd)
    for number, fd in enumerate(fds):
        assert os.pread(fd, 1000, 0) == b"%d" % number * 100
        os.close(fd)
    assert os.listdir(target) == []


def test_created_after_unlink_is_another_file(target: Path) -> None:
    path = target / "f"
    path.write_bytes(b"old")
    fd = os.open(path, os.O_RDWR)
    path.unlink()
    path.write_bytes(b"new one")
    assert os.fstat(fd).st_ino != path.stat().st_ino
    os.write(fd, b"OLDER")
    assert path.read_bytes() == b"new one"
    assert os.pread(fd, 10, 0) == b"OLDER"
    os.close(fd)


def test_exchange_of_open_files_moves_names_only(target: Path) -> None:
    one, two = target / "one", target / "two"
    one.write_bytes(b"1")
    two.write_bytes(b"22")
    fd = os.open(one, os.O_RDWR)
    renameat2(one, two, 2)
    os.write(fd, b"I")
    os.close(fd)
    assert (one.read_bytes(), two.read_bytes()) == (b"22", b"I")


def test_directory_removed_while_it_is_the_working_directory(target: Path) -> None:
    (target / "d").mkdir()
    os.chdir(target / "d")
    fd = os.open(".", os.O_RDONLY)
    (target / "d").rmdir()
    assert os.fstat(fd).st_nlink == 0
    assert os.listdir(fd) == []
    calls: list[Callable[[], object]] = [
        lambda: os.mkdir("x"),
        lambda: os.open("f", os.O_CREAT | os.O_WRONLY),
        lambda: os.symlink("a", "b"),
        lambda: os.mkfifo("p"),
    ]
    for call in calls:
        with pytest.raises(FileNotFoundError):
            call()
    os.fsync(fd)
    os.close(fd)
    os.chdir(target)


def test_unlink_by_one_process_while_another_writes(target: Path) -> None:
    path = target / "f"
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    for number in range(100):
        os.write(fd, b"line %03d\n" % number)
        if number == 50:
            path.unlink()
    assert os.fstat(fd).st_size == 900
    os.lseek(fd, 0, os.SEEK_SET)
    assert os.read(fd, 1000) == b"".join(b"line %03d\n" % number for number in range(100))
    os.close(fd)
