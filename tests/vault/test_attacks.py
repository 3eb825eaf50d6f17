"""Attacks that once worked: a store, or a malicious member with the store's help, against one open vault."""

import errno
import hashlib
import os
from collections.abc import Callable

import msgspec
import pytest
import trio
import trio.testing

from cryptfs.crypto.keys import chunk_ctx
from cryptfs.crypto.seal import seal
from cryptfs.errors import ConfigError, CryptfsError, HostileStore, Invalid
from cryptfs.format import manifest as records
from cryptfs.format.codec import encode
from cryptfs.format.content import FileKeyBox, Hole, Loc, Page, Root, Run
from cryptfs.format.limits import SEGMENT_MAX, U32_MAX
from cryptfs.store import SimStore
from cryptfs.store.base import Call
from cryptfs.vault.records import locate
from cryptfs.vault.vault import Vault
from tests.vault.vault_faults import SimWorkshop, cached_packs, empty_cache, forget_everything
from tests.vault.vault_workshop import Workshop, read_file, write_file

pytestmark = pytest.mark.usefixtures("still")

MIB = 1 << 20
CHUNK = 1 << 16


async def written(sim: SimWorkshop, **files: bytes) -> None:
    async with sim.open() as vault:
        for name, data in files.items():
            await write_file(vault, name.encode(), data)
            await vault.sync()


def claims_newer_ciphers(data: bytes) -> bytes:
    """The object with a suite that no version knows: one byte that nothing protects before the signature."""
    return data[:8] + b"\x07" + data[9:]


# ---- the store alone ------------------------------------------------------------------------------------------------


async def test_downgrade_a_segment_that_claims_newer_ciphers_stops_nothing_else(sim: SimWorkshop) -> None:
    await written(sim, a=b"1", b=b"2")
    last = max(sim.names("l"), key=lambda name: name.split("-")[1])
    twin = last[:-4] + ("beef" if not last.endswith("beef") else "cafe")
    sim.world.plant(twin, claims_newer_ciphers(sim.world.snapshot()[last]))
    for _ in range(2):  # beside what is here already, and on the way to it
        async with sim.open() as vault:
            await vault.exchange.pull()
            assert not vault.read_only
            assert await read_file(vault, b"b") == b"2"
        forget_everything(sim)


async def test_fork_one_segment_under_two_names_is_no_proof_that_its_device_exists_twice(sim: SimWorkshop) -> None:
    """Found by the simulation of whole vaults, seed 208: the folder could have any device called a fork."""
    await written(sim, a=b"1", b=b"2")
    for name in sim.names("l"):
        twin = name[:-4] + ("beef" if not name.endswith("beef") else "cafe")
        sim.world.plant(twin, sim.world.snapshot()[name])
    for _ in range(2):  # beside what is here already, and on the way to it
        async with sim.open() as vault:
            await vault.exchange.pull()
            assert not vault.standing.logs.forked()
            assert not vault.read_only
            assert await read_file(vault, b"b") == b"2"
        forget_everything(sim)


