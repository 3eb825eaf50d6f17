"""Makes a failing history short: moves without which it still fails are left out, first half of them at once."""

import re
from collections.abc import Iterator

from tests.simulation.plans import Plan
from tests.simulation.vault_group import run_plan

__all__ = ["cause_of", "failure_of", "shrunk"]

_TRIES = 400


def failure_of(what: Plan) -> BaseException | None:
    """What goes wrong in a history; None if nothing."""
    try:
        run_plan(what)
    except KeyboardInterrupt:
        raise
    except BaseException as err:
        return err
    return None


def shrunk(what: Plan, failure: BaseException, *, tries: int = _TRIES) -> tuple[Plan, BaseException]:
    """A shorter history that fails in the same way, and how; the same if there is none."""
    size = max(1, len(what.moves) // 2)
    while size:
        at = 0
        while at < len(what.moves) and tries > 0:
            tries -= 1
            shorter = what.without({one.number for one in what.moves[at : at + size]})
            found = failure_of(shorter)
            if found is not None and _alike(found, failure):
                what, failure = shorter, found
            else:
                at += size
        size //= 2
    return what, failure


def cause_of(err: BaseException) -> str:
    """The first line of what a failure says, without numbers and names of the run."""
    first = _first(err)
    said = str(first).partition("\n")[0] or type(first).__name__
    said = said if isinstance(first, AssertionError) else f"{type(first).__name__}: {said}"
    return re.sub(r"[({\['].*", "", said)[:90].strip(" :") or said[:90]


def _alike(one: BaseException, other: BaseException) -> bool:
    """Whether two failures look like the same: kind and place, not their numbers."""
    return _place(one) == _place(other)


def _place(err: BaseException) -> tuple[str, str]:
    first = _first(err)
    place, trace = "", first.__traceback__
    while trace is not None:
        place, trace = trace.tb_frame.f_code.co_qualname, trace.tb_next
    return type(first).__name__, place


def _first(err: BaseException) -> BaseException:
    """What went wrong, out of the groups it comes in; a judge's word before anything that followed from it."""
    found = list(_leaves(err))
    return next((one for one in found if isinstance(one, AssertionError)), found[0])


def _leaves(err: BaseException) -> Iterator[BaseException]:
    if isinstance(err, BaseExceptionGroup):
        for one in err.exceptions:
            yield from _leaves(one)
    else:
        yield err
