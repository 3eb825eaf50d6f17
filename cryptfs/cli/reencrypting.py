"""`cryptfs-admin reencrypt`: sealing anew what still lies under older keys, so that these open nothing any more."""

from collections.abc import Callable
from pathlib import Path

import click
import trio

from cryptfs.cli.acting import act
from cryptfs.cli.arguments import json_option, passphrase_option, vault_argument
from cryptfs.cli.asking import agree, yes_option
from cryptfs.cli.control import Answer, Daemon
from cryptfs.cli.opening import open_here
from cryptfs.cli.output import counted, document, line, note, progress, safe, size
from cryptfs.errors import CryptfsError, HostileStore, InUse
from cryptfs.vault.home import VaultHome
from cryptfs.vault.pace import Pace
from cryptfs.vault.revoking import carry_out

__all__ = ["consequences", "exit_code", "reencrypt", "run", "tell"]

_SHOWN_MAX = 20
"""Files that are named one by one in text; JSON has them all."""


@click.command(short_help="Seal anew what lies under older keys.")
@vault_argument()
@click.argument("path", required=False, default="")
@click.option("--resume", is_flag=True, help="Go on with what was begun on this device and not finished.")
@yes_option()
@json_option()
@passphrase_option()
def reencrypt(
    *, name: str, path: str, resume: bool, yes: bool, as_json: bool, passphrase_file: Path | None
) -> int:  # fmt: skip
    """Seal all files of the vault NAME, or those below PATH, under the present key if they still lie under older ones.

    Old versions and deleted files that are still kept are sealed anew, too. Nobody notices: contents, versions and
    times stay. It can be interrupted at any time, and run again. The exit code is 65 if some files could not be read.
    """
    home = VaultHome.of(name)
    expected = act(home, passphrase_file, "reencrypt_cost", path=path, resume=resume)
    if expected["versions"]:
        agree(consequences(expected), "Seal all that anew?", yes=yes)
    answer = run(home, passphrase_file, expected)
    if as_json:
        document({key: value for key, value in answer.items() if key != "ok"})
    else:
        tell(answer)
    return exit_code(answer)


def exit_code(answer: Answer) -> int:
    """What the shell is told about a run."""
    if answer["failed"]:
        return HostileStore.exit_code
    return InUse.exit_code if answer["busy"] else 0


def run(home: VaultHome, passphrase_file: Path | None, expected: Answer) -> Answer:
    """Do what was agreed to, with a progress bar; returns what `revoking.carry_out` says."""
    try:
        with progress("Sealing anew", expected["bytes"]) as advance:
            return _run(home, passphrase_file, expected["path"], lambda said: advance(int(said["progress"]["bytes"])))
    except (CryptfsError, KeyboardInterrupt):
        note("What is sealed anew so far stays so. Go on with `cryptfs-admin reencrypt --resume`.")
        raise


def _run(home: VaultHome, passphrase_file: Path | None, path: str, show: Callable[[Answer], None]) -> Answer:
    daemon = Daemon.find(home)
    if daemon is None:
        return trio.run(_run_here, home, passphrase_file, path, show)
    with daemon:
        return daemon.ask("reencrypt", on_progress=show, patience=None, path=path)


async def _run_here(
    home: VaultHome, passphrase_file: Path | None, path: str, show: Callable[[Answer], None]
) -> Answer:  # fmt: skip
    async def say(said: Answer) -> None:
        show(said)
        await trio.lowlevel.checkpoint()

    async with open_here(home, passphrase_file) as vault:
        return await carry_out(vault, {"path": path}, Pace(), say)


def consequences(expected: Answer) -> list[str]:
    """What a person has to know before."""
    files, versions, deleted = expected["files"], expected["versions"], expected["deleted_files"]
    what = f"{files} {'file lies' if files == 1 else 'files lie'} under older keys"
    what += f", {deleted} of them deleted" if deleted else ""
    what += f" ({versions} versions, with the old ones that are kept)" if versions > files else ""
    return [
        f"{what}: up to {size(expected['bytes'])} are read, sealed and sent again.",
        "What files were called, and when they changed until now, the old keys still tell: logs stay as they are.",
        "Whatever somebody has copied stays readable, too.",
    ]


def tell(answer: Answer) -> None:
    """The outcome for a person."""
    for one in answer["failed"][:_SHOWN_MAX]:
        note(safe(f"Still under older keys: {one['path']}: {one['reason']}"))
    if len(answer["failed"]) > _SHOWN_MAX:
        note(f"... and {len(answer['failed']) - _SHOWN_MAX} more: see --json.")
    for path in answer["busy"][:_SHOWN_MAX]:
        note(safe(f"Changed again and again meanwhile: {path}"))
    if answer["versions"]:
        rate = answer["bytes"] / max(0.1, answer["seconds"])
        line(
            f"Sealed anew: {counted(answer['files'], 'file')}, {counted(answer['versions'], 'version')}, "
            f"{size(answer['bytes'])}"
            f" in {answer['seconds']:.0f} s ({size(round(rate))}/s)."
        )
    elif answer["complete"]:
        line("Nothing lies under older keys.")
    _tell_objects(answer["objects"])
    if not answer["complete"]:
        note("Run the command again with --resume when that is mended.")


def _tell_objects(objects: Answer) -> None:
    """What became of the old packs."""
    if objects["deleted"]:
        line(f"Deleted from the store: {counted(objects['deleted'], 'pack')}, {size(objects['deleted_bytes'])}.")
    if objects["held_back"]:
        note(safe(f"Not everything could be deleted: {objects['held_back']}"))
    waiting = ", ".join(objects["waiting_for"])
    for one in objects["unused_packs"]:
        what = f"{counted(one['packs'], 'pack')}, {size(one['bytes'])}"
        if one["ours"]:
            line(
                safe(
                    f"Still in the store: {what}. They go when every device has seen this (not yet: {waiting or '-'})."
                )
            )
        elif one["out"]:
            line(safe(f"Still in the store: {what} of {one['holder']}, which is out; a later `collect` deletes them."))
        else:
            line(safe(f"Still in the store: {what} of {one['holder']}, which deletes them itself."))
    count = objects["unused_in_logs"]
    if count:
        line(f"Small files of the past lie in {counted(count, 'log segment')}, and go with the log.")
