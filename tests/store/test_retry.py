"""The one retry policy: what it repeats, how long it waits, when it stops."""

import math
import random
import threading
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryptfs.errors import (
    Auth,
    Conflict,
    Denied,
    Exists,
    Fatal,
    LocalDisk,
    LocalDiskFull,
    NotFound,
    Quota,
    Retry,
    StoreError,
    StoreGone,
)
from cryptfs.store import Abort, Backoff, Call, Knobs, Limits, Retries, SimStore, SimWorld


class SlowClock:
    """Virtual time: waiting is instant and noted; `on_wait` may act in the middle of it."""

    def __init__(self, on_wait: Callable[[], None] = lambda: None) -> None:
        self.time = 1000.0
        self.waits: list[float] = []
        self.on_wait = on_wait

    def now(self) -> float:
        return self.time

    def wait(self, seconds: float, abort: Abort | None) -> None:
        self.waits.append(seconds)
        self.on_wait()
        if abort is None or not abort.is_set():
            self.time += seconds


class Longest(random.Random):
    """Draws the upper end, so that waits are known exactly."""

    def uniform(self, a: float, b: float) -> float:
        return b


class Action:
    """Fails with each of `errors` in turn, then answers."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.tries = 0

    def __call__(self, call: Call) -> str:
        self.tries += 1
        if self.errors:
            raise self.errors.pop(0)
        return "answer"


def failing(times: int, after: float = 0.0) -> Action:
    return Action(*(Retry(f"failure {n}", after=after) for n in range(1, times + 1)))


LIMITS = Limits(first_s=1.0, ceiling_s=10.0, longest_after_s=100.0, attempts=6)
EXACT = Retries(Longest(), LIMITS)


# ---- what is repeated ------------------------------------------------------------------------------------------------


def test_a_call_that_succeeds_is_made_once_and_waits_for_nothing() -> None:
    clock, action = SlowClock(), failing(0)
    assert EXACT.run(action, Call(clock=clock)) == "answer"
    assert (action.tries, clock.waits) == (1, [])


@pytest.mark.parametrize("error", [Retry("busy"), StoreGone("away")])
def test_a_passing_failure_is_tried_again(error: Exception) -> None:
    clock, action = SlowClock(), Action(error, error)
    assert EXACT.run(action, Call(clock=clock)) == "answer"
    assert (action.tries, clock.waits) == (3, [1.0, 2.0])


@pytest.mark.parametrize(
    "error",
    [
        Auth("x"), Denied("x"), Quota("x"), NotFound("x"), Exists("x"), Conflict("x"), Fatal("x"), LocalDisk("x"),
        LocalDiskFull("x"), ValueError("a bug"), OSError("not mapped"),
    ],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_every_other_error_is_an_answer_and_passes_at_once(error: Exception) -> None:
    clock, action = SlowClock(), Action(error)
    with pytest.raises(type(error)) as caught:
        EXACT.run(action, Call(clock=clock))
    assert caught.value is error
    assert (action.tries, clock.waits) == (1, [])


def test_an_answer_after_a_passing_failure_passes_too() -> None:
    action = Action(Retry("busy"), NotFound("x"))
    with pytest.raises(NotFound):
        EXACT.run(action, Call(clock=SlowClock()))
    assert action.tries == 2


def test_the_action_is_given_the_call_it_belongs_to() -> None:
    call = Call(clock=SlowClock())
    assert EXACT.run(lambda given: given is call, call)


# ---- how long it waits -----------------------------------------------------------------------------------------------


def test_waits_double_up_to_a_ceiling() -> None:
    clock = SlowClock()
    assert EXACT.run(failing(5), Call(clock=clock)) == "answer"
    assert clock.waits == [1.0, 2.0, 4.0, 8.0, 10.0]


def test_what_the_store_asks_for_is_waited_and_a_little_more() -> None:
    clock = SlowClock()
    EXACT.run(failing(2, after=30.0), Call(clock=clock))
    assert clock.waits == [31.0, 32.0]


def test_a_store_cannot_silence_us_for_ever() -> None:
    clock = SlowClock()
    EXACT.run(failing(1, after=1e12), Call(clock=clock))
    assert clock.waits == [101.0]


@pytest.mark.parametrize("after", [-5.0, -math.inf])
def test_a_negative_wish_of_the_store_is_no_wish(after: float) -> None:
    clock = SlowClock()
    EXACT.run(failing(1, after=after), Call(clock=clock))
    assert clock.waits == [1.0]


def test_a_wish_that_is_no_number_is_no_wish() -> None:
    clock = SlowClock()
    EXACT.run(failing(1, after=math.nan), Call(clock=clock))
    assert clock.waits == [1.0]


@given(st.integers(0, 2**64), st.lists(st.floats(0, 1e6), max_size=60))
def test_every_wait_is_within_its_bounds(seed: int, wishes: list[float]) -> None:
    backoff = Backoff(random.Random(seed), LIMITS)
    for n, wish in enumerate(wishes):
        asked = min(wish, LIMITS.longest_after_s)
        assert asked <= backoff.after(Retry("x", after=wish)) <= asked + min(LIMITS.ceiling_s, 2.0**n)


def test_waits_are_spread_and_a_seed_repeats_them() -> None:
    def waits(seed: int) -> list[float]:
        backoff = Backoff(random.Random(seed), LIMITS)
        return [backoff.after(Retry("x")) for _ in range(20)]

    assert waits(1) == waits(1)
    assert len({*waits(1), *waits(2)}) == 40


def test_a_device_that_failed_a_million_times_still_waits_no_longer_than_the_ceiling() -> None:
    backoff = Backoff(Longest(), LIMITS)
    backoff.failures = 1_000_000
    assert backoff.after(Retry("x")) == LIMITS.ceiling_s


@pytest.mark.parametrize(
    "error", [Auth("x"), Denied("x"), Exists("x"), Fatal("x")], ids=lambda error: type(error).__name__
)
def test_what_only_a_person_can_change_is_not_asked_about_faster_than_the_ceiling(error: StoreError) -> None:
    backoff = Backoff(random.Random(1), LIMITS)
    assert all(LIMITS.ceiling_s <= backoff.after(error) <= 2 * LIMITS.ceiling_s for _ in range(10))


def test_room_may_be_made_at_any_moment() -> None:
    assert Backoff(Longest(), LIMITS).after(Quota("x")) == 1.0


def test_a_success_starts_the_row_of_failures_anew() -> None:
    backoff = Backoff(Longest(), LIMITS)
    assert [backoff.after(Retry("x")) for _ in range(3)] == [1.0, 2.0, 4.0]
    backoff.succeeded()
    assert backoff.after(Retry("x")) == 1.0


@pytest.mark.parametrize("attempts", [1, 2, 6])
def test_one_call_does_not_inherit_the_failures_of_another(attempts: int) -> None:
    clock = SlowClock()
    for _ in range(attempts):
        EXACT.run(failing(1), Call(clock=clock))
    assert clock.waits == [1.0] * attempts


@pytest.mark.parametrize(
    "wrong",
    [
        {"first_s": 0.0}, {"first_s": -1.0}, {"first_s": 2.0, "ceiling_s": 1.0}, {"longest_after_s": -1.0},
        {"attempts": 0},
    ],
)  # fmt: skip
def test_limits_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="out of range"):
        Limits(**wrong)  # type: ignore[arg-type]


# ---- when it stops ---------------------------------------------------------------------------------------------------


def test_it_gives_up_after_so_many_attempts_with_the_last_failure() -> None:
    clock, action = SlowClock(), failing(100)
    with pytest.raises(Retry, match="failure 6"):
        EXACT.run(action, Call(clock=clock))
    assert action.tries == LIMITS.attempts
    assert len(clock.waits) == LIMITS.attempts - 1


def test_a_single_attempt_never_waits() -> None:
    clock, action = SlowClock(), failing(100)
    with pytest.raises(Retry, match="failure 1"):
        Retries(Longest(), Limits(attempts=1)).run(action, Call(clock=clock))
    assert (action.tries, clock.waits) == (1, [])


def test_it_does_not_begin_a_wait_that_outlasts_the_deadline() -> None:
    clock, action = SlowClock(), failing(100)
    with pytest.raises(Retry, match="failure 3"):
        EXACT.run(action, Call.within(6.0, clock=clock))  # 1 + 2 are waited, 4 more would be too late
    assert (action.tries, clock.waits) == (3, [1.0, 2.0])


def test_a_wish_beyond_the_deadline_ends_the_call_at_once() -> None:
    clock, action = SlowClock(), failing(100, after=60.0)
    with pytest.raises(Retry) as caught:
        EXACT.run(action, Call.within(30.0, clock=clock))
    assert caught.value.after == 60.0
    assert (action.tries, clock.waits) == (1, [])


def test_a_late_call_is_not_even_tried() -> None:
    clock, action = SlowClock(), failing(0)
    with pytest.raises(Retry, match="in time"):
        EXACT.run(action, Call(deadline=clock.time, clock=clock))
    assert action.tries == 0


def test_time_spent_in_the_action_counts() -> None:
    clock = SlowClock()

    def slow(call: Call) -> str:
        clock.time += 10.0
        raise Retry("timed out")

    with pytest.raises(Retry, match="timed out"):
        EXACT.run(slow, Call.within(15.0, clock=clock))
    assert clock.waits == [1.0]


def test_an_aborted_call_is_not_even_tried() -> None:
    abort, action = Abort(), failing(0)
    abort.set()
    with pytest.raises(Retry, match="given up"):
        EXACT.run(action, Call(abort=abort, clock=SlowClock()))
    assert action.tries == 0


def test_an_abort_during_a_wait_ends_it_with_the_failure_before() -> None:
    abort = Abort()
    clock, action = SlowClock(on_wait=abort.set), failing(100)
    with pytest.raises(Retry, match="failure 1"):
        EXACT.run(action, Call(abort=abort, clock=clock))
    assert action.tries == 1


def test_an_abort_during_the_action_ends_it_without_a_wait() -> None:
    abort, clock = Abort(), SlowClock()

    def give_up(call: Call) -> str:
        abort.set()
        raise Retry("cut short")

    with pytest.raises(Retry, match="cut short"):
        EXACT.run(give_up, Call(abort=abort, clock=clock))
    assert clock.waits == []


def test_an_answer_that_comes_despite_an_abort_is_kept() -> None:
    abort = Abort()

    def answer(call: Call) -> str:
        abort.set()
        return "answer"

    assert EXACT.run(answer, Call(abort=abort, clock=SlowClock())) == "answer"


def test_an_abort_wakes_a_thread_that_really_waits() -> None:
    abort, waiting = Abort(), threading.Event()
    outcome: list[str] = []

    def fail(call: Call) -> str:
        waiting.set()
        raise Retry("busy", after=3_000.0)

    def work() -> None:
        try:
            Retries(random.Random(1)).run(fail, Call(abort=abort))
        except Retry as error:
            outcome.append(str(error))

    thread = threading.Thread(target=work)
    thread.start()
    waiting.wait()
    abort.set()
    thread.join()
    assert outcome == ["busy"]


# ---- with a store ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_retries_neither_double_nor_lose_objects_when_answers_are_lost(seed: int) -> None:
    world = SimWorld()
    store = SimStore(world, seed, Knobs(before=0.2, after=0.2, retry_after_s=1.0))
    retries = Retries(random.Random(seed), Limits(attempts=100))
    call = Call(clock=SlowClock())
    bodies = {f"p/{n:02x}": bytes([n]) * n for n in range(30)}
    for key, body in bodies.items():
        retries.run(lambda call, key=key, body=body: store.put(key, body, call, if_absent=True), call)
    assert world.snapshot() == bodies
    for key in bodies:
        retries.run(lambda call, key=key: store.delete(key, call), call)
    assert world.snapshot() == {}
    assert store.puts.total() > len(bodies)


def test_threads_may_share_one_policy() -> None:
    retries = Retries(random.Random(1), LIMITS)
    answers: list[str] = []
    threads = [
        threading.Thread(target=lambda: answers.append(retries.run(failing(5), Call(clock=SlowClock()))))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == ["answer"] * 8
