"""Arguments and options that several commands share."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from cryptfs.vault.home import known_vaults

__all__ = ["json_option", "passphrase_option", "vault_argument"]

_C = TypeVar("_C", bound=Callable[..., Any])


class VaultName(click.ParamType[str]):
    """A vault's name; Tab offers those of this device, from local files alone."""

    name = "name"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002
        return [CompletionItem(name) for name in known_vaults() if name.startswith(incomplete)]


def vault_argument(*, required: bool = True, metavar: str = "NAME") -> Callable[[_C], _C]:
    """The argument `name`."""
    return click.argument("name", type=VaultName(), required=required, metavar=metavar if required else f"[{metavar}]")


json_option = functools.partial(click.option, "--json", "as_json", is_flag=True, help="Print JSON.")

passphrase_option = functools.partial(
    click.option,
    "--passphrase-file",
    type=click.Path(path_type=Path, exists=False, dir_okay=False),
    envvar="CRYPTFS_PASSPHRASE_FILE",
    metavar="FILE",
    help="Read the passphrase from the first line of FILE (/dev/fd/N for a descriptor).",
)
