"""Ranges of bytes, against a set of numbers that does the same slowly."""

import itertools
import random

import pytest

from cryptfs.vault.extents import Extents


@pytest.mark.parametrize("seed", range(20))
def test_ranges_are_those_of_a_set_of_bytes(seed: int) -> None:
    rng = random.Random(seed)
    extents, model = Extents(), set[int]()
    for _ in range(200):
        start = rng.randrange(60)
        end = start + rng.randrange(12)
        if rng.random() < 0.6:
            extents.add(start, end)
            model.update(range(start, end))
        else:
            extents.remove(start, end)
            model.difference_update(range(start, end))
        ranges = list(extents)
        assert {at for one in ranges for at in range(*one)} == model
        assert all(one[0] < one[1] for one in ranges)
        assert all(before[1] < after[0] for before, after in itertools.pairwise(ranges)), ranges
        assert extents.total == len(model)
        asked = rng.randrange(70)
        until = asked + rng.randrange(15)
        assert extents.covers(asked, until) == model.issuperset(range(asked, until))
        gaps = {at for one in extents.gaps(asked, until) for at in range(*one)}
        assert gaps == set(range(asked, until)) - model
