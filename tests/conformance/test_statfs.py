"""What the file system says of itself."""

import errno
import os
import shutil
from pathlib import Path

import pytest
from rawcalls import fails_with, syncfs


def test_statvfs_values_make_sense(target: Path) -> None:
    info = os.statvfs(target)
    assert info.f_namemax == 255
    assert info.f_bsize == info.f_frsize > 0
    assert info.f_blocks >= info.f_bfree >= info.f_bavail > 0
    assert info.f_files >= info.f_ffree
    assert shutil.disk_usage(target).free > 1 << 20


def test_statvfs_is_the_same_from_everywhere(target: Path) -> None:
    (target / "d").mkdir()
    (target / "d/f").write_bytes(b"x")
    fd = os.open(target / "d/f", os.O_RDONLY)
    sizes = {os.statvfs(target).f_blocks, os.statvfs(target / "d/f").f_blocks, os.fstatvfs(fd).f_blocks}
    os.close(fd)
    assert len(sizes) == 1
    with fails_with(errno.ENOENT):
        os.statvfs(target / "none")


def test_one_device_number(target: Path) -> None:
    (target / "d").mkdir()
    (target / "d/f").write_bytes(b"x")
    (target / "s").symlink_to("d")
    assert {path.lstat().st_dev for path in (target, *target.rglob("*"))} == {target.stat().st_dev}


def test_pathconf(target: Path) -> None:
    assert os.pathconf(target, "PC_NAME_MAX") == 255
    assert os.pathconf(target, "PC_PATH_MAX") == 4096
    assert os.pathconf(target, "PC_NO_TRUNC") == 1


def test_sync_calls_succeed(target: Path) -> None:
    (target / "f").write_bytes(b"x")
    fd = os.open(target / "f", os.O_RDWR)
    os.fsync(fd)
    os.fdatasync(fd)
    syncfs(fd)
    os.close(fd)
    fd = os.open(target, os.O_RDONLY)
    os.fsync(fd)
    os.fdatasync(fd)
    os.close(fd)


@pytest.mark.parametrize(
    "command", [["df", "-P"], ["df", "-iP"], ["stat", "-f"], ["du", "-s"], ["find"], ["ls", "-laR"]]
)
def test_tools_that_ask(target: Path, command: list[str]) -> None:
    import subprocess

    (target / "f").write_bytes(b"x")
    done = subprocess.run([*command, str(target)], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_block_size_of_files_is_useful(target: Path) -> None:
    (target / "f").write_bytes(b"x")
    size = (target / "f").stat().st_blksize
    assert size >= 512
    assert size & (size - 1) == 0


def test_unsupported_ioctl_is_refused_cleanly(target: Path) -> None:
    import fcntl

    (target / "a").write_bytes(b"data")
    with (target / "a").open("rb") as source, (target / "b").open("wb") as sink:
        try:
            fcntl.ioctl(sink.fileno(), 0x40049409, source.fileno())  # FICLONE
        except OSError as err:
            if err.errno not in (errno.EOPNOTSUPP, errno.ENOTTY, errno.EXDEV, errno.EINVAL):
                raise
            assert (target / "b").read_bytes() == b""
        with fails_with(errno.ENOTTY):
            fcntl.ioctl(source.fileno(), 0x5401, bytes(64))  # TCGETS
