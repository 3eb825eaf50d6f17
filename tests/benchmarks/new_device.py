"""What a new device has to do before it can list a vault: from a checkpoint, and by replaying all logs.

    python tests/benchmarks/new_device.py                        # 100,000 files of 200 bytes, in 1,000 directories
    python tests/benchmarks/new_device.py --files 10000          # sooner
    python tests/benchmarks/new_device.py --history 10           # each file was saved ten times before

Vaults in this process, on a directory; no mount. CPU is that of all threads; a call is one request to the store.
"""

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import trio

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from cryptfs.crypto.keyfile import DeviceKeys
from cryptfs.crypto.keys import LocalSecret, random_bytes
from cryptfs.format.operation import KIND_DIR, KIND_FILE, Create, provisional_ino
from cryptfs.store import Call, DirectoryStore, Store
from cryptfs.vault.home import VaultHome
from cryptfs.vault.opening import open_vault
from cryptfs.vault.starting import Beginning
from cryptfs.vault.vault import Vault
from tests.vault.vault_workshop import new_keys

_BATCH = 2_000


class Counting:
    """A store whose calls are counted."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if name in {"put", "put_file", "get", "stat", "list", "delete", "changes"}:
            self.calls += 1
        return found


@contextmanager
def measured(what: str, *, per: int = 0) -> Iterator[None]:
    """Print wall and CPU time of the block, and how many of `per` things a second of CPU does."""
    wall, cpu = time.monotonic(), time.process_time()
    yield
    wall, cpu = time.monotonic() - wall, time.process_time() - cpu
    rate = f", {per / cpu:,.0f} a second of CPU" if per else ""
    print(f"{what:58} {wall:7.2f} s, CPU {cpu:7.2f} s{rate}", flush=True)


async def fill(vault: Vault, files: int, history: int) -> int:
    """Make the files; returns how many operations that took."""
    directories: list[bytes] = []
    for number in range(max(1, files // 100)):
        k = vault.submit(Create(vault.replica.ino_of(1), b"d%05d" % number, KIND_DIR, 0o755, 0, 0, 0, 1, b"", None))
        directories.append(provisional_ino(k))
    made: list[int] = []
    for number in range(files):
        parent = vault.replica.ino_of(vault.replica.st_of(directories[number // 100]) or 0)
        k = vault.submit(Create(parent, b"file %06d.txt" % number, KIND_FILE, 0o644, 0, 0, 0, 1, b"", None))
        made.append(vault.replica.st_of(provisional_ino(k)) or 0)
        await write(vault, made[-1], b"%0200d" % number)
        if number % _BATCH == _BATCH - 1:
            await vault.sync()
    for turn in range(history):
        for number, st in enumerate(made):
            await write(vault, st, b"%0200d" % (number + turn))
            if number % _BATCH == _BATCH - 1:
                await vault.sync()
    await vault.sync()
    return vault.standing.log.next_n


async def write(vault: Vault, st: int, data: bytes) -> None:
    content = vault.open_file(st)
    await content.write(0, data, 1)
    vault.release_file(content)


def home_of(base: Path, name: str) -> VaultHome:
    top = base / name
    return VaultHome("v", top / "config", top / "data" / "v", top / "cache" / "v", top / "run")


async def begin(base: Path, keys: DeviceKeys, name: str, what: str, per: int = 0) -> None:
    """A device that has nothing but its keys, until it has listed everything."""
    fresh = DeviceKeys(keys.vault, keys.entry, keys.cert_key_pkcs8, keys.cert_der, keys.sign_seed,
                       LocalSecret(random_bytes(32)))  # fmt: skip
    store = Counting(DirectoryStore(base / "store"))
    with measured(what, per=per):
        async with open_vault(home_of(base, name), fresh, store) as vault:  # type: ignore[arg-type]
            calls = store.calls
            with measured("  of which: list everything"):
                count = sum(1 for _ in vault.replica.walk())
            began = Beginning.of(vault)
    print(f"  {count:,} entries, {calls} store calls, {'from a checkpoint' if began else 'by replay'}")


async def main(files: int, history: int, base: Path) -> None:
    (base / "store").mkdir()
    objects: list[tuple[str, bytes]] = []
    keys = new_keys(objects)
    store = DirectoryStore(base / "store")
    for name, data in objects:
        store.put(name, data, Call())
    store.close()
    async with open_vault(home_of(base, "maker"), keys, DirectoryStore(base / "store")) as vault:
        with measured(f"make {files:,} files"):
            ops = await fill(vault, files, history)
        print(f"  {ops:,} operations, {vault.standing.log.next_seq} segments")
        if history:
            await vault.collector.run(now=True, history=True)  # or the old versions would be in the checkpoint
    await begin(base, keys, "replaying", "new device, by replaying all logs", per=ops)
    async with open_vault(home_of(base, "maker"), keys, DirectoryStore(base / "store")) as vault:
        longest = 0.0

        async def watch() -> None:
            nonlocal longest
            while True:
                before = time.monotonic()
                await trio.sleep(0.001)
                longest = max(longest, time.monotonic() - before)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            with measured("make a checkpoint"):
                made = await vault.checkpointing.make()
            nursery.cancel_scope.cancel()
        assert made is not None
        size = next((base / "store" / "c").iterdir()).stat().st_size
        print(f"  {made.rows:,} nodes, {size / 1e6:.1f} MB; other tasks waited {longest * 1000:.0f} ms at most")
    await begin(base, keys, "beginning", "new device, from the checkpoint")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--history", type=int, default=0)
    asked = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="cryptfs-new-device-", dir="/dev/shm"))
    try:
        trio.run(main, asked.files, asked.history, place)
    finally:
        shutil.rmtree(place)
