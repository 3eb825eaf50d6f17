"""What a store may keep on this device, and where."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptfs.store.drive.access import DriveAccess

__all__ = ["LocalFiles"]


@dataclass(frozen=True, slots=True)
class LocalFiles:
    """Places on this device.

    `login` gives the login at Google Drive, anew each time; it raises Auth if there is none. `table`: file for what the
    store remembers of this vault, sealed under `key` (32 bytes); None: it remembers in memory.
    """

    login: Callable[[], DriveAccess]
    table: Path | None = None
    key: bytes | None = None
