"""The only way a segment comes to be.

    batch of pending operations -> coalesced -> their records into body2 (little) or packs (more), confirmed
    -> contents in wire form -> final numbers -> signed bytes into the journal, for ever -> replica -> store

At most one segment is unconfirmed at any time. Whatever goes wrong before the journal has the bytes leaves everything
as it was; whatever goes wrong after is repeated with the same bytes, also by the next start.
"""

import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec
import trio

from cryptfs import VERSION
from cryptfs.crypto.keys import KeyLabel
from cryptfs.errors import Damaged, LocalDisk, Retry
from cryptfs.format.content import WHERE_HERE, WHERE_PACK, Content, Loc
from cryptfs.format.names import segment_name
from cryptfs.format.operation import Create, Op, OpId, Put, Relocate
from cryptfs.format.pack import PACK_SHARED
from cryptfs.format.segment import LogHead, PackRef, RawSegment, SegmentBody, build_segment, parse_segment
from cryptfs.group.heirs import inherited
from cryptfs.tree.coalesce import Coalesced
from cryptfs.tree.facts import anchored
from cryptfs.tree.finalise import finalise
from cryptfs.tree.integrate import integrate
from cryptfs.tree.segment import IntegratedSegment
from cryptfs.vault.containers import Container, OpenPack, Ref, Written
from cryptfs.vault.draft import Draft, Rekeyed, draft, still_holds
from cryptfs.vault.journal import Sealed, SegmentConfirmed
from cryptfs.vault.logs import Told
from cryptfs.vault.manifest import Snapshot, light_content, paged_content, plan_pages, seal_root
from cryptfs.vault.pending import Batch
from cryptfs.vault.records import locate
from cryptfs.vault.remnant import Waits, remnant_of
from cryptfs.vault.rescue import Rescue

if TYPE_CHECKING:
    from cryptfs.vault.vault import Vault

__all__ = ["Rekeyed", "Sealer"]

log = logging.getLogger(__name__)

_BODY2_TARGET: Final = 1 << 20
"""Bytes of records that travel in the segment itself: a small save is one upload."""
_ROUNDS: Final = 5
"""Tries to make a segment while others retire what it refers to."""
_DISK_WAIT: Final = 1.0
"""Seconds between two tries to write a segment to a failing disk."""


R = TypeVar("R", bound=Rekeyed)


