"""Members, ex-members and the store against collection: what others use stays, and nobody outside holds it up."""

import hashlib
import random
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from cryptfs.crypto.keys import KeyLabel, chunk_ctx
from cryptfs.crypto.seal import seal, sealed_len
from cryptfs.errors import HostileStore
from cryptfs.format.content import WHERE_PACK, Content, Inline, Loc, MRef, Paged, Root, Run
from cryptfs.format.manifest import seal_root
from cryptfs.format.names import root_inode
from cryptfs.format.operation import KIND_FILE, Create, Range, Relocate, Retire, Where
from cryptfs.format.pack import PACK_SHARED
from cryptfs.format.segment_body import PackRef
from cryptfs.group.authority import Tier
from cryptfs.vault import administration as do
from cryptfs.vault import rescue
from cryptfs.vault.oldkeys import content_of
from cryptfs.vault.people import choose
from cryptfs.vault.stored import StoredContent
from cryptfs.vault.vault import Vault, VaultOptions
from tests.vault.administration_world import Device, World
from tests.vault.test_forgers import Forgery
from tests.vault.vault_workshop import read_file, remove_file, write_file

pytestmark = pytest.mark.usefixtures("still")

MIB = 1 << 20


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def noise(seed: int, length: int) -> bytes:
    return random.Random(seed).randbytes(length)


def plant_pack(folder: Path, data: bytes) -> bytes:
    """An object under the name of a pack; returns its id."""
    digest = hashlib.sha256(data).digest()
    (folder / "p").mkdir(exist_ok=True)
    (folder / "p" / digest.hex()).write_bytes(data)
    return digest


async def names_pages_of(seen: Vault, victim: bytes, folder: Path, fid: bytes) -> tuple[Create, PackRef]:
    """A file with a manifest of its own that claims the pages of another file."""
    entry = seen.replica.lookup(1, victim)
    assert entry is not None
    (version,) = seen.replica.versions(entry.st)
    true, ks = content_of(version), seen.keyring.write_keyset
    stored = StoredContent(seen, version.st, true.size)
    stored.take_version(true)
    await stored.load_page(stored.map.base, -1)
    assert stored.map.base.root is not None
    false = msgspec.structs.replace(true, fid=fid)
    root = Root(1, (), stored.map.base.root.pages)
    record = seal_root(seen.keyring.key(KeyLabel.META, ks), seen.vault_id, ks, false, root)
    pack = plant_pack(folder, record)
    mref = MRef(ks, Loc(WHERE_PACK, pack, 0), len(record), hashlib.sha256(record).digest())
    false = msgspec.structs.replace(false, keys=(), body=Paged(mref, ()))
    op = Create(root_inode(seen.vault_id), b"forged", KIND_FILE, 0o644, 1, 1, 0, 1, b"", false)
    return op, PackRef(pack, len(record), PACK_SHARED)


async def test_writer_who_claims_the_pages_of_a_file_does_not_have_them_deleted(world: World) -> None:
    """The page does not open for his file, which says nothing about the file it belongs to."""
    writers = [await world.admit(name, Tier.WRITER) for name in ("Bob", "Carol")]
    body = noise(1, 12 * MIB)
    async with world.anna.open() as anna:
        await write_file(anna, b"big", body)
        await anna.sync()
        for writer in writers:  # the contents are looked at in the order of their logs: one of them comes first
            await _forge(writer, b"big", world.folder)
        await anna.exchange.pull()
        done = await anna.collector.run(now=True)
        assert (done.retired, done.deleted) == (0, 0)
        assert await read_file(anna, b"big") == body


async def _forge(writer: Device, victim: bytes, folder: Path) -> None:
    async with writer.open() as his:
        await his.exchange.pull()
        op, pack = await names_pages_of(his, victim, folder, bytes(15) + b"\7")
        forgery = Forgery.of(his, his.standing.log_id, writer.keys.sign_seed)
        forgery.but(ops=(op,), packs=(pack,)).plant(folder)


