"""Checkpoints in the store: reading their heads, and which of them a device may begin from.

A checkpoint is the word of one device about the whole tree. A device that has not seen what led there takes it from an
owner, from a device of its own member, or from anybody for whom an owner or two other members stand up; or it has
computed the same root itself before, or a person has compared the words (docs/replication.md, "Checkpoints").
"""

import hashlib
import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from cryptfs.crypto.keys import KeyLabel, chance
from cryptfs.crypto.words import fingerprint_words
from cryptfs.errors import HostileStore, Invalid, NeedsUpdate, NotAllowed, NotFound
from cryptfs.format.checkpoint import CheckpointHead, RawCheckpoint, open_head, parse_checkpoint, verify_checkpoint
from cryptfs.format.checkpoint_head import BlockRef
from cryptfs.format.checkpoint_logs import LogPast, past_of_logs
from cryptfs.format.codec import Ext
from cryptfs.format.limits import CHECKPOINT_HEAD_MAX
from cryptfs.format.names import CheckpointName, RollupName, SegmentName, checkpoint_name, parse_name
from cryptfs.format.segment import RawSegment, open_segment, verify_segment
from cryptfs.format.segment_body import SegmentBody
from cryptfs.group.authority import Tier
from cryptfs.group.ends import LogEnd
from cryptfs.group.membership import Membership
from cryptfs.group.memory import TrustMemory, forget
from cryptfs.vault.logobjects import LogObjects
from cryptfs.vault.upload import Sender

__all__ = [
    "Ground",
    "StoredCheckpoint",
    "Vouching",
    "contradiction",
    "ground",
    "is_sound",
    "is_whole",
    "newest_first",
    "read_head",
    "suffices",
    "vouchers",
]

log = logging.getLogger(__name__)

_FIRST: Final = 64 << 10
"""Bytes that are asked for at first: the head of most."""
_LOOKED_AT: Final = 32
"""Checkpoints, the newest, whose heads are read, and as many of the others, at random: anybody who reaches the store
can put names there, and whoever puts more of them there only delays."""
_DIGESTS: Final = 1
"""Extension of a segment: digests of the checkpoints that its attestations are about, 32 bytes each."""
_DIGEST: Final = 32
_VOUCHERS: Final = 2
"""Members beside its author who have to stand up for a checkpoint of somebody who is no owner."""
_PIECE: Final = 8 << 20
"""Bytes of blocks that are asked for at once."""


@dataclass(frozen=True, slots=True)
class StoredCheckpoint:
    """A checkpoint whose signature by a writer's device was verified. `past`: how the logs stood, as `head.heads`."""

    name: str
    raw: RawCheckpoint
    head: CheckpointHead
    past: tuple[LogPast, ...]

    @property
    def stamp(self) -> int:
        """S."""
        return self.raw.stamp

    @property
    def root(self) -> bytes:
        """Root of the state, 32 bytes."""
        return self.head.root

    @property
    def words(self) -> tuple[str, ...]:
        """Nine words for its root, to be compared with somebody who has computed it."""
        return fingerprint_words(self.root)


class Ground(Enum):
    """Why a checkpoint may be begun from. `NONE`: it may not, before a person has compared the words of its root."""

    OWN = "made by a device of the same member"
    OWNER = "made by an owner"
    KNOWN = "this device has known its root before"
    VOUCHED = "an owner, or two other members, stand up for it"
    NONE = "nobody known here stands up for it"


async def newest_first(
    sender: Sender,
    membership: Membership,
    above: int = -1,
    *,
    surely: Collection[str] = (),
    never: Collection[str] = (),
) -> list[tuple[str, int]]:
    """Names and sizes of objects that may be checkpoints of writers, by stamp, the newest first.

    Only those of stamps `above` that; some of them if there are many, but `surely` these, and `never` those. Raises
    StoreError.
    """
    authors = {entry[:8] for entry, who in membership.resolved.roster.items() if who.role >= Tier.WRITER}
    found = []
    for stat in await sender.stats("c/"):
        parsed = parse_name(stat.key)
        if isinstance(parsed, CheckpointName) and parsed.entry8 in authors and parsed.stamp > above:
            found.append((parsed.stamp, stat.key, stat.size))
    found = sorted((one for one in found if one[1] not in never), reverse=True)
    rest = found[_LOOKED_AT:]
    chosen = {*found[:_LOOKED_AT], *chance().sample(rest, min(len(rest), _LOOKED_AT))}
    return [one[1:] for one in found if one in chosen or one[1] in surely]


