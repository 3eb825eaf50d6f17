"""Hostile checkpoints: altered, signed by the wrong people, telling lies, or older than what was seen."""

import random
import shutil
from pathlib import Path

import pytest

from cryptfs.errors import FsError, NotAllowed
from cryptfs.format.checkpoint import CheckpointLog
from cryptfs.format.checkpoint_head import TABLE_NODE
from cryptfs.format.checkpoint_logs import logs_extension
from cryptfs.format.limits import CHECKPOINT_HEAD_MAX
from cryptfs.format.names import SegmentName, checkpoint_name, parse_name
from cryptfs.group.authority import Tier
from cryptfs.vault import administration as do
from cryptfs.vault.checkpoints import Ground
from cryptfs.vault.starting import Beginning
from cryptfs.vault.vault import Vault
from tests.vault.administration_world import Device, World
from tests.vault.checkpoint_world import agreed, author_entry, forge, newest, rows_of, with_checkpoint, work
from tests.vault.vault_faults import state_of, still
from tests.vault.vault_workshop import make_file

__all__ = ["still"]

pytestmark = pytest.mark.usefixtures("still")


async def begins(device: Device, like: dict[str, list[tuple[object, ...]]]) -> Beginning | None:
    """What a device that has no replica begins from; it has the same tree as everybody in any case."""
    shutil.rmtree(device.home.cache_dir)
    async with device.open() as vault:
        assert state_of(vault) == like
        return Beginning.of(vault)


async def test_a_bit_that_flips_anywhere_in_a_checkpoint_makes_it_useless_and_nothing_else(tmp_path: Path) -> None:
    world, (bob,) = await with_checkpoint(tmp_path, "Bob")
    async with world.anna.open() as anna:
        like, one = state_of(anna), await newest(anna)
    assert await begins(bob, like) is not None
    path = world.folder / one.name
    whole, rng = path.read_bytes(), random.Random(17)
    for at in [*rng.sample(range(one.raw.blocks_at), 3), *rng.sample(range(one.raw.blocks_at, len(whole)), 3)]:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << rng.randrange(8)]) + whole[at + 1 :])
        assert await begins(bob, like) is None
    for short in (whole[:-1], whole[: one.raw.blocks_at], whole[:100], b""):
        path.write_bytes(short)
        assert await begins(bob, like) is None


async def test_rows_that_are_no_tree_are_refused_although_an_owner_signed_them(tmp_path: Path) -> None:
    """A root that follows from the rows proves that they are the rows that were signed, not that they are a tree."""
    world, (bob,) = await with_checkpoint(tmp_path, "Bob")
    async with world.anna.open() as anna:
        like, one = state_of(anna), await newest(anna)
        tables = rows_of(anna, world.folder, one)
        forge(anna, world.folder, one, world.anna, tables=tables | {2: tables[2][:-1]}, stamp=one.stamp + 1)
        nodes = [b"\xc1", *tables[TABLE_NODE]]
        forge(anna, world.folder, one, world.anna, tables=tables | {TABLE_NODE: nodes}, stamp=one.stamp + 2)
    began = await begins(bob, like)
    assert began is not None
    assert began.stamp == one.stamp


async def test_a_checkpoint_by_a_reader_or_a_removed_member_is_nobodys(tmp_path: Path) -> None:
    world, (bob, mallory) = await with_checkpoint(tmp_path, "Bob", "Mallory")
    reader = await world.admit("Rita", Tier.READER)
    async with world.anna.open() as anna:
        one = await newest(anna)
        empty = {table: rows if table == TABLE_NODE else [] for table, rows in rows_of(anna, world.folder, one).items()}
        empty[TABLE_NODE] = [row for row in empty[TABLE_NODE] if b"one" not in row][:1]
        for author in (reader, mallory):
            forge(anna, world.folder, one, author, stamp=one.stamp + 1)
        await do.remove(anna, [author_entry(anna, mallory)], [])
        (world.folder / one.name).unlink()
        like = state_of(anna)
    assert await begins(bob, like) is None


