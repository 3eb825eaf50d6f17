"""A pack that is made as a whole: sealed records are added one by one, and written it is an object for the store.

For what is sealed or copied in the background and waits for no program: manifests, files under new keys, what is left
of sparse packs. What programs write goes into packs on disk instead (`containers.OpenPack`), which are durable before
they are finished.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from msgspec.structs import replace

from cryptfs.crypto.keys import KeyLabel, random_bytes
from cryptfs.errors import Damaged
from cryptfs.format.content import WHERE_PACK
from cryptfs.format.limits import MIB, PACK_SHARED_TARGET
from cryptfs.format.pack import (
    PACK_SHARED,
    PACK_SOLO,
    PackHint,
    PackIndex,
    PackKey,
    PackRecord,
    index_len,
    pack_header,
    records_at,
    seal_index,
)
from cryptfs.group.keyring import Keyring
from cryptfs.vault.containers import Container
from cryptfs.vault.disk import local_disk

__all__ = ["WHOLE_PACK_TARGET", "RecordAt", "WholePack", "check_record"]

WHOLE_PACK_TARGET: Final = PACK_SHARED_TARGET - MIB
"""Bytes of records at which such a pack is finished; room is left for the index."""
_EPOCH_LEN: Final = 16


class RecordAt(NamedTuple):
    """A record that lies in a file on this disk, at `off` bytes. It is read when the pack is written."""

    path: Path
    off: int


class WholePack:
    """One pack in the making, sealed under the key set that is in force when it is begun.

    `container` is what records are found in. It has a name and a file once the pack is written.
    """

    def __init__(self, vault: bytes, keyring: Keyring) -> None:
        """Raises NotAllowed while nothing may be sealed."""
        self.ks = keyring.write_keyset
        self._vault = vault
        self._keyring = keyring
        self._records: list[bytes | RecordAt] = []
        self._rows: list[PackRecord] = []
        self._keys: dict[tuple[bytes, int], PackKey] = {}
        self._hints: dict[bytes, PackHint] = {}
        self.container = Container(-1, WHERE_PACK)
        self.container.size = records_at(len(self.ks) // _EPOCH_LEN)

    @property
    def empty(self) -> bool:
        """Whether nothing was added."""
        return not self._rows

    def add(self, row: PackRecord, record: bytes | RecordAt) -> int:
        """Take in a sealed record; `row` says what it is, but for its offset, which is returned."""
        off = self.container.size
        self._rows.append(replace(row, off=off))
        self._records.append(record)
        self.container.size += row.len
        return off

    def tell(self, key: PackKey | None = None, hint: PackHint | None = None) -> None:
        """What salvage needs to know about the records of one content: their key, and what the file is called."""
        if key is not None:
            self._keys[key.fid, key.fkv] = key
        if hint is not None:
            self._hints[hint.fid] = hint

    def write(self, directory: Path) -> None:
        """Write the pack, durably, under its name into `directory`. Nothing may be added afterwards. Blocks.

        Raises Damaged for a record that is not what its row says, LocalDisk, LocalDiskFull.
        """
        kind = PACK_SOLO if len({row.fid for row in self._rows}) == 1 and self._keys else PACK_SHARED
        keys = tuple(key for _, key in sorted(self._keys.items()))
        hints = tuple(hint for _, hint in sorted(self._hints.items()))
        index = PackIndex(1, kind, keys, hints, tuple(self._rows), ())
        header = pack_header(self._vault, self.ks, index_len(index))
        sealed = seal_index(self._keyring.key(KeyLabel.PACK, self.ks), header, index)
        temporary = directory / f".tmp-{random_bytes(8).hex()}"
        digest = hashlib.sha256()
        try:
            with local_disk("writing a pack"), temporary.open("wb") as out:
                for data in chain((header,), self._read(), (sealed,)):
                    digest.update(data)
                    out.write(data)
                size = out.tell()
                out.flush()
                os.fsync(out.fileno())  # what bears a pack's name is believed to be whole
            path = directory / f"{digest.hexdigest()}.pack"
            with local_disk("writing a pack"):
                temporary.rename(path)
        finally:
            temporary.unlink(missing_ok=True)
        self._records.clear()
        container = self.container
        container.id, container.size, container.path = digest.digest(), size, path
        container.verified, container.named = True, False

    def _read(self) -> Iterator[bytes]:
        with ExitStack() as open_files:
            files: dict[Path, BinaryIO] = {}
            for row, record in zip(self._rows, self._records, strict=True):
                if isinstance(record, bytes):
                    yield record
                    continue
                if record.path not in files:
                    files[record.path] = open_files.enter_context(record.path.open("rb"))
                yield check_record(files[record.path], record.off, row)


def check_record(source: BinaryIO, off: int, row: PackRecord) -> bytes:
    """The record at `off` of an open file. Raises Damaged if it is not what its row says."""
    source.seek(off)
    data = source.read(row.len)
    if hashlib.sha256(data).digest() != row.hash:
        raise Damaged("a record that is in use is damaged")
    return data
