"""Directories: listing, positions that stay good while entries come and go, numbers that agree, modes as asked."""

import errno
import os
import random
import stat
from pathlib import Path

import pytest
from rawcalls import RawDir, fails_with

SEED = 20240607
ENTRY_TYPES = {"file": 8, "dir": 4, "symlink": 10, "fifo": 1}


def names_of(entries: list) -> list[bytes]:
    return sorted(entry.name for entry in entries if entry.name not in (b".", b".."))


def fill(folder: Path, count: int) -> list[bytes]:
    """`count` empty files; returns their names, sorted."""
    for number in range(count):
        os.close(os.open(folder / f"entry-{number:05}", os.O_CREAT | os.O_WRONLY))
    return [b"entry-%05d" % number for number in range(count)]


def test_d_ino_is_st_ino_and_d_type_is_the_kind(target: Path) -> None:
    (target / "file").write_bytes(b"")
    (target / "dir").mkdir()
    (target / "symlink").symlink_to("x")
    os.mkfifo(target / "fifo")
    with RawDir(target) as stream:
        found = {entry.name.decode(): entry for entry in stream.rest()}
    assert found.keys() == {".", "..", *ENTRY_TYPES}
    assert found["."].ino == target.stat().st_ino
    for name, kind in ENTRY_TYPES.items():
        assert found[name].ino == (target / name).lstat().st_ino
        assert found[name].kind == kind


def test_dotdot_of_a_subdirectory(target: Path) -> None:
    (target / "a/b").mkdir(parents=True)
    with RawDir(target / "a/b") as stream:
        found = {entry.name: entry.ino for entry in stream.rest()}
    assert found[b"."] == (target / "a/b").stat().st_ino
    assert found[b".."] == (target / "a").stat().st_ino


def test_ten_thousand_entries_each_once(target: Path) -> None:
    names = fill(target, 10_000)
    with RawDir(target) as stream:
        assert names_of(stream.rest()) == names
    assert len(os.listdir(target)) == 10_000
    for name in names[::2]:
        os.unlink(os.fsencode(target) + b"/" + name)
    assert sorted(os.listdir(os.fsencode(target))) == names[1::2]


def test_seekdir_comes_back_to_where_telldir_was(target: Path) -> None:
    fill(target, 700)
    rng = random.Random(SEED)
    with RawDir(target) as stream:
        walk = []
        while True:
            position = stream.tell()
            entry = stream.read()
            if entry is None:
                break
            walk.append((position, entry.name))
        assert len(walk) == 702
        for position, name in rng.sample(walk, 200):
            stream.seek(position)
            again = stream.read()
            assert again is not None
            assert again.name == name
            assert stream.tell() == again.tell


def test_position_survives_removal_and_creation(target: Path) -> None:
    """Entries not touched are seen exactly once whatever else happens (POSIX readdir)."""
    names = fill(target, 600)
    with RawDir(target) as stream:
        head = [stream.read() for _ in range(300)]
        position = stream.tell()
        seen = {entry.name for entry in head if entry is not None} - {b".", b".."}
        doomed = sorted(seen)[::3] + sorted(set(names) - seen)[::3]
        for name in doomed:
            os.unlink(os.fsencode(target) + b"/" + name)
        for number in range(200):
            (target / f"new-{number}").write_bytes(b"")
        stream.seek(position)
        tail = [entry.name for entry in stream.rest() if not entry.name.startswith(b"new-")]
    kept = set(names) - set(doomed)
    assert len(tail) == len(set(tail)), "an entry came twice"
    assert not (set(tail) & seen), "the position went back"
    assert kept - seen <= set(tail), "an untouched entry was left out"


def test_rewinddir_shows_the_present(target: Path) -> None:
    fill(target, 50)
    with RawDir(target) as stream:
        stream.rest()
        (target / "late").write_bytes(b"")
        (target / "entry-00000").unlink()
        stream.rewind()
        names = names_of(stream.rest())
    assert b"late" in names
    assert b"entry-00000" not in names
    assert len(names) == 50


def test_two_streams_do_not_disturb_each_other(target: Path) -> None:
    names = fill(target, 400)
    with RawDir(target) as one, RawDir(target) as two:
        left, right = [], []
        for _ in range(200):
            left.append(one.read())
            right.append(two.read())
            right.append(two.read())
        left += one.rest()
        right += two.rest()
    assert names_of([entry for entry in left if entry]) == names
    assert names_of([entry for entry in right if entry]) == names


def test_delete_while_listing_empties_the_directory(target: Path) -> None:
    fill(target, 3000)
    with os.scandir(target) as entries:
        for entry in entries:
            os.unlink(entry.path)
    assert os.listdir(target) == []


