"""The bytes of one file: written, cut and extended in chunks, shared by everybody who has it open.

A chunk is in one of three states: *dirty* (plaintext in memory, not sealed yet), *sealed* (a `Ref` in the chunk map),
or a *hole*. A write that covers a whole chunk is sealed at once, straight from the kernel's buffer into the pack; a
smaller one makes the chunk dirty. `hand_over_now` seals what is dirty and submits one `Put`; then the change is as
durable as any other.

Owner: the trio thread. Between two awaits nothing else runs; after an await everything may have changed, so the
functions below gather first (`_load`, `_plain`, awaiting) and then change without awaiting.
"""

import errno
import hashlib
from typing import Final

from cryptfs.errors import FsError
from cryptfs.format.content import CHUNK_LOG2S, MAX_CHUNKS, Content
from cryptfs.format.operation import provisional_op_id
from cryptfs.vault.chunkmap import Delta
from cryptfs.vault.containers import OpenPack, Ref
from cryptfs.vault.reading import ReadContent
from cryptfs.vault.records import SOLO_PACK_TARGET
from cryptfs.vault.stored import Host
from cryptfs.vault.writelog import WriteLog

__all__ = ["FILE_SIZE_MAX", "FileContent"]

FILE_SIZE_MAX: Final = 1 << 44
"""16 TiB: 2^22 chunks of 2^22 bytes (docs/format.md, "File contents")."""
_SOLO_FROM: Final = 8 << 20
"""Bytes from which a file fills packs of its own, so that deleting it frees whole objects."""
_DIRTY_MAX: Final = 8 << 20
"""Bytes of one file in memory, or sealed without being submitted, before it is handed over by itself."""
_RECHUNK_MAX: Final = 256 << 20
"""Bytes that may have to be rewritten, all in memory, to give a file larger chunks."""
_DIGEST_MAX: Final = 1 << 16
"""Bytes up to which the digest of the whole plaintext is computed, to recognise equal files made at the same time."""


