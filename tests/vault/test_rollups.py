"""Many segments become one object, byte for byte; the small ones go when everybody has read them, and a day later."""

import random
import shutil

from cryptfs.format.rollup import parse_rollup
from cryptfs.group.authority import Tier
from cryptfs.vault.rollups import Covered, choose
from tests.vault.rollup_world import MANY, World, body, pass_days, plant, rolled, save, singles, world
from tests.vault.vault_faults import state_of
from tests.vault.vault_workshop import read_file, write_file

__all__ = ["world"]


# ---- what to roll up -------------------------------------------------------------------------------------------------


def test_few_segments_stay_by_themselves() -> None:
    assert choose(dict.fromkeys(range(64), 100), [], 64, 1 << 20) is None
    assert choose(dict.fromkeys(range(65), 100), [], 64, 1 << 20) == Covered(0, 64, 6500)


def test_a_gap_and_the_size_of_a_rollup_end_a_run() -> None:
    sizes = {seq: 100 for seq in range(20) if seq not in (0, 2, 9)}
    assert choose(sizes, [], 5, 1 << 20) == Covered(3, 8, 600)  # 1 is alone
    assert choose(sizes, [], 5, 350) == Covered(3, 5, 300)
    assert choose(sizes, [], 5, 150) is None  # no two fit


def test_what_is_rolled_up_already_does_not_count() -> None:
    sizes = dict.fromkeys(range(30), 100)
    assert choose(sizes, [Covered(0, 25, 2600)], 5, 1 << 20) is None
    assert choose(sizes, [Covered(0, 23, 2400)], 5, 1 << 20) == Covered(24, 29, 600)


def test_a_rollup_swallows_those_before_it_that_are_no_larger() -> None:
    sizes = dict.fromkeys(range(24, 30), 100)
    before = [Covered(0, 11, 1200), Covered(12, 17, 600), Covered(18, 23, 600)]
    assert choose(sizes, before, 5, 1 << 20) == Covered(0, 29, 3000)
    assert choose(sizes, [Covered(0, 23, 2400)], 5, 1 << 20) == Covered(24, 29, 600)


def test_nothing_is_put_together_across_a_state_that_may_let_go_of_the_log_before_it() -> None:
    sizes = dict.fromkeys(range(30), 100)
    assert choose(sizes, [], 5, 1 << 20, [12]) == Covered(0, 11, 1200)
    assert choose(sizes, [Covered(0, 11, 1200)], 5, 1 << 20, [12]) == Covered(12, 29, 1800)
    assert choose(sizes, [Covered(0, 11, 1200)], 5, 1 << 20) == Covered(0, 29, 3000)


def test_a_long_log_has_few_rollups_and_no_segment_is_sent_often() -> None:
    rng = random.Random(5)
    singles_: dict[int, int] = {}
    made: list[Covered] = []
    sent = 0
    for seq in range(20_000):
        singles_[seq] = rng.randrange(500, 3000)
        while (run := choose(singles_, made, 64, 8 << 20)) is not None:
            sent += run.size
            made = [one for one in made if not run.first <= one.first <= run.last] + [run]
            singles_ = {one: size for one, size in singles_.items() if not run.first <= one <= run.last}
    assert len(made) + len(singles_) < 90
    assert sent < 10 * sum(one.size for one in made)


# ---- one device ------------------------------------------------------------------------------------------------------


async def test_a_rollup_is_its_segments_byte_for_byte(world: World) -> None:
    """29."""
    async with world.anna.open() as vault:
        log_id = vault.standing.log_id
        await save(vault, range(9))
        await vault.collector.run(now=True)
        assert not rolled(world.folder, log_id)  # they are of this minute
        alone = singles(world.folder, log_id)
        pass_days(vault, 0.01)
        done = await vault.collector.run()
        assert done.rolled_up == len(alone) - 1
        assert done.log_objects_deleted == 0
        (((first, last), data),) = rolled(world.folder, log_id).items()
        assert (first, last) == (0, len(alone) - 2)  # the newest lies by itself, always
        found = parse_rollup(data, world.vault)
        assert {raw.seq: raw.data for raw in found.segments} == {n: alone[n] for n in range(last + 1)}
        assert singles(world.folder, log_id) == alone
        assert (await vault.collector.run()).rolled_up == 0  # nothing is said twice
        pass_days(vault, 1.1)
        done = await vault.collector.run()
        assert done.log_objects_deleted == last + 1
        assert singles(world.folder, log_id) == {last + 1: alone[last + 1]}
        state = state_of(vault)
    shutil.rmtree(world.anna.home.cache_dir)
    async with world.anna.open() as vault:
        assert state_of(vault) == state
        for number in range(9):
            assert await read_file(vault, b"f%d" % number) == body(number)
        before = vault.sender.gets
        assert not vault.trust.alarms
        await vault.exchange.pull()
        assert vault.sender.gets == before


async def test_rollups_are_rolled_up_and_the_inner_ones_go(world: World) -> None:
    async with world.anna.open() as vault:
        log_id = vault.standing.log_id
        for turn in range(3):
            await save(vault, range(turn * 8, turn * 8 + 8))
            pass_days(vault, 1.1)
            await vault.collector.run()
            pass_days(vault, 1.1)
            await vault.collector.run()
        assert len(rolled(world.folder, log_id)) <= 2
        assert len(singles(world.folder, log_id)) <= MANY + 1
        state = state_of(vault)
    shutil.rmtree(world.anna.home.cache_dir)
    async with world.anna.open() as vault:
        assert state_of(vault) == state


