"""A pack: many sealed records in one object, so that small files cost few uploads (docs/format.md, "Packs").

    header ‖ record ‖ record ‖ ... ‖ SEAL(K_pack, index)

Records are found through signed metadata; the index serves checking, collection and salvage, and is never trusted for
reading. A pack is not signed: its id is the SHA-256 of the whole, and signed metadata name id and record hashes.
"""

from dataclasses import dataclass
from typing import Final

from cryptfs.crypto.keys import pack_ctx
from cryptfs.crypto.seal import open_sealed, seal, sealed_len
from cryptfs.errors import Damaged
from cryptfs.format import header as headers
from cryptfs.format.codec import Ext, Wire, check_ext, check_fmt, decode_top, encode
from cryptfs.format.content_rules import FILE_KEY_BOX_LEN
from cryptfs.format.form import id16, id32, int64, key_set, need, uint
from cryptfs.format.header import ObjectClass
from cryptfs.format.limits import I64_MAX, PACK_INDEX_MAX, PACK_MAX, U32_MAX
from cryptfs.format.segment_body import PACK_SHARED, PACK_SOLO

__all__ = [
    "PACK_SHARED",
    "PACK_SOLO",
    "RECORD_CHUNK",
    "RECORD_PAGE",
    "RECORD_ROOT",
    "PackHeader",
    "PackHint",
    "PackIndex",
    "PackKey",
    "PackRecord",
    "index_len",
    "open_index",
    "pack_header",
    "parse_pack_header",
    "records_at",
    "seal_index",
]

RECORD_CHUNK: Final = 0
RECORD_PAGE: Final = 1
RECORD_ROOT: Final = 2


class PackKey(Wire, frozen=True):
    """The file key of version `fkv` of content `fid`, boxed under `ks`, for salvage."""

    fid: bytes
    fkv: int
    ks: bytes
    box: bytes


class PackHint(Wire, frozen=True):
    """What a content was called when the pack was made: `path` from the root, `size` in bytes; hints only."""

    fid: bytes
    ino: bytes
    path: bytes
    size: int
    wall_ms: int


class PackRecord(Wire, frozen=True):
    """One record at `off`, `len` bytes, with SHA-256 `hash`.

    Chunks (`type` RECORD_CHUNK) have a file key version and an empty `ks`; manifests a key set and `fkv` 0.
    """

    fid: bytes
    type: int
    fkv: int
    ks: bytes
    first_chunk: int
    off: int
    len: int
    plain_len: int
    codec: int
    hash: bytes


class PackIndex(Wire, frozen=True):
    """What is in a pack. `keys` sorted by (fid, fkv), `recs` by offset; `kind` PACK_SHARED or PACK_SOLO."""

    fmt: int
    kind: int
    keys: tuple[PackKey, ...]
    hints: tuple[PackHint, ...]
    recs: tuple[PackRecord, ...]
    ext: tuple[Ext, ...]


@dataclass(frozen=True, slots=True)
class PackHeader:
    """Header of a pack of `size` bytes: records lie from `records_at` to `index_at`, the index from there on."""

    raw: bytes
    ks: bytes
    records_at: int
    index_at: int
    size: int


def records_at(epochs: int) -> int:
    """Offset of the first record of a pack under `epochs` epochs: 64 for one."""
    return headers.header_len(ObjectClass.PACK, epochs)


def index_len(index: PackIndex) -> int:
    """Bytes of the sealed form of `index`; what the header must announce."""
    return sealed_len(len(encode(index)))


def pack_header(vault: bytes, ks: bytes, index_len: int) -> bytes:
    """Header of a pack whose sealed index has `index_len` bytes."""
    return headers.pack_header(ObjectClass.PACK, vault, ks, index_len, b"")


def seal_index(pack_key: bytes, header: bytes, index: PackIndex) -> bytes:
    """The sealed index that goes behind the records; `pack_key` is K_pack of the key set in `header`.

    Raises ValueError if it is too large or not as long as `header` says, Invalid if no reader would accept it.
    """
    plain = encode(index)
    if sealed_len(len(plain)) > PACK_INDEX_MAX or sealed_len(len(plain)) != int.from_bytes(header[12:16], "big"):
        raise ValueError("the index of a pack is too large, or not the one its header announces")
    check_index(index, records=len(header))
    return seal(pack_key, pack_ctx(header), plain)


def parse_pack_header(first: bytes | memoryview, size: int, vault: bytes) -> PackHeader:
    """Read the header from the `first` bytes (304 suffice) of an object of `size` bytes.

    Raises Damaged, or NeedsUpdate for an unknown suite.
    """
    if size > PACK_MAX:
        raise Damaged("pack is too large")
    header = headers.parse_header(ObjectClass.PACK, first, vault)
    if header.length > PACK_INDEX_MAX or len(header.raw) + header.length > size:
        raise Damaged("pack is shorter than its header says")
    return PackHeader(header.raw, header.ks, len(header.raw), size - header.length, size)


def open_index(pack_key: bytes, header: PackHeader, sealed: bytes | memoryview) -> PackIndex:
    """Open the index, the last bytes of the object from `header.index_at` on.

    Raises AuthError for a wrong key or bytes, Invalid for an index that breaks a rule, NeedsUpdate for a later one.
    """
    index = decode_top(PackIndex, open_sealed(pack_key, pack_ctx(header.raw), sealed), PACK_INDEX_MAX)
    check_index(index, records=header.records_at, end=header.index_at)
    return index


def check_index(index: PackIndex, *, records: int, end: int = PACK_MAX) -> None:
    """Rules of form: sorted, records inside `records`..`end` and not overlapping. Raises Invalid or NeedsUpdate."""
    check_fmt(index.fmt)
    check_ext(index.ext)
    need(index.kind in (PACK_SHARED, PACK_SOLO), "no such kind of pack")
    last = (b"", -1)
    for key in index.keys:
        id16(key.fid, "fid")
        uint(key.fkv, U32_MAX, "file key version")
        key_set(key.ks)
        need(len(key.box) == FILE_KEY_BOX_LEN, "file key box has not 104 bytes")
        need(last < (key.fid, key.fkv), "keys of a pack are not sorted")
        last = (key.fid, key.fkv)
    for hint in index.hints:
        id16(hint.fid, "fid")
        id16(hint.ino, "inode")
        uint(hint.size, I64_MAX, "file size")
        int64(hint.wall_ms, "wall clock")
    free = records
    for rec in index.recs:
        _check_record(rec)
        need(free <= rec.off, "records of a pack are not sorted or overlap")
        free = rec.off + rec.len
    need(free <= end, "a record lies outside the pack")


def _check_record(rec: PackRecord) -> None:
    id16(rec.fid, "fid")
    id32(rec.hash, "hash of a record")
    uint(rec.fkv, U32_MAX, "file key version")
    uint(rec.first_chunk, I64_MAX, "chunk index")
    uint(rec.plain_len, PACK_MAX, "length of a record")
    uint(rec.codec, 255, "codec")
    need(rec.type in (RECORD_CHUNK, RECORD_PAGE, RECORD_ROOT), "no such kind of record")
    if rec.type == RECORD_CHUNK:
        need(not rec.ks, "a chunk is sealed under a file key")
    else:
        key_set(rec.ks)
        need(rec.fkv == 0, "a manifest is sealed under a key set")
    need(rec.len == sealed_len(rec.plain_len) or rec.codec != 0, "length of a record is out of range")
    uint(rec.len - sealed_len(0), PACK_MAX, "length of a record")
