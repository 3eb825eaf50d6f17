"""Memory maps: shared writes reach the file, also late, also after unlink; private ones never do."""

import mmap
import os
import subprocess
import sys
from pathlib import Path

MAPPER = """
import mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
memory = mmap.mmap(fd, 0)
os.close(fd)
at = int(sys.argv[2])
memory[at:at + 6] = b"child!"
memory.flush()
"""


def test_shared_map_writes_are_in_the_file(target: Path) -> None:
    path = target / "f"
    path.write_bytes(b"a" * 200_000)
    fd = os.open(path, os.O_RDWR)
    with mmap.mmap(fd, 200_000) as memory:
        os.close(fd)
        memory[0:3] = b"one"
        memory[65_534:65_538] = b"edge"
        memory[199_997:200_000] = b"end"
        memory.flush()
    data = path.read_bytes()
    assert (data[:4], data[65_533:65_539], data[-4:]) == (b"onea", b"aedgea", b"aend")


def test_written_pages_arrive_after_close_without_msync(target: Path) -> None:
    path = target / "f"
    path.write_bytes(bytes(100_000))
    fd = os.open(path, os.O_RDWR)
    memory = mmap.mmap(fd, 100_000)
    os.close(fd)
    memory[50_000:50_005] = b"later"
    memory.close()
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    assert os.pread(fd, 5, 50_000) == b"later"
    os.close(fd)


def test_map_and_write_see_each_other(target: Path) -> None:
    path = target / "f"
    path.write_bytes(b"." * 10_000)
    fd = os.open(path, os.O_RDWR)
    with mmap.mmap(fd, 10_000) as memory:
        os.pwrite(fd, b"by write", 5000)
        assert memory[5000:5008] == b"by write"
        memory[6000:6006] = b"by map"
        assert os.pread(fd, 6, 6000) == b"by map"
    os.close(fd)


def test_map_lives_on_after_unlink(target: Path) -> None:
    path = target / "f"
    path.write_bytes(b"." * 10_000)
    fd = os.open(path, os.O_RDWR)
    memory = mmap.mmap(fd, 10_000)
    path.unlink()
    memory[4096:4100] = b"late"
    memory.flush()
    os.close(fd)
    memory[8192:8196] = b"more"
    assert memory[4095:4101] == b".late."
    memory.close()
    assert list(target.iterdir()) == []


def test_private_map_never_writes(target: Path) -> None:
    path = target / "f"
    path.write_bytes(b"." * 10_000)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as memory:
        memory[0:4] = b"mine"
    assert path.read_bytes() == b"." * 10_000


def test_map_after_truncate_and_growth(target: Path) -> None:
    path = target / "f"
    path.write_bytes(b"x" * 9000)
    fd = os.open(path, os.O_RDWR)
    with mmap.mmap(fd, 9000) as memory:
        os.ftruncate(fd, 4096)
        os.ftruncate(fd, 9000)
        assert memory[4095:4100] == b"x\0\0\0\0"
        memory[8999:9000] = b"z"
    os.close(fd)
    assert path.read_bytes() == b"x" * 4096 + bytes(4903) + b"z"


def test_bytes_past_the_end_in_the_last_page_are_not_stored(target: Path) -> None:
    path = target / "f"
    path.write_bytes(b"x" * 100)
    fd = os.open(path, os.O_RDWR)
    os.ftruncate(fd, 200)
    with mmap.mmap(fd, 200) as memory:
        memory[0:200] = b"y" * 200
        memory.flush()
        os.ftruncate(fd, 100)
    os.ftruncate(fd, 300)
    os.close(fd)
    assert path.read_bytes() == b"y" * 100 + bytes(200)


def test_map_of_another_process(target: Path) -> None:
    path = target / "f"
    path.write_bytes(b"." * 10_000)
    fd = os.open(path, os.O_RDWR)
    with mmap.mmap(fd, 10_000) as memory:
        subprocess.run([sys.executable, "-S", "-c", MAPPER, str(path), "7000"], check=True)
        assert memory[7000:7006] == b"child!"
    os.close(fd)
    assert path.read_bytes()[7000:7006] == b"child!"


def test_random_stores_through_a_map(target: Path) -> None:
    path = target / "f"
    size = 3 << 20
    path.write_bytes(bytes(size))
    model = bytearray(size)
    fd = os.open(path, os.O_RDWR)
    with mmap.mmap(fd, size) as memory:
        for number in range(2000):
            at = number * 1_048_583 % (size - 8)
            memory[at : at + 8] = model[at : at + 8] = b"%08d" % number
            if number % 500 == 0:
                memory.flush()
    os.close(fd)
    assert path.read_bytes() == model


def test_mtime_moves_when_a_map_was_written(target: Path) -> None:
    path = target / "f"
    path.write_bytes(bytes(10_000))
    os.utime(path, ns=(5, 5))
    fd = os.open(path, os.O_RDWR)
    with mmap.mmap(fd, 10_000) as memory:
        memory[0:1] = b"x"
        memory.flush()
    os.fsync(fd)
    os.close(fd)
    assert path.stat().st_mtime_ns > 5


def test_program_runs_from_here(target: Path) -> None:
    """Executables are mapped."""
    (target / "true").write_bytes(Path("/bin/true").read_bytes())
    (target / "true").chmod(0o755)
    assert subprocess.run([target / "true"], check=False).returncode == 0
    (target / "script").write_text("#!/bin/sh\nexit 7\n")
    (target / "script").chmod(0o755)
    assert subprocess.run([target / "script"], check=False).returncode == 7
