"""What is written comes back: at once, after a remount, from the journal alone, and from the store alone."""

import random
import shutil

import pytest
import trio

from tests.vault.vault_workshop import Workshop, make_file, read_file, remove_file, write_file

SIZES = [0, 1, 4096, 65535, 65536, 65537, 200_000, 1 << 20, 9 << 20]


def pattern(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


@pytest.mark.parametrize("size", SIZES)
async def test_what_was_written_is_read_at_once_and_after_sealing(workshop: Workshop, size: int) -> None:
    async with workshop.open() as vault:
        await write_file(vault, b"f", pattern(size))
        assert await read_file(vault, b"f") == pattern(size)
        await vault.sync()
        assert await read_file(vault, b"f") == pattern(size)


@pytest.mark.parametrize("size", SIZES)
async def test_another_machine_with_the_keys_reads_it_from_the_store_alone(workshop: Workshop, size: int) -> None:
    async with workshop.open() as vault:
        await write_file(vault, b"f", pattern(size))
        await vault.sync()
    shutil.rmtree(workshop.base / "home")
    async with workshop.open() as vault:
        assert await read_file(vault, b"f") == pattern(size)


async def test_a_remount_continues_the_log(workshop: Workshop) -> None:
    for turn in range(4):
        async with workshop.open() as vault:
            await write_file(vault, b"f%d" % turn, pattern(1000, turn))
            await vault.sync()
            assert vault.standing.log.next_seq == turn + 1
    async with workshop.open() as vault:
        for turn in range(4):
            assert await read_file(vault, b"f%d" % turn) == pattern(1000, turn)


async def test_many_files_and_overwrites_survive_in_any_state(workshop: Workshop) -> None:
    rng = random.Random(5)
    model: dict[bytes, bytearray] = {}
    for _ in range(6):
        async with workshop.open() as vault:
            for _ in range(60):
                name = b"n%d" % rng.randrange(25)
                kind = rng.random()
                if kind < 0.15 and name in model:
                    remove_file(vault, name)
                    del model[name]
                elif kind < 0.3 and name in model:
                    entry = vault.replica.lookup(1, name)
                    assert entry is not None
                    content = vault.open_file(entry.st)
                    size = rng.randrange(300_000)
                    await content.truncate(size, 5)
                    vault.release_file(content)
                    model[name] = model[name][:size] + bytearray(max(0, size - len(model[name])))
                else:
                    offset = rng.randrange(200_000) if name in model else 0
                    data = rng.randbytes(rng.choice([10, 5000, 65536, 150_000]))
                    await write_file(vault, name, data, offset)
                    old = model.setdefault(name, bytearray())
                    old.extend(bytes(max(0, offset + len(data) - len(old))))
                    old[offset : offset + len(data)] = data
                if rng.random() < 0.05:
                    await vault.sync()
            for name, data in model.items():
                assert await read_file(vault, name) == data, name
    shutil.rmtree(workshop.base / "home")
    async with workshop.open() as vault:
        for name, data in model.items():
            assert await read_file(vault, name) == data, name


async def test_a_file_made_and_removed_before_it_is_sealed_costs_nothing_in_the_store(workshop: Workshop) -> None:
    async with workshop.open() as vault:
        make_file(vault, b"kept")
        await vault.sync()
        before = {p.name for p in (workshop.base / "store").rglob("*")}
        await write_file(vault, b"temporary", pattern(100_000))
        remove_file(vault, b"temporary")
        await vault.sync()
        after = [p for p in (workshop.base / "store").rglob("*") if p.name not in before]
        assert sum(p.stat().st_size for p in after if p.is_file()) < 2000


async def test_commit_makes_it_survive_the_death_of_the_process(workshop: Workshop) -> None:
    async def die_after_a_commit() -> None:
        async with workshop.open() as vault:
            await write_file(vault, b"f", pattern(300_000))
            await vault.commit()
            vault.shut_down = trio.lowlevel.checkpoint  # type: ignore[method-assign]
            raise ZeroDivisionError

    with pytest.raises((ZeroDivisionError, ExceptionGroup)):
        await die_after_a_commit()
    async with workshop.open() as vault:
        assert await read_file(vault, b"f") == pattern(300_000)
