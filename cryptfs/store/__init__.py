"""Where objects lie: immutable puts, ranged gets, listings."""

import os
import re
import urllib.parse
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptfs.errors import Auth, UsageError
from cryptfs.store.base import Abort, Buffer, Call, Cap, Change, Changes, Clock, Space, Stat, Store
from cryptfs.store.directory import DirectoryStore
from cryptfs.store.local import LocalFiles
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
    "LocalFiles",
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
    "settled_url",
]

_SCHEME: Final = re.compile(r"([a-z][a-z0-9+.-]+):(.*)", re.DOTALL)
_PLACE_MAX: Final = 255
_ADVICE: Final = "Name a folder, as in /mnt/shared/vault, file:///mnt/shared/vault or gdrive:FOLDER."


@dataclass(frozen=True, slots=True)
class StoreUrl:
    """Which store: `scheme` without colon, `place` as that kind of store spells it.

    "file": an absolute path; "gdrive": the id of a folder, or a name that is yet to be looked up.
    """

    scheme: str
    place: str

    def __str__(self) -> str:
        """The form written into a vault's configuration; parses to the same value."""
        if self.scheme == "file":
            return "file://" + urllib.parse.quote(os.fsencode(self.place))
        return f"{self.scheme}:{self.place}"


def parse_store_url(text: str) -> StoreUrl:
    """Read what a person typed: a path, `file:///path`, `gdrive:FOLDER` or `memory:`. Raises UsageError."""
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
    if scheme == "gdrive":
        if not 0 < len(rest) <= _PLACE_MAX or not rest.isprintable() or "/" in rest:
            raise UsageError(f"not a folder of Google Drive: {text}", "gdrive:FOLDER takes a folder's id, or its name.")
        return StoreUrl("gdrive", rest)
    raise UsageError(f"unknown kind of store: {scheme}:", _ADVICE)


def open_store(text: str, local: LocalFiles | None = None) -> Store:
    """The store behind an address. Does no network, so it works offline too. Raises UsageError.

    A provider's store also raises Auth without a login by `local`, ConfigError, LocalDisk.
    """
    url = parse_store_url(text)
    if url.scheme == "memory":
        return MemoryStore()
    if url.scheme == "gdrive":
        from cryptfs.store.drive.store import DriveStore  # noqa: PLC0415  # Google's library: 0.3 s, 40 MiB

        place = _needed(local)
        return DriveStore(place.login(), url.place, place.table, key=place.key, reload=place.login)
    return DirectoryStore(Path(url.place))


def settled_url(text: str, local: LocalFiles | None = None, *, make: bool = False) -> str:
    """The address as it is kept: checked, and with a Drive folder's name replaced by its id, for which Drive is asked.

    `make`: a name that no folder bears becomes a new folder. Raises as `open_store`, ConfigError for a folder that is
    not there, the store family.
    """
    url = parse_store_url(text)
    if url.scheme == "gdrive":
        from cryptfs.store.drive.naming import folder_id  # noqa: PLC0415  # as above

        url = StoreUrl("gdrive", folder_id(_needed(local).login(), url.place, make=make))
    return str(url)


def _needed(local: LocalFiles | None) -> LocalFiles:
    if local is None:
        raise Auth("Nobody is logged in at Google Drive.", "Run `cryptfs login gdrive:`.")
    return local
