"""Live records of sparse packs, copied byte for byte into a new pack (docs/replication.md, "Collection").

Every record is compared with the hash that the index of its pack has for it: what is damaged is not spread, and a pack
that holds it is left alone. Keys and hints come along, so that the new pack can be salvaged like any other.
"""

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

import trio

from cryptfs.crypto.keys import KeyLabel, random_bytes
from cryptfs.errors import Damaged, HostileStore
from cryptfs.format.content import WHERE_PACK, Loc
from cryptfs.format.names import pack_name
from cryptfs.format.operation import Range, Relocate
from cryptfs.format.pack import (
    PACK_SHARED,
    PACK_SOLO,
    PackHint,
    PackIndex,
    PackKey,
    PackRecord,
    index_len,
    open_index,
    pack_header,
    parse_pack_header,
    seal_index,
)
from cryptfs.tree.places import Place
from cryptfs.vault.containers import Container
from cryptfs.vault.disk import local_disk

if TYPE_CHECKING:
    from cryptfs.vault.vault import Vault

__all__ = ["Sparse", "repack"]

_HEADER_MAX: Final = 304
"""Bytes that hold any header."""


@dataclass(frozen=True, slots=True)
class Sparse:
    """A pack of which little is live: `ranges` are (offset, length) in bytes."""

    place: Place
    ranges: tuple[tuple[int, int], ...]

    @property
    def live(self) -> int:
        """Live bytes."""
        return sum(length for _, length in self.ranges)


@dataclass(slots=True)
class _Piece:
    """The live records of one pack, with what its index says."""

    place: Place
    path: Path
    records: list[PackRecord]
    keys: list[PackKey]
    hints: list[PackHint]


async def repack(vault: "Vault", packs: Iterable[Sparse]) -> tuple[list[Relocate], dict[Place, str]]:
    """Copy what is live in these packs into one new pack, which the store has on return.

    Returns the operations that say so, and which packs were left alone for which reason. Raises StoreError, LocalDisk.
    """
    pieces: list[_Piece] = []
    left: dict[Place, str] = {}
    for one in packs:
        try:
            pieces.append(await _piece(vault, one))
        except HostileStore as err:
            left[one.place] = str(err)
    if not pieces:
        return [], left
    ks = vault.keyring.write_keyset
    start = len(pack_header(vault.vault_id, ks, 0))
    rows, moves = _lay_out(pieces, start)
    keys = {(key.fid, key.fkv): key for piece in pieces for key in piece.keys}
    hints = {hint.fid: hint for piece in pieces for hint in piece.hints}
    kind = PACK_SOLO if len({row.fid for row in rows}) == 1 else PACK_SHARED
    index = PackIndex(
        1, kind, tuple(keys[one] for one in sorted(keys)), tuple(hints[fid] for fid in sorted(hints)), tuple(rows), ()
    )
    header = pack_header(vault.vault_id, ks, index_len(index))
    sealed = seal_index(vault.keyring.key(KeyLabel.PACK, ks), header, index)
    container = await trio.to_thread.run_sync(_write, vault.home.cached_packs_dir, header, pieces, sealed)
    vault.cache.adopt(container)
    if container.path is None:
        raise Damaged("a pack that was written here is gone")
    vault.cache.pinned.add(container.path)
    await vault.sender.put_until_confirmed(pack_name(container.id), container.path)
    return [
        Relocate(WHERE_PACK, place.id, WHERE_PACK, container.id, tuple(ranges)) for place, ranges in moves.items()
    ], left


async def _piece(vault: "Vault", one: Sparse) -> _Piece:
    """Bring a pack here and choose its live records. Raises HostileStore if they are not what its index says."""
    container = vault.container(Loc(one.place.where, one.place.id, 0))
    if container.path is None:
        await vault.cache.fetch(container)
    if container.path is None:
        raise Damaged("a pack could not be fetched")
    with local_disk("reading a pack"), container.path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        header = parse_pack_header(file.read(_HEADER_MAX), size, vault.vault_id)
        file.seek(header.index_at)
        sealed = file.read()
    index = open_index(vault.keyring.key(KeyLabel.PACK, header.ks), header, sealed)
    records = [rec for rec in index.recs if _within(rec, one.ranges)]
    if sum(rec.len for rec in records) != one.live:
        raise Damaged("the index of a pack does not list all that is in use of it")
    await trio.to_thread.run_sync(_verify, container.path, records)
    fids = {rec.fid for rec in records}
    versions = {(rec.fid, rec.fkv) for rec in records}
    keys = [key for key in index.keys if (key.fid, key.fkv) in versions]
    return _Piece(one.place, container.path, records, keys, [hint for hint in index.hints if hint.fid in fids])


def _verify(path: Path, records: list[PackRecord]) -> None:
    with local_disk("reading a pack"), path.open("rb") as source:
        for rec in records:
            _record(source, rec)


def _within(rec: PackRecord, ranges: tuple[tuple[int, int], ...]) -> bool:
    return any(off <= rec.off and rec.off + rec.len <= off + length for off, length in ranges)


def _lay_out(pieces: list[_Piece], at: int) -> tuple[list[PackRecord], dict[Place, list[Range]]]:
    """New places of all records, back to back from `at` on; the moves of each pack, in as few ranges as possible."""
    rows: list[PackRecord] = []
    moves: dict[Place, list[Range]] = {}
    for piece in pieces:
        ranges = moves.setdefault(piece.place, [])
        for rec in piece.records:
            rows.append(
                PackRecord(
                    rec.fid, rec.type, rec.fkv, rec.ks, rec.first_chunk, at, rec.len, rec.plain_len, rec.codec, rec.hash
                )
            )
            if ranges and ranges[-1].old_off + ranges[-1].len == rec.off:
                ranges[-1] = Range(ranges[-1].old_off, ranges[-1].new_off, ranges[-1].len + rec.len)
            else:
                ranges.append(Range(rec.off, at, rec.len))
            at += rec.len
    return rows, moves


def _write(directory: Path, header: bytes, pieces: list[_Piece], sealed: bytes) -> Container:
    """The new pack in the cache. Worker thread; raises Damaged for a record that is not what its index says."""
    temporary = directory / f".tmp-{random_bytes(8).hex()}"
    digest = hashlib.sha256()
    try:
        with local_disk("repacking"), temporary.open("wb") as out:
            for data in chain((header,), _records(pieces), (sealed,)):
                digest.update(data)
                out.write(data)
            size = out.tell()
            out.flush()
            os.fsync(out.fileno())
        path = directory / f"{digest.hexdigest()}.pack"
        with local_disk("repacking"):
            temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)
    container = Container(-1, WHERE_PACK, digest.digest(), path, size)
    container.verified, container.named = True, False
    return container


def _records(pieces: list[_Piece]) -> Iterable[bytes]:
    for piece in pieces:
        with piece.path.open("rb") as source:
            for rec in piece.records:
                yield _record(source, rec)


def _record(source: BinaryIO, rec: PackRecord) -> bytes:
    source.seek(rec.off)
    data = source.read(rec.len)
    if hashlib.sha256(data).digest() != rec.hash:
        raise Damaged("a record that is in use is damaged")
    return data
