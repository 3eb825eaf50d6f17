"""Asking before what cannot be taken back: the person reads what will happen, and agrees; a script says `--yes`."""

import functools
import sys
from collections.abc import Sequence

import click

from cryptfs.cli.output import note, safe
from cryptfs.errors import UsageError

__all__ = ["agree", "yes_option"]

yes_option = functools.partial(click.option, "--yes", is_flag=True, help="Do not ask; for scripts.")


def agree(consequences: Sequence[str], question: str, *, yes: bool) -> None:
    """Return if the person agrees. `consequences` are told in any case. Raises UsageError if she does not."""
    for one in consequences:
        note(safe(one))
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError("This has to be confirmed, and there is no terminal to ask.", "Say --yes if you are sure.")
    if not click.confirm(safe(question), err=True):
        raise UsageError("Nothing was changed.", "Run the command again if you meant it.")
