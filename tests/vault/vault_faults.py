"""Ways to make a vault's life hard: sudden death, stores that misbehave, background tasks that stand still."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from cryptfs.store import Call, Knobs, SimStore, SimWorld
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
