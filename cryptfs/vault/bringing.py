"""Brings the records of pinned files to this disk, while no program waits for the store.

What many files need is put together by object, since a call of a store costs more than the bytes between two records;
then each record is compared with the hash that was signed for it: what is said to be here can be read.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import trio

from cryptfs.errors import CryptfsError
from cryptfs.format.content import WHERE_PACK
from cryptfs.tree.places import merged
from cryptfs.vault.containers import Container
from cryptfs.vault.needs import FileNeeds, Need
from cryptfs.vault.pace import Pace
from cryptfs.vault.pinned import FILE_TROUBLE, SHARE, PinnedFile, Survey, is_whole, needs_of
from cryptfs.vault.ranges import RANGE_WHOLE

if TYPE_CHECKING:
    from cryptfs.vault.vault import Vault

__all__ = ["Bringing"]

log = logging.getLogger(__name__)

_BATCH_BYTES: Final = 32 << 20
_BATCH_RECORDS: Final = 4_000
"""What is fetched and compared at a stretch; small files of one folder lie side by side in few packs."""
_GAP: Final = 256 << 10
"""Bytes between two wanted ranges that are fetched along: a call of a store costs more."""


@dataclass(slots=True)
class _Batch:
    """What is brought at a stretch. `ends`: windows that are complete with it, and whether each is its file's last."""

    needs: list[tuple[PinnedFile, Need, int]] = field(default_factory=list)
    """And how many bytes of it are not here."""
    ends: list[tuple[PinnedFile, int, bool]] = field(default_factory=list)
    size: int = 0

    @property
    def full(self) -> bool:
        return self.size >= _BATCH_BYTES or len(self.needs) >= _BATCH_RECORDS


class Bringing:
    """Brings what a survey says. `require_room` raises LocalDiskFull unless so many bytes fit."""

    def __init__(self, vault: "Vault", survey: Survey, require_room: Callable[[int], None]) -> None:
        self._vault = vault
        self._survey = survey
        self._require_room = require_room
        self._lock = trio.Lock()

    async def bring(self) -> None:
        """Fetch what the last look has missed. Raises StoreError, LocalDisk, LocalDiskFull; what came stays."""
        async with self._lock:
            await self._bring_all()

    async def _bring_all(self) -> None:
        pace = Pace(SHARE)
        while (batch := await self._next()).ends:
            await self._fetch(batch)
            hopeless: dict[Container, CryptfsError] = {}
            for file, need, lacked in batch.needs:
                err = await self._compare(need, hopeless.get(need.container))
                if err is not None:
                    hopeless[need.container] = err
                    file.fails(err)
                else:
                    file.lacking = max(0, file.lacking - lacked)
                await pace.step()
            for file, number, last in batch.ends:
                file.window = number + 1
                if last and not file.problem:
                    file.proved, file.lacking = True, 0

    async def _next(self) -> _Batch:
        """Some of what is to be done; without `ends` if nothing is."""
        batch, files = _Batch(), self._survey.files
        for st, file in list(files.items()):
            if batch.full:
                break
            if not file.wanted or file.carrier is None or self._survey.files.get(st) is not file:
                continue
            needs = needs_of(self._vault, st, file.carrier)
            try:
                if needs is not None:
                    await self._gather(batch, file, needs)
            except FILE_TROUBLE as err:
                file.fails(err)
        return batch

    async def _gather(self, batch: _Batch, file: PinnedFile, needs: FileNeeds) -> None:
        """Put the windows of a file that are left into the batch, as many as it takes."""
        lacks = self._vault.cache.fetching.lacks
        for number in range(file.window, needs.windows):
            if batch.full:
                return
            for need in await needs.window(number):
                batch.needs.append((file, need, lacks(need.container, need.off, need.off + need.length)))
                batch.size += need.length
            batch.ends.append((file, number, number + 1 == needs.windows))

    async def _fetch(self, batch: _Batch) -> None:
        """Bring what the batch needs; what could not be had is found when it is compared."""
        wanted: dict[Container, list[tuple[int, int]]] = {}
        for _, need, _ in batch.needs:
            if not is_whole(need.container):
                wanted.setdefault(need.container, []).append((need.off, need.length))
        for container, ranges in wanted.items():
            try:
                for start, end in self._spans(container, ranges):
                    await self._bring(container, start, end)
            except FILE_TROUBLE as err:
                log.debug("not all of a pinned object came: %s", err)

    def _spans(self, container: Container, ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """What to have of a container: all of a pack of which half is wanted, since a whole one proves itself."""
        pack = self._vault.replica.rows.container(*container.place) if container.where == WHERE_PACK else None
        if pack is not None and 0 < pack.size <= 2 * sum(length for _, length in ranges):
            return [(0, pack.size)]
        joined = merged((off, length + _GAP) for off, length in ranges)
        return [(off, off + length - _GAP) for off, length in joined]

    async def _bring(self, container: Container, start: int, end: int) -> None:
        fetching = self._vault.cache.fetching
        for at in range(start, end, RANGE_WHOLE):
            stop = min(end, at + RANGE_WHOLE)
            lacking = fetching.lacks(container, at, stop)
            if lacking:
                self._require_room(lacking)
                await fetching.quietly(container, at, stop)

    async def _compare(self, need: Need, hopeless: CryptfsError | None) -> CryptfsError | None:
        """What is wrong with the record; None if it is here, and the one that was signed for.

        `hopeless`: why another record of the same object could not be had; then the store is not asked once more.
        """
        if is_whole(need.container) or self._vault.records.is_here(need.ref, need.length):
            return None
        if hopeless is not None:
            return hopeless
        try:
            await self._vault.records.fetch_record(need.ref, need.length)
        except FILE_TROUBLE as err:
            return err
        return None
