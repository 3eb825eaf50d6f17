"""What others wrote comes here: statements first, then segments, then the contents that are open.

A pull is one task at a time. It awaits the store while it reads, and changes the replica between two awaits: taken back
are the operations that are not sealed, in go the segments, and the former again on top (`tree/integrate.py`).
"""

import logging
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import trio

from cryptfs.crypto.keys import chance
from cryptfs.errors import CryptfsError, HostileStore, StoreError
from cryptfs.format.names import log_prefix, segment_name
from cryptfs.format.operation import Relocate
from cryptfs.group.authority import Tier
from cryptfs.group.ends import closers
from cryptfs.group.memory import TrustMemory
from cryptfs.store import Abort, Call, Cap, DirectoryStore, Store
from cryptfs.store.retry import Backoff
from cryptfs.tree.integrate import Diff, NeedsRebuild, integrate, watched
from cryptfs.tree.segment import IntegratedSegment
from cryptfs.vault.jumping import Jumping
from cryptfs.vault.lookout import Following, Lookout
from cryptfs.vault.members import refresh
from cryptfs.vault.rebuilding import rebuild
from cryptfs.vault.tempo import FOLLOWED, LISTED, TOLD, PullPace, Tempo
from cryptfs.vault.upload import PATIENCE

if TYPE_CHECKING:
    from cryptfs.vault.vault import Vault

__all__ = ["Exchange"]

log = logging.getLogger(__name__)

_SETTLE: Final = 0.2
"""Seconds after a notice before the store is read: uploads come in groups."""
_LISTEN: Final = 3600.0
"""Seconds that a directory is listened to at a stretch."""
_AFTER_TROUBLE: Final = 10.0
"""Seconds after a pull that failed for another reason than the store."""

Listener = Callable[[Iterable[tuple[int, bytes]], Iterable[int]], None]
"""Told after a pull: entries (directory, name) that changed, then nodes."""


