"""Space of what is deleted or overwritten comes back; what is in use, open, unsent or kept stays."""

import random
from pathlib import Path

import pytest
import trio

from cryptfs.group.authority import Tier
from cryptfs.store import Call
from cryptfs.vault.administration import remove
from cryptfs.vault.people import choose
from cryptfs.vault.vault import VaultOptions
from tests.vault.administration_world import World
from tests.vault.vault_faults import SimWorkshop, empty_cache, forget_everything, sim, state_of, still
from tests.vault.vault_workshop import read_file, remove_file, write_file

__all__ = ["sim", "still"]

pytestmark = pytest.mark.usefixtures("still")

MIB = 1 << 20


def noise(seed: int, length: int) -> bytes:
    return random.Random(seed).randbytes(length)


def packs(workshop: SimWorkshop) -> list[str]:
    return workshop.names("p/")


def stored(workshop: SimWorkshop) -> int:
    return sum(stat.size for stat in workshop.world.list("p/", Call()))


async def test_what_is_deleted_and_let_go_by_history_frees_its_packs(sim: SimWorkshop) -> None:
    async with sim.open() as vault:
        await write_file(vault, b"kept", noise(1, 3 * MIB))
        await vault.sync()
        await write_file(vault, b"gone", noise(2, 3 * MIB))
        await vault.sync()
        assert len(packs(sim)) == 2
        remove_file(vault, b"gone")
        await vault.sync()

        done = await vault.collector.run(now=True)
        assert (done.retired, done.deleted, done.expired) == (0, 0, -1)  # the trash still has it

        done = await vault.collector.run(now=True, history=True)
        assert (done.retired, done.deleted) == (1, 1)
        assert done.finished
        assert len(packs(sim)) == 1
        assert await read_file(vault, b"kept") == noise(1, 3 * MIB)
        empty_cache(sim)
    forget_everything(sim)
    async with sim.open() as vault:
        assert await read_file(vault, b"kept") == noise(1, 3 * MIB)
        assert vault.replica.lookup(1, b"gone") is None


async def test_an_overwritten_version_is_kept_for_the_retention_and_then_goes(sim: SimWorkshop) -> None:
    async with sim.open() as vault:
        await write_file(vault, b"f", noise(1, 2 * MIB))
        await vault.sync()
        await write_file(vault, b"f", noise(2, 2 * MIB))
        await vault.sync()
        assert (await vault.collector.run(now=True)).retired == 0
        assert len(packs(sim)) == 2
    sim.options = VaultOptions(history_s=-3600)  # as if an hour had passed since the last segment
    async with sim.open() as vault:
        done = await vault.collector.run(now=True)
        assert done.expired >= 0
        assert done.deleted == 1
        assert await read_file(vault, b"f") == noise(2, 2 * MIB)
        again = await vault.collector.run(now=True)
        assert (again.expired, again.retired, again.deleted) == (-1, 0, 0)  # nothing is said twice


async def test_nothing_is_deleted_before_the_comfort_delay_unless_told(sim: SimWorkshop) -> None:
    async with sim.open() as vault:
        await write_file(vault, b"gone", noise(2, 2 * MIB))
        await vault.sync()
        remove_file(vault, b"gone")
        await vault.sync()
        done = await vault.collector.run(history=True)
        assert (done.retired, done.deleted, done.remaining) == (1, 0, 1)
        assert done.comfort_ms > 0
        assert not done.waiting
        assert len(packs(sim)) == 1
        assert (await vault.collector.run()).deleted == 0
        assert (await vault.collector.run(now=True)).deleted == 1
    assert packs(sim) == []


async def test_a_sparse_pack_is_copied_out_and_everything_reads_as_before(sim: SimWorkshop) -> None:
    bodies = {b"f%d" % i: noise(i, 300_000) for i in range(10)}
    async with sim.open() as vault:
        for name, data in bodies.items():
            await write_file(vault, name, data)
        await vault.sync()
        assert len(packs(sim)) == 1
        before = stored(sim)
        for i in range(8):
            remove_file(vault, b"f%d" % i)
        await vault.sync()
        done = await vault.collector.run(now=True, history=True)
        assert (done.repacked, done.retired, done.deleted) == (1, 1, 1)
        assert stored(sim) < before / 3
        for name in (b"f8", b"f9"):
            assert await read_file(vault, name) == bodies[name]
        # A change of a part of a file whose other parts were moved names them where they are now.
        await write_file(vault, b"f8", b"new", offset=100_000)
        await vault.sync()
        state = state_of(vault)
    forget_everything(sim)
    expected = bytearray(bodies[b"f8"])
    expected[100_000:100_003] = b"new"
    async with sim.open() as vault:
        assert state_of(vault) == state
        assert await read_file(vault, b"f8") == bytes(expected)
        assert await read_file(vault, b"f9") == bodies[b"f9"]
        assert (await vault.collector.run(now=True)).retired == 0


