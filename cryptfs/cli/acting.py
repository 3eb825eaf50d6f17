"""How a command acts on the group: through the process that has the vault mounted, or by opening the vault itself."""

from pathlib import Path
from typing import Any, Final

import trio

from cryptfs.cli.control import Daemon
from cryptfs.cli.opening import open_here
from cryptfs.vault.acts import perform
from cryptfs.vault.home import VaultHome

__all__ = ["act", "act_long"]

_PATIENCE: Final = 180.0
"""Seconds: an act pulls, publishes and has a segment confirmed by the store."""

Answer = dict[str, Any]


def act(home: VaultHome, passphrase_file: Path | None, what: str, **arguments: object) -> Answer:
    """Do the act `what` of `vault/acts.py`. Raises what it raises; RemoteError with the same words from a mount."""
    return _act(home, passphrase_file, what, arguments, _PATIENCE)


def act_long(home: VaultHome, passphrase_file: Path | None, what: str, **arguments: object) -> Answer:
    """As `act`, for one that takes as long as copying everything."""
    return _act(home, passphrase_file, what, arguments, None)


def _act(
    home: VaultHome, passphrase_file: Path | None, what: str, arguments: dict[str, object], patience: float | None
) -> Answer:
    home.require()
    daemon = Daemon.find(home)
    if daemon is None:
        return trio.run(_act_here, home, passphrase_file, what, arguments)
    with daemon:
        return daemon.ask("admin", patience=patience, act=what, arguments=arguments)


async def _act_here(home: VaultHome, passphrase_file: Path | None, what: str, arguments: dict[str, object]) -> Answer:
    async with open_here(home, passphrase_file) as vault:
        return await perform(vault, what, arguments)
