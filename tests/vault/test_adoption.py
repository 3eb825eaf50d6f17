"""Packs change hands: of who is out, of logs that have ended, and where the store's accounts own what they made."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from cryptfs.errors import Denied
from cryptfs.format.content import WHERE_PACK
from cryptfs.format.operation import Adopted, Where
from cryptfs.group.authority import Tier
from cryptfs.store import Call, SimStore, SimWorld
from cryptfs.vault import administration as do
from cryptfs.vault.opening import open_vault
from cryptfs.vault.people import choose
from cryptfs.vault.saying import say_in_log
from cryptfs.vault.vault import Vault, VaultOptions
from tests.vault.administration_world import Device, World
from tests.vault.vault_workshop import read_file, remove_file, write_file

pytestmark = pytest.mark.usefixtures("still")

BIG = random.Random(5).randbytes(3 << 20)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def packs_in(folder: Path) -> set[str]:
    return {path.name for path in (folder / "p").iterdir()} if (folder / "p").exists() else set()


def holder_of(vault: Vault, pack: str) -> str:
    row = vault.replica.rows.container(WHERE_PACK, bytes.fromhex(pack))
    assert row is not None
    return vault.membership.name_of_log(row.holder)


async def put_out(vault: Vault, who: str) -> None:
    chosen = choose(vault.membership, who)
    await do.remove(vault, [one.id for one in chosen.entries], [chosen.member])


async def bob_writes(world: World, bob: Device) -> str:
    """One pack that Bob holds; its name."""
    async with bob.open() as vault:
        await write_file(vault, b"his", BIG)
        await vault.sync()
    (pack,) = packs_in(world.folder)
    return pack


async def test_packs_of_a_removed_member_are_taken_over_and_deleted_once_nobody_uses_them(world: World) -> None:
    bob = await world.admit("Bob", Tier.WRITER)
    pack = await bob_writes(world, bob)
    async with world.anna.open() as vault:
        await vault.exchange.pull()
        await put_out(vault, "Bob")
        done = await vault.collector.run(now=True)
        assert holder_of(vault, pack) == "Anna (desk)"
        assert not done.deleted
        remove_file(vault, b"his")
        await vault.sync()
        done = await vault.collector.run(now=True, history=True)
        assert done.deleted == 1
    assert packs_in(world.folder) == set()


async def test_any_writer_takes_over_from_a_log_that_has_ended_and_everybody_sees_it(world: World) -> None:
    bob = await world.admit("Bob", Tier.WRITER)
    carol = await world.admit("Carol", Tier.WRITER)
    pack = await bob_writes(world, bob)
    async with carol.open() as vault:
        await vault.exchange.pull()
        his = [one for one in vault.adopter.held() if one.name.startswith("Bob")]
        assert [(one.packs, one.may) for one in his] == [(1, False)]
        await say_in_log(vault, [Adopted((Where(WHERE_PACK, bytes.fromhex(pack)),))])
        assert holder_of(vault, pack) == "Bob (laptop)", "not before he is out"
    async with world.anna.open() as vault:
        await vault.exchange.pull()
        await put_out(vault, "Bob")
    async with carol.open() as vault:
        await vault.exchange.pull()
        his = [one for one in vault.adopter.held() if one.name.startswith("Bob")]
        assert [(one.over, one.may) for one in his] == [(True, True)]
        assert (await vault.adopter.adopt([his[0].log])).packs == 1
        assert holder_of(vault, pack) == "Carol (laptop)"
    async with world.anna.open() as vault:
        await vault.exchange.pull()
        assert holder_of(vault, pack) == "Carol (laptop)"


async def test_packs_of_an_earlier_log_of_this_device_go_on_with_it(world: World) -> None:
    """A device with another role writes another log."""
    bob = await world.admit("Bob", Tier.WRITER)
    pack = await bob_writes(world, bob)
    async with world.anna.open() as vault:
        await vault.exchange.pull()
        await do.change_role(vault, [one.id for one in choose(vault.membership, "Bob").entries], Tier.ADMIN)
    async with bob.open() as vault:
        await vault.exchange.pull()
        await vault.collector.run(now=True)
        row = vault.replica.rows.container(WHERE_PACK, bytes.fromhex(pack))
        assert row is not None
        assert row.holder == vault.standing.log_id


class Accounts:
    """The same group on a store where everybody has an account, and owns what he made."""

    def __init__(self, world: World) -> None:
        self.sim = SimWorld()
        self.sim.owners = {}
        for path in sorted(world.folder.rglob("*")):
            key = path.relative_to(world.folder).as_posix()
            if path.is_file() and not key.startswith("."):
                SimStore(self.sim, 0, account="Anna").put(key, path.read_bytes(), Call())

    @asynccontextmanager
    async def open(self, device: Device, *, custodian: bool = False) -> AsyncIterator[Vault]:
        store = SimStore(self.sim, 1, account=device.name)
        options = replace(VaultOptions(), custodian=custodian)
        async with open_vault(device.home, device.keys, store, options) as vault:
            yield vault

    def packs(self) -> dict[str, set[str]]:
        """Which accounts have each pack."""
        owners = self.sim.owners or {}
        return {
            stat.key: {owners[stat.key], *self.sim.twins.get(stat.key, set())} for stat in self.sim.list("p/", Call())
        }

    def close_account(self, name: str) -> None:
        """All that it owns is gone."""
        store = SimStore(self.sim, 2, account=name)
        for stat in list(self.sim.list("", Call())):
            try:
                store.delete(stat.key, Call())
            except Denied:
                continue


async def test_owner_of_a_pack_may_leave_with_his_account_once_it_was_taken_over(world: World) -> None:
    """T-owner: Bob is put out, his packs are copied first and adopted then, and his account is closed."""
    bob = await world.admit("Bob", Tier.WRITER)
    accounts = Accounts(world)
    async with accounts.open(bob) as vault:
        await write_file(vault, b"his", BIG)
        await vault.sync()
    async with accounts.open(world.anna) as vault:
        await vault.exchange.pull()
        await put_out(vault, "Bob")
        (his,) = [one for one in vault.adopter.held() if one.over]
        done = await vault.adopter.adopt([his.log])
        assert (done.packs, done.copied, done.left) == (1, 1, {})
    assert list(accounts.packs().values()) == [{"Anna", "Bob"}]
    # His log segments and statements are Anna's in a shared folder of hers only if she is a custodian, see below.
    for key, owner in list((accounts.sim.owners or {}).items()):
        if owner == "Bob" and not key.startswith("p/"):
            accounts.sim.owners[key] = "Anna"  # type: ignore[index]
    accounts.close_account("Bob")
    for path in world.anna.home.cached_packs_dir.iterdir():
        path.unlink()
    async with accounts.open(world.anna) as vault:
        assert await read_file(vault, b"his") == BIG


async def test_owner_deletes_his_copy_only_when_the_word_counts_and_the_other_copy_is_there(world: World) -> None:
    """T-owner: nothing is deleted on a promise."""
    bob = await world.admit("Bob", Tier.WRITER)
    accounts = Accounts(world)
    async with accounts.open(bob) as vault:
        await write_file(vault, b"his", BIG)
        await vault.sync()
        async with accounts.open(world.anna) as hers:
            await hers.exchange.pull()
            await hers.adopter.adopt([vault.standing.log_id])
        assert await vault.adopter.let_go() == 0, "he has not heard of it"
        await vault.exchange.pull()
        (pack,) = accounts.packs()
        accounts.sim.twins[pack].clear()
        assert await vault.adopter.let_go() == 0, "her copy is gone"
        accounts.sim.twins[pack].add("Anna")
        assert await vault.adopter.let_go() == 1
        assert accounts.packs() == {pack: {"Anna"}}
        assert await read_file(vault, b"his") == BIG


async def test_writer_who_copies_packs_beside_their_owners_makes_nobody_delete_the_originals(world: World) -> None:
    """Whoever may write to the folder can do that, and delete his copies afterwards. Bob has two devices."""
    laptop = await world.admit("Bob", Tier.WRITER)
    async with world.anna.open() as vault:
        (bob,) = [one.member for one in vault.membership.resolved.roster.values() if one.display == "Bob"]
    phone = await world.admit("Bob", Tier.WRITER, member=bob)
    accounts = Accounts(world)
    async with accounts.open(laptop) as vault:
        await write_file(vault, b"his", BIG)
        await vault.sync()
    (pack,) = accounts.packs()
    accounts.sim.twins.setdefault(pack, set()).add("Mallory")
    for device in (phone, laptop):
        async with accounts.open(device) as vault:
            await vault.exchange.pull()
            await vault.adopter.keep()
            assert accounts.packs() == {pack: {"Bob", "Mallory"}}


async def test_custodian_has_everything_that_is_a_day_old_in_his_account(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    bob = await world.admit("Bob", Tier.WRITER)
    accounts = Accounts(world)
    async with accounts.open(bob) as vault:
        await write_file(vault, b"his", BIG)
        await vault.sync()
    async with accounts.open(world.anna, custodian=True) as vault:
        await vault.exchange.pull()
        made = vault.wall_ms()

        async def dates(prefix: str) -> dict[str, int]:
            return dict.fromkeys(await vault.sender.list(prefix), made)

        monkeypatch.setattr(vault.sender, "dates", dates)
        assert (await vault.adopter.keep()).copied == 0, "it may be on its way to being deleted again"
        monkeypatch.setattr(vault, "wall_ms", lambda: made + 2 * 86_400_000)
        done = await vault.adopter.keep()
        assert done.packs == 1
    accounts.close_account("Bob")
    assert list(accounts.packs().values()) == [{"Anna"}]
    async with accounts.open(world.anna) as vault:
        assert await read_file(vault, b"his") == BIG
        assert vault.trust.words == ""


async def test_a_store_that_refuses_a_copy_keeps_the_pack_with_its_holder(world: World) -> None:
    bob = await world.admit("Bob", Tier.WRITER)
    accounts = Accounts(world)
    async with accounts.open(bob) as vault:
        await write_file(vault, b"his", BIG)
        await vault.sync()
        his = vault.standing.log_id
    async with accounts.open(world.anna) as vault:
        await vault.exchange.pull()
        store = vault.sender.store
        assert isinstance(store, SimStore)

        def refuse(key: str, call: Call) -> bool:
            raise Denied(f"{key} cannot be copied")

        store.take_over = refuse  # type: ignore[method-assign]
        done = await vault.adopter.adopt([his])
        assert (done.packs, len(done.left)) == (0, 1)
        (pack,) = accounts.packs()
        assert holder_of(vault, pack.removeprefix("p/")).startswith("Bob")
