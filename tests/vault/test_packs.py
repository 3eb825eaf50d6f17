"""Packs: what is in one, that moves are followed, and that closing one can fail anywhere and be repeated."""

import errno
import hashlib
import random

import pytest
import trio

from cryptfs.crypto.keys import KeyLabel, chunk_ctx
from cryptfs.crypto.seal import open_sealed
from cryptfs.errors import LocalDisk
from cryptfs.format.content import FileKeyBox
from cryptfs.format.pack import RECORD_CHUNK, RECORD_PAGE, RECORD_ROOT, PackIndex, open_index, parse_pack_header
from cryptfs.vault.containers import OpenPack
from cryptfs.vault.vault import Vault
from tests.vault.vault_faults import SimWorkshop, dying, empty_cache, failing, local_packs, use_faults
from tests.vault.vault_workshop import make_file, read_file, remove_file, write_file

pytestmark = pytest.mark.usefixtures("still")

MIB = 1 << 20
CHUNK = 1 << 16


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def the_pack(vault: Vault) -> OpenPack:
    """The one pack that is not confirmed."""
    (pack,) = vault.records.local.values()
    return pack


def index_of(vault: Vault, data: bytes) -> PackIndex:
    """The index as somebody reads it who has nothing but the object and the keys of the group."""
    header = parse_pack_header(data[:304], len(data), vault.vault_id)
    return open_index(vault.keyring.key(KeyLabel.PACK, header.ks), header, data[header.index_at :])


def salvaged(vault: Vault, data: bytes) -> dict[bytes, bytes]:
    """Files by the path that the pack remembers, made of its chunks alone."""
    index = index_of(vault, data)
    keys = {(key.fid, key.fkv): vault.keyring.open_file_key(FileKeyBox(key.fkv, key.ks, key.box), key.fid)
            for key in index.keys}  # fmt: skip
    files: dict[bytes, dict[int, bytes]] = {}
    for rec in index.recs:
        record = data[rec.off : rec.off + rec.len]
        assert hashlib.sha256(record).digest() == rec.hash
        if rec.type == RECORD_CHUNK:
            ctx = chunk_ctx(vault.vault_id, rec.fid, rec.fkv, rec.first_chunk, rec.plain_len, rec.codec)
            path = next(hint.path for hint in index.hints if hint.fid == rec.fid)
            files.setdefault(path, {})[rec.first_chunk] = open_sealed(keys[rec.fid, rec.fkv], ctx, record)
    return {path: b"".join(chunks[index] for index in sorted(chunks)) for path, chunks in files.items()}


# ---- what is in a pack ----------------------------------------------------------------------------------------------


async def test_files_can_be_salvaged_from_a_pack_alone(sim: SimWorkshop) -> None:
    async with sim.open() as vault:
        for number in range(3):
            await write_file(vault, b"f%d" % number, noise(700_000, number))
        await vault.sync()
        (key,) = sim.names("p")
        assert salvaged(vault, sim.world.snapshot()[key]) == {b"f%d" % n: noise(700_000, n) for n in range(3)}


async def test_dead_records_are_left_out_and_what_moved_is_found(sim: SimWorkshop) -> None:
    async with sim.open() as vault:
        await write_file(vault, b"a", noise(MIB))
        await write_file(vault, b"b", noise(MIB, 1))
        await write_file(vault, b"gone", noise(MIB, 9))
        await write_file(vault, b"a", noise(2 * CHUNK, 2), offset=CHUNK)
        remove_file(vault, b"gone")
        wanted = noise(MIB)[:CHUNK] + noise(2 * CHUNK, 2) + noise(MIB)[3 * CHUNK :]
        pack = the_pack(vault)
        content = vault.files.get(pack.records[0].holder.st)  # type: ignore[attr-defined]
        assert content is not None
        before = content.map.get(0)
        await vault.sync()
        (key,) = sim.names("p")
        data = sim.world.snapshot()[key]
        index = index_of(vault, data)
        assert len(index.recs) == 2 * MIB // CHUNK
        assert len(data) < 2 * MIB + 20_000
        assert salvaged(vault, data) == {b"a": wanted, b"b": noise(MIB, 1)}
        assert await read_file(vault, b"a") == wanted
        assert before is not None
        assert vault.records.record_here(before, CHUNK) is not None  # by its old place
        assert not local_packs(sim)
    empty_cache(sim)
    async with sim.open() as vault:
        assert await read_file(vault, b"a") == wanted


async def test_what_nobody_wants_any_more_becomes_no_object(sim: SimWorkshop) -> None:
    async with sim.open() as vault:
        await write_file(vault, b"f", noise(3 * MIB))
        remove_file(vault, b"f")
        await vault.sync()
        assert not sim.names("p")
        assert not vault.records.local
        assert not local_packs(sim)


async def test_bytes_that_no_journal_knows_are_left_out_after_a_crash(sim: SimWorkshop) -> None:
    async with dying(sim) as vault:
        await write_file(vault, b"f", noise(2 * MIB))
        await vault.commit()
        await write_file(vault, b"lost", noise(2 * MIB, 1))
        the_pack(vault).flush()
    async with sim.open() as vault:
        await vault.sync()
        (key,) = sim.names("p")
        data = sim.world.snapshot()[key]
        assert salvaged(vault, data) == {b"f": noise(2 * MIB)}
        assert len(data) < 2 * MIB + 20_000


