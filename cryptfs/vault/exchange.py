"""What others wrote comes here: statements first, then segments, then the contents that are open.

A pull is one task at a time. It awaits the store while it reads, and changes the replica between two awaits: taken back
are the operations that are not sealed, in go the segments, and the former again on top (`tree/integrate.py`).
"""

import logging
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import trio

from cryptfs.errors import CryptfsError, HostileStore, StoreError
from cryptfs.format.operation import Relocate
from cryptfs.group.authority import Tier
from cryptfs.group.ends import closers
from cryptfs.store import Abort, Call, DirectoryStore
from cryptfs.tree.integrate import Diff, NeedsRebuild, integrate, watched
from cryptfs.tree.segment import IntegratedSegment
from cryptfs.vault.members import refresh
from cryptfs.vault.rebuilding import rebuild

if TYPE_CHECKING:
    from cryptfs.vault.vault import Vault

__all__ = ["Exchange"]

log = logging.getLogger(__name__)

_POLL: Final = 5.0
"""Seconds between two looks at a store that does not tell of changes."""
_SETTLE: Final = 0.2
"""Seconds after a notice before the store is read: uploads come in groups."""

Listener = Callable[[Iterable[tuple[int, bytes]], Iterable[int]], None]
"""Told after a pull: entries (directory, name) that changed, then nodes."""


class Exchange:
    """Pulls for one vault."""

    def __init__(self, vault: "Vault") -> None:
        self._vault = vault
        self._lock = trio.Lock()
        self._limiter = trio.CapacityLimiter(1)
        self.listeners: list[Listener] = []
        self.statements: list[str] = []
        """Names in `m/` as listed last."""
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

    async def pull(self) -> bool:
        """Bring here whatever the store has; returns whether anything was new. Raises StoreError, HostileStore."""
        async with self._lock:
            vault = self._vault
            before = vault.trust.memory  # what is sealed and sent while the store is listed is not in the listing
            news = await self.refresh_membership()
            try:
                news = await vault.reader.read_all() or news
            except NeedsRebuild as err:
                news = await self._rebuild(err)
            self.look_at_own_log()
            await vault.trust.look([*self.statements, *vault.reader.listed], before, vault.reader.open_forks())
            vault.trust.freshness.tell()
            self.pulls += 1
            if news:
                self.settled.set()
                self.settled = trio.Event()
            return news

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
        """Take in new statements and wraps; returns whether there were any. Raises StoreError."""
        vault = self._vault
        self.statements = await vault.sender.list("m/")
        membership = await refresh(
            vault.sender,
            vault.home.cache_dir / "members",
            vault.standing.membership,
            self.statements,
            vault.standing.news,
        )
        lists = await vault.certificates.refresh(self.statements, membership or vault.standing.membership)
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
        self.tell(integrate(vault.replica, segments, vault.pending.operations(), void=void, stable=stable))
        if void:
            log.warning("%d segments beyond the end of a log are taken back", len(void))
            for log_id in {log_id for log_id, _ in void}:
                vault.replica.uses.read_again(log_id)
        if void or any(isinstance(op, Relocate) for one in segments for op in one.ops):
            vault.cache.follow(vault.replica.uses.moves())
        self.segments += sum(1 for one in segments if not one.own)

    def show(self, change: Callable[[], object]) -> None:
        """Make changes that no program asked the kernel for, and tell who has to know. No waiting."""
        self.tell(watched(self._vault.replica, change))

    def tell(self, diff: Diff) -> None:
        """The tree changed: files that are open follow, and the kernel hears of it."""
        vault = self._vault
        vault.follow()
        for st in (*diff.contents, *diff.records):
            content = vault.files.get(st)
            if content is not None:
                content.superseded(same_bytes=st in diff.records)
                vault.drop_if_idle(content)
        self.announce(diff.entries, [*diff.contents, *(diff.attributes - diff.contents)])

    def announce(self, entries: Iterable[tuple[int, bytes]], nodes: Iterable[int]) -> None:
        """Have the kernel hear of entries (directory, name) and nodes that are not what they were."""
        for listener in self.listeners:
            listener(entries, nodes)

    # ---- the task -------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Pull whenever the store may have something new, until cancelled."""
        while True:
            try:
                await self._wait_for_news()
                await self.pull()
            except StoreError as err:
                log.debug("no pull: %s", err)
                await trio.sleep(_POLL)
            except CryptfsError as err:
                self._vault.upkeep.note("pulling", err)
                await trio.sleep(_POLL)
            else:
                self._vault.upkeep.over("pulling")

    async def _wait_for_news(self) -> None:
        store = self._vault.sender.store
        if not isinstance(store, DirectoryStore):
            await trio.sleep(_POLL)
            return
        abort = Abort()
        try:
            await trio.to_thread.run_sync(
                store.wait_for_change, Call.within(_POLL, abort), abandon_on_cancel=True, limiter=self._limiter
            )
        finally:
            abort.set()
        await trio.sleep(_SETTLE)
