"""What others wrote comes here: statements first, then segments, then the contents that are open.

A pull is one task at a time. It awaits the store while it reads, and changes the replica between two awaits: taken back
are the operations that are not sealed, in go the segments, and the former again on top (`tree/integrate.py`).
"""

import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

import trio

from cryptfs.errors import CryptfsError, StoreError
from cryptfs.format.operation import Relocate
from cryptfs.store import Abort, Call, DirectoryStore
from cryptfs.tree.integrate import Diff, integrate, watched
from cryptfs.tree.segment import IntegratedSegment
from cryptfs.vault.members import refresh

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

    async def pull(self) -> bool:
        """Bring here whatever the store has; returns whether anything was new. Raises StoreError, HostileStore."""
        async with self._lock:
            vault = self._vault
            before = vault.trust.memory  # what is sealed and sent while the store is listed is not in the listing
            news = await self.refresh_membership()
            news = await vault.reader.read_all() or news
            await vault.trust.look([*self.statements, *vault.reader.listed], before)
            vault.trust.freshness.tell()
            self.pulls += 1
            if news:
                self.settled.set()
                self.settled = trio.Event()
            return news

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
        self._drop_what_no_longer_counts()
        return True

    def _drop_what_no_longer_counts(self) -> None:
        """A log may end earlier now: what it said beyond its end is undone."""
        vault = self._vault
        gone = vault.reader.ended()
        if gone:
            log.warning("%d segments beyond the end of a log are taken back", len(gone))
            self._tell(integrate(vault.replica, [], vault.pending.operations(), void=gone))
            for log_id in {log_id for log_id, _ in gone}:
                vault.replica.uses.read_again(log_id)
            vault.cache.follow(vault.replica.uses.moves())

    def take(self, segments: list[IntegratedSegment]) -> None:
        """Put segments into the replica, pending operations again on top, and tell who has to know."""
        vault = self._vault
        stable = max(one.stamp for one in segments) if vault.standing.alone else -1
        self._tell(integrate(vault.replica, segments, vault.pending.operations(), stable=stable))
        if any(isinstance(op, Relocate) for one in segments for op in one.ops):
            vault.cache.follow(vault.replica.uses.moves())
        self.segments += sum(1 for one in segments if not one.own)

    def show(self, change: Callable[[], object]) -> None:
        """Make changes that no program asked the kernel for, and tell who has to know. No waiting."""
        self._tell(watched(self._vault.replica, change))

    def _tell(self, diff: Diff) -> None:
        vault = self._vault
        for st in (*diff.contents, *diff.records):
            content = vault.files.get(st)
            if content is not None:
                content.superseded(same_bytes=st in diff.records)
                vault.drop_if_idle(content)
        for listener in self.listeners:
            listener(diff.entries, [*diff.contents, *(diff.attributes - diff.contents)])

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