class Sealer:
    """Makes segments of one device's log; one task at a time, whoever asks."""

    def __init__(self, vault: "Vault") -> None:
        self._vault = vault
        self._lock = trio.Lock()
        self._waits = Waits()
        self._rescue = Rescue(vault, self._waits)
        self.segments = 0
        self.reencrypting = False
        """What lies under older keys is being sealed anew, see `reencrypt.py`."""

    async def seal(self, *, anyway: bool = False) -> bool:
        """Make and send one segment of the oldest pending operations; False if there was nothing to do.

        `anyway`: also without operations, to carry what this device has seen (an introduction, an acknowledgement).
        Returns when the store has it. Raises LocalDisk(Full), NotAllowed while nothing may be sealed, Damaged or
        StoreError if a manifest cannot be read. Store trouble while sending is waited out.
        """
        async with self._lock:
            vault = self._vault
            if vault.unconfirmed is not None:
                vault.standing.check_may_send()
                await self._send(vault.unconfirmed)
            if not vault.pending and not anyway:
                return False
            vault.check_may_seal()
            for _ in range(_ROUNDS):
                if not vault.standing.alone:
                    await vault.exchange.pull()  # nothing is sealed on a view that may be old
                    vault.check_may_seal()
                await self._rescue.bring_out()
                vault.hand_over_pending()
                if await self._attempt():
                    return True
            raise Retry("Others tidy up so quickly that no change could be sealed.", "It is tried again.")

    async def _attempt(self) -> bool:
        """Make and send one segment; False if what it would say, or refer to, is not so any more."""
        vault = self._vault
        work = draft(vault)
        try:
            contents = await self._contents(work)
            async with vault.exchange.paused():  # from here on the tree is the one that the segment is judged by
                vault.reader.flush()
                if self._rescue.needed() or not still_holds(vault, work):
                    work.abandon()
                    return False
                sealed, ops, ids = self._build(work, contents)
                await self._decide(sealed)
                self._settle(work, sealed, ops, ids)
        except BaseException:
            work.abandon()
            raise
        await self._send(sealed)
        return True

    async def seal_rekeys(self, rekeys: Iterable[R]) -> list[R]:
        """Make and send a segment of those of `rekeys` that still hold when nothing can come between any more.

        Their records lie in packs that the store has. Nothing pending goes into it. Raises as `seal`.
        """
        async with self._lock:
            vault = self._vault
            if vault.unconfirmed is not None:
                await self._send(vault.unconfirmed)
            if not vault.standing.alone:
                await vault.exchange.pull()
            vault.check_may_seal()
            vault.standing.check_may_rekey()
            await self._rescue.bring_out()
            self._vault.reader.flush()
            if self._rescue.needed():  # this segment, too, acknowledges what it has seen
                return []
            holding = [one for one in rekeys if one.holds()]
            if not holding:
                return []
            packs = {one.id: one for rekeyed in holding for one in rekeyed.containers}
            work = Draft(Batch([], -1), Coalesced([], []), manifests=self._adopted([*packs.values()]), rekeys=holding)
            sealed, ops, ids = self._build(work, {})
            await self._decide(sealed)
            self._settle(work, sealed, ops, ids)
            for one in holding:
                one.settle()
            await self._send(sealed)
            return holding

    # ---- before the signature -------------------------------------------------------------------------------------

    async def _contents(self, work: Draft) -> dict[int, Content]:
        """Give every record of the batch a final place; returns the wire contents by index of the operation.

        A little goes into body2 of the segment itself. More goes into packs, which the store confirms first. Manifest
        pages outlive the segment and are named from outside it, so they and what they name always lie in packs.
        """
        bulk = sum(snap.record_len(i) for snap in work.snapshots.values() for i in self._unplaced(snap)) > _BODY2_TARGET
        contents: dict[int, Content] = {}
        by_snapshot: dict[int, Content] = {}  # two operations may carry one content
        if bulk:
            await self._confirm_packs(work.snapshots.values())
        # Files that may need pages come first: they may close the pack that small files would copy from.
        for at, snap in sorted(work.snapshots.items(), key=lambda item: -item[1].count):
            content = by_snapshot.get(id(snap)) or await self._content(work, snap, bulk=bulk)
            contents[at] = by_snapshot[id(snap)] = content
        # A pack that was closed in the background has a name before it has arrived.
        await self._vault.packer.confirm_all(self._places(work, WHERE_PACK))
        return contents

    async def _content(self, work: Draft, snap: Snapshot, *, bulk: bool) -> Content:
        """The content of one file. If its manifest is nowhere for long, what exists of it, as a conflicted copy."""
        mark, st = len(work.body2), snap.file.st
        try:
            content = await self._light(work, snap, bulk=bulk) or await self._paged(work, snap)
        except Damaged:
            del work.body2[mark:]
            if not self._waits.is_over(st, trio.current_time()) or not work.may_part(snap):
                raise
            log.warning("a manifest that an unsent change builds on is nowhere: what exists becomes a conflicted copy")
            rest = await remnant_of(snap)
            work.part(snap, rest)
            content = await self._light(work, rest, bulk=bulk) or await self._paged(work, rest)
        self._waits.end(st)
        return content

    def _unplaced(self, snap: Snapshot) -> list[int]:
        """Chunks whose record has no final place yet."""
        return [index for index, ref in snap.layer.chunks.items() if not locate(ref)[0].id]

    def _places(self, work: Draft, where: int) -> list[Container]:
        """Containers of that kind in which the new chunks of the batch lie."""
        places = (locate(ref)[0] for snap in work.snapshots.values() for ref in snap.layer.chunks.values())
        return [container for container in places if container.id and container.where == where]

    async def _confirm_packs(self, snapshots: Iterable[Snapshot]) -> None:
        """Have the store hold every record of these files that has no final place yet."""
        await self._vault.packer.confirm_all(
            locate(snap.layer.chunks[index])[0] for snap in snapshots for index in self._unplaced(snap)
        )

    async def _light(self, work: Draft, snap: Snapshot, *, bulk: bool) -> Content | None:
        """The content without new pages, its new records in body2 unless in packs; None if it gets too long."""
        mark = len(work.body2)
        here: dict[tuple[int, int], int] = {}
        if not bulk:
            for index in sorted(self._unplaced(snap)):
                container, off = locate(snap.layer.chunks[index])
                record = container.read(off, snap.record_len(index))
                if record is None:
                    raise LocalDisk("a record that was written here is gone")
                here[container.num, off] = len(work.body2)
                work.body2 += record
        content = await light_content(snap, _placer(here))
        if content is None:
            del work.body2[mark:]
        else:
            work.here.update(here)
        return content

    async def _paged(self, work: Draft, snap: Snapshot) -> Content:
        vault = self._vault
        await self._confirm_packs([snap])
        plan = await plan_pages(snap, _placer({}), vault.keyring)
        work.manifests += self._adopted(await vault.packer.store_manifests(plan.records()))
        root = seal_root(snap, plan, vault.keyring)
        if len(work.body2) + len(root.record) <= _BODY2_TARGET:
            root.loc = Loc(WHERE_HERE, b"", len(work.body2))
            work.body2 += root.record
        else:
            work.manifests += self._adopted(await vault.packer.store_manifests([root]))
        return paged_content(snap, root)

    def _adopted(self, containers: list[Container]) -> list[Container]:
        for container in containers:
            self._vault.cache.adopt(container)
        return containers

    def _build(self, work: Draft, contents: dict[int, Content]) -> tuple[Sealed, list[Op], dict[int, int]]:
        """Number, encode and sign. From the moment the journal has it this segment is what it is."""
        vault = self._vault
        final = finalise(work.coalesced, vault.standing.log_id, vault.standing.log.next_n, vault.vault_id)
        ids = final.ids
        ops = [_with_content(op, contents[at]) if at in contents else op for at, op in enumerate(final.ops)]
        for at in work.parted:  # based on nothing that anybody has: no version but its own
            own_id = OpId(vault.standing.log_id, vault.standing.log.next_n + at)
            ops[at] = msgspec.structs.replace(ops[at], base=(own_id,))
        ops += [one.op for one in work.rekeys]
        ks = vault.keyring.write_keyset
        standing = vault.standing
        own = standing.log
        work.packs, work.wall_ms = self._new_packs(work), vault.wall_ms()
        work.vec, work.mheads = standing.vec(), standing.mheads()
        work.stamp = standing.next_stamp(work.vec)
        work.attest, ext = vault.checkpointing.to_say()
        body = SegmentBody(
            fmt=1, prev=own.digest, stamp=work.stamp, mheads=work.mheads, vec=work.vec,
            wall_ms=work.wall_ms, rules=1, client=f"cryptfs {VERSION}", first_op=own.next_n,
            packs=work.packs, attest=work.attest, ops=tuple(ops), ext=ext,
        )  # fmt: skip
        vault.reader.check_own(standing.log_id, own.next_seq, ks, body)
        data, digest = build_segment(
            vault=vault.vault_id, ks=ks, log_id=standing.log_id, seq=own.next_seq, body=body,
            log_key=vault.keyring.key(KeyLabel.LOG, ks), sign_seed=standing.sign_seed, body2=bytes(work.body2),
        )  # fmt: skip
        name = segment_name(standing.log_id, own.next_seq, digest)
        return Sealed(own.next_seq, name, data, work.batch.upto, tuple(ids.items())), ops, ids

    def _new_packs(self, work: Draft) -> tuple[PackRef, ...]:
        """Packs that no segment has named before, sorted by id.

        Also those that nothing refers to any more: who names a container holds it, and can remove it.
        """
        sent = [one for one in self._vault.cache.unnamed() if one.num not in self._vault.records.local]
        new = {one.id: one for one in (*self._places(work, WHERE_PACK), *work.manifests, *sent) if not one.named}
        named = self._vault.pending.owed | {one.id: PackRef(one.id, one.size, PACK_SHARED) for one in new.values()}
        return tuple(named[one] for one in sorted(named))

    # ---- after the signature --------------------------------------------------------------------------------------

    async def _decide(self, sealed: Sealed) -> None:
        """Have the journal hold the segment for ever. A full or failing disk is waited out.

        Cancelled while it waits: as if it had never been signed, since nobody has seen it.
        """
        vault, journal = self._vault, self._vault.journal
        vault.unconfirmed = sealed  # from now on also in a new generation of the journal, should one be begun
        journal.append(sealed)
        while True:
            try:
                with trio.CancelScope(shield=True):
                    await journal.commit()
            except LocalDisk as err:
                log.warning("a segment waits for the local disk: %s", err)
            else:
                return
            try:
                await trio.sleep(_DISK_WAIT)
            except trio.Cancelled:
                if not journal.retract(sealed):
                    return  # it is durable after all
                vault.unconfirmed = None
                raise

    def _settle(self, work: Draft, sealed: Sealed, ops: list[Op], ids: dict[int, int]) -> None:
        """The segment exists: replica, files and packs follow. No waiting."""
        vault = self._vault
        raw = parse_segment(sealed.data, vault.vault_id)
        own = vault.keep_body2(raw.digest, bytes(raw.body2), sealed.name)
        for (num, old), new in work.here.items():
            source = vault.records.local.get(num)
            if source is not None:
                source.moved[old] = (own, new)
        first = vault.standing.log.next_n
        by_op = {
            first + at: anchored(op.content, raw.digest)
            for at, op in enumerate(ops)
            if isinstance(op, Create | Put) and op.content is not None
        }
        self._into_replica(work, sealed, raw, ops, ids)
        for at, snap in work.snapshots.items():
            snap.file.rebase(by_op[first + at], snap.layer)
        for pack in work.packs:
            vault.container(Loc(WHERE_PACK, pack.id, 0)).named = True
            vault.pending.owed.pop(pack.id, None)
        vault.pending.settled(sealed.upto_k)
        head = LogHead(raw.log_id, raw.seq, raw.digest)
        told = Told.by(first, ops, work.wall_ms, work.attest)
        vault.standing.log_grew(head, work.stamp, work.mheads, work.vec, told)
        self._release_files(work)
        self._drop_dead_packs()

    def _into_replica(self, work: Draft, sealed: Sealed, raw: RawSegment, ops: list[Op], ids: dict[int, int]) -> None:
        vault = self._vault
        standing = vault.standing
        segment = IntegratedSegment(
            log=raw.log_id, seq=raw.seq, digest=raw.digest, stamp=work.stamp, wall_ms=work.wall_ms,
            label=standing.label, role=int(standing.role or 0), first_op=standing.log.next_n, ops=tuple(ops),
            packs=work.packs, body2=len(raw.body2), own=True, ids=ids,
            inherits=inherited(vault.membership.graph, raw.log_id, work.mheads, ops),
        )  # fmt: skip
        stable = segment.stamp if standing.alone else -1
        vanished = work.coalesced.vanished
        if work.ahead or not vault.replica.mark_sealed(segment, sealed.upto_k, vanished, stable=stable):
            later = [(entry.k, entry.op) for entry in vault.pending.entries() if entry.k > sealed.upto_k]
            diff = integrate(vault.replica, [segment], later, stable=stable)
            vault.follow()
            if work.parted:
                vault.exchange.announce(diff.entries, [*diff.contents, *(diff.attributes - diff.contents)])
        if any(isinstance(op, Relocate) for op in ops):
            vault.cache.follow(vault.replica.uses.moves())

    def _release_files(self, work: Draft) -> None:
        """Contents with nothing pending need not stay in memory."""
        vault = self._vault
        for entry in work.batch.entries:
            file = vault.carried.pop(entry.k, None)
            if file is not None:
                file.pending -= 1
                vault.drop_if_idle(file)

    def _drop_dead_packs(self) -> None:
        for pack in list(self._vault.records.local.values()):
            if not pack.id and pack.records and not any(self._lives(pack, written) for written in pack.records):
                self._vault.packer.discard(pack)

    def _lives(self, pack: OpenPack, written: Written) -> bool:
        if written.ref.off in pack.moved:
            return False
        return written.holder.wants(written.chunk, written.ref)

    async def _send(self, sealed: Sealed) -> None:
        vault = self._vault
        await vault.sender.put_until_confirmed(sealed.name, sealed.data)
        vault.journal.append(SegmentConfirmed(sealed.seq))
        vault.unconfirmed = None
        vault.copies.keep(sealed.name, sealed.data)
        self.segments += 1
        vault.confirmed(sealed)
        head = vault.standing.log.head(vault.standing.log_id)
        if head is not None and head.seq == sealed.seq:
            await vault.trust.sent(head)


def _placer(here: dict[tuple[int, int], int]) -> Callable[[Ref], Loc]:
    def place(ref: Ref) -> Loc:
        container, off = locate(ref)
        if container.id:
            return Loc(container.where, container.id, off)
        return Loc(WHERE_HERE, b"", here[container.num, off])

    return place


def _with_content(op: Op, content: Content) -> Op:
    if not isinstance(op, Create | Put):
        raise TypeError("only create and put have a content")
    return msgspec.structs.replace(op, content=content)
