"""Manifest records: the sealed root and pages that list the chunks of a large file (docs/format.md, "File contents").

A record's SHA-256 stands in what points to it - content, root - and so under a signature; callers compare it before
they open. What opens is checked against the content it belongs to.
"""

from typing import Final

from cryptfs.crypto.keys import manifest_ctx
from cryptfs.crypto.seal import open_sealed, seal
from cryptfs.errors import Invalid
from cryptfs.format.codec import decode_top, encode
from cryptfs.format.content import PAGE_CHUNKS, Content, Page, Root
from cryptfs.format.content_rules import check_page, check_root
from cryptfs.format.limits import MANIFEST_MAX

__all__ = ["open_page", "open_root", "seal_page", "seal_root"]

_PAGE: Final = 0
_ROOT: Final = 1


def seal_root(meta_key: bytes, vault: bytes, ks: bytes, content: Content, root: Root) -> bytes:
    """The record of the root manifest of `content`; `meta_key` is K_meta of `ks`. Raises Invalid."""
    check_root(root, content)
    return seal(meta_key, manifest_ctx(vault, ks, content.fid, _ROOT, 0), _encode(root))


def open_root(meta_key: bytes, vault: bytes, ks: bytes, content: Content, record: bytes | memoryview) -> Root:
    """The root manifest of `content`. Raises AuthError, Invalid, or NeedsUpdate for what a later version wrote."""
    plain = open_sealed(meta_key, manifest_ctx(vault, ks, content.fid, _ROOT, 0), record)
    root = decode_top(Root, plain, MANIFEST_MAX)
    check_root(root, content)
    return root


def seal_page(meta_key: bytes, vault: bytes, ks: bytes, content: Content, page: Page, *, number: int) -> bytes:
    """The record of page `number`, which covers chunks from 4096·number on. Raises Invalid."""
    check_page(page, content, number)
    return seal(meta_key, manifest_ctx(vault, ks, content.fid, _PAGE, number * PAGE_CHUNKS), _encode(page))


def open_page(
    meta_key: bytes, vault: bytes, ks: bytes, content: Content, record: bytes | memoryview, *, number: int
) -> Page:
    """Page `number` of `content`. Raises as `open_root`."""
    ctx = manifest_ctx(vault, ks, content.fid, _PAGE, number * PAGE_CHUNKS)
    page = decode_top(Page, open_sealed(meta_key, ctx, record), MANIFEST_MAX)
    check_page(page, content, number)
    return page


def _encode(manifest: Root | Page) -> bytes:
    plain = encode(manifest)
    if len(plain) > MANIFEST_MAX:
        raise Invalid("a manifest is too long")
    return plain
