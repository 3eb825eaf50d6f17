"""How a command asks for a vault's past: through the process that has it mounted, or by opening the vault itself."""

from pathlib import Path
from typing import Any, Final

import trio

from cryptfs.cli.control import Daemon
from cryptfs.cli.opening import open_here
from cryptfs.vault.home import VaultHome
from cryptfs.vault.past_acts import look_back

__all__ = ["Rows", "ask_past"]

_PATIENCE: Final = 300.0
"""Seconds for one line: what waits is sent first, and manifests of large files may have to be fetched."""

Answer = dict[str, Any]
Rows = list[dict[str, Any]]


def ask_past(
    home: VaultHome, passphrase_file: Path | None, act: str, path: str = "", **arguments: object
) -> tuple[Answer, Rows]:
    """Do the act of `vault/past_acts.py`; returns its answer and the rows that came before.

    Raises what it raises; RemoteError with the same words from a mount.
    """
    home.require()
    arguments |= {"path": path}
    rows: Rows = []
    daemon = Daemon.find(home)
    if daemon is None:
        return trio.run(_ask_here, home, passphrase_file, act, arguments, rows), rows
    with daemon:
        answer = daemon.ask(
            "past", lambda said: rows.extend(said.get("rows", [])), _PATIENCE, act=act, arguments=arguments
        )
    return answer, rows


async def _ask_here(
    home: VaultHome, passphrase_file: Path | None, act: str, arguments: dict[str, object], rows: Rows
) -> Answer:
    async def say(answer: Answer) -> None:
        rows.extend(answer.get("rows", []))

    async with open_here(home, passphrase_file) as vault:
        return await look_back(vault, act, arguments, say)
