"""The precious local log: changes accepted from programs that the store does not have yet.

An append-only file of sealed frames. One `commit` writes one frame and makes it durable with one `fdatasync`, however
many programs wait for it. Small chunk records ride in the frame itself, so an `fsync` of a few kilobytes costs one
flush of the disk, not one for the pack file and one for the journal.

    file  = "CFSJRNL2" ‖ u64 generation ‖ frame*          name: journal-<generation, 16 digits>
    frame = "CFSF" ‖ u32 len ‖ u64 number ‖ SEAL(K_journal, ctx(V, generation, number), entries)        zeros follow

The frame number in the context fixes order and place: a frame cannot be moved, doubled, or taken from an older file. A
torn last frame does not open and is cut off; it was never acknowledged. A frame that does not open although a later one
does is damage: it is skipped and reported, and the file is kept under another name. Each frame begins with a mark, so
that not even a damaged length hides those that follow.

Compaction writes what is still needed into the next generation, makes it durable, and only then deletes the old file.
"""

import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec
import trio

from cryptfs.crypto.keys import PurposeKey, local_ctx
from cryptfs.crypto.seal import open_sealed, seal
from cryptfs.errors import HostileStore, LocalDisk
from cryptfs.faults import Faults
from cryptfs.format.operation import Op, Ver
from cryptfs.format.segment_body import PackRef
from cryptfs.vault.disk import local_disk, sync_directory

__all__ = [
    "Base", "Dropped", "Entry", "Journal", "Names", "Opener", "Owed", "PackClosed", "PackConfirmed", "PackOpened",
    "Record", "Recovered", "Sealed", "SegmentConfirmed", "Submitted", "Wrote",
]  # fmt: skip

_MAGIC: Final = b"CFSJRNL2"
_FRAME_HEAD: Final = struct.Struct(">4sIQ")
_MARK: Final = b"CFSF"
_GROW: Final = 1 << 20
"""Bytes by which the file is extended ahead of the frames, so that most flushes change no file size."""


