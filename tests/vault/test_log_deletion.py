"""What two checkpoints stand for is deleted from the store: the rules, late devices, and what stays."""

import shutil

import pytest

from cryptfs.format.statement import Close
from cryptfs.group.authority import Tier
from cryptfs.vault import administration as do
from cryptfs.vault import retiring
from cryptfs.vault.checkpoints import Ground
from cryptfs.vault.outlived import outliving
from cryptfs.vault.starting import Beginning
from cryptfs.vault.vault import Vault, VaultOptions
from tests.vault.administration_world import World
from tests.vault.checkpoint_world import author_entry
from tests.vault.floor_world import checkpoints, covered, floors_rise, let_go, log_names
from tests.vault.rollup_world import body, pass_days, save, world
from tests.vault.vault_faults import state_of, still
from tests.vault.vault_workshop import read_file, remove_file, write_file

__all__ = ["still", "world"]

SOON = VaultOptions(settle_s=-1)
"""What is in use in body2 is copied into packs at once."""

pytestmark = pytest.mark.usefixtures("still", "small")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A little in body2 is worth a pack."""
    monkeypatch.setattr(retiring, "_SMALL", 4000)


async def all_reads(vault: Vault, count: int) -> None:
    for number in range(count):
        assert await read_file(vault, b"f%d" % number) == body(number)


async def test_what_is_below_the_floor_before_the_floor_goes_after_a_month(world: World) -> None:
    async with world.anna.open(SOON) as vault:
        log_id = vault.standing.log_id
        await floors_rise(vault, numbers=range(8))
        assert (await vault.collector.run(now=True)).log_objects_deleted == 0  # one floor is none
        await floors_rise(vault, numbers=range(8, 10))
        await vault.collector.run()
        before = outliving(vault.horizon)[1].stamp
        logs = vault.standing.logs
        moments = {seq: logs.moment(log_id, seq) for seq in covered(world.folder, log_id)}
        below = {seq for seq, moment in moments.items() if moment is not None and moment[0] <= before}
        pass_days(vault, 29)
        await vault.collector.run()
        assert covered(world.folder, log_id) >= below
        pass_days(vault, 2)
        done = await vault.collector.run()
        assert done.log_bytes_deleted
        assert not covered(world.folder, log_id) & below
        assert vault.standing.log.next_seq - 1 in covered(world.folder, log_id)
        assert not (await vault.healer.heal()).restored
        await all_reads(vault, 10)
        state = state_of(vault)
        await vault.exchange.pull(thorough=True)
        assert not vault.trust.alarms
    shutil.rmtree(world.anna.home.cache_dir)
    async with world.anna.open() as vault:
        assert Beginning.of(vault) is not None
        assert state_of(vault) == state
        await all_reads(vault, 10)
        await save(vault, [11])
        assert not vault.trust.alarms
        assert not (await vault.healer.heal()).restored


async def test_two_checkpoints_stay_and_older_ones_go(world: World) -> None:
    async with world.anna.open() as vault:
        stamps = [await floors_rise(vault, numbers=range(at, at + 2)) for at in range(0, 8, 2)]
        assert checkpoints(world.folder) == stamps
        await vault.collector.run()
        assert checkpoints(world.folder) == stamps  # somebody may be reading them
        pass_days(vault, 1.1)
        assert (await vault.collector.run()).checkpoints_deleted == 2
        assert checkpoints(world.folder) == stamps[-2:]


async def test_a_segment_stays_while_records_in_it_are_in_use(world: World) -> None:
    async with world.anna.open() as vault:  # a week must pass before they are copied into a pack
        log_id = vault.standing.log_id
        await floors_rise(vault, numbers=range(4))
        await floors_rise(vault, numbers=range(4, 6))
        with_records = covered(world.folder, log_id)
        await vault.collector.run(now=True)
        for number in range(6):
            assert await read_file(vault, b"f%d" % number) == body(number)
        gone = with_records - covered(world.folder, log_id)
        for digest in (vault.standing.logs.digest_at(log_id, seq) for seq in gone):
            assert digest is not None
            row = vault.replica.rows.container(2, digest)
            assert row is None
    shutil.rmtree(world.anna.home.cache_dir)
    async with world.anna.open() as vault:
        await all_reads(vault, 6)


async def test_nothing_goes_before_everybody_has_attested_two_states(world: World) -> None:
    bob_device = await world.admit("Bob", Tier.WRITER)
    async with world.anna.open(SOON) as anna:
        async with bob_device.open() as bob:
            await save(bob, [20])
            await floors_rise(anna, bob, numbers=range(6))
        await save(anna, range(6, 8))  # Bob is away
        assert await anna.checkpointing.make() is None  # nothing is stable without him
        there = covered(world.folder, anna.standing.log_id)
        await let_go(anna)
        assert covered(world.folder, anna.standing.log_id) >= there
        async with bob_device.open() as bob:
            await floors_rise(anna, bob, numbers=range(8, 9))
            await let_go(anna, bob)
            assert not covered(world.folder, anna.standing.log_id) & set(range(5))
            assert state_of(bob) == state_of(anna)
            await all_reads(bob, 9)
            assert not bob.trust.alarms
            assert not (await bob.healer.heal()).restored


async def test_a_new_device_verifies_every_log_from_the_checkpoint_on(world: World) -> None:
    bob_device = await world.admit("Bob", Tier.WRITER)
    async with world.anna.open(SOON) as anna, bob_device.open(SOON) as bob:
        await save(bob, [20, 21])
        await floors_rise(anna, bob, numbers=range(6))
        await floors_rise(anna, bob, numbers=range(6, 8))
        await save(bob, [22])
        await let_go(anna, bob)
        assert 0 not in covered(world.folder, anna.standing.log_id) | covered(world.folder, bob.standing.log_id)
        await save(bob, [23])
        await anna.exchange.pull()
        await anna.acknowledging.now()
    carol_device = await world.admit("Carol", Tier.WRITER)
    async with carol_device.open() as carol, world.anna.open() as anna:
        await anna.exchange.pull()
        assert not carol.read_only
        assert state_of(carol) == state_of(anna)
        await all_reads(carol, 8)
        await save(carol, [30])
        await anna.exchange.pull()
        assert await read_file(anna, b"f30") == body(30)
        assert not (await carol.healer.heal()).restored
        assert not carol.reader.gaps()


async def test_who_was_let_in_long_before_he_came_begins_from_what_an_owner_stands_up_for(world: World) -> None:
    """The segments that his invitation names are gone, and the checkpoints are of a writer."""
    bob_device = await world.admit("Bob", Tier.WRITER)
    async with world.anna.open() as anna:
        await save(anna, range(2))
    rita_device = await world.admit("Rita", Tier.READER)
    async with world.anna.open(SOON) as anna, bob_device.open(SOON) as bob:
        await floors_rise(bob, anna, numbers=range(2, 6))
        await floors_rise(bob, anna, numbers=range(6, 8))
        await let_go(anna, bob)
        assert 0 not in covered(world.folder, anna.standing.log_id)
        async with rita_device.open() as rita:
            began = Beginning.of(rita)
            assert began is not None
            assert began.ground == Ground.VOUCHED.name
            assert not rita.trust.stops
            assert state_of(rita) == state_of(anna)
            await all_reads(rita, 8)


async def test_a_device_that_was_away_for_months_goes_on_from_a_checkpoint(world: World) -> None:
    rita_device = await world.admit("Rita", Tier.READER)  # nothing waits for her
    async with rita_device.open() as rita:
        await rita.exchange.pull()
    async with world.anna.open(SOON) as anna:
        await save(anna, range(2))
        async with rita_device.open() as rita:
            await rita.exchange.pull()
            seen = rita.standing.logs.state(anna.standing.log_id).next_seq
            numbers = {name: rita.replica.lookup(1, name) for name in (b"f0", b"f1")}
        await floors_rise(anna, numbers=range(2, 6))
        await floors_rise(anna, numbers=range(6, 8))
        await let_go(anna)
        assert min(covered(world.folder, anna.standing.log_id)) > seen
        async with rita_device.open() as rita:
            await rita.exchange.pull()
            assert not rita.reader.gaps()
            assert not rita.trust.alarms
            assert state_of(rita) == state_of(anna)
            for name, before in numbers.items():
                now = rita.replica.lookup(1, name)
                assert now is not None
                assert before is not None
                assert now.st == before.st  # what programs have open stays what it was
            await all_reads(rita, 8)
            assert not (await rita.healer.heal()).restored


async def test_a_device_that_was_closed_for_months_comes_back_with_its_unsent_changes(world: World) -> None:
    bob_device = await world.admit("Bob", Tier.WRITER)
    async with world.anna.open(SOON) as anna:
        async with bob_device.open() as bob:
            his = bob.standing.log_id
            await save(bob, range(2))
        await anna.exchange.pull()
        async with bob_device.open() as bob:
            await bob.exchange.pull()
            await write_file(bob, b"f1", body(100))
            await bob.commit()

            async def drop_dead() -> None:
                bob.sender.give_up()

            bob.shut_down = drop_dead  # type: ignore[method-assign, assignment]
        cut = do.ends_of(anna)[his]
        await do.state(anna, lambda: Close((cut,), 1))
        await floors_rise(anna, numbers=range(2, 6))
        await floors_rise(anna, numbers=range(6, 8))
        await let_go(anna)
        assert min(covered(world.folder, anna.standing.log_id)) > 2
        for _ in range(2):  # he reads on; then he begins a new log
            async with bob_device.open() as bob:
                assert not bob.reader.gaps()
        async with bob_device.open() as bob:
            assert not bob.read_only
            await bob.sync()
            await anna.exchange.pull()
            assert await read_file(anna, b"f1") == body(100)
            assert state_of(bob) == state_of(anna)
            assert not bob.trust.alarms


async def test_an_ended_log_is_rolled_up_and_let_go_by_who_looks_after_it(world: World) -> None:
    bob_device = await world.admit("Bob", Tier.WRITER)
    async with world.anna.open(SOON) as anna:
        async with bob_device.open(SOON) as bob:
            his = bob.standing.log_id
            await save(bob, range(8))
            pass_days(bob, 40)
            await anna.exchange.pull()
            await anna.acknowledging.now()
            await bob.exchange.pull()
            await bob.collector.run()  # copies what is in use into a pack of his
            await anna.exchange.pull()
        await do.remove(anna, [author_entry(anna, bob_device)], [])
        count = len(covered(world.folder, his))
        pass_days(anna, 2)
        await anna.collector.run()
        assert len(log_names(world.folder, his)) > 1
        pass_days(anna, 2)
        await anna.collector.run()
        assert len(log_names(world.folder, his)) == 2  # a rollup and the newest
        assert len(covered(world.folder, his)) == count
        await floors_rise(anna, numbers=range(20, 22))
        await floors_rise(anna, numbers=range(22, 24))
        await let_go(anna)
        await all_reads(anna, 8)
        assert not anna.trust.alarms
    assert len(log_names(world.folder, his)) <= 2


async def test_the_trash_and_old_versions_are_what_they_were(world: World) -> None:
    async with world.anna.open(VaultOptions(settle_s=-1, history_s=3650 * 86_400, log_delay_s=0)) as vault:
        await save(vault, range(3))
        await write_file(vault, b"f0", b"newer")
        remove_file(vault, b"f1")
        await vault.sync()
        await floors_rise(vault, numbers=range(4, 5))
        await floors_rise(vault, numbers=range(5, 6))
        like = {table: vault.replica.state_rows(table) for table in ("history", "node")}
        await vault.collector.run(now=True)
        pass_days(vault, 2)
        await vault.collector.run(now=True)
        assert 0 not in covered(world.folder, vault.standing.log_id)
        assert {table: vault.replica.state_rows(table) for table in ("history", "node")} == like
    shutil.rmtree(world.anna.home.cache_dir)
    async with world.anna.open() as vault:
        assert {table: vault.replica.state_rows(table) for table in ("history", "node")} == like


async def test_everything_in_the_store_is_accounted_for_when_all_is_quiet(world: World) -> None:
    """28, of all folders: what is there is in use, may be asked for, or is the newest of its log."""
    bob_device = await world.admit("Bob", Tier.WRITER)
    async with world.anna.open(SOON) as anna, bob_device.open(SOON) as bob:
        await save(bob, [20, 21])
        await floors_rise(anna, bob, numbers=range(6))
        remove_file(anna, b"f3")
        await floors_rise(anna, bob, numbers=range(6, 8))
        await floors_rise(anna, bob, numbers=range(8, 10))
        await let_go(anna, bob)
        first, before = outliving(anna.horizon)
        assert checkpoints(world.folder) == [before.stamp, first.stamp]
        for log_id in anna.standing.logs.ids():
            for seq in covered(world.folder, log_id):
                moment = anna.standing.logs.moment(log_id, seq)
                assert moment is not None
                assert moment[0] > before.stamp or seq == anna.standing.logs.state(log_id).next_seq - 1
        packs = {path.name for path in world.folder.rglob("p*/*") if path.is_file()}
        in_use = anna.replica.question("SELECT id FROM container WHERE place = 1 AND state = 0", ())
        assert packs == {bytes(row[0]).hex() for row in in_use}
