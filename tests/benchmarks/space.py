"""How many bytes a store holds against live data, after a long life: `python -m tests.benchmarks.space --ops 20000`.

And what it takes a new device to open the vault then: `--ops 1000000` with the options that docs/performance.md names.
Several devices on a store in memory overwrite, change in parts, make, remove and rename files; days pass by their own
clocks, without waiting. Every day everybody reads, acknowledges and collects, as mounts do by themselves. In the end
nobody writes any more, forty days pass, and what is left is counted.
"""

import argparse
import random
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import trio

from cryptfs.format.names import root_inode
from cryptfs.format.operation import KIND_FILE, Rename, Unlink
from cryptfs.store import Call, SimStore
from cryptfs.vault.opening import open_vault
from cryptfs.vault.starting import Beginning
from cryptfs.vault.upkeep import Upkeep
from cryptfs.vault.vault import Vault
from tests.vault.collection_group import Group
from tests.vault.vault_workshop import make_file

DAY_MS = 86_400_000
QUIET_DAYS = 40


@dataclass
class Outcome:
    """Bytes and objects of the store by folder, and bytes of the files in the tree."""

    live: int
    stored: dict[str, tuple[int, int]]
    segments: int
    opened: str = ""
    """What it took a device that had nothing to open the vault, in words."""

    @property
    def packs(self) -> float:
        """Bytes in packs for each byte that is live."""
        return self.stored["p"][1] / self.live

    @property
    def all(self) -> float:
        """Bytes in the store for each byte that is live."""
        return sum(size for _, size in self.stored.values()) / self.live


class Life:
    """One history: same arguments, same calls."""

    def __init__(self, group: Group, files: int, largest: int, rhythm: tuple[int, int]) -> None:
        self._group = group
        self._rng = group.rng
        self._files = files
        self._largest = largest
        self._ops_a_seal, self._ops_a_day = rhythm
        self._now_ms = time.time_ns() // 1_000_000
        for member in group.members:
            member.vault.wall_ms = lambda: self._now_ms  # type: ignore[method-assign]

    async def run(self, ops: int) -> Outcome:
        """Live, then be quiet, then count."""
        for number in range(1, ops + 1):
            member = self._rng.choice(self._group.members)
            await self._act(member.vault)
            if number % self._ops_a_seal == 0:
                await member.vault.sealer.seal()
            if number % self._ops_a_day == 0:
                await self._day()
        for _ in range(QUIET_DAYS):
            await self._day()
        return self._count()

    async def _day(self) -> None:
        self._now_ms += DAY_MS
        for member in self._group.members:
            await member.vault.sync()
            await member.vault.acknowledging.now()
        for member in self._group.members:
            await member.vault.exchange.pull()
            await member.vault.checkpointing.tend()
        for member in self._group.members:
            await member.vault.checkpointing.look()
            await member.vault.acknowledging.now()
        for member in self._group.members:
            await member.vault.exchange.pull()
            await member.vault.checkpointing.look()
            await member.vault.collector.run()

    async def _act(self, vault: Vault) -> None:
        entries = vault.replica.entries(1)
        dice = self._rng.random()
        if len(entries) < self._files * 0.8 or dice < 0.1:
            await self._write(vault, make_file(vault, b"n%d" % self._rng.getrandbits(60)))
        elif dice < 0.6:
            await self._write(vault, self._rng.choice(entries)[1])
        elif dice < 0.8:
            content = vault.open_file(self._rng.choice(entries)[1])
            await content.write(self._rng.randrange(content.size + 1), self._rng.randbytes(1000), 1)
            vault.release_file(content)
        else:
            self._move(vault, *self._rng.choice(entries)[:2], remove=len(entries) > self._files or dice < 0.9)

    async def _write(self, vault: Vault, st: int) -> None:
        content = vault.open_file(st)
        await content.truncate(0, 1)
        size = min(self._largest, int(2000 * self._rng.paretovariate(0.7)))
        await content.write(0, self._rng.randbytes(size), self._rng.getrandbits(40))
        vault.release_file(content)

    def _move(self, vault: Vault, name: bytes, st: int, *, remove: bool) -> None:
        replica = vault.replica
        entry, node = replica.lookup(1, name), replica.node(st)
        if entry is None or node is None or entry.kind != KIND_FILE:
            return
        ino, lver = replica.ino_of(st), replica.extern_ver(entry.lver)
        if remove:
            vault.submit(Unlink(ino, lver, replica.extern_ver(node.cver)))
        else:
            target = b"m%d" % self._rng.getrandbits(60)
            vault.submit(Rename(ino, lver, root_inode(vault.vault_id), target, None, 0))

    def _count(self) -> Outcome:
        vault, world = self._group.members[0].vault, self._group.world
        live = 0
        for _, st, _ in vault.replica.entries(1):
            node = vault.replica.node(st)
            live += node.size if node is not None else 0
        stored: dict[str, tuple[int, int]] = {}
        for stat in world.list("", Call()):
            folder = stat.key[0]
            count, size = stored.get(folder, (0, 0))
            stored[folder] = count + 1, size + stat.size
        logs = vault.standing.logs
        return Outcome(live, stored, sum(logs.state(one).next_seq for one in logs.ids()))


