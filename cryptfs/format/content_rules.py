"""Rules of form for file contents (docs/format.md, "File contents"): spans tile, keys are used, records have a place.

Each function takes decoded values and raises Invalid, or NeedsUpdate for a codec of a later version. With them holding,
chunk arithmetic on the values needs no further checks.
"""

from collections.abc import Iterable
from typing import Final

from cryptfs.crypto.seal import sealed_len
from cryptfs.errors import NeedsUpdate
from cryptfs.format.codec import check_fmt, encode
from cryptfs.format.content import (
    CHUNK_LOG2S,
    INLINE_MAX,
    MAX_CHUNKS,
    PAGE_CHUNKS,
    WHERE_BODY2,
    WHERE_HERE,
    Content,
    FileKeyBox,
    Inline,
    Loc,
    MRef,
    Page,
    Paged,
    Root,
    Run,
    Span,
)
from cryptfs.format.form import id16, id32, key_set, need, optional, uint
from cryptfs.format.limits import I64_MAX, MANIFEST_MAX, U32_MAX

__all__ = [
    "FILE_KEY_BOX_LEN",
    "check_content",
    "check_page",
    "check_root",
    "chunk_count",
    "page_chunks",
    "plain_chunk_len",
    "records_len",
]

FILE_KEY_BOX_LEN: Final = 104
"""A sealed 32-byte file key."""


def chunk_count(size: int, chunk_log2: int) -> int:
    """N: number of chunks of a content of `size` bytes."""
    return -(-size >> chunk_log2)


def plain_chunk_len(size: int, chunk_log2: int, index: int) -> int:
    """Plaintext bytes of chunk `index`, 0 <= index < N: all chunks are full but the last."""
    return min(1 << chunk_log2, size - (index << chunk_log2))


def records_len(size: int, chunk_log2: int, first: int, count: int) -> int:
    """Bytes of `count` >= 1 records back to back, of the chunks from `first` on (codec 0)."""
    last = plain_chunk_len(size, chunk_log2, first + count - 1)
    return (count - 1) * sealed_len(1 << chunk_log2) + sealed_len(last)


def page_chunks(size: int, chunk_log2: int, page: int) -> int:
    """Number of chunks that page `page` covers."""
    return min(PAGE_CHUNKS, chunk_count(size, chunk_log2) - page * PAGE_CHUNKS)


def check_content(content: Content, body2: int | None = None) -> None:
    """Check a content with all its inline parts.

    `body2` is the length of body2 of the segment it stands in; None where contents never point into their own segment
    (replica, checkpoint).
    """
    id16(content.fid, "fid")
    need(content.chunk_log2 in CHUNK_LOG2S, "chunk size is not one of the format")
    uint(content.size, MAX_CHUNKS << content.chunk_log2, "file size")
    optional(content.digest, 32, "digest")
    fkvs = _check_keys(content.keys)
    count = chunk_count(content.size, content.chunk_log2)
    if isinstance(content.body, Inline):
        used = _check_spans(content.body.spans, content, 0, body2)
        need(sum(span.count for span in content.body.spans) == count, "spans do not tile the file")
        need(used == fkvs, "file keys are not exactly those in use")
    else:
        need(count > 0, "an empty file needs no manifest")
        need(fkvs <= _check_paged(content.body, content, count, body2), "file keys are not in use")
    # Four fifths of all contents are a few hundred bytes; only long ones are worth encoding again.
    if _might_exceed(content):
        need(len(encode(content)) <= INLINE_MAX, "content is too long for an operation")


def _might_exceed(content: Content) -> bool:
    """False if the encoded content is certainly within INLINE_MAX: at most 3 spans and 2 keys of few epochs."""
    spans = content.body.spans if isinstance(content.body, Inline) else [patch.span for patch in content.body.patches]
    hashes = sum(len(span.hashes) for span in spans if isinstance(span, Run))
    boxes = sum(len(key.ks) for key in content.keys)
    return len(spans) > 3 or len(content.keys) > 2 or hashes + boxes > 2048


def _check_keys(keys: Iterable[FileKeyBox]) -> set[int]:
    """The versions in `keys`, which are sorted by them."""
    last = -1
    fkvs = set()
    for key in keys:
        need(last < key.fkv <= U32_MAX, "file keys are not sorted or out of range")
        key_set(key.ks)
        need(len(key.box) == FILE_KEY_BOX_LEN, "file key box has not 104 bytes")
        last = key.fkv
        fkvs.add(key.fkv)
    return fkvs


def _check_loc(loc: Loc, length: int, body2: int | None) -> None:
    """A place of `length` bytes; inside the own body2 if it is there."""
    uint(loc.off, I64_MAX - length, "offset of a record")
    if loc.where == WHERE_HERE:
        need(not loc.id and body2 is not None, "a record cannot be in a segment of its own here")
        need(loc.off + length <= (body2 or 0), "a record lies outside the segment")
    else:
        need(0 <= loc.where <= WHERE_BODY2, "no such kind of place")
        id32(loc.id, "container")


def _check_spans(spans: Iterable[Span], content: Content, first: int, body2: int | None) -> set[int]:
    """Spans from chunk `first` on, inside the file; returns the key versions they use."""
    count = chunk_count(content.size, content.chunk_log2)
    fkvs: set[int] = set()
    for span in spans:
        need(1 <= span.count <= count - first, "a span goes beyond the end")
        if isinstance(span, Run):
            if span.codec != 0:
                uint(span.codec, 255, "codec")
                raise NeedsUpdate("chunks are stored in a form that this version does not know")
            uint(span.fkv, U32_MAX, "file key version")
            need(len(span.hashes) == 32 * span.count, "hashes do not match the number of chunks")
            _check_loc(span.loc, records_len(content.size, content.chunk_log2, first, span.count), body2)
            fkvs.add(span.fkv)
        first += span.count
    return fkvs


def _check_mref(ref: MRef, body2: int | None) -> None:
    key_set(ref.ks)
    need(sealed_len(1) <= ref.len <= sealed_len(MANIFEST_MAX), "length of a manifest is out of range")
    id32(ref.hash, "hash of a manifest")
    _check_loc(ref.loc, ref.len, body2)


def _check_paged(body: Paged, content: Content, count: int, body2: int | None) -> set[int]:
    """The key versions used by the patches, which are sorted and do not overlap."""
    _check_mref(body.root, body2)
    fkvs: set[int] = set()
    free = 0
    for patch in body.patches:
        need(free <= patch.first < count, "patches are not sorted or overlap")
        fkvs |= _check_spans((patch.span,), content, patch.first, body2)
        free = patch.first + patch.span.count
    return fkvs


def check_root(root: Root, content: Content) -> None:
    """A root manifest against the content that names it."""
    check_fmt(root.fmt)
    _check_keys(root.keys)
    count = chunk_count(content.size, content.chunk_log2)
    need(len(root.pages) == chunk_count(count, 12), "pages do not cover the file")
    for ref in root.pages:
        if ref is not None:
            _check_mref(ref, None)


def check_page(page: Page, content: Content, number: int) -> None:
    """Page `number` of a content: its spans tile it exactly."""
    check_fmt(page.fmt)
    _check_spans(page.spans, content, number * PAGE_CHUNKS, None)
    covered = sum(span.count for span in page.spans)
    need(covered == page_chunks(content.size, content.chunk_log2, number), "spans do not tile the page")
