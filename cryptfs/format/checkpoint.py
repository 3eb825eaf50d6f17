"""A checkpoint: the whole tree at a stable stamp, so nobody must replay all history (docs/format.md, "Checkpoints").

    header (author, S) ‖ head = SEAL(K_meta, HD) ‖ sig ‖ blocks

The signature covers header and head; the head holds the hash of every block. So the first bytes suffice to judge it,
and blocks can be fetched one by one. Rows are opaque here: each is one MessagePack array, as the replica encodes it.
"""

import hashlib
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from cryptfs.crypto.keys import SIGNATURE_LEN, SignLabel, checkpoint_block_ctx, checkpoint_ctx, lp, sign, verify
from cryptfs.crypto.seal import open_sealed, seal, sealed_len
from cryptfs.errors import Damaged, Invalid, NeedsUpdate
from cryptfs.format.checkpoint_head import (
    BlockRef,
    CheckpointHead,
    CheckpointLog,
    TableRef,
    check_checkpoint_head,
    state_root,
    table_hash,
    table_hasher,
)
from cryptfs.format.codec import FMT, decode_top, encode
from cryptfs.format.header import ObjectClass, pack_header, parse_header
from cryptfs.format.limits import CHECKPOINT_BLOCK_MAX, CHECKPOINT_BLOCK_ROWS, CHECKPOINT_HEAD_MAX, STAMP_MAX

__all__ = [
    "BlockRef",
    "CheckpointHead",
    "CheckpointLog",
    "RawCheckpoint",
    "State",
    "TableRef",
    "build_checkpoint",
    "open_block",
    "open_head",
    "parse_checkpoint",
    "read_tables",
    "state_root",
    "table_hash",
    "verify_checkpoint",
]

_FIXED: Final = struct.Struct(">32sQ")
_CODEC_NONE: Final = b"\0"


@dataclass(frozen=True, slots=True)
class State:
    """What is put into a checkpoint: encoded rows by table, ascending by key, and what they are a function of."""

    stamp: int
    rules: int
    mheads: tuple[bytes, ...]
    heads: tuple[CheckpointLog, ...]
    tables: Mapping[int, list[bytes]] = field(repr=False)
    prev: bytes = b""


@dataclass(frozen=True, slots=True)
class RawCheckpoint:
    """The signed part of a checkpoint of `size` bytes; blocks lie from `blocks_at` on. `digest` is H(header ‖ head)."""

    vault: bytes
    header: bytes
    ks: bytes
    author: bytes
    stamp: int
    digest: bytes
    blocks_at: int
    size: int
    head: bytes = field(repr=False)
    sig: bytes = field(repr=False)


# ---- making --------------------------------------------------------------------------------------------------------


def build_checkpoint(
    *, vault: bytes, ks: bytes, author: bytes, meta_key: bytes, state: State, client: str, sign_seed: bytes
) -> tuple[bytes, bytes]:
    """Make a checkpoint; returns the object and its digest.

    `author` is the entry (32 bytes) of the device with Ed25519 seed `sign_seed`; `meta_key` K_meta of `ks`. Raises
    Invalid for what no reader would accept.
    """
    plains = {table: [*_blocks(rows)] for table, rows in sorted(state.tables.items())}
    thashes = {table: table_hash(table, rows) for table, rows in state.tables.items()}
    root = state_root(vault, state.stamp, state.rules, thashes)

    def head_with(hashes: Iterator[bytes]) -> bytes:
        tables = _table_refs(plains, thashes, hashes)
        head = CheckpointHead(FMT, state.rules, state.mheads, state.heads, state.prev, tables, root, client, ())
        check_checkpoint_head(head, vault, state.stamp)
        return encode(head)

    # The header holds the length of the head and binds the blocks, the head holds the hashes of the blocks: the length
    # is found with hashes of zeros, which are as long as any.
    length = sealed_len(len(head_with(iter([bytes(32)] * sum(map(len, plains.values()))))))
    if length > CHECKPOINT_HEAD_MAX:
        raise Invalid("the head of a checkpoint is too large")
    header = pack_header(ObjectClass.CHECKPOINT, vault, ks, length, _FIXED.pack(author, state.stamp))
    sealed = [
        seal(meta_key, checkpoint_block_ctx(header, table, number), plain)
        for table, blocks in plains.items()
        for number, (_, plain) in enumerate(blocks)
    ]
    head = seal(meta_key, checkpoint_ctx(header), head_with(hashlib.sha256(block).digest() for block in sealed))
    digest = hashlib.sha256(header + head).digest()
    return b"".join((header, head, sign(sign_seed, SignLabel.CHECKPOINT, vault, digest), *sealed)), digest