class _Entry(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """Base of journal entries."""


class Base(_Entry, frozen=True, tag=0):
    """First entry of a generation: where the device's log stands.

    `next_k` next local operation number; `next_seq`, `next_n`, `prev` (32 bytes), `stamp` continue the log; `next_pack`
    is the next local pack number.
    """

    vault: bytes
    log: bytes
    next_k: int
    next_seq: int
    next_n: int
    prev: bytes
    stamp: int
    next_pack: int


class Submitted(_Entry, frozen=True, tag=1):
    """Operation `k`, applied here at `now_ns`. `delta` describes pending content (`vault/chunkmap.py`), else empty.

    Without it, a content of the operation is whole: it was sealed once, in a segment that does not count.
    """

    k: int
    now_ns: int
    op: Op
    delta: bytes


class Record(_Entry, frozen=True, tag=2):
    """Bytes that belong at `off` of local pack `num`, kept here until that file is durable itself."""

    num: int
    off: int
    data: bytes


class PackOpened(_Entry, frozen=True, tag=3):
    """Local pack `num` began, under key set `ks`."""

    num: int
    ks: bytes


class PackClosed(_Entry, frozen=True, tag=4):
    """Local pack `num` became the object `id` of `size` bytes. `moves`: (source pack, old offset, new offset)."""

    num: int
    id: bytes
    size: int
    moves: tuple[tuple[int, int, int], ...]


class PackConfirmed(_Entry, frozen=True, tag=5):
    """The store proved to hold the pack `num`."""

    num: int


class Sealed(_Entry, frozen=True, tag=6):
    """Segment `seq` has these bytes for ever; `ids`: (k, n) of every operation up to and including `upto_k`."""

    seq: int
    name: str
    data: bytes
    upto_k: int
    ids: tuple[tuple[int, int], ...]


class SegmentConfirmed(_Entry, frozen=True, tag=7):
    """The store proved to hold segment `seq`."""

    seq: int


class Names(_Entry, frozen=True, tag=8):
    """(k, n) of operations sealed earlier that pending ones may still refer to."""

    ids: tuple[tuple[int, int], ...]


class Wrote(_Entry, frozen=True, tag=9):
    """Bytes written to the inode `ino` and not handed over yet: (offset, bytes) pieces; `size`, `mtime_ns` of the file.

    `base` is the version they were written to. A later hand-over with the same `st` takes them in.
    """

    st: int
    ino: bytes
    size: int
    mtime_ns: int
    pieces: tuple[tuple[int, bytes], ...]
    base: Ver


class Dropped(_Entry, frozen=True, tag=12):
    """What `Wrote` said of node `st` counts no more: the file was removed here before that was handed over."""

    st: int


class Opener(_Entry, frozen=True, tag=10):
    """The statement `data`, an object called `name`, opens this device's next log; it may be published already."""

    name: str
    data: bytes


class Owed(_Entry, frozen=True, tag=11):
    """Packs that pending operations name, and no segment that counts: the next one has to."""

    packs: tuple[PackRef, ...]


Entry = (
    Base | Submitted | Record | PackOpened | PackClosed | PackConfirmed | Sealed | SegmentConfirmed | Names | Wrote
    | Dropped | Opener | Owed
)  # fmt: skip

_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(tuple[Entry, ...])


@dataclass(slots=True)
class Recovered:
    """What a journal file said: entries in order, and how many frames before the last good one were unreadable.

    The first entry is a Base unless there is damage.
    """

    generation: int
    entries: list[Entry] = field(default_factory=list)
    damaged_frames: int = 0


class Journal:
    """The open journal of one vault. Owned by the trio thread; the file is touched by one worker thread at a time.

    `append` never blocks and never fails; `commit` makes everything appended before durable, or raises and keeps it
    for the next commit. After a failed flush the file is never trusted again: the next commit starts a new generation.
    """

    def __init__(self, directory: Path, key: PurposeKey, vault: bytes, faults: Faults) -> None:
        self._directory = directory
        self._key = key
        self._vault = vault
        self._faults = faults
        self._generation = 0
        self._frame = 0
        self._fd = -1
        self._end = 0  # offset of the next frame
        self._allocated = 0
        self._buffer: list[Entry] = []
        self._appended = 0  # entries ever appended / made durable
        self._durable = 0
        self._lock = trio.Lock()
        self._poisoned = False
        self._evidence: set[int] = set()  # generations that are damaged: kept under another name
        self._limiter = trio.CapacityLimiter(1)
        self.before_write: Callable[[bool], Callable[[], list[Record]]] = lambda _: list
        """Called on the trio thread when a frame is gathered; True: for a new generation, which keeps no old records.
        What it returns runs in the worker thread before the frame is written, makes pack files durable there, and
        returns the records that shall ride in the frame instead."""
        self.snapshot: Callable[[], list[Entry]] = list
        """Returns the entries a new generation must begin with, on the trio thread."""

    # ---- starting -------------------------------------------------------------------------------------------------

    def recover(self) -> Recovered | None:
        """Read the newest generation that says anything; None if there is no journal. Raises LocalDisk."""
        with local_disk("reading the journal"):
            generations = sorted(_generations(self._directory), reverse=True)
            self._generation = max(generations, default=0)
            for generation in generations:
                found = self._read(generation)
                if found is not None:
                    return found
            # An empty file is what a first start leaves that was killed: nothing had been accepted yet.
            unreadable = [one for one in generations if self._path(one).stat().st_size > 0]
        self._evidence.update(unreadable)
        return Recovered(unreadable[0], damaged_frames=1) if unreadable else None

    def start(self, entries: list[Entry]) -> None:
        """Begin a new generation with `entries` (a Base first) and delete older files. Blocking; raises LocalDisk.

        The entries tell all that was appended before, too.
        """
        self._write_generation(entries, self.before_write(True))
        self._buffer.clear()
        self._durable = self._appended

    def _read(self, generation: int) -> Recovered | None:
        """What the file says; None if no frame opens: the machine stopped before the first was durable."""
        data = self._path(generation).read_bytes()
        found = Recovered(generation)
        expected = 0
        at = data.find(_MARK)
        while at >= 0:
            frame = self._open_frame(data, at, generation)
            if frame is None or frame[0] < expected:
                at = data.find(_MARK, at + 1)
                continue
            number, entries, end = frame
            found.entries.extend(entries)
            found.damaged_frames += number - expected  # a good frame follows: this is damage, not a torn tail
            expected = number + 1
            at = data.find(_MARK, end)
        if found.damaged_frames:
            self._evidence.add(generation)
        return found if expected else None

    def _open_frame(self, data: bytes, at: int, generation: int) -> tuple[int, tuple[Entry, ...], int] | None:
        """Number, entries and end of the frame at `at`; None if there is none that is whole."""
        start = at + _FRAME_HEAD.size
        if start > len(data):
            return None
        _, length, number = _FRAME_HEAD.unpack_from(data, at)
        try:
            plain = open_sealed(self._key, _ctx(self._vault, generation, number), data[start : start + length])
            return number, _decoder.decode(plain), start + length
        except (HostileStore, msgspec.MsgspecError):
            return None

    # ---- working --------------------------------------------------------------------------------------------------

    def append(self, entry: Entry) -> None:
        """Hand in an entry for the next frame."""
        self._buffer.append(entry)
        self._appended += 1

    def retract(self, entry: Entry) -> bool:
        """Take back an entry that no commit has made durable; False if one has."""
        for at, waiting in enumerate(self._buffer):
            if waiting is entry:
                del self._buffer[at]
                return True
        return False

    @property
    def dirty(self) -> bool:
        """Whether anything waits for a commit."""
        return bool(self._buffer)

    @property
    def size(self) -> int:
        """Bytes of frames in the present file."""
        return self._end

    async def commit(self) -> None:
        """Return when all entries appended before this call are durable. Raises LocalDisk, LocalDiskFull."""
        wanted = self._appended
        while self._durable < wanted:
            async with self._lock:  # whoever gets it writes for all who wait
                if self._durable >= wanted:
                    return
                if self._poisoned:
                    await self._compact()
                    continue
                entries, self._buffer = self._buffer, []
                upto = self._appended
                prepare = self.before_write(False)
                try:
                    await trio.to_thread.run_sync(self._write_frame, entries, prepare, limiter=self._limiter)
                except BaseException:
                    self._buffer[:0] = entries
                    raise
                self._durable = upto

    async def compact(self) -> None:
        """Begin a new generation that holds only what `snapshot` says is still needed. Raises LocalDisk."""
        async with self._lock:
            await self._compact()

    async def _compact(self) -> None:
        # Appended entries are part of the state that `snapshot` describes, so the buffer is settled by it too.
        entries, upto = self.snapshot(), self._appended
        waiting, self._buffer = self._buffer, []
        prepare = self.before_write(True)
        try:
            await trio.to_thread.run_sync(self._write_generation, entries, prepare, limiter=self._limiter)
        except BaseException:
            self._buffer[:0] = waiting
            raise
        self._durable = upto
        self._poisoned = False

    def close(self) -> None:
        """Close the file. What was not committed is lost, as after a crash."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    # ---- in the worker thread -------------------------------------------------------------------------------------

    def _write_frame(self, entries: list[Entry], prepare: Callable[[], list[Record]]) -> None:
        with local_disk("writing the journal"):
            entries[:0] = prepare()  # they count as journaled from now on, so a frame that fails keeps them too
            frame = self._seal_frame(entries, self._generation, self._frame)
            self._faults.step("journal.write")
            if self._end + len(frame) > self._allocated:
                _extend(self._fd, self._end, self._end + len(frame) + _GROW)
                self._allocated = self._end + len(frame) + _GROW
            _write(self._fd, frame, self._end)
            try:
                self._faults.step("journal.fsync")
                os.fdatasync(self._fd)
            except OSError:
                self._poisoned = True  # the kernel may have dropped the pages and call the next flush a success
                raise
            self._end += len(frame)
            self._frame += 1
            self._faults.step("journal.done")

    def _write_generation(self, entries: list[Entry], prepare: Callable[[], list[Record]]) -> None:
        with local_disk("rewriting the journal"):
            riding = prepare()
            generation = self._generation + 1
            frame = self._seal_frame([*entries, *riding], generation, 0)
            path = self._path(generation)
            self._faults.step("journal.generation.write")
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                head = _MAGIC + generation.to_bytes(8, "big") + frame
                _write(fd, head, 0)
                allocated = len(head) + _GROW
                _extend(fd, len(head), allocated)
                os.fsync(fd)
                self._faults.step("journal.generation.synced")
                sync_directory(self._directory)
            except BaseException:
                os.close(fd)
                path.unlink(missing_ok=True)
                raise
            self.close()
            self._fd, self._end, self._allocated = fd, len(head), allocated
            self._generation, self._frame = generation, 1
            for old in _generations(self._directory):
                if old in self._evidence:
                    self._path(old).rename(self._directory / f"damaged-{self._path(old).name}")
                elif old != generation:
                    self._path(old).unlink(missing_ok=True)
            self._faults.step("journal.generation.done")

    def _seal_frame(self, entries: list[Entry], generation: int, number: int) -> bytes:
        sealed = seal(self._key, _ctx(self._vault, generation, number), _encoder.encode(entries))
        return _FRAME_HEAD.pack(_MARK, len(sealed), number) + sealed

    def _path(self, generation: int) -> Path:
        return self._directory / f"journal-{generation:016d}"


def _generations(directory: Path) -> Iterator[int]:
    for entry in directory.glob("journal-*"):
        number = entry.name.removeprefix("journal-")
        if number.isdigit():
            yield int(number)


def _write(fd: int, data: bytes, at: int) -> None:
    if os.pwrite(fd, data, at) != len(data):
        raise LocalDisk("the journal took only part of a frame")


def _extend(fd: int, start: int, end: int) -> None:
    """Write zeros ahead: existing blocks cost no file-system journal commit when they are flushed again."""
    os.pwrite(fd, bytes(end - start), start)


def _ctx(vault: bytes, generation: int, number: int) -> bytes:
    return local_ctx("journal", vault, generation.to_bytes(8, "big"), number.to_bytes(8, "big"))
