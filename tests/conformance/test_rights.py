"""Owners, modes and the special bits, judged with a second user."""

import errno
import os
import stat
from pathlib import Path

import pytest
from rawcalls import as_user, fails_with

pytestmark = pytest.mark.needs_root
ALICE, BOB, STAFF = 4242, 4343, 5000


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def by_write(path: Path) -> None:
    fd = os.open(path, os.O_WRONLY)
    os.write(fd, b"x")
    os.close(fd)


def by_truncate(path: Path) -> None:
    os.truncate(path, 3)


def by_open_trunc(path: Path) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_TRUNC))


def by_append(path: Path) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    os.write(fd, b"x")
    os.close(fd)


@pytest.mark.parametrize("change", [by_write, by_truncate, by_open_trunc, by_append])
@pytest.mark.parametrize(
    ("before", "after"),
    [(0o6777, 0o777), (0o4777, 0o777), (0o2777, 0o777), (0o4766, 0o766), (0o1777, 0o1777)],
)
def test_change_by_another_user_clears_setuid_and_setgid(target: Path, change, before: int, after: int) -> None:
    path = target / "f"
    path.write_bytes(b"12345")
    path.chmod(before)
    with as_user(ALICE):
        change(path)
    assert mode_of(path) == after


@pytest.mark.parametrize("change", [by_write, by_truncate, by_open_trunc])
def test_change_by_root_keeps_setuid_and_setgid(target: Path, change) -> None:
    path = target / "f"
    path.write_bytes(b"12345")
    path.chmod(0o6777)
    change(path)
    assert mode_of(path) == 0o6777


def test_chown_clears_setuid_and_setgid(target: Path) -> None:
    path = target / "f"
    path.write_bytes(b"")
    path.chmod(0o6755)
    os.chown(path, ALICE, STAFF)
    assert mode_of(path) == 0o755
    path.chmod(0o6755)
    with as_user(ALICE, ALICE, (STAFF, 5001)):
        os.chown(path, -1, 5001)
    assert mode_of(path) == 0o755
    assert path.stat().st_gid == 5001


def test_chown_of_directory_keeps_its_bits(target: Path) -> None:
    path = target / "d"
    path.mkdir()
    path.chmod(0o6755)
    os.chown(path, ALICE, STAFF)
    assert mode_of(path) == 0o6755


def test_chmod_by_a_stranger_to_the_group_drops_setgid(target: Path) -> None:
    path = target / "f"
    path.write_bytes(b"")
    os.chown(path, ALICE, STAFF)
    with as_user(ALICE, ALICE):
        path.chmod(0o2755)
    assert mode_of(path) == 0o755
    with as_user(ALICE, ALICE, (STAFF,)):
        path.chmod(0o2755)
    assert mode_of(path) == 0o2755


def test_setgid_directory_gives_group_and_bit(target: Path) -> None:
    folder = target / "shared"
    folder.mkdir()
    os.chown(folder, 0, STAFF)
    folder.chmod(0o2777)
    with as_user(ALICE):
        (folder / "file").write_bytes(b"")
        (folder / "sub").mkdir()
        (folder / "sub/subsub").mkdir()
        (folder / "link").symlink_to("x")
        os.mkfifo(folder / "fifo")
    for name in ("file", "sub", "sub/subsub", "link", "fifo"):
        info = (folder / name).lstat()
        assert (info.st_uid, info.st_gid) == (ALICE, STAFF), name
    assert mode_of(folder / "sub") & stat.S_ISGID
    assert mode_of(folder / "sub/subsub") & stat.S_ISGID
    assert not mode_of(folder / "file") & stat.S_ISGID


def test_sticky_directory_protects_what_others_own(target: Path) -> None:
    folder = target / "tmp"
    folder.mkdir()
    folder.chmod(0o1777)
    with as_user(ALICE):
        (folder / "hers").write_bytes(b"")
        (folder / "herdir").mkdir()
    with as_user(BOB):
        for call in (
            (folder / "hers").unlink,
            (folder / "herdir").rmdir,
            lambda: (folder / "hers").rename(folder / "mine"),
        ):
            with fails_with(errno.EPERM, errno.EACCES):
                call()
        (folder / "his").write_bytes(b"")
        with fails_with(errno.EPERM, errno.EACCES):
            (folder / "his").rename(folder / "hers")
        (folder / "his").unlink()
    with as_user(ALICE):
        (folder / "hers").unlink()
        (folder / "herdir").rmdir()


@pytest.mark.parametrize("mode", range(8))
def test_file_permission_bits(target: Path, mode: int) -> None:
    path = target / "f"
    path.write_bytes(b"x")
    os.chown(path, ALICE, STAFF)
    for shift, uid, gid in ((6, ALICE, ALICE), (3, BOB, STAFF), (0, BOB, BOB)):
        path.chmod(mode << shift)
        with as_user(uid, gid):
            for bit, flags in ((4, os.O_RDONLY), (2, os.O_WRONLY), (6, os.O_RDWR)):
                if mode & bit == bit:
                    os.close(os.open(path, flags))
                else:
                    with fails_with(errno.EACCES):
                        os.open(path, flags)