def test_rename_while_listing_loses_nothing(target: Path) -> None:
    fill(target, 500)
    with os.scandir(target) as entries:
        for entry in entries:
            if entry.name.startswith("entry-"):
                os.rename(entry.path, target / f"renamed-{entry.name}")
    assert len(os.listdir(target)) == 500


@pytest.mark.parametrize("mode", [0o000, 0o151, 0o100, 0o305, 0o244, 0o700, 0o777, 0o1777, 0o2755, 0o500])
def test_mkdir_mode_is_exactly_what_was_asked(target: Path, mode: int) -> None:
    os.umask(0)
    os.mkdir(target / "d", mode)
    # mkdir(2) ignores setuid and setgid; the sticky bit counts on Linux.
    assert stat.S_IMODE((target / "d").stat().st_mode) == mode & 0o1777
    os.chmod(target / "d", mode)
    assert stat.S_IMODE((target / "d").stat().st_mode) == mode
    os.chmod(target / "d", 0o700)
    os.mkdir(target / "d/sub", mode)
    os.rmdir(target / "d/sub")


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o027, 0o077, 0o777])
def test_umask_is_applied_once(target: Path, umask: int) -> None:
    os.umask(umask)
    os.mkdir(target / "d", 0o777)
    os.close(os.open(target / "f", os.O_CREAT | os.O_WRONLY, 0o666))
    os.mkfifo(target / "p", 0o666)
    modes = [stat.S_IMODE((target / name).stat().st_mode) for name in "dfp"]
    assert modes == [0o777 & ~umask, 0o666 & ~umask, 0o666 & ~umask]


def test_refusals(target: Path) -> None:
    (target / "f").write_bytes(b"")
    (target / "d/e").mkdir(parents=True)
    (target / "s").symlink_to("d")
    with fails_with(errno.EEXIST):
        os.mkdir(target / "d")
    with fails_with(errno.EEXIST):
        os.mkdir(target / "f")
    with fails_with(errno.EEXIST):
        os.mkdir(target / "s")
    with fails_with(errno.ENOENT):
        os.mkdir(target / "none/x")
    with fails_with(errno.ENOTDIR):
        os.mkdir(target / "f/x")
    with fails_with(errno.ENOTDIR):
        os.rmdir(target / "f")
    with fails_with(errno.ENOTDIR):
        os.rmdir(target / "s")
    with fails_with(errno.ENOTEMPTY, errno.EEXIST):
        os.rmdir(target / "d")
    with fails_with(errno.EINVAL):
        os.rmdir(f"{target}/d/e/.")
    with fails_with(errno.ENOTEMPTY, errno.EEXIST, errno.EBUSY):
        os.rmdir(f"{target}/d/e/..")
    with fails_with(errno.EISDIR, errno.EPERM):
        os.unlink(target / "d")
    with fails_with(errno.ENOTDIR):
        os.listdir(target / "f")
    with fails_with(errno.EISDIR):
        os.open(target / "d", os.O_WRONLY)
    fd = os.open(target / "d", os.O_RDONLY)
    with fails_with(errno.EISDIR):
        os.read(fd, 10)
    with fails_with(errno.EBADF, errno.EINVAL):
        os.ftruncate(fd, 0)
    os.fsync(fd)
    os.close(fd)


def test_times_move_with_entries_only(target: Path) -> None:
    folder = target / "d"
    folder.mkdir()
    (folder / "f").write_bytes(b"x")

    def moved(change) -> bool:
        os.utime(folder, ns=(10**18, 10**18))
        change()
        return folder.stat().st_mtime_ns != 10**18

    assert moved(lambda: (folder / "g").write_bytes(b""))
    assert moved(lambda: (folder / "g").rename(folder / "h"))
    assert moved((folder / "h").unlink)
    assert moved((folder / "sub").mkdir)
    assert moved((folder / "sub").rmdir)
    assert moved(lambda: os.link(folder / "f", folder / "l"))
    assert moved(lambda: (folder / "s").symlink_to("x"))
    assert not moved(lambda: (folder / "f").write_bytes(b"other"))
    assert not moved(lambda: (folder / "f").chmod(0o600))
    assert not moved((folder / "f").read_bytes)


def test_deep_tree_and_its_removal(target: Path) -> None:
    here = target
    for level in range(60):
        here = here / f"level{level}"
        here.mkdir()
        (here / "f").write_bytes(b"%d" % level)
    assert sum(1 for _ in target.rglob("f")) == 60
    for folder, folders, files in os.walk(target, topdown=False):
        for name in files:
            os.unlink(os.path.join(folder, name))
        for name in folders:
            os.rmdir(os.path.join(folder, name))
    assert list(target.iterdir()) == []
