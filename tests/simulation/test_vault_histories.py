"""Whole vaults of several members on a misbehaving folder: nobody's work is lost, and all see the same in the end.

`python -m tests.simulation.soak` runs as many as one likes; `CRYPTFS_TEST_HISTORIES_OF_VAULTS` here.
"""

import os

import pytest

from tests.simulation.once_wrong import once_wrong
from tests.simulation.plans import FLAVOURS, Plan, plan
from tests.simulation.vault_group import run_plan, simulate

RUNS = int(os.environ.get("CRYPTFS_TEST_HISTORIES_OF_VAULTS", "2000"))
TOGETHER = 40
"""Histories in one test."""
ONCE_WRONG = once_wrong()


@pytest.mark.parametrize("first", range(0, RUNS, TOGETHER))
def test_devices_on_a_bad_folder_converge_and_lose_nothing(first: int) -> None:
    for seed in range(first, min(first + TOGETHER, RUNS)):
        simulate(seed)


@pytest.mark.parametrize("what", ONCE_WRONG.values(), ids=ONCE_WRONG.keys())
def test_what_was_wrong_once_stays_right(what: Plan) -> None:
    run_plan(what)


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_seed_gives_one_history(flavour: str) -> None:
    seed = next(seed for seed in range(1000) if plan(seed, 40).flavour == flavour)
    assert simulate(seed, turns=40).lines == simulate(seed, turns=40).lines
