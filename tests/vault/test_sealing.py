"""Segments: what goes into one, when it counts as made, and that it is made once whatever happens meanwhile."""

import contextlib
import errno
import hashlib
import os
import random
import shutil
from pathlib import Path

import pytest
import trio

from cryptfs.errors import LocalDiskFull, Quota, StoreError, StoreGone
from cryptfs.format.codec import decode
from cryptfs.format.content import Content
from cryptfs.vault import pending, sealer
from cryptfs.vault.chunkmap import decode_delta
from cryptfs.vault.journal import Entry, Sealed
from cryptfs.vault.vault import Vault
from tests.patience import until_async
from tests.vault.vault_faults import (
    CancelAt,
    SimWorkshop,
    dying,
    empty_cache,
    failing,
    forget_everything,
    state_of,
    use_faults,
)
from tests.vault.vault_workshop import make_file, read_file, remove_file, write_file

pytestmark = pytest.mark.usefixtures("still")

MIB = 1 << 20


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def away() -> StoreGone:
    return StoreGone("the store is away")


async def same_from_the_store_alone(sim: SimWorkshop) -> None:
    """A device that knows nothing but the keys sees exactly what this one sees."""
    async with sim.open() as vault:
        await vault.sync()
        here = state_of(vault)
    forget_everything(sim)
    async with sim.open() as vault:
        assert state_of(vault) == here


# ---- what a segment says --------------------------------------------------------------------------------------------


async def test_a_batch_is_cut_by_the_number_of_operations(sim: SimWorkshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pending, "_BATCH_OPS", 7)
    async with sim.open() as vault:
        for number in range(20):
            make_file(vault, b"n%d" % number)
        for left in (13, 6, 0):
            assert await vault.sealer.seal()
            assert len(vault.pending) == left
        assert not await vault.sealer.seal()
    await same_from_the_store_alone(sim)


async def test_a_batch_is_cut_by_its_size(sim: SimWorkshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pending, "_BATCH_BYTES", 3000)
    async with sim.open() as vault:
        for number in range(40):
            await write_file(vault, b"n%d" % number, b"x")
        segments = 0
        while vault.pending:
            await vault.sealer.seal()
            segments += 1
        assert segments > 3
    await same_from_the_store_alone(sim)


async def test_the_digest_is_that_of_the_content_also_when_a_batch_ends_between_two_saves(
    sim: SimWorkshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pending, "_BATCH_OPS", 2)
    async with sim.open() as vault:
        st = await write_file(vault, b"f", b"one")
        await write_file(vault, b"f", b"two")
        await vault.sealer.seal()
        assert vault.pending
        await vault.sealer.seal()
        encoded = vault.replica.content_of(st)
        assert encoded is not None
        assert decode(Content, encoded, MIB).digest == hashlib.sha256(b"two").digest()
        for _, _, *row in vault.replica.state_rows("history"):
            assert row[0] is None or decode(Content, row[0], MIB).digest in (b"", hashlib.sha256(b"two").digest())
    await same_from_the_store_alone(sim)


async def test_every_pack_is_named_once_also_those_behind_manifests(sim: SimWorkshop) -> None:
    async with sim.open() as vault:
        await write_file(vault, b"big", noise(20 * MIB))
        await vault.sync()
        await write_file(vault, b"big", noise(5 * MIB, 2), offset=3 * MIB)
        await write_file(vault, b"small", noise(3 * MIB, 3))
        await vault.sync()
        named = {row[1].hex() for row in vault.replica.state_rows("container") if row[0] == 1}
    assert named == {name.rpartition("/")[2] for name in sim.names("p")}
    await same_from_the_store_alone(sim)


