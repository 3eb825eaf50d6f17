"""What one operation costs the daemon: its CPU time, which a busy machine hardly changes, and the memory it takes.

    python tests/benchmarks/costs.py                                 # every workload, 3 rounds, the least of each
    python tests/benchmarks/costs.py --only create,unlink --against ../other/.venv/bin/python
    python tests/benchmarks/costs.py --memory                        # resident MiB under bulk work

Wall-clock ratios (run.py) want a quiet machine; this does not. `--against` runs the cryptfs of another interpreter in
turn with this one, round by round: before and after of a change. How to read the table: README.md beside this file.
"""

import argparse
import contextlib
import os
import random
import shutil
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "conformance"))

from mounting import Mount, Vault

KIB, MIB = 1 << 10, 1 << 20
BLOCK = random.Random(4711).randbytes(MIB)

Workload = Callable[[Path, int], Callable[[], int]]
"""Prepares in a directory at a size; returns what is measured, which returns the number of operations."""


# ---- writing ---------------------------------------------------------------------------------------------------------


def _names(top: Path, count: int) -> list[str]:
    return [f"{top}/file-{number:06}.dat" for number in range(count)]


def create(top: Path, count: int) -> Callable[[], int]:
    """open(O_CREAT), write 4 KiB, close."""

    def work() -> int:
        for name in _names(top, count):
            fd = os.open(name, os.O_WRONLY | os.O_CREAT)
            os.write(fd, BLOCK[:4096])
            os.close(fd)
        return count

    return work


def unlink(top: Path, count: int) -> Callable[[], int]:
    """unlink of files made a moment ago."""
    create(top, count)()

    def work() -> int:
        for name in _names(top, count):
            os.unlink(name)
        return count

    return work


def unpack(top: Path, count: int) -> Callable[[], int]:
    """What tar does for a file of 4 KiB: create, write, utimens, chown, chmod, close."""

    def work() -> int:
        for name in _names(top, count):
            fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            os.write(fd, BLOCK[:4096])
            os.utime(fd, ns=(1_700_000_000_000_000_000, 1_700_000_000_000_000_000))
            os.fchown(fd, os.getuid(), os.getgid())
            os.fchmod(fd, 0o644)
            os.close(fd)
        return count

    return work


def replace(top: Path, count: int) -> Callable[[], int]:
    """What editors and git do: write a temporary file of 4 KiB, close, rename it over the last version."""

    def work() -> int:
        for number in range(count):
            create(top, 1)()
            os.rename(f"{top}/file-000000.dat", f"{top}/target-{number % 64}")
        return count

    return work


def random_write(top: Path, count: int) -> Callable[[], int]:
    """4 KiB anywhere in a file of 64 MiB, fsync after each 256."""
    path = top / "random"
    with path.open("wb") as file:
        for _ in range(64):
            file.write(BLOCK)
    rng = random.Random(4711)
    places = [rng.randrange(64 * 256) * 4096 for _ in range(count)]

    def work() -> int:
        fd = os.open(path, os.O_RDWR)
        for number, at in enumerate(places, 1):
            os.pwrite(fd, BLOCK[:4096], at)
            if number % 256 == 0:
                os.fsync(fd)
        os.fsync(fd)
        os.close(fd)
        return count

    return work


def transaction(top: Path, count: int) -> Callable[[], int]:
    """A transaction of SQLite with its defaults: rollback journal made, written, synced, deleted."""
    base = sqlite3.connect(top / "base.db", isolation_level=None)
    base.execute("CREATE TABLE t(n INTEGER PRIMARY KEY, word TEXT)")

    def work() -> int:
        for number in range(count):
            base.execute("INSERT INTO t VALUES(?,?)", (number, f"word {number}"))
        base.close()
        return count

    return work


def sequential(top: Path, count: int) -> Callable[[], int]:
    """`count` MiB in writes of 1 MiB, one fsync."""

    def work() -> int:
        fd = os.open(top / "big", os.O_WRONLY | os.O_CREAT)
        for _ in range(count):
            os.write(fd, BLOCK)
        os.fsync(fd)
        os.close(fd)
        return count

    return work


WORKLOADS: dict[str, tuple[Workload, int]] = {
    "create": (create, 2000),
    "unlink": (unlink, 2000),
    "unpack": (unpack, 1500),
    "replace": (replace, 1500),
    "random-write": (random_write, 4000),
    "transaction": (transaction, 300),
    "sequential": (sequential, 256),
}
"""By name: what is done, and how often."""


# ---- measuring -------------------------------------------------------------------------------------------------------


class Daemon:
    """One new vault, mounted by the cryptfs of `python`."""

    def __init__(self, base: Path, python: str, options: Sequence[str]) -> None:
        self._base = Path(tempfile.mkdtemp(prefix="costs-", dir=base))
        self.vault = _VaultOf(self._base, python)
        self.vault.init()
        self.mount: Mount = self.vault.mount(*options)

    def cpu(self) -> float:
        """Seconds of CPU so far, all threads: the scheduler's own count, not the 10 ms ticks of /proc/PID/stat."""
        total = 0
        for task in Path(f"/proc/{self.mount.daemon.pid}/task").iterdir():
            with contextlib.suppress(OSError):
                total += int((task / "schedstat").read_text().split()[0])
        return total / 1e9

    def memory(self, field: str) -> float:
        """VmRSS or VmHWM in MiB."""
        for line in Path(f"/proc/{self.mount.daemon.pid}/status").read_text().splitlines():
            if line.startswith(field):
                return int(line.split()[1]) / 1024
        raise RuntimeError("the daemon is gone")

    def close(self) -> None:
        self.mount.close()
        shutil.rmtree(self._base, ignore_errors=True)


