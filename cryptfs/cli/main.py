"""`cryptfs`: the table of its commands, each loaded only when it is called."""

import importlib
import sys
from typing import Final, NoReturn

import click
from click.shell_completion import CompletionItem

from cryptfs import VERSION
from cryptfs.cli.output import execute

__all__ = ["LazyGroup", "cryptfs", "run"]

Table = dict[str, tuple[str, str]]

_COMMANDS: Final[Table] = {
    "init": ("founding", "Make a vault in an empty folder."),
    "join": ("joining", "Ask to be let into a vault."),
    "leave": ("joining", "Leave a vault for good, with this device."),
    "login": ("loggingin", "Log in at Google Drive."),
    "logout": ("loggingin", "Withdraw a login at Google Drive."),
    "mount": ("mounting", "Mount a vault."),
    "umount": ("mounting", "Unmount a vault (also: unmount)."),
    "sync": ("syncing", "Wait until every change is in the store."),
    "status": ("status", "Say how the vaults of this device are."),
    "list": ("status", "List the vaults of this device."),
    "ls": ("files", "List a directory, mounted or not."),
    "cat": ("files", "Write a file's contents to standard output."),
    "get": ("files", "Copy out of a vault."),
    "put": ("files", "Copy into a vault."),
    "export": ("exporting", "Write unsent changes to a directory, in clear."),
    "info": ("files", "Show the objects that hold a file."),
    "versions": ("past", "List the old versions of a file."),
    "trash": ("past", "List what was deleted."),
    "conflicts": ("conflicts", "List conflicted copies, or settle one."),
    "restore": ("past", "Bring back an old version, or what was deleted."),
    "pin": ("pinning", "Keep files and folders here for use without the store."),
    "unpin": ("pinning", "Keep them no longer."),
    "fsck": ("fsck", "Check a vault against its store."),
    "doctor": ("health", "Check this machine, and how it reaches a vault."),
    "enable": ("service", "Mount a vault at every login."),
    "disable": ("service", "Stop mounting a vault at login."),
}
"""Command: module below `cryptfs.cli`, one line for `--help`, which so imports none of those modules."""

_ALIASES: Final = {"unmount": "umount"}


class LazyGroup(click.Group):
    """A group of commands that stand in modules not imported before they are needed.

    `table` maps each command to its module below `cryptfs.cli`, where a function of the command's name
    (with a trailing underscore if Python has that word already) is the click command, and to its line of help.
    """

    def __init__(
        self, table: dict[str, tuple[str, str]], aliases: dict[str, str] | None = None, **rest: object
    ) -> None:
        super().__init__(**rest)  # type: ignore[arg-type]  # handed through as they came
        self._table = table
        self._aliases = aliases or {}

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        return list(self._table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        name = self._aliases.get(cmd_name, cmd_name)
        if name not in self._table:
            return None
        module = importlib.import_module(f"cryptfs.cli.{self._table[name][0]}")
        command = getattr(module, name, None) or getattr(module, f"{name}_")
        if not isinstance(command, click.Command):
            raise TypeError(f"cryptfs.cli.{self._table[name][0]}.{name} is no command")
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Commands from the table, without importing any: a Tab press runs all of this."""
        commands = [CompletionItem(name, help=text) for name, (_module, text) in self._table.items()]
        options = click.Command.shell_complete(self, ctx, incomplete)
        return [item for item in commands if item.value.startswith(incomplete)] + options

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_module, text) in self._table.items()])


cryptfs = LazyGroup(
    _COMMANDS,
    _ALIASES,
    name="cryptfs",
    help="A shared cloud folder that only its group can read.",
    epilog="Start with `cryptfs init NAME file:///DIR`, then `cryptfs mount NAME`.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    params=[],
)
cryptfs = click.version_option(VERSION, prog_name="cryptfs", message="%(prog)s %(version)s")(cryptfs)


def run() -> NoReturn:
    """Entry point of `cryptfs`."""
    sys.exit(execute(cryptfs, "cryptfs"))
