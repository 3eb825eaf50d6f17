"""Revocation, proven without the product's key handling (docs/membership.md, "What removing somebody promises").

The ex-member keeps its keys and gets every object there ever was; `reference_reader.py` tries all it has or can derive
on every sealed piece, pooled with another ex-member where there are two. Each test shows first that the same reader
opens everything from before the removal, and everything at all with a member's key.
"""

import random

import pytest
import trio

from cryptfs.format.names import root_inode
from cryptfs.format.operation import KIND_DIR, KIND_SYMLINK, Create, Rename, SetXattr
from cryptfs.group import membership
from cryptfs.group.authority import Tier
from cryptfs.group.gate import Gate
from cryptfs.vault import administration as do
from cryptfs.vault.people import choose
from cryptfs.vault.reconciling import keep_reconciled
from cryptfs.vault.vault import Vault
from tests.patience import SECONDS
from tests.vault.administration_world import Device, World
from tests.vault.reference_reader import Head, Piece, Reader
from tests.vault.vault_workshop import read_file, write_file

MIB = 1 << 20
NEW_WORDS = (b"chunk written later", b"small words later", b"paged chunk later", b"name later", b"value later",
             b"directory later", b"target later", b"whole file later", b"attribute later")  # fmt: skip


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def store_of(world: World) -> dict[str, bytes]:
    folder = world.folder
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def key_of(*people: Device) -> list[tuple[bytes, bytes]]:
    return [(who.keys.cert_key_pkcs8, who.keys.cert_der) for who in people]


async def write_before(device: Device) -> None:
    """Files of every form: inline in a segment, in packs, of many pages."""
    async with device.open() as vault:
        rng = random.Random(1)
        await write_file(vault, b"small", b"small words before")
        await write_file(vault, b"chunks", rng.randbytes(300_000))
        await write_file(vault, b"paged", rng.randbytes(9 * MIB))
        await write_file(vault, b"renamed", b"kept words")
        await vault.sync()


async def write_after(device: Device) -> None:
    """Every way in which an old file changes, and new things."""
    chunk, small, paged, name, value, directory, target, whole, attribute = NEW_WORDS
    async with device.open() as vault:
        await write_file(vault, b"chunks", chunk, 140_000)
        await write_file(vault, b"small", small, 6)
        await write_file(vault, b"paged", paged, 5 * MIB)
        await write_file(vault, b"new", whole * 9_000)
        await write_file(vault, b"new and paged", whole + random.Random(2).randbytes(9 * MIB))
        replica, root = vault.replica, root_inode(vault.vault_id)
        entry = replica.lookup(1, b"renamed")
        ino = replica.ino_of(entry.st)
        vault.submit(Rename(ino, replica.extern_ver(entry.lver), root, name, None, 0))
        vault.submit(SetXattr(ino, b"user." + attribute, value))
        vault.submit(Create(root, directory, KIND_DIR, 0o755, 1, 1, 0, 1, b"", None))
        vault.submit(Create(root, b"link", KIND_SYMLINK, 0o777, 1, 1, 0, 1, target, None))
        await vault.sync()


def compare(world: World, before: dict[str, bytes], out: list[Device], member: Device) -> tuple[Reader, list[Piece]]:
    """What those who are out open of the whole store; and all pieces that only the time after has."""
    whole = Reader(world.vault, before | store_of(world), key_of(member))
    assert whole.unread() == {}, "the reference reader has overlooked something"
    assert set(whole.opened) == set(whole.pieces)
    assert all(whole.reads(word) for word in NEW_WORDS)
    old = Reader(world.vault, before, key_of(member))
    exes = Reader(world.vault, whole.objects, key_of(*out), told=whole.pieces)
    assert set(old.pieces) <= set(exes.opened), "it must open all there was before, or it proves nothing"
    assert exes.reads(b"small words before")
    return exes, [piece for piece in whole.pieces if piece not in old.pieces]


def assert_opens_nothing_of(exes: Reader, later: list[Piece]) -> None:
    kinds = {piece.kind for piece in later}
    assert kinds >= {"segment", "chunk", "box", "index", "manifest", "hist"}, kinds
    assert [piece for piece in later if piece in exes.opened] == []
    assert not any(exes.reads(word) for word in NEW_WORDS)


async def remove(who: Device, name: str) -> None:
    async with who.open() as vault:
        chosen = choose(vault.membership, name)
        await do.remove(vault, [one.id for one in chosen.entries], [chosen.member] if chosen.whole else [])


@pytest.mark.parametrize("role", [Tier.READER, Tier.WRITER, Tier.ADMIN, Tier.OWNER], ids=lambda role: role.name)
async def test_exmember_with_all_its_keys_and_the_whole_store_opens_nothing_later(world: World, role: Tier) -> None:
    """T-exmember."""
    bob = await world.admit("Bob", role)
    await write_before(world.anna)
    if role >= Tier.WRITER:
        async with bob.open() as vault:
            await write_file(vault, b"his", b"by Bob")
            await vault.sync()
    before = store_of(world)
    await remove(world.anna, "Bob")
    await write_after(world.anna)
    exes, later = compare(world, before, [bob], world.anna)
    assert_opens_nothing_of(exes, later)


