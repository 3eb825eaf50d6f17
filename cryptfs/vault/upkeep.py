"""What happens by itself while a vault is open: commits, seals, housekeeping, and the orderly end.

One task each; none holds a lock across a wait for the store, but the sealer its own. Trouble is told in `status` and in
the log when it changes, and tried again; it never ends a task.
"""

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from cryptfs.errors import CryptfsError, LocalDisk, LocalDiskFull, NotAllowed, StoreError
from cryptfs.vault.disk import space_of

if TYPE_CHECKING:
    from cryptfs.vault.vault import Vault

__all__ = ["Upkeep"]

log = logging.getLogger(__name__)

_COMMIT_EVERY: Final = 1.0
_SEAL_IDLE: Final = 2.0
_SEAL_LATEST: Final = 10.0
"""Seconds: a change is journaled, sealed when nothing followed it, sealed in any case."""
_HAND_OVER_AFTER: Final = 5_000_000_000
"""ns that a change stays in memory alone while its file is open."""
_SEAL_APART: Final = 1.5
"""Seconds from one seal that happens by itself to the next: under load changes travel together."""
_COALESCE: Final = 0.1
"""Seconds between two looks whether so much is pending by then that it must not wait any longer."""
_SEAL_OPS: Final = 4_000
"""Pending operations that are sealed at once: each keeps a kilobyte in memory, and more come while that is done."""
_LULL: Final = 0.3
_LULL_LATEST: Final = 5.0
"""Seconds without a write, and seconds at most, before a full pack is finished and sent."""
_TROUBLE_WAIT: Final = 5.0
_SPACE_EVERY: Final = 30.0
_COLLECT_FIRST: Final = 300.0
_COLLECT_EVERY: Final = 3600.0
"""Seconds until what is unused is looked for, and from one look to the next."""
_HOUSEKEEPING_EVERY: Final = 15
"""Commits between two looks at the cache and the journal's length."""
_JOURNAL_MAX: Final = 8 << 20
"""Bytes of journal after which it is compacted, once most of it is sent."""
_JOURNAL_FEW: Final = 100
"""Pending operations that count as few."""


def _is_full(directory: Path) -> bool:
    """Whether programs are to get ENOSPC."""
    try:
        space = space_of(directory)
    except LocalDisk:
        return False  # what is wrong with it the next commit tells
    return space.free < space.reserve


