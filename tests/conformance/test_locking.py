"""flock, fcntl and open-file-description locks between processes of one machine."""

import errno
import fcntl
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from rawcalls import fails_with

OFD_SETLK = 37
HOLDER = """
import fcntl, os, struct, sys
fd = os.open(sys.argv[1], os.O_RDWR)
kind = sys.argv[2]
if kind == "flock":
    fcntl.flock(fd, fcntl.LOCK_EX)
elif kind == "posix":
    fcntl.lockf(fd, fcntl.LOCK_EX, 100, 50)
else:
    fcntl.fcntl(fd, 37, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 50, 100, 0))
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("kind", ["flock", "posix", "ofd"])
def test_lock_of_another_process_holds_until_it_dies(target: Path, kind: str) -> None:
    path = target / "f"
    path.write_bytes(b"x" * 1000)
    holder = subprocess.Popen(
        [sys.executable, "-S", "-c", HOLDER, str(path), kind], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    fd = os.open(path, os.O_RDWR)

    def attempt(start: int, length: int) -> None:
        if kind == "flock":
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        elif kind == "posix":
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, length, start)
        else:
            fcntl.fcntl(fd, OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, start, length, 0))

    with fails_with(errno.EAGAIN, errno.EACCES):
        attempt(120, 10)
    if kind != "flock":
        attempt(200, 10)  # ranges that do not meet are free
    holder.kill()
    holder.communicate()
    attempt(120, 10)
    os.close(fd)


def test_flock_conversion_and_sharing(target: Path) -> None:
    (target / "f").write_bytes(b"")
    one, two = os.open(target / "f", os.O_RDWR), os.open(target / "f", os.O_RDWR)
    fcntl.flock(one, fcntl.LOCK_SH)
    fcntl.flock(two, fcntl.LOCK_SH)
    with fails_with(errno.EAGAIN):
        fcntl.flock(one, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(two)
    fcntl.flock(one, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(one)


def test_posix_lock_is_lost_when_any_descriptor_closes(target: Path) -> None:
    (target / "f").write_bytes(b"")
    fd = os.open(target / "f", os.O_RDWR)
    fcntl.lockf(fd, fcntl.LOCK_EX)
    os.close(os.open(target / "f", os.O_RDONLY))
    done = subprocess.run(
        [sys.executable, "-S", "-c", HOLDER, str(target / "f"), "posix"], input=b"", capture_output=True, check=False
    )
    assert done.stdout == b"held\n"
    os.close(fd)
