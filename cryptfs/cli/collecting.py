"""`cryptfs-admin collect`: giving the space of what nobody uses any more back to the store."""

import time
from pathlib import Path
from typing import Any, Final

import click
import trio

from cryptfs.cli.arguments import json_option, passphrase_option, vault_argument
from cryptfs.cli.asking import agree, yes_option
from cryptfs.cli.control import Answer, Daemon
from cryptfs.cli.opening import open_here
from cryptfs.cli.output import counted, document, line, moment, note, safe, size
from cryptfs.errors import NotAllowed
from cryptfs.vault.home import VaultHome

__all__ = ["collect"]

_KEPT: Final = "Deleted files and old versions are kept for a time, see --history."
_NOT_SEEN_YET: Final = "What was deleted just now goes once every device has seen that: run this again later."


@click.command(short_help="Delete what nobody uses any more.")
@vault_argument()
@click.option("--now", is_flag=True, help="Do not wait a day after everybody has acknowledged.")
@click.option("--history", is_flag=True, help="First let all old versions and the trash go (administrators).")
@yes_option()
@json_option()
@passphrase_option()
def collect(*, name: str, now: bool, history: bool, yes: bool, as_json: bool, passphrase_file: Path | None) -> None:
    """Look for packs of this device in the vault NAME that nobody uses any more, and delete those that may go.

    A mount does this by itself every hour. Before a pack is deleted every device that may write has to acknowledge
    that it will not use it again; then a day passes, unless --now is given. Nothing waives the acknowledgements.
    """
    home = VaultHome.of(name)
    home.require()
    if history:
        told = [
            f"All old versions of files in '{name}', and everything in the trash, will be gone for every member.",
            "This cannot be taken back.",
        ]
        agree(told, "Let them go?", yes=yes)
    daemon = Daemon.find(home)
    if daemon is None:
        answer = trio.run(_collect_here, home, passphrase_file, now, history)
    else:
        with daemon:
            answer = daemon.ask("collect", on_progress=_show, patience=None, now=now, history=history)
    answer.pop("ok", None)
    if as_json:
        document(answer)
    else:
        _tell(answer, history=history)
    if answer["held_back"]:
        raise NotAllowed(
            str(answer["held_back"]).removesuffix(".") + ". Nothing was deleted.",
            f"`cryptfs status {name}` says how it is, `cryptfs-admin members {name}` who may do what.",
        )


async def _collect_here(home: VaultHome, passphrase_file: Path | None, now: bool, history: bool) -> dict[str, Any]:
    async with open_here(home, passphrase_file) as vault:
        done = await vault.collector.run(now=now, history=history, say=note)
        return done.as_json()


def _show(answer: Answer) -> None:
    note(str(answer["progress"].get("text", "")))


def _tell(answer: Answer, *, history: bool) -> None:
    if answer["history_let_go"]:
        line("Old versions and deleted files are let go.")
    if answer["repacked"]:
        line(f"Copied what is in use out of {counted(answer['repacked'], 'pack')}.")
    if answer["retired"]:
        line(f"Retired {counted(answer['retired'], 'pack')}, {size(answer['retired_bytes'])}.")
    if answer["segments_rolled_up"]:
        line(f"Rolled up {counted(answer['segments_rolled_up'], 'log segment')}.")
    if answer["log_objects_deleted"]:
        line(f"Deleted {counted(answer['log_objects_deleted'], 'log object')}.")
    if answer["checkpoints_deleted"]:
        line(f"Deleted {counted(answer['checkpoints_deleted'], 'old checkpoint')}.")
    if answer["logs_held_back"]:
        line(f"Log objects stay that could go. {answer['logs_held_back']}")
    if answer["used_again"]:
        line(f"{counted(answer['used_again'], 'container')} came into use again and stay.")
    if answer["deleted"]:
        line(f"Deleted {counted(answer['deleted'], 'pack')}, {size(answer['deleted_bytes'])}.")
    for key, why in answer["left"].items():
        line(safe(f"{key} stays: {why}"))
    if answer["remaining"]:
        line(f"{counted(answer['remaining'], 'pack')}, {size(answer['remaining_bytes'])}, will be deleted later.")
    for one in answer["waiting_for"]:
        line(safe(f"Waiting for {one['name']}, {_heard(one['last_heard_ms'])}."))
    if answer["delay_ends_ms"]:
        line(f"Acknowledged by everybody; goes from {moment(answer['delay_ends_ms'] * 1_000_000)} on, or with --now.")
    if not answer["remaining"] and not answer["deleted"] and not answer["held_back"]:
        line("No pack of this device is unused. " + (_NOT_SEEN_YET if history else _KEPT))


def _heard(last_ms: int) -> str:
    if last_ms <= 0:
        return "of which nothing was heard yet"
    return f"last heard of at {moment(min(last_ms, int(time.time() * 1000)) * 1_000_000)}"
