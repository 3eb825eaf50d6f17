"""The bytes of one file as they are now: chunks that were changed in memory, sealed ones below, holes as zeros.

A chunk that is not on this disk is fetched; whoever waits for it looks again afterwards, for the file may have been
written, cut, or replaced by somebody else's version meanwhile.
"""

import contextlib

from cryptfs.vault.chunkmap import PageMissing
from cryptfs.vault.containers import Ref
from cryptfs.vault.ranges import Reach
from cryptfs.vault.readahead import SMALL_FILE, ReadAhead
from cryptfs.vault.records import locate
from cryptfs.vault.stored import Host, StoredContent

__all__ = ["ReadContent"]


class ReadContent(StoredContent):
    """A content that can be read. `version` changes when it changed in another way than through this object."""

    __slots__ = ("_ahead", "_dirty", "version")

    def __init__(self, host: Host, st: int, size: int, version: bytes = b"") -> None:
        super().__init__(host, st, size, version)
        self.version = 0
        self._ahead: ReadAhead | None = None
        self._dirty: dict[int, bytearray] = {}
        """Plaintext of chunks that are changed, or about to be; each of the length that chunk has now."""

    async def read(self, offset: int, length: int) -> bytes | memoryview:
        """Up to `length` bytes from `offset`; fewer at the end. The view is valid until the caller's next await.

        Raises Damaged, AuthError, StoreError, LocalDisk.
        """
        here = self.read_here(offset, length)
        if here is not None:
            return here
        shape = self._shape
        end = min(offset + length, self.size)
        first = offset >> self.chunk_log2
        if (end - 1) >> self.chunk_log2 == first:
            plain = await self._plain(first)
            if self._shape != shape:
                return await self.read(offset, length)
            at = offset - (first << self.chunk_log2)
            return memoryview(plain)[at : at + end - offset]
        return await self._read_across(offset, length)

    def read_here(self, offset: int, length: int) -> bytes | memoryview | None:
        """As `read` if all of it is on this disk, else None; the view is valid until the caller's next await."""
        end = min(offset + length, self.size)
        if offset >= end:
            return b""
        if not self._loaded:
            self._load()
        log2 = self.chunk_log2
        first, last = offset >> log2, (end - 1) >> log2
        ahead = self._ahead
        if ahead is not None and last >= ahead.due:
            ahead.go_on(last)
        if first == last:
            plain = self._plain_here(first)
            if plain is None:
                return None
            at = offset - (first << log2)
            return memoryview(plain)[at : at + end - offset]
        buffer = memoryview(bytearray(end - offset))
        for index in range(first, last + 1):
            if not self._copy_here(index, offset, end, buffer):
                return None
        return buffer

    def _copy_here(self, index: int, offset: int, end: int, buffer: memoryview) -> bool:
        """Bytes of one chunk into `buffer`, which is to hold offset..end; False if the chunk has to be fetched."""
        start = index << self.chunk_log2
        begin, stop = max(offset, start), min(end, start + (1 << self.chunk_log2))
        piece = buffer[begin - offset : stop - offset]
        if index not in self._dirty and stop - begin == self.plain_len(index) and self._open_into(index, piece):
            return True
        plain = self._plain_here(index)
        if plain is None:
            return False
        old = memoryview(plain)[begin - start : stop - start]
        piece[: len(old)] = old  # less than a piece if the file was cut while the reader waited
        return True

    async def _read_across(self, offset: int, length: int) -> bytes | memoryview:
        shape, end = self._shape, min(offset + length, self.size)
        log2 = self.chunk_log2
        buffer = memoryview(bytearray(end - offset))
        for index in range(offset >> log2, ((end - 1) >> log2) + 1):
            if self._copy_here(index, offset, end, buffer):
                continue
            plain = await self._plain(index)
            if self._shape != shape:
                return await self.read(offset, length)
            start = index << log2
            begin, stop = max(offset, start), min(end, start + (1 << log2))
            old = memoryview(plain)[begin - start : stop - start]
            buffer[begin - offset : begin - offset + len(old)] = old
        return buffer[: max(0, self.size - offset)]

    @property
    def _shape(self) -> tuple[int, int]:
        """What has to be the same after an await for offsets into chunks to mean the same."""
        return self.version, self.chunk_log2

    def _open_into(self, index: int, out: memoryview) -> bool:
        try:
            ref = self.map.get(index)
        except PageMissing:
            return False
        if ref is None:
            return True  # a hole: the buffer is zeros already
        if self.lacks_key(ref):
            return False
        return self._host.records.open_chunk_into(self.fid, index, ref, self.lineage.key(ref.fkv), out)

    def _plain_here(self, index: int) -> bytes | bytearray | None:
        """The plaintext of a chunk if that needs no waiting."""
        dirty = self._dirty.get(index)
        if dirty is not None:
            return dirty
        try:
            ref = self.map.get(index)
        except PageMissing:
            return None
        plain_len = self.plain_len(index)
        if ref is None:
            return bytes(max(0, plain_len))  # negative: cut off while the caller waited
        lineage, records = self.lineage, self._host.records
        plain = records.opened(lineage.fid, index, ref, plain_len)
        if plain is None and not self.lacks_key(ref):
            plain = records.open_chunk_here(lineage.fid, index, ref, lineage.key(ref.fkv), plain_len)
        return plain

    async def _plain(self, index: int) -> bytes | bytearray:
        """The plaintext of a chunk. While this waits the chunk may change; the newest state is returned."""
        while True:
            here = self._plain_here(index)
            if here is not None:
                return here
            try:
                ref = self.map.get(index)
            except PageMissing as missing:
                await self.load_page(self.map.base, missing.page)
                continue
            if ref is None:
                continue
            if self.lacks_key(ref):
                await self.load_keys()
                continue
            plain_len, key = self.plain_len(index), self.lineage.key(ref.fkv)
            plain = await self._host.records.fetch_chunk(self.fid, index, ref, key, plain_len, reach=self._reach(index))
            if index not in self._dirty and self._same(index, ref):
                return plain

    def _reach(self, index: int) -> Reach:
        """How much to fetch along with a chunk that is not here."""
        if self.size <= SMALL_FILE:
            return self._host.records.walk.missed()
        if self._ahead is None:
            self._ahead = ReadAhead(self)
        return self._ahead.missed(index)

    def fetch_run(self, index: int, limit: int) -> int:
        """Begin to fetch the chunks from `index` on that lie back to back, below chunk `limit`.

        Returns how many that is, those that need no fetching included; 0 if nothing more can be begun now.
        """
        try:
            ref = self.map.get(index)
            if ref is None or index in self._dirty:
                return 1
            container, off = locate(ref)
            length, end = 0, index
            while end < limit:
                following = self.map.get(end)
                if following is None or locate(following) != (container, off + length):
                    break
                length += self.sealed_len(end)
                end += 1
        except PageMissing:
            return 0
        return end - index if self._host.records.fetch_ahead(ref, length) else 0

    def _same(self, index: int, ref: Ref) -> bool:
        try:
            return self.map.get(index) is ref
        except PageMissing:
            return False

    @property
    def dirty_len(self) -> int:
        """Bytes of plaintext in memory that are not sealed."""
        return sum(map(len, self._dirty.values()))

    def present_chunks(self) -> list[int]:
        """Chunks that are not holes, ascending, as far as pages are loaded."""
        count = (self.size + (1 << self.chunk_log2) - 1) >> self.chunk_log2
        indices = {i for i in self._dirty if i < count}
        with contextlib.suppress(PageMissing):
            indices.update(i for i, _ in self.map.present(count))
        return sorted(indices)

    def allocated(self) -> int:
        """Bytes of chunks that are present, for st_blocks."""
        self.ensure_loaded()
        return sum(map(self.plain_len, self.present_chunks()))
