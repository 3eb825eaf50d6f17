"""Opens a vault: keys, members, journal, replica, and whatever a crash left half done.

Every start is a recovery; there is no other path. The replica drops what was not sealed and takes it again from the
journal; a segment that was sealed and perhaps sent is sent again with the same bytes; packs that no operation names any
more are removed. A replica that is missing or damaged is rebuilt from the logs in the store.
"""

import fcntl
import logging
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import trio

from cryptfs.crypto.keyfile import DeviceKeys
from cryptfs.crypto.keys import local_key
from cryptfs.errors import ConfigError, HostileStore, InUse, NotAllowed, StoreError
from cryptfs.faults import Faults
from cryptfs.group.authority import Tier
from cryptfs.group.membership import Membership
from cryptfs.store.base import Store
from cryptfs.tree.replica import Replica
from cryptfs.tree.schema import ReplicaDamaged
from cryptfs.vault.bodies import DOUBTFUL
from cryptfs.vault.cache import Cache
from cryptfs.vault.disk import local_disk
from cryptfs.vault.found import Found
from cryptfs.vault.home import VaultHome
from cryptfs.vault.joining import Joining
from cryptfs.vault.journal import Base, Journal, Recovered
from cryptfs.vault.logobjects import LogObjects
from cryptfs.vault.logs import Logs
from cryptfs.vault.members import load_membership
from cryptfs.vault.newlog import GoingOn
from cryptfs.vault.news import News
from cryptfs.vault.pins import Pins
from cryptfs.vault.replay import Replay
from cryptfs.vault.standing import Standing
from cryptfs.vault.starting import begin
from cryptfs.vault.trust import Trust
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
        home, keys, news = self._home, self._keys, News()
        membership = await load_membership(self._sender, home.cache_dir / "members", keys, news)
        await Joining(home, keys).check(self._sender, membership)
        journal = self._journal = Journal(
            home.data_dir, local_key(keys.local_secret, "journal"), membership.vault, self._faults
        )
        recovered = journal.recover()
        if recovered is not None and recovered.damaged_frames:
            log.error("%d parts of the journal were damaged; what they held is lost", recovered.damaged_frames)
        damaged = recovered is not None and recovered.damaged_frames > 0
        replica = self._replica = self._open_replica(membership)
        entry = _entry_of(membership)
        logs = Logs(replica, membership.graph)
        standing = Standing(membership, logs, entry, news, _log_of(membership, entry, recovered))
        objects = LogObjects(membership.vault, self._sender)
        cache = Cache(home.cached_packs_dir, self._sender, replica, objects, self._options.cache_bytes)
        cache.follow(replica.uses.moves())
        trust = Trust(home, local_key(keys.local_secret, "memory"), standing, self._sender)
        vault = Vault(
            Parts(
                home, standing, trust, replica, journal, self._sender, cache, objects, Pins(home, keys),
                self._options, self._faults,
            )
        )  # fmt: skip
        found = Found.read(recovered, standing.log_id)
        await self._catch_up(vault, found)
        if found is not None:
            await Replay(vault, found).run()
        vault.next_k = max(replica.next_k(), found.next_k if found is not None else 0)
        self._faults.step("newlog.switched")
        if not damaged:  # else nobody knows what their operations were
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

    async def _catch_up(self, vault: Vault, found: Found | None) -> None:
        """Bring the replica to the end of this device's log, and of the others' as far as the store answers."""
        reader, standing = vault.reader, vault.standing
        if found is not None:
            reader.own_ids, reader.own_log = found.names, found.base.log
        # After a change of role the device goes on under a new entry, and in its log.
        same_log = found is not None and found.base.log == standing.log_id
        standing.made = found.head(standing.vault) if found is not None and same_log else None
        away: StoreError | None = None
        try:
            self._sender.refuse_if_silent()
            if not standing.logs.ids():
                await begin(vault, standing.made)
            vault.checkpointing.settle()
            await vault.exchange.pull()
        except StoreError as err:
            away = err
        if found is None:  # nobody knows what this device had made: it goes on where its log ends
            standing.made = standing.log.head(standing.log_id)
            vault.exchange.look_at_own_log()
        for sealed in found.sealed if found is not None and same_log and not standing.over else ():
            if sealed.seq <= standing.log.next_seq:
                reader.take_own(sealed.data, sealed.name)
        if away is not None:
            if found is None or not same_log or standing.log.next_seq < found.next_seq:
                raise away  # without the store nobody knows where this device's log ends
            log.warning("starting without the store: %s", away)
        elif found is not None:
            sent = found.next_seq - (len(found.unsent) if standing.over else 0)
            if same_log and standing.log.next_seq < sent and standing.log_id not in standing.logs.forked():
                raise HostileStore(_OLDER, _OLDER_ADVICE)
            if standing.over or not same_log:
                await self._go_on(vault, found)

    async def _go_on(self, vault: Vault, found: Found) -> None:
        """This device's log is over, or another's than that of the journal: go on in a new one, if that may be."""
        role = vault.standing.role
        if vault.options.read_only or role is None or role < Tier.WRITER:
            return
        try:
            await GoingOn(vault, found, vault.journal.start).run()
        except (StoreError, HostileStore, NotAllowed) as err:
            log.warning("no new log could be begun: %s %s", err, err.advice)

    def _remove_orphans(self, vault: Vault) -> None:
        """Pack files that nothing names: their operations vanished, or never became durable."""
        known = {pack.path for pack in vault.records.local.values()}
        with local_disk("cleaning up packs"):
            for path in self._home.packs_dir.iterdir():
                if path not in known:
                    path.unlink(missing_ok=True)
            for pattern in (".tmp-*", f"*{DOUBTFUL}"):
                for path in self._home.cached_packs_dir.glob(pattern):
                    path.unlink(missing_ok=True)


def _log_of(membership: Membership, entry: bytes, recovered: Recovered | None) -> bytes:
    """The log that the journal says, if it is one of this entry; empty else: its first one."""
    base = recovered.entries[0] if recovered is not None and recovered.entries else None
    return base.log if isinstance(base, Base) and base.log in membership.graph.logs_of(entry) else b""


def _entry_of(membership: Membership) -> bytes:
    """The entry this device acts under, also when it has been removed. Raises ConfigError if it never had one."""
    if membership.entry is not None:
        return membership.entry.id
    if membership.own:
        return min(membership.own)
    raise ConfigError("This device is not in the group of the vault yet.", "Ask an administrator to let it in.")