async def test_a_rollup_that_the_store_gives_back_otherwise_deletes_nothing(world: World) -> None:
    async with world.anna.open() as vault:
        log_id = vault.standing.log_id
        await save(vault, range(9))
        pass_days(vault, 0.01)
        await vault.collector.run()
        (path,) = [one for one in (world.folder / "l").iterdir() if "-r" in one.name]
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        before = singles(world.folder, log_id)
        pass_days(vault, 2)
        done = await vault.collector.run()
        assert list(done.left) == [f"l/{path.name}"]
        assert singles(world.folder, log_id) == before
        assert done.log_objects_deleted == 0


async def test_junk_in_this_devices_name_neither_deletes_nor_hinders(world: World) -> None:
    async with world.anna.open() as vault:
        log_id = vault.standing.log_id
        await save(vault, range(9))
        alone = singles(world.folder, log_id)
        backwards = [alone[seq] for seq in (1, 0, 2, 3)]
        plant(world, log_id, 0, backwards)
        plant(world, log_id, 0, [alone[0], alone[1], alone[3]], b"junk")
        pass_days(vault, 2)
        done = await vault.collector.run()
        assert done.rolled_up == len(alone) - 1
        assert len(done.left) == 2
        pass_days(vault, 2)
        await vault.collector.run()
        assert len(singles(world.folder, log_id)) == 1
        assert len(rolled(world.folder, log_id)) == 3  # junk is nobody's to delete


# ---- several devices -------------------------------------------------------------------------------------------------


async def test_the_small_ones_stay_until_everybody_has_acknowledged_the_last_of_them(world: World) -> None:
    bob = await world.admit("Bob", Tier.WRITER)
    async with bob.open() as vault:
        await write_file(vault, b"bobs", b"1")
        await vault.sync()
    async with world.anna.open() as vault:
        log_id = vault.standing.log_id
        await vault.exchange.pull()
        await save(vault, range(9))
        alone = singles(world.folder, log_id)
        pass_days(vault, 3)
        assert (await vault.collector.run()).rolled_up
        pass_days(vault, 3)
        assert (await vault.collector.run(now=True)).log_objects_deleted == 0
        assert singles(world.folder, log_id).keys() >= alone.keys()
        async with bob.open() as his:
            await his.exchange.pull()
            await his.acknowledging.now()
            assert (await vault.collector.run()).log_objects_deleted > 0
            # He goes on, and nothing looks to him as if it had gone back.
            await his.exchange.pull()
            assert not his.trust.alarms
            assert state_of(his) == state_of(vault)
        await save(vault, range(20, 22))
    shutil.rmtree(bob.home.cache_dir)
    async with bob.open() as his:
        await his.exchange.pull()
        for number in (*range(9), 20, 21):
            assert await read_file(his, b"f%d" % number) == body(number)


async def test_a_device_that_was_away_while_its_last_sight_was_rolled_up_raises_no_alarm(world: World) -> None:
    rita = await world.admit("Rita", Tier.READER)  # she acknowledges nothing, so nothing waits for her
    async with world.anna.open() as vault:
        log_id = vault.standing.log_id
        await save(vault, range(4))
        async with rita.open() as hers:
            await hers.exchange.pull()
        await save(vault, range(4, 12))
        pass_days(vault, 2)
        await vault.collector.run()
        pass_days(vault, 2)
        await vault.collector.run()
        assert len(singles(world.folder, log_id)) == 1
        async with rita.open() as hers:
            await hers.exchange.pull()
            assert not hers.trust.alarms
            assert state_of(hers) == state_of(vault)
        (newest,) = [one for one in (world.folder / "l").iterdir() if log_id.hex() in one.name and "-r" not in one.name]
        newest.unlink()
        async with rita.open() as hers:
            await hers.exchange.pull()
            assert [one.subject for one in hers.trust.alarms] == [log_id]  # what is gone is gone


async def test_a_reader_with_an_old_listing_finds_what_was_rolled_up_meanwhile(world: World) -> None:
    rita = await world.admit("Rita", Tier.READER)
    async with world.anna.open() as vault:
        await save(vault, range(9))
        pass_days(vault, 2)
        await vault.collector.run()
        pass_days(vault, 2)
        async with rita.open() as hers:
            hers.log_objects.forget_bytes()
            await hers.exchange.pull()
            await save(vault, range(9, 20))
            stale = await hers.sender.list("l/")
            pass_days(vault, 2)
            await vault.collector.run()
            pass_days(vault, 2)
            await vault.collector.run()
            shown = [stale]

            async def listing(prefix: str, after: str = "") -> list[str]:
                return shown.pop() if prefix == "l/" and shown else await fresh(prefix, after)

            fresh = hers.sender.list
            hers.sender.list = listing  # type: ignore[method-assign]
            await hers.exchange.pull()
            assert state_of(hers) == state_of(vault)
            for number in range(20):
                assert await read_file(hers, b"f%d" % number) == body(number)
