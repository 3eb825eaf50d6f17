"""`cryptfs-admin checkpoint`: the tree in one object, so that a new device need not replay all history."""

from pathlib import Path

import click

from cryptfs.cli.acting import act
from cryptfs.cli.arguments import json_option, passphrase_option, vault_argument
from cryptfs.cli.output import counted, document, line, note, safe
from cryptfs.vault.home import VaultHome

__all__ = ["checkpoint"]


@click.command(short_help="Write the tree as all devices know it into one object.")
@vault_argument()
@json_option()
@passphrase_option()
def checkpoint(*, name: str, as_json: bool, passphrase_file: Path | None) -> None:
    """Make a checkpoint of the vault NAME: the tree up to where every device has said that it has seen it.

    Mounts do this by themselves, when many changes have come together. A new device begins from it, and reads only the
    changes after it. Once all devices have found the same tree, old log objects can go.
    """
    answer = act(VaultHome.of(name), passphrase_file, "checkpoint")
    answer.pop("ok", None)
    if as_json:
        document(answer)
        return
    if answer["newest"] is None:
        line("There is no checkpoint: some device has not acknowledged anything yet.")
        note(f"`cryptfs-admin members {name}` shows when each was heard of last.")
        return
    if answer["made"]:
        line(f"Made a checkpoint of {answer['nodes']} files and directories.")
    else:
        line(safe(f"The newest checkpoint, by {answer['by']}, has all that every device has acknowledged."))
    since = answer["operations_since"]
    if since:
        line(f"{counted(since, 'change')} came after it.")
    if answer["waiting_for"]:
        waiting = ", ".join(answer["waiting_for"])
        line(safe(f"Not heard of yet whether they find the same: {waiting}. They say so when they are mounted next."))
    elif answer["floor"] == answer["newest"]:
        line("All devices have found the same: nothing before it is revised any more.")