async def read_head(sender: Sender, membership: Membership, name: str, size: int) -> StoredCheckpoint:
    """Read the head of a checkpoint of `size` bytes.

    Raises StoreError, HostileStore, NotAllowed without the key; Invalid also for one whose author is no writer (any
    more), or that names statements which are not here.
    """
    data = await sender.get(name, 0, min(size, _FIRST))
    needed = int.from_bytes(data[12:16], "big") + 1024  # length of the head, and more than header and signature take
    if len(data) < min(size, needed) and needed <= CHECKPOINT_HEAD_MAX + 1024:
        data += await sender.get(name, len(data), min(size, needed) - len(data))
    raw = parse_checkpoint(data, size, membership.vault)
    if checkpoint_name(raw.stamp, raw.author, raw.digest) != name:
        raise Invalid("a checkpoint stands under a name that is not its own")
    author, admission = membership.resolved.roster.get(raw.author), membership.graph.admission(raw.author)
    if author is None or admission is None or author.role < Tier.WRITER:
        raise Invalid("a checkpoint was made by somebody who may not write")
    verify_checkpoint(raw, admission.sign_pub)
    head = open_head(raw, membership.keyring.key(KeyLabel.META, raw.ks))
    past = past_of_logs(head)
    cited = {*head.mheads, *(one for log_past in past for one in log_past.mheads)}
    cited |= {one for log_past in past for place in log_past.places for one in place.mheads}
    if not all(one in membership.graph for one in cited):
        raise Invalid("a checkpoint cites statements that are not here")
    return StoredCheckpoint(name, raw, head, past)


async def is_sound(sender: Sender, one: StoredCheckpoint) -> bool:
    """Whether the store gives back every block of a checkpoint as its head says. Raises StoreError."""
    blocks = [ref for table in one.head.tables for ref in table.blocks]
    while blocks:
        first, length, piece = blocks[0].off, 0, list[BlockRef]()
        while blocks and (not piece or length + blocks[0].len <= _PIECE):
            piece.append(blocks.pop(0))
            length += piece[-1].len
        data = await sender.get(one.name, one.raw.blocks_at + first, length, seconds=600.0)
        view = memoryview(data)
        for ref in piece:
            if hashlib.sha256(view[ref.off - first : ref.off - first + ref.len]).digest() != ref.hash:
                return False
    return True


async def covered(sender: Sender, objects: LogObjects, membership: Membership) -> dict[bytes, int]:
    """The highest segment by log in checkpoints that a device may believe which has seen nothing. Raises StoreError."""
    highest: dict[bytes, int] = {}
    for name, size in await newest_first(sender, membership):
        try:
            one = await read_head(sender, membership, name, size)
        except (HostileStore, NeedsUpdate, NotAllowed, NotFound):
            continue
        believed = ground(one, membership, forget(membership.vault)) is not Ground.NONE
        if believed or suffices(await vouchers(one, objects, membership)):
            for head in one.head.heads:
                highest[head.log] = max(head.seq, highest.get(head.log, -1))
    return highest


# ---- may it be begun from? -------------------------------------------------------------------------------------------


def contradiction(
    one: StoredCheckpoint, membership: Membership, ends: Mapping[bytes, LogEnd], memory: TrustMemory
) -> str:
    """Why a checkpoint cannot be the state of this vault, as far as is known here; empty if nothing speaks against it.

    It has segments that do not count (any more), or other ones than this device has seen.
    """
    for head in one.head.heads:
        end = ends.get(head.log)
        if membership.graph.log_owner(head.log) is None or end is None:
            return "it has segments of a log that nobody has opened"
        if end.count is not None and end.count <= head.seq:
            return "it has segments beyond the end of a log"
        if end.count == head.seq + 1 and end.last and end.last != head.digest:
            return "it ends a log at another segment than was decided"
        seen = memory.head(head.log)
        if seen is not None and seen.seq == head.seq and seen.digest != head.digest:
            return "it has another segment than this device has seen"
    if memory.root and memory.stamp == one.stamp and memory.root != one.root:
        return "this device has computed another root for it"
    return ""


