"""A vault in memory: the real replica, contents in dictionaries; for tests of the mount alone.

Nothing is journaled, sealed or sent. `ops` keeps what was submitted.
"""

import time
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import trio

from cryptfs.errors import FsError
from cryptfs.format.content import Content, Inline
from cryptfs.format.operation import Op, Put
from cryptfs.tree.replica import Replica

CHUNK = 1 << 16


class MemoryContent:
    """Chunks of 64 KiB in a dictionary; absent ones are holes."""

    def __init__(self, vault: "MemoryVault", st: int) -> None:
        node = vault.replica.node(st)
        self.vault = vault
        self.st = st
        self.size = node.size
        self.mtime_ns = node.mtime_ns
        self.chunks = vault.stored.setdefault(st, {})
        self.dirty = False
        self.detached = False
        self.version = 0

    async def read(self, offset: int, length: int) -> bytes:
        return self.read_here(offset, length)

    def read_here(self, offset: int, length: int) -> bytes:
        end = min(offset + length, self.size)
        pieces = []
        while offset < end:
            index, start = divmod(offset, CHUNK)
            count = min(CHUNK - start, end - offset)
            chunk = self.chunks.get(index)
            pieces.append(bytes(count) if chunk is None else bytes(memoryview(chunk)[start : start + count]))
            offset += count
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def write(self, offset: int, data: bytes, now_ns: int) -> None:
        self.size = max(self.size, offset + len(data))
        view = memoryview(data)
        while view:
            index, start = divmod(offset, CHUNK)
            part = view[: CHUNK - start]
            chunk = self.chunks.setdefault(index, bytearray(CHUNK))
            chunk[start : start + len(part)] = part
            view, offset = view[len(part) :], offset + len(part)
        self._changed(now_ns)

    async def truncate(self, size: int, now_ns: int) -> None:
        if size < self.size:
            last, inside = divmod(size, CHUNK)
            for index in [index for index in self.chunks if index > last or (index == last and not inside)]:
                del self.chunks[index]
            if last in self.chunks:
                self.chunks[last][inside:] = bytes(CHUNK - inside)
        self.size = size
        self._changed(now_ns)

    def _changed(self, now_ns: int) -> None:
        self.mtime_ns = now_ns
        self.dirty = True
        self.version += 1

    def persist(self) -> None:
        """Nothing survives this double, so nothing has to be put down."""
        if self.vault.broken is not None:
            raise self.vault.broken

    def hand_over_now(self) -> None:
        if self.dirty and not self.detached:
            if self.vault.broken is not None:
                raise self.vault.broken
            self.dirty = False
            replica = self.vault.replica
            content = Content(b"f" * 16, self.size, 16, b"", (), Inline(()))
            base = replica.extern_ver(replica.node(self.st).cver)
            self.vault.submit(Put(replica.ino_of(self.st), base, content, self.mtime_ns))

    def allocated(self) -> int:
        return sum(min(CHUNK, self.size - index * CHUNK) for index in self.chunks if index * CHUNK < self.size)


class MemorySpace(NamedTuple):
    total: int
    free: int


def new_replica(path: Path) -> Replica:
    """A replica in a file: a database in memory cannot be sealed."""
    return Replica.open(str(path), b"k" * 32, b"v" * 32)


@dataclass
class MemoryVault:
    replica: Replica
    name: str = "work"
    read_only: bool = False
    stored: dict[int, dict[int, bytearray]] = field(default_factory=dict)
    open_files: dict[int, tuple[MemoryContent, int]] = field(default_factory=dict)
    ops: list[Op] = field(default_factory=list)
    next_k: int = 0
    commits: int = 0
    syncs: int = 0
    broken: Exception | None = None
    exchange: SimpleNamespace = field(
        default_factory=lambda: SimpleNamespace(listeners=[], settled=trio.Event(), announce=lambda *_: None)
    )
    replaced: list[object] = field(default_factory=list)
    outdated: dict[object, float] = field(default_factory=dict)
    keeping: object = None
    membership: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(role=None))

    def submit(self, op: Op) -> int:
        if self.read_only:
            raise FsError(30)
        k = self.next_k
        self.next_k += 1
        self.replica.apply_local(op, k, op.mtime_ns if isinstance(op, Put) else time.time_ns())
        self.ops.append(op)
        return k

    async def commit(self) -> None:
        self.replica.commit()
        self.commits += 1

    async def sync(self, seconds: float | None = None, *, thorough: bool = False) -> None:
        self.syncs += 1

    def open_file(self, st: int) -> MemoryContent:
        content, count = self.open_files.get(st, (None, 0))
        if content is None:
            content = MemoryContent(self, st)
        self.open_files[st] = content, count + 1
        return content

    def release_file(self, fc: MemoryContent) -> None:
        content, count = self.open_files.pop(fc.st)
        if count > 1:
            self.open_files[fc.st] = content, count - 1

    def status(self) -> dict[str, object]:
        return {"state": "clean", "pending_ops": len(self.ops)}

    def space(self) -> MemorySpace:
        return MemorySpace(1 << 40, 1 << 39)

    def state_of(self, st: int) -> str:
        return str(self.answers(st)["state"])

    async def info(self, st: int) -> dict[str, object]:
        return self.answers(st)

    def answers(self, st: int) -> dict[str, object]:
        return {"state": "pending"}
