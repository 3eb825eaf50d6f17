"""What is pinned is here when the store is not: whatever was renamed, changed, evicted or started anew meanwhile."""

import random
import threading
from collections.abc import Callable
from typing import Any

import pytest
import trio

from cryptfs.errors import LocalDiskFull, NotKept, StoreGone, UsageError
from cryptfs.format.names import pack_name
from cryptfs.format.operation import KIND_DIR, Create, Rename, provisional_ino
from cryptfs.store import Call
from cryptfs.vault import keeping, pinned
from cryptfs.vault.disk import Space
from cryptfs.vault.pin_acts import change_pins
from cryptfs.vault.vault import Vault, VaultOptions
from tests.patience import until_async
from tests.vault.vault_faults import SimWorkshop, cached_packs, empty_cache
from tests.vault.vault_workshop import make_file, read_file, remove_file, write_file

pytestmark = pytest.mark.usefixtures("still")

MIB = 1 << 20


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


async def silence(_: dict[str, object]) -> None:
    await trio.lowlevel.checkpoint()


async def pin(vault: Vault, *paths: str, wait: bool = True) -> dict[str, Any]:
    return await change_pins(vault, "add", {"paths": list(paths), "wait": wait}, silence)


async def unpin(vault: Vault, *paths: str) -> dict[str, Any]:
    return await change_pins(vault, "remove", {"paths": list(paths)}, silence)


def make_folder(vault: Vault, name: bytes) -> bytes:
    k = vault.submit(Create(vault.replica.ino_of(1), name, KIND_DIR, 0o755, 1000, 1000, 0, 1, b"", None))
    return provisional_ino(k)


async def fill(vault: Vault, folder: bytes, name: bytes, data: bytes) -> None:
    """A new file in the folder of that inode."""
    content = vault.open_file(make_file(vault, name, folder))
    await content.write(0, data, 1_000)
    vault.release_file(content)


async def read_path(vault: Vault, path: bytes) -> bytes:
    st = vault.replica.find(path)
    assert st is not None
    content = vault.open_file(st)
    data = b"".join([bytes(await content.read(at, MIB)) for at in range(0, content.size, MIB)])
    vault.release_file(content)
    return data


def move(vault: Vault, old: bytes, new: bytes) -> None:
    replica = vault.replica
    entry = replica.lookup(1, old)
    assert entry is not None
    vault.submit(Rename(replica.ino_of(entry.st), replica.extern_ver(entry.lver), replica.ino_of(1), new, None, 0))


FILES = {b"small%02d" % number: noise(60_000 + number, number) for number in range(40)} | {b"big": noise(10 * MIB)}


async def stored(sim: SimWorkshop) -> None:
    """A folder `docs` with those files, and a file `other` beside it; all of it in the store alone."""
    async with sim.open() as vault:
        folder = make_folder(vault, b"docs")
        for name, data in FILES.items():
            await fill(vault, folder, name, data)
        await vault.sync()  # so that the other file lies in a pack of its own
        await write_file(vault, b"other", noise(3 * MIB, 99))
        await vault.sync()
    empty_cache(sim)
    sim.options = VaultOptions(cache_bytes=0)


async def test_a_pinned_folder_can_be_read_without_the_store_and_takes_nothing_of_the_limit(sim: SimWorkshop) -> None:
    await stored(sim)
    async with sim.open() as vault:
        (row,) = (await pin(vault, "docs"))["pins"]
        assert (row["path"], row["kind"], row["files"]) == ("/docs", "folder", 41)
        assert row["bytes_here"] == row["bytes"] > 12 * MIB
        assert vault.keeper.state == "all here"
        await read_file(vault, b"other")
        vault.records._opened.clear()
        vault.cache.evict()
        sim.knobs.outage = lambda: StoreGone("away")
        for name, data in FILES.items():
            assert await read_path(vault, b"docs/" + name) == data
        with pytest.raises(StoreGone):
            await read_file(vault, b"other")


