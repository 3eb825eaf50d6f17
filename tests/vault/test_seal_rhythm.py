"""How often something is sealed by itself."""

import itertools
from types import SimpleNamespace

import pytest
import trio

from cryptfs.vault.upkeep import Upkeep


class Always:
    """Changes that came long ago, so that they are due, and always `count` of them. `at`: when they were sealed."""

    newest_ns = oldest_ns = 0

    def __init__(self, count: int) -> None:
        self.count = count
        self.at: list[float] = []

    def __len__(self) -> int:
        return self.count

    async def seal(self) -> bool:
        self.at.append(trio.current_time())
        await trio.sleep(0.1)
        return True

    def upkeep(self) -> Upkeep:
        exchange = SimpleNamespace(stir=lambda: None)
        vault = SimpleNamespace(
            pending=self, unconfirmed=None, sealer=SimpleNamespace(seal=self.seal), exchange=exchange
        )
        return Upkeep(vault)  # type: ignore[arg-type]


@pytest.mark.parametrize(("count", "apart"), [(10, 1.5), (1_000_000, 0.1)])
async def test_under_load_changes_travel_together_unless_they_would_fill_the_memory(
    autojump_clock: trio.testing.MockClock, count: int, apart: float
) -> None:
    del autojump_clock
    pending = Always(count)
    with trio.move_on_after(10):
        await pending.upkeep()._seal_regularly()
    assert [later - one for one, later in itertools.pairwise(pending.at)] == pytest.approx(
        [apart] * (len(pending.at) - 1)
    )
    assert len(pending.at) >= 7
