"""A checkpoint: the whole tree at a stable stamp, so nobody must replay all history (docs/format.md, "Checkpoints").

    header (author, S) ‖ head = SEAL(K_meta, HD) ‖ sig ‖ blocks

The signature covers header and head; the head holds the hash of every block. So the first bytes suffice to judge it,
and blocks can be fetched one by one. Rows are opaque here: each is one MessagePack array, as the replica encodes it.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from cryptfs.crypto.keys import SIGNATURE_LEN, SignLabel, checkpoint_block_ctx, checkpoint_ctx, lp, verify
from cryptfs.crypto.seal import open_sealed
from cryptfs.errors import Damaged, Invalid, NeedsUpdate
from cryptfs.format.checkpoint_head import (
    CODEC_NONE,
    FIXED,
    BlockRef,
    CheckpointHead,
    CheckpointLog,
    TableRef,
    check_checkpoint_head,
    state_root,
    table_hash,
    table_hasher,
)
from cryptfs.format.codec import decode_top
from cryptfs.format.header import ObjectClass, parse_header
from cryptfs.format.limits import CHECKPOINT_HEAD_MAX, STAMP_MAX

__all__ = [
    "BlockRef",
    "CheckpointHead",
    "CheckpointLog",
    "RawCheckpoint",
    "TableRef",
    "open_block",
    "open_head",
    "parse_checkpoint",
    "read_tables",
    "state_root",
    "table_hash",
    "verify_checkpoint",
]


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


# ---- reading -------------------------------------------------------------------------------------------------------


def parse_checkpoint(first: bytes | memoryview, size: int, vault: bytes) -> RawCheckpoint:
    """Read the signed part from the `first` bytes of an object of `size` bytes.

    Raises Damaged, also if `first` is too short, or NeedsUpdate for an unknown suite.
    """
    header = parse_header(ObjectClass.CHECKPOINT, first, vault)
    author, stamp = FIXED.unpack(header.fixed)
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
    if plain[:1].tobytes() != CODEC_NONE:
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
