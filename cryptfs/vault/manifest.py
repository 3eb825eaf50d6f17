"""From chunk map to the `Content` that an operation carries: spans, and manifest pages for large files.

Few chunks stand in the operation itself. Many stand in pages of 4096 chunks under a root manifest; a later small change
is a patch beside the root, and when the patches grow too many, only the pages they touch are written anew
(docs/format.md, "File contents").
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from cryptfs.crypto.keys import KeyLabel, random_bytes
from cryptfs.crypto.seal import plain_len, sealed_len
from cryptfs.format import manifest as records
from cryptfs.format.codec import encode
from cryptfs.format.content import (
    INLINE_MAX,
    PAGE_CHUNKS,
    Content,
    FileKeyBox,
    Hole,
    Inline,
    Loc,
    MRef,
    Page,
    Paged,
    Patch,
    Root,
    Run,
    Span,
)
from cryptfs.group.keyring import Keyring
from cryptfs.vault.chunkmap import Base, Layer, PageMissing
from cryptfs.vault.containers import Ref
from cryptfs.vault.stored import StoredContent

__all__ = ["Manifest", "PagePlan", "Snapshot", "light_content", "paged_content", "plan_pages", "seal_root"]

_INLINE_CHUNKS: Final = 110
"""More chunks than this never fit inline; trying would cost encoding them."""


@dataclass(slots=True)
class Manifest:
    """A sealed manifest record: `level` 1 root, 0 page. `loc` is set once it has a place."""

    fid: bytes
    ks: bytes
    level: int
    first_chunk: int
    record: bytes
    plain_len: int
    hash: bytes
    loc: Loc | None = None

    def mref(self) -> MRef:
        """How a root or an operation names it."""
        if self.loc is None:
            raise RuntimeError("a manifest was named before it had a place")
        return MRef(self.ks, self.loc, len(self.record), self.hash)


@dataclass(slots=True)
class PagePlan:
    """Pages of one content: `new` by page number (None: all holes now), `old` those that stay, file keys in use."""

    total: int
    old: list[MRef | None]
    new: dict[int, Manifest | None]
    versions: set[int]

    def records(self) -> list[Manifest]:
        """The records that need a place."""
        return [manifest for manifest in self.new.values() if manifest is not None]


Place = Callable[[Ref], Loc]


@dataclass(slots=True)
class Snapshot:
    """One file as it shall be sealed: what it was when the seal began, whatever is written meanwhile.

    `anew`: no record of the present form that lies under another key set than the present one is kept, be it a page or
    the root, and no file key that is boxed under one; the layer has every chunk that was sealed with such a key.
    """

    file: StoredContent
    layer: Layer
    base: Base
    size: int
    chunk_log2: int
    digest: bytes
    anew: bool = False

    @property
    def count(self) -> int:
        """Number of chunks."""
        return -(-self.size >> self.chunk_log2)

    def get(self, index: int) -> Ref | None:
        """The record of a chunk, None for a hole. Raises PageMissing."""
        ref = self.layer.chunks.get(index)
        if ref is not None:
            return ref
        return None if index >= self.layer.cut else self.base.get(index)

    def record_len(self, index: int) -> int:
        """Sealed bytes of chunk `index`."""
        chunk = 1 << self.chunk_log2
        return sealed_len(min(chunk, self.size - index * chunk))


def _spans(snap: Snapshot, first: int, end: int, place: Place) -> tuple[list[Span], set[int]]:
    """Spans that tile chunks first..end-1, and the file key versions they use. Raises PageMissing."""
    spans: list[Span] = []
    versions: set[int] = set()
    for run in _runs(snap, first, end, place):
        if isinstance(run, int):
            spans.append(Hole(run))
        else:
            refs, loc = run
            versions.add(refs[0].fkv)
            spans.append(Run(len(refs), 0, refs[0].fkv, loc, b"".join(r.hash for r in refs)))
    return spans, versions


def _runs(snap: Snapshot, first: int, end: int, place: Place) -> Iterator[int | tuple[list[Ref], Loc]]:
    """Holes as their length, runs of records that lie back to back as (refs, place of the first)."""
    index = first
    while index < end:
        ref = snap.get(index)
        start = index
        if ref is None:
            index = _end_of_hole(snap, index, end)
            yield index - start
            continue
        loc = place(ref)
        refs = [ref]
        off = loc.off + snap.record_len(index)
        index += 1
        while index < end:
            following = snap.get(index)
            if following is None or following.fkv != ref.fkv:
                break
            here = place(following)
            if here.where != loc.where or here.id != loc.id or here.off != off:
                break
            refs.append(following)
            off += snap.record_len(index)
            index += 1
        yield refs, loc


def _end_of_hole(snap: Snapshot, index: int, end: int) -> int:
    """First chunk from `index` on that is not a hole, at most `end`; looks only at chunks that exist."""
    candidates = [i for i in snap.layer.chunks if index <= i < end]
    candidates += [
        i for i, ref in snap.base.chunks.items() if index <= i < min(end, snap.layer.cut) and ref is not None
    ]
    nearest = min(candidates, default=end)
    # Pages that are not loaded may begin earlier.
    if snap.base.manifest is not None:
        page = index // PAGE_CHUNKS + 1
        while page * PAGE_CHUNKS < min(nearest, snap.layer.cut):
            snap.base.get(page * PAGE_CHUNKS)
            page += 1
    return nearest


async def light_content(snap: Snapshot, place: Place) -> Content | None:
    """The wire form of `snap` without new manifest records, None if that gets too long: inline, or patches.

    `place` says where a record finally lies. Raises what reading a manifest raises (Damaged, StoreError, LocalDisk).
    """
    while True:
        try:
            return _inline(snap, place) or (None if snap.anew else _patched(snap, place))
        except PageMissing as missing:
            await snap.file.load_page(snap.base, missing.page)


async def plan_pages(snap: Snapshot, place: Place, keyring: Keyring) -> PagePlan:
    """The pages of `snap` that have to be written, sealed. Records they name must not lie in the segment being made.

    Raises what reading a manifest raises.
    """
    while True:
        try:
            return _plan(snap, place, keyring)
        except PageMissing as missing:
            await snap.file.load_page(snap.base, missing.page)


def seal_root(snap: Snapshot, plan: PagePlan, keyring: Keyring) -> Manifest:
    """The root over the pages of `plan`, all of which have a place by now."""
    pages = tuple(
        plan.old[page] if page not in plan.new else (None if (m := plan.new[page]) is None else m.mref())
        for page in range(plan.total)
    )
    return _seal(snap, keyring, 1, 0, Root(1, _boxes(snap.file, plan.versions), pages))


def paged_content(snap: Snapshot, root: Manifest) -> Content:
    """The wire form over a root that has a place by now."""
    return _content(snap, (), Paged(root.mref(), ()))


def _inline(snap: Snapshot, place: Place) -> Content | None:
    if len(snap.layer.chunks) > _INLINE_CHUNKS or (snap.base.manifest is not None and snap.layer.cut > 0):
        return None
    spans, versions = _spans(snap, 0, snap.count, place)
    content = _content(snap, _boxes(snap.file, versions), Inline(tuple(spans)))
    return content if len(encode(content)) <= INLINE_MAX else None


def _content(snap: Snapshot, keys: tuple[FileKeyBox, ...], body: Inline | Paged) -> Content:
    fid = snap.file.fid or random_bytes(16)  # holes alone, sealed once before: no key, and so no lineage to go on with
    return Content(fid, snap.size, snap.chunk_log2, snap.digest, keys, body)


def _boxes(file: StoredContent, versions: Iterable[int]) -> tuple[FileKeyBox, ...]:
    return tuple(file.lineage.box(fkv) for fkv in sorted(versions))


def _patched(snap: Snapshot, place: Place) -> Content | None:
    """The old manifest with patches, if that says it and is short enough."""
    old = snap.base.content
    if old is None or not isinstance(old.body, Paged) or snap.layer.cuts:
        return None
    if snap.count != -(-old.size >> old.chunk_log2) or snap.chunk_log2 != old.chunk_log2:
        return None
    if len(snap.layer.chunks) > _INLINE_CHUNKS:
        return None
    if snap.base.root is None:
        raise PageMissing(-1)
    # The last chunk's record changes its length with the file's size: then it is among the changed ones.
    touched = set(snap.layer.chunks)
    for patch in old.body.patches:
        touched.update(range(patch.first, patch.first + patch.span.count))
    patches: list[Patch] = []
    versions: set[int] = set()
    for first, end in _stretches(sorted(touched)):
        at = first
        spans, used = _spans(snap, first, end, place)
        versions |= used
        for span in spans:
            patches.append(Patch(at, span))
            at += span.count
    known = {box.fkv for box in snap.base.root.keys}
    content = _content(snap, _boxes(snap.file, versions - known), Paged(old.body.root, tuple(patches)))
    return content if len(encode(content)) <= INLINE_MAX else None


def _stretches(indices: list[int]) -> Iterator[tuple[int, int]]:
    start = previous = -2
    for index in indices:
        if index != previous + 1:
            if start >= 0:
                yield start, previous + 1
            start = index
        previous = index
    if start >= 0:
        yield start, previous + 1


def _plan(snap: Snapshot, place: Place, keyring: Keyring) -> PagePlan:
    """New pages where something changed; the old ones elsewhere."""
    if snap.base.manifest is not None and snap.base.root is None:
        raise PageMissing(-1)
    old_root = snap.base.root if snap.layer.cut > 0 else None
    old_pages = old_root.pages if old_root is not None else ()
    keys = [box.fkv for box in old_root.keys if not snap.anew or box.ks == keyring.write_keyset] if old_root else []
    plan = PagePlan(-(-snap.count // PAGE_CHUNKS), [], {}, set(keys))
    plan.old = [old_pages[page] if page < len(old_pages) else None for page in range(plan.total)]
    changed = _changed_pages(snap, plan.total, len(old_pages))
    if snap.anew:
        changed |= {page for page, old in enumerate(plan.old) if old is not None and old.ks != keyring.write_keyset}
    for page in sorted(changed):
        first = page * PAGE_CHUNKS
        spans, used = _spans(snap, first, min(first + PAGE_CHUNKS, snap.count), place)
        plan.versions |= used
        hole = all(isinstance(span, Hole) for span in spans)
        plan.new[page] = None if hole else _seal(snap, keyring, 0, first, Page(1, tuple(spans)))
    return plan


def _changed_pages(snap: Snapshot, total: int, old_total: int) -> set[int]:
    old = snap.base.content
    if old is None or snap.base.manifest is None or snap.layer.cut == 0:
        changed = {i // PAGE_CHUNKS for i in snap.base.chunks if i < snap.layer.cut}
        return changed | {i // PAGE_CHUNKS for i in snap.layer.chunks}
    changed = {i // PAGE_CHUNKS for i in snap.layer.chunks}
    if isinstance(old.body, Paged):
        for patch in old.body.patches:
            changed.update(i // PAGE_CHUNKS for i in range(patch.first, patch.first + patch.span.count))
    if snap.layer.cuts:
        changed.update(range(snap.layer.cut // PAGE_CHUNKS, min(total, old_total)))
    if snap.count != -(-old.size >> old.chunk_log2) and old_total:
        changed.add(old_total - 1)  # it tiles another number of chunks now
        changed.add(total - 1)
    return {page for page in changed if page < total}


def _seal(snap: Snapshot, keyring: Keyring, level: int, first: int, manifest: Root | Page) -> Manifest:
    """Seal a manifest under the rules that its readers will hold it to. Raises Invalid: a bug of ours."""
    ks, shape = keyring.write_keyset, _content(snap, (), Inline(()))
    key = keyring.key(KeyLabel.META, ks)
    if isinstance(manifest, Root):
        record = records.seal_root(key, keyring.vault, ks, shape, manifest)
    else:
        record = records.seal_page(key, keyring.vault, ks, shape, manifest, number=first // PAGE_CHUNKS)
    digest = hashlib.sha256(record).digest()
    return Manifest(snap.file.fid, ks, level, first, record, plain_len(len(record)), digest)
