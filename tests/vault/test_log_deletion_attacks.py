"""Deleting log objects hides nothing: neither the store nor a member gains a segment's absence by it."""

import shutil
from pathlib import Path

import pytest
from msgspec.structs import replace

from cryptfs.format.checkpoint_head import TABLE_NODE
from cryptfs.format.names import SegmentName, parse_name, segment_name
from cryptfs.group.authority import Tier
from cryptfs.vault import checkpointing, rollups
from cryptfs.vault.outlived import outliving
from cryptfs.vault.starting import Beginning
from tests.vault.checkpoint_world import forge, heard, newest, rows_of
from tests.vault.floor_world import checkpoints, covered, floors_rise, let_go, log_names
from tests.vault.rollup_world import World, pass_days, save, singles, world
from tests.vault.test_log_deletion import SOON, all_reads, small
from tests.vault.vault_faults import state_of, still

__all__ = ["small", "still", "world"]

pytestmark = pytest.mark.usefixtures("still", "small")


def only_checkpoint(folder: Path, stamp: int) -> Path:
    (path,) = (one for one in (folder / "c").iterdir() if one.name.startswith(f"{stamp:016x}"))
    return path


async def test_a_checkpoint_that_the_store_gives_back_otherwise_lets_nothing_go(world: World) -> None:
    async with world.anna.open(SOON) as vault:
        log_id = vault.standing.log_id
        stamps = [await floors_rise(vault, numbers=range(6)), await floors_rise(vault, numbers=range(6, 8))]
        await vault.collector.run()
        pass_days(vault, 40)
        there = covered(world.folder, log_id)
        for stamp in stamps:
            path = only_checkpoint(world.folder, stamp)
            whole = path.read_bytes()
            for data in (whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:], whole[:-1]):
                path.write_bytes(data)
                done = await vault.collector.run()
                assert done.logs_held_back
                assert covered(world.folder, log_id) == there
            path.unlink()
            assert (await vault.collector.run()).logs_held_back
            assert covered(world.folder, log_id) == there
            path.write_bytes(whole)
        assert not (await vault.collector.run()).logs_held_back
        assert covered(world.folder, log_id) < there


async def test_a_checkpoint_that_is_taken_away_after_the_log_is_made_again(world: World) -> None:
    """Then no new device could begin, until who has the tree says once more what it is."""
    async with world.anna.open(SOON) as vault:
        await floors_rise(vault, numbers=range(6))
        await floors_rise(vault, numbers=range(6, 8))
        await let_go(vault)
        for path in (world.folder / "c").iterdir():
            path.unlink()
        for _ in range(checkpointing._LOOKS):
            assert not vault.checkpointing._is_gone  # the listing may lag
            await vault.checkpointing.look()
        assert vault.checkpointing._is_our_turn()
        assert await vault.checkpointing.make() is not None
        assert not vault.checkpointing._is_gone
        state = state_of(vault)
    shutil.rmtree(world.anna.home.cache_dir)
    async with world.anna.open() as vault:
        assert Beginning.of(vault) is not None
        assert state_of(vault) == state
        await all_reads(vault, 8)


async def test_a_segment_that_is_hidden_above_the_floor_before_is_missed_and_put_back(world: World) -> None:
    async with world.anna.open(SOON) as vault:
        log_id = vault.standing.log_id
        await floors_rise(vault, numbers=range(4))
        await floors_rise(vault, numbers=range(4, 8))
        await vault.collector.run()
        before, logs = outliving(vault.horizon)[1].stamp, vault.standing.logs
        alone, above = singles(world.folder, log_id), []
        for seq in alone:
            (world.folder / "l" / next(n[2:] for n in log_names(world.folder, log_id) if number_of(n) == seq)).unlink()
            moment = logs.moment(log_id, seq)
            assert moment is not None
            if moment[0] > before:
                above.append(seq)
        done = await vault.healer.heal()
        assert sorted(number_of(name) for name in done.restored) == [*above]
        newest_seq = max(alone)
        assert newest_seq in above


def number_of(name: str) -> int:
    parsed = parse_name(name)
    return parsed.seq if isinstance(parsed, SegmentName) else -1


async def test_a_member_who_attests_another_root_has_nothing_deleted(world: World) -> None:
    mallory_device = await world.admit("Mallory", Tier.WRITER)
    async with world.anna.open(SOON) as anna, mallory_device.open() as mallory:
        await save(mallory, [20])
        await floors_rise(anna, mallory, numbers=range(6))
        await save(anna, range(6, 8))
        await heard(anna, mallory)
        made = await anna.checkpointing.make()
        assert made is not None
        await mallory.checkpointing.look()
        (lie,) = (one for one in mallory.checkpointing.known if one.stamp == made.stamp)
        mallory.checkpointing.remember(replace(lie, agreed=False, other=b"x" * 32))
        await mallory.introduce()
        await anna.exchange.pull()
        await anna.checkpointing.look()
        await anna.introduce()
        await anna.checkpointing.look()
        assert anna.checkpointing.dispute
        there = covered(world.folder, anna.standing.log_id)
        pass_days(anna, 40)
        assert (await anna.collector.run(now=True)).held_back
        assert covered(world.folder, anna.standing.log_id) >= there