def ground(one: StoredCheckpoint, membership: Membership, memory: TrustMemory) -> Ground:
    """Why it may be begun from, without asking anybody else."""
    roster = membership.resolved.roster
    author, me = roster[one.raw.author], membership.entry
    if memory.root == one.root and memory.stamp == one.stamp:
        return Ground.KNOWN
    if me is not None and me.member == author.member:
        return Ground.OWN
    return Ground.OWNER if author.role >= Tier.OWNER else Ground.NONE


@dataclass(frozen=True, slots=True)
class Vouching:
    """What a segment says about checkpoints: stamps and roots, and the digests of those it looked at."""

    roots: frozenset[tuple[int, bytes]]
    digests: frozenset[bytes]

    @classmethod
    def of(cls, body: SegmentBody) -> "Vouching":
        """Of a segment that was verified."""
        said = next((ext.value for ext in body.ext if ext.id == _DIGESTS), b"")
        parts = frozenset(said[at : at + _DIGEST] for at in range(0, len(said), _DIGEST))
        return cls(frozenset((one.stamp, one.root) for one in body.attest), parts)

    def covers(self, one: StoredCheckpoint) -> bool:
        """Whether its author stands up for this very checkpoint, not only for one with that root."""
        return (one.stamp, one.root) in self.roots and one.raw.digest in self.digests


def vouching(digests: Iterable[bytes]) -> tuple[Ext, ...]:
    """What a segment that attests says of the checkpoints which that is about."""
    said = b"".join(sorted(digests))
    return (Ext(_DIGESTS, False, said),) if said else ()


async def vouchers(one: StoredCheckpoint, objects: LogObjects, membership: Membership) -> dict[bytes, int]:
    """Members, but for its author, whose segments above it say that they have found the same; with their role.

    Raises StoreError.
    The segments are judged by their signatures alone: all else would take the state first.
    """
    roster, graph = membership.resolved.roster, membership.graph
    heads = {head.log: head.seq for head in one.head.heads}
    author, found = roster[one.raw.author].member, dict[bytes, int]()
    for name in sorted(await objects.look()):
        parsed = parse_name(name)
        if not isinstance(parsed, SegmentName | RollupName) or _last(parsed) <= heads.get(parsed.log_id, -1):
            continue
        owner = graph.log_owner(parsed.log_id)
        entry = roster.get(owner.entry) if owner is not None else None
        if owner is None or entry is None or entry.member == author:
            continue
        if entry.role < Tier.WRITER or entry.role <= found.get(entry.member, -1):
            continue
        try:
            raws = await objects.segments(name)
        except (HostileStore, NeedsUpdate, NotFound):
            continue
        if any(_vouches(raw, parsed.log_id, owner.sign_pub, membership, one) for raw in raws):
            found[entry.member] = entry.role
    objects.forget_bytes()
    return found


def suffices(who: Mapping[bytes, int]) -> bool:
    """Whether these `vouchers` are enough. An owner's word for the very object is as good as if he had made it."""
    return len(who) >= _VOUCHERS or any(role >= Tier.OWNER for role in who.values())


def _last(name: SegmentName | RollupName) -> int:
    return name.seq if isinstance(name, SegmentName) else name.last


def _vouches(raw: RawSegment, log_id: bytes, sign_pub: bytes, membership: Membership, one: StoredCheckpoint) -> bool:
    try:
        verify_segment(raw, sign_pub)
        body = open_segment(raw, membership.keyring.key(KeyLabel.LOG, raw.ks))
    except (HostileStore, NotAllowed, NeedsUpdate):
        return False
    return raw.log_id == log_id and body.stamp > one.stamp and Vouching.of(body).covers(one)


def is_whole(listed: Collection[str], one: StoredCheckpoint) -> bool:
    """Whether the store still shows the first segment of every log that is in the state: all can be replayed then."""
    begun = set()
    for parsed in map(parse_name, listed):
        first = (
            parsed.seq if isinstance(parsed, SegmentName) else parsed.first if isinstance(parsed, RollupName) else -1
        )
        if first == 0 and isinstance(parsed, SegmentName | RollupName):
            begun.add(parsed.log_id)
    return all(head.log in begun for head in one.head.heads)
