"""T-ransom: a writer overwrites, deletes and renames everything; all is brought back, and nothing else touched."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from cryptfs.errors import NotAllowed, UsageError
from cryptfs.format.operation import KIND_DIR, RENAME_NOREPLACE, Create, Rename, Rmdir, Unlink, provisional_ino
from cryptfs.group.authority import Tier
from cryptfs.vault.undoing import Plan, Undoing
from cryptfs.vault.vault import Vault
from tests.vault.administration_world import Device, World

Tree = dict[bytes, bytes]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def grow(vault: Vault, tree: Tree) -> None:
    """Make files, and the folders they are in."""
    replica = vault.replica
    for path, text in tree.items():
        parent = 1
        *folders, name = path.split(b"/")
        for one in folders:
            there = replica.lookup(parent, one)
            if there is None:
                k = vault.submit(Create(replica.ino_of(parent), one, KIND_DIR, 0o755, 0, 0, 0, 1, b"", None))
                parent = replica.st_of(provisional_ino(k)) or 0
            else:
                parent = there.st
        if replica.lookup(parent, name) is None:
            vault.submit(Create(replica.ino_of(parent), name, 0, 0o644, 0, 0, 0, 1, b"", None))
        await write(vault, parent, name, text)
    await vault.sync(20)


async def write(vault: Vault, parent: int, name: bytes, text: bytes) -> None:
    entry = vault.replica.lookup(parent, name)
    assert entry is not None
    content = vault.open_file(entry.st)
    await content.truncate(0, 2_000)
    await content.write(0, text, 2_000)
    vault.release_file(content)


async def texts(vault: Vault) -> Tree:
    """Every file with its bytes."""
    found: Tree = {}
    for path, st in vault.replica.walk():
        node = vault.replica.node(st)
        assert node is not None
        if node.kind == KIND_DIR:
            continue
        content = vault.open_file(st)
        found[path.lstrip(b"/")] = bytes(await content.read(0, 1 << 20))
        vault.release_file(content)
    return found


def entry_at(vault: Vault, path: bytes) -> tuple[int, bytes]:
    parent = 1
    *folders, name = path.split(b"/")
    for one in folders:
        there = vault.replica.lookup(parent, one)
        assert there is not None
        parent = there.st
    return parent, name


def remove(vault: Vault, path: bytes) -> None:
    replica = vault.replica
    entry = replica.lookup(*entry_at(vault, path))
    assert entry is not None
    node = replica.node(entry.st)
    assert node is not None
    ino, lver = replica.ino_of(entry.st), replica.extern_ver(entry.lver)
    vault.submit(Rmdir(ino, lver) if entry.kind == KIND_DIR else Unlink(ino, lver, replica.extern_ver(node.cver)))


def rename(vault: Vault, path: bytes, to: bytes) -> None:
    replica = vault.replica
    entry = replica.lookup(*entry_at(vault, path))
    assert entry is not None
    parent, name = entry_at(vault, to)
    vault.submit(
        Rename(
            replica.ino_of(entry.st),
            replica.extern_ver(entry.lver),
            replica.ino_of(parent),
            name,
            None,
            RENAME_NOREPLACE,
        )  # as mv does
    )


BEFORE: Tree = {
    b"letters/anna": b"Dear Anna", b"letters/old/bob": b"Dear Bob", b"plan": b"the plan", b"photo": b"x" * 90_000,
    b"deep/er/file": b"deep",
}  # fmt: skip


async def overwrite_all(vault: Vault) -> None:
    for path in BEFORE:
        await write(vault, *entry_at(vault, path), b"ENCRYPTED, pay here")


async def overwrite_and_rename_all(vault: Vault) -> None:
    await overwrite_all(vault)
    for path in BEFORE:
        rename(vault, path, path + b".locked")
    rename(vault, b"letters", b"gone")


async def overwrite_and_delete_all(vault: Vault) -> None:
    await overwrite_all(vault)
    await vault.sync(20)
    await delete_all(vault)


async def delete_all(vault: Vault) -> None:
    for path in BEFORE:
        remove(vault, path)
    for path in (b"letters/old", b"letters", b"deep/er", b"deep"):
        remove(vault, path)


async def replace_by_locked_copies(vault: Vault) -> None:
    await delete_all(vault)
    for path in (b"plan", b"photo"):
        vault.submit(Create(vault.replica.ids.root_ino, path, 0, 0o644, 0, 0, 0, 1, b"", None))
        await write(vault, 1, path, b"locked")


Damage = Callable[[Vault], Awaitable[None]]


async def undo(device: Device, who: str, since_ms: int) -> Plan:
    async with device.open() as vault:
        undoing = Undoing(vault, who, since_ms)
        plan = await undoing.plan()
        await undoing.carry_out(plan)
        await vault.sync(20)
        return plan


@pytest.mark.parametrize(
    "damage",
    [overwrite_all, overwrite_and_rename_all, delete_all, overwrite_and_delete_all, replace_by_locked_copies],
)
async def test_ransom_everything_a_writer_destroyed_is_brought_back(world: World, damage: Damage) -> None:
    bob = await world.admit("Bob", Tier.WRITER)
    async with world.anna.open() as anna:
        await grow(anna, BEFORE)
    async with bob.open() as vault:
        since = vault.wall_ms()
        await damage(vault)
        await vault.sync(20)
        assert await texts(vault) != BEFORE
    plan = await undo(world.anna, "Bob", since)
    assert plan.repairs
    assert plan.left == []
    async with bob.open() as vault:  # whoever looks sees the same
        assert await texts(vault) == BEFORE


async def test_what_others_did_and_what_came_before_stays(world: World) -> None:
    bob = await world.admit("Bob", Tier.WRITER)
    async with bob.open() as vault:
        await grow(vault, {b"bobs": b"his own, from before", b"plan": b"first"})
        await grow(vault, {b"plan": b"second"})
    async with world.anna.open() as anna:
        await grow(anna, {b"annas": b"hers", b"mixed": b"hers, too"})
    async with bob.open() as vault:
        since = vault.wall_ms()
        for name in (b"bobs", b"plan", b"annas", b"mixed"):
            await write(vault, 1, name, b"bad")
        await grow(vault, {b"note": b"pay here"})
    async with world.anna.open() as anna:
        await grow(anna, {b"mixed": b"saved again by Anna"})
    plan = await undo(world.anna, "Bob/laptop", since)
    assert [(path, "since" in why) for path, why in plan.left] == [(b"mixed", True)]
    assert plan.made == 1
    async with world.anna.open() as anna:
        assert await texts(anna) == {
            b"bobs": b"his own, from before", b"plan": b"second", b"annas": b"hers", b"mixed": b"saved again by Anna",
            b"note": b"pay here",
        }  # fmt: skip


async def test_a_plan_changes_nothing_and_a_second_undoing_finds_nothing(world: World) -> None:
    bob = await world.admit("Bob", Tier.WRITER)
    async with world.anna.open() as anna:
        await grow(anna, BEFORE)
    async with bob.open() as vault:
        since = vault.wall_ms()
        await overwrite_and_rename_all(vault)
        await vault.sync(20)
        harmed = await texts(vault)
    async with world.anna.open() as anna:
        plan = await Undoing(anna, "Bob (laptop)", since).plan()
        assert {one.what for one in plan.repairs} == {"content", "move"}
        assert await texts(anna) == harmed
    await undo(world.anna, "Bob", since)
    async with world.anna.open() as anna:
        assert (await Undoing(anna, "Bob", since).plan()).repairs == []
        assert (await Undoing(anna, "Bob", since + 3_600_000).plan()).repairs == []
        with pytest.raises(UsageError, match="never anybody"):
            Undoing(anna, "Eve", since)


async def test_a_device_whose_clock_lies_later_is_followed_by_the_order_of_its_log(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    bob = await world.admit("Bob", Tier.WRITER)
    async with world.anna.open() as anna:
        await grow(anna, BEFORE)
    async with bob.open() as vault:
        since = vault.wall_ms()
        await write(vault, 1, b"plan", b"bad")
        await vault.sync(20)
        monkeypatch.setattr(vault, "wall_ms", lambda: 1_000)
        await write(vault, 1, b"photo", b"bad")
        await vault.sync(20)
    await undo(world.anna, "Bob", since)
    async with world.anna.open() as anna:
        assert await texts(anna) == BEFORE


async def test_a_reader_undoes_nothing(world: World) -> None:
    bob = await world.admit("Bob", Tier.WRITER)
    rita = await world.admit("Rita", Tier.READER)
    async with bob.open() as vault:
        await grow(vault, {b"f": b"good"})
        since = vault.wall_ms()
        await grow(vault, {b"f": b"bad"})
    async with rita.open() as vault:
        undoing = Undoing(vault, "Bob", since)
        plan = await undoing.plan()
        assert len(plan.repairs) == 1
        with pytest.raises(NotAllowed):
            await undoing.carry_out(plan)
