"""Unlocking the keys of this device: a passphrase comes from a file, systemd or the terminal, never an argument."""

import os
import sys
from pathlib import Path
from typing import Final

import click

from cryptfs.cli.cards import attach_card
from cryptfs.cli.output import note
from cryptfs.crypto import keyfile
from cryptfs.crypto.keyfile import DeviceKeys
from cryptfs.errors import NotAllowed, UsageError
from cryptfs.mount.process import harden
from cryptfs.vault.disk import local_disk
from cryptfs.vault.home import VaultHome

__all__ = ["ask_new_passphrase", "find_passphrase", "unlock", "unlock_to_change"]

_MAX: Final = 4096
"""Bytes. Nobody types more, and a wrong file (a disk image) must not be read to its end."""

_CREDENTIAL: Final = "cryptfs.passphrase"
"""Name under which systemd hands it over: `LoadCredential=cryptfs.passphrase:/path`."""


def unlock(home: VaultHome, passphrase_file: Path | None) -> DeviceKeys:
    """The keys of this device, asking for a passphrase if they need one. Raises NoSuchVault, WrongPassphrase."""
    return unlock_to_change(home, passphrase_file)[0]


def unlock_to_change(home: VaultHome, passphrase_file: Path | None) -> tuple[DeviceKeys, bytes | None]:
    """As `unlock`, with the passphrase under which they are to be written again; None if there is none."""
    home.require()
    harden()  # before there is anything to see
    with local_disk("reading the keys"):
        data = home.keys_file.read_bytes()
    passphrase = find_passphrase(passphrase_file, home.name) if keyfile.is_protected(data) else None
    return attach_card(keyfile.decode(data, passphrase)), passphrase


def find_passphrase(file: Path | None, vault: str) -> bytes:
    """The passphrase of an existing key file. Raises NotAllowed where there is nobody to ask."""
    if file is not None:
        return _read(file)
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    if directory and (credential := Path(directory) / _CREDENTIAL).exists():
        return _read(credential)
    if not sys.stdin.isatty():
        raise NotAllowed(
            f"The keys of '{vault}' need a passphrase, and there is no terminal to ask for it.",
            "Use --passphrase-file FILE, or set CRYPTFS_PASSPHRASE_FILE.",
        )
    return _prompt(f"Passphrase for {vault}")


def ask_new_passphrase(file: Path | None) -> bytes:
    """The passphrase for new keys, typed twice on a terminal. Raises UsageError where there is nobody to ask."""
    if file is not None:
        return _read(file)
    if not sys.stdin.isatty():
        raise UsageError(
            "The new keys need a passphrase, and there is no terminal to ask for it.",
            "Use --passphrase-file FILE; --no-passphrase leaves the keys open to whoever can read this disk.",
        )
    while True:  # the person ends it, with a passphrase or with Ctrl-C
        first = _prompt("New passphrase")
        if first and first == _prompt("Once more"):
            return first
        note("Those were not the same, or empty. Again, please.")


def _read(file: Path) -> bytes:
    with file.open("rb") as stream:
        text = stream.read(_MAX + 1)
    first = text.partition(b"\n")[0].removesuffix(b"\r")
    if not first or len(first) > _MAX:
        raise UsageError(f"{file} holds no passphrase in its first line.", "Put the passphrase alone into that file.")
    return first


def _prompt(text: str) -> bytes:
    answer: str = click.prompt(text, hide_input=True, default="", show_default=False, err=True)
    return os.fsencode(answer)
