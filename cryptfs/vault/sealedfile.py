"""Small local files that are replaced as a whole: sealed under a key of this device, durable before they count.

file   8 bytes of magic ‖ SEAL(local key of its purpose, purpose and V, MessagePack)
"""

import os
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from cryptfs.crypto.keys import PurposeKey, local_ctx
from cryptfs.crypto.seal import open_sealed, seal
from cryptfs.errors import Damaged
from cryptfs.format.codec import Wire, decode_top, encode
from cryptfs.vault.disk import local_disk, sync_directory

__all__ = ["SealedFile", "write_durably"]

_FILE_MAX: Final = 1 << 20
"""Bytes; a thousand invitations take a tenth of it."""

T = TypeVar("T", bound=Wire)


class SealedFile:
    """One such file of one vault. `magic` 8 bytes, `purpose` the word that its key was derived for."""

    def __init__(self, path: Path, magic: bytes, purpose: str, key: PurposeKey, vault: bytes) -> None:
        self.path = path
        self._magic = magic
        self._key = key
        self._ctx = local_ctx(purpose, vault)

    def read(self, kind: type[T]) -> T | None:
        """What is in it, None if there is no file. Raises Damaged for a torn, foreign or altered one, LocalDisk."""
        with local_disk(f"reading {self.path.name}"):
            try:
                with self.path.open("rb") as stream:
                    data = stream.read(_FILE_MAX + 1)
            except FileNotFoundError:
                return None
        if data[:8] != self._magic or len(data) > _FILE_MAX:
            raise Damaged(f"{self.path.name} is not a file of this vault")
        return decode_top(kind, open_sealed(self._key, self._ctx, data[8:]), _FILE_MAX)

    def write(self, value: msgspec.Struct) -> None:
        """Replace it; durable on return. Raises LocalDisk, LocalDiskFull."""
        write_durably(self.path, self._magic + seal(self._key, self._ctx, encode(value)))

    def remove(self) -> None:
        """Remove it; one that is missing is fine."""
        with local_disk(f"removing {self.path.name}"):
            self.path.unlink(missing_ok=True)


def write_durably(path: Path, data: bytes) -> None:
    """Replace `path` (mode 0600) so that a crash leaves the old or the new bytes. Raises LocalDisk, LocalDiskFull."""
    with local_disk(f"writing {path.name}"):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.new")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
        sync_directory(path.parent)
