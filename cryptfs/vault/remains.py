"""What packs and single log segments tell of contents, each asked by itself (docs/replication.md, "Salvage").

For the day when no tree can be had, because logs and checkpoints are lost or broken. A pack says in its sealed index
which chunks it holds, what the files were called, and has their keys. Any holder of the group's key can have written
it, so what it says of names, sizes and times is a hint. A segment that is signed by the owner of its log tells of its
own contents the same, and the hash of the whole.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from cryptfs.crypto.keys import KeyLabel
from cryptfs.errors import HostileStore, NeedsUpdate, NotAllowed
from cryptfs.format.content import (
    MAX_CHUNKS,
    WHERE_BODY2,
    WHERE_HERE,
    WHERE_PACK,
    Content,
    FileKeyBox,
    Hole,
    Inline,
    Span,
)
from cryptfs.format.content_rules import plain_chunk_len, records_len
from cryptfs.format.limits import ROLLUP_MAX
from cryptfs.format.names import PackName, RollupName, SegmentName, inode_of, root_inode
from cryptfs.format.operation import Create, Link, OpId, Put, Rekey, Rename, Undelete, is_provisional_ino
from cryptfs.format.pack import RECORD_CHUNK, PackIndex, open_index, parse_pack_header
from cryptfs.format.rollup import parse_rollup
from cryptfs.format.segment import RawSegment, SegmentBody, open_segment, parse_segment, verify_segment
from cryptfs.group.membership import Membership
from cryptfs.tree.places import Place
from cryptfs.vault.lying import Lying

__all__ = ["Called", "Part", "Remains", "Told"]

_HEADER_MAX: Final = 304
_DEPTH_MAX: Final = 256
_CALLED_MAX: Final = 8
"""Words kept on one inode: earlier versions are only wanted where later ones are lost."""
_BOXES_MAX: Final = 8
"""Boxes kept for one version of a file's key; an honest one has as many as key sets it was boxed under."""


class Called(NamedTuple):
    """What a file was called, as of `ms`; the later one is greater.

    `path` from the root, empty if not known; `size` in bytes; `ino`: empty if the file had no final inode yet. Only
    where a device, `by`, signed it, the rest may be known: `digest` of the plaintext; `chunk_log2`, else 0; `runs`, of
    (first chunk, hashes of the sealed chunks); `holes`, of (first chunk, count); `whole`: both together are all of it.
    """

    ms: int
    path: bytes
    size: int
    ino: bytes
    by: str = ""
    digest: bytes = b""
    chunk_log2: int = 0
    runs: tuple[tuple[int, bytes], ...] = ()
    holes: tuple[tuple[int, int], ...] = ()
    whole: bool = False


class Part(NamedTuple):
    """Chunk `chunk` of a content lies at `off` of `place`: `plain_len` bytes, sealed under key version `fkv`.

    `hash` is that of the sealed bytes.
    """

    ms: int
    chunk: int
    plain_len: int
    fkv: int
    place: Place
    off: int
    hash: bytes


@dataclass(slots=True)
class Told:
    """All that is told of one content. `boxes` by key version."""

    called: dict[bytes, list[Called]] = field(default_factory=dict)
    """The last words on each inode that had this content; under b"" where that was not fixed yet."""
    parts: list[Part] = field(default_factory=list)
    boxes: dict[int, list[FileKeyBox]] = field(default_factory=dict)

    def name(self, called: Called) -> None:
        """Take in a name; the latest ones are kept."""
        known = self.called.setdefault(called.ino, [])
        if called not in known:
            known.append(called)
        if len(known) > 2 * _CALLED_MAX:
            known.sort()
            del known[:-_CALLED_MAX]

    def box(self, box: FileKeyBox) -> None:
        """Take in a key."""
        known = self.boxes.setdefault(box.fkv, [])
        if box not in known and len(known) < _BOXES_MAX:
            known.append(box)


