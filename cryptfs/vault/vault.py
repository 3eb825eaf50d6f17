"""One open vault: accepts changes, keeps them, sends them, and answers for what is there.

`opening.py` builds it; the parts it wires have a module each. All state is owned by the trio thread: `submit` and the
queries are plain functions, so a handler that does not await sees and makes one consistent change (docs/developing.md,
"What may happen between two awaits").
"""

import errno
import logging
import time

import trio

from cryptfs.crypto.keys import EID_LEN
from cryptfs.errors import CryptfsError, FsError, LocalDiskFull, Quota
from cryptfs.format.content import Content, Inline, Loc
from cryptfs.format.operation import (
    Create,
    Link,
    Op,
    Put,
    SetXattr,
    Ver,
    op_id_bytes,
    provisional_op_id,
)
from cryptfs.format.pack import PackHint
from cryptfs.group.keyring import Keyring
from cryptfs.group.membership import Membership
from cryptfs.vault.acknowledging import Acknowledging
from cryptfs.vault.adopting import Adopter
from cryptfs.vault.certificates import Certificates
from cryptfs.vault.checkpointing import Checkpointing
from cryptfs.vault.chunkmap import Delta, encode_delta
from cryptfs.vault.cited import Cited
from cryptfs.vault.collect import Collector
from cryptfs.vault.containers import Container, OpenPack
from cryptfs.vault.content import FileContent
from cryptfs.vault.contents import Contents
from cryptfs.vault.copies import Copies
from cryptfs.vault.disk import Space, space_of
from cryptfs.vault.exchange import Exchange
from cryptfs.vault.filestate import state_of
from cryptfs.vault.healing import Healer
from cryptfs.vault.horizon import Horizon
from cryptfs.vault.info import file_info, path_of
from cryptfs.vault.journal import (
    Base,
    Dropped,
    Entry,
    PackOpened,
    Sealed,
    Submitted,
    Wrote,
)
from cryptfs.vault.keeping import Keeper
from cryptfs.vault.packer import Packer
from cryptfs.vault.parts import Parts, VaultOptions
from cryptfs.vault.pending import PENDING_MAX, Pending
from cryptfs.vault.pull import LogReader
from cryptfs.vault.records import Records
from cryptfs.vault.riding import Riding
from cryptfs.vault.sealer import Sealer
from cryptfs.vault.status import vault_status
from cryptfs.vault.stored import StoredContent
from cryptfs.vault.upkeep import Upkeep

__all__ = ["Parts", "Vault", "VaultOptions"]

log = logging.getLogger(__name__)


