"""Reading the fixed vectors of tests/vectors."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

VECTORS = Path(__file__).parent.parent / "vectors"


def load(name: str) -> dict:
    return json.loads((VECTORS / f"{name}.json").read_text())


def unhex(value: str) -> bytes:
    return bytes.fromhex(value)


def maker() -> ModuleType:
    """The script that made them."""
    spec = importlib.util.spec_from_file_location("make_crypto", VECTORS / "make_crypto.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
