"""Keys on smart cards: where a PIN comes from, and the card of keys that were unlocked."""

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Final

import click

from cryptfs.crypto.certificate import fingerprint
from cryptfs.crypto.keyfile import DeviceKeys
from cryptfs.errors import NotAllowed, UsageError
from cryptfs.vault.smartcard import open_token_key
from cryptfs.vault.tokenuri import TokenUri, parse_token_uri

__all__ = ["PIN_VARIABLE", "attach_card", "find_pin", "pin_is_elsewhere"]

PIN_VARIABLE: Final = "CRYPTFS_PIN_FILE"
"""Environment variable that names a file with the PIN in its first line."""
_CREDENTIAL: Final = "cryptfs.pin"
_MAX: Final = 256
"""Bytes of a PIN."""


def attach_card(keys: DeviceKeys) -> DeviceKeys:
    """The keys with the card that holds the certificate's key, if one does. Errors as `open_token_key`."""
    if not keys.token:
        return keys
    where = parse_token_uri(keys.token)
    key = open_token_key(where, keys.cert_der, find_pin(where))
    return replace(keys, held=((fingerprint(keys.cert_der), key),))


def pin_is_elsewhere(where: TokenUri) -> Path | None:
    """The file that a PIN is to be read from, None if a person has to type it."""
    if named := os.environ.get(PIN_VARIABLE):
        return Path(named)
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    if directory and (credential := Path(directory) / _CREDENTIAL).exists():
        return credential
    return Path(where.pin_file) if where.pin_file else None


def find_pin(where: TokenUri) -> bytes:
    """The PIN of a token: from a file, or typed. Raises NotAllowed where there is nobody to ask."""
    file = pin_is_elsewhere(where)
    if file is not None:
        with file.open("rb") as stream:
            pin = stream.read(_MAX + 1).partition(b"\n")[0].removesuffix(b"\r")
        if not pin or len(pin) > _MAX:
            raise UsageError(f"{file} holds no PIN in its first line.", "Put the PIN alone into that file.")
        return pin
    if not sys.stdin.isatty():
        raise NotAllowed(
            "The token needs a PIN, and there is no terminal to ask for it.",
            f"Put it into a file, and name that in {PIN_VARIABLE}.",
        )
    typed: str = click.prompt(f"PIN of {where.token or 'the token'}", hide_input=True, err=True)
    return os.fsencode(typed)
