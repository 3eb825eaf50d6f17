"""Hard links: counts, shared attributes, and names of one inode that stay names of one inode."""

import errno
import os
import stat
from pathlib import Path

from rawcalls import fails_with


def test_link_reports_the_plain_size_and_the_new_count(target: Path) -> None:
    one, two = target / "one", target / "two"
    one.write_bytes(b"x" * 100_001)
    os.link(one, two)
    for path in (one, two):
        info = path.stat()
        assert (info.st_size, info.st_nlink) == (100_001, 2)
    assert one.stat().st_ino == two.stat().st_ino
    one.unlink()
    assert two.stat().st_nlink == 1
    assert two.read_bytes() == b"x" * 100_001


def test_every_name_shows_every_change(target: Path) -> None:
    names = [target / f"n{number}" for number in range(20)]
    names[0].write_bytes(b"first")
    for name in names[1:]:
        os.link(names[0], name)
    assert {name.stat().st_nlink for name in names} == {20}
    names[7].write_bytes(b"changed")
    names[3].chmod(0o640)
    os.utime(names[9], ns=(1, 2))
    os.setxattr(names[11], "user.k", b"v")
    for name in names:
        info = name.stat()
        assert name.read_bytes() == b"changed"
        assert (stat.S_IMODE(info.st_mode), info.st_mtime_ns) == (0o640, 2)
        assert os.getxattr(name, "user.k") == b"v"
    for left, name in zip(range(19, 0, -1), names, strict=False):
        name.unlink()
        assert names[-1].stat().st_nlink == left


def test_rename_between_two_names_of_one_inode_keeps_both(target: Path) -> None:
    one, two = target / "one", target / "two"
    one.write_bytes(b"x")
    os.link(one, two)
    os.rename(one, two)
    assert sorted(path.name for path in target.iterdir()) == ["one", "two"]
    assert one.stat().st_nlink == 2


def test_rename_over_one_name_lowers_the_count_of_the_other(target: Path) -> None:
    one, two, new = target / "one", target / "two", target / "new"
    one.write_bytes(b"old")
    os.link(one, two)
    new.write_bytes(b"new")
    os.rename(new, two)
    assert (one.stat().st_nlink, two.stat().st_nlink) == (1, 1)
    assert (one.read_bytes(), two.read_bytes()) == (b"old", b"new")


def test_links_across_directories(target: Path) -> None:
    (target / "a").mkdir()
    (target / "b").mkdir()
    (target / "a/f").write_bytes(b"x")
    os.link(target / "a/f", target / "b/g")
    (target / "a/f").unlink()
    (target / "a").rmdir()
    assert (target / "b/g").read_bytes() == b"x"


def test_link_to_symlink_links_the_symlink(target: Path) -> None:
    (target / "s").symlink_to("aim")
    os.link(target / "s", target / "t", follow_symlinks=False)
    assert os.readlink(target / "t") == "aim"
    assert (target / "t").lstat().st_nlink == 2


def test_link_of_fifo(target: Path) -> None:
    os.mkfifo(target / "p")
    os.link(target / "p", target / "q")
    assert stat.S_ISFIFO((target / "q").stat().st_mode)
    assert (target / "p").stat().st_nlink == 2


def test_link_refusals(target: Path) -> None:
    (target / "f").write_bytes(b"")
    (target / "d").mkdir()
    with fails_with(errno.EPERM):
        os.link(target / "d", target / "e")
    with fails_with(errno.EEXIST):
        os.link(target / "f", target / "d")
    with fails_with(errno.EEXIST):
        os.link(target / "f", target / "f")
    with fails_with(errno.ENOENT):
        os.link(target / "none", target / "x")
    with fails_with(errno.ENOENT):
        os.link(target / "f", target / "none/x")
    with fails_with(errno.ENOTDIR):
        os.link(target / "f", target / "f/x")
    with fails_with(errno.EXDEV):
        elsewhere = "/tmp" if os.stat("/tmp").st_dev != target.stat().st_dev else "/dev/shm"
        os.link(target / "f", f"{elsewhere}/cryptfs-never-{os.getpid()}")
    assert (target / "f").stat().st_nlink == 1


def test_link_moves_ctime_and_not_mtime(target: Path) -> None:
    file = target / "f"
    file.write_bytes(b"x")
    os.utime(file, ns=(10, 20))
    before = file.stat()
    os.link(file, target / "g")
    after = file.stat()
    assert after.st_mtime_ns == before.st_mtime_ns == 20
    assert after.st_ctime_ns >= before.st_ctime_ns


def test_directory_count_is_two_plus_subdirectories(target: Path) -> None:
    parent = target / "p"
    parent.mkdir()
    assert parent.stat().st_nlink == 2
    (parent / "a").mkdir()
    (parent / "b").mkdir()
    (parent / "f").write_bytes(b"")
    assert parent.stat().st_nlink == 4
    (parent / "a").rename(parent / "b/a")
    assert (parent.stat().st_nlink, (parent / "b").stat().st_nlink) == (3, 3)
    (parent / "b/a").rmdir()
    (parent / "b").rmdir()
    assert parent.stat().st_nlink == 2


def test_maildir_delivery(target: Path) -> None:
    """tmp → link to new → unlink tmp, as delivery agents do."""
    for name in ("tmp", "new", "cur"):
        (target / name).mkdir()
    for number in range(50):
        draft, final = target / f"tmp/{number}", target / f"new/{number}"
        draft.write_bytes(b"mail %d" % number)
        os.link(draft, final)
        assert final.stat().st_nlink == 2
        draft.unlink()
        final.rename(target / f"cur/{number}:2,S")
    assert len(list((target / "cur").iterdir())) == 50
    assert (target / "cur/7:2,S").read_bytes() == b"mail 7"