async def test_pins_are_there_after_a_start_without_the_store(sim: SimWorkshop) -> None:
    await stored(sim)
    async with sim.open() as vault:
        await pin(vault, "docs")
    sim.knobs.outage = lambda: StoreGone("away")
    async with sim.open() as vault:
        vault.cache.evict()  # before anybody has looked what is needed
        (row,) = (await change_pins(vault, "list", {}, silence))["pins"]
        assert row["bytes_here"] == row["bytes"]
        vault.cache.evict()
        for name, data in FILES.items():
            assert await read_path(vault, b"docs/" + name) == data


async def test_a_pin_outlives_the_cache_and_a_new_name(sim: SimWorkshop) -> None:
    await stored(sim)
    async with sim.open() as vault:
        await pin(vault, "docs")
        move(vault, b"docs", b"papers")
        await vault.sync()
    empty_cache(sim)
    async with sim.open() as vault:
        await vault.keeper.look()
        assert vault.keeper.state == "being fetched"
        await vault.keeper.bring()
        (row,) = (await change_pins(vault, "list", {}, silence))["pins"]
        assert (row["path"], row["bytes_here"]) == ("/papers", row["bytes"])
        sim.knobs.outage = lambda: StoreGone("away")
        assert await read_path(vault, b"papers/big") == FILES[b"big"]


async def test_what_is_not_sent_yet_is_pinned_and_stays_so_when_it_has_its_final_inode(sim: SimWorkshop) -> None:
    async with sim.open() as vault:
        folder = make_folder(vault, b"docs")
        await pin(vault, "docs")
        await fill(vault, folder, b"f", noise(2 * MIB))
        await vault.sync()
        await vault.keeper.look()
    empty_cache(sim)
    sim.home.replica_file.unlink()  # the provisional inode is forgotten with it
    async with sim.open() as vault:
        await vault.keeper.bring()
        sim.knobs.outage = lambda: StoreGone("away")
        assert await read_path(vault, b"docs/f") == noise(2 * MIB)


async def test_new_files_and_new_contents_follow(sim: SimWorkshop) -> None:
    await stored(sim)
    async with sim.open() as vault:
        await pin(vault, "docs")
        docs = vault.replica.find(b"docs")
        assert docs is not None
        await fill(vault, vault.replica.ino_of(docs), b"new", noise(2 * MIB, 7))
        content = vault.open_file(vault.replica.find(b"docs/small01") or 0)
        await content.write(0, b"changed", 2_000)
        vault.release_file(content)
        await vault.sync()
    empty_cache(sim)
    async with sim.open() as vault:
        await vault.keeper.bring()
        sim.knobs.outage = lambda: StoreGone("away")
        assert await read_path(vault, b"docs/new") == noise(2 * MIB, 7)
        assert await read_path(vault, b"docs/small01") == b"changed" + FILES[b"small01"][7:]


async def test_what_is_pinned_can_be_changed_without_the_store_and_stays_whole(sim: SimWorkshop) -> None:
    await stored(sim)
    async with sim.open() as vault:
        await pin(vault, "docs/big")
    sim.knobs.outage = lambda: StoreGone("away")
    for turn in range(2):
        async with sim.open() as vault:
            content = vault.open_file(vault.replica.find(b"docs/big") or 0)
            await content.write(turn * 100_000, b"offline", 2_000)
            vault.release_file(content)
            await vault.commit()
            await vault.keeper.look()
            vault.cache.evict()
            vault.records._opened.clear()
            assert (await read_path(vault, b"docs/big"))[200_000:] == FILES[b"big"][200_000:]


async def test_one_file_of_a_pack_costs_its_range_and_not_the_pack(sim: SimWorkshop) -> None:
    await stored(sim)
    async with sim.open() as vault:
        before = vault.sender.read_bytes
        await pin(vault, "docs/small20")
        assert vault.sender.read_bytes - before < 100_000
        sim.knobs.outage = lambda: StoreGone("away")
        assert await read_path(vault, b"docs/small20") == FILES[b"small20"]


async def test_a_folder_of_small_files_costs_few_calls(sim: SimWorkshop) -> None:
    await stored(sim)
    async with sim.open() as vault:
        before = vault.sender.gets
        await pin(vault, "docs")
        assert vault.sender.gets - before < 16