async def test_caps_no_log_object_is_read_beyond_what_a_segment_can_have(
    sim: SimWorkshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    await written(sim, a=b"1" * 1000)
    last = sim.names("l")[-1]
    sim.world.plant(last[:-4] + "beef", b"x" * 1000)
    asked: list[int | None] = []
    plain_get = SimStore.get

    def get(store: SimStore, key: str, call: Call, start: int = 0, length: int | None = None) -> bytes:
        if key.startswith("l/"):
            asked.append(length)
        return plain_get(store, key, call, start, length)

    monkeypatch.setattr(SimStore, "get", get)
    empty_cache(sim)
    async with sim.open() as vault:  # a twin
        assert await read_file(vault, b"a") == b"1" * 1000  # records in a segment
    forget_everything(sim)
    async with sim.open():  # the logs anew
        pass
    assert len(asked) >= 3
    assert all(length is not None and length <= SEGMENT_MAX + 1 for length in asked)


async def test_poison_objects_under_the_next_name_are_read_once_and_hold_nothing_up(sim: SimWorkshop) -> None:
    await written(sim, a=b"1", b=b"2")
    last = max(sim.names("l"), key=lambda name: name.split("-")[1])
    honest = sim.world.snapshot()[last]
    sim.world.lose(last)
    for number in range(100):
        sim.world.plant(f"{last[:-4]}{number:04x}", b"junk")
    forget_everything(sim)
    async with sim.open() as vault:
        before = vault.sender.gets
        await vault.exchange.pull()
        assert vault.sender.gets - before < 20
        sim.world.plant(last, honest)
        await vault.exchange.pull()
        assert await read_file(vault, b"b") == b"2"


# ---- a member and the store together --------------------------------------------------------------------------------


async def test_reader_forge_a_record_is_not_replaced_after_it_was_compared_once(sim: SimWorkshop) -> None:
    """Who has the file key seals other bytes for the place; only the hash in the signed operation is in the way."""
    async with sim.open() as vault:
        await write_file(vault, b"good", b"g" * MIB)
        await write_file(vault, b"other", b"o" * MIB)
        await vault.sync()
    empty_cache(sim)
    async with sim.open() as vault:
        refs = {}
        for name in (b"good", b"other"):
            entry = vault.replica.lookup(1, name)
            assert entry is not None
            content = vault.open_file(entry.st)
            await content.load_all()
            ref = content.map.get(0)
            assert ref is not None
            refs[name] = ref
            if name == b"good":
                ctx = chunk_ctx(vault.vault_id, content.fid, ref.fkv, 0, CHUNK, 0)
                forged = seal(content.lineage.key(ref.fkv), ctx, b"f" * CHUNK)
        pack = locate(refs[b"good"])[0]
        assert pack is locate(refs[b"other"])[0]
        key = next(name for name in sim.names("p") if pack.id.hex() in name)
        data = bytearray(sim.world.snapshot()[key])
        data[refs[b"other"].off] ^= 1
        sim.world.plant(key, bytes(data))
        assert await read_file(vault, b"good") == b"g" * MIB
        off = refs[b"good"].off
        data[off : off + len(forged)] = forged
        sim.world.plant(key, bytes(data))
        with pytest.raises(HostileStore):
            await read_file(vault, b"other")  # asks for the pack again, and keeps nothing of what comes
        vault.records._opened.clear()
        assert await read_file(vault, b"good") == b"g" * MIB
        (copy,) = (path for path in cached_packs(sim) if path.stem == pack.id.hex())
        copy.write_bytes(data)
        vault.records._opened.clear()
        with pytest.raises(HostileStore):
            await read_file(vault, b"good")


async def test_splice_an_opened_chunk_is_not_shown_where_another_file_claims_its_record(sim: SimWorkshop) -> None:
    """A malicious writer signs the hash and the place of a record that belongs elsewhere."""
    await written(sim, f=b"1" * 100)
    async with sim.open() as vault:
        await read_file(vault, b"f")
        entry = vault.replica.lookup(1, b"f")
        assert entry is not None
        content = vault.open_file(entry.st)
        await content.load_all()
        ref = content.map.get(0)
        assert ref is not None
        key, records = content.lineage.key(ref.fkv), vault.records
        assert records.opened(content.fid, 0, ref, 100) == b"1" * 100
        for fid, index, length in ((bytes(16), 0, 100), (content.fid, 1, 100), (content.fid, 0, 99)):
            assert not records.open_chunk_into(fid, index, ref, key, memoryview(bytearray(length)))
            assert records.opened(fid, index, ref, length) is None
            assert records.open_chunk_here(fid, index, ref, key, length) is None
            with pytest.raises(HostileStore):
                await records.fetch_chunk(fid, index, ref, key, length)


Twist = Callable[[Page | Root], Page | Root]


def _twist_page(span: Run | Hole) -> Twist:
    return lambda one: Page(1, (span,)) if isinstance(one, Page) else one


LONG = Run(1 << 40, 0, 0, Loc(1, bytes(32), 0), b"")
HOSTILE: dict[str, Twist] = {
    "records without number": _twist_page(LONG),
    "hashes cut off": _twist_page(Run(4096, 0, 0, Loc(1, bytes(32), 0), b"x" * 31)),
    "holes without number": _twist_page(Hole(1 << 62)),
    "an offset beyond any file": _twist_page(Run(1, 0, 0, Loc(1, bytes(32), (1 << 64) - 1), bytes(32))),
    "pages missing": lambda one: msgspec.structs.replace(one, pages=()) if isinstance(one, Root) else one,
    "pages without number": lambda one: (
        msgspec.structs.replace(one, pages=one.pages * 1000) if isinstance(one, Root) else one
    ),
}


@pytest.mark.parametrize("how", HOSTILE)
async def test_caps_a_hostile_manifest_is_an_error_and_costs_nothing(
    sim: SimWorkshop, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """A malicious writer signs whatever it likes and checks nothing; the hash of its manifest fits."""

    def twisted(value: object) -> bytes:
        return encode(HOSTILE[how](value) if isinstance(value, Page | Root) else value)

    with monkeypatch.context() as writer:
        writer.setattr(records, "encode", twisted)
        for rule in "check_root", "check_page":
            writer.setattr(records, rule, lambda *_: None)
        await written(sim, big=b"b" * (10 * MIB), small=b"s")
    empty_cache(sim)
    async with sim.open() as vault:
        with pytest.raises(Invalid):
            await read_file(vault, b"big")
        assert await read_file(vault, b"small") == b"s"
        with pytest.raises(Invalid):
            await write_file(vault, b"big", b"x", 5)
        await write_file(vault, b"small", b"t")
        await vault.sync()


async def test_caps_a_file_whose_key_versions_are_used_up_refuses_a_write_before_it_changes(sim: SimWorkshop) -> None:
    await written(sim, f=b"1")
    async with sim.open() as vault:
        entry = vault.replica.lookup(1, b"f")
        assert entry is not None
        content = vault.open_file(entry.st)
        await content.load_keys()
        content.lineage.learn_boxes((FileKeyBox(U32_MAX, hashlib.sha256(b"old").digest()[:16], bytes(104)),))
        with pytest.raises(CryptfsError):
            await content.write(0, b"2", 1)
        with pytest.raises(CryptfsError):
            await content.truncate(0, 1)
        assert not content.changed
        vault.release_file(content)
        assert await usable(vault)


async def usable(vault: Vault) -> bool:
    await write_file(vault, b"new", b"n")
    await vault.sync()
    return await read_file(vault, b"new") == b"n"


# ---- this machine ---------------------------------------------------------------------------------------------------


async def test_a_disk_that_does_not_tell_its_space_ends_no_background_task(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    async with workshop.open() as vault, trio.open_nursery() as nursery:

        def failing(directory: object) -> None:
            raise OSError(errno.EIO, "broken")

        monkeypatch.setattr(os, "statvfs", failing)
        nursery.start_soon(vault.upkeep._commit_regularly)
        await trio.sleep(5)
        await write_file(vault, b"f", b"1")
        await trio.sleep(5)
        assert not vault.journal.dirty
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("how", ["open to all", "a link"])
async def test_a_socket_directory_that_others_may_write_to_is_refused(workshop: Workshop, how: str) -> None:
    """With a shared /tmp in its place another user could answer for the mount."""
    run = workshop.home.runtime_dir
    run.parent.mkdir(parents=True)
    if how == "a link":
        (workshop.base / "elsewhere").mkdir()
        run.symlink_to(workshop.base / "elsewhere")
    else:
        run.mkdir()
        run.chmod(0o777)
    with pytest.raises(ConfigError, match="Other users"):
        async with workshop.open():
            pass
