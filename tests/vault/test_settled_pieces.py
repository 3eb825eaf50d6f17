"""What was saved in small pieces is copied into full packs after a while, so that logs and small packs can go."""

import random
import time

import pytest

from cryptfs.store import Call
from cryptfs.tree.places import Place
from cryptfs.vault.vault import Vault, VaultOptions
from tests.vault.vault_faults import SimWorkshop, empty_cache, forget_everything, sim, state_of, still
from tests.vault.vault_workshop import read_file, remove_file, write_file

__all__ = ["sim", "still"]

pytestmark = pytest.mark.usefixtures("still")

KIB = 1 << 10
OLD = VaultOptions(settle_s=-1)
"""As if everything had been saved long ago."""


def noise(seed: int, length: int) -> bytes:
    return random.Random(seed).randbytes(length)


def names(count: int) -> list[bytes]:
    return [b"f%d" % i for i in range(count)]


async def save(vault: Vault, count: int, length: int) -> None:
    """Small files, each saved by itself."""
    for i, name in enumerate(names(count)):
        await write_file(vault, name, noise(i, length))
        await vault.sync()


def body2_in_use(vault: Vault) -> list[Place]:
    """Segments with records that something may still refer to."""
    held = vault.replica.uses.held(vault.standing.log_id, 2, retired=False)
    return [Place(one.place, one.id) for one in held]


def packs(workshop: SimWorkshop) -> list[int]:
    return sorted(stat.size for stat in workshop.world.list("p/", Call()))


async def test_small_saves_move_into_a_pack_and_read_as_before(sim: SimWorkshop) -> None:
    sim.options = OLD
    async with sim.open() as vault:
        await save(vault, 9, 500 * KIB)
        assert not packs(sim)
        assert len(body2_in_use(vault)) == 9
        remove_file(vault, b"f0")
        await vault.sync()
        done = await vault.collector.run(now=True, history=True)
        assert not done.left
        assert not body2_in_use(vault)
        (size,) = packs(sim)
        assert 8 * 500 * KIB < size < 8 * 510 * KIB
        again = await vault.collector.run(now=True)
        assert (again.retired, again.deleted, again.repacked) == (0, 0, 0)
        empty_cache(sim)
        for i, name in enumerate(names(9)[1:], 1):
            assert await read_file(vault, name) == noise(i, 500 * KIB)
        # What is changed in a part goes on naming the rest, where it is now.
        await write_file(vault, b"f1", b"new", offset=100_000)
        await vault.sync()
        state = state_of(vault)
    forget_everything(sim)
    expected = bytearray(noise(1, 500 * KIB))
    expected[100_000:100_003] = b"new"
    async with sim.open() as vault:
        assert state_of(vault) == state
        assert await read_file(vault, b"f1") == bytes(expected)


def pass_days(vault: Vault, days: float) -> None:
    """Let the clock of this machine be so far on."""
    at = time.time_ns() // 1_000_000 + int(days * 86_400_000)
    vault.wall_ms = lambda: at  # type: ignore[method-assign]


async def test_what_was_saved_lately_stays_where_it_is(sim: SimWorkshop) -> None:
    async with sim.open() as vault:
        await save(vault, 9, 500 * KIB)
        await vault.collector.run(now=True)
        assert len(body2_in_use(vault)) == 9
        pass_days(vault, 8)
        await vault.collector.run(now=True)
        assert not body2_in_use(vault)


async def test_a_little_waits_for_more_but_not_for_ever(sim: SimWorkshop) -> None:
    async with sim.open() as vault:
        await save(vault, 2, 50 * KIB)
        pass_days(vault, 27)
        await vault.collector.run(now=True)
        assert len(body2_in_use(vault)) == 2
        pass_days(vault, 29)
        await vault.collector.run(now=True)
        assert not body2_in_use(vault)
        assert len(packs(sim)) == 1
        assert await read_file(vault, b"f1") == noise(1, 50 * KIB)


async def test_small_packs_become_one(sim: SimWorkshop) -> None:
    sim.options = OLD
    async with sim.open() as vault:
        await save(vault, 5, 1500 * KIB)
        assert len(packs(sim)) == 5
        done = await vault.collector.run(now=True)
        assert (done.repacked, done.deleted) == (5, 5)
        assert len(packs(sim)) == 1
        empty_cache(sim)
        for i, name in enumerate(names(5)):
            assert await read_file(vault, name) == noise(i, 1500 * KIB)
        assert (await vault.collector.run(now=True)).repacked == 0


async def test_a_damaged_record_of_a_segment_is_not_spread(sim: SimWorkshop) -> None:
    sim.options = OLD
    async with sim.open() as vault:
        await save(vault, 2, 50 * KIB)
        victim = body2_in_use(vault)[0]
        copy = sim.home.cached_packs_dir / f"{victim.id.hex()}.body2"
        data = bytearray(copy.read_bytes())
        data[1000] ^= 1
        copy.write_bytes(data)
        done = await vault.collector.run(now=True)
        assert list(done.left) == [vault.cache.segments.name(victim.id)]
        assert body2_in_use(vault) == [victim]
