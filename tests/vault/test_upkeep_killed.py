"""Killed before any step of a run of the collector - copying, rolling up, deleting - a vault loses nothing."""

import shutil
from pathlib import Path

import pytest

from cryptfs.faults import Faults
from cryptfs.vault import retiring, rollups
from cryptfs.vault.vault import Vault, VaultOptions
from tests.vault.floor_world import floors_rise
from tests.vault.rollup_world import body, pass_days, save
from tests.vault.vault_faults import SimWorkshop, forget_everything, sim, state_of, still, use_faults
from tests.vault.vault_workshop import read_file

__all__ = ["sim", "still"]

pytestmark = pytest.mark.usefixtures("still")

FILES = 5
STEPS_LEAST = 15


class Killed(Exception):
    """The process ended here."""


def die(name: str) -> None:
    raise Killed(name)


async def tidy(vault: Vault) -> None:
    """Two runs, a day apart: the first copies out and rolls up, the second deletes."""
    pass_days(vault, 40)
    await vault.collector.run(now=True, history=True)
    pass_days(vault, 2)
    await vault.collector.run(now=True)


async def killed_at(workshop: SimWorkshop, step: int) -> Faults:
    faults = Faults(step, die)
    async with workshop.open() as vault:

        async def drop_dead() -> None:
            vault.sender.give_up()

        vault.shut_down = drop_dead  # type: ignore[method-assign, assignment]
        use_faults(vault, faults)
        try:
            await tidy(vault)
        except Killed:
            pass
        except BaseExceptionGroup as group:
            if group.split(Killed)[1] is not None:
                raise
        faults.act = None
    return faults


async def all_is_there(workshop: SimWorkshop) -> None:
    """Everything reads, here and from the store alone; and one more run comes to its end."""
    async with workshop.open() as vault:
        for number in range(FILES):
            assert await read_file(vault, b"f%d" % number) == body(number)
        await tidy(vault)
        await vault.sync()
        state = state_of(vault)
    singles = [name for name in workshop.names("l/") if "-r" not in name]
    forget_everything(workshop)
    async with workshop.open() as vault:
        assert state_of(vault) == state
        for number in range(FILES):
            assert await read_file(vault, b"f%d" % number) == body(number)
        assert not vault.trust.alarms
    assert len(singles) < FILES


async def test_killed_before_any_step_nothing_is_lost(
    sim: SimWorkshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollups, "_MANY", 2)
    monkeypatch.setattr(retiring, "_SMALL", 4000)
    sim.options = VaultOptions(settle_s=-1)
    async with sim.open() as vault:
        await save(vault, range(FILES))
    passed = await killed_everywhere(sim, tmp_path)
    assert passed >= {"repack.sent", "rollup.put", "rollup.made", "rollup.delete"}


async def test_killed_before_any_step_behind_the_floor_nothing_is_lost(
    sim: SimWorkshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollups, "_MANY", 2)
    monkeypatch.setattr(retiring, "_SMALL", 4000)
    sim.options = VaultOptions(settle_s=-1)
    async with sim.open() as vault:
        for numbers in (range(3), range(3, 4), range(4, FILES)):
            await floors_rise(vault, numbers=numbers)
    passed = await killed_everywhere(sim, tmp_path)
    assert passed >= {"log.delete", "checkpoint.delete"}


async def killed_everywhere(sim: SimWorkshop, tmp_path: Path) -> set[str]:
    """Names of the steps before which the vault, as it is now, was killed."""
    objects, home = sim.world.snapshot(), tmp_path / "as it was"
    shutil.copytree(sim.base / "home", home)
    passed = set[str]()
    for step in range(1, 500):
        sim.world.restore(objects)
        shutil.rmtree(sim.base / "home")
        shutil.copytree(home, sim.base / "home")
        faults = await killed_at(sim, step)
        await all_is_there(sim)
        if not faults.fired:
            break
        passed.add(faults.fired)
    print(f"{step} steps")
    assert step > STEPS_LEAST
    return passed
