"""`cryptfs sync`: waiting until the store has everything."""

from pathlib import Path

import click
import trio

from cryptfs.cli.arguments import json_option, passphrase_option, vault_argument
from cryptfs.cli.control import Answer, Daemon
from cryptfs.cli.opening import open_here, open_tree
from cryptfs.cli.output import document, progress
from cryptfs.vault.home import VaultHome

__all__ = ["sync"]


@click.command(short_help="Wait until every change is in the store.")
@vault_argument()
@click.argument("path", required=False)
@json_option()
@passphrase_option()
def sync(*, name: str, path: str | None, as_json: bool, passphrase_file: Path | None) -> None:
    """Return when everything changed so far in the vault NAME is in its store.

    Changes are sent in the order in which they were made, so waiting for PATH is waiting for all before it as well;
    PATH is only looked up, so that a slip of the pen is noticed.
    """
    home = VaultHome.of(name)
    home.require()
    if path is not None:
        trio.run(_require_path, home, path, passphrase_file)
    daemon = Daemon.find(home)
    if daemon is None:
        trio.run(_sync_here, home, passphrase_file)
    else:
        with daemon:
            _sync_there(daemon)
    if as_json:
        document({"name": name, "synced": True})


async def _require_path(home: VaultHome, path: str, passphrase_file: Path | None) -> None:
    async with open_tree(home, passphrase_file) as tree:
        await tree.stat(path.encode(errors="surrogateescape"))


async def _sync_here(home: VaultHome, passphrase_file: Path | None) -> None:
    async with open_here(home, passphrase_file) as vault:
        await vault.sync()


def _sync_there(daemon: Daemon) -> None:
    sent = 0
    total = int(daemon.ask("status").get("pending_bytes", 0))
    with progress("Sending", total) as advance:

        def show(answer: Answer) -> None:
            nonlocal sent
            left = answer["progress"].get("pending_bytes", total)
            advance(max(0, total - left - sent))
            sent = max(sent, total - left)

        daemon.ask("sync", on_progress=show, patience=None)
