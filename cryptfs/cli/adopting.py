"""`cryptfs-admin adopt`: taking over the packs that somebody else's devices hold."""

from pathlib import Path
from typing import Any

import click

from cryptfs.cli.acting import act_long
from cryptfs.cli.arguments import json_option, passphrase_option, vault_argument
from cryptfs.cli.output import counted, document, line, safe, size
from cryptfs.errors import StoreError
from cryptfs.vault.home import VaultHome

__all__ = ["adopt", "tell_adopted"]


@click.command(short_help="Take over the packs of somebody else.")
@vault_argument()
@click.argument("who", metavar="MEMBER|DEVICE")
@json_option()
@passphrase_option()
def adopt(*, name: str, who: str, as_json: bool, passphrase_file: Path | None) -> int:
    """Take over the packs that a member, or one device (NAME/DEVICE), holds in the vault NAME, also one that is out.

    From then on this device deletes what nobody uses of them. Where objects belong to accounts, each is copied into
    the account of this device first, so that the other account may go. Who was removed needs no command: the mount of
    an administrator takes over by itself within the hour, and at once with `cryptfs-admin collect`.
    """
    answer = act_long(VaultHome.of(name), passphrase_file, "adopt", who=who)
    answer.pop("ok", None)
    if as_json:
        document(answer)
    else:
        tell_adopted(answer)
    return StoreError.exit_code if answer["left"] else 0


def tell_adopted(answer: dict[str, Any]) -> None:
    """Say what was taken over, and what was not."""
    line(f"Took over {counted(answer['packs'], 'pack')}, {size(answer['bytes'])}.")
    if answer["copied"]:
        line(f"{counted(answer['copied'], 'object')} copied into this account.")
    for key, why in answer["left"].items():
        line(safe(f"{key} stays: {why}"))
