"""`cryptfs conflicts`: conflicted copies beside their originals, and settling them."""

from pathlib import Path
from typing import Any

import click

from cryptfs.cli.arguments import json_option, passphrase_option, vault_argument
from cryptfs.cli.lookingback import ask_past
from cryptfs.cli.output import document, line, local_time, note, safe, size, table
from cryptfs.errors import UsageError
from cryptfs.vault.home import VaultHome

__all__ = ["conflicts"]


@click.command(short_help="List conflicted copies, or settle one.")
@vault_argument()
@click.argument("words", nargs=-1, metavar="[keep PATH]")
@click.option("--this", "which", flag_value="this", help="Keep what is at PATH; the other goes to the trash.")
@click.option("--other", "which", flag_value="other", help="Keep the other; what is at PATH goes to the trash.")
@click.option("--both", "which", flag_value="both", help="Keep both; the copy gets a normal name.")
@click.option("--as", "as_name", default="", metavar="NAME", help="The name of the copy, with --both.")
@json_option()
@passphrase_option()
def conflicts(
    *, name: str, words: tuple[str, ...], which: str | None, as_name: str, as_json: bool, passphrase_file: Path | None
) -> None:
    """List the conflicted copies in the vault NAME: who made which version, and when.

    With `keep PATH` and one of --this, --other, --both the conflict of PATH, which is the copy or the original, is
    settled. Nothing is lost by that: what is not kept goes to the trash.
    """
    home = VaultHome.of(name)
    if words or which or as_name:
        _keep(home, passphrase_file, words, which, as_name, as_json=as_json)
        return
    _, rows = ask_past(home, passphrase_file, "conflicts")
    if as_json:
        document(rows)
    elif not rows:
        note("There are no conflicted copies.")
    else:
        table(("Changed", "By", "Size", "Path"), [one for row in rows for one in _lines(row)], right=frozenset({2}))


def _lines(row: dict[str, Any]) -> list[list[str]]:
    """The original, if there is one, and the copy below it."""
    sides = [row["original"], row["copy"]] if row["original"] else [row["copy"]]
    return [[local_time(one["time"]), one["by"], size(one["size"]), one["path"]] for one in sides]


def _keep(
    home: VaultHome, passphrase_file: Path | None, words: tuple[str, ...], which: str | None, as_name: str, *,
    as_json: bool,
) -> None:  # fmt: skip
    if len(words) != 2 or words[0] != "keep":
        raise UsageError("That is `conflicts NAME`, or `conflicts NAME keep PATH` with a choice.")
    if not which:
        raise UsageError("Which one is to stay?", "Say --this, --other, or --both.")
    if as_name and which != "both":
        raise UsageError("--as names the copy that stays beside the original.", "Use it with --both.")
    answer, _ = ask_past(home, passphrase_file, "keep", words[1], which=which, name=as_name)
    if as_json:
        document({"kept": answer["kept"], "trashed": answer["trashed"]})
        return
    for path in answer["kept"]:
        line(safe(f"kept: {path}"))
    for path in answer["trashed"]:
        line(safe(f"in the trash: {path}"))
