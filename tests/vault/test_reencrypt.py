"""Re-encryption: afterwards nothing alive opens with keys from before, nothing is lost, and nobody notices."""

import random
from pathlib import Path

import pytest
import trio

from cryptfs.format.codec import decode
from cryptfs.format.content import Content, Paged
from cryptfs.group.authority import Tier
from cryptfs.vault import administration as do
from cryptfs.vault.content import FileContent
from cryptfs.vault.oldkeys import old_bytes, survey
from cryptfs.vault.pace import Pace
from cryptfs.vault.people import choose
from cryptfs.vault.reencrypt import Outcome, Reencryption, asked_for
from cryptfs.vault.stored import StoredContent
from cryptfs.vault.vault import Vault
from tests.vault.administration_world import Device, World
from tests.vault.vault_workshop import make_file, read_file, remove_file, write_file

MIB = 1 << 20


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def reencrypt(vault: Vault, path: bytes = b"", top: int | None = None) -> Outcome:
    async def seen(_more: int) -> None:
        await trio.lowlevel.checkpoint()

    return await Reencryption(vault, top, path, Pace(), seen).run()


def st_of(vault: Vault, name: bytes) -> int:
    entry = vault.replica.lookup(1, name)
    assert entry is not None
    return entry.st


async def cut(vault: Vault, name: bytes, size: int) -> None:
    content = vault.open_file(st_of(vault, name))
    await content.truncate(size, 5)
    vault.release_file(content)


async def filled(vault: Vault) -> dict[bytes, bytes]:
    """Files of every shape, with old versions and a deleted one; returns what they hold."""
    rng = random.Random(7)
    holds = {b"small": b"s" * 100, b"middle": rng.randbytes(300_000), b"big": rng.randbytes(20 * MIB)}
    for name, data in holds.items():
        await write_file(vault, name, data)
    await write_file(vault, b"sparse", b"at the end", offset=900 * MIB)
    await write_file(vault, b"gone", rng.randbytes(70_000))
    make_file(vault, b"empty")
    await vault.sync()
    await write_file(vault, b"big", b"patched", offset=7 * MIB)
    await write_file(vault, b"small", b"S")
    await vault.sync()
    remove_file(vault, b"gone")
    await vault.sync()
    big = bytearray(holds[b"big"])
    big[7 * MIB : 7 * MIB + 7] = b"patched"
    return holds | {b"big": bytes(big), b"small": b"S" + b"s" * 99, b"empty": b""}


async def all_old(vault: Vault) -> int:
    return (await survey(vault, None, Pace())).versions


async def check_holds(vault: Vault, holds: dict[bytes, bytes]) -> None:
    for name, data in holds.items():
        assert await read_file(vault, name) == data, name
    content = vault.open_file(st_of(vault, b"sparse"))
    assert content.size == 900 * MIB + 10
    assert bytes(await content.read(900 * MIB - 5, 20)) == bytes(5) + b"at the end"
    vault.release_file(content)


async def test_afterwards_no_version_of_any_file_uses_an_old_key_and_all_is_as_it_was(world: World) -> None:
    async with world.anna.open() as vault:
        holds = await filled(vault)
        before = {name: vault.replica.node(st) for name, st, _ in vault.replica.entries(1)}
        await do.rotate(vault)
        assert await all_old(vault) > 6
        outcome = await reencrypt(vault)
        assert outcome.complete
        assert await all_old(vault) == 0
        assert asked_for(vault) is None
        assert {name: vault.replica.node(st) for name, st, _ in vault.replica.entries(1)} == before
        await check_holds(vault, holds)
    async with world.anna.open() as vault:
        await check_holds(vault, holds)
    other = world.device("Anna again")
    await other.ask(await world.invite(Tier.WRITER))
    await world.approve("Anna again")
    async with other.open() as vault:
        await check_holds(vault, holds)
        assert await all_old(vault) == 0