class Exchange:
    """Pulls for one vault."""

    def __init__(self, vault: "Vault") -> None:
        self._vault = vault
        self._lock = trio.Lock()
        self._limiter = trio.CapacityLimiter(1)
        self._lookout = Lookout(vault.sender, vault.replica, self._following, lambda: _own_log(vault.trust.memory))
        self._jumping = Jumping(vault)
        self._pace = PullPace(_tempo(vault.sender.store), chance().random, trio.current_time())
        self._backoff = Backoff(chance(), PATIENCE)
        self._sooner = trio.Event()
        """Set when the next look may be due earlier than it was."""
        self.listeners: list[Listener] = []
        self.listed: list[str] = []
        """Names in `m/`, `w/` and `l/` at the last audit."""
        self.pulls = 0
        self.segments = 0
        """Segments of others taken in since the start."""
        self.settled = trio.Event()
        """Set after every pull that brought something; replaced by a fresh one."""

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """Nothing is pulled in this block."""
        async with self._lock:
            yield

    async def pull(self, *, thorough: bool = False) -> bool:
        """Bring here whatever the store has; returns whether anything was new. Raises StoreError, HostileStore.

        `thorough`: list everything, also where a feed would tell what is new.
        """
        async with self._lock:
            vault = self._vault
            before = vault.trust.memory  # what is sealed and sent while the store is listed is not in the listing
            uneasy = vault.trust.uneasy or vault.reader.held_up or bool(vault.reader.gaps())
            seen = await self._lookout.look(whole=thorough, uneasy=uneasy)
            news = await self._learn_of_group(seen.statements, seen.wraps, again=seen.whole)
            try:
                news = await vault.reader.read_on(seen.segments, whole=seen.whole) or news
            except NeedsRebuild as err:
                news = await self._rebuild(err)
            self.look_at_own_log()
            if seen.whole and await self._jumping.jump():
                news = True
                self.look_at_own_log()
            if seen.whole:
                self.listed = [*seen.statements, *seen.wraps, *seen.segments]
            await vault.trust.look(self.listed if seen.whole else None, before, vault.reader.open_forks())
            vault.trust.freshness.tell()
            self._lookout.keep(vault.reader.unread(), whole=seen.whole, news=news)
            self._looked(news=news)
            return news

    def _following(self) -> list[Following]:
        return self._vault.reader.following()

    def _looked(self, *, news: bool) -> None:
        now = trio.current_time()
        self.pulls += 1
        self._pace.looked(now)
        if news:
            self._vault.keeper.stir()
            self.stir()
            self.settled.set()
            self.settled = trio.Event()

    async def _rebuild(self, why: NeedsRebuild) -> bool:
        """Make the tree anew; as it was it stays if the folder shows too little for that. Raises StoreError."""
        log.warning("%s: the tree is made anew from the logs", why)
        try:
            await rebuild(self._vault)
        except HostileStore as err:
            log.warning("%s", err)
            return False
        return True

    def look_at_own_log(self) -> None:
        """Whether this device can go on in its log; if not it is told, and at the next start it begins another."""
        standing = self._vault.standing
        over = self._why_over()
        if over != standing.over:
            standing.log_is_over(over)
            if over:
                log.warning("%s", standing.objection)

    def _why_over(self) -> str:
        standing = self._vault.standing
        log_id, role = standing.log_id, standing.role
        if role is None or role < Tier.WRITER:
            return ""
        if standing.copied:
            return "This device exists twice: it was copied, or restored from a backup. Both sets of changes are kept."
        end = self._vault.reader.end(log_id)
        if end is None or end.count is None:
            return ""
        graph, now = standing.membership.graph, standing.membership.resolved
        by = sorted({standing.membership.name_of(one) for one in closers(graph, now, log_id)})
        return f"The log of this device was closed by {' and '.join(by) or 'somebody'}. Its changes are kept."

    async def refresh_membership(self) -> bool:
        """Look for new statements and wraps, and take them in; returns whether there were any. Raises StoreError."""
        sender = self._vault.sender
        return await self._learn_of_group(await sender.list("m/"), await sender.list("w/"), again=True)

    async def _learn_of_group(self, statements: list[str], wraps: list[str], *, again: bool) -> bool:
        """Take in what is new among the objects of these names; returns whether there was anything.

        `again`: also look whether what did not verify does so now.
        """
        vault = self._vault
        membership = await refresh(
            vault.sender,
            vault.home.cache_dir / "members",
            vault.standing.membership,
            [*statements, *wraps],
            vault.standing.news,
            again=again,
        )
        lists = await vault.certificates.refresh(statements, membership or vault.standing.membership)
        if membership is None:
            if lists:
                vault.certificates.tell()
            return lists
        vault.standing.adopt(membership)
        vault.reader.use(membership)
        if vault.standing.objection:
            log.warning("%s", vault.standing.objection)
        vault.certificates.tell()
        return True

    def take(self, segments: list[IntegratedSegment], void: list[tuple[bytes, int]]) -> None:
        """Put segments into the replica, take others out, pending operations on top, and tell who has to know.

        Raises NeedsRebuild, and then has changed nothing.
        """
        vault = self._vault
        stable = max(one.stamp for one in segments) if segments and vault.standing.alone else -1
        heeded = bool(self.listeners or vault.files)
        pending = vault.pending.operations()
        self.tell(integrate(vault.replica, segments, pending, void=void, stable=stable, heeded=heeded))
        if void:
            log.warning("%d segments beyond the end of a log are taken back", len(void))
            for log_id in {log_id for log_id, _ in void}:
                vault.replica.uses.read_again(log_id)
        if void or any(isinstance(op, Relocate) for one in segments for op in one.ops):
            vault.cache.follow(vault.replica.uses.moves())
        self.segments += sum(1 for one in segments if not one.own)

    def show(self, change: Callable[[], object]) -> None:
        """Make changes that no program asked the kernel for, and tell who has to know. No waiting."""
        self.tell(watched(self._vault.replica, change), asked=True)

    def tell(self, diff: Diff, *, asked: bool = False) -> None:
        """The tree changed: files that are open follow, at once if that was `asked` for; and the kernel hears of it."""
        vault = self._vault
        vault.follow()
        for st in diff.records:
            content = vault.files.get(st)
            if content is not None and content not in vault.outdated:
                content.superseded(same_bytes=True)
                vault.drop_if_idle(content)
        later = {st for st in diff.contents if vault.superseded(st, asked=asked)}
        self.announce(diff.entries, [*(diff.contents - later), *(diff.attributes - diff.contents)])

    def announce(self, entries: Iterable[tuple[int, bytes]], nodes: Iterable[int]) -> None:
        """Have the kernel hear of entries (directory, name) and nodes that are not what they were."""
        for listener in self.listeners:
            listener(entries, nodes)

    # ---- the task -------------------------------------------------------------------------------------------------

    def stir(self) -> None:
        """Somebody changes something, here or elsewhere: the store is looked at more often for a while."""
        self._pace.stirred(trio.current_time())
        self._sooner.set()

    async def run(self) -> None:
        """Pull whenever the store may have something new, until cancelled."""
        async with trio.open_nursery() as nursery:
            store = self._vault.sender.store
            if isinstance(store, DirectoryStore):
                nursery.start_soon(self._listen, store)
            await self._pull_regularly()

    async def _pull_regularly(self) -> None:
        while True:
            await self._wait_until_due()
            try:
                await self.pull()
            except StoreError as err:
                log.debug("no pull: %s", err)
                self._pace.failed(trio.current_time(), self._backoff.after(err))
            except CryptfsError as err:
                self._vault.upkeep.note("pulling", err)
                self._pace.failed(trio.current_time(), _AFTER_TROUBLE)
            else:
                self._backoff.succeeded()
                self._vault.upkeep.over("pulling")

    async def _wait_until_due(self) -> None:
        """Others pull as well, before they seal: then the next look is later; or something stirs, and it is earlier."""
        while (due := self._pace.due(trio.current_time())) > trio.current_time():
            self._sooner = trio.Event()
            with trio.move_on_at(due):
                await self._sooner.wait()

    async def _listen(self, store: DirectoryStore) -> None:
        """Have the folder looked at when the kernel tells that something was put there."""
        while True:
            abort = Abort()
            try:
                noticed = await trio.to_thread.run_sync(
                    store.wait_for_change, Call.within(_LISTEN, abort), abandon_on_cancel=True, limiter=self._limiter
                )
            finally:
                abort.set()
            if noticed:
                self._pace.noticed(trio.current_time() + _SETTLE)
                self._sooner.set()
                await trio.sleep(_SETTLE)


def _tempo(store: Store) -> Tempo:
    if isinstance(store, DirectoryStore):
        return TOLD
    return FOLLOWED if Cap.CHANGES in store.caps else LISTED


def _own_log(memory: TrustMemory) -> Following:
    """Up to where the store must have this device's log."""
    head = memory.own_head
    return (
        Following("", "")
        if head is None
        else Following(log_prefix(head.log), segment_name(head.log, head.seq, head.digest))
    )
