"""Times in nanoseconds, before 1970 and after 2038; which of them a call moves, and which it leaves."""

import errno
import os
import time
from pathlib import Path

import pytest
from rawcalls import as_user, fails_with, utimens

NOW, OMIT = (1 << 30) - 1, (1 << 30) - 2
LONG_AGO = 10**17
MOMENTS = [
    *(0, 1, 999_999_999, -1, -1_500_000_001, -(2**31 - 2) * 10**9),
    *(2**31 * 10**9 + 7, 2**32 * 10**9 + 123_456_789, 4_102_444_800_000_000_001),
    pytest.param(-(2**32) * 10**9 + 1, marks=pytest.mark.known(ext4="nothing before 1901")),
]


def kind_of(path: Path, kind: str) -> Path:
    if kind == "file":
        path.write_bytes(b"x")
    elif kind == "dir":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to("nowhere")
    return path


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("kind", ["file", "dir", "fifo", "symlink"])
def test_any_time_is_kept_to_the_nanosecond(target: Path, moment: int, kind: str) -> None:
    path = kind_of(target / "x", kind)
    os.utime(path, ns=(moment + 11, moment), follow_symlinks=False)
    info = path.lstat()
    assert (info.st_atime_ns, info.st_mtime_ns) == (moment + 11, moment)


@pytest.mark.parametrize("kind", ["file", "dir", "symlink"])
def test_omit_and_now(target: Path, kind: str) -> None:
    path = kind_of(target / "x", kind)
    follow = kind != "symlink"
    utimens(path, (5, 6), (7, 8), follow=follow)
    utimens(path, (0, OMIT), (9, 10), follow=follow)
    assert (path.lstat().st_atime_ns, path.lstat().st_mtime_ns) == (5_000_000_006, 9_000_000_010)
    utimens(path, (11, 12), (0, OMIT), follow=follow)
    assert (path.lstat().st_atime_ns, path.lstat().st_mtime_ns) == (11_000_000_012, 9_000_000_010)
    start = time.time_ns() - 10**9
    utimens(path, (0, NOW), (0, OMIT), follow=follow)
    assert start < path.lstat().st_atime_ns < time.time_ns() + 10**9
    assert path.lstat().st_mtime_ns == 9_000_000_010
    utimens(path, (1, 1), (0, NOW), follow=follow)
    assert start < path.lstat().st_mtime_ns < time.time_ns() + 10**9
    assert path.lstat().st_atime_ns == 1_000_000_001
    before = path.lstat()
    utimens(path, (0, OMIT), (0, OMIT), follow=follow)
    assert path.lstat()[:9] == before[:9]


def test_bad_nanoseconds_are_einval(target: Path) -> None:
    path = kind_of(target / "x", "file")
    for nanoseconds in (10**9, -1):
        with fails_with(errno.EINVAL):
            utimens(path, (1, nanoseconds), (1, 1))


def test_time_set_through_a_symlink_goes_to_its_aim_only(target: Path) -> None:
    path = kind_of(target / "aim", "file")
    (target / "link").symlink_to("aim")
    os.utime(target / "link", ns=(1, 2), follow_symlinks=False)
    os.utime(target / "link", ns=(3, 4))
    assert (path.stat().st_atime_ns, path.stat().st_mtime_ns) == (3, 4)
    assert (target / "link").lstat().st_mtime_ns == 2
    assert (target / "link").lstat().st_atime_ns != 3


def test_times_set_on_an_open_dirty_file_stay(target: Path) -> None:
    """cp -p and tar: write, set times, close; the close must not move them."""
    fd = os.open(target / "f", os.O_RDWR | os.O_CREAT)
    os.write(fd, b"x" * 100_000)
    os.utime(fd, ns=(LONG_AGO + 1, LONG_AGO + 2))
    assert os.fstat(fd).st_mtime_ns == LONG_AGO + 2
    os.close(fd)
    info = (target / "f").stat()
    assert (info.st_atime_ns, info.st_mtime_ns) == (LONG_AGO + 1, LONG_AGO + 2)
    fd = os.open(target / "f", os.O_RDWR)
    os.fsync(fd)
    os.close(fd)
    assert (target / "f").stat().st_mtime_ns == LONG_AGO + 2


