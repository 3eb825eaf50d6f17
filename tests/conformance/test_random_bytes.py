"""Differential: random reads, writes, truncates and maps on one file against its bytes in memory (as fsx does)."""

import mmap
import os
import random
from pathlib import Path

import pytest

SEEDS = [11, 12, 13, 14]
if "CRYPTFS_CONFORMANCE_SEEDS" in os.environ:  # FIRST:END, for long runs
    SEEDS = list(range(*map(int, os.environ["CRYPTFS_CONFORMANCE_SEEDS"].split(":"))))
STEPS = 1200
LIMIT = 600_000
EDGES = [0, 1, 4095, 4096, 4097, 65_535, 65_536, 65_537, 131_072, 262_144, 524_288]


class File:
    """A file and what its bytes must be."""

    def __init__(self, path: Path, rng: random.Random) -> None:
        self.path, self.rng, self.bytes = path, rng, bytearray()
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT)
        self.serial = 0

    def place(self) -> tuple[int, int]:
        """Random offset and length, often near an edge of pages and chunks."""
        rng = self.rng
        start = min(LIMIT, max(0, rng.choice([rng.choice(EDGES) + rng.randrange(-3, 4), rng.randrange(LIMIT)])))
        length = rng.choice([rng.randrange(1, 50), rng.randrange(1, 9000), rng.randrange(1, 200_000)])
        return start, min(length, LIMIT - start)

    def fresh(self, length: int) -> bytes:
        """Bytes that tell which write they come from."""
        self.serial += 1
        return (b"%07d," % self.serial * (length // 8 + 1))[:length]

    def write(self) -> None:
        start, length = self.place()
        data = self.fresh(length)
        if len(self.bytes) < start:
            self.bytes.extend(bytes(start - len(self.bytes)))
        assert os.pwrite(self.fd, data, start) == length
        self.bytes[start : start + length] = data

    def append(self) -> None:
        data = self.fresh(self.rng.randrange(1, 5000))
        if len(self.bytes) + len(data) > LIMIT:
            return
        fd = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        os.write(fd, data)
        os.close(fd)
        self.bytes += data

    def read(self) -> None:
        start, length = self.place()
        assert os.pread(self.fd, length, start) == self.bytes[start : start + length]

    def truncate(self) -> None:
        size = self.place()[0]
        os.ftruncate(self.fd, size)
        del self.bytes[size:]
        self.bytes.extend(bytes(size - len(self.bytes)))

    def map_write(self) -> None:
        if not self.bytes:
            return
        start, length = self.place()
        start = min(start, len(self.bytes) - 1)
        length = min(length, len(self.bytes) - start)
        data = self.fresh(length)
        with mmap.mmap(self.fd, len(self.bytes)) as memory:
            memory[start : start + length] = data
            if self.rng.random() < 0.5:
                memory.flush()
        self.bytes[start : start + length] = data

    def map_read(self) -> None:
        if not self.bytes:
            return
        with mmap.mmap(self.fd, len(self.bytes), access=mmap.ACCESS_READ) as memory:
            assert memory[:] == self.bytes

    def sync(self) -> None:
        os.fsync(self.fd)

    def reopen(self) -> None:
        os.close(self.fd)
        self.fd = os.open(self.path, os.O_RDWR)

    def drop_pages(self) -> None:
        os.fsync(self.fd)
        os.posix_fadvise(self.fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def size(self) -> None:
        assert os.fstat(self.fd).st_size == os.stat(self.path).st_size == len(self.bytes)

    def whole(self) -> None:
        assert self.path.read_bytes() == self.bytes


MENU = [
    (20, "write"),
    (5, "append"),
    (25, "read"),
    (8, "truncate"),
    (8, "map_write"),
    (6, "map_read"),
    (3, "sync"),
    (5, "reopen"),
    (5, "drop_pages"),
    (5, "size"),
    (2, "whole"),
]


@pytest.mark.parametrize("seed", SEEDS)
def test_one_file_against_its_bytes(target: Path, remount, seed: int) -> None:
    rng = random.Random(seed)
    file = File(target / "f", rng)
    history = []
    try:
        for step in range(STEPS):
            name = rng.choices([name for _, name in MENU], [weight for weight, _ in MENU])[0]
            history.append(f"{step} {name} (size {len(file.bytes)})")
            try:
                getattr(file, name)()
            except AssertionError as err:
                raise AssertionError(f"seed {seed}\n" + "\n".join(history[-30:])) from err
        file.whole()
    finally:
        os.close(file.fd)
    remount(forget=True)
    assert (target / "f").read_bytes() == file.bytes, f"seed {seed}: other bytes after the replica was rebuilt"
