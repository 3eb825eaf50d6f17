"""A vault with a long history: what its store holds, and what it takes a new device to open it.

    python -m tests.benchmarks.long_history                        # 1,000,000 operations on 20,000 files
    python -m tests.benchmarks.long_history --ops 100000 --files 5000

One device, on a store in memory, through the same calls as a mount: of 100 operations 60 change attributes, 30 rename
and 10 save a file of some KB anew. A day passes, by the device's own clock, every `--day` operations, with what a mount
does by itself in a day: a look at checkpoints, one if it is due, a run of the collector. In the end 80 quiet days pass.
Afterwards a device that has nothing but its keys opens the vault and lists everything.
"""

import argparse
import random
import tempfile
import time
from pathlib import Path

import trio

from cryptfs.crypto.keyfile import DeviceKeys
from cryptfs.crypto.keys import LocalSecret, random_bytes
from cryptfs.format.names import root_inode
from cryptfs.format.operation import KIND_FILE, SET_MODE, Create, Rename, SetAttr, provisional_ino
from cryptfs.store import Call, SimStore, SimWorld
from cryptfs.vault.home import VaultHome
from cryptfs.vault.opening import open_vault
from cryptfs.vault.starting import Beginning
from cryptfs.vault.upkeep import Upkeep
from cryptfs.vault.vault import Vault
from tests.benchmarks.space import Counted, stand_still
from tests.vault.vault_workshop import new_keys

DAY_MS = 86_400_000
QUIET_DAYS = 80
BATCH = 2_000


class History:
    """One history: same arguments, same calls."""

    def __init__(self, vault: Vault, seed: int) -> None:
        self._vault = vault
        self._rng = random.Random(seed)
        self._now_ms = time.time_ns() // 1_000_000
        self._root = root_inode(vault.vault_id)
        self._names: list[bytes] = []
        vault.wall_ms = lambda: self._now_ms  # type: ignore[method-assign]

    async def live(self, ops: int, files: int, a_day: int) -> None:
        for number in range(files):
            self._names.append(b"%06d" % number)
            k = self._vault.submit(Create(self._root, self._names[-1], KIND_FILE, 0o644, 0, 0, 0, 1, b"", None))
            await self._save(self._vault.replica.st_of(provisional_ino(k)) or 0)
            await self._breathe(number, a_day)
        for number in range(files, ops):
            await self._act(number % files)
            await self._breathe(number, a_day)
        for _ in range(QUIET_DAYS):
            await self._day()

    async def _breathe(self, number: int, a_day: int) -> None:
        if number % BATCH == BATCH - 1:
            await self._vault.sync()
        if number % a_day == a_day - 1:
            await self._day()

    async def _day(self) -> None:
        self._now_ms += DAY_MS
        vault = self._vault
        await vault.sync()
        await vault.checkpointing.tend()
        await vault.acknowledging.now()
        await vault.checkpointing.look()
        await vault.collector.run()

    async def _act(self, number: int) -> None:
        """One operation on this file. Each is worked on once a round, so that nothing is coalesced away."""
        vault, dice = self._vault, self._rng.random()
        entry = vault.replica.lookup(1, self._names[number])
        assert entry is not None
        if dice < 0.1:
            await self._save(entry.st)
        elif dice < 0.4:
            self._names[number] = b"%x %s" % (self._rng.getrandbits(60), self._names[number][-6:])
            ino, lver = vault.replica.ino_of(entry.st), vault.replica.extern_ver(entry.lver)
            vault.submit(Rename(ino, lver, self._root, self._names[number], None, 0))
        else:
            mode = self._rng.choice((0o600, 0o640, 0o644, 0o664))
            vault.submit(SetAttr(vault.replica.ino_of(entry.st), SET_MODE, mode, 0, 0, 0))

    async def _save(self, st: int) -> None:
        content = self._vault.open_file(st)
        await content.truncate(0, 1)
        await content.write(0, self._rng.randbytes(self._rng.randrange(1_000, 16_000)), 1)
        self._vault.release_file(content)


def home_of(base: Path, name: str) -> VaultHome:
    top = base / name
    return VaultHome("v", top / "config", top / "data" / "v", top / "cache" / "v", top / "run")


def tell_space(vault: Vault, world: SimWorld) -> None:
    live = sum(node.size for _, st, _ in vault.replica.entries(1) if (node := vault.replica.node(st)) is not None)
    print(f"live: {vault.replica.count_nodes():,} nodes, {live / 1e6:.1f} MB", flush=True)
    total = 0
    for folder in "clp":
        sizes = [stat.size for stat in world.list(f"{folder}/", Call())]
        total += sum(sizes)
        print(f"{folder}/  {len(sizes)} objects, {sum(sizes) / 1e6:.1f} MB", flush=True)
    print(f"in the store: {total / live:.2f} x live", flush=True)


async def open_anew(base: Path, world: SimWorld, keys: DeviceKeys) -> None:
    """A device that has nothing but its keys, until it has listed everything."""
    fresh = DeviceKeys(keys.vault, keys.entry, keys.cert_key_pkcs8, keys.cert_der, keys.sign_seed,
                       LocalSecret(random_bytes(32)))  # fmt: skip
    store, wall, cpu = Counted(world, 2), time.perf_counter(), time.process_time()
    async with open_vault(home_of(base, "new"), fresh, store) as vault:
        entries = sum(1 for _ in vault.replica.walk())
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        how = "from a checkpoint" if Beginning.of(vault) else "by replay"
    print(f"a new device: {entries:,} entries {how}: {wall:.1f} s, CPU {cpu:.1f} s, {store.calls.total()} calls, "
          f"{store.bytes_read / 1e6:.1f} MB read")  # fmt: skip


async def main(base: Path, ops: int, files: int, a_day: int, seed: int) -> None:
    objects: list[tuple[str, bytes]] = []
    keys, world = new_keys(objects), SimWorld()
    for name, data in objects:
        world.put(name, data, Call())
    cpu = time.process_time()
    async with open_vault(home_of(base, "maker"), keys, SimStore(world, 1)) as vault:
        await History(vault, seed).live(ops, files, a_day)
        log = vault.standing.log
        print(f"{log.next_n:,} operations in {log.next_seq:,} segments, CPU {time.process_time() - cpu:.0f} s")
        tell_space(vault, world)
    await open_anew(base, world, keys)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ops", type=int, default=1_000_000)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--day", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    Upkeep.run = stand_still  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as temporary:
        trio.run(main, Path(temporary), given.ops, given.files, given.day, given.seed)
