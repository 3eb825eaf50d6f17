"""How an operation describes the content of a file (docs/format.md, "File contents").

`Content` names the chunk records of one version: inline, or by a root manifest and patches. Pure data; reading and
writing the records is the work of `vault/content.py`.
"""

from typing import Final

from cryptfs.format.codec import Wire

__all__ = [
    "CHUNK_LOG2S", "INLINE_MAX", "MAX_CHUNKS", "PAGE_CHUNKS", "WHERE_BODY2", "WHERE_HERE", "WHERE_PACK",
    "Content", "FileKeyBox", "Hole", "Inline", "Loc", "MRef", "Page", "Paged", "Patch", "Root", "Run", "Span",
]  # fmt: skip

CHUNK_LOG2S: Final = (16, 17, 18, 19, 20, 22)
MAX_CHUNKS: Final = 1 << 22
PAGE_CHUNKS: Final = 4096
INLINE_MAX: Final = 4096
"""Bytes that an encoded `Content` may have."""

WHERE_HERE: Final = 0
"""body2 of the segment that carries the operation; only in operations."""
WHERE_PACK: Final = 1
WHERE_BODY2: Final = 2
"""body2 of the segment with digest `id`."""


class FileKeyBox(Wire, frozen=True):
    """A file key of version `fkv` sealed under the key set `ks` (16·n bytes); `box` is 104 bytes."""

    fkv: int
    ks: bytes
    box: bytes


class Loc(Wire, frozen=True):
    """Where records lie: container and offset in bytes (packs: of the object; body2: of body2)."""

    where: int
    id: bytes
    off: int


class Hole(Wire, frozen=True, tag=0):
    """`count` chunks that read as zeros."""

    count: int


class Run(Wire, frozen=True, tag=1):
    """`count` records back to back at `loc`; `hashes` holds their SHA-256, 32 bytes each."""

    count: int
    codec: int
    fkv: int
    loc: Loc
    hashes: bytes


Span = Hole | Run


class MRef(Wire, frozen=True):
    """A manifest record: sealed under K_meta of `ks`, `len` bytes at `loc` with SHA-256 `hash`."""

    ks: bytes
    loc: Loc
    len: int
    hash: bytes


class Patch(Wire, frozen=True):
    """A span that overrides the pages from chunk `first` on."""

    first: int
    span: Span


class Inline(Wire, frozen=True, tag=1):
    """The spans of the whole content, tiling chunks 0..N-1."""

    spans: tuple[Span, ...]


class Paged(Wire, frozen=True, tag=2):
    """A root manifest, and patches over its pages."""

    root: MRef
    patches: tuple[Patch, ...]


class Content(Wire, frozen=True):
    """One version of a file: `size` in bytes, chunks of 2^chunk_log2 bytes, `digest` H(plaintext) or empty."""

    fid: bytes
    size: int
    chunk_log2: int
    digest: bytes
    keys: tuple[FileKeyBox, ...]
    body: Inline | Paged


class Root(Wire, frozen=True):
    """Plaintext of a root manifest; page j covers chunks 4096·j .. 4096·j+4095, None = all holes."""

    fmt: int
    keys: tuple[FileKeyBox, ...]
    pages: tuple[MRef | None, ...]


class Page(Wire, frozen=True):
    """Plaintext of a page manifest; the spans tile the page exactly."""

    fmt: int
    spans: tuple[Span, ...]