async def test_a_big_pack_with_few_dead_bytes_is_sent_as_it_is(sim: SimWorkshop) -> None:
    async with sim.open() as vault:
        content = vault.open_file(make_file(vault, b"f"))
        await content.write(0, noise(30 * MIB), 1)
        await content.write(20 * MIB, noise(CHUNK, 1), 2)
        vault.release_file(content)
        await vault.commit()
        big = max(vault.records.local.values(), key=lambda pack: pack.size)
        await vault.packer.confirm(big)
        assert not big.moved
        assert big.id.hex() in {name.rpartition("/")[2] for name in sim.names("p")}
        await vault.sync()
        assert (
            await read_file(vault, b"f")
            == noise(30 * MIB)[: 20 * MIB] + noise(CHUNK, 1) + noise(30 * MIB)[20 * MIB + CHUNK :]
        )


async def test_a_pack_of_manifests_says_what_they_are(sim: SimWorkshop) -> None:
    async with sim.open() as vault:
        content = vault.open_file(make_file(vault, b"f"))
        for place in range(60):
            await content.write(place << 30, noise(3 * CHUNK, place), 1)
        vault.release_file(content)
        await vault.sync()
        kinds = [
            {rec.type for rec in index_of(vault, data).recs}
            for key, data in sim.world.snapshot().items()
            if key.startswith("p/")
        ]
        assert {RECORD_CHUNK} in kinds
        assert any(kind and kind <= {RECORD_PAGE, RECORD_ROOT} for kind in kinds)


# ---- closing and sending --------------------------------------------------------------------------------------------


async def test_a_pack_that_many_want_is_closed_and_sent_once(sim: SimWorkshop) -> None:
    async with sim.open() as vault:
        await write_file(vault, b"f", noise(MIB))
        pack = the_pack(vault)
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(vault.packer.confirm, pack)
        await vault.packer.confirm(pack)
        assert len(sim.names("p")) == 1
        assert vault.packer.sent_packs == 1
        assert not vault.packer._locks
        await vault.sync()
        assert len(sim.names("p")) == 1
        assert await read_file(vault, b"f") == noise(MIB)


@pytest.mark.parametrize("dead", [False, True])
@pytest.mark.parametrize("step", ["pack.finish", "pack.fsync", "journal.write", "journal.fsync"])
async def test_closing_that_fails_anywhere_can_be_repeated(sim: SimWorkshop, step: str, dead: bool) -> None:
    async with sim.open() as vault:
        await write_file(vault, b"f", noise(MIB))
        if dead:
            await write_file(vault, b"f", noise(CHUNK, 1))
        await vault.commit()
        use_faults(vault, failing(step, errno.EIO))
        with pytest.raises(LocalDisk):
            await vault.packer.confirm(the_pack(vault))
        wanted = noise(CHUNK, 1) + noise(MIB)[CHUNK:] if dead else noise(MIB)
        assert await read_file(vault, b"f") == wanted
        await vault.sync()
        assert not vault.records.local
    async with sim.open() as vault:
        assert await read_file(vault, b"f") == wanted
        assert not local_packs(sim)


async def test_a_pack_whose_flush_failed_is_written_anew_before_it_counts(
    sim: SimWorkshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with dying(sim) as vault:
        await write_file(vault, b"f", noise(MIB))
        pack = the_pack(vault)
        assert pack.path is not None
        old = pack.path.stat().st_ino if pack.path.exists() else 0

        def failing_sync(_: int) -> None:
            raise OSError(errno.EIO, "planted")

        with monkeypatch.context() as patch:
            patch.setattr("os.fdatasync", failing_sync)
            with pytest.raises(LocalDisk):
                await vault.commit()
        await vault.commit()
        assert pack.path.stat().st_ino != old
        await write_file(vault, b"f", noise(300_000, 1), offset=MIB)  # goes on in the new file
        await vault.commit()
    async with sim.open() as vault:
        assert await read_file(vault, b"f") == noise(MIB) + noise(300_000, 1)
        await vault.sync()


# ---- keys -----------------------------------------------------------------------------------------------------------


async def test_after_the_keys_of_the_vault_changed_a_file_gets_a_new_key(sim: SimWorkshop) -> None:
    async with sim.open() as vault:
        st = await write_file(vault, b"f", noise(3 * CHUNK))
        await vault.sync()
        content = vault.open_file(st)
        content.ensure_loaded()
        first = content.lineage.newest
        content.lineage.key(first)
        box = content.lineage._boxes[first]
        content.lineage._boxes[first] = FileKeyBox(box.fkv, b"k" * 16, box.box)  # as if sealed under older keys
        await content.write(10, b"under the new key", 1)
        content.hand_over_now()
        assert content.lineage.newest == first + 1
        content.lineage._boxes[first] = box
        vault.release_file(content)
        await vault.sync()
        wanted = bytearray(noise(3 * CHUNK))
        wanted[10:27] = b"under the new key"
        assert await read_file(vault, b"f") == wanted
    empty_cache(sim)
    async with sim.open() as vault:
        assert await read_file(vault, b"f") == wanted
        content = vault.open_file(st)
        content.ensure_loaded()
        refs = [content.map.get(index) for index in range(3)]
        assert [ref.fkv - first for ref in refs if ref is not None] == [1, 0, 0]
        vault.release_file(content)
