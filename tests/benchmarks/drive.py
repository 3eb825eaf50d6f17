"""How fast a vault on Google Drive is: an emulated Drive with the delays and limits of the real one, and a real mount.

    python tests/benchmarks/drive.py                          # 10,000 files of 20 KB, and 1 GiB in one file
    python tests/benchmarks/drive.py --only small --files 2000
    python tests/benchmarks/drive.py --latency 0.15 --mbit 20

Prints seconds until everything is at the store, the write calls and quota units that took, and how that compares with
the line: the time that the bytes alone take at that many Mbit/s. `--only changes`: how long until a small file that is
saved on one member's mount is there on another's, who has an account of his own. `--only device`: how long a device
that has just been let in takes to mount and list everything. The emulator is the one of the tests
(tests/drive_emulator); the client, the daemon and the commands are the product's.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import trio

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "conformance"))

from mounting import scratch

from cryptfs.crypto import keyfile
from cryptfs.vault.home import VaultHome
from cryptfs.vault.opening import open_vault
from tests.benchmarks.new_device import fill as fill_vault
from tests.drive_emulator import Emulator, Network, Settings
from tests.drive_store import access, drive_store, log_in

TOP = Path(__file__).resolve().parents[2]
MIB = 1 << 20
ANNA, BEN = "anna@example.org", "ben@example.org"
WRITES = ("files.create", "upload.start", "files.update", "files.delete", "files.copy")


class Measured:
    """One account's device, mounted on an emulated Drive."""

    def __init__(self, emulator: Emulator, base: Path, email: str = ANNA) -> None:
        self.emulator, self.point = emulator, base / f"mnt-{email}"
        self.point.mkdir()
        home = base / f"home-{email}"
        self.environ = os.environ | {"CRYPTFS_HOME": str(home)}
        log_in(home, access(emulator, email))

    def run(self, *args: str, program: str = "cryptfs") -> str:
        """A command of cryptfs. Raises CalledProcessError."""
        line = [str(Path(sys.executable).with_name(program)), *args]
        done = subprocess.run(line, env=self.environ, capture_output=True, text=True, check=True, cwd=TOP)
        return done.stdout

    def memory(self) -> int:
        """MiB that the daemon has had resident at most."""
        pid = json.loads(self.run("status", "bench", "--json"))["pid"]
        told = Path(f"/proc/{pid}/status").read_text()
        return int(told.partition("VmHWM:")[2].split()[0]) // 1024

    def cpu(self) -> float:
        """Seconds that the daemon has computed, in all its threads: what a busy machine does not change much."""
        pid = json.loads(self.run("status", "bench", "--json"))["pid"]
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def writes(self) -> int:
        """Calls so far that Google counts as writes."""
        return sum(self.emulator.count(call) for call in WRITES)


@contextmanager
def mounted(args: argparse.Namespace) -> Iterator[Measured]:
    """A new vault, mounted."""
    network = Network(latency=args.latency, up_mbit=args.mbit, down_mbit=args.mbit)
    settings = Settings(network=network)
    with scratch(args.base) as base, Emulator(settings=settings) as emulator:
        emulator.user(ANNA, storage=None)
        drive = Measured(emulator, base)
        drive.run("init", "bench", "gdrive:bench", "--no-passphrase", "--no-recovery", "--display-name", "Anna")
        settings.limits.writes_per_second = args.creates
        drive.run("mount", "bench", str(drive.point))
        try:
            yield drive
        finally:
            drive.run("umount", "bench")


def measure(args: argparse.Namespace, title: str, total: int, sizes: list[int]) -> None:
    """Write files of these sizes, wait until all is at the store, and print what it took."""
    block = random.Random(4711).randbytes(MIB)
    with mounted(args) as drive:
        drive.emulator.forget_requests()
        units = dict(drive.emulator.service.gate.units)
        began = time.monotonic()
        for number, size in enumerate(sizes):
            with (drive.point / f"{number:05}").open("wb", buffering=0) as file:
                for at in range(0, size, MIB):
                    piece = (number.to_bytes(8, "big") + at.to_bytes(8, "big") + block)[: min(MIB, size - at)]
                    file.write(piece)
        written = time.monotonic() - began
        drive.run("sync", "bench")
        took = time.monotonic() - began
        line = total * 8 / (args.mbit * 1e6)
        used = drive.emulator.service.gate.units.get(ANNA, 0) - units.get(ANNA, 0)
        memory = drive.memory()
        print(
            f"{title}: written in {written:.1f} s, at the store in {took:.1f} s ({took / line:.2f} x the line, "
            f"{line:.1f} s), {drive.writes()} write calls, {used} quota units, at most {memory} MiB in memory",
            flush=True,
        )


