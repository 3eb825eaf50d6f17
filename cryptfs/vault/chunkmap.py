"""Which record holds which chunk of a file: the sealed version below, unsealed changes in layers above.

    top layer      chunks written since the last seal began
    sealing layer  chunks that a segment being made will carry (absent most of the time)
    base           the version last sealed: spans, or pages of a manifest that are loaded when first needed

A layer may *cut*: chunks at or beyond its cut that it does not name itself are holes, whatever lies below. A truncated
or rewritten file is a layer with a cut; nothing below is touched.
"""

from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from cryptfs.crypto.seal import sealed_len
from cryptfs.errors import Invalid
from cryptfs.format.content import MAX_CHUNKS, PAGE_CHUNKS, Content, Hole, Inline, Loc, MRef, Page, Paged, Root, Span
from cryptfs.vault.containers import Container, Ref

__all__ = ["NOTHING", "Base", "ChunkMap", "Delta", "Layer", "PageMissing", "decode_delta", "encode_delta"]

_NO_CUT: Final = MAX_CHUNKS + 1

Locate = Callable[[Loc], Container]


class PageMissing(Exception):
    """The chunk lies in a manifest page that has to be loaded first."""

    def __init__(self, page: int) -> None:
        super().__init__(page)
        self.page = page


class Layer:
    """Changes above something. `cut`: first chunk of what lies below that is no longer seen."""

    __slots__ = ("chunks", "cut")

    def __init__(self, cut: int = _NO_CUT) -> None:
        self.chunks: dict[int, Ref] = {}
        self.cut = cut

    @property
    def empty(self) -> bool:
        return not self.chunks and self.cut == _NO_CUT

    @property
    def cuts(self) -> bool:
        return self.cut != _NO_CUT


