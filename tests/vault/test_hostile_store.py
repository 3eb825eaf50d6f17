"""A store that lost, changed or exchanged objects: errors for the files concerned, never other bytes, and it heals."""

import contextlib
import random
import shutil
from pathlib import Path

import pytest

from cryptfs.errors import ConfigError, CryptfsError, HostileStore
from cryptfs.vault.records import locate
from cryptfs.vault.vault import Vault
from tests.vault.vault_faults import SimWorkshop, empty_cache, forget_everything, sim_workshop, state_of
from tests.vault.vault_workshop import read_file, write_file

pytestmark = pytest.mark.usefixtures("still")

MIB = 1 << 20
SIZES = [0, 10, 5000, 65_536, 70_000, 400_000, 3 * MIB, 12 * MIB]

Files = dict[bytes, bytes]


async def filled(sim: SimWorkshop) -> Files:
    """A vault with files of many sizes in packs and segments; nothing of their contents is on this device."""
    rng = random.Random(4)
    files: Files = {}
    async with sim.open() as vault:
        for number, size in enumerate(SIZES * 2):
            name = b"f%d-%d" % (number, size)
            files[name] = rng.randbytes(size)
            await write_file(vault, name, files[name])
            if number % 3 == 0:
                await vault.sync()
        await vault.sync()
    empty_cache(sim)
    return files


async def unreadable(vault: Vault, files: Files) -> set[bytes]:
    """Names of files that give an error of ours; all others must have their bytes."""
    bad = set()
    for name, data in files.items():
        try:
            assert await read_file(vault, name) == data, name
        except HostileStore:
            bad.add(name)
    return bad


async def users_of(vault: Vault, files: Files) -> dict[str, set[bytes]]:
    """Which files have records or manifests in which pack."""
    users: dict[str, set[bytes]] = {}
    for name in files:
        entry = vault.replica.lookup(1, name)
        assert entry is not None
        content = vault.open_file(entry.st)
        await content.load_all()
        for index in content.present_chunks():
            ref = content.map.get(index)
            assert ref is not None
            users.setdefault(locate(ref)[0].id.hex(), set()).add(name)
        vault.release_file(content)
    return users


def wrong(how: str, data: bytes, other: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data))
    match how:
        case "flip":
            return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
        case "short":
            return data[:at]
        case "zeros":
            return bytes(len(data))
        case "longer":
            return data + b"x" * 1000
        case "empty":
            return b""
        case _:
            return other


@pytest.mark.parametrize("how", ["flip", "short", "zeros", "empty", "longer", "swapped", "gone"])
async def test_a_spoilt_pack_spoils_only_files_that_have_something_in_it_and_heals(sim: SimWorkshop, how: str) -> None:
    files = await filled(sim)
    good = sim.world.snapshot()
    packs = sim.names("p")
    rng = random.Random(how)
    async with sim.open() as vault:
        users = await users_of(vault, files)
    for key in packs:
        empty_cache(sim)
        sim.world.restore(good)
        if how == "gone":
            sim.world.lose(key)
        else:
            other = good[rng.choice([pack for pack in packs if pack != key])]
            sim.world.plant(key, wrong(how, good[key], other, rng))
        async with sim.open() as vault:
            bad = await unreadable(vault, files)
            concerned = users.get(key.rpartition("/")[2])
            if concerned is not None:  # else a pack of manifests: it concerns one file or two
                assert bad <= concerned
            if how in ("zeros", "empty", "gone"):
                assert bad
            if how in ("flip", "longer"):
                assert len(bad) <= 1
            if bad:
                assert key in vault.cache.damaged
            await write_file(vault, b"new", b"work goes on")
            await vault.sync()
            sim.world.restore({**sim.world.snapshot(), key: good[key]})
            assert not await unreadable(vault, files)


@pytest.mark.parametrize("how", ["flip", "short", "empty", "swapped", "gone"])
async def test_a_spoilt_segment_spoils_only_what_travelled_in_it(sim: SimWorkshop, how: str) -> None:
    files = await filled(sim)
    good = sim.world.snapshot()
    segments = sim.names("l")
    rng = random.Random(how)
    for key in segments:
        empty_cache(sim)
        sim.world.restore(good)
        if how == "gone":
            sim.world.lose(key)
        else:
            other = good[rng.choice([one for one in segments if one != key])]
            sim.world.plant(key, wrong(how, good[key], other, rng))
        async with sim.open() as vault:
            assert len(await unreadable(vault, files)) <= 6  # small files, and a large one whose root is in it
        sim.world.restore(good)
        async with sim.open() as vault:
            assert not await unreadable(vault, files)


