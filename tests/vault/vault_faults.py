"""Ways to make a vault's life hard: sudden death, stores that misbehave, background tasks that stand still."""

import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
import trio

from cryptfs.faults import Faults
from cryptfs.store import Call, Knobs, SimStore, SimWorld
from cryptfs.tree.external import STATE_TABLES
from cryptfs.vault.upkeep import Upkeep
from cryptfs.vault.vault import Vault
from tests.vault.vault_workshop import Workshop, new_keys


@asynccontextmanager
async def dying(workshop: Workshop) -> AsyncIterator[Vault]:
    """A vault whose process is killed at the end of the block: what is not durable by then is lost."""
    async with workshop.open() as vault:

        async def drop_dead() -> None:
            vault.sender.give_up()

        vault.shut_down = drop_dead  # type: ignore[method-assign, assignment]
        yield vault


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing happens by itself: no commit, no seal, no pull but those that the test asks for."""

    async def run(self: Upkeep, nursery: trio.Nursery) -> None:
        await trio.lowlevel.checkpoint()

    monkeypatch.setattr(Upkeep, "run", run)


class SimWorkshop(Workshop):
    """As `Workshop`, on a simulated store. `world` is what the provider holds; `knobs` say how this device sees it."""

    world: SimWorld
    knobs: Knobs

    def names(self, folder: str) -> list[str]:
        return [stat.key for stat in self.world.list(folder, Call())]


@pytest.fixture
def sim(tmp_path: Path) -> SimWorkshop:
    """A new vault on a simulated store, honest until a test turns its knobs."""
    return sim_workshop(tmp_path)


def sim_workshop(base: Path, seed: int = 1) -> SimWorkshop:
    objects: list[tuple[str, bytes]] = []
    keys = new_keys(objects)
    world, knobs = SimWorld(), Knobs()
    for name, data in objects:
        world.put(name, data, Call())
    workshop = SimWorkshop(base, keys, lambda: SimStore(world, seed, knobs))
    workshop.world, workshop.knobs = world, knobs
    return workshop


def cached_packs(workshop: Workshop) -> list[Path]:
    """Copies of packs and of segments' records on this device."""
    return sorted(path for path in workshop.home.cached_packs_dir.iterdir() if path.is_file())


def local_packs(workshop: Workshop) -> list[Path]:
    """Packs that the store does not have."""
    return sorted(workshop.home.packs_dir.iterdir())


def empty_cache(workshop: Workshop) -> None:
    """What eviction, or a tidy person, does."""
    for path in cached_packs(workshop):
        path.unlink()


def failing(step: str, error: int, times: int = 1) -> Faults:
    """Faults under which the step of that name fails so many times."""
    left = [times]

    def act(name: str) -> None:
        if name == step and left[0] > 0:
            left[0] -= 1
            raise OSError(error, "planted")

    return Faults(1, act, sticky=True)


def use_faults(vault: Vault, faults: Faults) -> None:
    """Have an open vault pass its steps to these from now on."""
    vault.faults = vault.journal._faults = vault.packer._faults = vault.sender._faults = faults


class CancelAt(trio.abc.Instrument):
    """Cancels `scope` at the n-th moment at which the task that made it is about to go on."""

    def __init__(self, n: int) -> None:
        self.left = n
        self.scope = trio.CancelScope()
        self._task = trio.lowlevel.current_task()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if task is self._task:
            self.left -= 1
            if self.left == 0:
                self.scope.cancel()

    @contextmanager
    def here(self) -> Iterator[None]:
        trio.lowlevel.add_instrument(self)
        try:
            with self.scope:
                yield
        finally:
            trio.lowlevel.remove_instrument(self)


def state_of(vault: Vault) -> dict[str, list[tuple[object, ...]]]:
    """All that two replicas of one vault must agree on."""
    return {table: vault.replica.state_rows(table) for table in STATE_TABLES}


def forget_everything(workshop: Workshop) -> None:
    """The home of the device is gone; keys are kept by the workshop."""
    shutil.rmtree(workshop.base / "home")
