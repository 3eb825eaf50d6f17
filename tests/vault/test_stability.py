"""What everybody has acknowledged, as a function of what is applied; and who speaks up when."""

from pathlib import Path

import pytest

from cryptfs.crypto.keys import random_bytes
from cryptfs.group.authority import Tier
from cryptfs.vault.acknowledging import debt, untold
from cryptfs.vault.administration import desk_of, ends_of, publish
from cryptfs.vault.expiry import turn
from cryptfs.vault.stability import LogSight, owing, sight_of, stable_stamp
from cryptfs.vault.vault import Vault
from tests.vault.administration_world import World
from tests.vault.vault_faults import still
from tests.vault.vault_workshop import write_file

__all__ = ["still"]

A, B, C = (bytes([n]) * 16 for n in (1, 2, 3))


def sight(log: bytes, last: int | None, *, carried: int | None = None, seen: int = -1, open_: bool = True) -> LogSight:
    return LogSight(log, open_, last, carried, seen)


def test_nothing_can_appear_below_the_log_that_is_furthest_behind() -> None:
    assert stable_stamp(-1, [sight(A, 9), sight(B, 4)]) == 4
    assert stable_stamp(-1, [sight(A, 9)]) == 9


def test_a_log_without_segments_counts_from_where_it_was_introduced() -> None:
    assert stable_stamp(-1, [sight(A, 9), sight(B, None, carried=6)]) == 6
    # Nothing here carries it: it starts above a segment that is not applied yet.
    assert stable_stamp(-1, [sight(A, 9), sight(B, None)]) == 9


def test_a_finished_log_holds_nothing_up_and_the_stable_stamp_never_falls() -> None:
    assert stable_stamp(-1, [sight(A, 9), sight(B, 2, open_=False)]) == 9
    assert stable_stamp(7, [sight(A, 9), sight(B, 3)]) == 7
    assert stable_stamp(5, []) == 5


def test_whoever_may_write_and_has_not_named_the_segment_owes_his_word() -> None:
    sights = [sight(A, 9, seen=5), sight(B, 4, seen=4), sight(C, None)]
    assert owing(sights, 4) == [C]
    assert owing(sights, 5) == [B, C]
    assert owing([sight(B, 4, seen=1, open_=False)], 5) == []


def test_every_administrator_has_another_turn() -> None:
    entries = [random_bytes(32) for _ in range(4)]
    turns = {turn(one, [other for other in entries if other != one], 7) for one in entries}
    assert turns == {0, 1, 2, 3}


async def owes(vault: Vault) -> tuple[bool, bool]:
    await vault.exchange.pull()
    found = debt(vault.standing.logs, vault.standing.log_id)
    return found.tells, found.asked


@pytest.mark.usefixtures("still")
async def test_what_was_decided_and_not_told_is_told_by_whoever_decided_it(tmp_path: Path) -> None:
    """Found by the simulation of whole vaults, seed 20202: who had been let in could never send anything."""
    world = World(tmp_path)
    bob_device = await world.admit("Bob", Tier.WRITER)
    await world.admit("Carl", Tier.WRITER)
    async with world.anna.open() as anna, bob_device.open() as bob:
        await anna.acknowledging.now()
        decisions = desk_of(anna).change_role(entry_of_carl(anna), Tier.READER, ends_of(anna))
        await publish(anna.sender, [one for decision in decisions for one in decision.objects])  # and here it dies
        await bob.exchange.pull()
        assert not untold(bob.standing), "that is for its author to tell"
    async with world.anna.open() as anna:
        assert untold(anna.standing)
        await anna.acknowledging.now()
        assert not untold(anna.standing)
        segments = anna.sealer.segments
        await anna.acknowledging.now()
        assert anna.sealer.segments == segments


def entry_of_carl(vault: Vault) -> bytes:
    return next(one for one, who in vault.membership.resolved.roster.items() if who.display == "Carl")


@pytest.mark.usefixtures("still")
async def test_an_acknowledgement_is_not_acknowledged_and_a_second_round_sends_nothing(tmp_path: Path) -> None:
    world = World(tmp_path)
    bob_device = await world.admit("Bob", Tier.WRITER)
    async with world.anna.open() as anna, bob_device.open() as bob:
        assert (await owes(bob))[1]  # he was let in: that waits for his word
        await bob.acknowledging.now()
        await write_file(anna, b"f", b"x" * 1000)
        await anna.sync()
        assert await owes(bob) == (True, False)  # an operation: once a day is enough
        await bob.acknowledging.now()
        assert await owes(anna) == (False, False)
        segments = anna.sealer.segments + bob.sealer.segments
        for vault in (anna, bob, anna, bob):
            await vault.exchange.pull()
            await vault.acknowledging.now()
        assert anna.sealer.segments + bob.sealer.segments == segments

        sights = {one.log: one for one in sight_of(anna.membership, anna.standing.logs, anna.standing.log_id)}
        assert sights[bob.standing.log_id].seen == anna.standing.log.next_seq - 1
        assert anna.collector.stable() == anna.standing.log.stamp


@pytest.mark.usefixtures("still")
async def test_who_was_let_in_and_never_came_holds_collection_up_by_name(tmp_path: Path) -> None:
    world = World(tmp_path)
    bob_device = await world.admit("Bob", Tier.WRITER)
    async with world.anna.open() as anna:
        st = await write_file(anna, b"gone", b"x" * (2 << 20))
        await anna.sync()
        await write_file(anna, b"gone", b"y" * (2 << 20))
        await anna.sync()
        assert st
        done = await anna.collector.run(now=True, history=True)
        # The old version is not even stable: Bob may still have seen nothing of all this.
        assert (done.retired, done.deleted) == (0, 0)
        async with bob_device.open() as bob:
            await bob.acknowledging.now()
            done = await anna.collector.run(now=True, history=True)
            assert (done.retired, done.deleted) == (1, 0)
            assert [one.name for one in done.waiting] == ["Bob (laptop)"]
            assert (await owes(bob))[1]  # a retire waits for his word
            await bob.acknowledging.now()
            done = await anna.collector.run(now=True)
            assert (done.deleted, done.waiting) == (1, [])
            assert not anna.trust.alarms
            await bob.exchange.pull()
            assert not bob.trust.alarms


@pytest.mark.usefixtures("still")
async def test_a_reader_is_not_waited_for_and_a_writer_lets_no_history_go(tmp_path: Path) -> None:
    world = World(tmp_path)
    await world.admit("Carol", Tier.READER)
    bob_device = await world.admit("Bob", Tier.WRITER)
    async with world.anna.open() as anna, bob_device.open() as bob:
        await bob.acknowledging.now()
        done = await bob.collector.run(now=True, history=True)
        assert "administrators" in done.held_back
        await write_file(anna, b"gone", b"x" * (2 << 20))
        await anna.sync()
        await write_file(anna, b"gone", b"y" * (2 << 20))
        await anna.sync()
        await bob.exchange.pull()
        await bob.acknowledging.now()
        await anna.collector.run(now=True, history=True)
        await bob.exchange.pull()
        await bob.acknowledging.now()
        assert (await anna.collector.run(now=True)).deleted == 1