def _blocks(rows: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Plaintexts of the blocks of one table, with their number of rows."""
    count, block = 0, bytearray(_CODEC_NONE)
    for row in rows:
        if count == CHECKPOINT_BLOCK_ROWS or (count and len(block) + 4 + len(row) > CHECKPOINT_BLOCK_MAX):
            yield count, bytes(block)
            count, block = 0, bytearray(_CODEC_NONE)
        block += lp(row)
        count += 1
    if count:
        yield count, bytes(block)


def _table_refs(
    plains: Mapping[int, list[tuple[int, bytes]]], thashes: Mapping[int, bytes], hashes: Iterator[bytes]
) -> tuple[TableRef, ...]:
    refs, at = [], 0
    for table, blocks in plains.items():
        found = []
        for rows, plain in blocks:
            length = sealed_len(len(plain))
            found.append(BlockRef(rows, at, length, next(hashes)))
            at += length
        refs.append(TableRef(table, sum(rows for rows, _ in blocks), thashes[table], tuple(found)))
    return tuple(refs)


# ---- reading -------------------------------------------------------------------------------------------------------


def parse_checkpoint(first: bytes | memoryview, size: int, vault: bytes) -> RawCheckpoint:
    """Read the signed part from the `first` bytes of an object of `size` bytes.

    Raises Damaged, also if `first` is too short, or NeedsUpdate for an unknown suite.
    """
    header = parse_header(ObjectClass.CHECKPOINT, first, vault)
    author, stamp = _FIXED.unpack(header.fixed)
    sig_at = len(header.raw) + header.length
    blocks_at = sig_at + SIGNATURE_LEN
    if header.length > CHECKPOINT_HEAD_MAX or stamp > STAMP_MAX or blocks_at > min(size, len(first)):
        raise Damaged("checkpoint is not as long as its header says")
    return RawCheckpoint(
        vault=vault,
        header=header.raw,
        ks=header.ks,
        author=author,
        stamp=stamp,
        digest=hashlib.sha256(first[:sig_at]).digest(),
        blocks_at=blocks_at,
        size=size,
        head=bytes(first[len(header.raw) : sig_at]),
        sig=bytes(first[sig_at:blocks_at]),
    )


def verify_checkpoint(raw: RawCheckpoint, sign_pub: bytes) -> None:
    """Check the signature by the author. Raises AuthError."""
    verify(sign_pub, SignLabel.CHECKPOINT, raw.vault, raw.digest, raw.sig)


def open_head(raw: RawCheckpoint, meta_key: bytes) -> CheckpointHead:
    """Decrypt, decode and check the head of a checkpoint whose signature has been verified.

    Raises AuthError, Invalid, NeedsUpdate, or Damaged if the object is not as long as the blocks it lists.
    """
    plain = open_sealed(meta_key, checkpoint_ctx(raw.header), raw.head)
    head = decode_top(CheckpointHead, plain, CHECKPOINT_HEAD_MAX)
    if raw.blocks_at + check_checkpoint_head(head, raw.vault, raw.stamp) != raw.size:
        raise Damaged("checkpoint is not as long as its head says")
    return head


def open_block(
    raw: RawCheckpoint, meta_key: bytes, table: TableRef, number: int, sealed: bytes | memoryview
) -> list[bytes]:
    """The rows of block `number` of `table`, from its sealed bytes, which lie at `raw.blocks_at + off`.

    Raises Damaged if these are not the bytes that were signed, AuthError, Invalid, or NeedsUpdate for a later codec.
    """
    ref = table.blocks[number]
    if len(sealed) != ref.len or hashlib.sha256(sealed).digest() != ref.hash:
        raise Damaged("a block of a checkpoint is damaged")
    plain = memoryview(open_sealed(meta_key, checkpoint_block_ctx(raw.header, table.table, number), sealed))
    if plain[:1].tobytes() != _CODEC_NONE:
        raise NeedsUpdate("a block is stored in a form that this version does not know")
    rows, at = [], 1
    while at < len(plain):
        end = at + 4 + int.from_bytes(plain[at : at + 4], "big")
        if at + 4 > len(plain) or end > len(plain):
            raise Invalid("rows of a block are cut off")
        rows.append(bytes(plain[at + 4 : end]))
        at = end
    if len(rows) != ref.rows:
        raise Invalid("a block has not the number of rows its head says")
    return rows


def read_tables(
    raw: RawCheckpoint, head: CheckpointHead, meta_key: bytes, data: bytes | memoryview
) -> Iterator[tuple[int, bytes]]:
    """All rows of the whole object `data` with the number of their table, in order.

    Raises as `open_block`, and Invalid at the end of a table whose rows do not have the hash that makes up the root:
    nothing may be kept before the iterator has come to its end.
    """
    view = memoryview(data)[raw.blocks_at :]
    for table in head.tables:
        digest = table_hasher(table.table)
        for number, ref in enumerate(table.blocks):
            for row in open_block(raw, meta_key, table, number, view[ref.off : ref.off + ref.len]):
                digest.update(lp(row))
                yield table.table, row
        if digest.digest() != table.thash:
            raise Invalid("rows of a table do not have the hash its head says")