async def test_a_file_of_several_manifest_pages_is_pinned_window_by_window(sim: SimWorkshop) -> None:
    async with sim.open() as vault:
        await write_file(vault, b"f", noise(12 * MIB))
        await write_file(vault, b"f", noise(9 * MIB, 1), offset=300 * MIB)
        await vault.sync()
    empty_cache(sim)
    async with sim.open() as vault:
        (row,) = (await pin(vault, "f"))["pins"]
        assert 21 * MIB < row["bytes_here"] == row["bytes"] < 22 * MIB
        sim.knobs.outage = lambda: StoreGone("away")
        content = vault.open_file(vault.replica.find(b"f") or 0)
        assert bytes(await content.read(0, 12 * MIB)) == noise(12 * MIB)
        assert bytes(await content.read(300 * MIB, 9 * MIB)) == noise(9 * MIB, 1)
        vault.release_file(content)


async def test_what_is_unpinned_makes_room_again(sim: SimWorkshop) -> None:
    await stored(sim)
    async with sim.open() as vault:
        await pin(vault, "docs", "other")
        assert len((await unpin(vault, "docs"))["pins"]) == 1
        vault.cache.evict()
        assert vault.cache.used() < 4 * MIB
        assert not (await unpin(vault, "other"))["pins"]
        vault.cache.evict()
        assert vault.cache.used() == 0


async def test_a_part_of_a_pinned_folder_is_not_unpinned_alone(sim: SimWorkshop) -> None:
    await stored(sim)
    async with sim.open() as vault:
        await pin(vault, "docs", wait=False)
        with pytest.raises(NotKept, match="but with '/docs'"):
            await unpin(vault, "docs/big")
        with pytest.raises(NotKept, match="'/other' is not pinned"):
            await unpin(vault, "other")
        with pytest.raises(NotKept, match="There is no '/nothing'"):
            await pin(vault, "other", "nothing")
        with pytest.raises(UsageError, match="must be a list"):
            await change_pins(vault, "add", {"paths": "other"}, silence)
        assert [row["path"] for row in (await change_pins(vault, "list", {}, silence))["pins"]] == ["/docs"]


async def test_a_pinned_file_that_was_deleted_is_listed_so_until_it_is_unpinned(sim: SimWorkshop) -> None:
    await stored(sim)
    async with sim.open() as vault:
        await pin(vault, "other")
        remove_file(vault, b"other")
        await vault.keeper.look()
        (row,) = (await change_pins(vault, "list", {}, silence))["pins"]
        assert (row["path"], row["kind"], row["bytes"]) == ("/other", "deleted", 0)
        assert not (await unpin(vault, "other"))["pins"]


async def test_a_list_of_pins_that_is_damaged_pins_nothing_and_keeps_nobody_out(
    sim: SimWorkshop, caplog: pytest.LogCaptureFixture
) -> None:
    await stored(sim)
    async with sim.open() as vault:
        await pin(vault, "other")
    (sim.home.data_dir / "pins.cfs").write_bytes(b"CFSPINS1 torn")
    async with sim.open() as vault:
        assert vault.keeper.pins.all == ()
    assert "nothing is pinned" in caplog.text


# ---- disks and stores that fail -------------------------------------------------------------------------------------


