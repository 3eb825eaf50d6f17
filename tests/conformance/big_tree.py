"""20,000 files through real programs, then the local state is thrown away and everything compared. By hand or nightly.

    python tests/conformance/big_tree.py [--files 20000] [--seed 1] [--on DIR] [--base DIR]

Grows a tree on a plain file system, copies it onto a new cryptfs mount with `cp -a`, with `tar` and with `rsync` (into
three folders), commits one of them to git, syncs, unmounts, deletes cache and replica, mounts again and compares names,
kinds, modes, owners, sizes, times, hard links, xattrs and SHA-256 of all of it; then searches store and local state
for planted words. `--on DIR` runs the same on a directory instead. Needs some 10 kB of room a file under `--base`
(default: the directory for temporary files), five times. Prints seconds for each step; exit 0 only when all is equal.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mounting import Mount, Vault, scratch
from snapshot import Entry, differences, find_plaintext, snapshot
from treemaker import grow

START = time.time_ns()
PLANT = "Donaudampfschifffahrt-Geheimakte"


@contextmanager
def step(name: str) -> Iterator[None]:
    """Print what is done and how long it took."""
    start = time.perf_counter()
    print(f"{name:<44}", end="", flush=True)
    yield
    print(f"{time.perf_counter() - start:8.2f} s", flush=True)


def run(*command: str | Path) -> None:
    subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL)


def load(origin: Path, top: Path, archive: Path) -> None:
    """Bring the tree onto `top` in three ways, and one copy into git."""
    with step("cp -a"):
        run("cp", "-a", origin, top / "copied")
    with step("tar, extract and compare"):
        (top / "untarred").mkdir()
        run("tar", "--warning=no-timestamp", "--xattrs", "--format=posix", "-cf", archive, "-C", origin, ".")
        run("tar", "--warning=no-timestamp", "--xattrs", "-xpf", archive, "-C", top / "untarred")
        run("tar", "--warning=no-timestamp", "-df", archive, "-C", top / "untarred")
    with step("rsync -aHX, twice"):
        for _ in range(2):
            run("rsync", "-aHX", "--checksum", f"{origin}/", f"{top}/synced/")
    with step("git init, add, commit, gc, fsck"):
        repo = ["git", "-C", top / "synced", "-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "gc.auto=0"]
        run("git", "init", "-q", top / "synced")
        run(*repo, "add", "-A")
        run(*repo, "commit", "-q", "-m", "all")
        run(*repo, "gc", "-q")
        run(*repo, "fsck", "--full")
    with step("find, du, and remove 1 file in 10"):
        run("find", top / "copied", "-type", "f")
        run("du", "-s", top)
        for number, path in enumerate(sorted((top / "copied").rglob("*"))):
            if number % 10 == 0 and not path.is_dir():
                path.unlink()


def compare(before: dict[bytes, Entry], after: dict[bytes, Entry], what: str) -> bool:
    """Print the differences; True when there are none."""
    found = differences(before, after, limit=30, rebuilt_since=START)
    print(f"{what}: {len(after)} entries, " + ("equal" if not found else "DIFFERENT"))
    for line in found:
        print(f"  {line}")
    return not found


def on_directory(args: argparse.Namespace, origin: Path, archive: Path) -> bool:
    with scratch(args.on) as top:
        load(origin, top, archive)
        return compare(snapshot(origin), snapshot(top / "untarred"), "origin and tar copy")


def on_mount(args: argparse.Namespace, base: Path, origin: Path, archive: Path) -> bool:
    vault = Vault(base / "vault")
    vault.base.mkdir()
    vault.init()
    mount: Mount = vault.mount()
    try:
        load(origin, vault.point, archive)
        with step("snapshot"):
            before = snapshot(vault.point)
        with step("cryptfs sync"):
            vault.sync()
        mount.stop()
        vault.forget_local()
        with step("mount without any local state"):
            mount = vault.mount()
        with step("snapshot of everything, read from the store"):
            after = snapshot(vault.point)
        good = compare(before, after, "before and after")
        good &= compare(snapshot(origin), snapshot(vault.point / "untarred"), "origin and tar copy")
        mount.stop()
    finally:
        mount.close()
    with step("search for plaintext"):
        hits = find_plaintext([vault.store, vault.home], [PLANT])
    print("\n".join(hits) or "no planted word found in store or local state")
    return good and not hits


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--on", type=Path, default=None)
    parser.add_argument("--base", type=Path, default=None)
    args = parser.parse_args()
    with scratch(args.base) as base:
        origin, archive = base / "origin", base / "origin.tar"
        origin.mkdir()
        with step(f"grow {args.files} files, seed {args.seed}"):
            grow(origin, args.seed, args.files, PLANT.encode())
        good = on_directory(args, origin, archive) if args.on else on_mount(args, base, origin, archive)
    print("all good" if good else "FAILED")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