async def test_exmember_learns_nothing_by_later_members_and_keys(world: World) -> None:
    """Rotations, admissions and role changes after the removal open no way back."""
    bob = await world.admit("Bob", Tier.ADMIN)
    await write_before(world.anna)
    before = store_of(world)
    await remove(world.anna, "Bob")
    dora = await world.admit("Dora", Tier.WRITER)
    async with world.anna.open() as vault:
        await do.rotate(vault)
    await write_after(dora)
    exes, later = compare(world, before, [bob], world.anna)
    assert_opens_nothing_of(exes, later)
    assert_opens_nothing_of(compare(world, before, [bob], dora)[0], later)  # who came later reads all of it


async def _removed_at_once(world: World) -> tuple[Device, Device, Device]:
    """Anna removes Bob while Carl removes Eve: each of the two knows one half of the key that follows from both."""
    carl = await world.admit("Carl", Tier.ADMIN)
    bob, eve = await world.admit("Bob", Tier.WRITER), await world.admit("Eve", Tier.WRITER)
    return carl, bob, eve


async def _remove_both(hers: Vault, his: Vault) -> None:
    decisions = [
        do.desk_of(vault).remove([one.id for one in choose(vault.membership, who).entries], [], do.ends_of(vault))
        for vault, who in ((hers, "Bob"), (his, "Eve"))
    ]
    for decision in decisions:
        await do.publish(hers.sender, decision.objects)
    await hers.exchange.pull()
    await his.exchange.pull()


async def test_collude_removed_at_once_by_two_administrators_open_nothing_later(world: World) -> None:
    """T-collude-removed, with real keys on a real store: the mount's own rotation, then writing."""
    carl, bob, eve = await _removed_at_once(world)
    await write_before(world.anna)
    async with world.anna.open() as hers, carl.open() as his:
        await hers.exchange.pull()
        await his.exchange.pull()
        await _remove_both(hers, his)
        before = store_of(world)  # with each half of the key, and nothing written under it yet
        assert not hers.membership.gate.open
        with trio.fail_after(SECONDS):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(keep_reconciled, hers, trio.Lock(), (0.0, 0.0))
                while not hers.membership.gate.open:
                    await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
    await write_after(carl)
    exes, later = compare(world, before, [bob, eve], world.anna)
    assert_opens_nothing_of(exes, later)


async def test_collude_removed_at_once_would_open_it_without_the_gate(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proof is one because it fails here: pooled, the two have the merged key; each alone has not."""
    carl, bob, eve = await _removed_at_once(world)
    await write_before(world.anna)
    before = store_of(world)
    monkeypatch.setattr(membership, "key_gate", lambda *_: Gate(open=True))
    async with world.anna.open() as hers, carl.open() as his:
        await hers.exchange.pull()
        await his.exchange.pull()
        await _remove_both(hers, his)
        assert len(hers.membership.resolved.epochs) == 2
    await write_after(carl)
    exes, later = compare(world, before, [bob, eve], world.anna)
    with pytest.raises(AssertionError):
        assert_opens_nothing_of(exes, later)
    assert exes.reads(NEW_WORDS[0])
    for alone in (bob, eve):
        assert not compare(world, before, [alone], world.anna)[0].reads(NEW_WORDS[0])


async def test_what_is_left_of_old_files_stays_readable_and_only_that(world: World) -> None:
    """The promise has two halves (docs/membership.md): unchanged chunks of a file that changed are still theirs."""
    bob = await world.admit("Bob", Tier.WRITER)
    await write_before(world.anna)
    before = store_of(world)
    await remove(world.anna, "Bob")
    await write_after(world.anna)
    exes, _ = compare(world, before, [bob], world.anna)
    async with world.anna.open() as vault:
        data = await read_file(vault, b"chunks")
    untouched, changed = data[:65536], data[2 * 65536 : 3 * 65536]
    assert exes.reads(untouched)
    assert not exes.reads(changed)


async def test_a_pack_begun_before_the_removal_tells_its_names_under_the_key_from_after(world: World) -> None:
    """An index has paths; a pack that is filled for a while must not be closed under the key it was begun under."""
    bob = await world.admit("Bob", Tier.WRITER)
    async with world.anna.open() as vault:
        before = store_of(world)
        await write_file(vault, b"begun before", random.Random(1).randbytes(3 * MIB))
        chosen = choose(vault.membership, "Bob")
        await do.remove(vault, [one.id for one in chosen.entries], [chosen.member])
        await vault.sync()
        ks = vault.keyring.write_keyset
    packs = [Head(data) for name, data in store_of(world).items() if name.startswith("p/") and name not in before]
    assert packs
    assert {head.ks for head in packs} == {ks}
    exes = Reader(world.vault, before | store_of(world), key_of(bob))
    assert not exes.reads(b"begun before")