async def test_a_head_that_claims_to_be_huge_is_not_fetched(tmp_path: Path) -> None:
    world, (bob,) = await with_checkpoint(tmp_path, "Bob")
    async with world.anna.open() as anna:
        like, one = state_of(anna), await newest(anna)
        path = world.folder / one.name
        data = path.read_bytes()
        path.write_bytes(data[:12] + (CHECKPOINT_HEAD_MAX + 1).to_bytes(4, "big") + data[16:])
    assert await begins(bob, like) is None


async def test_a_checkpoint_with_segments_that_do_not_count_is_not_begun_from(tmp_path: Path) -> None:
    world, (bob,) = await with_checkpoint(tmp_path, "Bob")
    async with world.anna.open() as anna:
        like, one = state_of(anna), await newest(anna)
        heads = one.head.heads
        strange = CheckpointLog(b"\x07" * 16, 3, bytes(32), one.stamp)
        past = tuple(
            sorted([*one.past, type(one.past[0])(strange.log, *_fields(one.past[0])[1:])], key=lambda p: p.log)
        )
        forge(
            anna, world.folder, one, world.anna,
            heads=tuple(sorted([*heads, strange], key=lambda head: head.log)), ext=(logs_extension(past),),
        )  # fmt: skip
    assert await begins(bob, like) is None


async def test_twins_of_names_hide_no_checkpoint_however_many_there_are(tmp_path: Path) -> None:
    """Names say who made it, and when: whoever reaches the folder can put later ones there, without any key."""
    world, (bob,) = await with_checkpoint(tmp_path, "Bob")
    async with world.anna.open() as anna:
        like, entry = state_of(anna), anna.standing.entry
        junk = [world.folder / checkpoint_name(1 << 60, entry, bytes([number]) * 32) for number in range(150)]
        for path in junk:
            path.write_bytes(b"junk")
        await anna.checkpointing.look()
        assert not anna.checkpointing._unshown
    async with bob.open() as other:
        for _ in range(3):
            await other.checkpointing.look()
        assert other.checkpointing.newest is not None
    for path in junk[60:]:
        path.unlink()
    assert await begins(bob, like) is not None


def _fields(one: object) -> list[object]:
    return [getattr(one, name) for name in type(one).__struct_fields__]  # type: ignore[attr-defined]


async def test_a_checkpoint_that_contradicts_what_was_seen_is_not_begun_from(tmp_path: Path) -> None:
    """T-rollback of checkpoints: a folder that was set back has one of another history; the memory knows better."""
    world, (bob,) = await with_checkpoint(tmp_path, "Bob")
    async with world.anna.open() as anna, bob.open() as other:
        await other.exchange.pull()
        like, one = state_of(anna), await newest(anna)
        mine = anna.standing.log_id
        heads = tuple(
            CheckpointLog(head.log, other.trust.memory.head(head.log).seq, b"x" * 32, head.stamp)  # type: ignore[union-attr]
            if head.log == mine else head
            for head in one.head.heads
        )  # fmt: skip
        forge(anna, world.folder, one, world.anna, heads=heads)
    assert await begins(bob, like) is None


async def test_a_checkpoint_without_word_of_the_logs_is_not_begun_from(tmp_path: Path) -> None:
    world, (bob,) = await with_checkpoint(tmp_path, "Bob")
    async with world.anna.open() as anna:
        like, one = state_of(anna), await newest(anna)
        forge(anna, world.folder, one, world.anna, ext=())
    assert await begins(bob, like) is None


# ---- whom to believe ----------------------------------------------------------------------------------------------


async def test_a_writer_alone_is_believed_by_nobody_and_with_two_others_by_everybody(tmp_path: Path) -> None:
    world, (bob, carol, dora) = await with_checkpoint(tmp_path, "Bob", "Carol", "Dora")
    async with world.anna.open() as anna:
        one = await newest(anna)
        forge(anna, world.folder, one, bob)
        like = state_of(anna)
    assert await begins(dora, like) is None
    async with carol.open() as vault:
        await agreed(vault)
    assert await begins(dora, like) is None
    async with world.anna.open() as anna:
        await agreed(anna)
        like = state_of(anna)
    began = await begins(dora, like)
    assert began is not None
    assert began.ground == Ground.VOUCHED.name


