"""CPU time of the daemon for each kind of operation, beside that of a file system that does nothing (`floor.py`).

    python tests/benchmarks/cpu.py [--files 2000] [--rounds 3] [--only stat,getxattr] [--option noxattr] [--where]

Wall-clock figures of a shared machine say little; what the daemon computed for one operation says the same on a busy
machine as on a quiet one. Client and daemon share one CPU here: then the daemon does not spin while it waits for the
client (`cryptfs/mount/loop.py`), and what is counted is work. Printed is the least of the rounds.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from filesystems import Cryptfs
from mounting import is_mounted, wait_until
from where import KINDS, Where

BLOCK, BIG = 4096, 64 << 20
LISTINGS = 5


class Daemon:
    """The process under measurement, and where its files are."""

    def __init__(self, pid: int, top: Path, files: int) -> None:
        self.pid, self.top = pid, top
        self.paths = [top / "small" / f"file-{number:05}.dat" for number in range(files)]

    def nanoseconds(self) -> int:
        """CPU time of all its threads so far; the scheduler's own count, not the 10 ms ticks of /proc/PID/stat."""
        total = 0
        for task in Path(f"/proc/{self.pid}/task").iterdir():
            with contextlib.suppress(OSError):
                total += int((task / "schedstat").read_text().split()[0])
        return total


def stat_all(daemon: Daemon) -> int:
    for path in daemon.paths:
        os.stat(path)
    return len(daemon.paths)


def read_all(daemon: Daemon) -> int:
    for path in daemon.paths:
        fd = os.open(path, os.O_RDONLY)
        if len(os.read(fd, 2 * BLOCK)) != BLOCK:
            raise RuntimeError("wrong data")
        os.close(fd)
    return len(daemon.paths)


def getxattr_all(daemon: Daemon) -> int:
    """What the kernel asks before each write."""
    for path in daemon.paths:
        with contextlib.suppress(OSError):
            os.getxattr(path, "security.capability")
    return len(daemon.paths)


def list_all(daemon: Daemon) -> int:
    for _ in range(LISTINGS):
        subprocess.run(["ls", "-l", str(daemon.top / "small")], check=True, stdout=subprocess.DEVNULL)
    return LISTINGS * len(daemon.paths)


def scan_all(daemon: Daemon) -> int:
    """A listing with its attributes, without the questions that ls asks beside."""
    for _ in range(LISTINGS):
        for entry in os.scandir(daemon.top / "small"):
            entry.stat()
    return LISTINGS * len(daemon.paths)


