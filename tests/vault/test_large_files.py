"""Files with manifests: small changes are patches, larger ones new pages, and holes stay holes."""

import random
import shutil

import pytest

from cryptfs.errors import FsError
from cryptfs.format.codec import decode
from cryptfs.format.content import Content, Paged
from tests.vault.vault_workshop import Workshop, make_file, read_file, write_file

MIB = 1 << 20


async def apply_randomly(workshop: Workshop, rng: random.Random, model: bytearray, rounds: int, reach: int) -> None:
    async with workshop.open() as vault:
        for _ in range(rounds):
            entry = vault.replica.lookup(1, b"big")
            assert entry is not None
            content = vault.open_file(entry.st)
            if rng.random() < 0.12:
                size = rng.randrange(reach)
                await content.truncate(size, 5)
                del model[size:]
                model.extend(bytes(size - len(model)))
            else:
                offset = rng.randrange(max(1, min(len(model) + MIB, reach)))
                data = rng.randbytes(rng.choice([1, 100, 65536, 300_000, 2 * MIB]))
                await content.write(offset, data, 5)
                model.extend(bytes(max(0, offset + len(data) - len(model))))
                model[offset : offset + len(data)] = data
            vault.release_file(content)
            if rng.random() < 0.4:
                await vault.sync()
        assert await read_file(vault, b"big") == model
        await vault.sync()
        assert await read_file(vault, b"big") == model


@pytest.mark.parametrize("seed", range(6))
async def test_random_changes_of_a_large_file_read_back_here_and_from_the_store_alone(
    workshop: Workshop, seed: int
) -> None:
    rng = random.Random(seed)
    model = bytearray(rng.randbytes(rng.choice([3, 12, 24]) * MIB))
    async with workshop.open() as vault:
        await write_file(vault, b"big", bytes(model))
        await vault.sync()
    for _ in range(2):
        await apply_randomly(workshop, rng, model, 10, 30 * MIB)
        if rng.random() < 0.5:
            shutil.rmtree(workshop.base / "home" / "cache")
    shutil.rmtree(workshop.base / "home")
    async with workshop.open() as vault:
        assert await read_file(vault, b"big") == model


async def sealed(vault: object, name: bytes) -> Content:
    entry = vault.replica.lookup(1, name)  # type: ignore[attr-defined]
    return decode(Content, vault.replica.content_of(entry.st), 1 << 20)  # type: ignore[attr-defined]


async def test_a_small_change_of_a_large_file_is_a_patch_and_travels_in_the_segment(workshop: Workshop) -> None:
    async with workshop.open() as vault:
        await write_file(vault, b"big", random.Random(1).randbytes(20 * MIB))
        await vault.sync()
        packs = set((workshop.base / "store" / "p").iterdir())
        first = await sealed(vault, b"big")
        await write_file(vault, b"big", b"x" * 100, offset=7 * MIB)
        await vault.sync()
        second = await sealed(vault, b"big")
        assert isinstance(first.body, Paged)
        assert isinstance(second.body, Paged)
        assert second.body.root == first.body.root
        assert len(second.body.patches) == 1
        assert set((workshop.base / "store" / "p").iterdir()) == packs


async def test_many_small_changes_fold_into_new_pages(workshop: Workshop) -> None:
    data = bytearray(random.Random(2).randbytes(20 * MIB))
    async with workshop.open() as vault:
        await write_file(vault, b"big", bytes(data))
        for turn in range(70):
            offset = turn * 270_000
            data[offset : offset + 10] = b"0123456789"
            await write_file(vault, b"big", b"0123456789", offset=offset)
            await vault.sync()
        assert await read_file(vault, b"big") == data
    shutil.rmtree(workshop.base / "home")
    async with workshop.open() as vault:
        assert await read_file(vault, b"big") == data


async def test_eight_terabytes_of_nothing_cost_nothing(workshop: Workshop) -> None:
    async with workshop.open() as vault:
        st = make_file(vault, b"sparse")
        content = vault.open_file(st)
        await content.truncate(8 << 40, 1)
        await content.write(5 << 40, b"in the middle", 2)
        vault.release_file(content)
        await vault.sync()
    shutil.rmtree(workshop.base / "home")
    async with workshop.open() as vault:
        entry = vault.replica.lookup(1, b"sparse")
        assert entry is not None
        content = vault.open_file(entry.st)
        assert content.size == 8 << 40
        assert bytes(await content.read(5 << 40, 13)) == b"in the middle"
        assert bytes(await content.read((5 << 40) - 5, 5)) == bytes(5)
        assert bytes(await content.read((8 << 40) - 100, 200)) == bytes(100)
        assert content.allocated() <= 8 * MIB
        vault.release_file(content)
    assert sum(p.stat().st_size for p in (workshop.base / "store").rglob("*") if p.is_file()) < 6 * MIB


async def test_beyond_sixteen_terabytes_is_too_big_at_once(workshop: Workshop) -> None:
    async with workshop.open() as vault:
        content = vault.open_file(make_file(vault, b"f"))
        with pytest.raises(FsError, match="EFBIG"):
            await content.truncate((16 << 40) + 1, 1)
        with pytest.raises(FsError, match="EFBIG"):
            await content.write(16 << 40, b"x", 1)
        assert content.size == 0
        vault.release_file(content)


async def test_shrinking_and_growing_brings_no_old_bytes_back(workshop: Workshop) -> None:
    async with workshop.open() as vault:
        st = await write_file(vault, b"f", b"secret" * 50_000)
        for between in (False, True):
            content = vault.open_file(st)
            await content.truncate(70_000, 1)
            if between:
                content.hand_over_now()
                await vault.sync()
            await content.truncate(300_000, 2)
            vault.release_file(content)
            assert (await read_file(vault, b"f"))[70_000:] == bytes(230_000)
            await vault.sync()
            assert (await read_file(vault, b"f"))[70_000:] == bytes(230_000)
