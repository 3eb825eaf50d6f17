"""Whole vaults of several members on a misbehaving folder: nobody's work is lost, and all see the same in the end.

`python -m tests.simulation.soak` runs as many as one likes; `CRYPTFS_TEST_HISTORIES_OF_VAULTS` here.
"""

import os

import pytest

from tests.simulation.plans import FLAVOURS, plan
from tests.simulation.vault_group import simulate

RUNS = int(os.environ.get("CRYPTFS_TEST_HISTORIES_OF_VAULTS", "100"))
TOGETHER = 25
"""Histories in one test."""
TURNS = 25
ONCE_WRONG = {
    (552, 60): "unsent changes of a file whose version was gone could not be sealed: its keys were gone with it",
    (1460, 50): "a device that had saved something while the key was unknown could not be opened",
    (1015, 50): "an administrator whose log was closed decided what no segment told anybody",
    (529, 60): "a file of holes alone, sent again in a new log, could not be sent",
    (208, 60): "one segment under two names in the folder was taken for a fork",
}


@pytest.mark.parametrize("first", range(0, RUNS, TOGETHER))
def test_devices_on_a_bad_folder_converge_and_lose_nothing(first: int) -> None:
    for seed in range(first, min(first + TOGETHER, RUNS)):
        simulate(seed, turns=TURNS)


@pytest.mark.parametrize(("seed", "turns"), ONCE_WRONG, ids=ONCE_WRONG.values())
def test_what_was_wrong_once_stays_right(seed: int, turns: int) -> None:
    simulate(seed, turns=turns)


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_seed_gives_one_history(flavour: str) -> None:
    seed = next(seed for seed in range(1000) if plan(seed, 40).flavour == flavour)
    assert simulate(seed, turns=40).lines == simulate(seed, turns=40).lines
