"""`cryptfs export`: unsent changes out of a vault that cannot send them, as plain files."""

import os
from pathlib import Path

import click
import trio

from cryptfs.cli.arguments import json_option, passphrase_option, vault_argument
from cryptfs.cli.asking import agree, yes_option
from cryptfs.cli.control import require_unmounted
from cryptfs.cli.opening import open_here
from cryptfs.cli.output import counted, document, line, note, safe
from cryptfs.errors import CryptfsError, UsageError
from cryptfs.vault.home import VaultHome
from cryptfs.vault.unsent import read_whole, unsent_files
from cryptfs.vault.vault import Vault

__all__ = ["export"]


@click.command(short_help="Write unsent changes to a directory, in clear.")
@vault_argument()
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@yes_option()
@json_option()
@passphrase_option()
def export(*, name: str, directory: Path, yes: bool, as_json: bool, passphrase_file: Path | None) -> None:
    """Write every file of the vault NAME with unsent changes to DIR, under its path, in clear.

    For a device that was removed, or cannot send for another reason; it needs no store unless a file was changed only
    in part. DIR must be new or empty. Unmount the vault first.
    """
    home = VaultHome.of(name)
    home.require()
    require_unmounted(home)
    agree([f"The files are written to {directory} in clear."], "Export the unsent changes?", yes=yes)
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise UsageError(f"{directory} is not empty.", "Nothing is ever overwritten: name a new directory.")
    written, failed = trio.run(_export, home, passphrase_file, directory)
    if as_json:
        document({"written": written, "failed": failed})
        return
    for path in written:
        line(safe(path))
    for path, why in failed.items():
        note(safe(f"not exported: {path}: {why}"))
    note(f"{counted(len(written), 'file')} with unsent changes written to {directory}.")


async def _export(home: VaultHome, passphrase_file: Path | None, directory: Path) -> tuple[list[str], dict[str, str]]:
    written: list[str] = []
    failed: dict[str, str] = {}
    async with open_here(home, passphrase_file, read_only=True) as vault:
        for path, st in unsent_files(vault):
            shown = path.decode(errors="replace")
            try:
                await _write(vault, st, directory / os.fsdecode(path))
            except (CryptfsError, OSError) as err:
                failed[shown] = str(err)
            else:
                written.append(shown)
    return written, failed


async def _write(vault: Vault, st: int, target: Path) -> None:
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    out = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(out, "wb") as file:
        async for piece in read_whole(vault, st):
            file.write(piece)
