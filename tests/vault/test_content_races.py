"""Several callers of one file while a chunk of it is on its way from the store."""

import random
from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from cryptfs.errors import FsError, StoreGone
from cryptfs.vault.containers import Container
from cryptfs.vault.content import FileContent
from cryptfs.vault.ranges import Reach, Want
from cryptfs.vault.vault import Vault
from tests.patience import SECONDS
from tests.vault.vault_faults import SimWorkshop, empty_cache
from tests.vault.vault_workshop import make_file, read_file, remove_file, write_file

pytestmark = pytest.mark.usefixtures("still")

CHUNK = 1 << 16
OLD = random.Random(1).randbytes(200_000)


class Gate:
    """Fetches from the store wait until `open`."""

    def __init__(self, vault: Vault) -> None:
        self.waiting = 0
        self._open = trio.Event()
        self._record = vault.cache.fetching.record
        vault.cache.fetching.record = self._wait  # type: ignore[method-assign]

    async def _wait(self, container: Container, want: Want, reach: Reach) -> bytes | memoryview:
        self.waiting += 1
        await self._open.wait()
        return await self._record(container, want, reach)

    def open(self) -> None:
        self._open.set()


async def only_in_the_store(sim: SimWorkshop, data: bytes, name: bytes = b"f") -> None:
    async with sim.open() as vault:
        await write_file(vault, name, data)
        await vault.sync()
    empty_cache(sim)


def opened(vault: Vault, name: bytes = b"f") -> FileContent:
    entry = vault.replica.lookup(1, name)
    assert entry is not None
    return vault.open_file(entry.st)


async def in_this_order(gate: Gate, *actions: Callable[[], Awaitable[None]]) -> None:
    """Start each when those before it wait; then let the fetch come through."""
    async with trio.open_nursery() as nursery:
        for action in actions:
            nursery.start_soon(action)
            await wait_all_tasks_blocked()
        assert gate.waiting
        gate.open()


@pytest.mark.parametrize("size", [0, 10, CHUNK, 70_000, 150_000])
@pytest.mark.parametrize(("offset", "length"), [(131_072, 10), (0, 200_000), (65_536, 65_536), (100, 100_000)])
async def test_a_read_that_waits_while_the_file_is_cut_sees_it_before_or_after(
    sim: SimWorkshop, size: int, offset: int, length: int
) -> None:
    await only_in_the_store(sim, OLD)
    async with sim.open() as vault:
        content, seen = opened(vault), []

        async def read() -> None:
            seen.append(bytes(await content.read(offset, length)))

        await in_this_order(Gate(vault), read, lambda: content.truncate(size, 5))
        assert seen[0] in (OLD[offset : offset + length], OLD[:size][offset : offset + length])
        vault.release_file(content)


async def test_extending_does_not_wipe_what_was_written_and_handed_over_while_it_waited(sim: SimWorkshop) -> None:
    await only_in_the_store(sim, b"0123456789")
    async with sim.open() as vault:
        content, order = opened(vault), []
        gate = Gate(vault)

        async def write() -> None:
            await content.write(CHUNK, b"y" * 100, 5)
            order.append("write")
            content.hand_over_now()

        async def extend() -> None:
            while not order:  # resume it second, whatever the scheduler likes
                await content._plain(0)
                content._dirty.clear()
                await trio.lowlevel.checkpoint()
            await content.truncate(300_000, 6)

        await in_this_order(gate, write, extend)
        wanted = (b"0123456789".ljust(CHUNK, b"\0") + b"y" * 100).ljust(300_000, b"\0")
        assert bytes(await content.read(0, 400_000)) == wanted
        vault.release_file(content)