class FileContent(ReadContent):
    """One inode's bytes. Made by `Vault.open_file`; `opens` and `pending` keep it alive.

    `size` and `mtime_ns` include what is not handed over yet.
    """

    __slots__ = (
        "_dirty_since", "_log", "_solo", "_unsubmitted", "_writes", "changed", "cut_since", "detached", "digest",
        "logged", "mtime_ns", "opens", "pending", "vanishing",
    )  # fmt: skip

    def __init__(self, host: Host, st: int, size: int, mtime_ns: int, version: bytes = b"") -> None:
        super().__init__(host, st, size, version)
        self.mtime_ns = mtime_ns
        self.opens = 0
        self.pending = 0
        """Submitted puts that no segment carries yet."""
        self.detached = False
        self.vanishing = False
        """Made and removed before anybody else could see it: who has it open reads on, but nothing of it is sent."""
        self.changed = False
        """Something was written, cut or extended since the last hand-over."""
        self.cut_since = -1
        self.digest = b""
        """Of the plaintext as last handed over, empty if unknown."""
        self._dirty_since = 0
        self._writes = 0  # grows with every change; who waited compares it
        self._unsubmitted: dict[int, Ref] = {}
        self._log: WriteLog | None = None
        self.logged = False
        """The journal holds changes of this file that no hand-over has told."""
        self._solo: OpenPack | None = None

    @property
    def dirty(self) -> bool:
        """Whether a hand-over would submit something."""
        return self.changed

    # ---- writing --------------------------------------------------------------------------------------------------

    async def write(self, offset: int, data: bytes | memoryview, now_ns: int) -> None:
        """Put `data` at `offset`, extending the file as needed.

        Raises FsError(EFBIG), LocalDiskFull, Quota before any change, and what `read` raises when a chunk that is
        changed in part has to be fetched.
        """
        if not data:
            return
        end = offset + len(data)
        if end > FILE_SIZE_MAX:
            raise FsError(errno.EFBIG)
        self._host.check_space()
        await self._gather(offset, end)
        self._write_now(offset, memoryview(data), now_ns)
        if self._host_pressure():
            self.hand_over_now()
        self._host.relieve()

    async def _gather(self, offset: int, end: int) -> None:
        """Have in memory what a write of offset..end changes only in part, and the file's keys.

        Nothing awaits after the last check.
        """
        while True:
            await self.load_keys()
            if end > MAX_CHUNKS << self.chunk_log2:
                await self._rechunk(end)
            index = self._needed(offset, end)
            if index < 0:
                return
            if self._take_in(index):
                continue
            plain = await self._plain(index)
            if index not in self._dirty and not self.is_hole(index):  # it may have been cut off meanwhile
                self._make_dirty(index, plain)

    def _take_in(self, index: int) -> bool:
        """Open a chunk that is on this disk, to be changed; False if it has to be fetched.

        Nothing is kept of it beside: what was read is of no use any more once it is written over.
        """
        buffer = bytearray(self.plain_len(index))
        with memoryview(buffer) as view:
            if not self._open_into(index, view):
                return False
        self._dirty[index] = buffer
        self._host.dirty_bytes += len(buffer)
        return True

    def _needed(self, offset: int, end: int) -> int:
        """A chunk of which something old survives and which is not in memory; -1 if there is none."""
        log2 = self.chunk_log2
        candidates = {offset >> log2, max(offset, end - 1) >> log2}
        if end > self.size and self.size & ((1 << log2) - 1):
            candidates.add(self.size >> log2)
        for index in candidates:
            start = index << log2
            length = self.plain_len(index)
            covered = offset <= start and end >= start + length
            if length > 0 and not covered and index not in self._dirty and not self.is_hole(index):
                return index
        return -1

    def _write_now(self, offset: int, data: memoryview, now_ns: int) -> None:
        """Chunk by chunk, so that a full disk may end it anywhere: what is there then is whole and is handed over."""
        end = offset + len(data)
        log2, chunk = self.chunk_log2, 1 << self.chunk_log2
        self._touch(now_ns)
        if offset > self.size:
            self._grow(offset)
        at = offset
        while at < end:
            index = at >> log2
            start = index << log2
            stop = min(end, start + chunk)
            piece = data[at - offset : stop - offset]
            if stop - at == chunk:
                self._changes().abandon()
                self._seal(index, piece)
                self.size = max(self.size, stop)
            else:
                if stop > self.size:
                    self._grow(stop)
                buffer = self._dirty.get(index)
                if buffer is None:
                    buffer = self._make_dirty(index, None)
                buffer[at - start : stop - start] = piece
                self._changes().note(at, stop - at)
            at = stop

    def _make_dirty(self, index: int, plain: bytes | bytearray | None) -> bytearray:
        """The chunk as a buffer of its present length; `plain` None: nothing old survives, or it is a hole."""
        buffer = bytearray(self.plain_len(index) if plain is None else plain)
        self._dirty[index] = buffer
        self._host.dirty_bytes += len(buffer)
        return buffer

    def _seal(self, index: int, plain: bytes | bytearray | memoryview) -> None:
        ref = self._host.records.seal_chunk(self, index, self.lineage.write_key(), plain, self._pack())
        dropped = self._dirty.pop(index, None)
        if dropped is not None:
            self._host.dirty_bytes -= len(dropped)
        self.map.put(index, ref)
        self._unsubmitted[index] = ref

    def _pack(self) -> OpenPack | None:
        """The pack this file writes to: its own once it is big, None for the shared one."""
        if self.size < _SOLO_FROM:
            return None
        pack = self._solo
        if pack is not None and (pack.size >= SOLO_PACK_TARGET or not pack.live):
            if pack.live:
                self._host.pack_full(pack)
            pack = None
        if pack is None:
            pack = self._solo = self._host.records.open_pack()
        return pack

    def release_pack(self) -> OpenPack | None:
        """Give up the pack of its own, if it has one being filled: the sealer closes it."""
        pack, self._solo = self._solo, None
        return pack if pack is not None and pack.live else None

    def _touch(self, now_ns: int) -> None:
        self._writes += 1
        # Never the same again: the kernel compares size and mtime to decide whether its pages are still good. A time in
        # the future that a program has set is no floor.
        self.mtime_ns = now_ns if now_ns != self.mtime_ns else now_ns + 1
        if not self.changed:
            self.changed = True
            self._dirty_since = now_ns

    def unsubmitted_packs(self) -> set[int]:
        """Numbers of the local packs with records that no operation names yet."""
        return {ref.container.num for ref in self._unsubmitted.values()}

    @property
    def dirty_since(self) -> int:
        """When the oldest change that is not handed over was made, ns."""
        return self._dirty_since

    def _host_pressure(self) -> bool:
        return (
            len(self._unsubmitted) << self.chunk_log2 >= _DIRTY_MAX or len(self._dirty) << self.chunk_log2 >= _DIRTY_MAX
        )

    # ---- size -----------------------------------------------------------------------------------------------------

    async def truncate(self, size: int, now_ns: int) -> None:
        """Cut or extend to `size` bytes; extending costs nothing however far. Raises as `write`."""
        if size > FILE_SIZE_MAX:
            raise FsError(errno.EFBIG)
        grows = None
        while grows is not (size > self.size):  # again if somebody moved the end meanwhile
            grows = size > self.size
            if grows:
                self._host.check_space()
                await self._gather(size, size)
            elif size < self.size and size & ((1 << self.chunk_log2) - 1):
                await self._gather(size, size + 1)
            else:
                await self.load_keys()
        self._changes().abandon()
        if grows:
            self._grow(size)
        elif size < self.size:
            self._cut(size)
        self._touch(now_ns)

    def _grow(self, size: int) -> None:
        """Extend with zeros. The partial last chunk changes its length, so it is rewritten."""
        log2 = self.chunk_log2
        tail = self.size >> log2
        partial = self.size & ((1 << log2) - 1)
        if partial:
            buffer = self._dirty.get(tail)
            if buffer is None and not self.is_hole(tail):
                buffer = self._make_dirty(tail, None)  # covered by the write to come, or _gather had made it dirty
            self.size = size
            if buffer is not None:
                more = self.plain_len(tail) - len(buffer)
                buffer.extend(bytes(more))
                self._host.dirty_bytes += more
        self.size = size

    def _cut(self, size: int) -> None:
        log2 = self.chunk_log2
        keep = size >> log2
        partial = size & ((1 << log2) - 1)
        buffer = self._dirty.get(keep) if partial else None
        if buffer is not None:
            self._host.dirty_bytes -= len(buffer) - partial
            del buffer[partial:]
        first_gone = keep + (1 if partial else 0)
        for index in [i for i in self._dirty if i >= first_gone]:
            self._host.dirty_bytes -= len(self._dirty.pop(index))
        for index in [i for i in self._unsubmitted if i >= first_gone]:
            del self._unsubmitted[index]
        self.map.cut(first_gone)
        self.cut_since = first_gone if self.cut_since < 0 else min(self.cut_since, first_gone)
        self.size = size

    async def _rechunk(self, size: int) -> None:
        """Take chunks large enough for `size` bytes; what is there is read and becomes dirty under the new size.

        Raises FsError(EFBIG) when too much would have to be rewritten at once.
        """
        old_log2 = self.chunk_log2
        new_log2 = next(log2 for log2 in CHUNK_LOG2S if size <= (MAX_CHUNKS << log2) // 4 or log2 == CHUNK_LOG2S[-1])
        await self.load_all()
        pieces: dict[int, bytearray] = {}
        todo = self.present_chunks()
        if len(todo) << old_log2 > _RECHUNK_MAX:
            raise FsError(errno.EFBIG, "too large a file to be given larger chunks")
        writes = self._writes
        for index in todo:
            plain = await self._plain(index)
            if writes != self._writes:
                return  # somebody wrote meanwhile; the caller looks again
            start = index << old_log2
            target = start >> new_log2
            buffer = pieces.setdefault(target, bytearray(min(1 << new_log2, self.size - (target << new_log2))))
            at = start - (target << new_log2)
            buffer[at : at + len(plain)] = plain
        self.forget()
        self._unsubmitted.clear()
        self.map.cut(0)
        self.cut_since = 0
        self.chunk_log2 = new_log2
        self._changes().abandon()
        self._dirty = pieces
        self._host.dirty_bytes += sum(map(len, pieces.values()))
        self._writes += 1

    # ---- handing over ---------------------------------------------------------------------------------------------

    def persist(self) -> None:
        """Have everything written so far in the journal's next frame; for fsync. Few bytes go there as they are.

        Raises LocalDisk, LocalDiskFull.
        """
        if not self.changed or self.detached:
            return
        log = self._log
        if log is None or log.broken:
            self.hand_over_now()
            return
        if log.pieces:
            pieces = tuple((offset, self._bytes_at(offset, length)) for offset, length in log.pieces.items())
            self._host.log_write(self, pieces, self.size, self.mtime_ns)
            log.put_down()
            self.logged = True

    def _changes(self) -> WriteLog:
        if self._log is None:
            self._log = WriteLog()
        return self._log

    def _bytes_at(self, offset: int, length: int) -> bytes:
        index = offset >> self.chunk_log2
        at = offset - (index << self.chunk_log2)
        return bytes(memoryview(self._dirty[index])[at : at + length])

    def hand_over_now(self) -> None:
        """Seal what is dirty and submit one Put; nothing if nothing changed. No awaiting, so callers rely on atomicity.

        Raises LocalDisk, LocalDiskFull.
        """
        if not self.changed:
            return
        self.digest = self._whole_digest()
        for index in sorted(self._dirty):
            self._seal(index, self._dirty[index])
        self._dirty = {}  # one that was in use keeps its room
        self._log = None
        if self.detached:
            self._unsubmitted.clear()
            self.cut_since, self.changed = -1, False
            self._unlog()
            return
        self.lineage.write_key()  # also an empty or all-hole content has a lineage and a key
        keys = self.lineage.to_keep({ref.fkv for ref in self._unsubmitted.values()})
        delta = Delta(
            self.origin, self.fid, self.size, self.chunk_log2, self.digest, keys, self.cut_since,
            tuple((i, r.container.num, r.off, r.fkv, r.hash) for i, r in self._unsubmitted.items()),
        )  # fmt: skip
        self.base_ver = self._host.submit_put(self, delta, self.base_ver, self.mtime_ns)
        self._unsubmitted, self.cut_since = {}, -1
        self.changed = self.logged = False
        self.pending += 1

    def _unlog(self) -> None:
        """What no hand-over will tell must not come back after a crash, should others bring the file back."""
        if self.logged:
            self._host.drop_writes(self)
            self.logged = False

    def replace_records(self, copies: dict[int, Ref], *, whole: bool) -> None:
        """Take copies of the same records elsewhere, and hand that over. `whole`: nothing below counts any more."""
        if whole:
            self.map.cut(0)
            self._unsubmitted.clear()
            self.cut_since = 0
        for index, ref in copies.items():
            self.map.put(index, ref)
            self._unsubmitted[index] = ref
        self.changed = True
        self.hand_over_now()

    def _whole_digest(self) -> bytes:
        if self.size > _DIGEST_MAX or self.size == 0:
            return b""
        plain = self._dirty.get(0)
        return hashlib.sha256(plain).digest() if plain is not None and len(plain) == self.size else b""

    def replay(self, delta: Delta, refs: dict[int, Ref], k: int) -> None:
        """Take in the hand-over that operation `k` made, found in the journal. `refs`: chunk index to record.

        What it was based on is here: the hand-over before it, or the sealed version taken in by `start_from`.
        """
        self.lineage.learn_keys(delta.fid, delta.keys)
        if delta.cut >= 0:
            self.map.cut(delta.cut)
        self.size, self.chunk_log2, self.digest = delta.size, delta.chunk_log2, delta.digest
        for index, ref in refs.items():
            self.map.put(index, ref)
        self.base_ver = (provisional_op_id(k),)
        self.pending += 1

    def resume(self, whole: Content, k: int) -> None:
        """Take in the content that operation `k` carries, as it was sealed once, in a segment that does not count."""
        self.take_version(whole)
        self.digest = whole.digest
        self.base_ver = (provisional_op_id(k),)
        self.pending += 1

    def wants(self, index: int, ref: Ref) -> bool:
        """Whether that record is still part of what is to be sealed, or open here."""
        return not self.vanishing and self.map.wants(index, ref)

    def reattach(self) -> None:
        """The file has a name again: what was written while it had none is a change like any other."""
        if not self.detached:
            return
        self.detached = False
        if self._dirty or not self.map.top.empty or self.size != self._host.present_size(self.st):
            self._unsubmitted = dict(self.map.top.chunks)
            self.cut_since = self.map.top.cut if self.map.top.cuts else -1
            self.changed = True

    def superseded(self, *, same_bytes: bool = False) -> None:
        """Somebody else made a newer version: start from it, unless changes of our own are under way.

        Those keep the version they started from; how the two come together is for the merge rules to say.
        `same_bytes`: it is the same version in other records, so what the kernel has of it stays good.
        """
        if self.changed or self.pending > 0 or self.map.sealing is not None:
            return
        self.forget()  # chunks of the old version, loaded by somebody who is about to write
        self.start_anew()
        self._unsubmitted.clear()
        self._writes += 1
        if not same_bytes:
            self.version += 1

    def forget(self) -> None:
        """Drop unsealed plaintext: the file is gone."""
        self._unlog()
        for buffer in self._dirty.values():
            self._host.dirty_bytes -= len(buffer)
        self._dirty.clear()
