"""Whole vaults of several members on a misbehaving store: nobody's work is lost, and all see the same in the end.

`python -m tests.simulation.soak` runs as many as one likes; `CRYPTFS_TEST_HISTORIES_OF_VAULTS` here.
"""

import os

import pytest

from tests.simulation.vault_group import simulate

RUNS = int(os.environ.get("CRYPTFS_TEST_HISTORIES_OF_VAULTS", "60"))
ONCE_WRONG = {
    (5, 60): "rows of the tree that waited to be written were forgotten",
    (12, 60): "a file made and removed here, merged with one that others made alike, was left out of a segment",
    (18, 60): "a conflicted copy that was not sent yet read as zeros, and the file itself as what was written here",
    (256, 60): "after a crash changes were put on top of a version they were not made to",
    (1033, 120): "changes of a file whose making had not been read again, after the cache was lost, could not be sent",
    (
        10348,
        100,
    ): "after a crash bytes came back that were written to a file removed since, which others had brought back",
    (2069, 90): "numbers of operations that had vanished were given again after a crash",
}


@pytest.mark.parametrize("seed", range(RUNS))
def test_devices_on_a_bad_store_converge_and_lose_nothing(seed: int) -> None:
    simulate(seed, devices=2 + seed % 3, turns=60)


@pytest.mark.parametrize(("seed", "turns"), ONCE_WRONG, ids=ONCE_WRONG.values())
def test_what_was_wrong_once_stays_right(seed: int, turns: int) -> None:
    simulate(seed, devices=2 + seed % 3, turns=turns)


def test_a_seed_gives_one_history() -> None:
    assert simulate(3).lines == simulate(3).lines
