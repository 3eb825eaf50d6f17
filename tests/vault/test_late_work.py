"""What arrives after the end of a log is kept and listed, counts once accepted, and is sent again by its device."""

from pathlib import Path

import pytest

from cryptfs.errors import NotAllowed, UsageError
from cryptfs.group.authority import Tier
from cryptfs.vault.administration import change_role, remove
from cryptfs.vault.latework import accept, close_log, discard, late_work, log_of
from cryptfs.vault.people import describe
from cryptfs.vault.unsent import read_whole, unsent_files
from cryptfs.vault.vault import Vault
from tests.vault.administration_world import Device, World
from tests.vault.vault_faults import state_of
from tests.vault.vault_workshop import read_file, write_file


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def entry_of(vault: Vault, name: str) -> bytes:
    return next(one.id for one in vault.membership.resolved.roster.values() if one.display == name)


async def written(device: Device, name: bytes, data: bytes) -> None:
    async with device.open() as vault:
        await write_file(vault, name, data)
        await vault.sync()


async def removed_with_late_work(world: World) -> tuple[Device, Device]:
    """Bob and Carol; Bob wrote `late`, which reached Carol and the folder only after Anna had removed him."""
    bob, carol = await world.admit("Bob", Tier.WRITER), await world.admit("Carol", Tier.WRITER)
    await written(bob, b"early", b"e")
    async with world.anna.open() as vault:
        await vault.sync()
    before = {path for path in world.folder.rglob("*") if path.is_file()}
    await written(bob, b"late", b"l" * 70_000)
    hidden = {path: path.read_bytes() for path in world.folder.rglob("*") if path.is_file() and path not in before}
    for path in hidden:
        path.unlink()
    async with world.anna.open() as vault:
        await remove(vault, [entry_of(vault, "Bob")], [])
    for path, data in hidden.items():
        path.write_bytes(data)
    return bob, carol


async def test_late_work_of_a_removed_device_is_listed_and_counts_once_accepted(world: World) -> None:
    _, carol = await removed_with_late_work(world)
    async with carol.open() as vault:
        assert [name for name, _, _ in vault.replica.entries(1)] == [b"early"]
    async with world.anna.open() as vault:
        (late,) = await late_work(vault)
        assert (late.changes, late.paths, late.again) == (1, ("late",), False)
        assert "removed by Anna" in late.why
        assert vault.replica.lookup(1, b"late") is None
        assert await accept(vault, late.log) == 1
        assert await read_file(vault, b"late") == b"l" * 70_000
        assert not await late_work(vault)
        mine = state_of(vault)
    async with carol.open() as vault:
        await vault.exchange.pull()
        assert state_of(vault)["dirent"] == mine["dirent"]
        assert await read_file(vault, b"late") == b"l" * 70_000


async def test_late_work_that_was_discarded_is_listed_no_more_and_has_no_effect(world: World) -> None:
    await removed_with_late_work(world)
    async with world.anna.open() as vault:
        (late,) = await late_work(vault)
        assert await discard(vault, late.log) == 1
    async with world.anna.open() as vault:
        assert not await late_work(vault)
        assert vault.replica.lookup(1, b"late") is None


async def test_late_work_is_found_by_whom_it_is_and_by_the_id_of_its_log(world: World) -> None:
    await removed_with_late_work(world)
    async with world.anna.open() as vault:
        (late,) = await late_work(vault)
        label = late.who.removeprefix("Bob (").removesuffix(")")
        for word in (late.log.hex()[:8], late.who, "Bob", f"Bob/{label}"):
            assert log_of(vault, word) == late.log
        with pytest.raises(UsageError):
            log_of(vault, "Carol")


async def test_a_writer_can_neither_accept_nor_close(world: World) -> None:
    _, carol = await removed_with_late_work(world)
    async with carol.open() as vault:
        (late,) = await late_work(vault)
        with pytest.raises(NotAllowed):
            await accept(vault, late.log)
        with pytest.raises(NotAllowed):
            await close_log(vault, entry_of(vault, "Anna"), lost=False)
    async with world.anna.open() as vault:
        with pytest.raises(UsageError):
            await accept(vault, vault.standing.log_id)


