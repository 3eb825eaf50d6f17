"""A pack that is made in memory: sealed records are added one by one, and finished it is an object for the store.

For what is sealed in the background and waits for no program: manifests, and files under new keys. What programs write
goes into packs on disk instead (`containers.OpenPack`), which are durable before they are finished.
"""

import hashlib
from typing import Final

from msgspec.structs import replace

from cryptfs.crypto.keys import KeyLabel
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

__all__ = ["WHOLE_PACK_TARGET", "WholePack"]

WHOLE_PACK_TARGET: Final = PACK_SHARED_TARGET - MIB
"""Bytes of records, all in memory, at which such a pack is finished; room is left for the index."""
_EPOCH_LEN: Final = 16


class WholePack:
    """One pack in the making, sealed under the key set that is in force when it is begun.

    `container` is what records are found in. It has a name once the pack is finished, a file once that is written.
    """

    def __init__(self, vault: bytes, keyring: Keyring) -> None:
        """Raises NotAllowed while nothing may be sealed."""
        self.ks = keyring.write_keyset
        self._vault = vault
        self._keyring = keyring
        self._records: list[bytes] = []
        self._rows: list[PackRecord] = []
        self._keys: dict[tuple[bytes, int], PackKey] = {}
        self._hints: dict[bytes, PackHint] = {}
        self.container = Container(-1, WHERE_PACK)
        self.container.size = records_at(len(self.ks) // _EPOCH_LEN)

    @property
    def empty(self) -> bool:
        """Whether nothing was added."""
        return not self._rows

    def add(self, row: PackRecord, record: bytes) -> int:
        """Take in a sealed record; `row` says what it is, but for its offset, which is returned."""
        off = self.container.size
        self._rows.append(replace(row, off=off))
        self._records.append(record)
        self.container.size += len(record)
        return off

    def tell(self, key: PackKey, hint: PackHint) -> None:
        """What salvage needs to know about the records of one content: their key, and what the file is called."""
        self._keys[key.fid, key.fkv] = key
        self._hints[hint.fid] = hint

    def finish(self) -> bytes:
        """Name the container and return the object. Nothing may be added afterwards."""
        kind = PACK_SOLO if len({row.fid for row in self._rows}) == 1 and self._keys else PACK_SHARED
        keys = tuple(key for _, key in sorted(self._keys.items()))
        hints = tuple(hint for _, hint in sorted(self._hints.items()))
        index = PackIndex(1, kind, keys, hints, tuple(self._rows), ())
        header = pack_header(self._vault, self.ks, index_len(index))
        sealed = seal_index(self._keyring.key(KeyLabel.PACK, self.ks), header, index)
        data = b"".join([header, *self._records, sealed])
        self._records.clear()
        self.container.id = hashlib.sha256(data).digest()
        self.container.size = len(data)
        self.container.verified, self.container.named = True, False
        return data
