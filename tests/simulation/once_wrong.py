"""Histories that once went wrong, kept move by move in `once_wrong.json`, each under what was wrong.

A seed alone would not do: what is drawn for it changes with every new kind of move.
"""

import json
from pathlib import Path

from tests.simulation.plans import Plan

__all__ = ["keep", "once_wrong"]

_FILE = Path(__file__).parent / "once_wrong.json"


def once_wrong() -> dict[str, Plan]:
    """All of them, by what was wrong."""
    return {name: Plan.of(told) for name, told in json.loads(_FILE.read_text()).items()}


def keep(name: str, what: Plan) -> None:
    """Add one."""
    told = {one: plan.told() for one, plan in (once_wrong() | {name: what}).items()}
    lines = [f"{json.dumps(one)}: {json.dumps(plan)}" for one, plan in told.items()]
    _FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")
