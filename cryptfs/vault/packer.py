"""Local packs become objects of the store: closed, sent, confirmed, and then part of the cache.

Several tasks may want the same pack confirmed; one does it, the others wait. A pack is confirmed before any segment
names it, so nobody ever reads a name of something that is not there.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, Protocol

import trio

from cryptfs.crypto.keys import KeyLabel
from cryptfs.errors import CryptfsError, LocalDisk
from cryptfs.faults import Faults
from cryptfs.format.content import WHERE_PACK, Loc
from cryptfs.format.names import pack_name
from cryptfs.format.pack import (
    RECORD_PAGE,
    RECORD_ROOT,
    PackHint,
    PackKey,
    PackRecord,
)
from cryptfs.group.keyring import Keyring
from cryptfs.vault.cited import Cited
from cryptfs.vault.containers import PACK_HEADER_LEN, Container, OpenPack, Written
from cryptfs.vault.content import FileContent
from cryptfs.vault.disk import local_disk
from cryptfs.vault.journal import Journal, PackClosed, PackConfirmed
from cryptfs.vault.manifest import Manifest
from cryptfs.vault.packing import Finished, LiveRecord, PackJob, finish_pack
from cryptfs.vault.records import Records
from cryptfs.vault.upload import Sender
from cryptfs.vault.wholepack import WholePack

__all__ = ["Packer"]

_DEAD_TOLERATED: Final = 1 / 8
"""Share of dead bytes in a big pack that is sent along rather than copying everything else."""
_BIG: Final = 20 << 20


class Namer(Protocol):
    """Tells what a content is called, for the hints that salvage needs."""

    def hint(self, file: FileContent, wall_ms: int) -> PackHint:
        """Inode, path and size of a file now."""


class Packer:
    """Closes and sends packs. Trio thread; the work on files runs in one worker thread."""

    def __init__(
        self, *, vault: bytes, keyring: Callable[[], Keyring], journal: Journal, records: Records, sender: Sender,
        namer: Namer, adopt: Callable[[Container], None], held: set[Path], cited: Cited, cache_dir: Path,
        wall_ms: Callable[[], int], faults: Faults,
    ) -> None:  # fmt: skip
        self._vault = vault
        self._keyring = keyring
        self._journal = journal
        self._records = records
        self._sender = sender
        self._namer = namer
        self._adopt = adopt
        self._held = held
        self._cited = cited
        self._cache_dir = cache_dir
        self._wall_ms = wall_ms
        self._faults = faults
        self._locks: dict[int, trio.Lock] = {}
        self._limiter = trio.CapacityLimiter(2)
        self.sent_packs = 0
        self.sent_bytes = 0

    async def confirm(self, pack: OpenPack) -> None:
        """Close the pack if need be, send it, and return when the store has it. Raises LocalDisk, LocalDiskFull."""
        lock = self._locks.setdefault(pack.num, trio.Lock())
        async with lock:
            if pack.num in self._records.local:  # else another task was quicker
                object_ = pack if pack.id else await self._close(pack)
                if object_ is not None:
                    await self._send(object_)
        self._locks.pop(pack.num, None)

    async def confirm_all(self, containers: Iterable[Container]) -> None:
        """`confirm` those of them that the store does not have yet, several at once. Raises as that."""
        local = self._records.local
        packs = {one.num: one for one in containers if isinstance(one, OpenPack) and local.get(one.num) is one}
        failures: list[CryptfsError] = []

        async def confirm(pack: OpenPack) -> None:
            try:
                await self.confirm(pack)
            except CryptfsError as err:  # one by one, not as a group: callers ask what went wrong
                failures.append(err)
                nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            for _, pack in sorted(packs.items()):
                nursery.start_soon(confirm, pack)
        if failures:
            raise failures[0]

    # ---- closing --------------------------------------------------------------------------------------------------

    async def _close(self, pack: OpenPack) -> OpenPack | None:
        """Leave dead records out, add the index, fix the id; None if nothing in it is wanted any more."""
        records = self._records
        if records.filling is pack:
            records.filling = None
        if pack.live:
            pack.finish_filling()
        live = [w for w in pack.records if isinstance(w.holder, FileContent) and w.holder.wants(w.chunk, w.ref)]
        if not live:
            self.discard(pack)
            return None
        # The index tells names, so it is sealed under the key that is in force now: whoever was put out while the pack
        # was filled knows the one that was in force when it was begun.
        ks = self._keyring().write_keyset
        dead = pack.size - PACK_HEADER_LEN - len(pack.ks) - sum(w.length for w in live)
        copy = dead > 0 and (pack.size < _BIG or dead > pack.size * _DEAD_TOLERATED)
        target = self._records.open_pack() if copy or len(ks) != len(pack.ks) else pack
        if target is not pack:
            target.finish_filling()  # its number is drawn here, its file is made by the worker
        target.ks = ks
        if target.path is None or pack.path is None:
            raise LocalDisk("a pack that was written here is gone")
        job = self._job(pack, target, live if target is not pack else pack.records)
        try:
            finished = await trio.to_thread.run_sync(finish_pack, job, limiter=self._limiter)
        except BaseException:
            if target is not pack:
                self.discard(target)
            raise
        self._closed(pack, target, finished)
        if target is not pack:
            records.local.pop(pack.num, None)
        with trio.CancelScope(shield=True):  # its bytes are chosen: the next who wants them shall find the same
            await self._journal.commit()
        if target is not pack:
            # The journal knows the new place: the old file has served, but for programs that read deleted files.
            pack.drop_file(keep_readable=True)
        return target

    def _job(self, pack: OpenPack, target: OpenPack, live: Iterable[Written]) -> PackJob:
        files: dict[bytes, FileContent] = {}
        holders: dict[tuple[bytes, int], FileContent] = {}  # two contents of one file may know different keys
        rows = []
        for written in sorted(live, key=lambda w: w.ref.off):
            file = written.holder
            rows.append(
                LiveRecord(
                    file.fid,
                    written.ref.fkv,
                    written.chunk,
                    written.ref.off,
                    written.length,
                    written.plain_len,
                    written.ref.hash,
                )
            )
            if isinstance(file, FileContent):
                files[file.fid] = file
                holders[file.fid, written.ref.fkv] = file
        keys = []
        for (fid, fkv), holder in sorted(holders.items(), key=lambda item: item[0]):
            box = holder.lineage.box(fkv)
            keys.append(PackKey(fid, fkv, box.ks, box.box))
        wall_ms = self._wall_ms()
        hints = tuple(self._namer.hint(file, wall_ms) for _, file in sorted(files.items()))
        key = self._keyring().key(KeyLabel.PACK, target.ks)
        source, destination = pack.path, target.path
        if source is None or destination is None:
            raise LocalDisk("a pack that was written here is gone")
        return PackJob(self._vault, target.ks, key, source, destination, rows, tuple(keys), hints, self._faults)

    def _closed(self, pack: OpenPack, target: OpenPack, finished: Finished) -> None:
        target.where, target.id, target.size = WHERE_PACK, finished.id, finished.size
        target.mark_synced(finished.size)
        if target is not pack:
            for written in pack.records:
                new = finished.moves.get(written.ref.off)
                if new is not None:
                    pack.moved[written.ref.off] = (target, new)
        moves = tuple((pack.num, old, new) for old, new in finished.moves.items())
        closed = PackClosed(target.num, finished.id, finished.size, moves)
        self._cited.closed(closed)
        self._journal.append(closed)
        # What was in it is told by the index now; the list would keep every file of the pack in memory.
        pack.records, target.records = [], []
        self._adopt(target)

    def discard(self, pack: OpenPack) -> None:
        """Nothing in the pack is wanted any more; programs that have deleted files open may read on."""
        if self._records.filling is pack:
            self._records.filling = None
        if pack.live:
            pack.finish_filling()
        self._records.local.pop(pack.num, None)
        pack.records = []
        pack.drop_file(keep_readable=True)

    # ---- sending --------------------------------------------------------------------------------------------------

    async def _send(self, pack: OpenPack) -> None:
        if pack.path is None:
            raise LocalDisk("a pack that was written here is gone")
        await self._sender.put_until_confirmed(pack_name(pack.id), pack.path)
        self.sent_packs += 1
        self.sent_bytes += pack.size
        self._journal.append(PackConfirmed(pack.num))
        self._records.local.pop(pack.num, None)
        self._into_cache(pack)

    def _into_cache(self, pack: OpenPack) -> None:
        """From now on the file is a copy of what the store has."""
        if pack.path is None:
            return
        target = self._cache_dir / f"{pack.id.hex()}.pack"
        with local_disk("moving a pack to the cache"):
            pack.path.rename(target)
        pack.path = target

    async def store_manifests(self, manifests: list[Manifest]) -> list[Container]:
        """Put manifest records into a pack of their own and set their places. Raises LocalDisk, LocalDiskFull.

        Returns that pack, or nothing if there are no manifests.
        """
        if not manifests:
            return []
        whole = WholePack(self._vault, self._keyring())
        offsets = []
        for m in manifests:
            kind = RECORD_ROOT if m.level else RECORD_PAGE
            row = PackRecord(m.fid, kind, 0, m.ks, m.first_chunk, 0, len(m.record), m.plain_len, 0, m.hash)
            offsets.append(whole.add(row, m.record))
        await self.send_whole(whole)
        for m, off in zip(manifests, offsets, strict=True):
            m.loc = Loc(WHERE_PACK, whole.container.id, off)
        return [whole.container]

    async def send_whole(self, whole: WholePack) -> None:
        """Write a pack that was made as a whole; returns when the store has it. Raises as `WholePack.write`.

        Who lets a segment name it adopts it into the cache.
        """
        container = whole.container
        await trio.to_thread.run_sync(whole.write, self._cache_dir, limiter=self._limiter)
        path = container.path
        if path is None:
            raise LocalDisk("a pack that was written here is gone")
        self._held.add(path)
        try:
            await self._sender.put_until_confirmed(pack_name(container.id), path)
        finally:
            self._held.discard(path)
        self.sent_packs += 1
        self.sent_bytes += container.size
