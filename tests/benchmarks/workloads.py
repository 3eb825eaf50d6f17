"""What is measured: each workload prepares untimed, does its work timed, and checks untimed that the bytes are right.

The names are the rows of docs/ (targets). Sizes are for `scale` 1; a figure is a rate (higher is better) unless its
unit is s.
"""

import os
import random
import sqlite3
import subprocess
import tarfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from filesystems import FileSystem

__all__ = ["WORKLOADS", "Figure", "Session"]

MIB = 1 << 20
BLOCK = 4096
SEED = 4711


@dataclass(frozen=True)
class Figure:
    """One measured value."""

    row: str
    value: float
    unit: str


@dataclass
class Session:
    """One file system under measurement, and what the workloads leave for each other."""

    fs: FileSystem
    scale: float
    figures: list[Figure] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = random.Random(SEED)
        self.big = self.rng.randbytes(self.count(256) * MIB)
        self.small = [self.rng.randbytes(BLOCK) for _ in range(64)]

    @property
    def top(self) -> Path:
        return self.fs.top

    def count(self, full: int) -> int:
        """`full` at scale 1, at least 8."""
        return max(8, int(full * self.scale))

    def note(self, row: str, amount: float, seconds: float, unit: str) -> None:
        """A rate, or with `unit` s the seconds themselves."""
        self.figures.append(Figure(row, seconds if unit == "s" else amount / seconds, unit))

    def names(self, folder: str, count: int) -> list[Path]:
        return [self.top / folder / f"file-{number:05}.dat" for number in range(count)]


