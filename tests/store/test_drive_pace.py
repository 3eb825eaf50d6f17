"""How fast Google Drive is asked, on a clock of the test's own."""

import itertools

import pytest

from cryptfs.errors import Quota, Retry
from cryptfs.store.drive.quota import Kind, Limits, Pace
from cryptfs.store.drive.throttle import Throttle


def writes(pace: Pace, count: int, now: float = 0.0) -> float:
    """When the last of so many writes may begin, each waited for."""
    for _ in range(count):
        now += pace.ask(Kind.WRITE, now)
    return now


def test_a_save_after_a_pause_goes_at_once_and_a_flood_at_the_rate() -> None:
    pace = Pace(0.0)
    assert writes(pace, 8) == 0.0
    assert writes(pace, 25) == pytest.approx(10.0)


def test_callers_at_the_same_moment_queue_behind_each_other() -> None:
    pace = Pace(0.0)
    waits = [pace.ask(Kind.WRITE, 0.0) for _ in range(11)]
    assert waits == pytest.approx([0] * 8 + [0.4, 0.8, 1.2])


def test_a_call_that_is_not_made_gives_its_place_back() -> None:
    pace = Pace(0.0)
    writes(pace, 8)
    pace.ask(Kind.WRITE, 0.0)
    pace.give_back(Kind.WRITE, 0.0)
    assert pace.ask(Kind.WRITE, 0.0) == pytest.approx(0.4)
    assert pace.units == 9 * 50


def test_a_request_to_slow_down_halves_the_rate_once_and_acceptance_wins_it_back() -> None:
    pace = Pace(0.0)
    for _ in range(3):  # three calls that were under way together
        pace.slow_down(10.0)
    assert pace.rate == pytest.approx(1.25)
    pace.slow_down(12.0)
    assert pace.rate == pytest.approx(0.625)
    for _ in range(1000):
        pace.accepted(Kind.WRITE)
    assert pace.rate == 3.0
    for moment in range(100):
        pace.slow_down(100.0 + 2 * moment)
    assert pace.rate == Limits().rate_min


def test_a_moment_that_was_named_is_waited_for() -> None:
    pace = Pace(0.0)
    pace.slow_down(0.0, after=30.0)
    assert pace.ask(Kind.WRITE, 0.0) > 30.0
    assert pace.ask(Kind.METADATA, 0.0) == 0.0


def test_units_of_a_minute_stay_below_the_limit_whatever_is_asked() -> None:
    pace, now, spent = Pace(0.0, Limits(minute_units=10_000)), 0.0, []
    for kind in itertools.islice(itertools.cycle([Kind.DOWNLOAD, Kind.LISTING, Kind.METADATA]), 600):
        now += pace.ask(kind, now)
        spent.append((now, kind.units))
    for began, _ in spent:
        assert sum(units for at, units in spent if began <= at < began + 59) <= 10_000
    assert sum(units for _, units in spent) == pace.units


@pytest.mark.parametrize("wrong", [{"rate": 0.0}, {"rate": 9.0}, {"burst": 0.5}, {"minute_units": 100}])
def test_limits_out_of_range_are_a_bug(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="out of range"):
        Limits(**wrong)  # type: ignore[arg-type]


SLOW = Retry("slow down", state="rate limited", after=3.0)


def refused(throttle: Throttle, now: float, *, writing: bool = True) -> Retry:
    error = throttle.refused(SLOW, now, writes=writing)
    assert isinstance(error, Retry)
    return error


def test_slowing_down_is_told_after_a_minute_of_it() -> None:
    throttle = Throttle()
    assert refused(throttle, 0.0).passing
    assert refused(throttle, 59.0).passing
    lasting = refused(throttle, 61.0)
    assert (lasting.passing, lasting.after, lasting.state) == (False, 3.0, "rate limited")
    throttle.accepted(writes=True)
    assert refused(throttle, 62.0).passing


def test_ten_minutes_without_an_upload_are_the_cap_of_the_day() -> None:
    throttle = Throttle()
    refused(throttle, 0.0)
    throttle.accepted(writes=False)  # reading goes on
    told = throttle.refused(SLOW, 601.0, writes=True)
    assert isinstance(told, Quota)
    assert told.state == "daily limit"
    with pytest.raises(Quota, match="750 GB"):
        throttle.check(601.0 + 3599)
    throttle.check(601.0 + 3601)


def test_reads_that_are_slowed_down_never_park_uploads() -> None:
    throttle = Throttle()
    for now in (0.0, 700.0, 1400.0):
        refused(throttle, now, writing=False)
    throttle.check(1400.0)
