"""Several devices at once: equal segments give equal trees, and nothing anybody wrote is lost."""

import pytest

from tests.simulation.tree_device import check_tree
from tests.simulation.tree_group import as_foreign, check_convergence, check_no_lost_update, run


@pytest.mark.parametrize("seed", range(150))
def test_devices_converge_and_lose_nothing(seed: int) -> None:
    network, group = run(seed, devices=2 + seed % 3, rounds=25)
    check_convergence(network, group)
    check_no_lost_update(network, group[0].replica)


@pytest.mark.parametrize("seed", range(500, 540))
def test_devices_converge_when_the_end_of_a_log_is_cut_off(seed: int) -> None:
    """The others' operations stay, also those that built on what is gone; and an accept brings it back."""
    network, group = run(seed, devices=3, rounds=25)
    log = group[seed % 3].log
    end = group[0].seen[log] + 1
    cut = {(log, seq) for seq in range(end * (seed % 4) // 4, end)}
    late = [as_foreign(sent.seg) for key, sent in network.sent.items() if key in cut]
    for device in group:
        device.replica.integrate([], void=cut)
        check_tree(device.replica)
    check_convergence(network, group, cut)
    for device in group:
        device.replica.integrate(late)
    check_convergence(network, group)


@pytest.mark.parametrize("seed", range(1000, 1040))
def test_devices_converge_when_history_expires(seed: int) -> None:
    network, group = run(seed, devices=3, rounds=25, expire=True)
    check_convergence(network, group)
