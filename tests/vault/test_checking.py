"""`fsck` inside: each class of object damaged or gone is named, with whom it harms; what is replaced, and when."""

from collections.abc import Callable

import pytest

from cryptfs.errors import Denied
from cryptfs.faults import Faults
from cryptfs.store import Call
from cryptfs.vault import rollups
from cryptfs.vault.checking import Problem, Report, check
from cryptfs.vault.vault import Vault, VaultOptions
from tests.vault.rollup_world import pass_days
from tests.vault.vault_faults import SimWorkshop, cached_packs, sim, still
from tests.vault.vault_workshop import read_file, write_file

__all__ = ["sim", "still"]

pytestmark = pytest.mark.usefixtures("still")

BIG = b"big" * 700_000
SMALL = b"small" * 1000


@pytest.fixture
async def filled(sim: SimWorkshop) -> SimWorkshop:
    """A pack, some segments, and a checkpoint."""
    sim.options = VaultOptions(settle_s=-1)
    async with sim.open() as vault:
        await write_file(vault, b"big", BIG)
        await vault.sync()
        for number in range(3):
            await write_file(vault, b"small %d" % number, SMALL)
            await vault.sync()
        assert await vault.checkpointing.make() is not None
    return sim


async def checked(vault: Vault, percent: float = 0.0) -> Report:
    report, _ = await check(vault, percent, lambda _: None, heal=False, replace=False)
    return report


def spoil(sim: SimWorkshop, name: str, at: int) -> None:
    data = bytearray(sim.world.snapshot()[name])
    data[at] ^= 1
    sim.world.plant(name, bytes(data))


async def test_a_sound_vault_has_no_problems_and_everything_was_looked_at(filled: SimWorkshop) -> None:
    async with filled.open() as vault:
        report = await checked(vault, 100)
    assert report.problems == []
    assert (report.statements, report.segments, report.packs, report.objects_read) == (3, 4, 1, 1)
    assert (report.files, report.checkpoints) == (4, 1)


FLIPPED = [
    (("p/", 5000), 100, "does not hold what its name promises", ("/big",)),
    (("p/", -30), 0, "its index cannot be read", ("/big",)),
    (("p/", 20), 0, "its index cannot be read", ("/big",)),
    (("m/", 200), 0, "does not hold what its name promises", ()),
    (("w/", 100), 0, "does not hold what its name promises", ()),
    (("genesis", 100), 0, "does not hold what its name promises", ()),
    (("l/", 300), 0, "its signature does not verify", ()),
    (("c/", 200), 0, "checkpoint", ()),
    (("c/", -10), 100, "a block of a checkpoint is damaged", ()),
]


async def test_a_flipped_bit_is_found_in_each_class_of_object(filled: SimWorkshop) -> None:
    async with filled.open() as vault:
        for (folder, at), percent, said, paths in FLIPPED:
            name = min(filled.names(folder))
            spoil(filled, name, at)
            (problem,) = (await checked(vault, percent)).problems
            assert (problem.object, problem.paths) == (name, paths)
            assert said in problem.text
            spoil(filled, name, at)


async def test_an_object_that_is_gone_is_named_with_whom_that_harms(filled: SimWorkshop) -> None:
    async with filled.open() as vault:
        for folder, paths in {"p/": ("/big",), "m/": (), "w/": (), "l/": ("/small 2",)}.items():
            name, before = max(filled.names(folder)), filled.world.snapshot()
            filled.world.lose(name)
            (problem,) = (await checked(vault)).problems
            assert (problem.object, problem.paths) == (name, paths)
            filled.world.restore(before)


async def test_a_rollup_that_lost_a_segment_is_named_and_that_segment_put_back(
    filled: SimWorkshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollups, "_MANY", 2)
    async with filled.open() as vault:
        pass_days(vault, 40)
        await vault.collector.run(now=True)
        pass_days(vault, 2)
        await vault.collector.run(now=True)
        (name,) = [name for name in filled.names("l/") if "-r" in name]
        spoil(filled, name, -3)
        assert any(problem.object == name for problem in (await checked(vault)).problems)
        _, healed = await check(vault, 0, lambda _: None, heal=True, replace=True)
        assert healed is not None
        assert len(healed.restored) == 1
        assert healed.restored[0] in filled.names("l/")
        assert (await checked(vault)).problems == []


async def replaced(vault: Vault) -> tuple[list[Problem], list[str], dict[str, str]]:
    report, healed = await check(vault, 100, lambda _: None, heal=True, replace=True)
    assert healed is not None
    return report.problems, healed.restored, healed.refused


async def test_wrong_bytes_are_replaced_when_a_person_says_so_and_not_before(filled: SimWorkshop) -> None:
    before = filled.world.snapshot()
    names = [min(filled.names(folder)) for folder in ("genesis", "l/", "m/", "p/", "w/")]
    async with filled.open() as vault:
        for name in names:
            spoil(filled, name, 150)
        spoiled = filled.world.snapshot()
        _, healed = await check(vault, 100, lambda _: None, heal=True, replace=False)
        assert healed is not None
        assert (healed.restored, filled.world.snapshot()) == ([], spoiled), "healing alone only adds"
        problems, restored, refused = await replaced(vault)
        assert (problems, sorted(restored), refused) == ([], names, {})
    assert filled.world.snapshot() == before


async def test_what_no_copy_here_can_replace_is_not_deleted(filled: SimWorkshop) -> None:
    (name,) = filled.names("p/")
    async with filled.open() as vault:
        spoil(filled, name, 5000)
        for path in cached_packs(filled):
            path.unlink()
        problems, restored, _ = await replaced(vault)
        assert ([problem.object for problem in problems], restored) == ([name], [])
    assert filled.names("p/") == [name]


async def test_an_object_of_another_account_stays_and_it_is_said(
    filled: SimWorkshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    (name,) = filled.names("p/")
    async with filled.open() as vault:
        spoil(filled, name, 5000)

        def refuse(key: str, call: Call) -> None:
            raise Denied(f"{key} belongs to another account")

        monkeypatch.setattr(vault.sender.store, "delete", refuse)
        problems, restored, refused = await replaced(vault)
        assert ([problem.object for problem in problems], restored, list(refused)) == ([name], [], [name])


class Killed(Exception):
    """The process ended here."""


@pytest.mark.parametrize("step", ["heal.replace", "heal.replaced"])
async def test_killed_while_replacing_the_next_run_finishes(filled: SimWorkshop, step: str) -> None:
    (name,) = filled.names("p/")

    def die(passed: str) -> None:
        if passed == step:
            raise Killed(step)

    async with filled.open() as vault:
        spoil(filled, name, 5000)
        vault.faults = Faults(1, die, sticky=True)
        with pytest.raises(Killed):
            await replaced(vault)
    async with filled.open() as vault:
        assert await replaced(vault) == ([], [name], {})
        assert await read_file(vault, b"big") == BIG


async def test_checking_changes_nothing_and_sees_what_arrives_meanwhile(
    filled: SimWorkshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is written between the listing and the look at it is not said to be missing."""
    async with filled.open() as vault:
        stats: Callable[[str], object] = vault.sender.stats

        async def then_write(prefix: str) -> object:
            listed = await stats(prefix)  # type: ignore[misc]
            if prefix == "":
                await write_file(vault, b"new", BIG[::-1])
                await vault.sync()
            return listed

        monkeypatch.setattr(vault.sender, "stats", then_write)
        assert (await checked(vault, 100)).problems == []
