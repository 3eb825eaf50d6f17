"""A device whose log is over goes on in another one, and nothing it wrote is lost (docs/replication.md, "A new log").

A log is over for its device when a copy of the device has written into it (a clone, a restored backup, a fork), or when
somebody closed it. Then, at the next start and before anything is sealed:

    decided     a statement opens a new log and closes the old one where it counts; in the journal before it is seen
    published   the statement
    gathered    segments that this device made and that do not count; their operations become pending again, before
                those that are, under new provisional ids
    switched    one new generation of the journal holds it all

Whatever stops this half-way leaves the old journal, and the next start does the same again. The contents of operations
that were sealed once need no second upload: they name records that lie in the store, in segments without effect or in
packs. Only what was in a segment that was never sent is put into a pack.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import msgspec

from cryptfs.crypto.keys import KeyLabel
from cryptfs.errors import Damaged, NotAllowed
from cryptfs.format.content import WHERE_HERE, WHERE_PACK, Content, Loc
from cryptfs.format.names import (
    StatementName,
    copy_inode_of,
    inode_of,
    later_log_id,
    parse_name,
    segment_name,
)
from cryptfs.format.operation import (
    Create,
    DelXattr,
    Link,
    Op,
    OpId,
    Put,
    Rename,
    Restore,
    Rmdir,
    SetAttr,
    SetXattr,
    Undelete,
    Unlink,
    is_provisional_ino,
    provisional_ino,
    provisional_number,
    provisional_op_id,
)
from cryptfs.format.pack import PACK_SHARED
from cryptfs.format.segment import PackRef, RawSegment, SegmentBody, open_segment, parse_segment
from cryptfs.format.statement import Cut, NewLog
from cryptfs.tree.facts import anchored, moved
from cryptfs.tree.renaming import Names, rename_ids
from cryptfs.vault.administration import desk_of, publish
from cryptfs.vault.bodyrecords import records_here
from cryptfs.vault.found import Found
from cryptfs.vault.journal import Base, Entry, Opener, Sealed, Submitted
from cryptfs.vault.rebuilding import rebuild
from cryptfs.vault.vault import Vault
from cryptfs.vault.wholepack import WholePack

__all__ = ["GoingOn"]

log = logging.getLogger(__name__)

_AGAIN: Final = (Create, Put, Link, Unlink, Rmdir, Rename, SetAttr, SetXattr, DelXattr, Undelete, Restore)
"""Operations that are made again. The others tell what became of packs, which was the business of the old log."""
_NS_PER_MS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class _Excluded:
    """A segment of this device that does not count; `sent`: the store has it."""

    raw: RawSegment
    body: SegmentBody
    name: str
    sent: bool

    @property
    def numbered(self) -> Iterator[tuple[int, Op]]:
        """Its operations with their numbers in the log."""
        return enumerate(self.body.ops, self.body.first_op)


class GoingOn:
    """One start of a device whose log is over, or that acts under another entry since a change of role.

    `keep` makes these entries the journal, durably.
    """

    def __init__(self, vault: Vault, found: Found, keep: Callable[[list[Entry]], None]) -> None:
        self._vault = vault
        self._found = found
        self._keep = keep
        self._old = found.base.log

    async def run(self) -> None:
        """Do it: `found` then says what is pending, and the device stands at the beginning of a log.

        Raises NotAllowed while nothing may be sealed, StoreError, HostileStore, LocalDisk; then nothing has changed.
        """
        vault, standing = self._vault, self._vault.standing
        _ = vault.keyring.write_keyset  # else nothing could be sealed anyway, nor packs made
        log_id = await self._open_log() if standing.over else standing.log_id
        excluded = await self._excluded()
        contents = {n: content for one in excluded for n, content in (await self._contents(one)).items()}
        unsent = [one.raw.seq for one in excluded if not one.sent]
        if unsent:
            standing.logs.cut_back(self._old, min(unsent))
            await rebuild(vault)
        vault.faults.step("newlog.gathered")
        self._rename(excluded, contents, log_id)
        standing.begin_log(log_id)
        count = sum(1 for one in excluded for _, op in one.numbered if isinstance(op, _AGAIN))
        log.warning("this device goes on in a new log; %d changes that did not count are sent again", count)

    # ---- the statement ----------------------------------------------------------------------------------------------

    async def _open_log(self) -> bytes:
        """Have a new log opened; returns its id."""
        vault, found = self._vault, self._found
        if found.opener is not None and not self._is_mine(found.opener):
            found.opener = None
        if found.opener is None:
            decision = desk_of(vault).say(NewLog(self._closes()))
            found.opener = Opener(*decision.objects[0])
            self._keep([*found.entries, found.opener])
            vault.faults.step("newlog.decided")
        opener = found.opener
        await publish(vault.sender, [(opener.name, opener.data)])
        vault.faults.step("newlog.published")
        await vault.exchange.pull()
        log_id = _log_of(opener)
        end = vault.reader.end(log_id)
        if end is None or end.count is not None:
            raise NotAllowed("The new log of this device does not count.", "See `cryptfs-admin audit`.")
        return log_id

    def _is_mine(self, opener: Opener) -> bool:
        """Whether a statement that was decided on before a crash may still serve: of this entry, and not written to."""
        graph, log_id = self._vault.membership.graph, _log_of(opener)
        owner = graph.log_owner(log_id)
        if owner is None:
            return True  # not published yet
        return owner.entry == self._vault.standing.entry and not self._vault.standing.logs.state(log_id).next_seq

    def _closes(self) -> tuple[Cut, ...]:
        """The old log, where it counts to now. Not those of other copies: they may be alive."""
        if self._vault.membership.graph.log_owner(self._old) is None or self._old != self._vault.standing.log_id:
            return ()
        counting = self._vault.reader.counting(self._old)
        if not counting:
            return (Cut(self._old, 0, bytes(32)),)
        return (Cut(self._old, counting[-1].seq + 1, counting[-1].digest),)

    # ---- what does not count ----------------------------------------------------------------------------------------

    async def _excluded(self) -> list[_Excluded]:
        """The segments that this device made and that do not count, oldest first."""
        vault, found = self._vault, self._found
        counting = {one.digest for one in vault.reader.counting(self._old)}
        sealed = {one.seq: one for one in found.sealed}
        excluded: list[_Excluded] = []
        head = found.head(vault.vault_id)
        seq, digest = (head.seq, head.digest) if head is not None else (-1, b"")
        base = vault.standing.logs.base(self._old)  # what a checkpoint brought counts
        while seq >= base and (digest not in counting or (seq in sealed and seq not in found.sent)):
            name = segment_name(self._old, seq, digest)
            here = sealed.get(seq)
            # Keys are everybody's: only the hash says that this device wrote what it signs anew.
            raw = self._made_here(here, digest) if here is not None else await self._sent(seq, digest)
            body = open_segment(raw, vault.keyring.key(KeyLabel.LOG, raw.ks))
            sent = here is None or seq in found.sent
            if sent and raw.body2:
                vault.cache.segments.learn(raw.digest, name)
            excluded.append(_Excluded(raw, body, name, sent))
            seq, digest = seq - 1, body.prev
        return excluded[::-1]

    async def _sent(self, seq: int, digest: bytes) -> RawSegment:
        return await self._vault.log_objects.find(self._old, seq, digest)

    def _made_here(self, sealed: Sealed, digest: bytes) -> RawSegment:
        raw = parse_segment(sealed.data, self._vault.vault_id)
        if raw.digest != digest:
            raise Damaged("the journal has another segment in place of one that this device wrote")
        return raw

    async def _contents(self, one: _Excluded) -> dict[int, Content]:
        """The contents of its operations by number, naming only places that the store has."""
        vault = self._vault
        found = {n: op.content for n, op in one.numbered if isinstance(op, Create | Put) and op.content is not None}
        vault.pending.owed.update((pack.id, pack) for pack in one.body.packs)
        if one.sent or not one.raw.body2:
            return {n: anchored(content, one.raw.digest) for n, content in found.items()}
        whole, places = WholePack(vault.vault_id, vault.keyring), dict[int, int]()
        for content in found.values():
            for row in records_here(content):
                if row.off not in places:
                    places[row.off] = whole.add(row, bytes(one.raw.body2[row.off : row.off + row.len]))
        await vault.packer.send_whole(whole)
        vault.cache.adopt(whole.container)
        vault.pending.owed[whole.container.id] = PackRef(whole.container.id, whole.container.size, PACK_SHARED)

        def into_pack(loc: Loc) -> Loc:
            return Loc(WHERE_PACK, whole.container.id, places[loc.off]) if loc.where == WHERE_HERE else loc

        return {n: moved(self._boxed_anew(content), into_pack) for n, content in found.items()}

    def _boxed_anew(self, content: Content) -> Content:
        """Nobody has seen these boxes: they are made for who is in now."""
        keyring = self._vault.keyring
        ks = keyring.write_keyset
        keys = tuple(
            keyring.box_file_key(ks, content.fid, box.fkv, keyring.open_file_key(box, content.fid))
            for box in content.keys
        )
        return msgspec.structs.replace(content, keys=keys)

    # ---- new names --------------------------------------------------------------------------------------------------

    def _rename(self, excluded: list[_Excluded], contents: dict[int, Content], log_id: bytes) -> None:
        """All that is pending under new provisional ids, in its order: what was excluded, then what was not sealed."""
        vault, found = self._vault, self._found
        numbered = [(n, op, one) for one in excluded for n, op in one.numbered if isinstance(op, _AGAIN)]
        first = max(vault.replica.next_k(), found.next_k)
        again = {n: k for k, (n, _, _) in enumerate(numbered, first)}
        later = {old: k for k, old in enumerate(sorted(found.pending), first + len(again))}
        names = _names(vault, found, again, later)
        pending: dict[int, Submitted] = {}
        for n, op, one in numbered:
            made = rename_ids(op, names)
            if n in contents and isinstance(made, Create | Put):
                made = msgspec.structs.replace(made, content=contents[n])
            pending[again[n]] = Submitted(again[n], one.body.wall_ms * _NS_PER_MS, made, b"")
        for old, k in later.items():
            entry = found.pending[old]
            pending[k] = Submitted(k, entry.now_ns, rename_ids(entry.op, names), entry.delta)
        found.pending = pending
        found.wrote = {
            st: [msgspec.structs.replace(one, ino=names.inode(one.ino), base=names.ver(one.base)) for one in writes]
            for st, writes in found.wrote.items()
        }
        next_k = first + len(again) + len(later)
        found.base = Base(vault.vault_id, log_id, next_k, 0, 0, bytes(32), 0, found.next_pack)
        found.names, found.sealed, found.sent = {}, [], set()
        vault.reader.own_ids, vault.reader.own_log = {}, log_id


def _names(vault: Vault, found: Found, again: dict[int, int], later: dict[int, int]) -> Names:
    """Exchanges ids of the old log that do not count, and those of pending operations, for the new provisional ones.

    `again`: number in the old log to k; `later`: old k to new k.
    """
    old = found.base.log
    inodes = {
        make(vault.vault_id, OpId(old, n)): provisional_ino(k)
        for n, k in again.items()
        for make in (inode_of, copy_inode_of)
    }

    def op_id(one: OpId) -> OpId:
        k = provisional_number(one)
        if k is not None:
            if k in later:
                return provisional_op_id(later[k])
            one = OpId(old, found.names[k]) if k in found.names else vault.replica.own_id(k) or one
        return provisional_op_id(again[one.n]) if one.log == old and one.n in again else one

    def inode(ino: bytes) -> bytes:
        if is_provisional_ino(ino):
            k = int.from_bytes(ino[8:], "big")
            if k in later:
                return provisional_ino(later[k])
            if found.names.get(k) in again:
                return provisional_ino(again[found.names[k]])
            ino = vault.replica.final_ino(ino)
        return inodes.get(ino, ino)

    return Names(op_id, inode)


def _log_of(opener: Opener) -> bytes:
    name = parse_name(opener.name)
    if not isinstance(name, StatementName):
        raise TypeError("the journal holds a statement under a name that is none")
    return later_log_id(name.id)
