"""rename in every combination of kinds, flags and positions: what succeeds, what each refusal is called."""

import errno
import os
import stat
from pathlib import Path

import pytest
from rawcalls import EXCHANGE, NOREPLACE, WHITEOUT, fails_with, renameat2

KINDS = ["file", "symlink", "fifo", "empty", "full", "absent"]
FOLDERS = ("empty", "full")


def make(path: Path, kind: str) -> int:
    """Make `path` of a kind; returns its inode number, 0 for none."""
    if kind == "file":
        path.write_bytes(path.name.encode())
    elif kind == "symlink":
        path.symlink_to(path.name)
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind in FOLDERS:
        path.mkdir()
    if kind == "full":
        (path / "inside").write_bytes(b"")
    return 0 if kind == "absent" else path.lstat().st_ino


def expected(old: str, new: str, flags: int) -> int:
    """errno of rename(old, new), 0 for success (rename(2) and POSIX)."""
    if flags == EXCHANGE:
        return errno.ENOENT if "absent" in (old, new) else 0
    if old == "absent":
        return errno.ENOENT
    if new == "absent":
        return 0
    if flags == NOREPLACE:
        return errno.EEXIST
    if old in FOLDERS:
        return {"empty": 0, "full": errno.ENOTEMPTY}.get(new, errno.ENOTDIR)
    return errno.EISDIR if new in FOLDERS else 0


@pytest.mark.parametrize("flags", [0, NOREPLACE, EXCHANGE])
@pytest.mark.parametrize("new", KINDS)
@pytest.mark.parametrize("old", KINDS)
def test_every_pair_of_kinds(target: Path, old: str, new: str, flags: int) -> None:
    here, there = target / "here", target / "there"
    here.mkdir()
    there.mkdir()
    one, two = make(here / "a", old), make(there / "b", new)
    code = expected(old, new, flags)
    if code:
        # A full directory may be called ENOTEMPTY or EEXIST (POSIX allows both).
        with fails_with(code, *((errno.EEXIST,) if code == errno.ENOTEMPTY else ())):
            renameat2(here / "a", there / "b", flags)
        after = (one, two)
    else:
        renameat2(here / "a", there / "b", flags)
        after = (two if flags == EXCHANGE else 0, one)
    found = tuple(path.lstat().st_ino if os.path.lexists(path) else 0 for path in (here / "a", there / "b"))
    assert found == after
    assert here.stat().st_nlink == 2 + sum(path.is_dir() and not path.is_symlink() for path in here.iterdir())
    assert there.stat().st_nlink == 2 + sum(path.is_dir() and not path.is_symlink() for path in there.iterdir())


@pytest.mark.parametrize("flags", [0, NOREPLACE])
@pytest.mark.parametrize("kind", KINDS[:-1])
def test_onto_itself(target: Path, kind: str, flags: int) -> None:
    ino = make(target / "a", kind)
    if flags:
        with fails_with(errno.EEXIST):
            renameat2(target / "a", target / "a", flags)
    else:
        renameat2(target / "a", target / "a", 0)
    assert (target / "a").lstat().st_ino == ino


def test_directory_into_itself_or_below_is_einval(target: Path) -> None:
    (target / "a/b/c").mkdir(parents=True)
    for below in ("a/x", "a/b/x", "a/b/c/x"):
        with fails_with(errno.EINVAL):
            os.rename(target / "a", target / below)
    for flags in (NOREPLACE, EXCHANGE):
        with fails_with(errno.EINVAL, errno.ENOENT):
            renameat2(target / "a", target / "a/b/x", flags)
    with fails_with(errno.EINVAL):
        renameat2(target / "a", target / "a/b/c", EXCHANGE)
    with fails_with(errno.ENOTEMPTY, errno.EEXIST):
        os.rename(target / "a/b/c", target / "a")
    assert (target / "a/b/c").is_dir()


def test_exchange_of_a_directory_with_a_file_moves_link_counts(target: Path) -> None:
    (target / "p/d/sub").mkdir(parents=True)
    (target / "q").mkdir()
    (target / "q/f").write_bytes(b"f")
    renameat2(target / "p/d", target / "q/f", EXCHANGE)
    assert (target / "p").stat().st_nlink == 2
    assert (target / "q").stat().st_nlink == 3
    assert (target / "p/d").read_bytes() == b"f"
    assert (target / "q/f/sub").is_dir()
    assert os.stat(target / "q/f/..").st_ino == (target / "q").stat().st_ino


def test_both_flags_and_unknown_flags_are_einval(target: Path) -> None:
    (target / "a").write_bytes(b"a")
    (target / "b").write_bytes(b"b")
    for flags in (NOREPLACE | EXCHANGE, 8, 1 << 30, WHITEOUT | EXCHANGE):
        with fails_with(errno.EINVAL):
            renameat2(target / "a", target / "b", flags)
    assert (target / "a").read_bytes() + (target / "b").read_bytes() == b"ab"


