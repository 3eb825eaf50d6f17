"""Lets the tests of this room import their samples, and the reference implementation of the crypto beside them."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "crypto")]
