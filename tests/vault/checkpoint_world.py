"""A group that has a checkpoint, and the means to make others of it that are not right."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from cryptfs.crypto.keys import KeyLabel
from cryptfs.format.checkpoint import read_tables
from cryptfs.format.checkpoint_making import State, build_checkpoint
from cryptfs.format.names import checkpoint_name
from cryptfs.group.authority import Tier
from cryptfs.vault.checkpoints import StoredCheckpoint, newest_first, read_head
from cryptfs.vault.vault import Vault
from tests.vault.administration_world import Device, World
from tests.vault.vault_workshop import write_file


async def work(vault: Vault, names: Iterable[str]) -> None:
    for name in names:
        await write_file(vault, name.encode(), name.encode() * 100)
    await vault.sync()


async def heard(*vaults: Vault) -> None:
    """Everybody hears of everything, and everybody says so."""
    for _ in range(2):
        for vault in vaults:
            await vault.exchange.pull()
            await vault.introduce()
    for vault in vaults:
        await vault.exchange.pull()


async def agreed(*vaults: Vault) -> None:
    """Everybody has looked at the checkpoints, and has said what was found."""
    for vault in vaults:
        await vault.exchange.pull()
        await vault.checkpointing.look()
        await vault.introduce()
    for vault in vaults:
        await vault.exchange.pull()
        await vault.checkpointing.look()


async def newest(vault: Vault) -> StoredCheckpoint:
    """The newest checkpoint in the folder."""
    name, size = (await newest_first(vault.sender, vault.membership))[0]
    return await read_head(vault.sender, vault.membership, name, size)


def rows_of(vault: Vault, folder: Path, one: StoredCheckpoint) -> dict[int, list[bytes]]:
    """All rows of a checkpoint by table."""
    meta_key = vault.keyring.key(KeyLabel.META, one.raw.ks)
    tables: dict[int, list[bytes]] = {ref.table: [] for ref in one.head.tables}
    for table, row in read_tables(one.raw, one.head, meta_key, (folder / one.name).read_bytes()):
        tables[table].append(row)
    return tables


def forge(
    vault: Vault, folder: Path, one: StoredCheckpoint, author: Device, *,
    tables: Mapping[int, list[bytes]] | None = None, stamp: int | None = None, **changed: object,
) -> Path:  # fmt: skip
    """Another checkpoint in the folder, like `one` but for what is given, signed by `author`.

    Without another stamp it takes the place of `one`.
    """
    head = one.head
    state = State(
        one.stamp if stamp is None else stamp, head.rules, head.mheads, head.heads, head.prev, head.ext,
        tables=tables if tables is not None else rows_of(vault, folder, one),
    )  # fmt: skip
    if stamp is None:
        (folder / one.name).unlink(missing_ok=True)
    entry = author_entry(vault, author)
    data, digest = build_checkpoint(
        vault=vault.vault_id, ks=one.raw.ks, author=entry, meta_key=vault.keyring.key(KeyLabel.META, one.raw.ks),
        state=replace(state, **changed), client="cryptfs", sign_seed=author.keys.sign_seed,  # type: ignore[arg-type]
    )  # fmt: skip
    path = folder / checkpoint_name(state.stamp, entry, digest)
    path.write_bytes(data)
    return path


def author_entry(vault: Vault, device: Device) -> bytes:
    """The entry of a device, also of one that is out by now."""
    return next(one.entry for one in vault.membership.graph.entries() if one.sign_pub == device.keys.sign_public)


async def with_checkpoint(base: Path, *writers: str) -> tuple[World, list[Device]]:
    """Anna, who owns the vault, and these writers; all have acknowledged what she wrote, and she made a checkpoint."""
    world = World(base)
    others = [await world.admit(name, Tier.WRITER) for name in writers]
    async with world.anna.open() as anna:
        await work(anna, ["one", "two", "three"])
        for device in others:
            async with device.open() as other:
                await other.introduce()
        await anna.exchange.pull()
        await anna.introduce()
        for device in others:
            async with device.open() as other:
                await other.introduce()
        await anna.exchange.pull()
        assert await anna.checkpointing.make() is not None
    return world, others