class _VaultOf(Vault):
    """A vault driven by the cryptfs of another interpreter."""

    def __init__(self, base: Path, python: str) -> None:
        super().__init__(base)
        self._python = python

    def command(self, *args: str, launcher: Sequence[str] = ("-m", "cryptfs")) -> list[str]:
        # Not from where we are: a checkout in the working directory would be imported instead.
        return [self._python, "-P", *launcher, *args]


def one_round(base: Path, python: str, name: str, scale: float, options: Sequence[str]) -> tuple[float, float, float]:
    """Microseconds of the daemon an operation: while the program ran, until all was sent; and of wall clock."""
    daemon = Daemon(base, python, options)
    try:
        top = daemon.mount.point / name
        top.mkdir()
        prepare, full = WORKLOADS[name]
        work = prepare(top, max(8, int(full * scale)))
        daemon.vault.sync()
        start, began = daemon.cpu(), time.perf_counter()
        count = work()
        done, ended = daemon.cpu(), time.perf_counter()
        daemon.vault.sync()
        return (done - start) * 1e6 / count, (daemon.cpu() - start) * 1e6 / count, (ended - began) * 1e6 / count
    finally:
        daemon.close()


def costs(args: argparse.Namespace) -> None:
    """Print the table."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # with its client on one CPU the daemon does not spin
    pythons = [sys.executable, *([args.against] if args.against else [])]
    heads = ["this", "against"][: len(pythons)]
    print(f"{'daemon, us an operation':<24}" + "".join(f"{head:>10}{'all sent':>10}{'(wall)':>9}" for head in heads))
    for name in args.only:
        least = [(float("inf"),) * 3 for _ in pythons]
        for turn in range(args.rounds):
            for at in (range(len(pythons)), reversed(range(len(pythons))))[turn % 2]:
                found = one_round(args.base, pythons[at], name, args.scale, args.option)
                least[at] = tuple(map(min, least[at], found))
        print(f"{name:<24}" + "".join(f"{own:>10.0f}{sent:>10.0f}{wall:>9.0f}" for own, sent, wall in least))


# ---- memory ----------------------------------------------------------------------------------------------------------


def _many(top: Path, scale: float) -> None:
    """100,000 files of 4 KiB, 1,000 a directory."""
    for folder in range(int(100 * scale) or 1):
        (top / f"{folder}").mkdir()
        create(top / f"{folder}", 1000)()


def _bulk(top: Path, scale: float) -> None:
    """2 GiB in one file."""
    sequential(top, int(2048 * scale) or 1)()


def _tree(top: Path, scale: float) -> None:
    """30,000 files as tar unpacks them."""
    for folder in range(int(60 * scale) or 1):
        (top / f"{folder}").mkdir()
        unpack(top / f"{folder}", 500)()


def _resident(daemon: Daemon, ended: threading.Event) -> Iterator[float]:
    while not ended.wait(0.2):
        yield daemon.memory("VmRSS")


def memory(args: argparse.Namespace) -> None:
    """Print what is resident before, at most, and when all was sent."""
    print(f"{'resident MiB':<24}{'before':>8}{'most':>8}{'sent':>8}{'ops/s':>8}")
    for name, work in (("100,000 files", _many), ("2 GiB in one file", _bulk), ("unpack 30,000 files", _tree)):
        if args.only != list(WORKLOADS) and not any(word in name for word in args.only):
            continue
        daemon = Daemon(args.base, sys.executable, args.option)
        try:
            before, began = daemon.memory("VmRSS"), time.perf_counter()
            work(daemon.mount.point, args.scale)
            seconds = time.perf_counter() - began
            daemon.vault.sync()
            amount = {"1": 100_000, "2": 2048, "u": 30_000}[name[0]] * args.scale
            print(
                f"{name:<24}{before:>8.0f}{daemon.memory('VmHWM'):>8.0f}{daemon.memory('VmRSS'):>8.0f}"
                f"{amount / seconds:>8.0f}"
            )
        finally:
            daemon.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(WORKLOADS), help=f"of {','.join(WORKLOADS)}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies every count")
    parser.add_argument("--against", help="the Python of another checkout to compare with")
    parser.add_argument("--base", type=Path, default=Path("/dev/shm"), help="where all state is kept")
    parser.add_argument("-o", "--option", action="append", default=[], help="option of the mount")
    parser.add_argument("--memory", action="store_true", help="resident memory under bulk work instead")
    args = parser.parse_args()
    args.only = args.only.split(",")
    memory(args) if args.memory else costs(args)


if __name__ == "__main__":
    main()
