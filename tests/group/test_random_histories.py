"""The invariants of resolution over random histories.

CRYPTFS_TEST_HISTORIES=5000 runs more of them than the usual 200.
"""

import os

import pytest
from histories import INVARIANTS, History, check_alone
from reference_rules import Rules

COUNT = int(os.environ.get("CRYPTFS_TEST_HISTORIES", "200"))
BATCH = 20


def batches():
    return [range(start, min(start + BATCH, COUNT)) for start in range(0, COUNT, BATCH)]


@pytest.mark.parametrize("seeds", batches(), ids=str)
def test_invariants_hold_after_random_histories(group, seeds):
    for seed in seeds:
        print("seed", seed)
        history = History(group, seed)
        for check in INVARIANTS:
            check(history)


@pytest.mark.parametrize("seeds", batches(), ids=str)
def test_resolution_agrees_with_its_definition(group, seeds):
    """Differential: the one pass by rank against the recursive definition, which must not run in a circle."""
    for seed in seeds:
        print("seed", seed)
        world = History(group, seed).world
        nodes = {one.id: world.graph.node(one.id) for one in world.statements if one.id in world.graph}
        flawed = {one for one, node in nodes.items() if node.flaw}
        rules = Rules(world.vault, {one: node.statement for one, node in nodes.items()}, flawed)
        now = world.now()
        assert {one for one in nodes if rules.valid(one)} == now.valid
        assert rules.roster() == set(now.roster)
        assert rules.epochs() == {one.statement for one in now.epochs}
        assert rules.policy() == now.policy_by
        assert rules.gate_open() == world.gate().open


def test_the_histories_are_turbulent(group):
    """They would prove nothing otherwise: gates close, entries are contested, removals turn void."""
    seen = {"closed": 0, "contested": 0, "void removals": 0, "merged": 0}
    for seed in range(60):
        world = History(group, seed).world
        now = world.now()
        seen["closed"] += not world.gate().open
        seen["contested"] += bool(now.contested)
        seen["merged"] += len(now.epochs) > 1
        seen["void removals"] += any("removed" in reason for reason in now.void.values())
    print(seen)
    assert min(seen.values()) >= 3


def test_no_outsider_alone_knows_the_key_after_random_histories(group):
    for seed in range(min(COUNT, 60)):
        print("seed", seed)
        check_alone(History(group, seed))
