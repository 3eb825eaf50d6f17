"""Opens a vault: keys, members, journal, replica, and whatever a crash left half done.

Every start is a recovery; there is no other path. The replica drops what was not sealed and takes it again from the
journal; a segment that was sealed and perhaps sent is sent again with the same bytes; packs that no operation names any
more are removed. A replica that is missing or damaged is rebuilt from the logs in the store.
"""

import contextlib
import fcntl
import logging
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import trio

from cryptfs.crypto.keyfile import DeviceKeys
from cryptfs.crypto.keys import local_key
from cryptfs.errors import ConfigError, HostileStore, InUse, StoreError
from cryptfs.faults import Faults
from cryptfs.format.content import WHERE_PACK, Loc
from cryptfs.format.operation import Put
from cryptfs.group.membership import Membership
from cryptfs.store.base import Store
from cryptfs.tree.replica import Replica
from cryptfs.tree.schema import ReplicaDamaged
from cryptfs.vault.cache import Cache, SegmentNames
from cryptfs.vault.chunkmap import Delta, decode_delta
from cryptfs.vault.containers import Container, OpenPack, Ref
from cryptfs.vault.content import FileContent
from cryptfs.vault.disk import local_disk
from cryptfs.vault.home import VaultHome
from cryptfs.vault.joining import Joining
from cryptfs.vault.journal import (
    Base,
    Entry,
    Journal,
    Names,
    PackClosed,
    PackConfirmed,
    PackOpened,
    Record,
    Sealed,
    SegmentConfirmed,
    Submitted,
)
from cryptfs.vault.logs import Logs
from cryptfs.vault.members import load_membership
from cryptfs.vault.standing import Standing
from cryptfs.vault.upload import Sender
from cryptfs.vault.vault import Parts, Vault, VaultOptions

__all__ = ["open_vault"]

log = logging.getLogger(__name__)

_OLDER: Final = "The folder lacks changes of this device that it had before."
_OLDER_ADVICE: Final = "If a backup of the folder was restored, restore the newest one. Nothing was changed here."


@asynccontextmanager
async def open_vault(
    home: VaultHome, keys: DeviceKeys, store: Store, options: VaultOptions | None = None, faults: Faults | None = None
) -> AsyncIterator[Vault]:
    """The vault of `home`, open until the block ends; then everything accepted is durable on this machine.

    Raises InUse if another process has it open, ConfigError, StoreError when there is neither a store nor a local copy,
    HostileStore, LocalDisk.
    """
    home.create_dirs()
    with _only_one(home):
        opening = _Opening(home, keys, store, options or VaultOptions(), faults or Faults())
        try:
            vault = await opening.open()
            async with trio.open_nursery() as nursery:
                await vault.run(nursery)
                try:
                    yield vault
                finally:
                    with trio.CancelScope(shield=True):
                        await vault.shut_down()
                    nursery.cancel_scope.cancel()
        finally:
            opening.close()


