"""Several devices at once: equal segments give equal trees, and nothing anybody wrote is lost."""

import pytest

from tests.simulation.tree_group import check_convergence, check_no_lost_update, run


@pytest.mark.parametrize("seed", range(150))
def test_devices_converge_and_lose_nothing(seed: int) -> None:
    network, group = run(seed, devices=2 + seed % 3, rounds=25)
    check_convergence(network, group)
    check_no_lost_update(network, group[0].replica)


@pytest.mark.parametrize("seed", range(1000, 1040))
def test_devices_converge_when_history_expires(seed: int) -> None:
    network, group = run(seed, devices=3, rounds=25, expire=True)
    check_convergence(network, group)
