"""How long it takes until a change made on one device is seen on another, on a store where every call takes a while.

    python -m tests.benchmarks.visibility [--changes 40] [--delay 0.3] [--kind feed|listing] [--seed 1]

Two vaults in one process, each as a mount has it, with all its tasks, on one store in memory whose every call takes
`--delay` seconds: with a change feed, or one that can only be listed. One makes a small file at moments drawn by the
seed, between 1 and 15 s apart; what is measured is the time from there to the moment the other's tree has it, which is
when its kernel is told. Then the same with `cryptfs sync` on both instead of waiting.
"""

import argparse
import random
import statistics
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

import trio

from cryptfs.group.authority import Tier
from cryptfs.store import Call, Cap, DirectoryStore
from cryptfs.vault.opening import open_vault
from cryptfs.vault.vault import Vault
from tests.vault.administration_world import World
from tests.vault.feed_store import FeedStore, FeedWorld
from tests.vault.vault_workshop import write_file


class Listed(FeedStore):
    """The same without a feed."""

    @property
    def caps(self) -> frozenset[Cap]:
        return super().caps - {Cap.CHANGES}


async def seen(vault: Vault, name: bytes) -> None:
    """Return when the tree has the name: after the pull that brought it."""
    while vault.replica.lookup(1, name) is None:
        await vault.exchange.settled.wait()


def report(what: str, seconds: list[float]) -> None:
    """One line."""
    p50, p95 = statistics.median(seconds), statistics.quantiles(seconds, n=20, method="inclusive")[18]
    print(
        f"{what:<28} n {len(seconds):3}   p50 {p50:5.2f} s   p95 {p95:5.2f} s   most {max(seconds):5.2f} s", flush=True
    )


async def measure(base: Path, given: argparse.Namespace) -> None:
    """Found, let in, open, change, wait."""
    world = World(base)
    bob = await world.admit("Bob", Tier.WRITER)
    provider = FeedWorld()
    fill = FeedStore(provider)
    here = DirectoryStore(world.folder)
    for stat in here.list("", Call()):
        fill.put(stat.key, here.get(stat.key, Call()), Call())
    here.close()
    kind = FeedStore if given.kind == "feed" else Listed
    stores = kind(provider, given.delay), kind(provider, given.delay)
    rng = random.Random(given.seed)
    async with AsyncExitStack() as stack:
        hers, his = [
            await stack.enter_async_context(open_vault(device.home, device.keys, store))
            for device, store in zip((world.anna, bob), stores, strict=True)
        ]
        await hers.sync()
        await his.sync()
        waits = []
        calls = stores[1].calls.total()
        began = trio.current_time()
        for number in range(given.changes):
            await trio.sleep(rng.uniform(1, 15))
            start = trio.current_time()
            await write_file(hers, b"%d" % number, b"small")
            await seen(his, b"%d" % number)
            waits.append(trio.current_time() - start)
        report(f"{given.kind}, by itself", waits)
        minutes = (trio.current_time() - began) / 60
        print(f"{'':<24} the other made {(stores[1].calls.total() - calls) / minutes:.0f} calls a minute")
        synced = []
        for number in range(5):
            start = trio.current_time()
            await write_file(hers, b"synced %d" % number, b"small")
            await hers.sync(thorough=True)
            await his.sync(thorough=True)
            if his.replica.lookup(1, b"synced %d" % number) is None:
                raise SystemExit("not there after `sync` on both")
            synced.append(trio.current_time() - start)
        report(f"{given.kind}, sync on both", synced)


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--changes", type=int, default=40)
    parser.add_argument("--delay", type=float, default=0.3)
    parser.add_argument("--kind", choices=("feed", "listing"), default="feed")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cryptfs-visibility-") as base:
        trio.run(measure, Path(base), given)


if __name__ == "__main__":
    main()