def timed(work: Callable[[], object]) -> float:
    """Seconds that `work` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def require(condition: bool, what: str) -> None:
    """A benchmark of wrong bytes is worth nothing."""
    if not condition:
        raise RuntimeError(f"wrong data: {what}")


def sequential(session: Session) -> None:
    """One big file: written in 1 MiB pieces with a final fsync, read cold, read warm."""
    path, size = session.top / "big", len(session.big)
    view = memoryview(session.big)

    def write() -> None:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT)
        for at in range(0, size, MIB):
            os.write(fd, view[at : at + MIB])
        os.fsync(fd)
        os.close(fd)

    session.note("sequential write, fsync", size / 1e6, timed(write), "MB/s")
    session.fs.make_cold()
    back = bytearray(size)

    def read() -> None:
        with path.open("rb", buffering=0) as file:
            target, at = memoryview(back), 0
            while count := file.readinto(target[at : at + MIB]):
                at += count

    for row in ("sequential read, cold", "sequential read, warm"):
        back[:] = bytes(size)
        session.note(row, size / 1e6, timed(read), "MB/s")
        require(back == session.big, "sequential read")


def random_access(session: Session) -> None:
    """4 KiB reads and writes all over a file."""
    path = session.top / "random"
    data = bytearray(session.big[: session.count(64) * MIB])
    path.write_bytes(data)
    session.fs.make_cold()
    blocks = len(data) // BLOCK
    places = [session.rng.randrange(blocks) * BLOCK for _ in range(session.count(8000))]
    fd = os.open(path, os.O_RDWR)
    got: list[bytes] = []
    session.note(
        "random 4 KiB read", len(places), timed(lambda: got.extend(os.pread(fd, BLOCK, at) for at in places)), "/s"
    )
    require(all(block == data[at : at + BLOCK] for at, block in zip(places, got, strict=True)), "random read")

    def write() -> None:
        for number, at in enumerate(places):
            os.pwrite(fd, session.small[number % 64], at)
            if number % 256 == 255:
                os.fsync(fd)
        os.fsync(fd)

    session.note("random 4 KiB write, fsync each 256", len(places), timed(write), "/s")
    os.close(fd)
    for number, at in enumerate(places):
        data[at : at + BLOCK] = session.small[number % 64]
    require(path.read_bytes() == data, "random write")


def small_files(session: Session) -> None:
    """Files of 4 KiB: created, looked at, read, renamed, deleted."""
    paths = session.names("small", session.count(2000))
    (session.top / "small").mkdir()

    def create() -> None:
        for number, path in enumerate(paths):
            fd = os.open(path, os.O_WRONLY | os.O_CREAT)
            os.write(fd, session.small[number % 64])
            os.close(fd)

    session.note("create 4 KiB files", len(paths), timed(create), "/s")
    session.fs.make_cold()
    session.note("stat, cold", len(paths), timed(lambda: [os.stat(path) for path in paths]), "/s")
    session.fs.make_cold()
    for row in ("ls -l, cold", "ls -l, warm"):
        command = ["ls", "-l", str(session.top / "small")]
        session.note(row, len(paths), timed(lambda: subprocess.run(command, check=True, capture_output=True)), "/s")  # noqa: B023
    session.fs.make_cold()
    for row in ("read 4 KiB files, cold", "read 4 KiB files, warm"):
        got: list[bytes] = []
        session.note(row, len(paths), timed(lambda: got.extend(read_whole(path) for path in paths)), "/s")  # noqa: B023
        require(all(data == session.small[number % 64] for number, data in enumerate(got)), "small files")
    renamed = [path.with_suffix(".moved") for path in paths]
    session.note(
        "rename", len(paths), timed(lambda: [os.rename(*two) for two in zip(paths, renamed, strict=True)]), "/s"
    )
    require(sorted(os.listdir(session.top / "small")) == [path.name for path in renamed], "renamed files")
    session.note("delete 4 KiB files", len(paths), timed(lambda: [os.unlink(path) for path in renamed]), "/s")
    require(os.listdir(session.top / "small") == [], "deleted files")


def read_whole(path: Path) -> bytes:
    fd = os.open(path, os.O_RDONLY)
    data = os.read(fd, 2 * BLOCK)
    os.close(fd)
    return data


def source_tree(session: Session, archive: Path) -> int:
    """A tar of source-like files, made outside; returns how many."""
    rng, count = random.Random(SEED), session.count(3000)
    folder = archive.with_suffix("")
    for number in range(count):
        path = folder / f"dir{number % 40}/sub{number % 7}/module_{number}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = rng.randrange(5, 400)
        path.write_text("".join(f"value_{rng.randrange(10**9)} = {line}\n" for line in range(lines)))
    with tarfile.open(archive, "w") as tar:
        tar.add(folder, arcname="tree")
    return count


def programs(session: Session) -> None:
    """tar and git on a tree of 3,000 files."""
    archive = session.fs.base / "source.tar"
    count = source_tree(session, archive)
    top = session.top / "work"
    top.mkdir()
    seconds = timed(lambda: subprocess.run(["tar", "-xf", archive, "-C", top], check=True))
    session.note(f"unpack {count} files", 0, seconds, "s")
    compare = subprocess.run(["diff", "-r", archive.with_suffix(""), top / "tree"], check=False, capture_output=True)
    require(compare.returncode == 0, "unpacked tree")
    environ = {**os.environ, "GIT_CONFIG_NOSYSTEM": "1", "HOME": str(session.fs.base)}
    git = ["git", "-C", str(top / "tree"), "-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "gc.auto=0"]

    def run(*words: str) -> str:
        return subprocess.run([*git, *words], check=True, capture_output=True, text=True, env=environ).stdout

    run("init", "-q")
    session.note("git add", 0, timed(lambda: run("add", ".")), "s")
    session.note("git commit", 0, timed(lambda: run("commit", "-q", "-m", "all")), "s")
    session.note("git status", 0, timed(lambda: run("status", "--porcelain")), "s")
    require(run("status", "--porcelain") == "", "git status")
    run("fsck", "--full")


def database(session: Session) -> None:
    """SQLite with its defaults: one insert a transaction, each made durable."""
    path, count = session.top / "base.db", session.count(400)
    base = sqlite3.connect(path, isolation_level=None)
    base.execute("CREATE TABLE t(n INTEGER PRIMARY KEY, word TEXT)")

    def fill() -> None:
        for number in range(count):
            base.execute("INSERT INTO t VALUES(?,?)", (number, f"word {number}"))

    session.note("SQLite transactions", count, timed(fill), "/s")
    require(base.execute("PRAGMA integrity_check").fetchone() == ("ok",), "SQLite")
    require(base.execute("SELECT count(*) FROM t").fetchone() == (count,), "SQLite")
    base.close()


WORKLOADS: dict[str, Callable[[Session], None]] = {
    "sequential": sequential,
    "random": random_access,
    "small": small_files,
    "programs": programs,
    "sqlite": database,
}