async def test_what_is_written_while_a_segment_is_made_belongs_to_the_next(sim: SimWorkshop) -> None:
    async with sim.open() as vault:
        await write_file(vault, b"f", b"first")
        decide = vault.sealer._decide

        async def slowly(sealed: Sealed) -> None:
            await write_file(vault, b"f", b"second")
            await write_file(vault, b"g", b"new")
            await vault.commit()
            await decide(sealed)

        vault.sealer._decide = slowly  # type: ignore[method-assign]
        await vault.sealer.seal()
        vault.sealer._decide = decide  # type: ignore[method-assign]
        assert len(vault.pending) == 3
        assert await read_file(vault, b"f") == b"second"
        old = sim.world.snapshot()
    async with sim.open() as vault:
        assert await read_file(vault, b"f") == b"second"
    await same_from_the_store_alone(sim)
    forget_everything(sim)
    sim.world.restore(old)
    async with sim.open() as vault:
        assert await read_file(vault, b"f") == b"first"
        assert vault.replica.lookup(1, b"g") is None


# ---- packs before segments ------------------------------------------------------------------------------------------


async def test_no_segment_names_a_pack_that_has_not_arrived(sim: SimWorkshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cryptfs.vault.records.SHARED_PACK_TARGET", 2 * MIB)
    arrive = trio.Event()
    async with sim.open() as vault:
        put = vault.sender.put_until_confirmed

        async def slowly(key: str, data: bytes | Path) -> None:
            if key.startswith("p/"):
                await arrive.wait()
            await put(key, data)

        vault.sender.put_until_confirmed = slowly  # type: ignore[method-assign]
        await write_file(vault, b"f", noise(4 * MIB))
        await until_async(lambda: any(pack.id for pack in vault.records.local.values()))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(vault.sealer.seal)
            with trio.move_on_after(0.3):
                await trio.sleep_forever()
            assert not sim.names("l/")
            arrive.set()
        assert sim.names("l/")
    await same_from_the_store_alone(sim)


@pytest.mark.parametrize("step", ["pack.finish", "pack.fsync"])
async def test_a_full_disk_while_packs_are_closed_is_told_as_such_and_tried_again(sim: SimWorkshop, step: str) -> None:
    async with sim.open() as vault:
        use_faults(vault, failing(step, errno.ENOSPC))
        await write_file(vault, b"f", noise(4 * MIB))
        with pytest.raises(LocalDiskFull):
            await vault.sync()
        assert await read_file(vault, b"f") == noise(4 * MIB)
        await vault.sync()
    await same_from_the_store_alone(sim)


# ---- made once ------------------------------------------------------------------------------------------------------


def failing_flush(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next fdatasync fails, those after it work."""
    real, left = os.fdatasync, [1]

    def fdatasync(fd: int) -> None:
        if left and left.pop():
            raise OSError(errno.EIO, "planted")
        real(fd)

    monkeypatch.setattr(os, "fdatasync", fdatasync)


async def test_a_segment_is_in_the_journal_also_when_that_had_to_be_begun_anew(
    sim: SimWorkshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealer, "_DISK_WAIT", 0.01)
    async with dying(sim) as vault:
        await write_file(vault, b"f", noise(1000))
        await vault.commit()
        failing_flush(monkeypatch)
        sim.knobs.outage = away
        await seal_without_a_store(vault)
        assert vault.unconfirmed is not None
        made = vault.unconfirmed
    sim.knobs.outage = None
    async with sim.open() as vault:
        assert vault.unconfirmed == made
        await vault.sync()
        assert sim.names("l/") == [made.name]


async def test_a_new_journal_begun_while_a_segment_is_decided_carries_it(sim: SimWorkshop) -> None:
    async with dying(sim) as vault:
        await write_file(vault, b"f", noise(1000))
        await vault.commit()
        append = vault.journal.append

        def compact_first(entry: Entry) -> None:
            append(entry)
            if isinstance(entry, Sealed):
                nursery.start_soon(vault.journal.compact)

        vault.journal.append = compact_first  # type: ignore[method-assign]
        sim.knobs.outage = away
        async with trio.open_nursery() as nursery:
            await vault.journal._lock.acquire()
            nursery.start_soon(seal_without_a_store, vault)
            await trio.testing.wait_all_tasks_blocked()
            vault.journal._lock.release()
        assert vault.unconfirmed is not None
        made = vault.unconfirmed
    sim.knobs.outage = None
    async with sim.open() as vault:
        assert vault.unconfirmed == made
    await same_from_the_store_alone(sim)


async def seal_without_a_store(vault: Vault) -> None:
    """Seal until it waits for the store."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(vault.sealer.seal)
        await until_async(lambda: vault.sender.state.state != "ok")
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("size", [1000, 3 * MIB])
async def test_a_seal_cancelled_at_any_moment_can_be_made_again(sim: SimWorkshop, size: int) -> None:
    n, finished = 0, False
    async with sim.open() as vault:
        while not finished:
            n += 1
            await write_file(vault, b"f", noise(size, n))
            await write_file(vault, b"f%d" % n, b"another")
            cancel = CancelAt(n)
            with cancel.here():
                await vault.sealer.seal()
            finished = cancel.left > 0
            assert await read_file(vault, b"f") == noise(size, n)
            if n % 3 == 0:
                await vault.sync()
        await vault.sync()
        assert n > 5
    await same_from_the_store_alone(sim)
    async with sim.open() as vault:
        assert await read_file(vault, b"f") == noise(size, n)


async def test_a_segment_on_its_way_when_the_process_dies_is_sent_with_the_same_bytes(sim: SimWorkshop) -> None:
    for arrived in (False, True):
        async with dying(sim) as vault:
            await write_file(vault, b"f%d" % arrived, noise(1000))
            if arrived:
                sim.knobs.after = 1.0  # the store takes it, its answer is lost
            else:
                sim.knobs.outage = away
            await seal_without_a_store(vault)
            assert vault.unconfirmed is not None
            made = vault.unconfirmed
            assert (made.name in sim.names("l/")) == arrived
        sim.knobs.rest()
        async with sim.open() as vault:
            await write_file(vault, b"g%d" % arrived, b"later")
            await vault.sync()
            assert sim.world.snapshot()[made.name] == made.data
    assert len(sim.names("l/")) == 4
    await same_from_the_store_alone(sim)


async def test_a_segment_that_waits_for_the_store_survives_the_loss_of_the_cache(sim: SimWorkshop) -> None:
    async with sim.open() as vault:
        await write_file(vault, b"old", b"stored")
        await vault.sync()
    async with dying(sim) as vault:
        await write_file(vault, b"f", noise(1000))
        sim.world.quota = sim.world.used()
        await seal_without_a_store(vault)
        assert vault.unconfirmed is not None
        await vault.journal.compact()
    shutil.rmtree(sim.home.cache_dir)
    sim.world.quota = None
    async with sim.open() as vault:
        assert await read_file(vault, b"f") == noise(1000)
        await vault.sync()
    await same_from_the_store_alone(sim)


async def test_a_save_on_top_of_a_segment_that_waits_survives_the_loss_of_the_cache(sim: SimWorkshop) -> None:
    async with dying(sim) as vault:
        await write_file(vault, b"f", noise(100_000))
        sim.knobs.outage = away
        await seal_without_a_store(vault)
        await write_file(vault, b"f", b"on top", offset=70_000)
        await vault.commit()
    empty_cache(sim)
    async with sim.open() as vault:  # still without the store
        wanted = noise(100_000)[:70_000] + b"on top" + noise(100_000)[70_006:]
        assert await read_file(vault, b"f") == wanted
        sim.knobs.outage = None
        await vault.sync()
    await same_from_the_store_alone(sim)


# ---- operations that refer to what was sealed before ----------------------------------------------------------------


async def test_a_save_of_an_open_file_knows_its_base_after_the_cache_is_lost(sim: SimWorkshop) -> None:
    async with dying(sim) as vault:
        content = vault.open_file(make_file(vault, b"f"))
        await content.write(0, b"one", 1)
        await vault.sync()
        await content.write(0, b"two", 2)
        content.hand_over_now()
        await vault.journal.compact()
    shutil.rmtree(sim.home.cache_dir)
    async with sim.open() as vault:
        assert await read_file(vault, b"f") == b"two"
        await vault.sync()
        assert [name for name, _, _ in vault.replica.entries(1)] == [b"f"]
    await same_from_the_store_alone(sim)


async def test_records_confirmed_before_they_are_handed_over_are_found_after_a_crash(
    sim: SimWorkshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cryptfs.vault.records.SHARED_PACK_TARGET", 3 * MIB)
    async with dying(sim) as vault:
        content = vault.open_file(make_file(vault, b"f"))
        await vault.sync()
        await content.write(0, noise(2 * MIB), 1)
        await write_file(vault, b"g", noise(2 * MIB, 1))  # fills the pack
        while vault.pending:
            await vault.sealer.seal()
        assert content.dirty
        content.hand_over_now()
        await vault.journal.compact()
    async with sim.open() as vault:
        assert await read_file(vault, b"f") == noise(2 * MIB)
    await same_from_the_store_alone(sim)


# ---- a store in trouble ---------------------------------------------------------------------------------------------


async def test_a_store_that_is_full_refuses_new_bytes_and_goes_on_by_itself(sim: SimWorkshop) -> None:
    async with sim.open() as vault:
        await write_file(vault, b"f", noise(3 * MIB))
        content = vault.open_file(make_file(vault, b"g"))
        sim.world.quota = sim.world.used() + MIB
        async with trio.open_nursery() as nursery:
            nursery.start_soon(vault.sealer.seal)
            await until_async(lambda: vault.sender.state.full)
            with pytest.raises(Quota):
                await content.write(0, b"more", 1)
            assert vault.space().free == 0
            assert content.size == 0
            sim.world.quota = None
            vault.sender.try_now()
        await content.write(0, b"more", 1)
        vault.release_file(content)
    await same_from_the_store_alone(sim)


@pytest.mark.parametrize("seed", range(8))
async def test_any_history_on_a_bad_store_leads_to_what_the_store_alone_says(sim: SimWorkshop, seed: int) -> None:
    rng = random.Random(seed)
    model: dict[bytes, bytes] = {}
    for _ in range(3):
        sim.knobs.rest()
        async with sim.open() if rng.random() < 0.5 else dying(sim) as vault:
            sim.knobs.before, sim.knobs.after = rng.choice([(0, 0), (0.3, 0.3)])
            for _ in range(rng.randrange(5, 40)):
                await one_change(vault, rng, model)
                if rng.random() < 0.1:
                    vault.sender.try_now()
                    with contextlib.suppress(StoreError), trio.move_on_after(0.3):
                        await vault.sealer.seal()
            await vault.commit()
        if rng.random() < 0.4:
            sim.knobs.rest()
            empty_cache(sim)
    sim.knobs.rest()
    async with sim.open() as vault:
        for name, data in model.items():
            assert await read_file(vault, name) == data
        assert {name for name, _, _ in vault.replica.entries(1)} == model.keys()
    await same_from_the_store_alone(sim)
    async with sim.open() as vault:
        for name, data in model.items():
            assert await read_file(vault, name) == data


async def one_change(vault: Vault, rng: random.Random, model: dict[bytes, bytes]) -> None:
    """Write, cut or remove one of a few files."""
    name = b"n%d" % rng.randrange(6)
    kind = rng.random()
    if name in model and kind < 0.15:
        remove_file(vault, name)
        del model[name]
        return
    entry = vault.replica.lookup(1, name)
    content = vault.open_file(entry.st if entry is not None else make_file(vault, name))
    old = model.setdefault(name, b"")
    size, offset, data = rng.randrange(200_000), rng.randrange(100_000), rng.randbytes(rng.choice([1, 3000, 700_000]))
    with contextlib.suppress(StoreError):  # what is changed in part may have to be fetched
        if kind < 0.3:
            await content.truncate(size, 1)
            model[name] = old[:size].ljust(size, b"\0")
        else:
            await content.write(offset, data, 1)
            model[name] = old[:offset].ljust(offset, b"\0") + data + old[offset + len(data) :]
    vault.release_file(content)


async def test_the_journal_has_the_keys_of_what_it_names_whatever_becomes_of_the_version_before(
    sim: SimWorkshop,
) -> None:
    async with sim.open() as vault:
        await write_file(vault, b"f", b"one")
        await vault.sync()
        await write_file(vault, b"f", b"two")
        (entry,) = vault.pending.entries()
        delta = decode_delta(entry.delta)
        assert delta.chunks
        assert {fkv for _, _, _, fkv, _ in delta.chunks} == {fkv for fkv, _ in delta.keys}