async def test_ex_member_who_names_keys_of_nobody_holds_nothing_up(world: World) -> None:
    bob = await world.admit("Bob", Tier.WRITER)
    async with world.anna.open() as anna:
        async with bob.open() as his:
            await write_file(his, b"b", b"b")
            await his.sync()
            await anna.exchange.pull()
            ref = MRef(bytes(15) + b"\1", Loc(WHERE_PACK, bytes(31) + b"\1", 0), 100, bytes(31) + b"\2")
            false = Content(bytes(15) + b"\7", 12 * MIB, 16, b"", (), Paged(ref, ()))
            op = Create(root_inode(his.vault_id), b"forged", KIND_FILE, 0o644, 1, 1, 0, 1, b"", false)
            late = Forgery.of(his, his.standing.log_id, bob.keys.sign_seed).but(ops=(op,))
        await write_file(anna, b"gone", noise(1, 2 * MIB))
        await anna.sync()
        await do.remove(anna, [one.id for one in choose(anna.membership, "Bob").entries], [])
        late.plant(world.folder)
        remove_file(anna, b"gone")
        await anna.sync()
        assert anna.reader.late
        done = await anna.collector.run(now=True, history=True)
        assert not done.held_back
        assert done.deleted == 1


async def test_writer_who_moves_a_record_to_an_older_one_changes_no_content(world: World) -> None:
    """Old and new record of a chunk open under one key and context: only the hash tells them apart."""
    bob = await world.admit("Bob", Tier.WRITER)
    carol = await world.admit("Carol", Tier.WRITER)
    async with bob.open() as his:
        st = await write_file(his, b"f", b"1" * MIB)
        await his.sync()
        old = run_of(his, st)
        await write_file(his, b"f", b"2" * MIB)
        await his.sync()
        new = run_of(his, st)
        assert old.where == new.where == WHERE_PACK
        assert old.id != new.id
        op = Relocate(WHERE_PACK, new.id, WHERE_PACK, old.id, (Range(new.off, old.off, 16 * sealed_len(1 << 16)),))
        forgery = Forgery.of(his, his.standing.log_id, bob.keys.sign_seed)
        forgery.but(ops=(op,)).plant(world.folder)
    async with carol.open() as hers:  # and the true record is where it was
        assert hers.replica.uses.moves()
        assert await read_file(hers, b"f") == b"2" * MIB


def run_of(vault: Vault, st: int) -> Loc:
    """Where the chunks of the present version lie, as the version says."""
    version = next(one for one in vault.replica.versions(st) if one.present)
    true = content_of(version)
    assert isinstance(true.body, Inline)
    (run,) = true.body.spans
    assert isinstance(run, Run)
    return run.loc


async def test_writer_whose_clock_is_far_ahead_does_not_keep_all_history_for_ever(world: World) -> None:
    bob = await world.admit("Bob", Tier.WRITER)
    async with world.anna.open() as anna:
        await write_file(anna, b"f", b"1")
        await anna.sync()
        async with bob.open() as his:
            await his.exchange.pull()
            first = Forgery.of(his, his.standing.log_id, bob.keys.sign_seed)
            first.but(ops=(), wall_ms=1 << 60).plant(world.folder)
        await anna.exchange.pull()
        await write_file(anna, b"f", b"2")
        await anna.sync()
        async with bob.open() as his:  # and Bob has seen it: S is above it
            await his.exchange.pull()
            await his.acknowledging.now()
        anna.options = VaultOptions(history_s=-3600)  # as if an hour had passed since the last segment
        anna.upkeep.open_for = lambda: float("inf")  # type: ignore[method-assign]
        assert (await anna.collector.run(now=True)).expired >= 0
        assert await read_file(anna, b"f") == b"2"