@pytest.mark.known(ext4="supports whiteouts", tmpfs="supports whiteouts")
def test_whiteout_is_einval(target: Path) -> None:
    (target / "a").write_bytes(b"a")
    with fails_with(errno.EINVAL):
        renameat2(target / "a", target / "b", WHITEOUT)
    assert (target / "a").read_bytes() == b"a"


def test_path_refusals(target: Path) -> None:
    (target / "f").write_bytes(b"")
    (target / "d").mkdir()
    for old, new, code in [
        ("f/x", "y", errno.ENOTDIR),
        ("f", "f/x", errno.ENOTDIR),
        ("none/x", "y", errno.ENOENT),
        ("f", "none/x", errno.ENOENT),
        ("f", "new/", errno.ENOTDIR),
        ("f/", "new", errno.ENOTDIR),
        ("d", "f/", errno.ENOTDIR),
    ]:
        with fails_with(code):
            os.rename(f"{target}/{old}", f"{target}/{new}")
    for old, new in [("d/.", "y"), ("d/..", "y"), ("f", "d/.."), ("d", "d/.")]:
        with fails_with(errno.EBUSY, errno.EINVAL, errno.ENOTEMPTY, errno.EEXIST):
            os.rename(f"{target}/{old}", f"{target}/{new}")
    os.rename(f"{target}/d/", f"{target}/e/")
    assert sorted(os.listdir(target)) == ["e", "f"]


def test_to_another_file_system_is_exdev(target: Path) -> None:
    (target / "f").write_bytes(b"")
    elsewhere = "/tmp" if os.stat("/tmp").st_dev != target.stat().st_dev else "/dev/shm"
    with fails_with(errno.EXDEV):
        os.rename(target / "f", f"{elsewhere}/cryptfs-never-{os.getpid()}")


def test_replaced_file_is_gone_and_new_bytes_are_there(target: Path) -> None:
    old, new = target / "config", target / "config.new"
    old.write_bytes(b"o" * 200_000)
    for number in range(30):
        new.write_bytes(b"%d" % number * 1000)
        os.rename(new, old)
        assert old.read_bytes() == b"%d" % number * 1000
        assert not new.exists()


def test_reader_keeps_what_it_opened(target: Path) -> None:
    path = target / "f"
    path.write_bytes(b"first")
    with path.open("rb") as reader:
        (target / "g").write_bytes(b"second")
        os.rename(target / "g", path)
        assert reader.read() == b"first"
    assert path.read_bytes() == b"second"


def test_moved_directory_keeps_its_tree_and_dotdot(target: Path) -> None:
    (target / "a/b/c").mkdir(parents=True)
    (target / "a/b/c/f").write_bytes(b"x")
    (target / "z").mkdir()
    fd = os.open(target / "a/b", os.O_RDONLY)
    os.rename(target / "a/b", target / "z/b")
    assert (target / "z/b/c/f").read_bytes() == b"x"
    up = os.open("..", os.O_RDONLY, dir_fd=fd)
    assert os.fstat(up).st_ino == (target / "z").stat().st_ino
    os.close(up)
    os.close(fd)
    assert list((target / "a").iterdir()) == []


def test_times_of_the_directories_move(target: Path) -> None:
    for name in ("a", "b"):
        (target / name).mkdir()
    (target / "a/f").write_bytes(b"x")
    for name in ("a", "b", "a/f"):
        os.utime(target / name, ns=(10**18, 10**18))
    ctime = (target / "a/f").stat().st_ctime_ns
    os.rename(target / "a/f", target / "b/g")
    assert (target / "a").stat().st_mtime_ns > 10**18
    assert (target / "b").stat().st_mtime_ns > 10**18
    moved = (target / "b/g").stat()
    assert moved.st_mtime_ns == 10**18
    assert moved.st_ctime_ns >= ctime


def test_swap_chain_of_directories(target: Path) -> None:
    """A cycle through three names, many times: link counts and contents stay."""
    for name in "abc":
        (target / name).mkdir()
        (target / name / name).write_text(name)
    for _ in range(20):
        os.rename(target / "a", target / "t")
        os.rename(target / "b", target / "a")
        os.rename(target / "c", target / "b")
        os.rename(target / "t", target / "c")
    # 20 rotations of a cycle of 3 are two: a holds c, b holds a, c holds b.
    assert [os.listdir(target / name) for name in "abc"] == [["c"], ["a"], ["b"]]
    assert all(stat.S_ISDIR((target / name).stat().st_mode) for name in "abc")
