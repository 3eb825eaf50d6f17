"""When the store is looked at again."""

import pytest

from cryptfs.vault.tempo import FOLLOWED, LISTED, TOLD, Audits, PullPace, Tempo

MIDDLE = 0.5  # the draw that leaves a wait as it is
MINUTE = 60.0


def pace(tempo: Tempo = FOLLOWED, draw: float = MIDDLE) -> PullPace:
    return PullPace(tempo, lambda: draw, 0.0)


@pytest.mark.parametrize(
    ("tempo", "silent", "wait"),
    [
        (FOLLOWED, 0.0, 3.0),
        (FOLLOWED, 2 * MINUTE - 1, 3.0),
        (FOLLOWED, 2 * MINUTE + 1, 10.0),
        (FOLLOWED, 15 * MINUTE + 1, 60.0),
        (LISTED, 0.0, 10.0),
        (LISTED, 2 * MINUTE + 1, 10.0),
        (LISTED, 15 * MINUTE + 1, 60.0),
        (TOLD, 0.0, 30.0),
        (TOLD, 15 * MINUTE + 1, 30.0),
    ],
)
def test_the_longer_nothing_happens_the_rarer_it_looks(tempo: Tempo, silent: float, wait: float) -> None:
    one = pace(tempo)
    one.looked(silent)
    assert one.due(silent) == pytest.approx(silent + wait)


def test_activity_brings_the_next_look_nearer() -> None:
    one = pace()
    now = 60 * MINUTE
    one.looked(now)
    assert one.due(now) == pytest.approx(now + 60.0)
    one.stirred(now + 1)
    assert one.due(now + 1) == pytest.approx(now + 3.0)


def test_a_look_by_somebody_else_counts() -> None:
    one = pace()
    one.looked(10.0)
    assert one.due(12.0) == pytest.approx(13.0)
    one.looked(12.5)
    assert one.due(12.5) == pytest.approx(15.5)


def test_devices_that_began_together_drift_apart() -> None:
    assert pace(draw=0.0).due(0.0) == pytest.approx(2.7)
    assert pace(draw=0.999).due(0.0) == pytest.approx(3.3, abs=0.01)


def test_a_notice_is_followed_at_once_and_ends_a_wait_after_a_failure() -> None:
    one = pace(TOLD)
    one.failed(5.0, 30.0)
    assert one.due(5.0) == 35.0
    one.stirred(6.0)
    assert one.due(6.0) == 35.0  # activity here is no reason to press a store that does not answer
    one.noticed(7.2)
    assert one.due(7.0) == 7.2
    one.looked(7.5)
    assert one.due(7.5) == pytest.approx(37.5)


def test_everything_is_listed_hourly_while_something_happens_and_daily_in_any_case() -> None:
    audits = Audits()
    assert audits.due(1_000_000.0, uneasy=False)  # never before
    audits.done(1_000_000.0)
    assert not audits.due(1_000_000.0 + 23 * 3600, uneasy=False)
    assert audits.due(1_000_000.0 + 24 * 3600, uneasy=False)
    audits.stirred = True
    assert not audits.due(1_000_000.0 + 3599, uneasy=False)
    assert audits.due(1_000_000.0 + 3600, uneasy=False)


def test_what_is_missing_is_looked_for_soon_but_not_with_every_look() -> None:
    audits = Audits(1_000_000.0)
    assert not audits.due(1_000_029.0, uneasy=True)
    assert audits.due(1_000_030.0, uneasy=True)


def test_a_clock_that_was_set_back_is_no_reason_to_wait_for_years() -> None:
    assert Audits(2_000_000_000.0).due(1_000_000_000.0, uneasy=False)
