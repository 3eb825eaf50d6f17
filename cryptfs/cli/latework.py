"""`cryptfs-admin late`, `accept`, `discard`, `close`: what arrived after the end of a log, and ending one."""

from pathlib import Path

import click

from cryptfs.cli.acting import act
from cryptfs.cli.arguments import json_option, passphrase_option, vault_argument
from cryptfs.cli.asking import agree, yes_option
from cryptfs.cli.output import counted, document, line, note, safe
from cryptfs.vault.home import VaultHome

__all__ = ["accept", "close", "discard", "late"]


@click.command(short_help="List changes that arrived after the end of their log.")
@vault_argument()
@json_option()
@passphrase_option()
def late(*, name: str, as_json: bool, passphrase_file: Path | None) -> None:
    """List the late work of the vault NAME: changes of devices that were removed, closed, or exist twice.

    They do not count, and are kept. `accept` has them count, `discard` takes them off this list.
    """
    found = act(VaultHome.of(name), passphrase_file, "late")["late"]
    if as_json:
        document(found)
        return
    for one in found:
        line(safe(f"{counted(one['changes'], 'change')} by {one['who']}: {one['why']}."))
        line(safe(f"  log {one['log'][:8]}, {counted(one['segments'], 'segment')}, the last made {one['last']}"))
        if one["paths"]:
            line(safe(f"  among them: {', '.join(one['paths'])}"))
        if one["sent_again"]:
            line("  That device works on in a new log, and sends them again itself.")
    if not found:
        note("There is no late work.")


@click.command(short_help="Have late changes count after all.")
@vault_argument()
@click.argument("which", metavar="LOG|DEVICE")
@yes_option()
@json_option()
@passphrase_option()
def accept(*, name: str, which: str, yes: bool, as_json: bool, passphrase_file: Path | None) -> None:
    """Have the late changes in a log of the vault NAME count, in their old places, for everybody.

    LOG is the beginning of the log's id, or who made them: NAME or NAME/DEVICE. Conflicts become conflicted copies.
    """
    said = ["These changes will be merged for everybody, as if they had arrived in time. That cannot be taken back."]
    agree(said, f"Accept the late changes of {which}?", yes=yes)
    answer = act(VaultHome.of(name), passphrase_file, "accept", log=which)
    if as_json:
        document(answer)
    else:
        line(f"{counted(answer['accepted'], 'segment')} accepted.")


@click.command(short_help="Take late changes off the list of this device.")
@vault_argument()
@click.argument("which", metavar="LOG|DEVICE")
@json_option()
@passphrase_option()
def discard(*, name: str, which: str, as_json: bool, passphrase_file: Path | None) -> None:
    """Take the late changes in a log of the vault NAME off this device's list. They stay in the folder."""
    answer = act(VaultHome.of(name), passphrase_file, "discard", log=which)
    if as_json:
        document(answer)
    else:
        line(f"{counted(answer['discarded'], 'segment')} taken off the list.")


@click.command(short_help="Close the log of a device that is silent.")
@vault_argument()
@click.argument("who", metavar="DEVICE")
@click.option("--lost", is_flag=True, help="What is missing of its log is given up: nobody waits for it any more.")
@yes_option()
@json_option()
@passphrase_option()
def close(*, name: str, who: str, lost: bool, yes: bool, as_json: bool, passphrase_file: Path | None) -> None:
    """Close the log of a device (NAME/DEVICE, or an id) of the vault NAME where it stands here.

    For one that has been silent for long, so that nobody waits for it. It keeps its keys: when it comes back it goes
    on in a new log, and sends again what did not count.
    """
    home = VaultHome.of(name)
    chosen = act(home, passphrase_file, "who", who=who)
    devices = ", ".join(chosen["devices"])
    fate = "is given up for good" if lost else "does not count until the device sends it again"
    whose = f"{chosen['member']} ({devices})"
    said = f"This closes the log of {whose} where it stands here. What has not arrived by now {fate}."
    agree([said], f"Close the log of {whose}?", yes=yes)
    answer = act(home, passphrase_file, "close", entries=chosen["entries"], lost=lost)
    if as_json:
        document(answer)
    else:
        line(safe(f"The log of {whose} is closed."))
