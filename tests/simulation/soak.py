"""Many random histories of whole vaults: `python -m tests.simulation.soak --first 0 --runs 1000 [--turns 120]`.

Prints each seed that fails, with its last moves, and at the end how many went well. Exit code 1 if any failed.
"""

import argparse
import logging
import sys
import time
import traceback

from tests.simulation.vault_group import simulate


def main() -> int:
    """Run them one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--turns", type=int, default=120)
    given = parser.parse_args()
    logging.disable()
    began, failed = time.monotonic(), 0
    for seed in range(given.first, given.first + given.runs):
        try:
            simulate(seed, devices=2 + seed % 3, turns=given.turns)
        except BaseException:
            failed += 1
            print(f"seed {seed}, {given.turns} turns, {2 + seed % 3} devices failed:")
            traceback.print_exc()
    print(f"{given.runs} runs, {failed} failed, {time.monotonic() - began:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
