"""What is the same after unmounting and mounting again, also when cache and replica were deleted in between."""

import errno
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rawcalls import fails_with, open_handle, path_handle
from snapshot import differences, snapshot

MIB = 1 << 20
HOUR = 3600 * 10**9


def build(top: Path) -> None:
    """One of everything that has to survive."""
    (top / "dir/sub").mkdir(parents=True)
    (top / "dir/small").write_bytes(b"small")
    (top / "dir/empty").write_bytes(b"")
    (top / "dir/big").write_bytes(os.urandom(3 * MIB + 17))
    (top / "dir/zeros").write_bytes(bytes(MIB))
    os.link(top / "dir/small", top / "dir/sub/twin")
    (top / "link").symlink_to("t/" * 2000)
    os.mkfifo(top / "fifo", 0o604)
    if os.geteuid() == 0:
        os.mknod(top / "device", stat.S_IFCHR | 0o600, os.makedev(5, 1))
        os.chown(top / "dir/empty", 4242, 4343)
    with (top / "sparse").open("wb") as file:
        file.truncate(1 << 40)
        file.seek(7 * MIB + 3)
        file.write(b"island")
    os.setxattr(top / "dir/big", "user.note", b"\0\xff value")
    os.setxattr(top / "dir", "user.on dir", b"")
    for name in (b"\xff\xfe", b"n" * 255, "\u00e9".encode(), "e\u0301".encode(), b"nul-like\\0"):
        with open(os.fsencode(top) + b"/" + name, "wb") as file:
            file.write(name)
    (top / "forbidden").mkdir()
    (top / "forbidden/f").write_bytes(b"x")
    (top / "forbidden").chmod(0)
    (top / "dir/small").chmod(0o4751)
    for number, path in enumerate([top / "dir/small", top / "dir/big", top / "link", top / "fifo", top / "dir/sub"]):
        os.utime(path, ns=(10**9 + number, -(10**9) - number), follow_symlinks=False)


@pytest.fixture
def tree(target: Path) -> Path:
    build(target)
    return target


def whole(top: Path) -> dict:
    """Snapshot of all but the contents of the huge file."""
    found = snapshot(top, content=False)
    plain = [path for path, entry in found.items() if entry.kind == "-" and path != b"sparse"]
    data = {path: (top / os.fsdecode(path)).read_bytes() for path in plain}
    with (top / "sparse").open("rb") as file:
        file.seek(7 * MIB)
        data[b"sparse"] = file.read(100)
    return {"tree": found, "data": data}


@pytest.mark.parametrize("forget", [False, True], ids=["local state kept", "cache and replica deleted"])
def test_everything_is_as_it_was(tree: Path, remount: Callable[..., None], forget: bool) -> None:
    before = whole(tree)
    remount(forget=forget)
    after = whole(tree)
    assert differences(before["tree"], after["tree"], rebuilt_since=time.time_ns() - HOUR) == []
    assert before["data"] == after["data"]


def test_inode_numbers_are_stable_and_wide(tree: Path, remount: Callable[..., None]) -> None:
    before = {path: path.lstat().st_ino for path in tree.rglob("*")}
    remount()
    assert {path: path.lstat().st_ino for path in tree.rglob("*")} == before
    assert tree.stat().st_ino > 1


@pytest.mark.known(ext4="reuses inode numbers, with a new generation")
def test_inode_numbers_are_not_reused_after_a_remount(target: Path, remount: Callable[..., None]) -> None:
    seen = set()
    for round_number in range(3):
        for number in range(20):
            path = target / f"{round_number}-{number}"
            path.write_bytes(b"")
            seen.add(path.stat().st_ino)
            if number % 2:
                path.unlink()
        remount()
    assert len(seen) == 60


@pytest.mark.needs_root
@pytest.mark.parametrize("again", [False, True], ids=["same mount", "after remount"])
def test_handles_open_and_go_stale(tree: Path, place, remount: Callable[..., None], again: bool) -> None:
    big, doomed = path_handle(tree / "dir/big"), path_handle(tree / "dir/empty")
    folder = path_handle(tree / "dir/sub")
    data = (tree / "dir/big").read_bytes()
    (tree / "dir/empty").unlink()
    if again:
        remount()
    anchor = os.open(place.root, os.O_RDONLY)
    try:
        fd = open_handle(anchor, big)
        assert os.pread(fd, 4 * MIB, 0) == data
        os.close(fd)
        fd = open_handle(anchor, folder)
        assert os.listdir(fd) == ["twin"]
        os.close(fd)
        with fails_with(errno.ESTALE):
            os.close(open_handle(anchor, doomed))
    finally:
        os.close(anchor)


def test_work_goes_on_after_the_remount(tree: Path, remount: Callable[..., None]) -> None:
    remount(forget=True)
    (tree / "dir/small").write_bytes(b"changed after")
    assert (tree / "dir/sub/twin").read_bytes() == b"changed after"
    fd = os.open(tree / "dir/big", os.O_RDWR)
    os.pwrite(fd, b"patch", MIB)
    os.close(fd)
    before = whole(tree)
    remount(forget=True)
    after = whole(tree)
    assert differences(before["tree"], after["tree"], rebuilt_since=time.time_ns() - HOUR) == []
    assert before["data"] == after["data"]
    assert after["data"][b"dir/big"][MIB : MIB + 5] == b"patch"


def test_deleted_files_stay_deleted(tree: Path, remount: Callable[..., None]) -> None:
    (tree / "dir/zeros").unlink()
    (tree / "dir/sub/twin").unlink()
    (tree / "dir/small").rename(tree / "moved")
    remount(forget=True)
    assert sorted(os.listdir(tree / "dir")) == ["big", "empty", "sub"]
    assert (tree / "moved").stat().st_nlink == 1


def test_unlinked_open_at_unmount_time_leaves_nothing(target: Path, remount: Callable[..., None]) -> None:
    fd = os.open(target / "gone", os.O_RDWR | os.O_CREAT)
    os.write(fd, b"x" * 100_000)
    (target / "gone").unlink()
    os.close(fd)
    remount(forget=True)
    assert os.listdir(target) == []


def test_rewritten_many_times_ends_as_the_last(target: Path, remount: Callable[..., None]) -> None:
    for number in range(200):
        (target / "f").write_bytes(b"%d" % number * 1000)
    remount(forget=True)
    assert (target / "f").read_bytes() == b"199" * 1000
