"""Devices that were away for so long that log objects they lack were deleted: they go on from a checkpoint."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from cryptfs.errors import FsError, NotAllowed
from cryptfs.format.content import WHERE_BODY2
from cryptfs.format.names import SegmentName, parse_name, segment_name
from cryptfs.group.authority import Tier
from cryptfs.tree.merge_containers import IN_USE
from cryptfs.vault.latework import close_log
from cryptfs.vault.starting import Beginning
from cryptfs.vault.vault import Vault
from tests.vault.administration_world import Device, World
from tests.vault.checkpoint_world import agreed, author_entry, forge, heard, newest, work
from tests.vault.vault_faults import state_of, still
from tests.vault.vault_workshop import make_file, read_file, write_file

__all__ = ["still"]

pytestmark = pytest.mark.usefixtures("still")


def tidy(vault: Vault, folder: Path) -> int:
    """Delete the segments within the newest checkpoint but for the last of each log, and those with bytes in use."""
    logs, gone = vault.standing.logs, 0
    one = vault.checkpointing.newest
    assert one is not None
    for path in (folder / "l").iterdir():
        name = parse_name(f"l/{path.name}")
        assert isinstance(name, SegmentName)
        moment = logs.moment(name.log_id, name.seq)
        digest = logs.digest_at(name.log_id, name.seq)
        assert digest is not None
        body2 = vault.replica.rows.container(WHERE_BODY2, digest)
        last = name.seq == logs.state(name.log_id).next_seq - 1
        if moment is not None and moment[0] <= one.stamp and not last and (body2 is None or body2.state != IN_USE):
            path.unlink()
            gone += 1
    return gone


async def life_goes_on(world: World, *others: Device) -> None:
    """Anna and the others work on, agree on two checkpoints, and tidy up behind them."""
    async with world.anna.open() as anna:
        for turn in range(2):
            for name in (b"later %d" % turn, b"and %d" % turn):
                make_file(anna, name)
                await anna.sync()
            for device in others:
                async with device.open() as other:
                    await heard(anna, other)
            await heard(anna)
            assert await anna.checkpointing.make() is not None
            for _ in range(2):
                for device in others:
                    async with device.open() as other:
                        await agreed(anna, other)
                await agreed(anna)
        assert tidy(anna, world.folder)
        await work(anna, ["newest"])


async def as_of(device: Device) -> dict[object, object]:
    async with device.open() as vault:
        await vault.exchange.pull()
        return state_of(vault)


async def test_a_reader_who_was_away_goes_on_from_a_checkpoint(tmp_path: Path) -> None:
    world = World(tmp_path)
    rita = await world.admit("Rita", Tier.READER)
    async with world.anna.open() as anna:
        await work(anna, ["one", "two"])
    async with rita.open() as reader:
        assert await read_file(reader, b"two") == b"two" * 100
        before = reader.replica.lookup(1, b"two")
    await life_goes_on(world)
    async with rita.open() as reader:
        began = Beginning.of(reader)
        assert began is not None
        assert not reader.trust.alarms
        assert not reader.reader.gaps()
        assert await read_file(reader, b"newest") == b"newest" * 100
        after = reader.replica.lookup(1, b"two")
        assert before is not None
        assert after is not None
        assert before.st == after.st  # what the kernel knows stays
    assert await as_of(rita) == await as_of(world.anna)


async def test_a_writer_whose_log_was_closed_meanwhile_loses_nothing_it_had_not_sent(tmp_path: Path) -> None:
    world = World(tmp_path)
    bob = await world.admit("Bob", Tier.WRITER)
    async with world.anna.open() as anna, bob.open() as other:
        await work(anna, ["one", "two"])
        await heard(anna, other)
        await work(other, ["by Bob"])
        await heard(anna, other)
    async with bob.open() as other:
        await write_file(other, b"two", b"TWO")
        await write_file(other, b"unsent", b"written on a journey")
        await other.commit()
        other.sender.give_up()
    async with world.anna.open() as anna:
        await close_log(anna, author(anna, "Bob"), lost=False)
    await life_goes_on(world)
    async with bob.open() as other:
        assert Beginning.of(other) is not None
        assert await read_file(other, b"newest") == b"newest" * 100
        await other.sync()
        assert not other.trust.alarms
    async with world.anna.open() as anna:
        assert await read_file(anna, b"unsent") == b"written on a journey"
        assert await read_file(anna, b"two") == b"TWO" + (b"two" * 100)[3:]
        assert await read_file(anna, b"by Bob") == b"by Bob" * 100
    assert await as_of(bob) == await as_of(world.anna)


def author(vault: Vault, name: str) -> bytes:
    return next(
        entry for entry, who in vault.membership.resolved.roster.items()
        if vault.membership.name_of(entry).startswith(name)
    )  # fmt: skip


async def test_who_has_it_open_all_the_time_jumps_too_and_open_files_stay_open(tmp_path: Path) -> None:
    world = World(tmp_path)
    rita = await world.admit("Rita", Tier.READER)
    async with world.anna.open() as anna:
        await work(anna, ["one", "two"])
    async with rita.open() as reader:
        entry = reader.replica.lookup(1, b"two")
        assert entry is not None
        content = reader.open_file(entry.st)
        told: list[object] = []
        reader.exchange.listeners.append(lambda entries, nodes: told.extend(entries))
        await life_goes_on(world)
        assert await reader.exchange.pull()
        assert bytes(await content.read(0, 3)) == b"two"
        reader.release_file(content)
        assert (1, b"newest") in told
        assert not reader.trust.alarms


async def test_where_nobody_vouches_the_old_tree_stays_and_nothing_is_written_until_words_were_compared(
    tmp_path: Path,
) -> None:
    world = World(tmp_path)
    bob = await world.admit("Bob", Tier.WRITER)
    carol = await world.admit("Carol", Tier.WRITER)
    async with world.anna.open() as anna, bob.open() as other, carol.open() as away:
        await work(anna, ["one", "two"])
        await heard(anna, other, away)
    async with world.anna.open() as anna:
        await close_log(anna, author(anna, "Carol"), lost=False)
    await life_goes_on(world, bob)
    async with world.anna.open() as anna:
        one = await newest(anna)
        for path in (world.folder / "c").iterdir():
            if path.name != one.name.removeprefix("c/"):
                path.unlink()
        forge(anna, world.folder, one, bob)
    async with carol.open() as away:
        assert away.replica.lookup(1, b"newest") is None
        assert await read_file(away, b"two") == b"two" * 100
        assert away.read_only
        assert " ".join(one.words) in away.trust.stops
        assert "away for so long" in away.trust.stops
        with pytest.raises(FsError):
            make_file(away, b"mine")
        with pytest.raises(NotAllowed):
            await away.introduce()
        assert (await away.checkpointing.confirm()).root == one.root
        await away.exchange.pull(thorough=True)
        assert await read_file(away, b"newest") == b"newest" * 100
        assert not away.trust.stops
    async with carol.open() as away:
        await work(away, ["mine"])
    assert await as_of(carol) == await as_of(world.anna)


async def test_where_logs_and_checkpoints_are_gone_that_is_said_and_nothing_is_written(tmp_path: Path) -> None:
    world = World(tmp_path)
    async with world.anna.open() as anna:
        for name in (b"one", b"two"):
            make_file(anna, name)
            await anna.sync()
    await life_goes_on(world)
    kept = {path: path.read_bytes() for path in (world.folder / "c").iterdir()}
    for path in kept:
        path.unlink()
    carol = await world.admit("Carol", Tier.WRITER)
    async with carol.open() as new:
        assert new.replica.entries(1) == []
        assert new.read_only
        assert "lacks the beginning of what Anna (desk) wrote" in str(new.status()["alarm"])
        for path, data in kept.items():
            path.write_bytes(data)
        await new.exchange.pull(thorough=True)
        assert not new.read_only
        assert not new.status()["alarm"]
        await work(new, ["mine"])
    assert await as_of(carol) == await as_of(world.anna)


async def test_a_name_that_promises_segments_far_ahead_makes_nobody_jump(tmp_path: Path) -> None:
    world = World(tmp_path)
    rita = await world.admit("Rita", Tier.READER)
    await world.admit("Bob", Tier.WRITER)
    async with world.anna.open() as anna:
        await work(anna, ["one"])
        silent = [one for one in anna.reader.ends() if one != anna.standing.log_id]
        await heard(anna)
        assert await anna.checkpointing.make() is not None
        await work(anna, ["two"])
        log_id = anna.standing.log_id
    async with rita.open() as reader:
        began = Beginning.of(reader)
        for one in (log_id, *silent):
            (world.folder / segment_name(one, 900, bytes(32))).write_bytes(b"junk")
        await reader.exchange.pull(thorough=True)
        assert set(reader.reader.gaps()) == {log_id, *silent}
        assert Beginning.of(reader) == began
        assert not reader.trust.stops


async def test_a_writer_who_claims_to_have_written_far_ahead_stops_nobody_from_writing(tmp_path: Path) -> None:
    """His checkpoint tells of segments that nobody sees; no floor can have passed what others still write."""
    world = World(tmp_path)
    mallory = await world.admit("Mallory", Tier.WRITER)
    async with world.anna.open() as anna:
        await work(anna, ["one"])
        async with mallory.open() as his:
            await heard(anna, his)
        assert await anna.checkpointing.make() is not None
        one = await newest(anna)
        (log_id,) = anna.membership.graph.logs_of(author_entry(anna, mallory))
        heads = tuple(replace(head, seq=900) if head.log == log_id else head for head in one.head.heads)
        assert heads != one.head.heads
        forge(anna, world.folder, one, mallory, stamp=one.stamp + 1, heads=heads)
        (world.folder / segment_name(log_id, 900, bytes(32))).write_bytes(b"junk")
        await anna.exchange.pull(thorough=True)
        assert anna.reader.gaps()
        assert not anna.trust.stops
        await work(anna, ["two"])


async def test_a_writer_who_withholds_the_beginning_of_his_log_stops_nobody_from_writing(tmp_path: Path) -> None:
    world = World(tmp_path)
    async with world.anna.open() as anna:
        await work(anna, ["one"])
    mallory = await world.admit("Mallory", Tier.WRITER)
    async with mallory.open() as his:
        await work(his, ["his"])
        await work(his, ["more"])
        log_id = his.standing.log_id
    for path in (world.folder / "l").iterdir():
        name = parse_name(f"l/{path.name}")
        if isinstance(name, SegmentName) and (name.log_id, name.seq) == (log_id, 0):
            path.unlink()
    async with world.anna.open() as anna:
        await anna.exchange.pull(thorough=True)
        assert anna.reader.gaps() == {log_id: 0}
        assert not anna.trust.stops
        await work(anna, ["two"])