def joined(anna: Measured) -> Measured:
    """A second member, with an account of his own, who is let in and has not mounted yet."""
    (folder,) = anna.emulator.named("bench")
    anna.emulator.share(folder.id, BEN, "writer")
    ben = Measured(anna.emulator, anna.point.parent, BEN)
    token = anna.run("invite", "bench", "--role", "writer", "--name", "Ben", program="cryptfs-admin").strip()
    ben.run("join", token, "bench", "--no-passphrase", "--no-wait")
    anna.run("approve", "bench", "Ben", "--yes", program="cryptfs-admin")
    return ben


def changes(args: argparse.Namespace) -> None:
    """Save a small file on one mount, wait for it on the other, again and again; print how long that took."""
    with mounted(args) as anna:
        ben = joined(anna)
        ben.run("mount", "bench", str(ben.point))
        try:
            took = []
            for number in range(args.rounds):
                began = time.monotonic()
                (anna.point / f"note {number}").write_text("news")
                while not (ben.point / f"note {number}").exists():
                    time.sleep(0.05)
                took.append(time.monotonic() - began)
                time.sleep(random.Random(number).uniform(0, 4))
        finally:
            ben.run("umount", "bench")
        took.sort()
        worst = took[int(len(took) * 0.95)]
        print(f"a change is there after {took[len(took) // 2]:.1f} s (p50), {worst:.1f} s (p95), {len(took)} changes")


async def fill(anna: Measured, entries: int) -> None:
    """Make the files in this process, and a checkpoint of them, as an hour of an always-on device would."""
    (folder,) = anna.emulator.named("bench")
    with mock.patch.dict(os.environ, anna.environ):
        place = VaultHome.of("bench")
        keys = keyfile.decode(place.keys_file.read_bytes(), None)
        async with open_vault(place, keys, drive_store(anna.emulator, ANNA, folder.id)) as vault:
            await fill_vault(vault, entries, 0)
            await vault.checkpointing.make()


def device(args: argparse.Namespace) -> None:
    """Fill a vault, let a new device in, and print how long it takes to mount and list it."""
    quiet = argparse.Namespace(**vars(args) | {"latency": 0.0, "creates": None})
    with mounted(quiet) as anna:
        anna.run("umount", "bench")
        trio.run(fill, anna, args.entries)
        ben = joined(anna)
        network = anna.emulator.settings.network
        network.latency, network.up_mbit, network.down_mbit = args.latency, args.mbit, args.mbit
        anna.emulator.settings.limits.writes_per_second = args.creates
        anna.emulator.forget_requests()
        began = time.monotonic()
        ben.run("mount", "bench", str(ben.point))
        ready = time.monotonic() - began
        computed = ben.cpu()
        begun = time.monotonic()
        count = sum(len(files) for _, _, files in os.walk(ben.point))
        listed, calls = ready + time.monotonic() - begun, anna.emulator.count()
        memory, all_computed = ben.memory(), ben.cpu()
        ben.run("umount", "bench")
        anna.run("mount", "bench", str(anna.point))
        print(
            f"a new device with {count} files: mounted after {ready:.1f} s, all listed after {listed:.1f} s, "
            f"{calls} calls, at most {memory} MiB in memory; the daemon computed {computed:.1f} s until it was "
            f"mounted, {all_computed - computed:.1f} s while it was listed"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["small", "big", "changes", "device"])
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--size", type=int, default=20_000, help="bytes of each of the small files")
    parser.add_argument("--mib", type=int, default=1024, help="size of the big file")
    parser.add_argument("--entries", type=int, default=100_000, help="files that a new device has to list")
    parser.add_argument("--rounds", type=int, default=30, help="changes to be waited for")
    parser.add_argument("--latency", type=float, default=0.3, help="seconds a call")
    parser.add_argument("--creates", type=float, default=3.0, help="writes a second that the Drive takes")
    parser.add_argument("--mbit", type=float, default=100.0)
    parser.add_argument("--base", type=Path, default=Path("/dev/shm"), help="where all state lies")
    args = parser.parse_args()
    if args.only in (None, "small"):
        measure(args, f"{args.files} files of {args.size} bytes", args.files * args.size, [args.size] * args.files)
    if args.only in (None, "big"):
        measure(args, f"one file of {args.mib} MiB", args.mib * MIB, [args.mib * MIB])
    if args.only in (None, "changes"):
        changes(args)
    if args.only in (None, "device"):
        device(args)


if __name__ == "__main__":
    main()
