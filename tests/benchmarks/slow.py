"""What reading costs on a slow store: seconds, calls and bytes, on a real mount with nothing in the cache.

    python tests/benchmarks/slow.py                  # 256 MiB, 10,000 files of 20 KB; 150 ms a call, 100 Mbit/s
    python tests/benchmarks/slow.py --scale 0.1      # a quick look

Figures and what they say: docs/performance.md, "A slow store".
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.conformance.mounting import NAME, Vault

MIB = 1 << 20
LAUNCHER = (str(Path(__file__).with_name("slow_daemon.py")),)


def fill(vault: Vault, big: int, small: int) -> None:
    """Put into the store, at full speed, what is read afterwards."""
    rng = random.Random(4711)
    mount = vault.mount()
    with (vault.point / "big").open("wb") as stream:
        for _ in range(big):
            stream.write(rng.randbytes(MIB))
    for number in range(small):
        folder = vault.point / f"tree/{number // 100:03}"
        if number % 100 == 0:
            folder.mkdir(parents=True)
        (folder / f"{number % 100:02}").write_bytes(rng.randbytes(20_000))
    vault.sync()
    mount.stop(quiet=False)


def measured(vault: Vault, what: str, work: Callable[[], int]) -> None:
    """Run `work`, which returns how many bytes it read, on an empty cache."""
    for path in (vault.home / "cache" / NAME / "packs").iterdir():
        path.unlink()
    mount = vault.mount(launcher=LAUNCHER)
    before = status(vault)
    began = time.monotonic()
    read = work()
    seconds = time.monotonic() - began
    after = status(vault)
    gets, fetched = (after[key] - before[key] for key in ("store_gets", "bytes_fetched"))
    line = f"{read / MIB:8.1f} MiB read  {fetched / MIB:8.1f} MiB fetched in {gets:4} calls  {seconds:6.1f} s"
    print(f"{what:36}{line}  {read / seconds / MIB:5.1f} MiB/s", flush=True)
    mount.stop(quiet=False)


def status(vault: Vault) -> dict[str, int]:
    return json.loads(vault.run("status", NAME, "--json").stdout)


def through(path: Path) -> int:
    with path.open("rb") as stream:
        return sum(len(piece) for piece in iter(lambda: stream.read(MIB), b""))


def jumping(path: Path, times: int) -> int:
    rng = random.Random(1)
    size = path.stat().st_size
    fd = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
        return sum(len(os.pread(fd, 4096, rng.randrange(0, size, 4096))) for _ in range(times))
    finally:
        os.close(fd)


def grep(folder: Path) -> int:
    subprocess.run(["grep", "-rc", "no such word", str(folder)], stdout=subprocess.DEVNULL, check=False)
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def find(folder: Path) -> int:
    subprocess.run(["find", str(folder), "-size", "+1M"], stdout=subprocess.DEVNULL, check=True)
    return 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--only", default="", help="rows whose name has this in it")
    parser.add_argument("--base", type=Path, default=Path("/dev/shm"))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.base) as directory:
        vault = Vault(Path(directory))
        vault.init()
        fill(vault, max(8, int(256 * given.scale)), max(200, int(10_000 * given.scale)))
        big, tree = vault.point / "big", vault.point / "tree"
        rows: dict[str, Callable[[], int]] = {
            "find, by size": lambda: find(vault.point),
            "one small file": lambda: through(tree / "001/50"),
            "large file, from end to end": lambda: through(big),
            "large file, 4 KiB at 50 places": lambda: jumping(big, 50),
            "grep -r over the small files": lambda: grep(tree),
            "tar of the small files": lambda: tar(tree),
        }
        for what, work in rows.items():
            if given.only in what:
                measured(vault, what, work)


def tar(folder: Path) -> int:
    packed = subprocess.run(["tar", "-cf", "-", str(folder)], capture_output=True, check=True).stdout
    return len(packed)


if __name__ == "__main__":
    main()
