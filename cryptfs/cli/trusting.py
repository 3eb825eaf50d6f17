"""`cryptfs-admin trust`: what this device remembers of the folder, and a clock that once ran ahead."""

import time
from pathlib import Path

import click

from cryptfs.cli.acting import act
from cryptfs.cli.arguments import json_option, passphrase_option, vault_argument
from cryptfs.cli.asking import agree, yes_option
from cryptfs.cli.control import require_unmounted
from cryptfs.cli.output import document, fields, line, safe
from cryptfs.cli.unlocking import unlock
from cryptfs.crypto.keys import PurposeKey, local_key
from cryptfs.errors import HostileStore, UsageError
from cryptfs.group.memory import TrustMemory, recall, remember, reset_clock
from cryptfs.vault.disk import local_disk
from cryptfs.vault.home import VaultHome
from cryptfs.vault.people import instant
from cryptfs.vault.sealedfile import write_durably

__all__ = ["trust"]


@click.group(short_help="Show what this device has seen, and whom it believes.")
def trust() -> None:
    """The memory that a folder cannot take back: what it has shown to this device before."""


@trust.command(short_help="Show what is remembered.")
@vault_argument()
@json_option()
@passphrase_option()
def show(*, name: str, as_json: bool, passphrase_file: Path | None) -> None:
    """Show how much of the vault NAME this device has seen, and how far its clock has been."""
    memory, _ = _remembered(VaultHome.of(name), passphrase_file)
    found: dict[str, object] = {
        "logs": len(memory.heads),
        "segments": sum(head.seq + 1 for head in memory.heads),
        "statements": [one.hex() for one in memory.frontier],
        "min_format": memory.min_format,
        "clock": instant(memory.clock_ms),
    }
    if as_json:
        document(found)
    else:
        fields({key: ", ".join(said) if isinstance(said, list) else said for key, said in found.items()})


@trust.command("reset-clock", short_help="The clock of this machine once ran ahead.")
@vault_argument()
@yes_option()
@passphrase_option()
def reset(*, name: str, yes: bool, passphrase_file: Path | None) -> None:
    """Judge the certificates of the vault NAME by the clock of this machine as it is now.

    Certificates are judged by the latest time this device has known, so that a clock that is set back revives none. One
    that ran ahead by mistake makes good certificates look expired: this takes it back.
    """
    home = VaultHome.of(name)
    home.require()
    require_unmounted(home)  # a mount would go on remembering the old clock
    memory, key = _remembered(home, passphrase_file)
    now_ms = time.time_ns() // 1_000_000
    agree([f"The latest time remembered is {instant(memory.clock_ms)}; now is {instant(now_ms)}."], "Use it?", yes=yes)
    write_durably(home.trust_file, remember(reset_clock(memory, now_ms), key))
    line(f"The clock of '{name}' is reset.")


@trust.command(short_help="Show the words of checkpoints, or confirm one.")
@vault_argument()
@click.option(
    "--confirm", is_flag=True, help="The words of the doubtful checkpoint are those that another member sees."
)
@yes_option()
@json_option()
@passphrase_option()
def checkpoint(*, name: str, confirm: bool, yes: bool, as_json: bool, passphrase_file: Path | None) -> None:
    """Show words for the trees in the checkpoints of the vault NAME, as far as this device knows them.

    Equal words on two devices mean equal trees. A new device that nobody can vouch to is read-only until its words were
    compared, over another channel than the folder, and --confirm says so.
    """
    home = VaultHome.of(name)
    found = act(home, passphrase_file, "roots")["checkpoints"]
    doubtful = [one for one in found if one["doubtful"]]
    if confirm and doubtful:
        agree([safe(f"{doubtful[0]['by']} made it. Its words: {doubtful[0]['words']}")], "Are they right?", yes=yes)
    if confirm:
        found = act(home, passphrase_file, "roots", confirm=True)["checkpoints"]
    if as_json:
        document(found)
        return
    for one in found:
        said = "doubtful" if one["doubtful"] else "found the same here" if one["agreed"] else "not the same here"
        line(safe(f"{one['stamp']}  {one['words']}  by {one['by']}, {said}"))
    if not found:
        line("This device knows no checkpoint.")


def _remembered(home: VaultHome, passphrase_file: Path | None) -> tuple[TrustMemory, PurposeKey]:
    keys = unlock(home, passphrase_file)
    key = local_key(keys.local_secret, "memory")
    with local_disk("reading what this device has seen"):
        data = home.trust_file.read_bytes() if home.trust_file.exists() else b""
    if not data:
        raise UsageError("This device remembers nothing yet.", f"Mount it: `cryptfs mount {home.name}`.")
    try:
        return recall(data, key, keys.vault), key
    except HostileStore as err:
        raise UsageError("The memory of this device is damaged; the next mount begins a new one.") from err
