"""Sealed records in and out: chunks into the pack being filled, records of any container opened again.

Sealing and opening happen inline on the trio thread: a thread hop costs four times what sealing 64 KiB costs. Only a
record that is not on this disk makes a caller wait. Opened chunks that were read in part are kept, sealed again
nowhere, in a bounded memory cache; a program that reads 4 KiB at a time opens each chunk once.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Final

from cryptfs.crypto.keys import FileKey, chunk_ctx
from cryptfs.crypto.seal import open_into, open_sealed, seal_into, sealed_len
from cryptfs.errors import AuthError, Damaged, HostileStore
from cryptfs.format.limits import MIB, PACK_SHARED_TARGET, PACK_SOLO_TARGET
from cryptfs.vault.containers import Container, Holder, OpenPack, Ref, Written
from cryptfs.vault.fetching import Fetching
from cryptfs.vault.journal import PackOpened
from cryptfs.vault.ranges import LEAST, RANGE_WHOLE, Reach, Want
from cryptfs.vault.readahead import Walk

__all__ = ["SHARED_PACK_TARGET", "SOLO_PACK_TARGET", "Records", "locate"]

SHARED_PACK_TARGET: Final = PACK_SHARED_TARGET
"""Bytes at which a pack of many files is closed."""
SOLO_PACK_TARGET: Final = PACK_SOLO_TARGET - MIB
"""Bytes at which a pack of one big file is closed; room is left for the index."""
_OPENED_MAX: Final = 32 << 20
"""Bytes of opened chunks kept in memory."""

_Place = tuple[bytes, int, bytes, int, bytes, int]

_ALL_OF_IT: Final = Reach(RANGE_WHOLE)
"""For who goes through whole files."""

_MOVES_MAX: Final = 64
"""Moves by holders followed in a row; they may say anything, also a circle."""


def locate(ref: Ref) -> tuple[Container, int]:
    """Container and offset where the record lies now, as its holder says."""
    container, off = _signed_for(ref)
    for _ in range(_MOVES_MAX):
        place = container.relocated(off) if container.relocated is not None else None
        if place is None:
            break
        container, off = place
    return container, off


def _signed_for(ref: Ref) -> tuple[Container, int]:
    """Container and offset that the content names, or will: whoever signed it chose what lies there."""
    container, off = ref.container, ref.off
    while container.moved:
        place = container.moved.get(off)
        if place is None:
            break
        container, off = place
    return container, off


class Records:
    """All records of one open vault. Trio thread only.

    `fetching` brings records to this disk; `pack_full` is told when a pack reached its target.
    """

    def __init__(
        self,
        vault: bytes,
        packs_dir: Path,
        *,
        key_set: Callable[[], bytes],
        announce: Callable[[PackOpened], None],
        fetching: Fetching,
        pack_full: Callable[[OpenPack], None],
    ) -> None:
        self._vault = vault
        self._packs_dir = packs_dir
        self._key_set = key_set
        self._announce = announce
        self._fetching = fetching
        self.walk = Walk()
        self._pack_full = pack_full
        self.next_pack = 0
        self.filling: OpenPack | None = None
        """The pack many files share."""
        self.local: dict[int, OpenPack] = {}
        """Packs by number that have no object in the store yet, filling or closed."""
        # By place as well as by hash: who signs a hash for another file shall not be shown this one's bytes there.
        self._opened: OrderedDict[_Place, bytes] = OrderedDict()
        self._opened_bytes = 0
        self._clock = 0
        self._doubted: set[tuple[bytes, int]] = set()
        """Places in whole packs that do not hold what was said to be moved there; the store has been asked."""
        self.sealed = 0
        """Records sealed since the start."""

    # ---- sealing --------------------------------------------------------------------------------------------------

    def seal_chunk(self, holder: Holder, index: int, key: tuple[int, FileKey], plain: bytes | bytearray | memoryview,
                   pack: OpenPack | None = None) -> Ref:  # fmt: skip
        """Seal chunk `index` of `holder` into `pack` (default: the shared one). Raises LocalDisk, LocalDiskFull."""
        if pack is None:
            pack = self.filling
            if pack is None:
                pack = self.filling = self.open_pack()
        fkv, fk = key
        plain_len = len(plain)
        length = sealed_len(plain_len)
        room = pack.reserve(length)
        seal_into(fk, chunk_ctx(self._vault, holder.fid, fkv, index, plain_len, 0), plain, room)
        digest = hashlib.sha256(room).digest()
        room.release()
        ref = Ref(pack, pack.take(length), fkv, digest)
        self.sealed += 1
        pack.records.append(Written(holder, index, ref, length, plain_len))
        if pack is self.filling and pack.size >= SHARED_PACK_TARGET:
            self.filling = None
            self._pack_full(pack)
        return ref

    def copy_record(self, holder: Holder, index: int, old: Ref, record: bytes | memoryview, plain_len: int) -> Ref:
        """Write the sealed record `old` once more, into the shared pack. Raises as `seal_chunk`."""
        pack = self.filling
        if pack is None:
            pack = self.filling = self.open_pack()
        room = pack.reserve(len(record))
        room[:] = record
        room.release()
        ref = Ref(pack, pack.take(len(record)), old.fkv, old.hash)
        pack.records.append(Written(holder, index, ref, len(record), plain_len))
        if pack.size >= SHARED_PACK_TARGET:
            self.filling = None
            self._pack_full(pack)
        return ref

    def open_pack(self) -> OpenPack:
        """Begin a new local pack. Raises LocalDisk, LocalDiskFull."""
        ks = self._key_set()
        num = self.next_pack
        pack = OpenPack(num, ks, self._packs_dir / f"{num:012d}.pack")
        self.next_pack = num + 1
        self.local[num] = pack
        self._announce(PackOpened(num, ks))
        return pack

    # ---- opening --------------------------------------------------------------------------------------------------

    def opened(self, fid: bytes, index: int, ref: Ref, plain_len: int) -> bytes | None:
        """The plaintext of a chunk if it is in memory."""
        place = _place(fid, index, ref)
        plain = self._opened.get(place)
        if plain is None or len(plain) != plain_len:
            return None
        self._opened.move_to_end(place)
        return plain

    def open_chunk_here(self, fid: bytes, index: int, ref: Ref, fk: FileKey, plain_len: int) -> bytes | None:
        """The plaintext of a chunk that is on this disk, kept in memory for the next reader; None: fetch it.

        Raises LocalDisk.
        """
        record = self.record_here(ref, plain_len)
        if record is None:
            return None
        try:
            plain = open_sealed(fk, chunk_ctx(self._vault, fid, ref.fkv, index, plain_len, 0), record)
        except AuthError:
            # A copy on this disk may have rotted since it was verified: now its hash decides, and then the store.
            locate(ref)[0].verified = False
            return None
        self.remember(fid, index, ref, plain)
        return plain

    async def fetch_chunk(
        self, fid: bytes, index: int, ref: Ref, fk: FileKey, plain_len: int, *, reach: Reach = LEAST
    ) -> bytes:
        """The plaintext of a chunk whose record is not here, or not as it should be; kept as above.

        Raises Damaged or AuthError for wrong bytes, StoreError, LocalDisk.
        """
        record = await self.fetch_record(ref, sealed_len(plain_len), reach)
        plain = open_sealed(fk, chunk_ctx(self._vault, fid, ref.fkv, index, plain_len, 0), record)
        self.remember(fid, index, ref, plain)
        return plain

    async def open_once(self, fid: bytes, index: int, ref: Ref, fk: FileKey, plain_len: int) -> bytes:
        """The plaintext of a chunk for a reader that comes by once: it is not kept. Raises as `fetch_chunk`."""
        ctx = chunk_ctx(self._vault, fid, ref.fkv, index, plain_len, 0)
        record = self.record_here(ref, plain_len)
        if record is not None and _is(record, ref.hash):
            try:
                return open_sealed(fk, ctx, record)
            except AuthError:
                locate(ref)[0].verified = False  # as above
        return open_sealed(fk, ctx, await self.fetch_record(ref, sealed_len(plain_len), _ALL_OF_IT))

    def open_chunk_into(self, fid: bytes, index: int, ref: Ref, fk: FileKey, out: memoryview) -> bool:
        """Open a chunk that is on this disk into `out`, exactly its plaintext length; False if it has to be fetched."""
        plain = self.opened(fid, index, ref, len(out))
        if plain is not None:
            out[:] = plain
            return True
        record = self.record_here(ref, len(out))
        if record is None:
            return False
        try:
            open_into(fk, chunk_ctx(self._vault, fid, ref.fkv, index, len(out), 0), record, out)
        except AuthError:
            return False  # the way that may wait looks closer
        return True

    def remember(self, fid: bytes, index: int, ref: Ref, plain: bytes) -> None:
        """Keep an opened chunk."""
        opened, place = self._opened, _place(fid, index, ref)
        if place in opened:
            return
        opened[place] = plain
        self._opened_bytes += len(plain)
        while self._opened_bytes > _OPENED_MAX:
            _, old = opened.popitem(last=False)
            self._opened_bytes -= len(old)

    def record_here(self, ref: Ref, plain_len: int) -> bytes | memoryview | None:
        """The sealed record if it is here, where it was signed for; None: ask `fetch_record`. Raises LocalDisk."""
        container, off = (ref.container, ref.off) if not ref.container.moved else _signed_for(ref)
        record = container.read(off, sealed_len(plain_len))
        if record is None:
            return None
        self._clock += 1
        container.last_used = self._clock
        if container.verified:
            return record
        return record if _is(record, ref.hash) else None

    async def fetch_record(self, ref: Ref, length: int, reach: Reach = LEAST) -> bytes | memoryview:
        """The sealed record of `length` bytes, from the store. Raises Damaged, StoreError, LocalDisk.

        Whoever holds a container may say that its records were moved, and nobody vouches for that: what lies there
        counts only with the hash that was signed for, and otherwise what lies where it was.
        """
        try:
            return await self._fetch_at(*locate(ref), ref, length, reach)
        except HostileStore as err:
            if locate(ref) == _signed_for(ref):
                raise
            try:
                return await self._fetch_at(*_signed_for(ref), ref, length, reach)
            except HostileStore:
                raise err from None

    async def _fetch_at(
        self, container: Container, off: int, ref: Ref, length: int, reach: Reach
    ) -> bytes | memoryview:
        record = container.read(off, length)
        if record is not None and _is(record, ref.hash):
            return record
        if not container.id or self.local.get(container.num) is container:
            raise Damaged("a part of a file that waits to be sent is damaged on this machine")
        whole = container.verified and record is not None
        if whole and (container.id, off) in self._doubted:
            raise Damaged("a part of a file is not where it is said to be")
        try:
            record = await self._fetching.record(container, Want(off, length, ref.hash), reach)
        except Damaged:
            if whole:  # the container is what its name says: asking the store once more brings the same
                self._doubted.add((container.id, off))
            raise
        if whole and container.verified:
            container.drop_file()  # the copy here has rotted
        return record

    def is_here(self, ref: Ref, length: int) -> bool:
        """Whether the record is on this disk, and is the one that was signed for. Raises LocalDisk."""
        container, off = locate(ref)
        record = container.read(off, length)
        return record is not None and _is(record, ref.hash)

    def fetch_ahead(self, ref: Ref, length: int) -> bool:
        """Begin to fetch `length` bytes from that record on, back to back; False if too much is under way already."""
        container, off = locate(ref)
        if not container.id or self.local.get(container.num) is container:
            return True
        return self._fetching.ahead(container, off, off + length)


def _place(fid: bytes, index: int, ref: Ref) -> _Place:
    """What an opened chunk is found by: also its place, for a pack is trusted as a whole.

    Whoever may write can name one record's hash and another record's place; what lies there is for that content alone.
    """
    container, off = locate(ref)
    return fid, index, ref.hash, container.num, container.id, off


def _is(record: bytes | memoryview, digest: bytes) -> bool:
    """Whether this is the record that was signed for; asked every time, for the file may have been replaced since."""
    return hashlib.sha256(record).digest() == digest
