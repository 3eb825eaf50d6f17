"""`cryptfs restore --undo-device`: what one device did since some time is shown, and undone when agreed to."""

from pathlib import Path
from typing import Any, Final

from cryptfs.cli.asking import agree
from cryptfs.cli.lookingback import ask_past
from cryptfs.cli.output import cell, counted, document, line, note, safe, table
from cryptfs.vault.home import VaultHome

__all__ = ["undo_device"]

_SHOWN: Final = 20
"""Rows shown before the question; all of them with --dry-run."""
_WORDS: Final = {"content": "earlier content", "undelete": "back from the trash", "move": "earlier name"}


def undo_device(
    home: VaultHome, passphrase_file: Path | None, who: str, since_ms: int, *, dry_run: bool, yes: bool, as_json: bool
) -> None:
    """Plan, show, ask, and do it."""
    plan, rows = ask_past(home, passphrase_file, "undo", device=who, since_ms=since_ms)
    repairs, left = _parted(rows)
    if as_json and (dry_run or not repairs):
        document({"devices": plan["devices"], "repairs": repairs, "left": left, "made": plan["made"]})
        return
    if not repairs:
        _tell_left(left, plan["made"])
        note("There is nothing to undo.")
        return
    if dry_run:
        _show(repairs, left, len(repairs), plan["made"])
        return
    if not as_json:
        _show(repairs, left, _SHOWN, plan["made"])
    question = f"Undo {counted(len(repairs), 'change')}?"
    agree([f"This is what {' and '.join(plan['devices'])} replaced, deleted or moved since then."], question, yes=yes)
    answer, rows = ask_past(home, passphrase_file, "undo", device=who, since_ms=since_ms, do=True)
    repairs, left = _parted(rows)
    if as_json:
        document({"devices": answer["devices"], "repairs": repairs, "left": left, "made": answer["made"]})
    else:
        line(f"{len(repairs)} {'change is' if len(repairs) == 1 else 'changes are'} undone.")
        if left:
            note(f"{len(left)} could not be undone.")


def _parted(rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    return [row for row in rows if "what" in row], [row for row in rows if "why" in row]


def _show(repairs: list[dict[str, Any]], left: list[dict[str, Any]], most: int, made: int) -> None:
    rows = [[_WORDS[row["what"]], cell(row["version"]), row["path"]] for row in repairs[:most]]
    table(("What", "Version", "Path"), rows)
    if len(repairs) > most:
        note(f"… and {len(repairs) - most} more; --dry-run shows all.")
    _tell_left(left, made)


def _tell_left(left: list[dict[str, Any]], made: int) -> None:
    for row in left[:_SHOWN]:
        note(safe(f"stays as it is: {row['path']}: {row['why']}"))
    if len(left) > _SHOWN:
        note(f"… and {len(left) - _SHOWN} more stay as they are; --json shows all.")
    if made:
        note(f"{made} that the device itself made since then stay.")