async def test_a_file_that_is_open_keeps_what_it_reads(sim: SimWorkshop) -> None:
    async with sim.open() as vault:
        st = await write_file(vault, b"gone", noise(2, 2 * MIB))
        await vault.sync()
        content = vault.open_file(st)
        await content.read(0, 10)
        remove_file(vault, b"gone")
        await vault.sync()
        assert (await vault.collector.run(now=True, history=True)).retired == 0
        assert bytes(await content.read(MIB, 100)) == noise(2, 2 * MIB)[MIB : MIB + 100]
        vault.release_file(content)
        assert (await vault.collector.run(now=True)).deleted == 1


async def test_a_large_file_with_a_manifest_frees_its_packs_and_keeps_those_in_use(sim: SimWorkshop) -> None:
    body = noise(3, 12 * MIB)  # 192 chunks: a manifest
    async with sim.open() as vault:
        await write_file(vault, b"big", body)
        await write_file(vault, b"old", noise(4, 12 * MIB))
        await vault.sync()
        await write_file(vault, b"big", b"x" * 70_000, offset=5 * MIB)
        remove_file(vault, b"old")
        await vault.sync()
        before = stored(sim)
        done = await vault.collector.run(now=True, history=True)
        assert done.deleted >= 1
        assert stored(sim) < before - 11 * MIB
    forget_everything(sim)
    expected = bytearray(body)
    expected[5 * MIB : 5 * MIB + 70_000] = b"x" * 70_000
    async with sim.open() as vault:
        assert await read_file(vault, b"big") == bytes(expected)


async def test_packs_of_files_that_never_were_sealed_are_named_and_collected(sim: SimWorkshop) -> None:
    async with sim.open() as vault:
        st = await write_file(vault, b"brief", noise(5, 3 * MIB))
        await vault.packer.confirm(vault.records.filling or next(iter(vault.records.local.values())))
        assert len(packs(sim)) == 1
        remove_file(vault, b"brief")
        vault.files.pop(st, None)
        await vault.sync()
        assert (await vault.collector.run(now=True)).deleted == 1
    assert packs(sim) == []


async def test_a_read_only_vault_deletes_nothing(sim: SimWorkshop) -> None:
    async with sim.open() as vault:
        await write_file(vault, b"gone", noise(2, 2 * MIB))
        await vault.sync()
        remove_file(vault, b"gone")
        await vault.sync()
        await vault.collector.run(history=True)
    sim.options = VaultOptions(read_only=True)
    async with sim.open() as vault:
        done = await vault.collector.run(now=True, history=True)
        assert done.held_back
    assert len(packs(sim)) == 1


async def test_what_late_work_refers_to_is_kept_for_the_retention(tmp_path: Path) -> None:
    """Bob's change came after his removal was decided; whoever accepts it shall find all of the file."""
    world = World(tmp_path)
    bob_device = await world.admit("Bob", Tier.WRITER)
    async with world.anna.open() as anna:
        await write_file(anna, b"f", noise(1, 3 * MIB))
        await anna.sync()
        async with bob_device.open() as bob:
            await bob.acknowledging.now()
            await anna.exchange.pull()
            chosen = choose(anna.membership, "Bob")
            await remove(anna, [one.id for one in chosen.entries], [chosen.member])

            async def see_nothing() -> bool:
                await trio.lowlevel.checkpoint()
                return False

            bob.exchange.pull = see_nothing  # type: ignore[method-assign]
            await write_file(bob, b"f", b"late", offset=MIB)
            await bob.sealer.seal()
        await write_file(anna, b"f", noise(2, 3 * MIB))
        await anna.sync()
        assert anna.reader.late
        assert (await anna.collector.run(now=True, history=True)).retired == 0
        anna.options = VaultOptions(history_s=-3600)
        assert (await anna.collector.run(now=True)).deleted == 1


async def test_a_pack_with_a_damaged_record_is_left_alone(sim: SimWorkshop) -> None:
    async with sim.open() as vault:
        for i in range(10):
            await write_file(vault, b"f%d" % i, noise(i, 300_000))
        await vault.sync()
        for i in range(9):
            remove_file(vault, b"f%d" % i)
        await vault.sync()
        (pack,) = packs(sim)
        broken = bytearray(sim.world.get(pack, Call()))
        broken[9 * 300_000 + 50_000] ^= 1
        sim.world.plant(pack, bytes(broken))
        empty_cache(sim)
        vault.cache._known.clear()
        done = await vault.collector.run(now=True, history=True)
        assert (done.retired, done.deleted) == (0, 0)
        assert list(done.left) == [pack]
    assert packs(sim) == [pack]
