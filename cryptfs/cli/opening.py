"""How a command gets at a vault: through the process that has it mounted, or by opening it itself."""

import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

from cryptfs.cli.control import Daemon
from cryptfs.cli.options import gather_options
from cryptfs.cli.output import note
from cryptfs.cli.trees import DirectTree, MountedTree, Tree
from cryptfs.cli.unlocking import unlock
from cryptfs.crypto.keyfile import DeviceKeys
from cryptfs.errors import InUse
from cryptfs.mount.filesystem import FileSystem, Rules
from cryptfs.vault.home import VaultHome
from cryptfs.vault.opening import open_vault
from cryptfs.vault.stores import store_at
from cryptfs.vault.vault import Vault, VaultOptions

__all__ = ["mount_point_of", "open_here", "open_tree", "open_with"]


@contextlib.asynccontextmanager
async def open_here(home: VaultHome, passphrase_file: Path | None, *, read_only: bool = False) -> AsyncIterator[Vault]:
    """The vault, open in this process. Raises InUse while it is mounted."""
    async with open_with(home, unlock(home, passphrase_file), read_only=read_only) as vault:
        yield vault


@contextlib.asynccontextmanager
async def open_with(home: VaultHome, keys: DeviceKeys, *, read_only: bool = False) -> AsyncIterator[Vault]:
    """As `open_here`, with keys that are unlocked already."""
    # What the vault only warns of is for the log of a mount; an error is for the person even here.
    logging.basicConfig(level=logging.ERROR, format="cryptfs: %(message)s")
    settings = home.read_settings()
    options = VaultOptions.of(gather_options([], settings=settings.options))
    if read_only:
        options = replace(options, read_only=True)
    async with open_vault(home, keys, store_at(settings.store, home, keys), options) as vault:
        if vault.status()["store"] != "ok":
            note("The store cannot be reached; this is what was known at the last contact.")
        yield vault


@contextlib.asynccontextmanager
async def open_tree(home: VaultHome, passphrase_file: Path | None) -> AsyncIterator[Tree]:
    """The vault's files, below the mount point if there is one. What was written is safe on this machine at the end."""
    home.require()
    point = mount_point_of(home)
    if point is not None:
        yield MountedTree(point)
        return
    async with open_here(home, passphrase_file) as vault:
        files = FileSystem(vault, Rules(atime="noatime"))
        yield DirectTree(files)
        await vault.commit()


def mount_point_of(home: VaultHome) -> Path | None:
    """Where the vault is mounted, None if it is not. Raises InUse if it is mounted out of our sight."""
    daemon = Daemon.find(home)
    if daemon is None:
        return None
    with daemon:
        point = Path(str(daemon.ask("ping")["mountpoint"]))
    if not point.is_dir():
        raise InUse(
            f"'{home.name}' is mounted at {point}, which cannot be seen from here.",
            "Use it there, or unmount it: `cryptfs umount`.",
        )
    return point
