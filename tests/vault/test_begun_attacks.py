"""What a device that began from a checkpoint must not do, though it has not seen what led there."""

import shutil
from pathlib import Path

import pytest

from cryptfs.vault.opening import open_vault
from cryptfs.vault.parts import VaultOptions
from cryptfs.vault.starting import Beginning
from tests.vault.administration_world import World
from tests.vault.checkpoint_world import heard, work
from tests.vault.vault_faults import still
from tests.vault.vault_workshop import remove_file, write_file

__all__ = ["still"]

pytestmark = pytest.mark.usefixtures("still")


async def test_ransom_an_administrators_new_device_keeps_what_it_cannot_date(tmp_path: Path) -> None:
    """T-ransom: what was overwritten yesterday is old for nobody who only knows the newest segments."""
    world = World(tmp_path)
    async with world.anna.open() as anna:
        await work(anna, ["one", "two"])
        await write_file(anna, b"one", b"encrypted by malware")
        remove_file(anna, b"two")
        await anna.sync()
        await work(anna, ["three"])
        await work(anna, ["four"])
        await heard(anna)
        assert await anna.checkpointing.make() is not None
    shutil.rmtree(world.anna.home.cache_dir)
    async with world.anna.open() as anna:
        assert Beginning.of(anna) is not None
        kept = anna.replica.question("SELECT count(*) FROM history", ())[0][0]
        assert kept
        done = await anna.collector.run(now=True)
        assert done.expired == -1
        assert anna.replica.question("SELECT count(*) FROM history", ())[0][0] == kept
    later = VaultOptions(history_s=-3600)  # as if an hour had passed since the last segment
    async with open_vault(world.anna.home, world.anna.keys, world.anna.store(), later) as anna:
        assert (await anna.collector.run(now=True)).expired >= 0
        assert anna.replica.question("SELECT count(*) FROM history", ())[0][0] == 0
