"""What is live in one container, with what is known of each record: the raw material of a new pack.

A pack has an index. The records in body2 of a segment have none; what they are, the operations of the segment say.
Either way every record has the hash that somebody signed for, and what does not match it is not spread.
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from cryptfs.crypto.keys import KeyLabel
from cryptfs.errors import Damaged
from cryptfs.format.content import WHERE_BODY2, Content, Loc
from cryptfs.format.names import SegmentName, inode_of, parse_name
from cryptfs.format.operation import Create, OpId, Put, Rekey
from cryptfs.format.pack import (
    PackHint,
    PackKey,
    PackRecord,
    open_index,
    parse_pack_header,
)
from cryptfs.format.segment import SegmentBody
from cryptfs.tree.places import Place
from cryptfs.vault.bodyrecords import records_here
from cryptfs.vault.disk import local_disk
from cryptfs.vault.info import path_of
from cryptfs.vault.wholepack import RecordAt, WholePack, check_record

if TYPE_CHECKING:
    from cryptfs.vault.vault import Vault

__all__ = ["Piece", "Sparse", "piece_of"]

_HEADER_MAX: Final = 304
"""Bytes that hold any header of a pack."""


@dataclass(frozen=True, slots=True)
class Sparse:
    """A container of which little is live: `ranges` are (offset, length) in bytes."""

    place: Place
    ranges: tuple[tuple[int, int], ...]

    @property
    def live(self) -> int:
        """Live bytes."""
        return sum(length for _, length in self.ranges)


@dataclass(slots=True)
class Piece:
    """The live records of one container, by offset: `rows` say what they are, and `path` is the file they lie in."""

    place: Place
    path: Path
    rows: list[PackRecord] = field(default_factory=list)
    keys: list[PackKey] = field(default_factory=list)
    hints: list[PackHint] = field(default_factory=list)

    def add_to(self, whole: WholePack) -> Iterator[tuple[int, int, int]]:
        """Put the records into a pack; tells (old offset, new offset, length) of each."""
        for row in self.rows:
            yield row.off, whole.add(row, RecordAt(self.path, row.off)), row.len
        for key in self.keys:
            whole.tell(key)
        for hint in self.hints:
            whole.tell(hint=hint)


async def piece_of(vault: "Vault", one: Sparse) -> Piece:
    """Bring a container here and choose its live records.

    Raises HostileStore if they are not what is known of them, StoreError, LocalDisk.
    """
    container = vault.container(Loc(one.place.where, one.place.id, 0))
    if container.path is None:
        await vault.cache.fetching.whole(container)
    if container.path is None:
        raise Damaged("a part of a file could not be fetched")
    piece = Piece(one.place, container.path)
    await (_from_segment if one.place.where == WHERE_BODY2 else _from_pack)(vault, piece, one)
    if sum(row.len for row in piece.rows) != one.live:
        raise Damaged("not all that is in use of a container is known by its index")
    await trio.to_thread.run_sync(_verify, piece)
    return piece


def _within(row: PackRecord, ranges: Iterable[tuple[int, int]]) -> bool:
    return any(off <= row.off and row.off + row.len <= off + length for off, length in ranges)


def _verify(piece: Piece) -> None:
    with local_disk("reading a pack"), piece.path.open("rb") as source:
        for row in piece.rows:
            check_record(source, row.off, row)


# ---- packs -------------------------------------------------------------------------------------------------------


async def _from_pack(vault: "Vault", piece: Piece, one: Sparse) -> None:
    with local_disk("reading a pack"), piece.path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        header = parse_pack_header(file.read(_HEADER_MAX), size, vault.vault_id)
        file.seek(header.index_at)
        sealed = file.read()
    index = open_index(vault.keyring.key(KeyLabel.PACK, header.ks), header, sealed)
    piece.rows = [row for row in index.recs if _within(row, one.ranges)]
    fids, versions = {row.fid for row in piece.rows}, {(row.fid, row.fkv) for row in piece.rows}
    piece.keys = [key for key in index.keys if (key.fid, key.fkv) in versions]
    piece.hints = [hint for hint in index.hints if hint.fid in fids]


# ---- segments ----------------------------------------------------------------------------------------------------


async def _from_segment(vault: "Vault", piece: Piece, one: Sparse) -> None:
    name = parse_name(vault.cache.segments.name(one.place.id) or "")
    if not isinstance(name, SegmentName):
        raise Damaged("a log segment is not known here")
    body = await vault.reader.open_again(name.log_id, name.seq, one.place.id)
    rows: dict[int, PackRecord] = {}
    for st, content in _contents(vault, name.log_id, body):
        records = {row.off: row for row in records_here(content) if _within(row, one.ranges)}
        rows |= records
        if records:
            fid = content.fid
            piece.keys += [PackKey(fid, key.fkv, key.ks, key.box) for key in content.keys]
            if st is not None:
                hint = PackHint(fid, vault.replica.ino_of(st), path_of(vault.replica, st), content.size, body.wall_ms)
                piece.hints.append(hint)
    piece.rows = [rows[off] for off in sorted(rows)]


def _contents(vault: "Vault", log_id: bytes, body: SegmentBody) -> Iterator[tuple[int | None, Content]]:
    """The contents that a segment brings, each with the node it was for; None where there is no such node any more."""
    for n, op in enumerate(body.ops, body.first_op):
        if isinstance(op, Create | Put | Rekey) and op.content is not None:
            ino = inode_of(vault.vault_id, OpId(log_id, n)) if isinstance(op, Create) else op.i
            yield vault.replica.st_of(ino), op.content
