"""A writer who signs nonsense among honest ones: the tree stays sound, everybody sees the same, nothing raises."""

import random

import pytest

from tests.simulation.tree_device import check_tree, open_replica, state_of
from tests.simulation.tree_group import Device, Network, as_foreign, check_convergence, settle
from tests.simulation.tree_hostile import Hostile


@pytest.mark.parametrize("seed", range(80))
def test_ops_total_nonsense_breaks_neither_the_tree_nor_convergence(seed: int) -> None:
    rng = random.Random(seed)
    network = Network()
    group: list[Device] = [Device(0, network, rng), Device(1, network, rng), Hostile(2, network, rng)]
    for _ in range(30):
        device = rng.choice(group)
        for _ in range(rng.choice([1, 5, 10])):
            device.act()
        if rng.random() < 0.7:
            device.pull(rng.choice([1, 1000]))
        if rng.random() < 0.6:
            device.send()
        check_tree(device.replica)
    settle(group)
    check_convergence(network, group)


@pytest.mark.parametrize("seed", range(1000, 1040))
def test_every_prefix_of_nonsense_leaves_a_sound_tree(seed: int) -> None:
    """After every segment, not only at the end; and taking all of it back leaves nothing."""
    rng = random.Random(seed)
    hostile = Hostile(0, Network(), rng)
    empty = state_of(open_replica())
    for _ in range(40):
        for _ in range(rng.choice([1, 3])):
            hostile.act()
        hostile.send()
        check_tree(hostile.replica)
    void = [(log, seq) for log, seq in hostile.network.sent]
    full = state_of(hostile.replica)
    hostile.replica.integrate([], void=void)
    assert state_of(hostile.replica) == empty
    again = open_replica()
    again.integrate([as_foreign(sent.seg) for sent in hostile.network.sent.values()])
    assert state_of(again) == full