@pytest.mark.parametrize("mode", range(8))
def test_directory_permission_bits(target: Path, mode: int) -> None:
    folder = target / "d"
    folder.mkdir()
    (folder / "f").write_bytes(b"x")
    (folder / "old").write_bytes(b"x")
    folder.chmod(mode)
    with as_user(BOB):
        may_list, may_write, may_search = bool(mode & 4), mode & 3 == 3, bool(mode & 1)
        for allowed, call in (
            (may_list, lambda: os.listdir(folder)),
            (may_search, lambda: os.stat(folder / "f")),
            (may_write, (folder / "new").mkdir),
            (may_write, lambda: (folder / "f").rename(folder / "g")),
            (may_write, (folder / "old").unlink),
        ):
            if allowed:
                call()
            else:
                with fails_with(errno.EACCES):
                    call()
    folder.chmod(0o700)


def test_only_owner_and_root_change_mode_and_owner(target: Path) -> None:
    path = target / "f"
    path.write_bytes(b"")
    path.chmod(0o666)
    os.chown(path, ALICE, ALICE)
    with as_user(BOB):
        with fails_with(errno.EPERM):
            path.chmod(0o777)
        with fails_with(errno.EPERM):
            os.chown(path, BOB, -1)
        with fails_with(errno.EPERM):
            os.chown(path, -1, BOB)
    with as_user(ALICE, ALICE, (STAFF,)):
        path.chmod(0o640)
        os.chown(path, -1, STAFF)
        os.chown(path, ALICE, -1)
        with fails_with(errno.EPERM):
            os.chown(path, BOB, -1)
        with fails_with(errno.EPERM):
            os.chown(path, -1, BOB)
    info = path.stat()
    assert (info.st_uid, info.st_gid, mode_of(path)) == (ALICE, STAFF, 0o640)


def test_big_ids(target: Path) -> None:
    path = target / "f"
    path.write_bytes(b"")
    os.chown(path, 2**32 - 2, 2**31 + 5)
    assert (path.stat().st_uid, path.stat().st_gid) == (2**32 - 2, 2**31 + 5)


def test_chown_of_minus_one_changes_nothing(target: Path) -> None:
    path = target / "f"
    path.write_bytes(b"")
    os.chown(path, ALICE, BOB)
    os.chown(path, -1, -1)
    assert (path.stat().st_uid, path.stat().st_gid) == (ALICE, BOB)


def test_lchown_acts_on_the_symlink(target: Path) -> None:
    (target / "aim").write_bytes(b"")
    (target / "link").symlink_to("aim")
    os.lchown(target / "link", ALICE, BOB)
    assert ((target / "link").lstat().st_uid, (target / "aim").stat().st_uid) == (ALICE, 0)
    os.chown(target / "link", BOB, BOB)
    assert ((target / "link").lstat().st_uid, (target / "aim").stat().st_uid) == (ALICE, BOB)


@pytest.mark.parametrize("mode", [0, 0o777, 0o7777, 0o4000, 0o2000, 0o1000, 0o123])
def test_chmod_keeps_every_bit(target: Path, mode: int) -> None:
    (target / "f").write_bytes(b"")
    (target / "d").mkdir()
    for path in (target / "f", target / "d"):
        path.chmod(mode)
        assert mode_of(path) == mode


def test_hard_link_and_unlink_need_the_directory_only(target: Path) -> None:
    folder = target / "d"
    folder.mkdir()
    folder.chmod(0o777)
    path = folder / "f"
    path.write_bytes(b"x")
    path.chmod(0)
    with as_user(BOB):
        path.rename(folder / "g")
        (folder / "g").unlink()
    assert list(folder.iterdir()) == []


def test_moving_a_directory_needs_write_on_itself_when_dotdot_changes(target: Path) -> None:
    for name in ("a", "b"):
        (target / name).mkdir()
        (target / name).chmod(0o777)
    (target / "a/d").mkdir()
    with as_user(BOB):
        with fails_with(errno.EACCES):
            (target / "a/d").rename(target / "b/d")
        (target / "a/d").rename(target / "a/e")


def test_exec_bit_decides_who_runs(target: Path) -> None:
    path = target / "f"
    path.write_bytes(b"#!/bin/true\n")
    path.chmod(0o644)
    for uid in (0, BOB):
        with as_user(uid):
            assert not os.access(path, os.X_OK, effective_ids=True)
    path.chmod(0o645)
    with as_user(BOB):
        assert os.access(path, os.X_OK, effective_ids=True)
