"""Many random histories of whole vaults: `python -m tests.simulation.soak --first 0 --runs 1000 [--turns 60]`.

Prints each seed that fails, with its last moves and the command that repeats it, from time to time how far it is, and
at the end how many went well. `--shrink SEED` leaves out of one failing history what it fails without, and prints what
is left to read; `--keep "what was wrong"` puts that among the histories that are repeated by the tests for ever.
Exit code 1 if any failed.
"""

import argparse
import logging
import sys
import time
import traceback

from tests.simulation.once_wrong import keep
from tests.simulation.plans import Plan, plan
from tests.simulation.shrinking import failure_of, shrunk
from tests.simulation.vault_group import run_plan

_SAY_EVERY = 500
"""Runs between two lines that say how far it is."""


def main() -> int:
    """Run them one after the other, or shrink one."""
    given = _parser().parse_args()
    logging.disable()
    if given.shrink is not None:
        return _shrink(_planned(given.shrink, given), given.keep)
    began, moves, failed = time.monotonic(), 0, 0

    def so_far(runs: int) -> str:
        return f"{runs} runs, {moves} moves, {failed} failed, {time.monotonic() - began:.0f} s"

    for number in range(given.runs):
        what = _planned(given.first + number, given)
        moves += len(what.moves)
        try:
            trace = run_plan(what)
        except KeyboardInterrupt:
            break
        except BaseException as err:
            failed += 1
            print(f"seed {what.seed} failed", flush=True)
            traceback.print_exception(err, chain=False)
        else:
            if given.trace:
                print("\n".join(trace.lines))
        if number % _SAY_EVERY == _SAY_EVERY - 1:
            print(so_far(number + 1), flush=True)
    print(f"{so_far(given.runs)} (of {time.process_time():.0f} s of the processor)")
    return 1 if failed else 0


def _planned(seed: int, given: argparse.Namespace) -> Plan:
    whole = plan(seed, given.turns)
    if not given.only:
        return whole
    only = {int(one) for one in given.only.split(",")}
    return whole.without({one.number for one in whole.moves} - only)


def _shrink(what: Plan, name: str) -> int:
    failure = failure_of(what)
    if failure is None:
        print(f"seed {what.seed} does not fail")
        return 0
    what, failure = shrunk(what, failure)
    traceback.print_exception(failure, chain=False)
    if name:
        keep(name, what)
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--turns", type=int, help="moves of each history; by default 10 of most, 25, 60 of few")
    parser.add_argument("--only", default="", help="numbers of the moves to make, with commas between")
    parser.add_argument("--shrink", type=int, metavar="SEED")
    parser.add_argument("--keep", default="", metavar="WHAT_WAS_WRONG")
    parser.add_argument("--trace", action="store_true", help="print what happens")
    return parser


if __name__ == "__main__":
    sys.exit(main())
