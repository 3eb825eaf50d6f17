"""Checkpoints of whole vaults: made, vouched for, begun from; and the floor that follows."""

from pathlib import Path

import pytest

from cryptfs.group.authority import Tier
from cryptfs.vault.checkpointing import is_due
from cryptfs.vault.checkpoints import Ground
from cryptfs.vault.starting import Beginning
from tests.vault.administration_world import World
from tests.vault.checkpoint_world import agreed, heard, work
from tests.vault.vault_faults import state_of, still
from tests.vault.vault_workshop import read_file, remove_file, write_file

__all__ = ["still"]

pytestmark = pytest.mark.usefixtures("still")


async def test_a_new_device_begins_from_a_checkpoint_and_has_what_replaying_gives(tmp_path: Path) -> None:
    world = World(tmp_path)
    bob_device = await world.admit("Bob", Tier.WRITER)
    async with world.anna.open() as anna, bob_device.open() as bob:
        await work(anna, ["one", "two", "three"])
        await write_file(anna, b"two", b"again")
        remove_file(anna, b"three")
        await anna.sync()
        await bob.exchange.pull()
        await work(bob, ["four"])
        await heard(anna, bob)
        made = await anna.checkpointing.make()
        assert made is not None
        await work(bob, ["five"])
        await anna.exchange.pull()
        await anna.sync()
    carol_device = await world.admit("Carol", Tier.WRITER)
    async with carol_device.open() as carol, bob_device.open() as bob:
        began = Beginning.of(carol)
        assert began is not None
        assert (began.name, began.ground) == (made.name, Ground.OWNER.name)
        assert not carol.read_only
        await bob.exchange.pull()
        assert state_of(carol) == state_of(bob)
        assert await read_file(carol, b"two") == b"again" + (b"two" * 100)[5:]
        await work(carol, ["six"])
        await bob.exchange.pull()
        assert await read_file(bob, b"six") == b"six" * 100
        assert state_of(carol) == state_of(bob)
    async with carol_device.open() as carol:
        assert await read_file(carol, b"five") == b"five" * 100
        assert not carol.trust.alarms
        assert not carol.reader.problems


async def test_when_everybody_has_found_the_same_root_the_floor_rises(tmp_path: Path) -> None:
    world = World(tmp_path)
    bob_device = await world.admit("Bob", Tier.WRITER)
    async with world.anna.open() as anna, bob_device.open() as bob:
        await work(anna, ["one"])
        await heard(anna, bob)
        assert anna.horizon.floor().stamp == -1
        made = await anna.checkpointing.make()
        assert made is not None
        await agreed(bob)
        await anna.exchange.pull()
        assert anna.horizon.floor().stamp == -1  # its maker has not said so yet
        assert anna.checkpointing.words_for()["waiting_for"] == ["Anna (desk)"]
        await agreed(anna, bob)
        for vault in (anna, bob):
            assert (vault.horizon.floor().stamp, vault.horizon.floor().root) == (made.stamp, made.root)
            assert vault.reader.settled.stamp == made.stamp
            assert vault.replica.applied.floor() == made.stamp
            assert not vault.checkpointing.owes
            assert not vault.checkpointing.words_for()["waiting_for"]


def test_a_checkpoint_is_due_by_what_has_to_be_replayed() -> None:
    week = 7 * 86_400_000
    assert not is_due(500, 0, 10 * week)
    assert is_due(501, 1_000, 0)
    assert not is_due(501, 1_000_000, week)
    assert is_due(501, 1_000_000, week + 1)
    assert is_due(20_001, 1_000_000, 0)