class Upkeep:
    """The background tasks of one vault."""

    def __init__(self, vault: "Vault") -> None:
        self._vault = vault
        self._troubles: dict[str, str] = {}  # by the task that has it; each clears its own
        self.disk_full = False
        self.spool_full = False
        """More waits for the store than this device was told to keep."""
        self.store_space: tuple[int, int] | None = None
        self._changed = trio.Event()
        self._began = time.monotonic()

    def changed(self) -> None:
        """Something is pending."""
        self._vault.keeper.stir()
        if not self._changed.is_set():
            self._changed.set()

    def open_for(self) -> float:
        """Seconds since the vault was opened."""
        return time.monotonic() - self._began

    async def run(self, nursery: trio.Nursery) -> None:
        """Start the tasks."""
        nursery.start_soon(self._commit_regularly)
        nursery.start_soon(self._watch_space)
        nursery.start_soon(self._vault.exchange.run)
        nursery.start_soon(self._vault.checkpointing.run)
        nursery.start_soon(self._vault.healer.run)
        nursery.start_soon(self._vault.keeper.run)
        if not self._vault.options.read_only:
            nursery.start_soon(self._seal_regularly)
            nursery.start_soon(self._vault.acknowledging.run)
            nursery.start_soon(self._collect_regularly)

    async def _commit_regularly(self) -> None:
        turn = 0
        while True:
            await trio.sleep(_COMMIT_EVERY)
            turn += 1
            try:
                await self._commit(housekeeping=turn % _HOUSEKEEPING_EVERY == 0)
            except CryptfsError as err:
                self.note("keeping", err)
            else:
                self.over("keeping")
            self.look_at_disk()

    async def _commit(self, *, housekeeping: bool) -> None:
        vault = self._vault
        self._hand_over_old()
        if vault.journal.dirty:
            await vault.journal.commit()
        vault.replica.commit()
        if housekeeping:
            vault.cache.evict()
            few = vault.unconfirmed is None and len(vault.pending) < _JOURNAL_FEW
            if vault.journal.size > _JOURNAL_MAX and few:
                await vault.journal.compact()

    def _hand_over_old(self) -> None:
        horizon = time.time_ns() - _HAND_OVER_AFTER
        for content in self._vault.contents():
            if content.dirty and content.dirty_since < horizon:
                try:
                    content.hand_over_now()
                except CryptfsError as err:  # the others, and what is journaled already, must not wait for this one
                    self.note("keeping", err)

    def look_at_disk(self) -> None:
        """Whether programs may write on. Every second, and whenever a pack is full."""
        home = self._vault.home
        self.disk_full = _is_full(home.data_dir) or _is_full(home.cache_dir)
        self.spool_full = self._vault.pending_bytes() > self._vault.options.spool_bytes

    async def _seal_regularly(self) -> None:
        pending, not_before = self._vault.pending, trio.current_time()
        while True:
            await self._wait_until_due()
            while len(pending) < _SEAL_OPS and trio.current_time() < not_before:  # noqa: ASYNC110 - or much is pending
                await trio.sleep(min(_COALESCE, not_before - trio.current_time()))
            not_before = trio.current_time() + _SEAL_APART
            try:
                await self._vault.sealer.seal()
            except CryptfsError as err:
                self.note("sealing", err)
                await trio.sleep(_TROUBLE_WAIT)
            else:
                self.over("sealing")

    async def _collect_regularly(self) -> None:
        await trio.sleep(_COLLECT_FIRST)
        while True:
            try:
                await self._vault.collector.run()
                await self._vault.adopter.keep()
            except CryptfsError as err:
                self.note("collecting", err)
            else:
                self.over("collecting")
            await trio.sleep(_COLLECT_EVERY)

    async def _wait_until_due(self) -> None:
        pending = self._vault.pending
        while self._vault.unconfirmed is None:
            if not pending:
                self._changed = trio.Event()
                await self._changed.wait()
                continue
            self._vault.exchange.stir()
            now = time.time_ns()
            idle = _SEAL_IDLE - (now - pending.newest_ns) / 1e9
            latest = _SEAL_LATEST - (now - pending.oldest_ns) / 1e9
            due = min(idle, latest)
            if due <= 0 or len(pending) >= _SEAL_OPS:
                return
            await trio.sleep(min(due, _SEAL_IDLE))

    async def lull(self) -> None:
        """Return when nobody has written for a moment, or after a few seconds.

        Hashing and sending full packs takes a processor; who is writing right now needs it more.
        """
        with trio.move_on_after(_LULL_LATEST):
            sealed = -1
            while sealed != self._vault.records.sealed:
                sealed = self._vault.records.sealed
                await trio.sleep(_LULL)

    async def _watch_space(self) -> None:
        while True:
            try:
                self.store_space = await self._vault.sender.space()
            except StoreError as err:
                log.debug("the store does not tell its space: %s", err)
            await trio.sleep(_SPACE_EVERY)

    @property
    def trouble(self) -> str:
        """What went wrong last and still stands, for people; empty if nothing."""
        return " ".join(self._troubles.values())

    def note(self, task: str, err: CryptfsError) -> None:
        """Tell people about trouble, once. It stands until the same task says `over`."""
        if isinstance(err, LocalDiskFull):
            self.disk_full = True
        text = f"{err} {err.advice}"
        if text != self._troubles.get(task):
            log.warning("%s", text)
        self._troubles[task] = text

    def over(self, task: str) -> None:
        """That task goes well again."""
        self._troubles.pop(task, None)

    async def shut_down(self, seconds: float) -> None:
        """Hand everything over, make it durable, and send what goes within `seconds`. Raises LocalDisk."""
        vault = self._vault
        try:
            vault.hand_over_all()
        finally:
            await vault.commit()
        if not vault.read_only and vault.sender.state.state == "ok":
            with trio.move_on_after(seconds):
                try:
                    while await vault.sealer.seal():
                        pass
                except (StoreError, NotAllowed) as err:
                    log.info("left for later: %s", err)
        vault.sender.give_up()
        try:
            await vault.journal.compact()
        except LocalDisk as err:
            log.warning("the journal could not be compacted: %s", err)
        vault.replica.commit()
