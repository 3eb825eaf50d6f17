"""The fault points that tests of every room plant their failures at."""

import pytest

from cryptfs.faults import Faults


class Planted(Exception):
    pass


def fail(name: str) -> None:
    raise Planted(name)


def passed(faults: Faults, steps: int) -> list[int]:
    """Which of so many steps were passed without a failure."""
    through = []
    for n in range(1, steps + 1):
        try:
            faults.step(f"step {n}")
        except Planted:
            continue
        through.append(n)
    return through


def test_production_never_fails() -> None:
    faults = Faults()
    assert passed(faults, 5) == [1, 2, 3, 4, 5]
    assert (faults.count, faults.fired) == (0, "")


@pytest.mark.parametrize("at", [1, 3, 5])
def test_one_step_fails(at: int) -> None:
    faults = Faults(at, fail)
    assert passed(faults, 5) == [n for n in range(1, 6) if n != at]
    assert (faults.count, faults.fired) == (5, f"step {at}")


def test_a_lasting_failure_goes_on_and_the_first_is_named() -> None:
    faults = Faults(3, fail, sticky=True)
    assert passed(faults, 5) == [1, 2]
    assert faults.fired == "step 3"


@pytest.mark.parametrize("at", [0, 6])
def test_a_run_that_ends_before_the_step_fires_nothing(at: int) -> None:
    faults = Faults(at, fail, sticky=True)
    assert passed(faults, 5) == [1, 2, 3, 4, 5]
    assert (faults.count, faults.fired) == (5, "")
