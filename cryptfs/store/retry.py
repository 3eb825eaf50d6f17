"""The one policy by which a store is asked again.

Waits grow exponentially with full jitter ("Exponential Backoff And Jitter", M. Brooker, AWS Architecture Blog, 2015):
the k-th wait is uniform in [0, min(ceiling, first * 2^k)], so that devices that failed together do not come back
together. A store that says how long to stay away (`Retry.after`) is believed, up to a limit of its own. Only `Retry`,
and with it `StoreGone`, is worth asking again; every other error is an answer.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from cryptfs.errors import Quota, Retry, StoreError
from cryptfs.store.base import Call

__all__ = ["DEFAULT_LIMITS", "Backoff", "Limits", "Retries"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Limits:
    """Numbers of the policy, each with its reason."""

    first_s: float = 0.5  # a hiccup is over by then
    ceiling_s: float = 60.0  # a store that is back is noticed within a minute
    longest_after_s: float = 3_600.0  # a hostile or broken store cannot silence us for longer
    attempts: int = 8  # for one call; who must not give up, such as the uploader, uses Backoff for ever

    def __post_init__(self) -> None:
        if not (0 < self.first_s <= self.ceiling_s and self.longest_after_s >= 0 and self.attempts >= 1):
            raise ValueError("limits of a retry policy out of range")


DEFAULT_LIMITS: Final = Limits()


class Backoff:
    """How long to wait after each failure in a row. One owner, not shared between threads."""

    def __init__(self, rng: random.Random, limits: Limits = DEFAULT_LIMITS) -> None:
        self._rng = rng
        self._limits = limits
        self.failures = 0

    def after(self, error: StoreError) -> float:
        """Seconds to wait now that `error` came: at least what the store asked for, never nothing for ever.

        For those who must not give up whatever the answer: what only a person can change (a login, a permission, junk
        under our name) is not asked about faster than the ceiling; room may be made at any moment.
        """
        # 2**63 seconds are for ever already; without the bound a float overflows after a thousand failures.
        bound = min(self._limits.ceiling_s, self._limits.first_s * 2 ** min(self.failures, 63))
        self.failures += 1
        if isinstance(error, Retry):
            asked = min(max(0.0, error.after), self._limits.longest_after_s)
        else:
            asked = 0.0 if isinstance(error, Quota) else self._limits.ceiling_s
        return asked + self._rng.uniform(0.0, bound)

    def succeeded(self) -> None:
        """The row of failures is over."""
        self.failures = 0


class Retries:
    """Asks a store again while that can help. Thread-safe; blocks the thread it is called in."""

    def __init__(self, rng: random.Random, limits: Limits = DEFAULT_LIMITS) -> None:
        self._rng = rng
        self._limits = limits

    def run(self, action: Callable[[Call], T], call: Call) -> T:
        """The result of `action(call)`, tried again after `Retry`.

        Gives up with the last error when attempts or time run out, when the wait would outlast the deadline, or when
        the call is aborted; waits are on the clock of the call. Any other error passes at once. `action` must be one
        that may be repeated after its answer was lost, as all of `Store` are.
        """
        backoff = Backoff(self._rng, self._limits)
        while True:
            call.check()
            try:
                return action(call)
            except Retry as error:
                wait = backoff.after(error)
                if backoff.failures >= self._limits.attempts or wait >= call.remaining():
                    raise
                call.clock.wait(wait, call.abort)
                if call.aborted:
                    raise