class Vault(Contents):
    """See the module. Attributes without underscore are for the rooms above and for the parts of this room."""

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        self.name = parts.home.name
        self.home = parts.home
        self.standing = parts.standing
        self.trust = parts.trust
        self.vault_id = parts.standing.vault
        self.replica = parts.replica
        self.journal = parts.journal
        self.sender = parts.sender
        self.cache = parts.cache
        self.log_objects = parts.log_objects
        self.options = parts.options
        self.faults = parts.faults
        self.pending = Pending()
        self.next_k = 0
        self.recovering = False
        """Changes that were accepted before a crash are being made again."""
        self.unconfirmed: Sealed | None = None
        self.cited = Cited()
        self.upkeep = Upkeep(self)
        self._nursery: trio.Nursery | None = None
        self.records = Records(
            self.vault_id, parts.home.packs_dir, key_set=self._expected_keyset, announce=self._announce,
            fetching=self.cache.fetching, pack_full=self.pack_full,
        )  # fmt: skip
        self.packer = Packer(
            vault=self.vault_id, keyring=lambda: self.keyring, journal=self.journal, records=self.records,
            sender=self.sender, namer=self, adopt=self.cache.adopt, held=self.cache.held, cited=self.cited,
            cache_dir=parts.home.cached_packs_dir, wall_ms=self.wall_ms, faults=parts.faults,
        )  # fmt: skip
        self.sealer = Sealer(self)
        self.certificates = Certificates(
            parts.home.revocation_dir, self.sender, self.membership, self.wall_ms, lambda: self.trust.memory
        )
        self.horizon = Horizon(self.standing, self.replica)
        self.adopter = Adopter(self)
        self.collector = Collector(self)
        self.acknowledging = Acknowledging(self)
        self.exchange = Exchange(self)
        self.copies = Copies(parts.home, lambda: self.membership)
        self.reader = LogReader(
            self.membership, self.log_objects, self.standing.logs, self.cache.segments, self.exchange.take,
            keep=self.copies.keep,
        )  # fmt: skip
        self.healer = Healer(self)
        self.keeper = Keeper(self, parts.pins)
        self.checkpointing = Checkpointing(self)
        self.journal.before_write = Riding(self.records, parts.faults).before_write
        self.journal.snapshot = self.snapshot

    # ---- the group --------------------------------------------------------------------------------------------------

    @property
    def membership(self) -> Membership:
        """Who is in, as resolved from the statements that are here."""
        return self.standing.membership

    @property
    def keyring(self) -> Keyring:
        return self.standing.keyring

    @property
    def read_only(self) -> bool:
        """Whether nothing may be changed: asked for, because of this device's role, or because of an alarm."""
        return not self.recovering and (self.options.read_only or bool(self.standing.objection or self.trust.stops))

    def check_may_seal(self) -> None:
        """Raise NotAllowed if a segment by this device would not count, or must not be made now."""
        self.standing.check_may_seal()
        self.trust.check_may_seal()

    async def refresh_membership(self) -> None:
        """Take in statements that have appeared in the store. Raises StoreError."""
        await self.exchange.refresh_membership()

    async def introduce(self) -> None:
        """Seal a segment even without operations: it carries the newest statements. Raises NotAllowed, StoreError."""
        await self.sealer.seal(anyway=True)

    def wall_ms(self) -> int:
        """This machine's clock, for people."""
        return time.time_ns() // 1_000_000

    # ---- changes ----------------------------------------------------------------------------------------------------

    def submit(self, op: Op) -> int:
        """Accept an operation: number it, apply it, have it journaled within a second. Returns its local number.

        Raises FsError(EROFS) on a read-only mount, LocalDiskFull when too much waits already.
        """
        return self._accept(op, b"")

    def submit_put(self, content: FileContent, delta: Delta, base: Ver, mtime_ns: int) -> Ver:
        """Accept new content of a file; for `FileContent`."""
        stub = Content(delta.fid, delta.size, delta.chunk_log2, delta.digest, (), Inline(()))
        base = self.replica.extern_ver(b"".join(map(op_id_bytes, base)))  # by its final name if it is sealed
        op = Put(self.replica.ino_of(content.origin), base, stub, mtime_ns)
        k = self._accept(op, encode_delta(delta))
        self.carried[k] = content
        if not self.standing.alone:
            self._place(content, k)
        return (provisional_op_id(k),)

    def log_write(
        self, content: StoredContent, pieces: tuple[tuple[int, bytes], ...], size: int, mtime_ns: int
    ) -> None:
        """Journal what was written to a file that is not handed over yet; for `FileContent`."""
        base = self.replica.extern_ver(b"".join(map(op_id_bytes, content.base_ver)))
        self.journal.append(Wrote(content.origin, self.replica.ino_of(content.origin), size, mtime_ns, pieces, base))

    def drop_writes(self, content: StoredContent) -> None:
        """Journal that writes of a file count no more; for `FileContent`."""
        self.journal.append(Dropped(content.origin))

    def _accept(self, op: Op, delta: bytes) -> int:
        # What was written before the role changed or an alarm rose is kept; whether it is sealed is another matter.
        if self.read_only and not isinstance(op, Put):
            raise FsError(errno.EROFS)
        if len(self.pending) >= PENDING_MAX * 4:
            raise LocalDiskFull("Too many changes wait for the store.", "Wait until they are sent (`cryptfs status`).")
        if self.upkeep.disk_full and isinstance(op, Create | Link | SetXattr):
            raise LocalDiskFull("The local disk is full.")
        k = self.next_k
        now_ns = time.time_ns()
        # Shown as ctime: what is made or written changed when the program did it, not when that is handed over.
        self.replica.apply_local(op, k, op.mtime_ns if isinstance(op, Create | Put) else now_ns)
        self.next_k = k + 1
        entry = Submitted(k, now_ns, op, delta)
        self.journal.append(entry)
        self.pending.add(entry)
        self.upkeep.changed()
        return k

    def check_space(self) -> None:
        """Raise FsError(EROFS), LocalDiskFull or Quota when nothing more can be written."""
        if self.read_only:
            raise FsError(errno.EROFS)
        if self.upkeep.disk_full:
            raise LocalDiskFull("The local disk is full.")
        if self.upkeep.spool_full:
            raise LocalDiskFull("Too much waits for the store.", "Wait until it is sent (`cryptfs status`).")
        if self.sender.state.full:
            raise Quota(self.sender.state.message, self.sender.state.advice)

    async def commit(self) -> None:
        """Return when everything submitted so far is durable on this machine. Raises LocalDisk, LocalDiskFull."""
        try:
            await self.journal.commit()
        except LocalDiskFull:
            self.upkeep.disk_full = True
            raise

    async def sync(self, seconds: float | None = None, *, thorough: bool = False) -> None:
        """Return when everything written so far is confirmed by the store, and what it had is here.

        `thorough`: also what its feed has not told yet. Raises TooSlowError after `seconds`.
        """
        with trio.fail_after(seconds if seconds is not None else float("inf")):
            self.sender.try_now()
            await self.exchange.pull(thorough=thorough)
            if self.read_only:
                return
            self.hand_over_all()
            upto = self.next_k
            await self.commit()
            while True:
                oldest = self.pending.oldest_k
                if self.unconfirmed is None and (oldest is None or oldest >= upto):
                    break
                await self.sealer.seal()
        self.replica.commit()

    # ---- contents ---------------------------------------------------------------------------------------------------

    def sealed_content(self, st: int) -> bytes | None:
        return self.replica.content_of(st)

    def sealed_version(self, ver: Ver) -> bytes | None:
        return self.replica.content_of_version(ver)

    def present_size(self, st: int) -> int:
        node = self.replica.node(st)
        return node.size if node is not None else 0

    def present_version(self, st: int) -> bytes:
        node = self.replica.node(st)
        return node.cver if node is not None else b""

    def extern_ver(self, blob: bytes) -> Ver:
        return self.replica.extern_ver(blob)

    def container(self, loc: Loc) -> Container:
        return self.cache.container(loc)

    def keep_body2(self, digest: bytes, data: bytes, name: str) -> Container:
        """Keep the records that travel in our own segment `name`."""
        self.cache.segments.learn(digest, name)
        return self.cache.keep_body2(digest, data)

    # ---- packs ------------------------------------------------------------------------------------------------------

    def _expected_keyset(self) -> bytes:
        """What the index of a pack will likely be sealed under: it gives only the length of its head, see `packer.py`.

        Nobody knows while the key changes, and work goes on all the same.
        """
        return self.keyring.write_keyset if self.keyring.may_seal else bytes(EID_LEN)

    def _announce(self, opened: PackOpened) -> None:
        self.journal.append(opened)

    def pack_full(self, pack: OpenPack) -> None:
        """Close and send a pack in the background."""
        pack.finish_filling()
        self.upkeep.look_at_disk()
        if self._nursery is not None:
            self._nursery.start_soon(self._confirm_quietly, pack)

    async def _confirm_quietly(self, pack: OpenPack) -> None:
        try:
            await self.upkeep.lull()
            await self.packer.confirm(pack)
            self.upkeep.over("packing")
        except CryptfsError as err:
            self.upkeep.note("packing", err)  # the sealer tries again when it needs the pack

    def hint(self, file: FileContent, wall_ms: int) -> PackHint:
        """What a file is called now, for the pack's index."""
        return PackHint(file.fid, self.replica.ino_of(file.st), path_of(self.replica, file.st), file.size, wall_ms)

    def snapshot(self) -> list[Entry]:
        """What a new journal must begin with. Raises LocalDisk, LocalDiskFull."""
        for content in self.contents():
            if content.logged:
                content.hand_over_now()
        self.replica.commit()  # what it lacks of this device's log, the new journal could not tell it without the store
        at = self.standing.own_end()
        entries: list[Entry] = [
            Base(
                self.vault_id, self.standing.log_id, self.next_k, at.next_seq, at.next_n, at.digest, at.stamp,
                self.records.next_pack,
            )
        ]  # fmt: skip
        names = self.cited.names()
        if names is not None:
            entries.append(names)
        entries.extend(PackOpened(pack.num, pack.ks) for pack in self.records.local.values())
        entries.extend(self.cited.packs(self.records.local))
        entries.extend(self.pending.journaled())
        if self.unconfirmed is not None:
            entries.append(self.unconfirmed)
        return entries

    def confirmed(self, sealed: Sealed) -> None:
        """The store has the segment: what only served to make it can go."""
        self.keeper.stir()
        self.cited.sealed(sealed.ids, self.next_k)
        self.cache.pinned.clear()
        unsubmitted = {num for content in self.contents() for num in content.unsubmitted_packs()}
        self.cited.forget(self.pending.oldest_k, self.next_k, unsubmitted, self.records.local)

    async def run(self, nursery: trio.Nursery) -> None:
        """Start the background tasks."""
        self._nursery = self.cache.fetching.nursery = nursery
        await self.upkeep.run(nursery)

    async def shut_down(self, seconds: float = 3.0) -> None:
        """Hand everything over, make it durable, and send what goes within `seconds`. Raises LocalDisk."""
        await self.upkeep.shut_down(seconds)

    # ---- answers ----------------------------------------------------------------------------------------------------

    def space(self) -> Space:
        """What a program may still write: the lesser of store and local disk. Raises LocalDisk."""
        local = space_of(self.home.data_dir)
        store = Space(*self.upkeep.store_space) if self.upkeep.store_space else local
        free = 0 if self.sender.state.full else min(local.free, store.free)
        return Space(max(store.total, free), free)

    async def info(self, st: int) -> dict[str, object]:
        """Which objects hold a file, as JSON values. Raises FsError(ENOENT), and what reading a manifest raises."""
        return await file_info(self, st)

    def state_of(self, st: int) -> str:
        """How a file stands between this device and the store, in words of docs/mount.md, "POSIX notes"."""
        return state_of(self, st)

    def pending_bytes(self) -> int:
        """Bytes of sealed records that the store does not have yet."""
        waiting = sum(pack.size for pack in self.records.local.values())
        return waiting + (len(self.unconfirmed.data) if self.unconfirmed is not None else 0)

    def status(self) -> dict[str, object]:
        """The state of this vault as JSON values."""
        return vault_status(self)