async def test_writer_who_names_a_hash_for_other_bytes_puts_them_into_no_other_file(world: World) -> None:
    """What was opened once is kept by its hash; so that is compared first, however sure the place is."""
    bob = await world.admit("Bob", Tier.WRITER)
    async with world.anna.open() as anna:
        await write_file(anna, b"f", b"honest" * 100_000)
        await anna.sync()
        async with bob.open() as his:
            await his.exchange.pull()
            op, pack = names_hashes_of(his, b"f", world.folder)
            forgery = Forgery.of(his, his.standing.log_id, bob.keys.sign_seed)
            forgery.but(ops=(op,), packs=(pack,)).plant(world.folder)
    carol = await world.admit("Carol", Tier.WRITER)
    async with carol.open() as hers:
        trap = hers.replica.lookup(1, b"forged")
        assert trap is not None
        opened = hers.open_file(trap.st)
        for _ in range(2):
            with suppress(HostileStore):
                await opened.read(5, 10)
        hers.release_file(opened)
        entry = hers.replica.lookup(1, b"f")
        assert entry is not None
        honest = hers.open_file(entry.st)
        assert bytes(await honest.read(6, 6)) == b"honest"
        hers.release_file(honest)


def names_hashes_of(seen: Vault, victim: bytes, folder: Path) -> tuple[Create, PackRef]:
    """A file that says it has the chunks of another, and names a place where others lie, sealed under the same key."""
    entry = seen.replica.lookup(1, victim)
    assert entry is not None
    (version,) = seen.replica.versions(entry.st)
    true = content_of(version)
    assert isinstance(true.body, Inline)
    (run,) = true.body.spans
    assert isinstance(run, Run)
    fk, sealed = seen.keyring.open_file_key(true.keys[0], true.fid), b""
    for index in range(run.count):
        plain = b"evil!!" * 20_000
        plain = plain[: min(1 << 16, true.size - (index << 16))]
        sealed += seal(fk, chunk_ctx(seen.vault_id, true.fid, run.fkv, index, len(plain), 0), plain)
    pack = plant_pack(folder, sealed)
    false = msgspec.structs.replace(run, loc=Loc(WHERE_PACK, pack, 0))
    content = msgspec.structs.replace(true, body=Inline((false,)))
    op = Create(root_inode(seen.vault_id), b"forged", KIND_FILE, 0o644, 1, 1, 0, 1, b"", content)
    return op, PackRef(pack, len(sealed), PACK_SHARED)


async def test_writer_who_retires_a_pack_that_never_was_stalls_nobody_for_ever(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    bob = await world.admit("Bob", Tier.WRITER)
    carol = await world.admit("Carol", Tier.WRITER)
    async with world.anna.open() as anna:
        await write_file(anna, b"f", b"honest" * 100_000)
        await anna.sync()
    async with carol.open() as hers, bob.open() as his:
        await his.exchange.pull()
        op, pack = names_hashes_of(his, b"f", world.folder)
        (world.folder / "p" / pack.id.hex()).unlink()
        forged = Forgery.of(his, his.standing.log_id, bob.keys.sign_seed)
        forged.but(ops=(op,), packs=(pack,)).plant(world.folder)
        await hers.exchange.pull()
        trap = hers.replica.lookup(1, b"forged")
        assert trap is not None
        content = hers.open_file(trap.st)
        await content.write(0, b"x" * 65536, 1)  # the rest of the trap is kept
        hers.release_file(content)
        await write_file(hers, b"other", b"mine")
        await his.exchange.pull()
        retiring = Forgery.of(his, forged.log_id, forged.seed)
        retiring.but(ops=(Retire((Where(WHERE_PACK, pack.id),)),)).plant(world.folder)
        await hers.exchange.pull()
        with pytest.raises(HostileStore):
            await hers.sealer.seal()  # the folder may only lag
        monkeypatch.setattr(rescue, "_PATIENCE", 0.0)
        assert await hers.sealer.seal()
        await his.exchange.pull()
        assert await read_file(his, b"other") == b"mine"
