"""Weakening one rule of the product while a block runs: some text of one function is exchanged for another.

The text must be there, else the mutant has gone stale and says so. Whoever imported the function by name gets the weak
one as well.
"""

import importlib
import inspect
import sys
import textwrap
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any
from unittest import mock

__all__ = ["Edit", "weakened"]

_ROOM = "cryptfs."


@dataclass(frozen=True)
class Edit:
    """In `place` (`module:function` or `module:Class.method`, below `cryptfs`), `old` becomes `new`."""

    place: str
    old: str
    new: str


@contextmanager
def weakened(*edits: Edit) -> Iterator[None]:
    """The product with these edits. Raises LookupError for a text that is not there exactly once."""
    with ExitStack() as stack:
        for edit in edits:
            _weaken(stack, edit)
        yield


def _weaken(stack: ExitStack, edit: Edit) -> None:
    module_name, _, path = edit.place.partition(":")
    module = importlib.import_module(_ROOM + module_name)
    owner: Any = module
    *above, name = path.split(".")
    for one in above:
        owner = getattr(owner, one)
    before = inspect.getattr_static(owner, name)
    weak = _edited(module, before, edit)
    stack.enter_context(mock.patch.object(owner, name, weak))
    if owner is module:
        _replace_everywhere(stack, before, weak)


def _edited(module: ModuleType, before: Any, edit: Edit) -> Any:
    function = before.fget if isinstance(before, property) else getattr(before, "__func__", before)
    source = textwrap.dedent(inspect.getsource(function))
    if source.count(edit.old) != 1:
        raise LookupError(f"{edit.place} does not have the text just once: {edit.old}")
    made: dict[str, Any] = {}
    code = compile(source.replace(edit.old, edit.new), f"weakened {edit.place}", "exec", dont_inherit=True)
    exec(code, module.__dict__, made)
    return made[function.__name__]


def _replace_everywhere(stack: ExitStack, before: Any, weak: Any) -> None:
    """Modules that imported the function by name, and tables that list it."""
    for module in [one for name, one in sys.modules.items() if name.startswith(_ROOM)]:
        for name, value in list(vars(module).items()):
            if value is before:
                stack.enter_context(mock.patch.object(module, name, weak))
            elif isinstance(value, dict) and any(one is before for one in value.values()):
                listed = {key: weak for key, one in value.items() if one is before}
                stack.enter_context(mock.patch.dict(value, listed))
