"""Copying out an old version of a file, for `cryptfs cat` and `cryptfs get`."""

import base64
import functools
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from cryptfs.cli.lookingback import ask_past
from cryptfs.cli.output import progress, safe
from cryptfs.errors import Retry, UsageError
from cryptfs.vault.home import VaultHome

__all__ = ["copy_version", "version_option", "write_version"]

version_option = functools.partial(
    click.option, "--version", default="", metavar="ID", help="An old version, as `cryptfs versions` names it."
)


def write_version(home: VaultHome, passphrase_file: Path | None, paths: Sequence[str], version: str) -> None:
    """The bytes of the version to standard output."""
    sys.stdout.flush()
    for _, data in _pieces(home, passphrase_file, _only(paths), version):
        sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def copy_version(
    home: VaultHome, passphrase_file: Path | None, paths: Sequence[str], target: str, version: str
) -> None:
    """The version as a file here: in the directory `target`, or as it."""
    path = _only(paths)
    name = Path(target) / Path(path).name if Path(target).is_dir() else Path(target)
    pieces = _pieces(home, passphrase_file, path, version)
    first, data = next(pieces)  # what cannot be read leaves no empty file
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(name, flags, int(first["mode"]) & 0o777)
    with os.fdopen(descriptor, "wb") as stream, progress(safe(path), int(first["size"])) as advance:
        while data:
            stream.write(data)
            advance(len(data))
            _, data = next(pieces, (first, b""))
        stream.flush()
        os.utime(descriptor, ns=(int(first["mtime_ns"]), int(first["mtime_ns"])))


def _only(paths: Sequence[str]) -> str:
    if len(paths) != 1:
        raise UsageError("A version is one of one file.", "Name one PATH with --version.")
    return paths[0]


def _pieces(
    home: VaultHome, passphrase_file: Path | None, path: str, version: str
) -> Iterator[tuple[dict[str, Any], bytes]]:
    """What the version is, with one piece of it after the other; at least one, empty for an empty file."""
    offset = 0
    while True:
        answer, _ = ask_past(home, passphrase_file, "read", path, version=version, offset=offset)
        data = base64.b64decode(answer["data"])
        if not data and offset < answer["size"]:
            raise Retry("The version ended early.", "Try again.")
        yield answer, data
        version = answer["version"]  # in full: newer versions may begin with the same digits
        offset += len(data)
        if offset >= answer["size"]:
            return
