"""HD, the plaintext of a checkpoint's head: which state it is, where its tables lie (docs/format.md, "Checkpoints")."""

import hashlib
import struct
from collections.abc import Iterable, Mapping
from typing import Final

from cryptfs.crypto.keys import lp
from cryptfs.crypto.seal import sealed_len
from cryptfs.format.codec import Ext, Wire, check_ext, check_fmt
from cryptfs.format.form import ascending, frontier, id16, id32, need, optional, text, uint
from cryptfs.format.limits import CHECKPOINT_BLOCK_MAX, CHECKPOINT_BLOCK_ROWS, STAMP_MAX

__all__ = [
    "CODEC_NONE",
    "FIXED",
    "STATE_TABLES",
    "TABLE_ALIAS",
    "TABLE_CONTAINER",
    "TABLE_DIRENT",
    "TABLE_HINTS",
    "TABLE_HISTORY",
    "TABLE_LANDING",
    "TABLE_NODE",
    "TABLE_XATTR",
    "BlockRef",
    "CheckpointHead",
    "CheckpointLog",
    "TableRef",
    "check_checkpoint_head",
    "state_root",
    "table_hash",
    "table_hasher",
]

FIXED: Final = struct.Struct(">32sQ")
"""What the header of a checkpoint has of its own: entry of the author, stamp."""
CODEC_NONE: Final = b"\0"
"""The first byte of a block whose rows are not compressed."""

TABLE_NODE: Final = 1
TABLE_DIRENT: Final = 2
TABLE_ALIAS: Final = 3
TABLE_LANDING: Final = 4
TABLE_XATTR: Final = 5
TABLE_CONTAINER: Final = 6
TABLE_HISTORY: Final = 7
STATE_TABLES: Final = tuple(range(TABLE_NODE, TABLE_HISTORY + 1))
"""Together they are the state; each is in every checkpoint, empty or not."""
TABLE_HINTS: Final = 65535
"""Names and sizes of objects in the store: comfort, not state, not in the root, never trusted."""

_LOGS_MAX: Final = 65536
_CLIENT_MAX: Final = 64
_RULES_MAX: Final = 0xFFFF


class BlockRef(Wire, frozen=True):
    """A sealed block of `rows` rows: `len` bytes with SHA-256 `hash`, `off` bytes after the signature."""

    rows: int
    off: int
    len: int
    hash: bytes


class TableRef(Wire, frozen=True):
    """A table: its number, rows in all, `thash`, blocks in order."""

    table: int
    rows: int
    thash: bytes
    blocks: tuple[BlockRef, ...]


class CheckpointLog(Wire, frozen=True):
    """The last segment of a log within the state: `log` 16 bytes, `digest` D, `stamp` L."""

    log: bytes
    seq: int
    digest: bytes
    stamp: int


class CheckpointHead(Wire, frozen=True):
    """What the state is a function of, and where its rows are.

    `rules` number of the merge rules; `mheads` the membership frontier; `heads` sorted by log; `prev` digest of an
    earlier checkpoint or empty; `tables` ascending; `root` hash of the state.
    """

    fmt: int
    rules: int
    mheads: tuple[bytes, ...]
    heads: tuple[CheckpointLog, ...]
    prev: bytes
    tables: tuple[TableRef, ...]
    root: bytes
    client: str
    ext: tuple[Ext, ...]


def table_hasher(table: int) -> "hashlib._Hash":
    """What `thash` is computed with, to be fed `lp(row)` row by row."""
    return hashlib.sha256(b"cryptfs/v1 table\0" + table.to_bytes(2, "big"))


def table_hash(table: int, rows: Iterable[bytes]) -> bytes:
    """`thash`, 32 bytes, of encoded rows in ascending order of their keys."""
    digest = table_hasher(table)
    for row in rows:
        digest.update(lp(row))
    return digest.digest()


def state_root(vault: bytes, stamp: int, rules: int, thashes: Mapping[int, bytes]) -> bytes:
    """`root`, 32 bytes, of the state at `stamp` from the hashes of the tables STATE_TABLES; others are left out."""
    label = b"cryptfs/v1 state\0" + vault + stamp.to_bytes(8, "big") + rules.to_bytes(2, "big")
    return hashlib.sha256(label + b"".join(thashes[table] for table in STATE_TABLES)).digest()


def check_checkpoint_head(head: CheckpointHead, vault: bytes, stamp: int) -> int:
    """Rules of form, and that `root` follows from the hashes of the tables. Returns the bytes of all blocks together.

    Raises Invalid, or NeedsUpdate for a later format or a critical extension.
    """
    check_fmt(head.fmt)
    check_ext(head.ext)
    uint(head.rules, _RULES_MAX, "number of the rules")
    frontier(head.mheads, "membership heads")
    need(bool(head.mheads), "membership heads are missing")
    need(len(head.heads) <= _LOGS_MAX, "too many logs")
    for log in head.heads:
        id16(log.log, "log id")
        uint(log.seq, STAMP_MAX, "segment number")
        id32(log.digest, "segment digest")
        uint(log.stamp, STAMP_MAX, "stamp")
    ascending((log.log for log in head.heads), "logs")
    optional(head.prev, 32, "earlier checkpoint")
    text(head.client, _CLIENT_MAX, "client")
    tables = tuple(table.table for table in head.tables)
    need(tables in (STATE_TABLES, (*STATE_TABLES, TABLE_HINTS)), "not the tables of a checkpoint")
    thashes = {table.table: table.thash for table in head.tables}
    for thash in thashes.values():
        id32(thash, "hash of a table")
    need(state_root(vault, stamp, head.rules, thashes) == head.root, "root does not follow from the tables")
    return _check_blocks(head.tables)


def _check_blocks(tables: tuple[TableRef, ...]) -> int:
    at = 0
    for table in tables:
        for block in table.blocks:
            need(1 <= block.rows <= CHECKPOINT_BLOCK_ROWS, "number of rows in a block is out of range")
            need(sealed_len(1) <= block.len <= sealed_len(1 + CHECKPOINT_BLOCK_MAX), "size of a block is out of range")
            need(block.off == at, "blocks do not lie back to back")
            id32(block.hash, "hash of a block")
            at += block.len
        need(sum(block.rows for block in table.blocks) == table.rows, "rows of the blocks do not add up")
    return at
