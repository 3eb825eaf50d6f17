"""Reading from a store where every call is dear: how much is asked for, and what of it is believed."""

import random
from collections.abc import Callable
from typing import Any

import pytest
import trio

from cryptfs.errors import Damaged, HostileStore, Retry, StoreGone
from cryptfs.vault.content import FileContent
from cryptfs.vault.sparse import SparseCopy
from cryptfs.vault.vault import Vault
from tests.patience import until_async
from tests.vault.vault_faults import SimWorkshop, cached_packs, empty_cache
from tests.vault.vault_workshop import read_file, write_file

pytestmark = pytest.mark.usefixtures("still")

MIB = 1 << 20
CHUNK = 1 << 16


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


BIG = noise(24 * MIB)


async def stored(sim: SimWorkshop, **files: bytes) -> None:
    """Files that are in the store and nowhere else."""
    async with sim.open() as vault:
        for name, data in files.items():
            await write_file(vault, name.encode(), data)
        await vault.sync()
    empty_cache(sim)


def opened(vault: Vault, name: bytes = b"f") -> FileContent:
    entry = vault.replica.lookup(1, name)
    assert entry is not None
    return vault.open_file(entry.st)


class Count:
    """What was read from the store since this was made."""

    def __init__(self, vault: Vault) -> None:
        self._sender = vault.sender
        self._before = (self._sender.gets, self._sender.read_bytes)

    @property
    def gets(self) -> int:
        return self._sender.gets - self._before[0]

    @property
    def bytes(self) -> int:
        return self._sender.read_bytes - self._before[1]


async def test_a_few_bytes_out_of_a_large_file_cost_a_range_and_not_the_file(sim: SimWorkshop) -> None:
    await stored(sim, f=BIG)
    async with sim.open() as vault:
        content, count = opened(vault), Count(vault)
        for at in (17 * MIB, 3 * MIB, 11 * MIB):  # nothing that could be taken for reading through
            assert bytes(await content.read(at + 5, 4096)) == BIG[at + 5 : at + 4101]
        assert count.bytes <= 6 * MIB  # and the manifest
        before = count.gets
        assert bytes(await content.read(17 * MIB + 70_000, 4096)) == BIG[17 * MIB + 70_000 :][:4096]
        assert count.gets == before
        vault.release_file(content)


async def test_reading_through_a_large_file_fetches_every_byte_once_and_many_ranges_at_a_time(sim: SimWorkshop) -> None:
    await stored(sim, f=BIG)
    async with sim.open() as vault:
        count, under_way, most = Count(vault), 0, 0
        together, get = trio.Event(), vault.sender.get

        async def counted(*args: Any, **more: Any) -> bytes:
            """The store answers late until three are under way, however long others wait for a processor."""
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            if under_way == 3:
                together.set()
            with trio.move_on_after(0.5):
                await together.wait()
            try:
                return await get(*args, **more)
            finally:
                under_way -= 1

        vault.sender.get = counted  # type: ignore[method-assign]
        assert await read_file(vault, b"f") == BIG
        assert count.bytes < len(BIG) + MIB
        assert count.gets < 24
        assert 3 <= most <= 8
        containers = [one for one in vault.cache._known.values() if one.where == 1]
        await until_async(lambda: all(one.verified for one in containers))
        assert not any(path.suffix == ".part" for path in cached_packs(sim))


async def test_reading_ahead_goes_on_where_the_kernel_asks_out_of_order(sim: SimWorkshop) -> None:
    await stored(sim, f=BIG)
    async with sim.open() as vault:
        content, count = opened(vault), Count(vault)
        got: dict[int, bytes] = {}

        async def read(at: int) -> None:
            got[at] = bytes(await content.read(at, 128 << 10))

        step = 128 << 10
        for first in range(0, len(BIG), 4 * step):
            async with trio.open_nursery() as nursery:
                for at in random.Random(first).sample(range(first, first + 4 * step, step), 4):
                    nursery.start_soon(read, at)
        assert b"".join(got[at] for at in sorted(got)) == BIG
        assert count.bytes < len(BIG) + 2 * MIB
        vault.release_file(content)


async def test_going_through_small_files_fetches_their_packs_and_not_each_file(sim: SimWorkshop) -> None:
    files = {f"f{number:03}": noise(40_000 + number, number) for number in range(300)}
    await stored(sim, **files)
    async with sim.open() as vault:
        count = Count(vault)
        for name in random.Random(3).sample(sorted(files), len(files)):
            assert await read_file(vault, name.encode()) == files[name]
        assert count.bytes < 13 * MIB
        assert count.gets <= 8