@contextmanager
def _only_one(home: VaultHome) -> Iterator[None]:
    """One process a vault: two writers of one journal would lose both's work."""
    with local_disk("locking the vault"):
        fd = os.open(home.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as err:
            owner = os.read(fd, 32).decode("ascii", "replace").strip()
            raise InUse(
                f"The vault '{home.name}' is in use by process {owner or '(unknown)'}.",
                f"Unmount it first: `cryptfs umount {home.name}`.",
            ) from err
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(fd)


@dataclass(slots=True)
class _Found:
    """What the journal said."""

    base: Base
    pending: dict[int, Submitted] = field(default_factory=dict)
    names: dict[int, int] = field(default_factory=dict)
    opened: dict[int, bytes] = field(default_factory=dict)  # local pack -> key set
    closed: dict[int, PackClosed] = field(default_factory=dict)
    confirmed: set[int] = field(default_factory=set)
    records: list[Record] = field(default_factory=list)
    sealed: list[Sealed] = field(default_factory=list)
    sent: set[int] = field(default_factory=set)

    @classmethod
    def read(cls, entries: list[Entry]) -> "_Found | None":
        """Fold the entries; None if they do not begin with a Base."""
        first = entries[0] if entries else None
        if not isinstance(first, Base):
            return None
        found = cls(first)
        for entry in entries[1:]:
            found.take(entry)
        return found

    def take(self, entry: Entry) -> None:
        match entry:
            case Submitted():
                self.pending[entry.k] = entry
            case Record():
                self.records.append(entry)
            case PackOpened():
                self.opened[entry.num] = entry.ks
            case PackClosed():
                self.closed[entry.num] = entry
            case PackConfirmed():
                self.confirmed.add(entry.num)
            case Sealed():
                self.sealed.append(entry)
                self.names.update(entry.ids)
                for k in [k for k in self.pending if k <= entry.upto_k]:
                    del self.pending[k]
            case SegmentConfirmed():
                self.sent.add(entry.seq)
            case Names():
                self.names.update(entry.ids)
            case Base():
                pass

    @property
    def next_k(self) -> int:
        return max([self.base.next_k, *(k + 1 for k in self.pending), *(k + 1 for k in self.names)])

    @property
    def next_pack(self) -> int:
        return max([self.base.next_pack, *(num + 1 for num in self.opened)])


class _Opening:
    """The steps of one start, and what has to be closed again if it fails."""

    def __init__(self, home: VaultHome, keys: DeviceKeys, store: Store, options: VaultOptions, faults: Faults) -> None:
        self._home = home
        self._keys = keys
        self._options = options
        self._faults = faults
        self._store = store
        self._sender = Sender(store, faults)
        self._journal: Journal | None = None
        self._replica: Replica | None = None

    async def open(self) -> Vault:
        home, keys = self._home, self._keys
        membership = await load_membership(self._sender, home.cache_dir / "members", keys)
        await Joining(home, keys).check(self._sender, membership)
        journal = self._journal = Journal(
            home.data_dir, local_key(keys.local_secret, "journal"), membership.vault, self._faults
        )
        recovered = journal.recover()
        found = _Found.read(recovered.entries) if recovered is not None else None
        if recovered is not None and recovered.damaged_frames:
            log.error("%d parts of the journal were damaged; what they held is lost", recovered.damaged_frames)
        replica = self._replica = self._open_replica(membership)
        standing = Standing(membership, Logs(replica, membership.graph), _entry_of(membership))
        segments = SegmentNames(replica)
        cache = Cache(membership.vault, home.cached_packs_dir, self._sender, segments, self._options.cache_bytes)
        vault = Vault(Parts(home, standing, replica, journal, self._sender, cache, self._options, self._faults))
        await self._catch_up(vault, found)
        if found is not None:
            await _Replay(vault, found).run()
        vault.next_k = max(replica.next_k(), found.next_k if found is not None else 0)
        self._remove_orphans(vault)
        journal.start(vault.snapshot())
        replica.commit()
        return vault

    def close(self) -> None:
        """Close files; nothing is written."""
        self._sender.give_up()
        if self._journal is not None:
            self._journal.close()
        if self._replica is not None:
            self._replica.close(commit=False)
        self._store.close()

    def _open_replica(self, membership: Membership) -> Replica:
        path, key = self._home.replica_file, local_key(self._keys.local_secret, "replica")
        try:
            replica = Replica.open(str(path), key, membership.vault)
            replica.pop_tentative()
        except ReplicaDamaged as err:
            log.warning("%s; it is rebuilt from the store", err)
            for suffix in ("", "-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
            replica = Replica.open(str(path), key, membership.vault)
        return replica

    async def _catch_up(self, vault: Vault, found: _Found | None) -> None:
        """Bring the replica to the end of this device's log, and of the others' as far as the store answers."""
        own, reader = vault.standing.log, vault.reader
        reader.own_ids = found.names if found is not None else {}
        # After a change of role the device goes on under a new entry, and in its log.
        same_log = found is not None and found.base.log == vault.standing.log_id
        wanted = found.base.next_seq if found is not None and same_log else None
        try:
            await reader.read_all()
        except StoreError as err:
            if wanted is None or own.next_seq < wanted:
                raise  # without it nobody knows where this device's log ends
            log.warning("starting without the store: %s", err)
        if wanted is not None and own.next_seq < wanted:
            raise HostileStore(_OLDER, _OLDER_ADVICE)
        for sealed in found.sealed if found is not None else ():
            reader.take_own(sealed.data, sealed.name)

    def _remove_orphans(self, vault: Vault) -> None:
        """Pack files that nothing names: their operations vanished, or never became durable."""
        known = {pack.path for pack in vault.records.local.values()}
        with local_disk("cleaning up packs"):
            for path in self._home.packs_dir.iterdir():
                if path not in known:
                    path.unlink(missing_ok=True)
            for path in self._home.cached_packs_dir.glob(".tmp-*"):
                path.unlink(missing_ok=True)


class _Replay:
    """Takes pending operations from the journal into a freshly opened vault."""

    def __init__(self, vault: Vault, found: _Found) -> None:
        self._vault = vault
        self._found = found
        self._packs: dict[int, OpenPack] = {}
        self._moves: dict[tuple[int, int], tuple[int, int]] = {}
        for closed in found.closed.values():
            for source, old, new in closed.moves:
                self._moves[source, old] = (closed.num, new)

    async def run(self) -> None:
        vault, found = self._vault, self._found
        vault.records.next_pack = found.next_pack
        self._open_packs()
        for k, entry in sorted(found.pending.items()):
            content = None
            if entry.delta and isinstance(entry.op, Put):
                content = await self._content(entry.op, decode_delta(entry.delta), k)
            vault.replica.apply_local(entry.op, k, entry.now_ns)
            vault.pending.add(entry)
            if content is not None:
                content.mtime_ns = entry.op.mtime_ns if isinstance(entry.op, Put) else content.mtime_ns
        vault.restore_names(found.names)
        unsent = [sealed for sealed in found.sealed if sealed.seq not in found.sent]
        if unsent:
            vault.unconfirmed = unsent[-1]

    def _open_packs(self) -> None:
        """Local packs that are not confirmed, with the records that were riding in the journal put into their files."""
        home = self._vault.home
        wanted = {num for num in self._found.opened if num not in self._found.confirmed}
        with local_disk("restoring packs"):
            for record in self._found.records:
                if record.num in wanted:
                    _restore(home.packs_dir / f"{record.num:012d}.pack", record)
        for num in sorted(wanted):
            path = home.packs_dir / f"{num:012d}.pack"
            if not path.exists():
                continue
            pack = OpenPack(num, self._found.opened[num], path, recovered=True)
            closed = self._found.closed.get(num)
            if closed is not None:
                pack.where, pack.id, pack.size = WHERE_PACK, closed.id, closed.size
                self._vault.cache.adopt(pack)
            self._packs[num] = pack
            self._vault.records.local[num] = pack
        self._vault.packer.closed.update(self._found.closed)

    async def _content(self, put: Put, delta: Delta, k: int) -> FileContent:
        vault = self._vault
        st = vault.replica.st_of(put.i)
        content = vault.file_for_replay(st if st is not None else -1)
        refs: dict[int, Ref] = {}
        for index, num, off, fkv, digest in delta.chunks:
            ref = self._ref(num, off, fkv, digest)
            if ref is None:
                # Sealed already, in a segment that went ahead of this operation: the sealed version has the record.
                ref = await content.find_sealed(index, digest)
            refs[index] = ref
        content.replay(delta, refs, k)
        for index, ref in refs.items():
            if isinstance(ref.container, OpenPack):
                ref.container.adopt_record(content, index, ref, content.plain_len(index))
        return content

    def _ref(self, num: int, off: int, fkv: int, digest: bytes) -> Ref | None:
        num, off = self._moves.get((num, off), (num, off))
        pack: Container | None = self._packs.get(num)
        if pack is None:
            closed = self._found.closed.get(num)
            if closed is None:
                return None
            pack = self._vault.container(Loc(WHERE_PACK, closed.id, 0))
            pack.size = closed.size
            pack.named = False
        return Ref(pack, off, fkv, digest)


def _entry_of(membership: Membership) -> bytes:
    """The entry this device acts under, also when it has been removed. Raises ConfigError if it never had one."""
    if membership.entry is not None:
        return membership.entry.id
    if membership.own:
        return min(membership.own)
    raise ConfigError("This device is not in the group of the vault yet.", "Ask an administrator to let it in.")


def _restore(path: Path, record: Record) -> None:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.pwrite(fd, record.data, record.off)
        os.fsync(fd)
    finally:
        with contextlib.suppress(OSError):
            os.close(fd)
