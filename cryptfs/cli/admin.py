"""`cryptfs-admin`: the table of the commands about who is in the group."""

import sys
from typing import Final, NoReturn

import click

from cryptfs import VERSION
from cryptfs.cli.main import LazyGroup
from cryptfs.cli.output import execute

__all__ = ["cryptfs_admin", "run"]

_COMMANDS: Final = {
    "members": ("members", "List who is in, with which role and devices."),
    "verify": ("members", "Check every membership statement and every signature in the store."),
}

cryptfs_admin = LazyGroup(
    _COMMANDS,
    name="cryptfs-admin",
    help="Who is in the group of a vault.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
cryptfs_admin = click.version_option(VERSION, prog_name="cryptfs-admin", message="%(prog)s %(version)s")(cryptfs_admin)


def run() -> NoReturn:
    """Entry point of `cryptfs-admin`."""
    sys.exit(execute(cryptfs_admin, "cryptfs-admin"))
