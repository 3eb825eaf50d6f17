"""fsync puts down the bytes that changed; after a crash they are written again, in order with everything else."""

import random
from pathlib import Path

import pytest
import trio

from cryptfs.group.authority import Tier
from cryptfs.vault.journal import Wrote
from cryptfs.vault.vault import Vault
from tests.vault.administration_world import Device, World
from tests.vault.vault_workshop import Workshop, make_file, read_file, remove_file, write_file


async def crash(workshop: Workshop | Device, work: object) -> None:
    """Run `work(vault)` and end without the orderly end, as after SIGKILL."""

    async def run() -> None:
        async with workshop.open() as vault:
            await work(vault)  # type: ignore[operator]
            vault.shut_down = trio.lowlevel.checkpoint  # type: ignore[method-assign]
            raise ZeroDivisionError

    with pytest.raises((ZeroDivisionError, ExceptionGroup)):
        await run()


async def test_small_writes_made_durable_survive_without_being_handed_over(workshop: Workshop) -> None:
    async def work(vault: Vault) -> None:
        content = vault.open_file(make_file(vault, b"f"))
        for turn in range(5):
            await content.write(turn * 40_000, b"line %d" % turn, turn + 1)
            content.persist()
            await vault.commit()
        assert content.dirty
        assert not vault.records.local

    await crash(workshop, work)
    async with workshop.open() as vault:
        data = await read_file(vault, b"f")
        assert len(data) == 160_006
        assert [data[turn * 40_000 :][:6] for turn in range(5)] == [b"line %d" % turn for turn in range(5)]


async def test_a_later_hand_over_takes_the_logged_writes_in(workshop: Workshop) -> None:
    async def work(vault: Vault) -> None:
        content = vault.open_file(make_file(vault, b"f"))
        await content.write(0, b"old old old", 1)
        content.persist()
        await vault.commit()
        await content.truncate(0, 2)
        await content.write(0, b"new", 3)
        content.hand_over_now()
        await vault.commit()

    await crash(workshop, work)
    async with workshop.open() as vault:
        assert await read_file(vault, b"f") == b"new"


async def test_writes_logged_after_a_hand_over_go_on_top_of_it(workshop: Workshop) -> None:
    async def work(vault: Vault) -> None:
        st = await write_file(vault, b"f", b"a" * 100_000)
        await vault.sync()
        content = vault.open_file(st)
        await content.write(10, b"bb", 5)
        content.hand_over_now()
        await content.write(11, b"cc", 6)
        content.persist()
        await vault.commit()

    await crash(workshop, work)
    async with workshop.open() as vault:
        data = await read_file(vault, b"f")
        assert data[8:16] == b"aabccaaa"
        assert len(data) == 100_000


async def test_writes_to_a_file_that_was_removed_are_forgotten(workshop: Workshop) -> None:
    async def work(vault: Vault) -> None:
        content = vault.open_file(make_file(vault, b"f"))
        await content.write(0, b"x", 1)
        content.persist()
        remove_file(vault, b"f")
        await vault.commit()

    await crash(workshop, work)
    async with workshop.open() as vault:
        assert vault.replica.lookup(1, b"f") is None


@pytest.mark.usefixtures("still")
async def test_writes_to_a_removed_file_stay_forgotten_when_others_bring_it_back(tmp_path: Path) -> None:
    """Found by the simulation of whole vaults, seed 10348 with 100 turns."""
    world = World(tmp_path)
    bob = await world.admit("Bob", Tier.WRITER)
    async with world.anna.open() as anna:
        await write_file(anna, b"f", b"first")
        await anna.sync()

        async def work(here: Vault) -> None:
            await here.exchange.pull()
            entry = here.replica.lookup(1, b"f")
            assert entry is not None
            content = here.open_file(entry.st)
            await content.write(0, b"written before it was removed", 1)
            content.persist()
            await here.commit()
            remove_file(here, b"f")
            content.detached = True  # as the mount says
            here.release_file(content)
            await here.commit()
            await write_file(anna, b"f", b"by Anna")
            await anna.sync()
            await here.exchange.pull()
            assert await read_file(here, b"f") == b"by Anna", "an edit wins over a removal that had not seen it"

        await crash(bob, work)
    async with bob.open() as here:
        assert [name for name, _, _ in here.replica.entries(1)] == [b"f"]
        assert await read_file(here, b"f") == b"by Anna"


async def test_a_new_generation_of_the_journal_keeps_logged_writes_as_a_hand_over(workshop: Workshop) -> None:
    async def work(vault: Vault) -> None:
        content = vault.open_file(make_file(vault, b"f"))
        await content.write(0, b"kept", 1)
        content.persist()
        await vault.commit()
        await vault.journal.compact()
        assert not any(isinstance(entry, Wrote) for entry in vault.snapshot())

    await crash(workshop, work)
    async with workshop.open() as vault:
        assert await read_file(vault, b"f") == b"kept"


@pytest.mark.parametrize("seed", range(8))
async def test_random_writes_cuts_and_crashes_keep_what_was_made_durable(workshop: Workshop, seed: int) -> None:
    rng = random.Random(seed)
    durable = b""

    async def work(vault: Vault) -> None:
        nonlocal durable
        entry = vault.replica.lookup(1, b"f")
        content = vault.open_file(entry.st if entry is not None else make_file(vault, b"f"))
        model = bytearray(durable)
        for turn in range(30):
            kind = rng.random()
            if kind < 0.1:
                size = rng.randrange(200_000)
                await content.truncate(size, turn + 1)
                model[size:] = bytes(max(0, size - len(model)))
            else:
                offset, data = rng.randrange(150_000), rng.randbytes(rng.choice([3, 4096, 70_000]))
                await content.write(offset, data, turn + 1)
                model.extend(bytes(max(0, offset + len(data) - len(model))))
                model[offset : offset + len(data)] = data
            if kind > 0.6:
                content.persist()
                await vault.commit()
                durable = bytes(model)
            elif kind > 0.55:
                await vault.sync()
                durable = bytes(model)

    for _ in range(4):
        await crash(workshop, work)
        async with workshop.open() as vault:
            found = await read_file(vault, b"f")
        # A write after the last fsync may be there in part of its chunks only if it was sealed and committed by itself.
        assert found == durable or len(durable) == 0
        durable = found