async def test_more_than_the_disk_has_room_for_is_refused_and_changes_nothing(
    sim: SimWorkshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stored(sim)
    async with sim.open() as vault:
        await pin(vault, "other")
        monkeypatch.setattr(keeping, "space_of", lambda _: Space(1 << 40, 70 * MIB))
        with pytest.raises(LocalDiskFull, match=r"needs 1\d\.\d MiB more; the disk of the cache has 6\.0 MiB left"):
            await pin(vault, "docs")
        assert [one.path for one in vault.keeper.pins.all] == [b"other"]
        assert vault.keeper.state == "all here"


async def test_a_disk_that_fills_up_meanwhile_is_told_of_and_the_rest_comes_later(
    sim: SimWorkshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stored(sim)
    room = [Space(1 << 40, 1 << 39)]
    monkeypatch.setattr(keeping, "space_of", lambda _: room[0])
    async with sim.open() as vault:
        await pin(vault, "docs", wait=False)
        room[0] = Space(1 << 40, 65 * MIB)
        await vault.keeper._turn()
        assert "the disk of the cache has" in vault.keeper.state
        assert not vault.upkeep.disk_full  # programs may go on writing
        room[0] = Space(1 << 40, 1 << 39)
        await vault.keeper._turn()
        assert vault.keeper.state == "all here"


async def test_a_cache_that_takes_nothing_is_no_reason_to_fetch_for_ever(
    sim: SimWorkshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stored(sim)

    def full(*_: object) -> None:
        raise OSError(28, "planted")

    async with sim.open() as vault:
        monkeypatch.setattr("cryptfs.vault.sparse.SparseCopy.write", full)
        with pytest.raises(LocalDiskFull):
            await pin(vault, "docs/big")


async def test_what_is_missing_in_the_store_is_named_and_fetched_when_it_is_back(sim: SimWorkshop) -> None:
    await stored(sim)
    async with sim.open() as vault:
        await pin(vault, "docs/big", wait=False)
        packs = {one.id for one in vault.cache._known.values() if one.where == 1 and len(one.id) == 32}
        names = [name for name in map(pack_name, packs) if name in sim.names("p")]
        gone = {name: sim.world.get(name, Call()) for name in names}
        for name in gone:
            sim.world.delete(name, Call())
        await vault.keeper.bring()
        assert vault.keeper.state == "not all of it can be had"
        (words,) = vault.keeper.problems()
        assert words.startswith("'/docs/big' is pinned: a part of a file is missing in the store")
        for name, data in gone.items():
            sim.world.put(name, data, Call())
        before = vault.sender.gets
        await vault.keeper.bring()
        assert vault.sender.gets == before  # not again at every turn
        for file in vault.keeper._survey.files.values():
            file.since -= pinned.AGAIN
        await vault.keeper.bring()
        assert (vault.keeper.state, vault.keeper.problems()) == ("all here", [])


async def test_bytes_that_nobody_signed_for_are_not_said_to_be_here(sim: SimWorkshop) -> None:
    await stored(sim)
    async with sim.open() as vault:
        get = vault.sender.store.get

        def forged(key: str, *rest: Any) -> bytes:
            data = get(key, *rest)
            return bytes(byte ^ 1 for byte in data) if key.startswith("p") else data

        vault.sender.store.get = forged  # type: ignore[method-assign]
        (row,) = (await pin(vault, "docs/small20"))["pins"]
        assert row["bytes_here"] == 0
        assert "damaged in the store" in vault.keeper.problems()[0]


# ---- who comes first ------------------------------------------------------------------------------------------------


def held_back(vault: Vault, of: Callable[[int], bool]) -> tuple[list[int], threading.Event]:
    """Reads of the store of which `of(number)` wait until the event is set; the list has those that were begun."""
    get, begun, go_on = vault.sender.store.get, list[int](), threading.Event()

    def slow(*args: Any, **kwargs: Any) -> bytes:
        begun.append(len(begun))
        if of(begun[-1]):
            go_on.wait(20)
        return get(*args, **kwargs)

    vault.sender.store.get = slow  # type: ignore[method-assign]
    return begun, go_on


async def test_nothing_is_brought_while_a_program_waits_for_the_store(sim: SimWorkshop) -> None:
    await stored(sim)
    async with sim.open() as vault:
        await pin(vault, "docs/big", wait=False)
        begun, go_on = held_back(vault, lambda _: True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read_file, vault, b"other")
            await until_async(lambda: len(begun) == 1)
            nursery.start_soon(vault.keeper.bring)
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert len(begun) == 1
            go_on.set()
        assert vault.keeper.state == "all here"


async def test_a_program_never_waits_behind_what_nobody_waits_for(sim: SimWorkshop) -> None:
    await stored(sim)
    async with sim.open() as vault:
        await pin(vault, "docs/big", wait=False)
        begun, go_on = held_back(vault, lambda number: number == 0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(vault.keeper.bring)
            await until_async(lambda: bool(begun))
            with trio.fail_after(15):
                assert await read_file(vault, b"other") == noise(3 * MIB, 99)
            go_on.set()
        assert len(cached_packs(sim)) >= 2
