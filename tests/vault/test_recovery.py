"""A start after a crash, with local state that is not what it was: only what was hit is lost, and that is said."""

import random
from pathlib import Path

import pytest

from cryptfs.errors import Damaged, FsError, StoreGone
from cryptfs.format.operation import SET_MODE, SetAttr
from cryptfs.vault.content import FileContent
from cryptfs.vault.vault import Vault, VaultOptions
from tests.vault.vault_faults import SimWorkshop, dying, empty_cache, local_packs, state_of
from tests.vault.vault_workshop import make_file, read_file, remove_file, write_file

pytestmark = pytest.mark.usefixtures("still")

MIB = 1 << 20


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def journal_file(sim: SimWorkshop) -> Path:
    (path,) = sim.home.data_dir.glob("journal-*")
    return path


def opened(vault: Vault, name: bytes) -> FileContent:
    entry = vault.replica.lookup(1, name)
    assert entry is not None
    return vault.open_file(entry.st)


def names(vault: Vault) -> list[bytes]:
    return [name for name, _, _ in vault.replica.entries(1)]


async def one_more_seal(vault: Vault) -> None:
    """Whatever was lost, new work can be sent."""
    await write_file(vault, b"new", b"after the damage")
    await vault.sync()
    assert not vault.pending


# ---- packs that the store does not have -----------------------------------------------------------------------------


async def test_no_pack_file_is_left_once_all_of_it_was_sealed(sim: SimWorkshop) -> None:
    for size in (4000, 3 * MIB):
        async with dying(sim) as vault:
            await write_file(vault, b"f", noise(size))
            await vault.sync()
            await vault.commit()
        async with sim.open():
            assert not local_packs(sim)


async def test_records_that_were_overwritten_before_the_crash_are_not_missed(sim: SimWorkshop) -> None:
    async with dying(sim) as vault:
        await write_file(vault, b"f", noise(MIB))
        await write_file(vault, b"f", noise(MIB, 2))
        await write_file(vault, b"g", noise(MIB, 3))
        await vault.commit()
        for pack in list(vault.records.local.values()):
            closed = await vault.packer._close(pack)  # leaves the old records out
            assert closed is not None
            assert closed.num != pack.num
    async with sim.open() as vault:
        assert await read_file(vault, b"f") == noise(MIB, 2)
        assert await read_file(vault, b"g") == noise(MIB, 3)
        await vault.sync()


async def test_a_pack_closed_but_not_sent_is_sent_by_the_next_start_with_the_same_bytes(sim: SimWorkshop) -> None:
    async with dying(sim) as vault:
        await write_file(vault, b"f", noise(2 * MIB))
        await vault.commit()
        (pack,) = vault.records.local.values()
        closed = await vault.packer._close(pack)
        assert closed is not None
        name = closed.id.hex()
    async with sim.open() as vault:
        await vault.sync()
        assert [key.rpartition("/")[2] for key in sim.names("p")] == [name]
        assert await read_file(vault, b"f") == noise(2 * MIB)