class Counted(SimStore):
    """Counts the bytes that are read from it."""

    bytes_read = 0

    def get(self, key: str, call: Call, start: int = 0, length: int | None = None) -> bytes:
        data = super().get(key, call, start, length)
        self.bytes_read += len(data)
        return data


async def open_anew(group: Group, like: Vault) -> str:
    """Open the vault on a device that has nothing but its keys; it has the same tree."""
    assert group.late is not None
    store, began, cpu = Counted(group.world, 99), time.perf_counter(), time.process_time()
    async with open_vault(group.late.home, group.late.keys, store) as vault:
        wall, used = time.perf_counter() - began, time.process_time() - cpu
        if Beginning.of(vault) is None:
            raise SystemExit("it did not begin from a checkpoint")
        if vault.replica.count_nodes() != like.replica.count_nodes():
            raise SystemExit("it has another tree")
        return (
            f"{vault.replica.count_nodes()} nodes, {wall:.1f} s ({used:.1f} s of CPU), {store.calls.total()} calls, "
            f"{store.bytes_read / 1e6:.1f} MB"
        )


async def measure(
    base: Path, *, ops: int, devices: int, files: int, largest: int, seed: int, rhythm: tuple[int, int] = (20, 500)
) -> Outcome:
    """One history; background tasks must stand still (`stand_still`)."""
    async with trio.open_nursery() as nursery:
        group = Group(base, seed)
        await group.found(nursery, devices - 1, late=True)
        outcome = await Life(group, files, largest, rhythm).run(ops)
        outcome.opened = await open_anew(group, group.members[0].vault)
        for member in group.members:
            member.closing.set()
    return outcome


async def stand_still(_: Upkeep, __: trio.Nursery) -> None:
    """Instead of `Upkeep.run`: nothing happens by itself."""
    await trio.lowlevel.checkpoint()


def main() -> None:
    """Print one line a folder, and the sums."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ops", type=int, default=20_000)
    parser.add_argument("--devices", type=int, default=3)
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--largest", type=int, default=1_500_000)
    parser.add_argument("--ops-a-seal", type=int, default=20)
    parser.add_argument("--ops-a-day", type=int, default=500)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    given = parser.parse_args()
    print(f"seed {given.seed}")
    Upkeep.run = stand_still  # type: ignore[method-assign]
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as base:
        outcome = trio.run(
            lambda: measure(
                Path(base) / "space", ops=given.ops, devices=given.devices, files=given.files, largest=given.largest,
                seed=given.seed, rhythm=(given.ops_a_seal, given.ops_a_day),
            )
        )  # fmt: skip
    print(f"{given.ops} operations, {outcome.segments} segments, {time.perf_counter() - began:.0f} s")
    print(f"live {outcome.live / 1e6:.1f} MB")
    for folder, (count, size) in sorted(outcome.stored.items()):
        print(f"{folder}/ {count} objects, {size / 1e6:.1f} MB")
    print(f"a new device opens it: {outcome.opened}")
    print(f"packs {outcome.packs:.2f} x live, everything {outcome.all:.2f} x live")


if __name__ == "__main__":
    main()
