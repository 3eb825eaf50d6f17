"""Whole vaults of several members on a misbehaving store: nobody's work is lost, and all see the same in the end.

`python -m tests.simulation.soak` runs as many as one likes; `CRYPTFS_TEST_HISTORIES_OF_VAULTS` here.
"""

import os

import pytest

from tests.simulation.vault_group import simulate

RUNS = int(os.environ.get("CRYPTFS_TEST_HISTORIES_OF_VAULTS", "60"))
ONCE_WRONG = {
    12: "a file made and removed here, merged with one that others made alike, was left out of a segment",
    18: "a conflicted copy that was not sent yet read as zeros, and the file itself as what was written here",
    256: "after a crash changes were put on top of a version they were not made to",
    5: "rows of the tree that waited to be written were forgotten",
}


@pytest.mark.parametrize("seed", range(RUNS))
def test_devices_on_a_bad_store_converge_and_lose_nothing(seed: int) -> None:
    simulate(seed, devices=2 + seed % 3, turns=60)


@pytest.mark.parametrize("seed", sorted(ONCE_WRONG), ids=lambda seed: f"{seed}: {ONCE_WRONG[seed]}")
def test_what_was_wrong_once_stays_right(seed: int) -> None:
    simulate(seed, devices=2 + seed % 3, turns=60)


def test_a_seed_gives_one_history() -> None:
    assert simulate(3).lines == simulate(3).lines
