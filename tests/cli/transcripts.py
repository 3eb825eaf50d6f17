"""What a command answered, and what its errors look like."""

from collections.abc import Callable
from typing import NamedTuple


class Result(NamedTuple):
    """What one command line answered."""

    code: int
    out: str
    err: str


Run = Callable[..., Result]


def two_lines(result: Result) -> tuple[str, str]:
    """The error of a command: exactly what happened, and what to do."""
    what, advice = result.err.splitlines()
    assert result.out == ""
    return what, advice
