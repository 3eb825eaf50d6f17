"""Where objects lie: immutable puts, ranged gets, listings."""

import os
import re
import urllib.parse
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptfs.errors import UsageError
from cryptfs.store.base import Abort, Buffer, Call, Cap, Change, Changes, Clock, Space, Stat, Store
from cryptfs.store.directory import DirectoryStore
from cryptfs.store.memory import MemoryStore
from cryptfs.store.retry import Backoff, Limits, Retries
from cryptfs.store.simulated import Knobs, SimStore, SimWorld

__all__ = [
    "Abort",
    "Backoff",
    "Buffer",
    "Call",
    "Cap",
    "Change",
    "Changes",
    "Clock",
    "DirectoryStore",
    "Knobs",
    "Limits",
    "MemoryStore",
    "Retries",
    "SimStore",
    "SimWorld",
    "Space",
    "Stat",
    "Store",
    "StoreUrl",
    "open_store",
    "parse_store_url",
]

_SCHEME: Final = re.compile(r"([a-z][a-z0-9+.-]+):(.*)", re.DOTALL)
_ADVICE: Final = "Name a folder, as in /mnt/shared/vault or file:///mnt/shared/vault."


@dataclass(frozen=True, slots=True)
class StoreUrl:
    """Which store: `scheme` without colon, `place` as that kind of store spells it (for "file" an absolute path)."""

    scheme: str
    place: str

    def __str__(self) -> str:
        """The form written into a vault's configuration; parses to the same value."""
        if self.scheme == "file":
            return "file://" + urllib.parse.quote(os.fsencode(self.place))
        return f"{self.scheme}:{self.place}"


def parse_store_url(text: str) -> StoreUrl:
    """Read what a person typed: a path, `file:///path` or `memory:`. Raises UsageError."""
    found = _SCHEME.fullmatch(text)
    if not text:
        raise UsageError("no store was named", _ADVICE)
    if found is None:
        return StoreUrl("file", str(Path(text).expanduser().absolute()))
    scheme, rest = found.groups()
    if scheme == "file":
        parts = urllib.parse.urlsplit(text)
        path = os.fsdecode(urllib.parse.unquote_to_bytes(parts.path))
        if parts.netloc not in ("", "localhost") or not path.startswith("/") or parts.query or parts.fragment:
            raise UsageError(f"not the address of a local folder: {text}", _ADVICE)
        return StoreUrl("file", path)
    if scheme == "memory":
        return StoreUrl("memory", rest)
    raise UsageError(f"unknown kind of store: {scheme}:", _ADVICE)


def open_store(text: str) -> Store:
    """The store behind an address. Does no I/O, so it works offline too. Raises UsageError."""
    url = parse_store_url(text)
    if url.scheme == "memory":
        return MemoryStore()
    return DirectoryStore(Path(url.place))