class Remains:
    """What was found in the objects that were taken in. Takes about 300 bytes of memory a chunk."""

    def __init__(self, membership: Membership) -> None:
        self._membership = membership
        self.contents: dict[bytes, Told] = {}
        """By the id of the content (fid)."""
        self.holders: dict[Place, list[tuple[Lying, int]]] = {}
        """Objects that hold a container, each with the offset at which that begins."""
        self.unread: dict[str, str] = {}
        """Objects of which nothing could be understood, and why."""
        self.packs = self.segments = 0
        self._links: dict[bytes, tuple[int, bytes, bytes]] = {}
        """By inode: stamp, parent and name of the last link that a segment tells of."""

    def take(self, one: Lying) -> None:
        """Take in an object, whatever it is. Raises StoreError, LocalDisk."""
        try:
            if isinstance(one.name, PackName):
                self._take_pack(one, Place(WHERE_PACK, one.name.id))
            elif isinstance(one.name, SegmentName | RollupName):
                self._take_log_object(one)
        except (HostileStore, NeedsUpdate, NotAllowed) as err:
            self.unread.setdefault(one.key, str(err))

    def told(self, fid: bytes) -> Told:
        """What is told of a content, to be added to."""
        return self.contents.setdefault(fid, Told())

    def path_of(self, ino: bytes) -> bytes:
        """Where segments say that an inode lay, from the root; empty if they do not say it all the way."""
        parts: list[bytes] = []
        root = root_inode(self._membership.vault)
        while ino != root:
            link = self._links.get(ino)
            if link is None or len(parts) >= _DEPTH_MAX:
                return b""
            _, ino, name = link
            parts.append(name)
        return b"/".join(reversed(parts))

    # ---- packs ------------------------------------------------------------------------------------------------------

    def _take_pack(self, one: Lying, place: Place) -> None:
        self.holders.setdefault(place, []).append((one, 0))  # its index may be broken, and a record in it whole
        header = parse_pack_header(one.read(0, _HEADER_MAX), one.size, self._membership.vault)
        key = self._membership.keyring.key(KeyLabel.PACK, header.ks)
        index = open_index(key, header, one.read(header.index_at, one.size - header.index_at))
        self.unread.pop(one.key, None)  # another copy was worse
        if len(self.holders[place]) == 1 or not self._is_known(place, index):
            self.packs += 1
            self._take_index(index, place)

    def _is_known(self, place: Place, index: PackIndex) -> bool:
        """Whether another copy of the pack has told all of it."""
        fid = index.recs[0].fid if index.recs else b""
        return fid in self.contents and any(part.place == place for part in self.contents[fid].parts)

    def _take_index(self, index: PackIndex, place: Place) -> None:
        times: dict[bytes, int] = {}
        for hint in index.hints:
            ino = b"" if is_provisional_ino(hint.ino) else hint.ino
            times[hint.fid] = max(times.get(hint.fid, 0), hint.wall_ms)
            self.told(hint.fid).name(Called(hint.wall_ms, hint.path, hint.size, ino))
        for key in index.keys:
            self.told(key.fid).box(FileKeyBox(key.fkv, key.ks, key.box))
        for rec in index.recs:
            if rec.type == RECORD_CHUNK and rec.codec == 0 and rec.first_chunk < MAX_CHUNKS:
                part = Part(times.get(rec.fid, 0), rec.first_chunk, rec.plain_len, rec.fkv, place, rec.off, rec.hash)
                self.told(rec.fid).parts.append(part)

    # ---- segments ---------------------------------------------------------------------------------------------------

    def _take_log_object(self, one: Lying) -> None:
        data = one.read(0, min(one.size, ROLLUP_MAX + 1))
        vault = self._membership.vault
        rolled_up = isinstance(one.name, RollupName)
        for raw in parse_rollup(data, vault).segments if rolled_up else (parse_segment(data, vault),):
            try:
                body = self._open(raw)
            except (HostileStore, NeedsUpdate, NotAllowed) as err:
                self.unread.setdefault(f"{one.key} segment {raw.seq}", str(err))
                continue
            place = Place(WHERE_BODY2, raw.digest)
            holders = self.holders.setdefault(place, [])
            if not holders:
                self.segments += 1
                self._take_body(raw, body)
            holders.append((one, data.find(raw.header) + len(raw.header) + len(raw.body1)))

    def _open(self, raw: RawSegment) -> SegmentBody:
        """Raises HostileStore for what the owner of the log did not sign, NotAllowed for want of a key."""
        owner = self._membership.graph.log_owner(raw.log_id)
        if owner is None:
            raise HostileStore("no statement opens this log")
        verify_segment(raw, owner.sign_pub)
        return open_segment(raw, self._membership.keyring.key(KeyLabel.LOG, raw.ks))

    def _take_body(self, raw: RawSegment, body: SegmentBody) -> None:
        vault, by = self._membership.vault, self._membership.name_of_log(raw.log_id)
        for n, op in enumerate(body.ops, body.first_op):
            if isinstance(op, Create):
                ino = inode_of(vault, OpId(raw.log_id, n))
                self._link(ino, body.stamp, op.p, op.name)
            elif isinstance(op, Rename):
                self._link(op.i, body.stamp, op.p2, op.name2)
            elif isinstance(op, Link | Undelete):
                self._link(op.i, body.stamp, op.p, op.name)
            if isinstance(op, Create | Put | Rekey) and op.content is not None:
                self._take_content(op.content, ino if isinstance(op, Create) else op.i, raw.digest, body.wall_ms, by)

    def _link(self, ino: bytes, stamp: int, parent: bytes, name: bytes) -> None:
        if ino not in self._links or self._links[ino][0] <= stamp:
            self._links[ino] = stamp, parent, name

    def _take_content(self, content: Content, ino: bytes, digest: bytes, ms: int, by: str) -> None:
        told = self.told(content.fid)
        runs: list[tuple[int, bytes]] = []
        holes: list[tuple[int, int]] = []
        for first, span in _spans(content):
            if isinstance(span, Hole):
                holes.append((first, span.count))
                continue
            runs.append((first, span.hashes))
            if span.codec == 0:
                where = WHERE_BODY2 if span.loc.where == WHERE_HERE else span.loc.where
                place = Place(where, digest if span.loc.where == WHERE_HERE else span.loc.id)
                off = span.loc.off
                for at, chunk in enumerate(range(first, first + span.count)):
                    length = plain_chunk_len(content.size, content.chunk_log2, chunk)
                    part = Part(ms, chunk, length, span.fkv, place, off, span.hashes[32 * at : 32 * at + 32])
                    told.parts.append(part)
                    off += records_len(content.size, content.chunk_log2, chunk, 1)
        for box in content.keys:
            told.box(box)
        signed = by, content.digest, content.chunk_log2, tuple(runs), tuple(holes), isinstance(content.body, Inline)
        told.name(Called(ms, b"", content.size, ino, *signed))


def _spans(content: Content) -> Iterator[tuple[int, Span]]:
    """The spans that an operation itself tells, each with its first chunk; for the others the packs speak."""
    if not isinstance(content.body, Inline):
        yield from ((patch.first, patch.span) for patch in content.body.patches)
        return
    first = 0
    for span in content.body.spans:
        yield first, span
        first += span.count
