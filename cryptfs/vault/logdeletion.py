"""Deletes log objects that nobody needs any more: everything up to a state that two checkpoints stand for.

    FLOOR    the floor before F, which everybody has attested, for as long as history is kept, and 30 days at least
    BODY2    nothing in use lies in the segments: what did was copied into packs (`retiring.py`), and all say so
    CHECK    the checkpoints of F and of the floor before it are in the store, whole, and people begin from them
    DELETE   the oldest first, but never the newest of a log

Who comes anew begins from a checkpoint at F or above and reads on from there; who was away for long goes on from one
(`catchup.py`). Nobody can have this device delete what is needed: a floor takes the word of every log, and each of the
two checkpoints was compared with what this device has computed itself.
"""

import logging
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import msgspec

from cryptfs.errors import CryptfsError, HostileStore, NeedsUpdate, NotAllowed, NotFound
from cryptfs.format.content import WHERE_BODY2
from cryptfs.format.names import RollupName, SegmentName, log_prefix, parse_name
from cryptfs.group.authority import Tier
from cryptfs.group.floor import NO_FLOOR, Floor
from cryptfs.store.base import Stat
from cryptfs.tree.places import Place
from cryptfs.tree.retirement import Retirement
from cryptfs.vault.checkpoints import is_sound, read_head, suffices
from cryptfs.vault.outlived import outliving

if TYPE_CHECKING:
    from cryptfs.vault.checkpointing import Known
    from cryptfs.vault.vault import Vault

__all__ = ["LogDeletion", "Shed"]

log = logging.getLogger(__name__)

_NOTED: Final = "outlived"
_SOUND: Final = "sound checkpoints"
_BODIES: Final = "SELECT id, holder FROM container WHERE place = ?"

_encode: Final = msgspec.msgpack.Encoder().encode
_decode_noted: Final = msgspec.msgpack.Decoder(dict[int, int]).decode
_decode_sound: Final = msgspec.msgpack.Decoder(dict[str, tuple[int, int]]).decode


@dataclass(slots=True)
class Shed:
    """What a run did: objects deleted and their bytes. `left`: those that could not be, and why. `held_back`: why none
    was, although something could go.
    """  # noqa: D205 - one sentence

    deleted: int = 0
    deleted_bytes: int = 0
    left: dict[str, str] = field(default_factory=dict)
    held_back: str = ""


@dataclass(slots=True)
class _InUse:
    """Segments with records that may be in use: beginnings of their digests, and numbers of those of one log; whether
    these are `sure` to be all.
    """  # noqa: D205 - one sentence

    digests: set[bytes] = field(default_factory=set)
    numbers: set[int] = field(default_factory=set)
    sure: bool = True