async def test_one_small_file_does_not_fetch_its_whole_pack(sim: SimWorkshop) -> None:
    files = {f"f{number:03}": noise(60_000, number) for number in range(150)}
    await stored(sim, **files)
    async with sim.open() as vault:
        count = Count(vault)
        assert await read_file(vault, b"f070") == files["f070"]
        assert (count.gets, count.bytes) == (1, MIB)


async def test_who_wants_what_is_on_its_way_waits_for_that(sim: SimWorkshop) -> None:
    await stored(sim, f=BIG)
    async with sim.open() as vault:
        content = opened(vault)
        await content.load_all()
        count = Count(vault)
        async with trio.open_nursery() as nursery:
            for at in range(20):
                nursery.start_soon(content.read, 5 * MIB + at * 3000, 3000)
        assert count.gets == 1
        vault.release_file(content)


async def test_who_waits_for_a_fetch_that_is_cancelled_fetches_himself(sim: SimWorkshop) -> None:
    await stored(sim, f=BIG)
    async with sim.open() as vault:
        content = opened(vault)
        await content.load_all()
        began, scope = trio.Event(), trio.CancelScope()
        get = vault.sender.get

        async def stuck(*args: object, **kwargs: object) -> bytes:
            vault.sender.get = get  # type: ignore[method-assign]
            began.set()
            await trio.sleep_forever()
            return b""

        vault.sender.get = stuck  # type: ignore[method-assign, assignment]

        async def first() -> None:
            with scope:
                await content.read(5 * MIB, 4096)

        async def second() -> None:
            await began.wait()
            assert bytes(await content.read(5 * MIB, 4096)) == BIG[5 * MIB :][:4096]

        async with trio.open_nursery() as nursery:
            nursery.start_soon(first)
            nursery.start_soon(second)
            await began.wait()
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
        vault.release_file(content)


# ---- hostile stores -------------------------------------------------------------------------------------------------


def answers(sim: SimWorkshop, vault: Vault, wrong: Callable[[bytes, int], bytes]) -> None:
    """The store answers for packs with what `wrong` makes of the right bytes and the offset asked for."""
    get = vault.sender.store.get

    def lying(key: str, call: object, start: int = 0, length: int | None = None) -> bytes:
        data = get(key, call, start, length)  # type: ignore[arg-type]
        return wrong(data, start) if key.startswith("p/") else data

    vault.sender.store.get = lying  # type: ignore[method-assign]


WRONG: dict[str, Callable[[bytes, int], bytes]] = {
    "nothing": lambda data, at: b"",
    "short": lambda data, at: data[:1000],
    "flipped": lambda data, at: bytes(byte ^ (number % 4096 == 77) for number, byte in enumerate(data)),
    "another range": lambda data, at: data[CHUNK:] + data[:CHUNK],
    "another object": lambda data, at: noise(len(data), at),
    "zeros": lambda data, at: bytes(len(data)),
}


@pytest.mark.parametrize("how", WRONG)
async def test_hostile_range_is_an_error_for_that_range_and_nothing_of_it_is_kept(sim: SimWorkshop, how: str) -> None:
    await stored(sim, f=BIG)
    async with sim.open() as vault:
        content = opened(vault)
        await content.load_all()
        assert bytes(await content.read(9 * MIB, CHUNK)) == BIG[9 * MIB :][:CHUNK]
        kept = vault.cache.used()
        good = vault.sender.store.get
        answers(sim, vault, WRONG[how])
        for _ in range(2):
            with pytest.raises(HostileStore):
                await content.read(3 * MIB, 4096)
        vault.records._opened.clear()
        assert bytes(await content.read(9 * MIB, CHUNK)) == BIG[9 * MIB :][:CHUNK]
        assert vault.cache.used() == kept
        vault.sender.store.get = good  # type: ignore[method-assign]
        assert bytes(await content.read(3 * MIB, 4096)) == BIG[3 * MIB :][:4096]
        vault.release_file(content)


@pytest.mark.parametrize("how", WRONG)
async def test_a_damaged_answer_is_asked_for_once_more_before_it_is_an_error(sim: SimWorkshop, how: str) -> None:
    await stored(sim, f=BIG)
    async with sim.open() as vault:
        content = opened(vault)
        await content.load_all()
        good, count = vault.sender.store.get, Count(vault)

        def once(data: bytes, at: int) -> bytes:
            vault.sender.store.get = good  # type: ignore[method-assign]
            return WRONG[how](data, at)

        answers(sim, vault, once)
        assert bytes(await content.read(3 * MIB, 4096)) == BIG[3 * MIB :][:4096]
        assert count.gets == 2
        assert not vault.cache.damaged
        answers(sim, vault, WRONG[how])
        with pytest.raises(HostileStore):
            await content.read(12 * MIB, 4096)
        assert count.gets == 4  # and not again and again
        assert vault.cache.damaged
        vault.release_file(content)