async def test_a_suspended_device_that_returns_sends_everything_again(world: World) -> None:
    bob = await world.admit("Bob", Tier.WRITER)
    await written(bob, b"early", b"e")
    async with world.anna.open() as vault:
        await vault.sync()
        assert await close_log(vault, entry_of(vault, "Bob"), lost=False) == 1
    async with bob.open() as vault:
        await write_file(vault, b"back", b"b" * 100)
        await vault.sync()
        assert vault.standing.log.next_seq == 1
    async with world.anna.open() as vault:
        await vault.exchange.pull()
        assert await read_file(vault, b"back") == b"b" * 100
        assert await read_file(vault, b"early") == b"e"


async def test_nobody_closes_the_log_he_writes_and_decides_nothing_once_it_is_closed(world: World) -> None:
    """Found by the simulation of whole vaults, seed 1015: what was decided then no segment ever told."""
    carl = await world.admit("Carl", Tier.ADMIN)
    bob = await world.admit("Bob", Tier.WRITER)
    async with world.anna.open() as anna, carl.open() as his:
        with pytest.raises(NotAllowed, match="the log that it writes"):
            await close_log(anna, entry_of(anna, "Anna"), lost=False)
        await his.exchange.pull()
        statements = len(anna.membership.graph)
        await close_log(anna, entry_of(anna, "Carl"), lost=False)
        with pytest.raises(NotAllowed, match="closed by Anna"):
            await change_role(his, [entry_of(his, "Bob")], Tier.ADMIN)
        await anna.exchange.pull()
        assert len(anna.membership.graph) == statements + 1
    async with carl.open() as his, bob.open() as here:
        (changed,) = await change_role(his, [entry_of(his, "Bob")], Tier.READER)
        await here.exchange.pull()
        assert changed.entry in here.membership.resolved.roster


async def test_who_closes_the_log_of_somebody_else_is_not_shown_as_having_left(world: World) -> None:
    await world.admit("Bob", Tier.WRITER)
    async with world.anna.open() as vault:
        await close_log(vault, entry_of(vault, "Bob"), lost=False)
        assert [row["left"] for row in describe(vault.membership, {}, vault.certificates.findings())] == [False, False]


async def test_work_that_arrives_after_a_close_is_sent_again_by_its_device(world: World) -> None:
    bob = await world.admit("Bob", Tier.WRITER)
    await written(bob, b"early", b"e")
    async with world.anna.open() as vault:
        await vault.sync()
    before = {path for path in world.folder.rglob("*") if path.is_file()}
    await written(bob, b"late", b"l" * 500)
    hidden = {path: path.read_bytes() for path in world.folder.rglob("*") if path.is_file() and path not in before}
    for path in hidden:
        path.unlink()
    async with world.anna.open() as vault:
        await close_log(vault, entry_of(vault, "Bob"), lost=False)
    for path, data in hidden.items():
        path.write_bytes(data)
    async with bob.open() as vault:
        await vault.sync()
        assert await read_file(vault, b"late") == b"l" * 500
    async with world.anna.open() as vault:
        await vault.exchange.pull()
        assert await read_file(vault, b"late") == b"l" * 500
        (late,) = await late_work(vault)
        assert late.again


async def test_a_removed_device_can_read_its_unsent_files_for_export(world: World) -> None:
    bob = await world.admit("Bob", Tier.WRITER)
    await written(bob, b"early", b"e")
    async with bob.open() as vault:
        vault.sender.give_up()
        await write_file(vault, b"unsent", b"u" * 70_000)
        await vault.commit()
        async with world.anna.open() as other:
            await other.sync()
            await remove(other, [entry_of(other, "Bob")], [])
    async with bob.open() as vault:
        assert vault.read_only
        ((path, st),) = unsent_files(vault)
        assert path == b"unsent"
        assert b"".join([piece async for piece in read_whole(vault, st)]) == b"u" * 70_000
