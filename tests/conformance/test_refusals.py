"""Every call that takes a path, with every way a path can be wrong: the errno POSIX names, and nothing changed."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from rawcalls import EXCHANGE, NOREPLACE, as_user, fails_with, renameat2

Call = Callable[[str, Path], object]

# name: (call, follows a final symlink)
ON_EXISTING: dict[str, tuple[Call, bool]] = {
    "stat": (lambda path, _: os.stat(path), True),
    "lstat": (lambda path, _: os.lstat(path), False),
    "open": (lambda path, _: os.close(os.open(path, os.O_RDONLY)), True),
    "open O_WRONLY": (lambda path, _: os.close(os.open(path, os.O_WRONLY)), True),
    "chmod": (lambda path, _: os.chmod(path, 0o600), True),
    "chown": (lambda path, _: os.chown(path, -1, -1), True),
    "lchown": (lambda path, _: os.lchown(path, -1, -1), False),
    "truncate": (lambda path, _: os.truncate(path, 0), True),
    "utime": (lambda path, _: os.utime(path), True),
    "lutime": (lambda path, _: os.utime(path, follow_symlinks=False), False),
    "unlink": (lambda path, _: os.unlink(path), False),
    "rmdir": (lambda path, _: os.rmdir(path), False),
    "readlink": (lambda path, _: os.readlink(path), False),
    "listdir": (lambda path, _: os.listdir(path), True),
    "chdir": (lambda path, _: os.chdir(path), True),
    "link from": (lambda path, top: os.link(path, top / "new", follow_symlinks=False), False),
    "rename from": (lambda path, top: os.rename(path, top / "new"), False),
    "exchange": (lambda path, top: renameat2(os.fsencode(path), top / "file", EXCHANGE), False),
    "setxattr": (lambda path, _: os.setxattr(path, "user.a", b"1"), True),
    "getxattr": (lambda path, _: os.getxattr(path, "user.a"), True),
    "listxattr": (lambda path, _: os.listxattr(path), True),
    "statvfs": (lambda path, _: os.statvfs(path), True),
    "access": (lambda path, _: os.stat(path) and os.access(path, os.R_OK), True),
}
MAKING: dict[str, Call] = {
    "open O_CREAT": lambda path, _: os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)),
    "mkdir": lambda path, _: os.mkdir(path),
    "mkfifo": lambda path, _: os.mkfifo(path),
    "mknod": lambda path, _: os.mknod(path),
    "symlink": lambda path, _: os.symlink("aim", path),
    "link to": lambda path, top: os.link(top / "file", path),
    "rename to": lambda path, top: renameat2(top / "file", os.fsencode(path), NOREPLACE),
}


@pytest.fixture
def top(target: Path) -> Path:
    (target / "file").write_bytes(b"content")
    (target / "dir").mkdir()
    (target / "loop1").symlink_to("loop2")
    (target / "loop2").symlink_to("loop1")
    return target


def listing(top: Path) -> list[tuple[str, int, int]]:
    return sorted((entry.name, entry.inode(), entry.stat(follow_symlinks=False).st_size) for entry in os.scandir(top))


@pytest.mark.parametrize("name", [*ON_EXISTING, *MAKING])
@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("missing/x", errno.ENOENT),
        ("file/x", errno.ENOTDIR),
        ("file/", errno.ENOTDIR),
        ("loop1/x", errno.ELOOP),
        ("n" * 256, errno.ENAMETOOLONG),
        ("n" * 256 + "/x", errno.ENAMETOOLONG),
        ("x/" * 2100, errno.ENAMETOOLONG),
        ("", errno.ENOENT),
    ],
)
def test_bad_path(top: Path, name: str, path: str, code: int) -> None:
    call = ON_EXISTING[name][0] if name in ON_EXISTING else MAKING[name]
    before = listing(top)
    whole = f"{top}/{path}" if path else ""
    more = (
        {errno.ENOTDIR: (errno.EEXIST, errno.EISDIR, errno.ENOENT, errno.EINVAL)}.get(code, ())
        if path == "file/"
        else ()
    )
    with fails_with(code, *more):
        call(whole, top)
    assert listing(top) == before
    assert (top / "file").read_bytes() == b"content"


@pytest.mark.parametrize("name", ON_EXISTING)
def test_missing_and_looping_last_component(top: Path, name: str) -> None:
    call, follows = ON_EXISTING[name]
    with fails_with(errno.ENOENT):
        call(f"{top}/missing", top)
    if follows:
        with fails_with(errno.ELOOP):
            call(f"{top}/loop1", top)


@pytest.mark.parametrize("name", MAKING)
@pytest.mark.parametrize("there", ["file", "dir", "loop1", "."])
def test_making_what_exists_is_eexist(top: Path, name: str, there: str) -> None:
    more = (errno.EBUSY, errno.EISDIR) if there == "." else ()
    with fails_with(errno.EEXIST, *more):
        MAKING[name](f"{top}/{there}", top)


@pytest.mark.needs_root
@pytest.mark.parametrize("name", [*ON_EXISTING, *MAKING])
def test_unsearchable_directory_is_eacces(top: Path, name: str) -> None:
    call = ON_EXISTING[name][0] if name in ON_EXISTING else MAKING[name]
    (top / "dir/x").write_bytes(b"")
    (top / "dir").chmod(0o666)
    top.chmod(0o777)
    (top / "file").chmod(0o666)
    with as_user(4242), fails_with(errno.EACCES):
        call(f"{top}/dir/x" if name in ON_EXISTING else f"{top}/dir/new", top)


@pytest.mark.needs_root
@pytest.mark.parametrize("name", [*MAKING, "unlink", "rename from"])
def test_unwritable_directory_is_eacces(top: Path, name: str) -> None:
    call = ON_EXISTING[name][0] if name in ON_EXISTING else MAKING[name]
    (top / "dir/x").write_bytes(b"")
    os.chown(top / "dir/x", 4242, 4242)
    os.chown(top / "file", 4242, 4242)
    top.chmod(0o777)
    (top / "dir").chmod(0o755)
    with as_user(4242), fails_with(errno.EACCES):
        call(f"{top}/dir/x" if name in ON_EXISTING else f"{top}/dir/new", top)


def test_bad_pointers_and_numbers(top: Path) -> None:
    fd = os.open(top / "file", os.O_RDWR)
    with fails_with(errno.EINVAL):
        os.lseek(fd, -1, os.SEEK_SET)
    with fails_with(errno.EINVAL):
        os.lseek(fd, 0, 99)
    with fails_with(errno.EINVAL):
        os.pread(fd, 1, -1)
    with fails_with(errno.EINVAL):
        os.truncate(top / "file", -1)
    with fails_with(errno.EISDIR):
        os.truncate(top / "dir", 0)
    with fails_with(errno.ESPIPE):
        os.pread(os.memfd_create("x") and os.pipe()[0], 1, 0)
    os.close(fd)