async def test_one_flipped_bit_in_a_range_costs_that_chunk_alone(sim: SimWorkshop) -> None:
    await stored(sim, f=BIG)
    async with sim.open() as vault:
        content = opened(vault)
        await content.load_all()
        ref = content.map.get(5 * 16 + 3)
        assert ref is not None
        bad = ref.off + 500

        def flip(data: bytes, at: int) -> bytes:
            if not at <= bad < at + len(data):
                return data
            return data[: bad - at] + bytes([data[bad - at] ^ 1]) + data[bad - at + 1 :]

        answers(sim, vault, flip)
        wrong = []
        for index in range(5 * 16, 6 * 16):
            try:
                assert bytes(await content.read(index * CHUNK, CHUNK)) == BIG[index * CHUNK :][:CHUNK]
            except Damaged:
                wrong.append(index)
        assert wrong == [5 * 16 + 3]
        assert vault.cache.damaged
        vault.release_file(content)


async def test_a_copy_that_a_crash_tore_is_fetched_again_where_it_is_torn(sim: SimWorkshop) -> None:
    """After a power cut a file may be as long as it was and hold zeros, or old bytes, where data were written."""
    await stored(sim, f=BIG)
    async with sim.open() as vault:
        content = opened(vault)
        for at in (3 * MIB, 9 * MIB):
            await content.read(at, MIB)
        vault.release_file(content)
    part = max((path for path in cached_packs(sim) if path.suffix == ".part"), key=lambda path: path.stat().st_size)
    data = bytearray(part.read_bytes())
    data[MIB : MIB + 300_000] = bytes(300_000)
    part.write_bytes(data)  # no holes any more: all of it looks present
    async with sim.open() as vault:
        assert await read_file(vault, b"f") == BIG
        assert not vault.cache.damaged


async def test_ranges_that_are_here_are_found_again_after_a_start(sim: SimWorkshop) -> None:
    await stored(sim, f=BIG)
    async with sim.open() as vault:
        content = opened(vault)
        await content.read(3 * MIB, MIB)
        vault.release_file(content)
    async with sim.open() as vault:
        sim.knobs.outage = lambda: StoreGone("away")
        content = opened(vault)
        assert bytes(await content.read(3 * MIB, MIB)) == BIG[3 * MIB : 4 * MIB]
        with pytest.raises(StoreGone):
            await content.read(12 * MIB, 10)
        vault.release_file(content)


async def test_a_cache_that_is_full_only_means_asking_again(sim: SimWorkshop, monkeypatch: pytest.MonkeyPatch) -> None:
    await stored(sim, f=BIG)
    async with sim.open() as vault:

        def full(self: SparseCopy, off: int, data: bytes) -> None:
            raise OSError(28, "planted")

        monkeypatch.setattr(SparseCopy, "write", full)
        content = opened(vault)
        assert bytes(await content.read(3 * MIB, 4096)) == BIG[3 * MIB :][:4096]
        vault.release_file(content)


# ---- stores that are slow or away -----------------------------------------------------------------------------------


async def test_a_hiccup_of_the_store_is_sat_out(sim: SimWorkshop) -> None:
    await stored(sim, f=BIG)
    async with sim.open() as vault:
        left = [2]

        def hiccup() -> Retry | None:
            left[0] -= 1
            if left[0] < 0:
                sim.knobs.outage = None
            return Retry("busy")

        sim.knobs.outage = hiccup  # type: ignore[assignment]
        content = opened(vault)
        assert bytes(await content.read(3 * MIB, 4096)) == BIG[3 * MIB :][:4096]
        vault.release_file(content)


async def test_a_store_that_is_silent_is_not_waited_for_by_every_reader(
    sim: SimWorkshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cryptfs.vault.fetching.READ_SECONDS", 0.1)
    monkeypatch.setattr("cryptfs.vault.upload._SLOW_FAILURE", 0.1)
    await stored(sim, f=BIG)
    async with sim.open() as vault:
        content = opened(vault)
        await content.load_all()
        sim.knobs.latency = lambda *_: 0.2
        with pytest.raises(Retry):
            await content.read(3 * MIB, 4096)
        before = vault.sender.gets
        for at in range(4, 14):
            with pytest.raises(StoreGone, match="does not answer"):
                await content.read(at * MIB, 4096)
        assert vault.sender.gets == before
        sim.knobs.latency = None
        await vault.exchange.pull()  # whoever looks whether it is back
        assert bytes(await content.read(3 * MIB, 4096)) == BIG[3 * MIB :][:4096]
        vault.release_file(content)
