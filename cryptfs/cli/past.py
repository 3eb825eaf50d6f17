"""`cryptfs versions`, `trash`, `restore`: what was, and bringing it back."""

import datetime as dt
import re
from pathlib import Path
from typing import Any, Final

import click

from cryptfs.cli.arguments import json_option, passphrase_option, vault_argument
from cryptfs.cli.asking import yes_option
from cryptfs.cli.lookingback import ask_past
from cryptfs.cli.output import cell, counted, document, line, local_time, note, safe, size, table
from cryptfs.cli.undoing import undo_device
from cryptfs.errors import UsageError
from cryptfs.vault.home import VaultHome

__all__ = ["restore", "trash", "versions", "when"]

_UNITS: Final = {"min": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_AGO: Final = re.compile(r"(\d{1,6})\s*(min|h|d|w)")


def when(text: str) -> int:
    """A time in ms since 1970: "2026-05-12", "2026-05-12 14:30" (local), or so long ago: 30min, 2h, 3d, 1w."""
    ago = _AGO.fullmatch(text.strip())
    if ago is not None:
        then = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=int(ago[1]) * _UNITS[ago[2]])
        return int(then.timestamp() * 1000)
    try:
        return int(dt.datetime.fromisoformat(text.strip()).astimezone().timestamp() * 1000)
    except (ValueError, OverflowError, OSError) as err:
        raise UsageError(
            f"'{text}' is no time.", 'Say it as 2026-05-12, "2026-05-12 14:30", or how long ago: 30min, 2h, 3d.'
        ) from err


@click.command(short_help="List the old versions of a file.")
@vault_argument()
@click.argument("path")
@json_option()
@passphrase_option()
def versions(*, name: str, path: str, as_json: bool, passphrase_file: Path | None) -> None:
    """List the versions of the file PATH of the vault NAME that are kept, newest first, deleted ones too."""
    _, rows = ask_past(VaultHome.of(name), passphrase_file, "versions", path)
    if as_json:
        document(rows)
        return
    table(
        ("Version", "When", "By", "Size", "State", "Contents"),
        [
            [row["version"], local_time(row["time"]), row["by"], size(row["size"]), _state(row), cell(row["contents"])]
            for row in rows
        ],
        right=frozenset({3}),
    )


def _state(row: dict[str, Any]) -> str:
    if row["state"] != "deleted":
        return str(row["state"])
    return f"deleted {local_time(row['deleted'])} by {row['deleted_by']}"


@click.command(short_help="List what was deleted.")
@vault_argument()
@click.argument("path", default="/")
@click.option("--all", "everything", is_flag=True, help="Also what lies in deleted folders, and what was saved over.")
@json_option()
@passphrase_option()
def trash(*, name: str, path: str, everything: bool, as_json: bool, passphrase_file: Path | None) -> None:
    """List what was deleted in the vault NAME, or below PATH, and is still kept: when, and by whom. Newest first."""
    _, rows = ask_past(VaultHome.of(name), passphrase_file, "trash", path, all=everything)
    if as_json:
        document(rows)
        return
    if not rows:
        note("Nothing deleted is kept there.")
        return
    table(
        ("Version", "Deleted", "By", "Size", "Path"),
        [[row["version"], local_time(row["deleted"]), row["by"], size(row["size"]), _shown(row)] for row in rows],
        right=frozenset({3}),
    )


def _shown(row: dict[str, Any]) -> str:
    if row["kind"] != "directory":
        return str(row["path"])
    return f"{row['path']}/ ({counted(row['files'], 'file')})"


@click.command(short_help="Bring back an old version, or what was deleted.")
@vault_argument()
@click.argument("path", default="")
@click.option("--version", default="", metavar="ID", help="Which version, as `cryptfs versions` names it.")
@click.option("--before", default="", metavar="TIME", help="As it was before TIME (2026-05-12, or 2h ago as 2h).")
@click.option("--to", default="", metavar="PATH", help="Bring it back under this path instead.")
@click.option("--all", "everything", is_flag=True, help="A folder: with all that was ever deleted in it.")
@click.option("--undo-device", "device", default="", metavar="WHO", help="Undo what a member or NAME/DEVICE did.")
@click.option("--since", default="", metavar="TIME", help="With --undo-device: from when on.")
@click.option("--dry-run", is_flag=True, help="With --undo-device: only show what would be done.")
@yes_option()
@json_option()
@passphrase_option()
def restore(
    *, name: str, path: str, version: str, before: str, to: str, everything: bool, device: str, since: str,
    dry_run: bool, yes: bool, as_json: bool, passphrase_file: Path | None,
) -> None:  # fmt: skip
    """Bring back the file or folder PATH of the vault NAME.

    Without a choice: what was deleted last under this name; of a file that is there, the version before the present
    one. What is replaced can be brought back in turn. A folder comes back with what was deleted with it.

    With --undo-device and --since, and no PATH: everything that a device replaced, deleted or moved since then.
    """
    home = VaultHome.of(name)
    if device or since or dry_run:
        if not (device and since) or path or version or before or to or everything:
            raise UsageError("Undoing needs --undo-device and --since, and nothing else.")
        undo_device(home, passphrase_file, device, when(since), dry_run=dry_run, yes=yes, as_json=as_json)
        return
    if not path:
        raise UsageError("What is to be brought back?", "Name a PATH; `cryptfs trash` lists what was deleted.")
    if version and before:
        raise UsageError("--version and --before each say which version.", "Use one of them.")
    answer, _ = ask_past(
        home, passphrase_file, "restore", path,
        version=version, before_ms=when(before) if before else 0, to=to, all=everything,
    )  # fmt: skip
    if as_json:
        document({key: value for key, value in answer.items() if key != "ok"})
    else:
        _tell(answer)


def _tell(answer: dict[str, Any]) -> None:
    if not answer["files"] + answer["folders"]:
        note("That is the present version: nothing had to be changed.")
        return
    line(safe(f"{answer['path']} is back ({_amount(answer)})."))
    if answer["left"]:
        note(f"{answer['left']} that were deleted earlier in it stay in the trash; --all brings them back, too.")


def _amount(answer: dict[str, Any]) -> str:
    folders = f"{counted(answer['folders'], 'folder')}, " if answer["folders"] else ""
    return f"{folders}{counted(answer['files'], 'file')}, {size(answer['bytes'])}, version {answer['version']}"
