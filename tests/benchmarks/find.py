"""Store calls while somebody looks through a large mount: there are none.

    python -m tests.benchmarks.find                     # 100,000 entries in 1,000 directories, made through a mount
    python -m tests.benchmarks.find --entries 10000     # sooner

The vault is then mounted on a device that has nothing of it yet, and when that is in step, `find -ls` goes over all of
it: names, attributes, targets of links. The store notes every call that is made to it, whoever makes it.
"""

import argparse
import subprocess
import tempfile
import time
from pathlib import Path

from tests.conformance.mounting import Vault

LAUNCHER = (str(Path(__file__).parents[1] / "conformance/counted_daemon.py"),)
_A_FOLDER = 100
"""Entries of one directory."""


def fill(top: Path, entries: int) -> None:
    """Directories with small files; every fiftieth entry is a symbolic link."""
    for number in range(entries // _A_FOLDER):
        folder = top / f"{number // 30:02}/{number:04}"
        folder.mkdir(parents=True)
        for one in range(_A_FOLDER - 1):
            path = folder / f"file {one:02}.txt"
            if one % 50 == 49:
                path.symlink_to(f"../{number:04}/file 00.txt")
            else:
                path.write_bytes(b"%d of %d" % (one, number) * 10)


def look(point: Path, notes: Path, what: str) -> None:
    """One line: entries, seconds, calls."""
    before = notes.read_text().splitlines()
    began = time.monotonic()
    listed = subprocess.run(["find", point, "-ls"], capture_output=True, check=True).stdout
    seconds = time.monotonic() - began
    calls = notes.read_text().splitlines()[len(before) :]
    count = len(listed.splitlines())
    said = ", ".join(calls) if calls else "none"
    print(f"{what:<22} {count:,} entries   {seconds:5.1f} s   calls to the store: {said}", flush=True)


def main() -> None:
    """Make, forget, look."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--base", type=Path, default=Path("/dev/shm"))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.base, prefix="cryptfs-find-") as directory:
        vault = Vault(Path(directory))
        vault.init()
        mount = vault.mount()
        try:
            began = time.monotonic()
            fill(vault.point, given.entries)
            vault.run("sync", "drive", seconds=1800)
            print(f"made and sent in {time.monotonic() - began:.0f} s", flush=True)
            mount.stop()
            vault.forget_local()
            notes = vault.base / "calls"
            mount = vault.mount(launcher=LAUNCHER, environ={"COUNTED_CALLS": str(notes)})
            began = time.monotonic()
            vault.run("sync", "drive", seconds=600)
            told = notes.read_text().splitlines()
            print(f"in step {time.monotonic() - began:.1f} s after it was mounted, with {len(told)} calls", flush=True)
            look(vault.point, notes, "find -ls, the first")
            look(vault.point, notes, "find -ls, once more")
            mount.stop()
        finally:
            mount.close()


if __name__ == "__main__":
    main()