async def test_a_device_that_lags_does_not_go_on_from_a_checkpoint_nobody_stands_up_for(world: World) -> None:
    """Mallory hides segments, and offers a tree of her own in their place."""
    mallory_device, rita_device = await world.admit("Mallory", Tier.WRITER), await world.admit("Rita", Tier.READER)
    async with world.anna.open() as anna, mallory_device.open() as mallory:
        await save(mallory, [20])
        await heard(anna, mallory)
        await save(anna, range(2))
        async with rita_device.open() as rita:
            await rita.exchange.pull()
            like, seen = state_of(rita), rita.standing.logs.state(anna.standing.log_id).next_seq
        await save(anna, range(2, 6))
        await heard(anna, mallory)
        assert await anna.checkpointing.make() is not None
        one = await newest(anna)
        rows = rows_of(anna, world.folder, one)
        rows[TABLE_NODE] = rows[TABLE_NODE][:-1]
        forge(anna, world.folder, one, mallory_device, tables=rows, stamp=one.stamp + 1)
        only_checkpoint(world.folder, one.stamp).unlink()
        hidden = {
            path: path.read_bytes()
            for path in (world.folder / "l").iterdir()
            if anna.standing.log_id.hex() in path.name and number_of(f"l/{path.name}") in (seen, seen + 1)
        }
        for path in hidden:
            path.unlink()
        async with rita_device.open() as rita:
            await rita.exchange.pull(thorough=True)
            assert rita.reader.gaps()
            assert {name for _, name, *_ in like["dirent"]} <= {name for _, name, *_ in state_of(rita)["dirent"]}
            for path, data in hidden.items():
                path.write_bytes(data)
            await rita.exchange.pull(thorough=True)
            assert not rita.reader.gaps()
            assert state_of(rita) == state_of(anna)


async def test_a_device_that_lags_is_not_taken_back_behind_what_it_has_seen(world: World) -> None:
    """The store shows an old checkpoint, and of the logs what is far above it."""
    rita_device = await world.admit("Rita", Tier.READER)
    async with world.anna.open() as anna:
        await floors_rise(anna, numbers=range(2))
        await save(anna, range(2, 5))
        async with rita_device.open() as rita:
            await rita.exchange.pull()
            seen = rita.standing.log.next_seq, state_of(rita)
        await save(anna, range(5, 9))
        at = anna.standing.log.next_seq - 3
        for path in (world.folder / "l").iterdir():
            if number_of(f"l/{path.name}") < at:
                path.unlink()
        async with rita_device.open() as rita:
            assert rita.reader.gaps()
            assert (rita.standing.log.next_seq, state_of(rita)) == seen
            assert rita.trust.alarms


async def test_checkpoints_that_may_become_the_floor_are_not_deleted(world: World) -> None:
    """A device that is silent holds the floor; others go on making checkpoints."""
    bob_device = await world.admit("Bob", Tier.WRITER)
    async with world.anna.open() as anna:
        async with bob_device.open() as bob:
            await save(bob, [20])
            first = await floors_rise(anna, bob, numbers=range(2))
            second = await floors_rise(anna, bob, numbers=range(2, 4))
        for at in range(5):
            await save(anna, [30 + at])
            async with bob_device.open() as bob:  # he reads, and says nothing about states
                await bob.exchange.pull()
                await bob.acknowledging.now()
            await anna.exchange.pull()
            await anna.introduce()
            await anna.checkpointing.make()
        there = checkpoints(world.folder)
        pass_days(anna, 2)
        await anna.collector.run()
        assert checkpoints(world.folder) == there
        pass_days(anna, 8)
        await anna.collector.run()
        left = checkpoints(world.folder)
        assert left[:2] == [first, second]
        assert left[-2:] == there[-2:]


@pytest.mark.parametrize("rolled_up", [False, True])
async def test_writer_whose_hints_say_that_records_lie_elsewhere_has_nobody_delete_them(
    world: World, monkeypatch: pytest.MonkeyPatch, *, rolled_up: bool
) -> None:
    """Hints of a checkpoint tell a new device where segments lie, and nobody vouches for them."""
    if rolled_up:
        monkeypatch.setattr(rollups, "_MANY", 2)
    async with world.anna.open() as vault:  # a week must pass before what is in use is copied into a pack
        log_id = vault.standing.log_id
        await floors_rise(vault, numbers=range(4))
        await floors_rise(vault, numbers=range(4, 6))
        if rolled_up:
            pass_days(vault, 0.01)
            assert (await vault.collector.run(now=True)).rolled_up
        in_use = [bytes(row[0]) for row in vault.replica.question("SELECT id FROM container WHERE place = 2", ())]
        assert in_use
        for digest in in_use:
            vault.cache.segments.learn(digest, segment_name(log_id, 900, digest))
        await vault.collector.run(now=True)
    shutil.rmtree(world.anna.home.cache_dir)
    async with world.anna.open() as vault:
        await all_reads(vault, 6)
