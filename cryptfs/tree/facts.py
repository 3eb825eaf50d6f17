"""What sealed operations said about contents: immutable, keyed by the operation, kept outside the undo log.

`where` 0 (body2 of the segment that carries the operation) is stored as 2 with that segment's digest, because the row
outlives the segment it came in (docs/format.md, "File contents").
"""

import hashlib
from collections.abc import Callable

import msgspec

from cryptfs.format.content import WHERE_BODY2, WHERE_HERE, Content, Inline, Loc, MRef, Paged, Patch, Run, Span
from cryptfs.tree.database import Database

__all__ = ["Facts", "anchored", "moved", "unnamed"]


class Facts:
    """Content facts. Written once per sealed operation, never changed."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(Content).decode

    def encoded(self, op: bytes) -> bytes | None:
        """The encoded Content that the sealed operation `op` (24 bytes) carried."""
        row = self._db.one("SELECT ext FROM content WHERE op = ?", (op,))
        return None if row is None else bytes(row[0])

    def content(self, op: bytes) -> Content | None:
        """The same, decoded."""
        ext = self.encoded(op)
        return None if ext is None else self._decode(ext)

    def learn(self, op: bytes, content: Content, digest: bytes) -> None:
        """Record the content carried by `op` in the segment with this digest."""
        ext = self._encode(anchored(content, digest))
        self._db.run("INSERT OR REPLACE INTO content VALUES(?, ?)", (op, ext))


def unnamed(ext: bytes) -> bytes:
    """A key, 24 bytes, for a content that came with a checkpoint and whose operation is not known."""
    return hashlib.sha256(b"cryptfs content\0" + ext).digest()[:24]


def anchored(content: Content, digest: bytes) -> Content:
    """The content with every place "in this segment" turned into "in body2 of the segment `digest`"."""

    def anchor(loc: Loc) -> Loc:
        return Loc(WHERE_BODY2, digest, loc.off) if loc.where == WHERE_HERE else loc

    return moved(content, anchor)


def moved(content: Content, place: Callable[[Loc], Loc]) -> Content:
    """The content with every place exchanged; itself if none changes."""
    body = content.body
    if isinstance(body, Inline):
        spans = tuple(_span(span, place) for span in body.spans)
        return content if spans == body.spans else msgspec.structs.replace(content, body=Inline(spans))
    root = MRef(body.root.ks, place(body.root.loc), body.root.len, body.root.hash)
    patches = tuple(Patch(patch.first, _span(patch.span, place)) for patch in body.patches)
    return msgspec.structs.replace(content, body=Paged(root, patches))


def _span(span: Span, place: Callable[[Loc], Loc]) -> Span:
    return msgspec.structs.replace(span, loc=place(span.loc)) if isinstance(span, Run) else span
