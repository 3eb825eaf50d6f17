"""Lets the tests of this room import what stands beside them, and hands them the room as it is.

`test_rule_mutants.py` runs the same tests with one rule broken.
"""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from membership_world import real_group


@pytest.fixture
def group() -> SimpleNamespace:
    return real_group()
