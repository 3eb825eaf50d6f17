"""What the records in body2 of a segment are: they have no index, so the contents that name them say it."""

from collections.abc import Iterator

from cryptfs.crypto.seal import plain_len, sealed_len
from cryptfs.format.content import WHERE_HERE, Content, Inline, Run, Span
from cryptfs.format.pack import RECORD_CHUNK, RECORD_ROOT, PackRecord

__all__ = ["records_here"]


def records_here(content: Content) -> Iterator[PackRecord]:
    """The records of a content that lie in its own segment, with offsets from the start of body2."""
    body = content.body
    if isinstance(body, Inline):
        first = 0
        for span in body.spans:
            yield from _chunks(content, first, span)
            first += span.count
        return
    root = body.root
    if root.loc.where == WHERE_HERE:
        off, length = root.loc.off, root.len
        yield PackRecord(content.fid, RECORD_ROOT, 0, root.ks, 0, off, length, plain_len(length), 0, root.hash)
    for patch in body.patches:
        yield from _chunks(content, patch.first, patch.span)


def _chunks(content: Content, first: int, span: Span) -> Iterator[PackRecord]:
    if not isinstance(span, Run) or span.loc.where != WHERE_HERE:
        return
    off, chunk = span.loc.off, 1 << content.chunk_log2
    for j in range(span.count):
        plain = min(chunk, content.size - (first + j) * chunk)
        length = sealed_len(plain)
        digest = span.hashes[32 * j : 32 * j + 32]
        yield PackRecord(content.fid, RECORD_CHUNK, span.fkv, b"", first + j, off, length, plain, span.codec, digest)
        off += length