@pytest.mark.parametrize("how", ["flip", "short", "empty", "swapped", "gone"])
async def test_a_rebuild_from_spoilt_segments_shows_nothing_that_never_was(sim: SimWorkshop, how: str) -> None:
    files = await filled(sim)
    good = sim.world.snapshot()
    segments = sim.names("l")
    rng = random.Random(how)
    for key in segments:
        sim.world.restore(good)
        if how == "gone":
            sim.world.lose(key)
        else:
            other = good[rng.choice([one for one in segments if one != key])]
            sim.world.plant(key, wrong(how, good[key], other, rng))
        forget_everything(sim)
        async with sim.open() as vault:
            there = {name for name, _, _ in vault.replica.entries(1)}
            assert there <= files.keys()
            for name in there:
                with contextlib.suppress(HostileStore):
                    assert await read_file(vault, name) in (files[name], b"")
        sim.world.restore(good)
    forget_everything(sim)
    async with sim.open() as vault:
        assert not await unreadable(vault, files)


async def test_answers_damaged_on_their_way_are_asked_for_again(sim: SimWorkshop) -> None:
    files = await filled(sim)
    forget_everything(sim)
    async with sim.open() as vault:
        sim.knobs.damage = 0.15
        for _ in range(5):
            await unreadable(vault, files)
            for container in vault.cache._known.values():
                container.drop_file()
            vault.records._opened.clear()
        sim.knobs.rest()
        assert not await unreadable(vault, files)


# ---- other vaults and other times -----------------------------------------------------------------------------------


async def test_the_store_of_another_vault_is_refused(sim: SimWorkshop, tmp_path: Path) -> None:
    async with sim.open() as vault:
        await write_file(vault, b"f", b"mine")
        await vault.sync()
    other = sim_workshop(tmp_path / "other")
    mine = sim.world.snapshot()
    sim.world.restore(other.world.snapshot())
    for _ in range(2):
        with pytest.raises(ConfigError, match="another vault"):
            async with sim.open():
                pass
        shutil.rmtree(sim.home.cache_dir, ignore_errors=True)
    sim.world.restore(mine)
    async with sim.open() as vault:
        assert await read_file(vault, b"f") == b"mine"


async def test_an_empty_folder_is_refused(sim: SimWorkshop) -> None:
    async with sim.open() as vault:
        await write_file(vault, b"f", b"mine")
        await vault.sync()
    sim.world.restore({})
    with pytest.raises(ConfigError, match="no vault"):
        async with sim.open():
            pass


async def test_objects_of_another_vault_among_ours_change_nothing(sim: SimWorkshop, tmp_path: Path) -> None:
    other = sim_workshop(tmp_path / "other")
    async with other.open() as vault:
        await write_file(vault, b"theirs", bytes(2 * MIB))
        await vault.sync()
    files = await filled(sim)
    for key, data in other.world.snapshot().items():
        if key not in sim.world.snapshot():
            sim.world.plant(key, data)
    forget_everything(sim)
    async with sim.open() as vault:
        assert {name for name, _, _ in vault.replica.entries(1)} == files.keys()
        assert not await unreadable(vault, files)


async def test_an_older_state_of_the_folder_is_refused_when_the_cache_is_rebuilt(sim: SimWorkshop) -> None:
    async with sim.open() as vault:
        await write_file(vault, b"f", b"1")
        await vault.sync()
    old = sim.world.snapshot()
    async with sim.open() as vault:
        await write_file(vault, b"f", b"2")
        await vault.sync()
        here = state_of(vault)
    new = sim.world.snapshot()
    sim.world.restore(old)
    shutil.rmtree(sim.home.cache_dir)
    for _ in range(2):
        with pytest.raises(HostileStore, match="lacks changes"):
            async with sim.open():
                pass
    assert sim.world.snapshot() == old
    sim.world.restore(new)
    async with sim.open() as vault:
        assert state_of(vault) == here


@pytest.mark.parametrize("seed", range(10))
async def test_noise_in_any_object_is_never_more_than_an_error_of_ours(sim: SimWorkshop, seed: int) -> None:
    rng = random.Random(seed)
    files = await filled(sim)
    forget_everything(sim)
    world = sim.world.snapshot()
    for key in world:
        if rng.random() < 0.2:
            sim.world.plant(key, wrong(rng.choice(["flip", "short", "empty", "zeros"]), world[key], b"", rng))
    with contextlib.suppress(CryptfsError):
        async with sim.open() as vault:
            present = {name: files[name] for name, _, _ in vault.replica.entries(1)}
            for name, data in present.items():
                with contextlib.suppress(HostileStore):
                    assert await read_file(vault, name) in (data, b"")
