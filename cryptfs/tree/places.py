"""Where the records of a content lie, as ranges of bytes in containers, and where such ranges lie after moves.

`Used` is one range. Records do not change when they are copied to another container, so a content goes on naming the
old place; `relocate` operations say where its bytes are now (docs/replication.md, "Collection").
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from cryptfs.crypto.seal import sealed_len
from cryptfs.format.content import PAGE_CHUNKS, Content, Hole, Inline, Loc, MRef, Page, Root, Run, Span
from cryptfs.tree.merge_containers import Moved

__all__ = ["Moves", "Place", "Used", "merged", "page_places", "present_place", "root_places", "wire_places"]

_CHAIN_MAX: Final = 64
"""Moves followed in a row; a holder who moves in a circle harms only what it holds."""


class Place(NamedTuple):
    """A container: `where` 1 pack, 2 body2 of a segment; `id` 32 bytes."""

    where: int
    id: bytes


class Used(NamedTuple):
    """`len` bytes at `off` of a container."""

    where: int
    id: bytes
    off: int
    len: int

    @property
    def place(self) -> Place:
        """The container."""
        return Place(self.where, self.id)


Moves = Mapping[Place, list[Moved]]
"""What was moved out of each container, sorted by offset."""


def wire_places(content: Content) -> list[Used]:
    """What the operation itself names: chunks, or the root manifest and patched chunks. Pages are not here."""
    if isinstance(content.body, Inline):
        return list(_spans(content, 0, content.body.spans))
    found = [_manifest(content.body.root)]
    for patch in content.body.patches:
        found.extend(_spans(content, patch.first, (patch.span,)))
    return found


def root_places(root: Root) -> list[Used]:
    """The manifest pages that a root names."""
    return [_manifest(page) for page in root.pages if page is not None]


def page_places(content: Content, number: int, page: Page) -> list[Used]:
    """The chunks that page `number` names."""
    return list(_spans(content, number * PAGE_CHUNKS, page.spans))


def _manifest(ref: MRef) -> Used:
    return _used(ref.loc, ref.len)


def _used(loc: Loc, length: int) -> Used:
    return Used(loc.where, loc.id, loc.off, length)


def _spans(content: Content, first: int, spans: Iterable[Span]) -> Iterator[Used]:
    """Records in a run lie back to back; all but the last of a file are equally long."""
    chunk = 1 << content.chunk_log2
    at = first
    for span in spans:
        if isinstance(span, Run):
            whole = sealed_len(chunk)
            last = content.size - (at + span.count - 1) * chunk
            yield _used(span.loc, (span.count - 1) * whole + sealed_len(max(0, min(chunk, last))))
        at += span.count if isinstance(span, Hole | Run) else 0


def present_place(used: Used, moves: Moves, depth: int = _CHAIN_MAX) -> list[Used]:
    """Where the bytes of a range are now; more than one range if only a part of it was moved.

    What lies at one place is followed once: holders who move many ranges to one and the same cost nobody more than the
    bounds that they name.
    """
    found: list[Used] = []
    moving = {used.place: [(used.off, used.len)]}
    while moving and depth:
        moved: dict[Place, list[tuple[int, int]]] = {}
        for place, ranges in moving.items():
            for one in _step(place, merged(ranges), moves.get(place, []), found):
                moved.setdefault(one.place, []).append((one.off, one.len))
        moving, depth = moved, depth - 1
    found.extend(Used(*place, *one) for place, ranges in moving.items() for one in merged(ranges))
    return found


def _step(place: Place, ranges: Iterable[tuple[int, int]], moved: Sequence[Moved], stay: list[Used]) -> Iterator[Used]:
    """Where the holder of `place` moved parts of these ranges; the other parts are added to `stay`."""
    starts = [one.old_off for one in moved]
    for off, length in ranges:
        at, end = off, off + length
        while at < end:
            index = bisect_right(starts, at) - 1
            stop = min(end, starts[index + 1] if index + 1 < len(starts) else end)
            move = moved[index] if index >= 0 else None
            if move is not None and at < move.old_off + move.len:
                stop = min(stop, move.old_off + move.len)
                yield Used(move.where, move.id, move.new_off + at - move.old_off, stop - at)
            else:
                stay.append(Used(*place, at, stop - at))
            at = stop


def merged(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """(offset, length) ranges as their union, sorted, touching ones joined."""
    union: list[tuple[int, int]] = []
    for off, length in sorted(ranges):
        if union and off <= union[-1][0] + union[-1][1]:
            start, before = union[-1]
            union[-1] = (start, max(before, off + length - start))
        else:
            union.append((off, length))
    return union
