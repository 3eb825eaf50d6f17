"""Makes a failing history short: moves without which it still fails are left out, first half of them at once."""

from tests.simulation.plans import Plan
from tests.simulation.vault_group import run_plan

__all__ = ["failure_of", "shrunk"]

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


def _alike(one: BaseException, other: BaseException) -> bool:
    """Whether two failures look like the same: words and places of the judges, not their numbers."""
    return _cause(one) == _cause(other)


def _cause(err: BaseException) -> tuple[str, str]:
    while isinstance(err, BaseExceptionGroup):
        err = err.exceptions[0]
    place, trace = "", err.__traceback__
    while trace is not None:
        place, trace = trace.tb_frame.f_code.co_qualname, trace.tb_next
    return type(err).__name__, place