async def test_a_pack_of_which_only_a_piece_rode_in_the_journal_is_not_taken_for_whole(
    sim: SimWorkshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cryptfs.vault.pending._BATCH_OPS", 4)
    async with dying(sim) as vault:
        make_file(vault, b"f")
        make_file(vault, b"g")
        await write_file(vault, b"f", noise(300_000))
        await vault.commit()
        await write_file(vault, b"g", b"rides")
        await vault.commit()
        await write_file(vault, b"f", noise(300_000, 2))  # is sealed ahead of its operation
        await vault.commit()
        await vault.sealer.seal()
        assert vault.pending
        assert not vault.records.local
        await vault.commit()
    async with sim.open() as vault:
        assert await read_file(vault, b"f") == noise(300_000, 2)
        assert await read_file(vault, b"g") == b"rides"
        await vault.sync()


async def test_a_patch_of_a_large_file_can_be_read_before_anything_else_of_it(sim: SimWorkshop) -> None:
    async with sim.open() as vault:
        await write_file(vault, b"f", noise(20 * MIB))
        await vault.sync()
        await write_file(vault, b"f", b"patch", offset=7 * MIB)
        await vault.sync()
    for lost in (False, True):
        if lost:
            empty_cache(sim)
        async with sim.open() as vault:
            content = opened(vault, b"f")
            assert bytes(await content.read(7 * MIB, 5)) == b"patch"
            vault.release_file(content)


async def test_a_save_of_a_large_file_is_taken_up_without_the_store(sim: SimWorkshop) -> None:
    async with sim.open() as vault:
        await write_file(vault, b"f", noise(20 * MIB))
        await vault.sync()
    async with dying(sim) as vault:
        await write_file(vault, b"f", b"offline", offset=7 * MIB)
        await vault.commit()
    empty_cache(sim)
    sim.knobs.outage = lambda: StoreGone("away")
    async with sim.open() as vault:
        content = opened(vault, b"f")
        assert bytes(await content.read(7 * MIB, 7)) == b"offline"
        vault.release_file(content)
        sim.knobs.outage = None
        await vault.sync()
        assert await read_file(vault, b"f") == noise(20 * MIB)[: 7 * MIB] + b"offline" + noise(20 * MIB)[7 * MIB + 7 :]


@pytest.mark.parametrize("how", ["gone", "empty", "cut"])
async def test_an_unsent_file_whose_records_are_gone_falls_back_to_what_was_sent(sim: SimWorkshop, how: str) -> None:
    async with dying(sim) as vault:
        await write_file(vault, b"f", b"sent")
        await write_file(vault, b"g", b"sent too")
        await vault.sync()
        await write_file(vault, b"f", noise(500_000))
        make_file(vault, b"h")
        content = opened(vault, b"g")
        await content.truncate(4, 1)
        vault.release_file(content)
        await vault.commit()
    (path,) = local_packs(sim)
    match how:
        case "gone":
            path.unlink()
        case "empty":
            path.write_bytes(b"")
        case "cut":
            path.write_bytes(path.read_bytes()[:100_000])
    async with sim.open() as vault:
        assert await read_file(vault, b"f") == b"sent"
        assert names(vault) == [b"f", b"g", b"h"]
        assert any("inode" in what for what in vault.cache.damaged)
        remove_file(vault, b"h")
        await write_file(vault, b"f", b"again", offset=2)
        await one_more_seal(vault)
        here = state_of(vault)
    async with sim.open() as vault:
        assert await read_file(vault, b"f") == b"seagain"
        assert state_of(vault) == here


async def test_a_flipped_bit_in_an_unsent_pack_spoils_one_file(sim: SimWorkshop) -> None:
    async with dying(sim) as vault:
        for number in range(4):
            await write_file(vault, b"f%d" % number, noise(100_000, number))
        await vault.commit()
        vault.records.filling = None
        for pack in vault.records.local.values():
            pack.flush()
    (path,) = local_packs(sim)
    data = bytearray(path.read_bytes())
    data[150_000] ^= 1
    path.write_bytes(data)
    async with sim.open() as vault:
        bad = []
        for number in range(4):
            try:
                assert await read_file(vault, b"f%d" % number) == noise(100_000, number)
            except Damaged:
                bad.append(number)
        assert bad == [1]
        assert path.exists()
        await one_more_seal(vault)


@pytest.mark.parametrize("size", [0, 1000])
async def test_what_is_written_into_a_sealed_file_of_holes_opens_after_a_crash(sim: SimWorkshop, size: int) -> None:
    async with dying(sim) as vault:
        content = vault.open_file(make_file(vault, b"f"))
        await content.write(0, b"x", 1)
        await content.truncate(0, 2)
        await content.truncate(size, 3)
        content.hand_over_now()
        await vault.sync()  # this version has no chunk, so it names no key
        await content.write(0, noise(3000), 4)
        content.hand_over_now()
        await vault.commit()
    async with sim.open() as vault:
        assert await read_file(vault, b"f") == noise(3000)
        await vault.sync()
    empty_cache(sim)
    async with sim.open() as vault:
        assert await read_file(vault, b"f") == noise(3000)


# ---- a damaged journal ----------------------------------------------------------------------------------------------


async def test_changes_that_build_on_a_lost_frame_are_left_out_and_the_rest_stays(sim: SimWorkshop) -> None:
    async with dying(sim) as vault:
        await write_file(vault, b"old", b"sent")
        await vault.sync()
        await vault.journal.compact()
        await write_file(vault, b"kept", b"before")
        await vault.commit()
        start = vault.journal.size
        lost = await write_file(vault, b"lost", b"gone with its frame")
        await write_file(vault, b"old", b"NEVER")
        await vault.commit()
        await write_file(vault, b"old", b"....", offset=1)  # builds on the lost version
        await write_file(vault, b"lost", b"x", offset=3)
        vault.submit(SetAttr(vault.replica.ino_of(lost), SET_MODE, 0o600, 0, 0, 0))
        await write_file(vault, b"kept too", b"after")
        await vault.commit()
    data = bytearray(journal_file(sim).read_bytes())
    data[start + 30] ^= 1
    journal_file(sim).write_bytes(data)
    async with sim.open() as vault:
        assert names(vault) == [b"kept", b"kept too", b"old"]
        assert await read_file(vault, b"old") == b"sent"
        assert await read_file(vault, b"kept") == b"before"
        assert await read_file(vault, b"kept too") == b"after"
        await one_more_seal(vault)
    assert list(sim.home.data_dir.glob("damaged-journal-*"))
    async with sim.open() as vault:
        assert await read_file(vault, b"old") == b"sent"


@pytest.mark.parametrize("offset", [0, 10, 30, 60])
async def test_damage_to_the_beginning_of_the_journal_costs_no_more_than_its_first_frame(
    sim: SimWorkshop, offset: int
) -> None:
    async with dying(sim) as vault:
        await write_file(vault, b"sent", noise(3000))
        await vault.sync()
        await vault.journal.compact()
        await write_file(vault, b"f", b"pending")
        await vault.commit()
        await write_file(vault, b"g", b"pending too")
        await vault.commit()
    data = bytearray(journal_file(sim).read_bytes())
    data[offset] ^= 1
    journal_file(sim).write_bytes(data)
    async with sim.open() as vault:
        assert await read_file(vault, b"sent") == noise(3000)
        assert await read_file(vault, b"g") == b"pending too"
        assert await read_file(vault, b"f") == b"pending"
        await one_more_seal(vault)
        logs = vault.standing.logs  # a new one if nobody knows any more what this device had sent
        segments = sum(logs.state(one).next_seq for one in logs.ids())
    assert len(sim.names("l/")) == segments


@pytest.mark.parametrize("seed", range(12))
async def test_any_damage_to_the_journal_leaves_a_vault_that_opens_and_works(sim: SimWorkshop, seed: int) -> None:
    rng = random.Random(seed)
    async with dying(sim) as vault:
        for number in range(30):
            name = b"n%d" % rng.randrange(5)
            if vault.replica.lookup(1, name) is not None and rng.random() < 0.3:
                remove_file(vault, name)
            else:
                await write_file(vault, name, rng.randbytes(rng.choice([5, 70_000])), offset=rng.randrange(50))
            if rng.random() < 0.4:
                await vault.commit()
            if number == 10:
                await vault.sync()
        await vault.commit()
        end = vault.journal.size
    data = bytearray(journal_file(sim).read_bytes())
    for _ in range(rng.choice([1, 3])):
        at = rng.randrange(end)
        data[at : at + rng.choice([1, 100])] = rng.randbytes(1)
    journal_file(sim).write_bytes(data)
    for _ in range(2):
        async with sim.open() as vault:
            for name in names(vault):
                await read_file(vault, name)
            await one_more_seal(vault)


# ---- bytes that an fsync put into the journal -----------------------------------------------------------------------


async def saved(vault: Vault, name: bytes, offset: int, data: bytes) -> None:
    """As a program that writes and calls fsync, and keeps the file open."""
    content = opened(vault, name)
    await content.write(offset, data, 5)
    content.persist()
    await vault.commit()


async def test_saved_bytes_are_there_on_a_read_only_mount_and_after_it(sim: SimWorkshop) -> None:
    async with dying(sim) as vault:
        await write_file(vault, b"f", b"0123456789")
        await vault.sync()
        await saved(vault, b"f", 3, b"xyz")
    sim.options = VaultOptions(read_only=True)
    async with sim.open() as vault:
        assert await read_file(vault, b"f") == b"012xyz6789"
        with pytest.raises(FsError, match="EROFS"):
            make_file(vault, b"g")
    sim.options = VaultOptions()
    async with sim.open() as vault:
        assert await read_file(vault, b"f") == b"012xyz6789"
        await vault.sync()


async def test_saved_bytes_over_a_chunk_that_is_damaged_now_do_not_keep_the_vault_from_opening(
    sim: SimWorkshop,
) -> None:
    async with sim.open() as vault:
        await write_file(vault, b"f", noise(3 * MIB))
        await write_file(vault, b"g", b"other")
        await vault.sync()
    async with dying(sim) as vault:
        await saved(vault, b"f", 3, b"xyz")
        await saved(vault, b"g", 0, b"OTHER")
    empty_cache(sim)
    for key in sim.names("p"):
        sim.world.lose(key)
    async with sim.open() as vault:
        assert await read_file(vault, b"g") == b"OTHER"
        with pytest.raises(Damaged):
            await read_file(vault, b"f")
        await one_more_seal(vault)


async def test_saved_bytes_survive_a_second_crash_before_anything_was_sealed(sim: SimWorkshop) -> None:
    async with dying(sim) as vault:
        await write_file(vault, b"f", noise(100_000))
        await saved(vault, b"f", 70_000, b"once")
        await saved(vault, b"f", 5, b"twice")
    wanted = bytearray(noise(100_000))
    wanted[70_000:70_004] = b"once"
    wanted[5:10] = b"twice"
    for _ in range(2):
        async with dying(sim) as vault:
            assert await read_file(vault, b"f") == wanted


async def test_a_journal_begun_anew_is_never_ahead_of_the_replica(sim: SimWorkshop) -> None:
    async with dying(sim) as vault:
        await write_file(vault, b"f", noise(3000))
        await vault.sync()
        await write_file(vault, b"g", noise(3000, 1))
        await vault.sealer.seal()
        await vault.journal.compact()
    sim.knobs.outage = lambda: StoreGone("away")
    async with sim.open() as vault:
        assert await read_file(vault, b"g") == noise(3000, 1)


# ---- without the store ----------------------------------------------------------------------------------------------


async def test_a_start_without_the_store_shows_what_is_here_and_sends_later(sim: SimWorkshop) -> None:
    async with sim.open() as vault:
        await write_file(vault, b"cached", noise(3000))
        await vault.sync()
        await write_file(vault, b"elsewhere", noise(3 * MIB))
        await vault.sync()
        await write_file(vault, b"pending", noise(4000))
        await vault.commit()
        vault.shut_down = vault.commit  # type: ignore[method-assign, assignment]
    for path in sim.home.cached_packs_dir.glob("*.pack"):
        path.unlink()
    sim.knobs.outage = lambda: StoreGone("away")
    async with sim.open() as vault:
        assert await read_file(vault, b"cached") == noise(3000)
        assert await read_file(vault, b"pending") == noise(4000)
        with pytest.raises(StoreGone):
            await read_file(vault, b"elsewhere")
        await write_file(vault, b"new", b"made offline")
        await vault.commit()
    sim.knobs.outage = None
    async with sim.open() as vault:
        await vault.sync()
        assert await read_file(vault, b"new") == b"made offline"
        assert await read_file(vault, b"elsewhere") == noise(3 * MIB)
