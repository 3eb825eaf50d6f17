"""A deadline that costs nothing while nothing waits.

Opening a trio cancel scope takes 4 to 8 µs, as much as answering a request from memory. Nearly every request is
answered without waiting; so the first step of a handler runs bare, and the scope is opened only if it has to wait.
"""

import logging
import math
import types
from collections.abc import Coroutine, Generator
from typing import Any, TypeVar

import trio
from trio.lowlevel import Task, current_task

__all__ = ["within"]

T = TypeVar("T")

_log = logging.getLogger(__name__)


@types.coroutine
def within(seconds: float, work: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
    """Await `work`; raises trio.TooSlowError where it waits longer than `seconds`.

    A scope that `work` itself opened before its first wait encloses ours, so ours begins when that one is closed: such
    a scope needs a deadline of its own, and one without is reported.
    """
    task = current_task()
    # trio has no public name for "the innermost scope of this task"; tests/mount/test_deadline.py watches this one.
    outside = task._cancel_status  # noqa: SLF001
    try:
        trap = work.send(None)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]  # the type of a coroutine's result is lost in StopIteration
    if task._cancel_status is not outside:  # noqa: SLF001
        if trio.current_effective_deadline() == math.inf:
            _log.error("%s waits in a cancel scope without a deadline", getattr(work, "__qualname__", work))
        finished, trap = yield from _until_outside(work, trap, task, outside)
        if finished:
            return trap  # type: ignore[no-any-return]
    with trio.fail_after(seconds):  # noqa: ASYNC100  # this generator awaits by `yield from`
        result: T = yield from _rest(work, trap)
        return result


def _until_outside(work: Any, trap: Any, task: Task, outside: Any) -> Generator[Any, Any, tuple[bool, Any]]:
    """Run on while scopes of `work` are open: (True, result), or (False, the trap it waits in outside of them)."""
    while True:
        done, trap = yield from _step(work, trap)
        if done or task._cancel_status is outside:  # noqa: SLF001
            return done, trap


def _rest(work: Any, trap: Any) -> Generator[Any, Any, Any]:
    while True:
        done, trap = yield from _step(work, trap)
        if done:
            return trap


def _step(work: Any, trap: Any) -> Generator[Any, Any, tuple[bool, Any]]:
    """Hand `trap` to trio and its answer to `work`: (True, result) or (False, next trap)."""
    try:
        answer = yield trap
    except BaseException:
        # trio answers by sending, cancellation too; it throws only what ends the task, as for a foreign awaitable.
        work.close()
        raise
    try:
        return False, work.send(answer)
    except StopIteration as done:
        return True, done.value