class Base:
    """The chunks of a sealed version, expanded as far as they were needed.

    `content` is the wire form. With a paged body `root` and pages are loaded by `vault/content.py` and put in here.
    """

    __slots__ = ("_locate", "chunks", "content", "pages", "root")

    def __init__(self, content: Content | None, locate: Locate) -> None:
        self.content = content
        self.chunks: dict[int, Ref | None] = {}
        self.pages: set[int] = set()
        self.root: Root | None = None
        self._locate = locate
        if content is not None:
            if isinstance(content.body, Inline):
                self._expand(0, content.body.spans)
            else:
                for patch in content.body.patches:
                    self._expand(patch.first, (patch.span,), holes=True)

    @property
    def manifest(self) -> MRef | None:
        """The root manifest of a paged version."""
        if self.content is None or not isinstance(self.content.body, Paged):
            return None
        return self.content.body.root

    def get(self, index: int) -> Ref | None:
        """The record of chunk `index`, None for a hole. Raises PageMissing (page -1: the root)."""
        try:
            return self.chunks[index]
        except KeyError:
            pass
        if self.manifest is None:
            return None
        page = index // PAGE_CHUNKS
        if page in self.pages:
            return None
        if self.root is None:
            raise PageMissing(-1)
        if page >= len(self.root.pages) or self.root.pages[page] is None:
            return None
        raise PageMissing(page)

    def add_page(self, number: int, page: Page) -> None:
        """Take in a loaded page; patches already here stay on top. Raises Invalid if it holds too many chunks."""
        known = self.chunks
        self.chunks = {}
        self._expand(number * PAGE_CHUNKS, page.spans)
        if any(index // PAGE_CHUNKS != number for index in self.chunks):
            raise Invalid("a manifest page reaches beyond its chunks")
        self.chunks.update(known)
        self.pages.add(number)

    def missing_pages(self) -> list[int]:
        """Pages that `present` still needs; [-1] when the root itself is not here."""
        if self.manifest is None:
            return []
        if self.root is None:
            return [-1]
        return [i for i, ref in enumerate(self.root.pages) if ref is not None and i not in self.pages]

    def _expand(self, first: int, spans: tuple[Span, ...], *, holes: bool = False) -> None:
        index = first
        for span in spans:
            if isinstance(span, Hole):
                if holes:
                    self.chunks.update(dict.fromkeys(range(index, index + span.count)))
                index += span.count
                continue
            container = self._locate(span.loc)
            # Record lengths follow from chunk size and file size; all but the last of a file are equal.
            off = span.loc.off
            for j in range(span.count):
                self.chunks[index] = Ref(container, off, span.fkv, span.hashes[32 * j : 32 * j + 32])
                off += self.record_len(index)
                index += 1

    def record_len(self, index: int) -> int:
        """Sealed length in bytes of chunk `index` of this version."""
        content = self.content
        if content is None:
            raise Invalid("an empty file has no chunks")
        size = 1 << content.chunk_log2
        return sealed_len(min(size, content.size - index * size))


def _nowhere(loc: Loc) -> Container:
    raise Invalid(f"an empty content names a place: {loc}")


NOTHING: Final = Base(None, _nowhere)
"""Below a content that was never sealed; the same for all of them, since nothing is ever put in."""


class ChunkMap:
    """The layers over the base, with look-up and iteration. Owned by one `FileContent`."""

    __slots__ = ("base", "sealing", "top")

    def __init__(self, base: Base) -> None:
        self.base = base
        self.sealing: Layer | None = None
        self.top = Layer()

    def get(self, index: int) -> Ref | None:
        """The record of chunk `index`, None for a hole. Raises PageMissing."""
        top = self.top
        ref = top.chunks.get(index)
        if ref is not None:
            return ref
        if index >= top.cut:
            return None
        middle = self.sealing
        if middle is not None:
            ref = middle.chunks.get(index)
            if ref is not None:
                return ref
            if index >= middle.cut:
                return None
        return self.base.get(index)

    def put(self, index: int, ref: Ref) -> None:
        self.top.chunks[index] = ref

    def cut(self, first: int) -> None:
        """Make every chunk from `first` on a hole."""
        top = self.top
        top.cut = min(top.cut, first)
        if top.chunks:
            for index in [i for i in top.chunks if i >= first]:
                del top.chunks[index]

    def wants(self, index: int, ref: Ref) -> bool:
        """Whether some layer still names this very record."""
        if self.top.chunks.get(index) is ref:
            return True
        return self.sealing is not None and self.sealing.chunks.get(index) is ref

    def begin_sealing(self) -> Layer:
        """Move what is on top into the sealing layer; new changes go to a fresh top."""
        if self.sealing is not None:
            raise RuntimeError("a content is being sealed already")
        self.sealing, self.top = self.top, Layer()
        return self.sealing

    def sealed(self, base: Base) -> None:
        """The sealing layer became part of `base`."""
        self.base = base
        self.sealing = None

    def abandon_sealing(self) -> None:
        """The segment did not come to be: the layers become one again."""
        lower = self.sealing
        if lower is None:
            return
        self.sealing = None
        self.top = merge_layers(lower, self.top)

    def present(self, limit: int) -> Iterator[tuple[int, Ref]]:
        """All (index, record) below chunk `limit`, ascending. Raises PageMissing where a page is needed."""
        missing = self.base.missing_pages()
        lowest = min(self.top.cut, self.sealing.cut if self.sealing else _NO_CUT)
        for page in missing:
            if page < 0 and lowest > 0:
                raise PageMissing(page)
            if page >= 0 and page * PAGE_CHUNKS < lowest:
                raise PageMissing(page)
        indices = {i for i in self.base.chunks if i < lowest}
        if self.sealing is not None:
            indices |= {i for i in self.sealing.chunks if i < self.top.cut}
        indices |= self.top.chunks.keys()
        for index in sorted(indices):
            if index < limit:
                ref = self.get(index)
                if ref is not None:
                    yield index, ref


def merge_layers(lower: Layer, upper: Layer) -> Layer:
    """One layer that shows what `upper` over `lower` shows."""
    merged = Layer(min(lower.cut, upper.cut))
    merged.chunks = {i: ref for i, ref in lower.chunks.items() if i < upper.cut}
    merged.chunks.update(upper.chunks)
    return merged


# ---- the journal's form of a change ---------------------------------------------------------------------------------


class Delta(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """What one hand-over changed, for replay after a crash.

    `st` tells which logged writes of the same journal it has taken in; it names nothing beyond that.
    `keys`: (fkv, file key, 32 bytes) that the sealed version does not name, sealed with the journal. `cut` -1: none.
    `chunks`: (index, local pack, offset, fkv, hash). `fresh`: nothing below counts (first content, or re-chunked).
    """

    st: int
    fid: bytes
    size: int
    chunk_log2: int
    digest: bytes
    keys: tuple[tuple[int, bytes], ...]
    cut: int
    chunks: tuple[tuple[int, int, int, int, bytes], ...]


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(Delta)


def encode_delta(delta: Delta) -> bytes:
    """For `journal.Submitted`."""
    return _encoder.encode(delta)


def decode_delta(data: bytes) -> Delta:
    """Raises msgspec.MsgspecError; the journal has authenticated the bytes, so that is a bug."""
    return _decoder.decode(data)
