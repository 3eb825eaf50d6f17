"""A vault in memory: plain dictionaries behind the protocols of `cryptfs.mount.needs`, for tests of the mount alone.

It obeys the operations as one device alone sees them. Nothing is sealed, nothing merges. `ops` keeps what was submitted.
"""

import time
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from cryptfs.errors import FsError
from cryptfs.format.operation import (
    KIND_DIR,
    KIND_FILE,
    RENAME_EXCHANGE,
    SET_GID,
    SET_MODE,
    SET_MTIME,
    SET_UID,
    Create,
    DelXattr,
    Link,
    Op,
    Put,
    Rename,
    Rmdir,
    SetAttr,
    SetXattr,
    Unlink,
    Ver,
    provisional_ino,
    provisional_op_id,
)
from cryptfs.format.content import Content, Inline

ROOT_INO = b"\x01" * 16


@dataclass(slots=True, frozen=True)
class MemoryNode:
    st: int
    kind: int
    mode: int
    uid: int
    gid: int
    rdev: int
    size: int
    mtime_ns: int
    ctime_ns: int
    atime_ns: int
    cver: bytes
    target: bytes
    nlink: int


class MemoryEntry(NamedTuple):
    parent: int
    name: bytes
    st: int
    kind: int
    lver: bytes


class MemoryReplica:
    def __init__(self) -> None:
        root = MemoryNode(1, KIND_DIR, 0o755, 0, 0, 0, 0, 0, 0, 0, b"", b"", 2)
        self.nodes = {1: root}
        self.dirs: dict[int, dict[bytes, MemoryEntry]] = {1: {}}
        self.links: dict[int, set[tuple[int, bytes]]] = {}
        self.attrs: dict[int, dict[bytes, bytes]] = {}
        self.meta: dict[str, bytes] = {}

    def node(self, st):
        return self.nodes.get(st)

    def lookup(self, parent, name):
        directory = self.dirs.get(parent)
        return None if directory is None else directory.get(name)

    def entries(self, parent):
        return sorted((e.name, e.st, e.kind) for e in self.dirs[parent].values())

    def is_empty(self, parent):
        return not self.dirs[parent]

    def parent_of(self, st):
        return next((parent for parent, _ in self.links.get(st, ())), None)

    def is_ancestor(self, a, b):
        while b not in (None, 1, a):
            b = self.parent_of(b)
        return a == b

    def xattr(self, st, key):
        return self.attrs.get(st, {}).get(key)

    def xattrs(self, st):
        return sorted(self.attrs.get(st, ()))

    def ino_of(self, st):
        return ROOT_INO if st == 1 else provisional_ino(st - 16)

    def st_of(self, ino):
        return 1 if ino == ROOT_INO else int.from_bytes(ino[8:], "big") + 16

    def content_of(self, st):
        return None

    def extern_ver(self, blob) -> Ver:
        return tuple(
            provisional_op_id(int.from_bytes(blob[i : i + 8], "big")) for i in range(0, len(blob), 8)
        )

    def count_nodes(self):
        return len(self.nodes)

    def set_atime(self, st, ns):
        self._change(st, atime_ns=ns)

    def touch_ctime(self, st, ns):
        self._change(st, ctime_ns=max(ns, self.nodes[st].ctime_ns))

    def meta_get(self, key):
        return self.meta.get(key)

    def meta_set(self, key, value):
        self.meta[key] = value

    # ---- applying --------------------------------------------------------------------------------------------------

    def apply_local(self, op: Op, k: int, now: int) -> None:
        getattr(self, "_" + type(op).__name__.lower())(op, k, now)

    def _change(self, st, **fields):
        self.nodes[st] = replace(self.nodes[st], **fields)

    def _place(self, parent, name, st, k, now):
        node = self.nodes[st]
        entry = MemoryEntry(parent, name, st, node.kind, k.to_bytes(8, "big"))
        self.dirs[parent][name] = entry
        self.links.setdefault(st, set()).add((parent, name))
        self._count(st, parent, now)

    def _drop(self, parent, name, now):
        st = self.dirs[parent].pop(name).st
        self.links[st].discard((parent, name))
        self._count(st, parent, now)

    def _count(self, st, parent, now):
        if self.nodes[st].kind != KIND_DIR:
            self._change(st, nlink=len(self.links[st]))
        self._change(st, ctime_ns=now)
        subdirs = sum(e.kind == KIND_DIR for e in self.dirs[parent].values()) if self.nodes[st].kind == KIND_DIR else 0
        if self.nodes[st].kind == KIND_DIR:
            self._change(parent, nlink=2 + subdirs)
        self._change(parent, mtime_ns=now, ctime_ns=now)

    def _create(self, op: Create, k, now):
        st = k + 16
        self.nodes[st] = MemoryNode(
            st, op.kind, op.mode, op.uid, op.gid, op.rdev, 0, op.mtime_ns, op.mtime_ns, op.mtime_ns,
            k.to_bytes(8, "big"), op.target, 2 if op.kind == KIND_DIR else 1,
        )  # fmt: skip
        if op.kind == KIND_DIR:
            self.dirs[st] = {}
        self._place(self.st_of(op.p), op.name, st, k, now)

    def _put(self, op: Put, k, now):
        st = self.st_of(op.i)
        ctime = max(self.nodes[st].ctime_ns, op.mtime_ns)
        self._change(st, size=op.content.size, mtime_ns=op.mtime_ns, ctime_ns=ctime, cver=k.to_bytes(8, "big"))

    def _link(self, op: Link, k, now):
        self._place(self.st_of(op.p), op.name, self.st_of(op.i), k, now)

    def _named(self, ino, lver):
        st = self.st_of(ino)
        return next(e for e in (self.dirs[p][n] for p, n in self.links[st]) if self.extern_ver(e.lver) == lver)

    def _unlink(self, op: Unlink, k, now):
        entry = self._named(op.i, op.lver)
        assert self.extern_ver(self.nodes[entry.st].cver) == op.cver
        self._drop(entry.parent, entry.name, now)

    def _rmdir(self, op: Rmdir, k, now):
        entry = self._named(op.i, op.lver)
        assert not self.dirs[entry.st]
        self._drop(entry.parent, entry.name, now)

    def _rename(self, op: Rename, k, now):
        entry = self._named(op.i, op.lver)
        parent = self.st_of(op.p2)
        if op.replaced is not None:
            other = self._named(op.replaced.i, op.replaced.lver)
            assert self.extern_ver(self.nodes[other.st].cver) == op.replaced.cver
            assert (other.parent, other.name) == (parent, op.name2)
            self._drop(parent, op.name2, now)
        self._drop(entry.parent, entry.name, now)
        self._place(parent, op.name2, entry.st, k, now)
        if op.flags == RENAME_EXCHANGE:
            self._place(entry.parent, entry.name, other.st, k, now)

    def _setattr(self, op: SetAttr, k, now):
        fields = {"ctime_ns": now}
        for bit, name in ((SET_MODE, "mode"), (SET_UID, "uid"), (SET_GID, "gid"), (SET_MTIME, "mtime_ns")):
            if op.mask & bit:
                fields[name] = getattr(op, name)
        self._change(self.st_of(op.i), **fields)

    def _setxattr(self, op: SetXattr, k, now):
        self.attrs.setdefault(self.st_of(op.i), {})[op.key] = op.value
        self._change(self.st_of(op.i), ctime_ns=now)

    def _delxattr(self, op: DelXattr, k, now):
        del self.attrs[self.st_of(op.i)][op.key]
        self._change(self.st_of(op.i), ctime_ns=now)


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

    async def hand_over(self) -> None:
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


@dataclass
class MemoryVault:
    name: str = "work"
    read_only: bool = False
    replica: MemoryReplica = field(default_factory=MemoryReplica)
    stored: dict[int, dict[int, bytearray]] = field(default_factory=dict)
    open_files: dict[int, tuple[MemoryContent, int]] = field(default_factory=dict)
    ops: list[Op] = field(default_factory=list)
    next_k: int = 0
    commits: int = 0
    syncs: int = 0
    broken: Exception | None = None

    def submit(self, op: Op) -> int:
        if self.read_only:
            raise FsError(30)
        k = self.next_k
        self.next_k += 1
        self.replica.apply_local(op, k, time.time_ns())
        self.ops.append(op)
        return k

    async def commit(self) -> None:
        self.commits += 1

    async def sync(self, seconds: float | None = None) -> None:
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

    def info(self, st: int) -> dict[str, object]:
        return {"state": "pending"}


def kinds(ops: list[Op]) -> list[str]:
    return [type(op).__name__ for op in ops]


FILE = KIND_FILE
