"""A person's own certificate and private key, as `--cert` and `--key` name them."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from cryptfs.cli.cards import find_pin
from cryptfs.crypto.importing import import_certificate, import_pair
from cryptfs.crypto.keyfile import KeyPair
from cryptfs.errors import UsageError, WrongPassphrase
from cryptfs.vault.smartcard import open_token_key
from cryptfs.vault.tokenuri import SCHEME, parse_token_uri

__all__ = ["pair_options", "read_pair"]

Command = Callable[..., Any]


def pair_options() -> Callable[[Command], Command]:
    """`--cert` and `--key`, for a command with the parameters `cert` and `key`."""

    def add(command: Command) -> Command:
        key = click.option("--key", help="Its private key (PEM or DER), or pkcs11:… for one on a token.")
        cert = click.option(
            "--cert", type=click.Path(path_type=Path), help="Use this certificate instead of a new one."
        )
        return cert(key(command))

    return add


def read_pair(cert: Path | None, key: str | None) -> KeyPair | None:
    """What the two options name; None if neither was given.

    Raises UsageError for one without the other, Refused for a pair that is of no use, WrongPassphrase, and for keys on
    a token what `open_token_key` raises.
    """
    if cert is None and key is None:
        return None
    if cert is None or key is None:
        raise UsageError("--cert and --key go together.", "Give both, or neither for a new certificate.")
    cert_data = cert.read_bytes()
    if key.startswith(SCHEME):
        der, where = import_certificate(cert_data), parse_token_uri(key)
        return KeyPair(b"", der, key, open_token_key(where, der, find_pin(where)))
    key_data = Path(key).read_bytes()
    try:
        return KeyPair(*import_pair(cert_data, key_data, None))
    except WrongPassphrase:
        if not sys.stdin.isatty():
            raise
    secret = click.prompt(f"Passphrase of {key}", hide_input=True, err=True)
    return KeyPair(*import_pair(cert_data, key_data, os.fsencode(secret)))
