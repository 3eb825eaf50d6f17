"""What a person wants to have on this machine also without the store: files and folders, remembered as inodes.

An inode stays the same when it is renamed, so a pin does, too; what is in a pinned folder is asked of the tree. The
list lies beside the keys, sealed, and not in the cache, which anybody may delete.
"""

import logging
from typing import Final

from cryptfs.crypto.keyfile import DeviceKeys
from cryptfs.crypto.keys import local_key
from cryptfs.errors import HostileStore
from cryptfs.format.codec import FMT, Wire, check_fmt
from cryptfs.vault.home import VaultHome
from cryptfs.vault.sealedfile import SealedFile

__all__ = ["Pin", "Pins"]

log = logging.getLogger(__name__)

_MAGIC: Final = b"CFSPINS1"
_FILE: Final = "pins.cfs"


class Pin(Wire, frozen=True):
    """`ino`: 16 bytes, provisional while the file is not sealed; `path`: where it was when somebody looked last."""

    ino: bytes
    path: bytes


class _Kept(Wire, frozen=True):
    fmt: int
    pins: tuple[Pin, ...]


class Pins:
    """The pins of one vault on this device."""

    def __init__(self, home: VaultHome, keys: DeviceKeys) -> None:
        """Raises LocalDisk, NeedsUpdate. A file that is no list of ours pins nothing: it is no reason not to mount."""
        self._file = SealedFile(home.data_dir / _FILE, _MAGIC, "pins", local_key(keys.local_secret, "pins"), keys.vault)
        self._pins: tuple[Pin, ...] = ()
        try:
            kept = self._file.read(_Kept)
        except HostileStore:
            log.exception("the list of what is pinned cannot be read; nothing is pinned")
            return
        if kept is not None:
            check_fmt(kept.fmt)
            self._pins = kept.pins

    @property
    def all(self) -> tuple[Pin, ...]:
        """In the order in which they were made."""
        return self._pins

    def replace(self, pins: tuple[Pin, ...]) -> None:
        """Have these instead; durable on return. Raises LocalDisk, LocalDiskFull, and then nothing has changed."""
        if pins == self._pins:
            return
        if pins:
            self._file.write(_Kept(FMT, pins))
        else:
            self._file.remove()
        self._pins = pins
