"""A rule that is weakened is noticed by the simulation: a few here, all by `python -m tests.simulation.mutants`."""

import pytest

from tests.simulation.mutants import MUTANTS, Mutant, hunt
from tests.simulation.mutation import weakened

QUICK = (
    "seal on a view that may be old",
    "the vector leaves out what was seen",
    "a stamp above the own log only",
    "sent before the journal has it",
    "a removal need not have seen the content",
    "a rename replaces what it has not seen",
    "old contents are not kept",
)
"""Noticed by the first histories."""


@pytest.mark.parametrize("mutant", [one for one in MUTANTS if one.rule in QUICK], ids=str)
def test_a_weak_rule_is_noticed(mutant: Mutant) -> None:
    found, runs = hunt(mutant, 20)
    assert found is not None, f"{runs} histories go well"


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_what_a_mutant_weakens_is_still_there(mutant: Mutant) -> None:
    with weakened(*mutant.edits):
        pass
