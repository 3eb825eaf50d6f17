"""The simulation of the group: four thousand random histories, and the rules whose absence each of them would show.

Administrators act at the same time, some of them have been put out and sign statements with any past they like; after
each history the invariants of `histories.py` hold, and the resolver agrees with its definition. The same histories
notice each of the six rules of docs/membership.md, "Resolution" and "The key gate", when it is switched off.

CRYPTFS_TEST_HISTORIES=20000 runs more of them than the usual 4,000. What a run went through is printed (`pytest -s`).
"""

import os

import pytest
from histories import INVARIANTS, History, Turbulence, broken_invariant
from membership_world import mutant_group
from reference_rules import Rules

COUNT = int(os.environ.get("CRYPTFS_TEST_HISTORIES", "4000"))
BATCH = 200
PATIENCE = 200
"""Histories within which a broken rule must show."""

THE_SIX = {
    "strong removal": (
        "roster", "elif any(not node.bit & removal.ancestors for removal in named + alike):", "elif False:",
    ),
    "static rank": ("authority", "above.tier > below.tier", "above.tier >= below.tier"),
    "removal must rotate": ("authority", "isinstance(op, Remove | Rotate)", "isinstance(op, Rotate)"),
    "all maximal epochs count": (
        "roster", "key=lambda one: (one.eid, one.statement)))", "key=lambda one: (one.eid, one.statement)))[:1]",
    ),
    "void epochs do not count": (
        "roster", "_epochs(graph, valid.values())", "_epochs(graph, graph.nodes(graph.everything))",
    ),
    "key gate": ("gate", "if not all(leaks) and leaks:", "if leaks:"),
}  # fmt: skip
"""Rule -> module, its line, and the line without the rule."""


def agrees_with_its_definition(history: History) -> None:
    """Differential: the one pass by rank against the recursive definition, which must not run in a circle."""
    world = history.world
    nodes = {one.id: world.graph.node(one.id) for one in world.statements if one.id in world.graph}
    flawed = {one for one, node in nodes.items() if node.flaw}
    rules = Rules(world.vault, {one: node.statement for one, node in nodes.items()}, flawed)
    now = world.now()
    assert {one for one in nodes if rules.valid(one)} == now.valid
    assert rules.roster() == set(now.roster)
    assert rules.epochs() == {one.statement for one in now.epochs}
    assert rules.policy() == now.policy_by
    assert rules.gate_open() == world.gate().open


@pytest.fixture(scope="module")
def turbulence():
    """What all histories of this run went through together."""
    total = Turbulence()
    yield total
    print("\n", total)


@pytest.mark.parametrize(
    "seeds", [range(start, min(start + BATCH, COUNT)) for start in range(0, COUNT, BATCH)], ids=str
)
def test_invariants_hold_after_random_histories(group, turbulence, seeds):
    """T-backdate, T-concurrent-admin; and on 200 histories at a time they are wild enough to prove something."""
    here = Turbulence()
    for seed in seeds:
        print("seed", seed)
        history = History(group, seed)
        agrees_with_its_definition(history)
        here.note(history)
        for check in INVARIANTS:
            check(history)
    turbulence.add(here)
    wild = (here.closed_gates, here.contested, here.merged_keys, here.void_by_removal, here.outsiders)
    assert min(wild) >= len(seeds) / 50, here


@pytest.mark.parametrize("rule", THE_SIX, ids=str)
def test_the_same_histories_notice_a_missing_rule(rule):
    """T-winner among them: without "all maximal epochs count" somebody removed computes the key."""
    group = mutant_group(*THE_SIX[rule])
    for seed in range(PATIENCE):
        broken = broken_invariant(group, seed)
        if broken:
            print(f"without {rule!r}: {broken} fails after the history of seed {seed}")
            return
    pytest.fail(f"{PATIENCE} histories did not notice that {rule!r} is gone")
