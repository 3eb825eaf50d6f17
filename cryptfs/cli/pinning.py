"""`cryptfs pin` and `unpin`: what is kept on this machine for use without the store."""

from pathlib import Path
from typing import Final

import click
import trio

from cryptfs.cli.arguments import json_option, passphrase_option, vault_argument
from cryptfs.cli.control import Answer, Daemon
from cryptfs.cli.opening import open_here
from cryptfs.cli.output import document, line, note, progress, size, table
from cryptfs.errors import UsageError
from cryptfs.vault.home import VaultHome
from cryptfs.vault.pin_acts import change_pins

__all__ = ["pin", "unpin"]

_PATIENCE: Final = 300.0
"""Seconds for one line: manifests of large files may have to be fetched before it is known how much there is."""


@click.command(short_help="Keep files and folders here for use without the store.")
@vault_argument()
@click.argument("paths", metavar="[PATH…]", nargs=-1)
@click.option("--wait", is_flag=True, help="Return when all of it is here.")
@json_option()
@passphrase_option()
def pin(*, name: str, paths: tuple[str, ...], wait: bool, as_json: bool, passphrase_file: Path | None) -> None:
    """Keep the files and folders PATH… of the vault NAME on this machine, whatever the limit of the cache.

    Their contents are fetched in the background while NAME is mounted, and so is what changes in them and what is added
    to such a folder. Without a PATH, list what is pinned and how much of it is here.
    """
    home = VaultHome.of(name)
    home.require()
    if not paths:
        if wait:
            raise UsageError("What is to be waited for?", "Name a PATH; one that is pinned already will do.")
        _show(_ask(home, passphrase_file, "list"), name, as_json=as_json)
        return
    answer = _ask(home, passphrase_file, "add", paths=list(paths), wait=wait)
    _show(answer, name, as_json=as_json)
    if not answer["mounted"] and answer["state"] != "all here" and not as_json:
        note(f"It is fetched while '{name}' is mounted; --wait fetches it now.")


@click.command(short_help="Keep them no longer.")
@vault_argument()
@click.argument("paths", metavar="PATH…", nargs=-1, required=True)
@json_option()
@passphrase_option()
def unpin(*, name: str, paths: tuple[str, ...], as_json: bool, passphrase_file: Path | None) -> None:
    """Keep the files and folders PATH… of the vault NAME here no longer than the cache has room for them."""
    home = VaultHome.of(name)
    home.require()
    _show(_ask(home, passphrase_file, "remove", paths=list(paths)), name, as_json=as_json)


def _ask(home: VaultHome, passphrase_file: Path | None, act: str, **arguments: object) -> Answer:
    """What `vault/pin_acts.py` answers, and whether the vault is `mounted`, so that something is fetched by itself."""
    daemon = Daemon.find(home)
    if daemon is None:
        return trio.run(_ask_here, home, passphrase_file, act, arguments)
    with daemon, progress("Fetching", None) as advance:
        fetched = 0

        def show(answer: Answer) -> None:
            nonlocal fetched
            advance(answer["progress"]["bytes"] - fetched)
            fetched = answer["progress"]["bytes"]

        answer = daemon.ask("pin", show, _PATIENCE, act=act, arguments=arguments)
    answer.pop("ok")
    return answer | {"mounted": True}


async def _ask_here(home: VaultHome, passphrase_file: Path | None, act: str, arguments: dict[str, object]) -> Answer:
    async def say(_: Answer) -> None:
        await trio.lowlevel.checkpoint()

    async with open_here(home, passphrase_file) as vault:
        return await change_pins(vault, act, arguments, say) | {"mounted": False}


def _show(answer: Answer, name: str, *, as_json: bool) -> None:
    if as_json:
        document(answer)
        return
    if not answer["pins"]:
        note(f"Nothing of '{name}' is pinned.")
        return
    rows = [
        [row["path"], row["kind"], str(row["files"]), size(row["bytes"]), size(row["bytes_here"])]
        for row in answer["pins"]
    ]
    table(("Path", "Kind", "Files", "Size", "Here"), rows, right=frozenset({2, 3, 4}))
    line()
    line(f"{answer['state'][:1].upper()}{answer['state'][1:]}")
    for problem in answer["problems"]:
        line(problem)