async def test_who_vouches_for_a_root_vouches_for_no_other_checkpoint_with_that_root(tmp_path: Path) -> None:
    """What a checkpoint says of the logs is not in its root."""
    world, (bob, carol, dora) = await with_checkpoint(tmp_path, "Bob", "Carol", "Dora")
    async with world.anna.open() as anna, carol.open() as other:
        await agreed(anna, other)
        one = await newest(anna)
        forge(anna, world.folder, one, bob)
        like = state_of(anna)
    assert await begins(dora, like) is None


def forget_old_logs(world: World, vault: Vault, stamp: int) -> None:
    """Take the objects of all segments at or below the stamp out of the folder, as log upkeep may."""
    logs = vault.standing.logs
    for path in (world.folder / "l").iterdir():
        name = parse_name(f"l/{path.name}")
        if isinstance(name, SegmentName):
            moment = logs.moment(name.log_id, name.seq)
            if moment is not None and moment[0] <= stamp:
                path.unlink()


async def test_where_logs_are_gone_and_nobody_vouches_the_vault_is_read_only_until_words_were_compared(
    tmp_path: Path,
) -> None:
    world, (bob, dora) = await with_checkpoint(tmp_path, "Bob", "Dora")
    async with world.anna.open() as anna:
        one = await newest(anna)
        forge(anna, world.folder, one, bob)
        like = state_of(anna)
        forget_old_logs(world, anna, one.stamp)
    shutil.rmtree(dora.home.cache_dir)
    dora.home.trust_file.unlink()
    for _ in range(2):
        async with dora.open() as vault:
            assert state_of(vault) == like
            assert vault.read_only
            assert " ".join(one.words) in vault.trust.stops
            assert vault.trust.stops in str(vault.status()["alarm"])
            with pytest.raises(FsError):
                make_file(vault, b"mine")
            with pytest.raises(NotAllowed):
                await vault.introduce()
    async with dora.open() as vault:
        assert (await vault.checkpointing.confirm()).root == one.root
        assert not vault.read_only
        await work(vault, ["mine"])
        with pytest.raises(NotAllowed):
            await vault.checkpointing.confirm()
    async with dora.open() as vault:
        assert not vault.read_only


async def test_replicas_that_disagree_are_said_so_and_nothing_is_deleted_until_they_agree(tmp_path: Path) -> None:
    world, (bob,) = await with_checkpoint(tmp_path, "Bob")
    async with world.anna.open() as anna, bob.open() as other:
        await other.exchange.pull()
        other.replica.db.run("UPDATE node SET mode = mode | 1 WHERE kind = 0")  # as a fault in the program would
        await other.checkpointing.look()
        words = "Replicas disagree (Anna (desk), cryptfs 0"
        assert words in other.trust.words
        assert "; Bob (laptop), cryptfs 0" in other.trust.words
        assert not other.read_only
        done = await other.collector.run(now=True)
        assert "Nothing was deleted and clean-up is off" in done.held_back
        await other.introduce()  # which says what was found here
        await anna.exchange.pull()
        await anna.checkpointing.look()
        assert words in anna.trust.words
        assert "; Bob (laptop))" in anna.trust.words
        assert "clean-up is off" in (await anna.collector.run(now=True)).held_back
        assert anna.horizon.floor().stamp == -1
    async with bob.open() as other:
        assert words in other.trust.words
    shutil.rmtree(bob.home.cache_dir)
    async with world.anna.open() as anna, bob.open() as other:
        assert not other.trust.words
        for vault in (other, anna, other, anna):
            await vault.exchange.pull()
            await vault.introduce()
        assert words in anna.trust.words
        later = await anna.checkpointing.make()
        assert later is not None
        await agreed(anna, other)
        await agreed(anna, other)
        assert anna.horizon.floor().stamp == later.stamp
        assert not anna.trust.words
        assert not (await anna.collector.run(now=True)).held_back
