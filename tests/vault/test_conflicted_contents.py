"""A file that two devices change at once: each content is where the tree shows it, from the first moment on."""

import shutil
from pathlib import Path

import pytest

from cryptfs.errors import StoreGone
from cryptfs.group.authority import Tier
from cryptfs.vault import administration as do
from cryptfs.vault.vault import Vault
from tests.vault.administration_world import World
from tests.vault.vault_workshop import make_file, read_file, remove_file, write_file

pytestmark = pytest.mark.usefixtures("still")


def names(vault: Vault) -> list[bytes]:
    return [name for name, _, _ in vault.replica.entries(1)]


async def test_a_conflicted_copy_reads_as_it_was_written_before_it_is_sent(tmp_path: Path) -> None:
    world = World(tmp_path)
    bob = await world.admit("Bob", Tier.WRITER)
    async with world.anna.open() as anna, bob.open() as here:
        await write_file(anna, b"f", b"first")
        await anna.sync()
        await here.exchange.pull()
        await write_file(here, b"f", b"by Bob, offline")
        await write_file(anna, b"f", b"by Anna")
        await anna.sync()
        await here.exchange.pull()
        assert here.pending, "not sealed yet"
        (copy,) = set(names(here)) - {b"f"}
        assert await read_file(here, b"f") == b"by Anna"
        assert await read_file(here, copy) == b"by Bob, offline"
        await write_file(here, copy, b"BY", 0)  # both go on being changed
        await write_file(here, b"f", b"BY", 0)
        assert await read_file(here, copy) == b"BY Bob, offline"
        assert await read_file(here, b"f") == b"BY Anna"
        await here.sync()
        await anna.exchange.pull()
        assert sorted([await read_file(anna, name) for name in names(anna)]) == [b"BY Anna", b"BY Bob, offline"]


async def test_who_has_the_file_open_goes_on_with_what_he_wrote(tmp_path: Path) -> None:
    world = World(tmp_path)
    bob = await world.admit("Bob", Tier.WRITER)
    async with world.anna.open() as anna, bob.open() as here:
        st = await write_file(anna, b"f", b"first")
        await anna.sync()
        await here.exchange.pull()
        entry = here.replica.lookup(1, b"f")
        assert entry is not None
        content = here.open_file(entry.st)
        await content.write(0, b"Bob's", 1_000)
        content.hand_over_now()
        await write_file(anna, b"f", b"by Anna")
        await anna.sync()
        await here.exchange.pull()
        await content.write(5, b" more", 2_000)
        assert bytes(await content.read(0, 100)) == b"Bob's more"
        assert await read_file(here, b"f") == b"by Anna"
        here.release_file(content)
        await here.sync()
        (copy,) = set(names(here)) - {b"f"}
        assert await read_file(here, copy) == b"Bob's more"
        assert len(names(here)) == 2, "one copy, however often it was saved"
        assert st


async def test_after_a_crash_unsent_changes_lie_on_the_version_they_were_made_to(tmp_path: Path) -> None:
    world = World(tmp_path)
    bob = await world.admit("Bob", Tier.WRITER)
    async with world.anna.open() as anna:
        await write_file(anna, b"f", b"a" * 200_000)
        await anna.sync()
        async with bob.open() as here:
            await here.exchange.pull()
            await write_file(here, b"f", b"BOB", 100_000)
            await here.commit()

            async def drop_dead() -> None:
                here.sender.give_up()

            here.shut_down = drop_dead  # type: ignore[method-assign, assignment]
        await write_file(anna, b"f", b"A" * 200_000)
        await anna.sync()
        async with bob.open() as here:
            (copy,) = set(names(here)) - {b"f"}
            assert await read_file(here, b"f") == b"A" * 200_000
            assert await read_file(here, copy) == b"a" * 100_000 + b"BOB" + b"a" * 99_997


async def test_a_file_made_and_removed_here_stays_if_it_was_merged_with_what_others_made_alike(
    tmp_path: Path,
) -> None:
    world = World(tmp_path)
    bob = await world.admit("Bob", Tier.WRITER)
    async with world.anna.open() as anna, bob.open() as here:
        make_file(anna, b"f")
        await anna.sync()
        make_file(here, b"f")  # the same, at the same time
        remove_file(here, b"f")
        await here.exchange.pull()
        assert names(here) == [b"f"], "Anna's file was not seen when Bob's was removed"
        entry = here.replica.lookup(1, b"f")
        assert entry is not None
        content = here.open_file(entry.st)
        await content.write(0, b"by Bob", 1_000)  # based on the version that is both's
        await here.sealer.seal()  # the change is not handed over yet
        here.release_file(content)
        await here.sync()
        await anna.exchange.pull()
        assert await read_file(anna, b"f") == await read_file(here, b"f") == b"by Bob"


async def test_unsent_changes_wait_for_the_version_they_were_made_to(tmp_path: Path) -> None:
    """The cache is lost while the store shows only a part: nothing is put on top of bytes that are not here."""
    world = World(tmp_path)
    bob = await world.admit("Bob", Tier.WRITER)
    async with world.anna.open() as anna:
        await write_file(anna, b"first", b"1")
        await anna.sync()
        before = {path.name for path in (world.folder / "l").iterdir()}
        await write_file(anna, b"f", b"a" * 200_000)
        await anna.sync()
    async with bob.open() as here:
        await here.exchange.pull()
        await write_file(here, b"f", b"BOB", 100_000)
        await here.commit()

        async def drop_dead() -> None:
            here.sender.give_up()

        here.shut_down = drop_dead  # type: ignore[method-assign, assignment]
    shutil.rmtree(bob.home.cache_dir)
    hidden = [path for path in (world.folder / "l").iterdir() if path.name not in before]
    assert hidden
    for path in hidden:
        path.rename(tmp_path / path.name)
    with pytest.raises(StoreGone, match="unsent changes were made to"):
        async with bob.open():
            pass
    for path in hidden:
        (tmp_path / path.name).rename(path)
    async with bob.open() as here:
        assert await read_file(here, b"f") == b"a" * 100_000 + b"BOB" + b"a" * 99_997


async def test_a_pack_may_hold_two_contents_of_one_file_that_know_different_keys(tmp_path: Path) -> None:
    """A conflicted copy keeps the lineage of its file, and both go on by themselves when the vault's key changes."""
    world = World(tmp_path)
    bob, carol = await world.admit("Bob", Tier.WRITER), await world.admit("Carol", Tier.WRITER)
    async with world.anna.open() as anna, bob.open() as here, carol.open() as there:
        await write_file(anna, b"f", b"first")
        await anna.sync()
        await here.exchange.pull()
        await there.exchange.pull()
        await do.rotate(anna)
        await here.refresh_membership()
        await write_file(here, b"f", b"by Bob")
        await here.sync()
        await do.rotate(anna)
        await there.refresh_membership()
        await write_file(there, b"f", b"by Carol")
        await there.sync()
        await here.exchange.pull()
        (copy,) = set(names(here)) - {b"f"}
        await write_file(here, b"f", b"BY")  # under a key that only this content has
        await write_file(here, copy, b"BY")  # last in the pack, under the newest key that it knows
        (pack,) = here.records.local.values()
        assert len({(one.holder.fid, one.ref.fkv) for one in pack.records if one.holder.wants(one.chunk, one.ref)}) == 2
        await here.packer.confirm(pack)
        await here.sync()
        await anna.exchange.pull()
        assert {name: await read_file(anna, name) for name in names(anna)} == {b"f": b"BY Bob", copy: b"BY Carol"}
