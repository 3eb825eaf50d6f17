"""Whatever several devices do at once, sleep over, or die in: nothing in use is ever deleted, and space comes back."""

from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from cryptfs.tree.places import Place
from cryptfs.tree.retirement import Retirement
from cryptfs.vault import collect, sealer
from cryptfs.vault.collect import Collector
from cryptfs.vault.rescue import Rescue
from tests.vault.administration_world import cause
from tests.vault.collection_group import Group
from tests.vault.vault_faults import still

__all__ = ["still"]

pytestmark = pytest.mark.usefixtures("still", "packs_only")

STEPS = 80


@pytest.fixture
def packs_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small files travel in packs as large ones do, so that there is something to collect."""
    monkeypatch.setattr(sealer, "_BODY2_TARGET", 0)


async def play(base: Path, seed: int, steps: int = STEPS) -> Group:
    group = Group(base, seed)
    async with trio.open_nursery() as nursery:
        await group.found(nursery, 2)
        for member in group.members:
            member.knobs.list_lag = 3
        for _ in range(steps):
            await group.step()
        await group.quiesce()
        await group.judge()
        for member in group.members:
            member.closing.set()
    return group


@pytest.mark.parametrize("seed", range(2))
async def test_nothing_in_use_is_deleted_and_space_comes_back(tmp_path: Path, seed: int) -> None:
    """T-gc-sleep."""
    group = await play(tmp_path, seed)
    print(f"seed {seed}: {group.deleted} packs deleted")
    assert group.deleted > 0


def without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collect, "owing", lambda *_: [])


def without_rechecking(monkeypatch: pytest.MonkeyPatch) -> None:
    async def recheck(self: Collector, *, now: bool) -> tuple[list[Retirement], list[Place]]:
        vault = self._vault
        return [one for one in vault.replica.retirements.all() if one.acked_ms is not None and not one.gone], []

    monkeypatch.setattr(Collector, "_recheck", recheck)


def without_obeying(monkeypatch: pytest.MonkeyPatch) -> None:
    async def bring_out(self: Rescue) -> None:
        await trio.lowlevel.checkpoint()

    monkeypatch.setattr(Rescue, "bring_out", bring_out)
    monkeypatch.setattr(Rescue, "needed", lambda _: False)


@pytest.mark.parametrize("leave_out", [without_waiting, without_rechecking, without_obeying])
async def test_the_simulation_notices_a_step_that_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, leave_out: Callable[[pytest.MonkeyPatch], None]
) -> None:
    leave_out(monkeypatch)
    with pytest.raises(BaseExceptionGroup) as noticed:
        await quarrel(tmp_path, 30)
    assert "was deleted" in str(cause(noticed.value))


async def test_quarrels_about_one_file_end_well(tmp_path: Path) -> None:
    await quarrel(tmp_path, 4)


async def quarrel(base: Path, times: int) -> None:
    group = Group(base, 1)
    async with trio.open_nursery() as nursery:
        await group.found(nursery, 1)
        for _ in range(times):
            await group.argue()
        for member in group.members:
            member.closing.set()