def test_write_after_utime_moves_mtime_again(target: Path) -> None:
    fd = os.open(target / "f", os.O_RDWR | os.O_CREAT)
    os.write(fd, b"x")
    os.utime(fd, ns=(1, 2))
    os.write(fd, b"y")
    assert os.fstat(fd).st_mtime_ns > 10**18
    os.close(fd)
    assert (target / "f").stat().st_mtime_ns > 10**18


def moves(path: Path, action) -> set[str]:
    """Which of the three times `action` moves. mtime is set back first; ctime cannot be, so it is compared."""
    os.utime(path, ns=(LONG_AGO, LONG_AGO), follow_symlinks=False)
    before = path.lstat()
    while time.time_ns() // 10_000_000 <= before.st_ctime_ns // 10_000_000:
        pass  # the clock of the file system ticks every 4 to 10 ms
    action()
    after = path.lstat()
    names = ("st_atime_ns", "st_mtime_ns", "st_ctime_ns")
    return {name[3] for name in names if getattr(before, name) != getattr(after, name)} - {"a"}


def test_which_call_moves_which_time(target: Path) -> None:
    path = kind_of(target / "f", "file")
    assert moves(path, lambda: path.write_bytes(b"abc")) == {"m", "c"}
    assert moves(path, lambda: os.truncate(path, 1)) == {"m", "c"}
    assert moves(path, lambda: path.chmod(0o600)) == {"c"}
    assert moves(path, lambda: os.chown(path, os.getuid(), os.getgid())) == {"c"}
    assert moves(path, lambda: os.link(path, target / "g")) == {"c"}
    assert moves(path, (target / "g").unlink) == {"c"}
    assert moves(path, lambda: os.setxattr(path, "user.a", b"1")) == {"c"}
    assert moves(path, lambda: os.removexattr(path, "user.a")) == {"c"}
    assert moves(path, path.read_bytes) == set()
    assert moves(path, path.stat) == set()
    assert moves(path, lambda: os.close(os.open(path, os.O_RDWR))) == set()
    assert moves(path, lambda: os.utime(path, ns=(1, LONG_AGO))) == {"c"}


def test_times_of_new_inodes_are_now(target: Path) -> None:
    start = time.time_ns() - 20_000_000
    for kind in ("file", "dir", "fifo", "symlink"):
        info = kind_of(target / kind, kind).lstat()
        for moment in (info.st_atime_ns, info.st_mtime_ns, info.st_ctime_ns):
            assert start <= moment <= time.time_ns() + 10**9


def test_two_quick_writes_have_different_mtimes_or_the_same_tick(target: Path) -> None:
    """make and rsync compare mtimes: they never go back."""
    path = kind_of(target / "f", "file")
    last = path.stat().st_mtime_ns
    for number in range(200):
        path.write_bytes(b"%d" % number)
        now = path.stat().st_mtime_ns
        assert now >= last
        last = now


def test_atime_set_is_kept_by_stat_and_by_metadata_changes(target: Path) -> None:
    path = kind_of(target / "f", "file")
    os.utime(path, ns=(123_456_789_123, LONG_AGO))
    path.chmod(0o640)
    os.setxattr(path, "user.a", b"1")
    path.rename(target / "g")
    assert (target / "g").stat().st_atime_ns == 123_456_789_123


@pytest.mark.needs_root
def test_who_may_set_times(target: Path) -> None:
    path = kind_of(target / "f", "file")
    path.chmod(0o666)
    with as_user(4242):
        os.utime(path)  # now: write permission is enough
        with fails_with(errno.EPERM):
            os.utime(path, ns=(1, 1))
        with fails_with(errno.EPERM):
            utimens(path, (0, NOW), (0, OMIT))
    path.chmod(0o644)
    with as_user(4242), fails_with(errno.EACCES):
        os.utime(path)
    os.chown(path, 4242, 4242)
    with as_user(4242):
        os.utime(path, ns=(1, 2))
    assert path.stat().st_mtime_ns == 2