@pytest.mark.parametrize("seed", range(15))
async def test_every_call_happens_at_one_moment_whatever_waits(sim: SimWorkshop, seed: int) -> None:
    """Calls take effect when they return: a model that does the same in that order agrees at every moment."""
    rng = random.Random(seed)
    model = bytearray(rng.randbytes(rng.choice([100, 70_000, 400_000])))
    await only_in_the_store(sim, bytes(model))
    async with sim.open() as vault:
        content = opened(vault)
        record = vault.cache.fetching.record

        async def slowly(container: Container, want: Want, reach: Reach) -> bytes | memoryview:
            for _ in range(rng.randrange(6)):
                await trio.lowlevel.checkpoint()
            return await record(container, want, reach)

        async def caller() -> None:
            for _ in range(12):
                await trio.lowlevel.checkpoint()
                await one_call(vault, content, model, rng)
                assert vault.dirty_bytes == content.dirty_len

        vault.cache.fetching.record = slowly  # type: ignore[method-assign]
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(caller)
        assert bytes(await content.read(0, 1 << 20)) == model
        vault.release_file(content)
        await vault.sync()
        assert vault.dirty_bytes == 0
        assert not vault.files
        assert await read_file(vault, b"f") == model


async def one_call(vault: Vault, content: FileContent, model: bytearray, rng: random.Random) -> None:
    offset = rng.randrange(500_000)
    match rng.randrange(8):
        case 0 | 1:
            data = rng.randbytes(rng.choice([1, 500, CHUNK, 150_000]))
            offset = rng.choice([offset, offset & -CHUNK])
            await content.write(offset, data, 1)
            model.extend(bytes(max(0, offset + len(data) - len(model))))
            model[offset : offset + len(data)] = data
        case 2:
            size = rng.choice([offset, offset & -CHUNK, len(model) // 2])
            await content.truncate(size, 1)
            del model[size:]
            model.extend(bytes(size - len(model)))
        case 3:
            content.hand_over_now()
        case 4:
            await vault.sealer.seal()
        case 5:
            for container in list(vault.cache._known.values()):
                if container.path is not None and container.path.parent == vault.home.cached_packs_dir:
                    container.drop_file()
            vault.records._opened.clear()
        case _:
            # Within one chunk: a longer read may see a write that comes while it waits for a later chunk.
            length = min(rng.choice([1, 5000, CHUNK]), CHUNK - offset % CHUNK)
            size = len(model)
            found = bytes(await content.read(offset, length))
            assert found == model[offset : offset + length][: max(0, size - offset)]


@pytest.mark.parametrize("act", ["read", "write"])
async def test_a_newer_version_of_somebody_else_is_never_mixed_with_the_old_one(sim: SimWorkshop, act: str) -> None:
    new, seen = random.Random(2).randbytes(180_000), []
    await only_in_the_store(sim, OLD)
    await only_in_the_store(sim, new, b"other")
    async with sim.open() as vault:
        content, other = opened(vault), opened(vault, b"other")
        encoded = vault.sealed_content(other.st)
        await content._gather(5, 6)  # loads a chunk of the old version
        for container in vault.cache._known.values():
            container.drop_file()
        vault.records._opened.clear()

        async def use() -> None:
            if act == "write":
                await content.write(50_000, b"x" * 100_000, 1)
            seen.append(bytes(await content.read(0, 200_000)))

        async def supersede() -> None:
            vault.sealed_content = lambda _: encoded  # type: ignore[method-assign]
            vault.present_size = lambda _: len(new)  # type: ignore[method-assign]
            content.superseded()

        await in_this_order(Gate(vault), use, supersede)
        assert seen == [new if act == "read" else new[:50_000] + b"x" * 100_000 + new[150_000:]]
        content.changed = False  # there is no such version in the tree
        vault.release_file(content)
        vault.release_file(other)


# ---- one caller -----------------------------------------------------------------------------------------------------


async def test_a_write_that_fails_while_loading_changes_nothing_and_leaves_no_memory(sim: SimWorkshop) -> None:
    await only_in_the_store(sim, OLD)
    async with sim.open() as vault:
        content = opened(vault)
        await content.read(0, 10)  # the first chunk is in memory, the others are not
        for container in vault.cache._known.values():
            container.drop_file()
        sim.knobs.outage = lambda: StoreGone("away")
        with pytest.raises(StoreGone):
            await content.write(10, b"x" * 100_000, 1)
        sim.knobs.outage = None
        assert not content.dirty
        vault.release_file(content)
        assert vault.dirty_bytes == 0
        assert not vault.files
        assert await read_file(vault, b"f") == OLD


async def test_a_call_that_is_cancelled_while_loading_changes_nothing(sim: SimWorkshop) -> None:
    await only_in_the_store(sim, OLD)
    async with sim.open() as vault:
        content, gate = opened(vault), Gate(vault)
        for act in (
            lambda: content.write(10, b"x" * 100_000, 1),
            lambda: content.truncate(5, 1),
            lambda: content.read(0, 5),
        ):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(act)
                await wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()
        gate.open()
        assert bytes(await content.read(0, 300_000)) == OLD
        vault.release_file(content)
        assert vault.dirty_bytes == 0


async def test_too_far_a_write_is_refused_before_anything_is_taken_apart(sim: SimWorkshop) -> None:
    async with sim.open() as vault:
        content = vault.open_file(make_file(vault, b"f"))
        await content.write(0, b"kept", 1)
        content.hand_over_now()
        with pytest.raises(FsError, match="EFBIG"):
            await content.write((16 << 40) - 1, b"xx", 2)
        assert content.chunk_log2 == 16
        vault.release_file(content)
        await vault.sync()
        assert await read_file(vault, b"f") == b"kept"
        assert vault.dirty_bytes == 0


async def test_a_file_that_grows_enormous_gets_larger_chunks_and_keeps_its_bytes(sim: SimWorkshop) -> None:
    async with sim.open() as vault:
        content = vault.open_file(make_file(vault, b"f"))
        await content.write(0, OLD, 1)
        content.hand_over_now()
        await content.write(2 << 40, b"far out", 2)
        assert content.chunk_log2 > 16
        vault.release_file(content)
        await vault.sync()
    empty_cache(sim)
    async with sim.open() as vault:
        content = opened(vault)
        assert bytes(await content.read(0, 300_000)) == OLD.ljust(300_000, b"\0")
        assert bytes(await content.read(2 << 40, 100)) == b"far out"
        await content.write(5, b"again", 3)
        vault.release_file(content)
        await vault.sync()
        assert (await opened(vault).read(0, 12))[:] == OLD[:5] + b"again" + OLD[10:12]
        assert vault.dirty_bytes == 0


async def test_a_file_of_holes_can_be_written_after_a_restart(sim: SimWorkshop) -> None:
    for size in (0, 1000, 900 << 20):
        async with sim.open() as vault:
            st = await write_file(vault, b"f%d" % size, b"gone soon")
            content = vault.open_file(st)
            await content.truncate(0, 1)
            await content.truncate(size, 1)
            vault.release_file(content)
            await vault.sync()
        async with sim.open() as vault:
            await write_file(vault, b"f%d" % size, b"x", offset=10)
            await vault.sync()
        async with sim.open() as vault:
            content = opened(vault, b"f%d" % size)
            assert bytes(await content.read(0, 11)) == bytes(10) + b"x"
            assert content.size == max(size, 11)
            vault.release_file(content)


# ---- files without a name -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pending", [False, True])
async def test_what_is_written_to_a_removed_file_never_troubles_the_sealer(sim: SimWorkshop, pending: bool) -> None:
    await only_in_the_store(sim, b"0123456789")
    async with sim.open() as vault:
        content = opened(vault)
        if pending:
            await content.write(0, b"z" * 10, 2)
            content.hand_over_now()
        remove_file(vault, b"f")
        content.detached = True
        await content.write(10, b"q" * 100, 3)
        assert bytes(await content.read(0, 200)) == (b"z" * 10 if pending else b"0123456789") + b"q" * 100
        vault.release_file(content)
        await write_file(vault, b"g", b"another")
        with trio.fail_after(SECONDS):
            await vault.sync()
        assert not vault.files
        assert vault.dirty_bytes == 0


async def test_a_removed_file_stays_readable_after_its_pack_was_dropped(sim: SimWorkshop) -> None:
    async with sim.open() as vault:
        st = await write_file(vault, b"f", OLD)
        content = vault.open_file(st)
        remove_file(vault, b"f")
        content.detached = True
        await vault.sync()
        await write_file(vault, b"g", bytes(2 << 20))
        await vault.sync()
        assert bytes(await content.read(0, 300_000)) == OLD
        await content.write(0, b"still", 9)
        content.hand_over_now()
        assert bytes(await content.read(0, 300_000)) == b"still" + OLD[5:]
        vault.release_file(content)
        assert not vault.files
