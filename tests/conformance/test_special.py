"""FIFOs, sockets and device nodes: their kind and numbers are kept, and nothing of them gains rights here."""

import errno
import os
import socket
import stat
import threading
from pathlib import Path

import pytest
from rawcalls import as_user, fails_with

DEVICES = [
    (stat.S_IFCHR, 1, 3),
    (stat.S_IFCHR, 0, 0),
    (stat.S_IFBLK, 7, 0),
    (stat.S_IFCHR, 4095, 1_048_575),
    (stat.S_IFBLK, 259, 70_000),
]


def test_fifo_carries_bytes_between_processes(target: Path) -> None:
    path = target / "p"
    os.mkfifo(path, 0o640)
    got = []

    def reader() -> None:
        got.append(path.read_bytes())

    thread = threading.Thread(target=reader)
    thread.start()
    path.write_bytes(b"through the pipe")
    thread.join()
    assert got == [b"through the pipe"]
    info = path.stat()
    assert (stat.S_ISFIFO(info.st_mode), stat.S_IMODE(info.st_mode), info.st_size) == (True, 0o640, 0)


def test_mknod_makes_every_kind(target: Path) -> None:
    os.mknod(target / "file", stat.S_IFREG | 0o600)
    os.mknod(target / "fifo", stat.S_IFIFO | 0o600)
    os.mknod(target / "socket", stat.S_IFSOCK | 0o600)
    assert stat.S_ISREG((target / "file").stat().st_mode)
    assert stat.S_ISFIFO((target / "fifo").stat().st_mode)
    assert stat.S_ISSOCK((target / "socket").stat().st_mode)
    (target / "file").write_bytes(b"a plain file")
    assert (target / "file").read_bytes() == b"a plain file"
    with fails_with(errno.EEXIST):
        os.mknod(target / "fifo", stat.S_IFREG | 0o600)


@pytest.mark.needs_root
@pytest.mark.parametrize(("kind", "major", "minor"), DEVICES)
def test_device_numbers_are_kept(target: Path, kind: int, major: int, minor: int) -> None:
    path = target / "dev"
    os.mknod(path, kind | 0o640, os.makedev(major, minor))
    info = path.stat()
    assert stat.S_IFMT(info.st_mode) == kind
    assert (os.major(info.st_rdev), os.minor(info.st_rdev)) == (major, minor)
    path.rename(target / "moved")
    os.link(target / "moved", path)
    assert path.stat().st_rdev == info.st_rdev


@pytest.mark.needs_root
@pytest.mark.known(ext4="mounted with dev", tmpfs="mounted with dev")
def test_device_nodes_do_not_open(target: Path) -> None:
    os.mknod(target / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    with fails_with(errno.EACCES):
        os.open(target / "null", os.O_RDONLY)


@pytest.mark.needs_root
def test_device_nodes_are_for_root(target: Path) -> None:
    target.chmod(0o777)
    with as_user(4242):
        for kind in (stat.S_IFCHR, stat.S_IFBLK):
            with fails_with(errno.EPERM):
                os.mknod(target / "dev", kind | 0o600, os.makedev(1, 3))
        os.mkfifo(target / "fifo")


def test_bound_socket_is_a_socket_and_refuses_after_close(target: Path) -> None:
    os.chdir(target)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s")
        assert stat.S_ISSOCK(os.stat("s").st_mode)
        with socket.socket(socket.AF_UNIX) as second, fails_with(errno.EADDRINUSE):
            second.bind("s")
    with socket.socket(socket.AF_UNIX) as client, fails_with(errno.ECONNREFUSED):
        client.connect("s")
    with fails_with(errno.ENXIO):
        os.open("s", os.O_RDWR)
    os.unlink("s")


def test_special_files_refuse_what_files_do(target: Path) -> None:
    os.mkfifo(target / "p")
    with fails_with(errno.EINVAL):
        os.truncate(target / "p", 0)
    with fails_with(errno.ENXIO):
        os.open(target / "p", os.O_WRONLY | os.O_NONBLOCK)
    with fails_with(errno.EPERM):
        os.setxattr(target / "p", "user.a", b"b")
    with fails_with(errno.ENOTDIR):
        os.listdir(target / "p")
