"""Copies on this disk: they may vanish or rot at any time, and only copies do."""

import os
import random
from pathlib import Path

import pytest

from cryptfs.errors import Damaged, StoreGone
from cryptfs.vault.content import FileContent
from cryptfs.vault.vault import Vault, VaultOptions
from tests.vault.vault_faults import SimWorkshop, cached_packs, empty_cache, local_packs
from tests.vault.vault_workshop import read_file, write_file

pytestmark = pytest.mark.usefixtures("still")

MIB = 1 << 20


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def opened(vault: Vault, name: bytes) -> FileContent:
    entry = vault.replica.lookup(1, name)
    assert entry is not None
    return vault.open_file(entry.st)


@pytest.mark.parametrize("how", ["deleted", "cut", "emptied", "flipped", "replaced"])
@pytest.mark.parametrize("size", [3000, 2 * MIB])
async def test_a_copy_that_is_spoilt_while_its_file_is_open_is_fetched_again(
    sim: SimWorkshop, how: str, size: int
) -> None:
    async with sim.open() as vault:
        await write_file(vault, b"f", noise(size))
        await vault.sync()
    empty_cache(sim)
    async with sim.open() as vault:
        content = opened(vault, b"f")
        assert bytes(await content.read(0, 100)) == noise(size)[:100]
        vault.records._opened.clear()
        (path,) = cached_packs(sim)
        spoil(path, how)
        got = b"".join([bytes(await content.read(at, 10_000)) for at in range(0, size, 10_000)])
        assert got == noise(size)
        assert not vault.cache.damaged
        vault.release_file(content)


def spoil(path: Path, how: str) -> None:
    match how:
        case "deleted":
            path.unlink()
        case "cut":
            os.truncate(path, path.stat().st_size // 2)
        case "emptied":
            os.truncate(path, 0)
        case "flipped":
            with path.open("r+b") as stream:
                data = bytearray(stream.read())
                for at in range(100, len(data), 5000):
                    data[at] ^= 1
                stream.seek(0)
                stream.write(data)
        case "replaced":
            path.write_bytes(bytes(path.stat().st_size))


@pytest.mark.parametrize("how", ["cut", "emptied", "flipped", "replaced"])
async def test_a_copy_that_is_spoilt_while_nobody_looks_is_fetched_again(sim: SimWorkshop, how: str) -> None:
    async with sim.open() as vault:
        await write_file(vault, b"f", noise(2 * MIB))
        await vault.sync()
        await write_file(vault, b"g", noise(2000, 1))
        await vault.sync()
    for path in cached_packs(sim):
        spoil(path, how)
    async with sim.open() as vault:
        assert await read_file(vault, b"f") == noise(2 * MIB)
        assert await read_file(vault, b"g") == noise(2000, 1)


async def test_the_copies_used_longest_ago_go_first(sim: SimWorkshop) -> None:
    sim.options = VaultOptions(cache_bytes=7 * MIB)
    async with sim.open() as vault:
        for number in range(5):
            await write_file(vault, b"f%d" % number, noise(2 * MIB, number))
            await vault.sync()
        vault.records._opened.clear()
        for number in (4, 0, 2):
            await read_file(vault, b"f%d" % number)
        vault.cache.evict()
        assert vault.cache.used() <= 7 * MIB
        vault.records._opened.clear()
        sim.knobs.outage = lambda: StoreGone("away")
        for number in (0, 2):
            assert await read_file(vault, b"f%d" % number) == noise(2 * MIB, number)
        with pytest.raises(StoreGone):
            await read_file(vault, b"f1")
        sim.knobs.outage = None
        assert await read_file(vault, b"f1") == noise(2 * MIB, 1)


async def test_nothing_is_evicted_that_the_store_does_not_have(sim: SimWorkshop) -> None:
    sim.options = VaultOptions(cache_bytes=0)
    async with sim.open() as vault:
        await write_file(vault, b"f", noise(3 * MIB))
        await write_file(vault, b"small", b"travels in the segment")
        await vault.commit()
        vault.cache.evict()
        assert len(local_packs(sim)) == 1
        assert await read_file(vault, b"f") == noise(3 * MIB)
        send = vault.sealer._send

        async def evict_first(sealed: object) -> None:
            vault.cache.evict()
            vault.records._opened.clear()
            assert await read_file(vault, b"small2") == b"travels too"
            await send(sealed)  # type: ignore[arg-type]

        await vault.sync()
        await write_file(vault, b"small2", b"travels too")
        vault.sealer._send = evict_first  # type: ignore[method-assign, assignment]
        await vault.sync()
        vault.cache.evict()
        assert not cached_packs(sim)
        assert await read_file(vault, b"f") == noise(3 * MIB)
        assert await read_file(vault, b"small2") == b"travels too"


async def test_a_file_open_while_its_copy_is_evicted_reads_on(sim: SimWorkshop) -> None:
    sim.options = VaultOptions(cache_bytes=0)
    async with sim.open() as vault:
        await write_file(vault, b"f", noise(3 * MIB))
        await vault.sync()
        content = opened(vault, b"f")
        for at in range(0, 3 * MIB, 300_000):
            vault.cache.evict()
            vault.records._opened.clear()
            assert bytes(await content.read(at, 300_000)) == noise(3 * MIB)[at : at + 300_000]
        await content.write(5, b"and writes", 1)
        vault.release_file(content)
        await vault.sync()
        assert (await read_file(vault, b"f"))[:20] == noise(3 * MIB)[:5] + b"and writes" + noise(3 * MIB)[15:20]


async def test_memory_of_opened_chunks_is_bounded(sim: SimWorkshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cryptfs.vault.records._OPENED_MAX", MIB)
    async with sim.open() as vault:
        await write_file(vault, b"f", noise(4 * MIB))
        content = opened(vault, b"f")
        for at in range(0, 4 * MIB, 60_000):
            await content.read(at, 1000)
            assert sum(map(len, vault.records._opened.values())) <= MIB
            assert vault.records._opened_bytes == sum(map(len, vault.records._opened.values()))
        vault.release_file(content)


async def test_a_copy_that_came_damaged_is_not_taken_for_a_good_one_later(sim: SimWorkshop) -> None:
    async with sim.open() as vault:
        await write_file(vault, b"f", noise(3 * MIB))
        await vault.sync()
    empty_cache(sim)
    good = sim.world.snapshot()
    (key,) = sim.names("p")
    sim.world.plant(key, good[key][: MIB + 5] + bytes([good[key][MIB + 5] ^ 1]) + good[key][MIB + 6 :])
    for _ in range(2):
        async with sim.open() as vault:
            with pytest.raises(Damaged):
                await read_file(vault, b"f")
            content = opened(vault, b"f")
            assert bytes(await content.read(0, MIB - 70_000)) == noise(3 * MIB)[: MIB - 70_000]
            assert vault.cache.damaged == {key: "does not match its name"}
            vault.release_file(content)
    sim.world.restore(good)
    async with sim.open() as vault:
        assert await read_file(vault, b"f") == noise(3 * MIB)