class LogDeletion:
    """Deletes for one vault. The caller says when, and that nothing speaks against deleting."""

    def __init__(self, vault: "Vault") -> None:
        self._vault = vault

    # ---- how far ----------------------------------------------------------------------------------------------------

    def bound(self, *, now: bool) -> int:
        """Stamp at or below which segments may be deleted, -1 if none may; `now` waives the waiting.

        A floor counts from the moment when this device first saw that there is a later one.
        """
        vault, before = self._vault, outliving(self._vault.horizon)[1]
        if before == NO_FLOOR:
            return -1
        kept = vault.replica.meta_get(_NOTED)
        known = _decode_noted(kept) if kept is not None else {}
        stamps = {one.stamp for one in vault.horizon.floors()[1:]}
        noted = {stamp: ms for stamp, ms in known.items() if stamp in stamps}
        noted.setdefault(before.stamp, vault.wall_ms())
        if noted != known:
            vault.replica.meta_set(_NOTED, _encode(noted))
        horizon = vault.wall_ms() - (0 if now else self._delay_ms)
        return max((stamp for stamp, ms in noted.items() if ms <= horizon), default=-1)

    @property
    def _delay_ms(self) -> int:
        """Who looks into the history asks which segment did what: they stay as long as it does."""
        options = self._vault.options
        return int(max(options.log_delay_s, options.history_s) * 1000)

    def is_concerned(self, one: Retirement, bound: int) -> bool:
        """Whether a retired container is body2 of a segment that could be deleted but for what is in there."""
        if one.where != WHERE_BODY2 or one.gone:
            return False
        name = parse_name(self._vault.cache.segments.name(one.id) or "")
        return isinstance(name, SegmentName) and self._is_below(name.log_id, name.seq, bound)

    def _is_below(self, log_id: bytes, seq: int, bound: int) -> bool:
        """Whether a segment counts, has a stamp of at most `bound`, and is not the newest of its log."""
        logs = self._vault.standing.logs
        if not 0 <= seq < logs.state(log_id).taken - 1:
            return False
        moment = logs.moment(log_id, max(seq, logs.base(log_id)))  # stamps grow along a log
        return moment is not None and moment[0] <= bound

    # ---- deleting ---------------------------------------------------------------------------------------------------

    async def run(self, logs: Iterable[bytes], free: Collection[Place], *, now: bool) -> Shed:
        """Delete what may go of these logs. `free`: body2 of segments in which nothing is in use any more.

        Raises StoreError, LocalDisk; whatever was done stays done.
        """
        done, bound = Shed(), self.bound(now=now)
        if bound < 0:
            return done
        chosen = [one for log_id in logs for one in await self._chosen(log_id, free, bound, now=now)]
        if chosen:
            done.held_back = await self._objection()
        for key, size in chosen if not done.held_back else ():
            self._vault.faults.step("log.delete")
            try:
                await self._vault.sender.delete(key)
            except CryptfsError as err:
                done.left[key] = f"{err} {err.advice}".strip()
                continue
            self._vault.copies.forget(key)
            self._gone(key, free)
            done.deleted += 1
            done.deleted_bytes += size
        return done

    async def _chosen(self, log_id: bytes, free: Collection[Place], bound: int, *, now: bool) -> list[tuple[str, int]]:
        """Objects of a log, all of which may go, the oldest first, with their sizes."""
        in_use = self._in_use(log_id, free)
        vault, logs = self._vault, self._vault.standing.logs
        horizon = vault.wall_ms() - (0 if now else self._delay_ms)
        found = []
        for stat in await vault.sender.stats(log_prefix(log_id)):
            name = parse_name(stat.key)
            if isinstance(name, SegmentName):
                first = last = name.seq
                digest = logs.digest_at(log_id, name.seq)
                if digest is not None and digest[:8] != name.h16:
                    continue  # on another branch: somebody's late work
                needed = name.h16 in in_use.digests
            elif isinstance(name, RollupName):
                first, last = name.first, name.last
                needed = not in_use.sure or any(first <= seq <= last for seq in in_use.numbers)
            else:
                continue
            if not needed and self._is_below(log_id, last, bound) and stat.mtime_ms <= horizon:
                found.append((first, last, stat.key, stat.size))
        return [(key, size) for _, _, key, size in sorted(found)]

    def _in_use(self, log_id: bytes, free: Collection[Place]) -> _InUse:
        """Which segments hold records in body2 that may be in use.

        Where a segment lies may have been told by hints of a checkpoint, for which nobody vouches.
        """
        vault, found = self._vault, _InUse()
        for ident, holder in vault.replica.question(_BODIES, (WHERE_BODY2,)):
            place = Place(WHERE_BODY2, bytes(ident))
            if place in free:
                continue
            found.digests.add(place.id[:8])
            name = parse_name(vault.cache.segments.name(place.id) or "")
            if not isinstance(name, SegmentName) or vault.standing.logs.digest_at(name.log_id, name.seq) != place.id:
                found.sure = found.sure and bytes(holder) != log_id
            elif name.log_id == log_id:
                found.numbers.add(name.seq)
        return found

    def _gone(self, key: str, free: Collection[Place]) -> None:
        """Records in an object that was deleted are nobody's to wait for any more."""
        name = parse_name(key)
        for place in free:
            inside = parse_name(self._vault.cache.segments.name(place.id) or "")
            if isinstance(name, SegmentName) and inside == name:
                self._vault.replica.retirements.deleted(place)

    # ---- what stands for it -----------------------------------------------------------------------------------------

    async def _objection(self) -> str:
        """Why the state below the two floors is not safe without its log; empty if it is. Raises StoreError."""
        stats = {stat.key: stat for stat in await self._vault.sender.stats("c/")}
        for floor in outliving(self._vault.horizon):
            if not await self._stands(floor, stats):
                return (
                    "A checkpoint that would stand for them is missing in the store, damaged, or of nobody to believe."
                )
        return ""

    async def _stands(self, floor: Floor, stats: dict[str, Stat]) -> bool:
        """Whether a checkpoint of the floor is in the store, whole, and one that a new device begins from."""
        for one in self._vault.checkpointing.known:
            agreed = one.agreed and (one.stamp, one.root) == (floor.stamp, floor.root)
            if agreed and one.name in stats and self._is_believed(one) and await self._is_sound(one, stats[one.name]):
                return True
        return False

    def _is_believed(self, one: "Known") -> bool:
        """Whether it is an owner's, or an owner or two others stand up for it: then anybody may begin from it."""
        roster, graph = self._vault.membership.resolved.roster, self._vault.membership.graph
        author = roster.get(one.author)
        if author is None or author.role < Tier.WRITER:
            return False
        said = self._vault.horizon.said_of(one.stamp).get(one.root, [])
        if author.role >= Tier.OWNER:
            return True
        others: dict[bytes, int] = {}
        for log_id in said:
            owner = graph.log_owner(log_id)
            who = roster.get(owner.entry) if owner is not None else None
            if who is not None and who.member != author.member and who.role >= Tier.WRITER:
                others[who.member] = max(who.role, others.get(who.member, -1))
        return suffices(others)

    async def _is_sound(self, one: "Known", stat: Stat) -> bool:
        """Whether the store gives back a checkpoint as it should be. Each is read once, as long as it looks the same.

        Raises StoreError.
        """
        vault = self._vault
        kept = vault.replica.meta_get(_SOUND)
        known = _decode_sound(kept) if kept is not None else {}
        looks = stat.size, stat.mtime_ms
        if known.get(one.name) == looks:
            return True
        try:
            stored = await read_head(vault.sender, vault.membership, one.name, stat.size)
            sound = stored.raw.digest == one.digest and await is_sound(vault.sender, stored)
        except (HostileStore, NeedsUpdate, NotAllowed, NotFound) as err:
            log.warning("the checkpoint %s cannot stand for log objects: %s", one.name, err)
            return False
        if sound:
            names = {each.name for each in vault.checkpointing.known}
            later = {name: each for name, each in known.items() if name in names} | {one.name: looks}
            vault.replica.meta_set(_SOUND, _encode(later))
        return sound