def random_reads(daemon: Daemon) -> int:
    fd = os.open(daemon.top / "big", os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
    blocks = BIG // BLOCK
    for number in range(len(daemon.paths) * 2):
        os.pread(fd, BLOCK, (number * 7919 % blocks) * BLOCK)
    os.close(fd)
    return len(daemon.paths) * 2


def sequential_read(daemon: Daemon) -> int:
    """The unit is 1 MiB."""
    with (daemon.top / "big").open("rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        target = bytearray(1 << 20)
        while file.readinto(target):
            pass
    return BIG >> 20


def rename_all(daemon: Daemon) -> int:
    for path in daemon.paths:
        path.rename(path.with_suffix(".moved"))
    daemon.paths = [path.with_suffix(".moved") for path in daemon.paths]
    return len(daemon.paths)


def unlink_all(daemon: Daemon) -> int:
    for path in daemon.paths:
        path.unlink()
    return len(daemon.paths)


Work = Callable[[Daemon], int]

OPERATIONS: tuple[tuple[str, bool, Work], ...] = (
    # name, whether it wants a new mount, work
    ("stat, cold", True, stat_all),
    ("getxattr", False, getxattr_all),
    ("read 4 KiB file, cold", True, read_all),
    ("read 4 KiB file, warm", False, read_all),
    ("directory entry, cold", True, scan_all),
    ("ls -l, an entry", False, list_all),
    ("read 4 KiB file, listed", False, read_all),
    ("read 4 KiB at random", True, random_reads),
    ("read 1 MiB in sequence", True, sequential_read),
    ("rename", True, rename_all),
    ("unlink", True, unlink_all),
)


class NothingBehind:
    """`floor.py` as something that can be mounted again and again."""

    def __init__(self, base: Path, files: int) -> None:
        self.point, self.files = base / "floor", files
        self.point.mkdir()
        self.process: subprocess.Popen[bytes] | None = None

    def mount(self) -> Daemon:
        script = Path(__file__).with_name("floor.py")
        self.process = subprocess.Popen([sys.executable, str(script), str(self.point), str(self.files)])
        wait_until(lambda: is_mounted(self.point), seconds=20, daemon=self.process)
        return Daemon(self.process.pid, self.point, self.files)

    def unmount(self) -> None:
        if self.process is not None:
            subprocess.run(["fusermount3", "-u", str(self.point)], check=True)
            self.process.wait(20)


class Real:
    """A vault with the same files, all of them sealed and at the store."""

    def __init__(self, base: Path, files: int, options: tuple[str, ...]) -> None:
        self.files = files
        self.fs = Cryptfs(base)
        self.fs.options = options
        self.fs.create()
        daemon = self.mount()
        (daemon.top / "small").mkdir()
        for number, path in enumerate(daemon.paths):
            path.write_bytes(number.to_bytes(4, "big") * (BLOCK // 4))
        with (daemon.top / "big").open("wb") as file:
            for _ in range(BIG >> 20):
                file.write(os.urandom(1 << 20))
        self.fs.vault.sync()
        self.unmount()

    def mount(self) -> Daemon:
        self.fs.mount()
        return Daemon(self.fs.pid(), self.fs.top, self.files)

    def unmount(self) -> None:
        self.fs.unmount()


@contextlib.contextmanager
def sampled(daemon: Daemon, folder: Path | None) -> Iterator[dict[str, float]]:
    """Shares of the time the block takes by kind, filled in at its end; empty without a folder for the samples."""
    shares: dict[str, float] = {}
    if folder is None:
        yield shares
        return
    with Where(daemon.pid, folder) as where:
        yield shares
    shares.update(where.shares)


def measure(
    subject: NothingBehind | Real, only: list[str], samples: Path | None = None
) -> Iterator[tuple[str, float, dict[str, float]]]:
    """(operation, µs of CPU for one, shares by kind) of one round."""
    daemon: Daemon | None = None
    for name, anew, work in OPERATIONS:
        if only and not any(word in name for word in only):
            continue
        if anew and daemon is not None:
            subject.unmount()
            daemon = None
        if daemon is None:
            daemon = subject.mount()
        with sampled(daemon, samples) as shares:
            before = daemon.nanoseconds()
            count = work(daemon)
            spent = daemon.nanoseconds() - before
        yield name, spent / count / 1000, shares
        if work is rename_all:
            for path in daemon.paths:
                path.rename(path.with_suffix(".dat"))
    if daemon is not None:
        subject.unmount()


def print_where(files: int, options: tuple[str, ...], only: list[str]) -> None:
    """One more round, sampled: shares of the CPU time by kind of code. Being sampled costs time, so no µs here."""
    if Where.missing():
        print("--where needs perf and root.", file=sys.stderr)
        return
    print(f"\n{'% of it by kind of code':<32}" + "".join(f"{kind:>10}" for kind in KINDS))
    with tempfile.TemporaryDirectory(prefix="cpu-", dir="/dev/shm") as place:
        for name, _, shares in measure(Real(Path(place), files, options), only, Path(place)):
            print(f"{name:<32}" + "".join(f"{100 * shares[kind]:>10.0f}" for kind in KINDS))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="words of operations")
    parser.add_argument("--option", action="append", default=[], help="a mount option, as after -o")
    parser.add_argument("--where", action="store_true", help="also what kind of code takes the time (perf, as root)")
    parser.add_argument("--json", type=Path, help="file for the figures")
    args = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # inherited by the daemons
    only = [word for word in args.only.split(",") if word]
    least: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="cpu-", dir="/dev/shm") as folder:
        base = Path(folder)
        for _ in range(args.rounds):
            with tempfile.TemporaryDirectory(dir=base) as place:
                subjects = {
                    "floor": NothingBehind(Path(place), args.files),
                    "cryptfs": Real(Path(place), args.files, tuple(args.option)),
                }
                for label, subject in subjects.items():
                    for name, value, _ in measure(subject, only):
                        row = least.setdefault(name, {})
                        row[label] = min(value, row.get(label, value))
    print(f"{'µs of CPU of the daemon for one':<32}{'floor':>10}{'cryptfs':>10}")
    for name, row in least.items():
        print(f"{name:<32}{row['floor']:>10.1f}{row['cryptfs']:>10.1f}")
    if args.where:
        print_where(args.files, tuple(args.option), only)
    if args.json:
        args.json.write_text(json.dumps(least, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
