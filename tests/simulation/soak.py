"""Many random histories of whole vaults: `python -m tests.simulation.soak --first 0 --runs 1000 [--turns 60]`.

Prints each seed that fails, with its last moves and the command that repeats it, and at the end how many went well.
`--shrink` leaves out of each failing history what it fails without. Exit code 1 if any failed.
"""

import argparse
import logging
import sys
import time
import traceback

from tests.simulation.plans import plan
from tests.simulation.shrinking import shrunk
from tests.simulation.vault_group import simulate


def main() -> int:
    """Run them one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--turns", type=int, default=60)
    parser.add_argument("--only", default="", help="numbers of the moves to make, with commas between")
    parser.add_argument("--shrink", action="store_true")
    parser.add_argument("--trace", action="store_true", help="print what happens")
    given = parser.parse_args()
    logging.disable()
    only = {int(one) for one in given.only.split(",")} if given.only else None
    began, failed = time.monotonic(), 0
    for seed in range(given.first, given.first + given.runs):
        try:
            trace = simulate(seed, turns=given.turns, only=only)
            if given.trace:
                print("\n".join(trace.lines))
        except BaseException as err:
            failed += 1
            print(f"seed {seed} failed", flush=True)
            if given.shrink:
                what = plan(seed, given.turns)
                err = shrunk(what if only is None else what.without({one.number for one in what.moves} - only), err)[1]
            traceback.print_exception(err, chain=False)
        if isinstance(sys.exc_info()[1], KeyboardInterrupt):
            break
    print(f"{given.runs} runs, {failed} failed, {time.monotonic() - began:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
