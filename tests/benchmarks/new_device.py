"""What a new device has to do before it can list a vault: from a checkpoint, and by replaying all logs.

    python tests/benchmarks/new_device.py                        # 100,000 files of 200 bytes, in 1,000 directories
    python tests/benchmarks/new_device.py --files 10000          # sooner
    python tests/benchmarks/new_device.py --history 10           # each file was saved ten times before
    python tests/benchmarks/new_device.py --drive                # on an emulated Google Drive, 0.15 s a call

Vaults in this process, on a directory or an emulated Drive in another process; no mount. CPU is that of all threads; a
call is one request to the store: on Drive one over HTTPS, with those for its folders and the feed.
"""

import argparse
import json
import shutil
import subprocess
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
from cryptfs.store.drive.access import DriveAccess
from cryptfs.store.drive.store import DriveStore
from cryptfs.vault import checkpointing
from cryptfs.vault.home import VaultHome
from cryptfs.vault.opening import open_vault
from cryptfs.vault.starting import Beginning
from cryptfs.vault.vault import Vault
from tests.vault.vault_workshop import new_keys

TOP = Path(__file__).resolve().parents[2]
_BATCH = 2_000
ANNA = "anna@example.org"


class Place:
    """Where the vault lies: a directory."""

    def __init__(self, base: Path) -> None:
        self._folder = base / "store"
        self._folder.mkdir()

    def store(self) -> Any:
        """The store, counting its calls from now on."""
        return Counting(DirectoryStore(self._folder))

    def close(self) -> None:
        """Nothing is left."""


class Drive(Place):
    """Where the vault lies: an emulated Drive, which is another process, so that its work is not counted."""

    def __init__(self, base: Path, latency: float) -> None:
        line = [sys.executable, "-m", "tests.drive_emulator", "--port", "0", "--files", str(base), "--latency",
                str(latency)]  # fmt: skip
        self._server = subprocess.Popen(line, stdout=subprocess.PIPE, text=True, cwd=TOP)
        assert self._server.stdout is not None
        said = [self._server.stdout.readline() for _ in range(6)]
        self._url = said[0].split()[1]
        self._folder_id = said[2].split()[1].removeprefix("gdrive:")
        self._login = json.loads((base / f"{ANNA}.json").read_text())

    def store(self) -> Any:
        login = self._login
        access = DriveAccess(
            login["client_id"], login["client_secret"], login["refresh_token"], login["token_uri"], ANNA, self._url
        )
        return CountingRequests(DriveStore(access, self._folder_id))

    def close(self) -> None:
        """The emulator ends."""
        self._server.terminate()
        self._server.wait()


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


class CountingRequests(Counting):
    """A Drive whose requests are counted."""

    def __init__(self, store: DriveStore) -> None:
        super().__init__(store)
        run = store.client.run

        def counted(*args: Any, **how: Any) -> Any:
            self.calls += 1
            return run(*args, **how)

        store.client.run = counted  # type: ignore[method-assign]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


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


async def begin(base: Path, place: Place, keys: DeviceKeys, name: str, what: str, *, per: int = 0) -> None:
    """A device that has nothing but its keys, until it has listed everything."""
    fresh = DeviceKeys(keys.vault, keys.entry, keys.cert_key_pkcs8, keys.cert_der, keys.sign_seed,
                       LocalSecret(random_bytes(32)))  # fmt: skip
    store = place.store()
    with measured(what, per=per):
        async with open_vault(home_of(base, name), fresh, store) as vault:
            calls = store.calls
            with measured("  of which: list everything"):
                count = sum(1 for _ in vault.replica.walk())
            began = Beginning.of(vault)
    print(f"  {count:,} entries, {calls} store calls, {'from a checkpoint' if began else 'by replay'}")


async def main(files: int, history: int, base: Path, place: Place) -> None:
    checkpointing._LOOK = float("inf")  # on a slow machine one would be made before it is asked for
    objects: list[tuple[str, bytes]] = []
    keys = new_keys(objects)
    store = place.store()
    for name, data in objects:
        store.put(name, data, Call())
    store.close()
    async with open_vault(home_of(base, "maker"), keys, place.store()) as vault:
        with measured(f"make {files:,} files"):
            ops = await fill(vault, files, history)
        print(f"  {ops:,} operations, {vault.standing.log.next_seq} segments")
        if history:
            await vault.collector.run(now=True, history=True)  # or the old versions would be in the checkpoint
    await begin(base, place, keys, "replaying", "new device, by replaying all logs", per=ops)
    async with open_vault(home_of(base, "maker"), keys, place.store()) as vault:
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
        size = await vault.sender.size(made.name) or 0
        print(f"  {made.rows:,} nodes, {size / 1e6:.1f} MB; other tasks waited {longest * 1000:.0f} ms at most")
    await begin(base, place, keys, "beginning", "new device, from the checkpoint")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--history", type=int, default=0)
    parser.add_argument("--drive", action="store_true")
    parser.add_argument("--latency", type=float, default=0.15, help="seconds a call of the Drive takes")
    asked = parser.parse_args()
    base = Path(tempfile.mkdtemp(prefix="cryptfs-new-device-", dir="/dev/shm"))
    place = Drive(base, asked.latency) if asked.drive else Place(base)
    try:
        trio.run(main, asked.files, asked.history, base, place)
    finally:
        place.close()
        shutil.rmtree(base)
