"""Makes a checkpoint: blocks as they come, the head when all are there (docs/format.md, "Checkpoints").

The header holds the length of the head and binds every block, and the head holds the hashes of the blocks. So first the
sizes of all blocks must be known: the head is written with hashes of zeros, which are as long as any.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from cryptfs.crypto.keys import SIGNATURE_LEN, SignLabel, checkpoint_block_ctx, checkpoint_ctx, lp, sign
from cryptfs.crypto.seal import seal, sealed_len
from cryptfs.errors import Invalid
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
)
from cryptfs.format.codec import FMT, Ext, encode
from cryptfs.format.header import ObjectClass, pack_header
from cryptfs.format.limits import CHECKPOINT_BLOCK_MAX, CHECKPOINT_BLOCK_ROWS, CHECKPOINT_HEAD_MAX

__all__ = ["About", "Making", "Outline", "State", "blocks_of", "build_checkpoint"]


@dataclass(frozen=True, slots=True)
class About:
    """What a state at `stamp` is a function of, as in `CheckpointHead`."""

    stamp: int
    rules: int
    mheads: tuple[bytes, ...]
    heads: tuple[CheckpointLog, ...]
    prev: bytes = b""
    ext: tuple[Ext, ...] = ()


@dataclass(frozen=True, slots=True)
class State(About):
    """A whole state in memory: encoded rows by table, ascending by key."""

    tables: Mapping[int, list[bytes]] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Outline:
    """A table before it is sealed: its number, `thash`, and of every block the number of rows and bytes in clear."""

    table: int
    thash: bytes
    blocks: Sequence[tuple[int, int]]


def blocks_of(rows: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """The blocks of one table in clear, each with its number of rows."""
    count, block = 0, bytearray(CODEC_NONE)
    for row in rows:
        if count == CHECKPOINT_BLOCK_ROWS or (count and len(block) + 4 + len(row) > CHECKPOINT_BLOCK_MAX):
            yield count, bytes(block)
            count, block = 0, bytearray(CODEC_NONE)
        block += lp(row)
        count += 1
    if count:
        yield count, bytes(block)


class Making:
    """One checkpoint by the entry `author` (32 bytes) under K_meta of `ks`, whose tables are `outlines`, ascending.

    Seal every block in order, then `finish`; the object is what that returns, then the blocks. Raises Invalid for what
    no reader would accept.
    """

    def __init__(
        self, *, vault: bytes, ks: bytes, author: bytes, meta_key: bytes, about: About, client: str,
        outlines: Sequence[Outline],
    ) -> None:  # fmt: skip
        self._vault, self._meta_key, self._about, self._client = vault, meta_key, about, client
        self._outlines = outlines
        thashes = {one.table: one.thash for one in outlines}
        self.root = state_root(vault, about.stamp, about.rules, thashes)
        self._hashes: list[bytes] = []
        length = sealed_len(len(self._head(iter([bytes(32)] * sum(len(one.blocks) for one in outlines)))))
        if length > CHECKPOINT_HEAD_MAX:
            raise Invalid("the head of a checkpoint is too large")
        fixed = FIXED.pack(author, about.stamp)
        self._header = pack_header(ObjectClass.CHECKPOINT, vault, ks, length, fixed)
        self.blocks_at = len(self._header) + length + SIGNATURE_LEN
        """Where the first block begins in the object."""

    def seal_block(self, table: int, number: int, plain: bytes) -> bytes:
        """A block as it stands in the object."""
        sealed = seal(self._meta_key, checkpoint_block_ctx(self._header, table, number), plain)
        self._hashes.append(hashlib.sha256(sealed).digest())
        return sealed

    def finish(self, sign_seed: bytes) -> tuple[bytes, bytes]:
        """Header, head and signature by the author's Ed25519 seed; and the digest, H(header ‖ head)."""
        head = seal(self._meta_key, checkpoint_ctx(self._header), self._head(iter(self._hashes)))
        digest = hashlib.sha256(self._header + head).digest()
        return self._header + head + sign(sign_seed, SignLabel.CHECKPOINT, self._vault, digest), digest

    def _head(self, hashes: Iterator[bytes]) -> bytes:
        about = self._about
        head = CheckpointHead(
            FMT, about.rules, about.mheads, about.heads, about.prev, self._tables(hashes), self.root, self._client,
            about.ext,
        )  # fmt: skip
        check_checkpoint_head(head, self._vault, about.stamp)
        return encode(head)

    def _tables(self, hashes: Iterator[bytes]) -> tuple[TableRef, ...]:
        refs, at = [], 0
        for one in self._outlines:
            found = []
            for rows, size in one.blocks:
                length = sealed_len(size)
                found.append(BlockRef(rows, at, length, next(hashes)))
                at += length
            refs.append(TableRef(one.table, sum(rows for rows, _ in one.blocks), one.thash, tuple(found)))
        return tuple(refs)


def build_checkpoint(
    *, vault: bytes, ks: bytes, author: bytes, meta_key: bytes, state: State, client: str, sign_seed: bytes
) -> tuple[bytes, bytes]:
    """A checkpoint of a state in memory; returns the object and its digest. As `Making`."""
    plains = {table: [*blocks_of(rows)] for table, rows in sorted(state.tables.items())}
    outlines = [
        Outline(table, table_hash(table, state.tables[table]), [(rows, len(plain)) for rows, plain in blocks])
        for table, blocks in plains.items()
    ]
    making = Making(vault=vault, ks=ks, author=author, meta_key=meta_key, about=state, client=client, outlines=outlines)
    sealed = [
        making.seal_block(table, number, plain)
        for table, blocks in plains.items()
        for number, (_, plain) in enumerate(blocks)
    ]
    first, digest = making.finish(sign_seed)
    return b"".join((first, *sealed)), digest
