"""A person who does random things to a vault, as a mount would hand them down; and all that can be seen of it."""

import random
from collections.abc import Callable

from cryptfs.format.operation import (
    KIND_DIR,
    KIND_FILE,
    KIND_SYMLINK,
    RENAME_EXCHANGE,
    SET_MODE,
    SET_MTIME,
    Create,
    DelXattr,
    Link,
    Op,
    Rename,
    Replaced,
    Rmdir,
    SetAttr,
    SetXattr,
    Unlink,
)
from cryptfs.tree.rows import Entry
from cryptfs.vault.content import FileContent
from cryptfs.vault.vault import Vault

__all__ = ["Hand", "Shown", "shown"]

Shown = dict[bytes, tuple[object, ...]]
NAMES = [b"a", b"b", b"c", b"d"]


class Hand:
    """Does random things to a vault, as a mount would hand them down."""

    names = NAMES
    """That it gives to what it makes and moves."""

    def __init__(self, vault: Vault, rng: random.Random) -> None:
        self.vault, self.rng, self.replica = vault, rng, vault.replica
        self.held: dict[int, FileContent] = {}

    async def act(self) -> None:
        acts: list[Callable[[], Op | None]] = [
            self.make, self.make, self.move, self.move, self.link, self.remove, self.chmod, self.xattr,
        ]  # fmt: skip
        if self.rng.random() < 0.35:
            await self.write()
            return
        op = self.rng.choice(acts)()
        if op is not None:
            self.vault.submit(op)
        for st, content in self.held.items():
            node = self.replica.node(st)
            content.detached = node is None or node.nlink == 0

    def directory(self) -> int:
        places = [1, *(st for _, st in self.replica.walk() if self.kind(st) == KIND_DIR)]
        return self.rng.choice(places)

    def kind(self, st: int) -> int:
        node = self.replica.node(st)
        assert node is not None
        return node.kind

    def entry(self) -> Entry | None:
        parent = self.directory()
        names = [name for name, _, _ in self.replica.entries(parent)]
        return self.replica.lookup(parent, self.rng.choice(names)) if names else None

    def free(self) -> tuple[int, bytes] | None:
        parent, name = self.directory(), self.rng.choice(self.names)
        return (parent, name) if self.replica.lookup(parent, name) is None else None

    def make(self) -> Op | None:
        place = self.free()
        if place is None:
            return None
        kind = self.rng.choice([KIND_FILE, KIND_FILE, KIND_DIR, KIND_SYMLINK])
        target = b"somewhere" if kind == KIND_SYMLINK else b""
        mode = self.rng.choice([0o600, 0o755])
        return Create(self.replica.ino_of(place[0]), place[1], kind, mode, 1, 2, 0, self.rng.randrange(9), target, None)

    def link(self) -> Op | None:
        entry, place = self.entry(), self.free()
        if entry is None or place is None or entry.kind == KIND_DIR:
            return None
        return Link(self.replica.ino_of(entry.st), self.replica.ino_of(place[0]), place[1])

    def remove(self) -> Op | None:
        entry = self.entry()
        if entry is None:
            return None
        ino, lver = self.replica.ino_of(entry.st), self.replica.extern_ver(entry.lver)
        if entry.kind == KIND_DIR:
            return Rmdir(ino, lver) if self.replica.is_empty(entry.st) else None
        node = self.replica.node(entry.st)
        assert node is not None
        return Unlink(ino, lver, self.replica.extern_ver(node.cver))

    def move(self) -> Op | None:
        source, parent, name = self.entry(), self.directory(), self.rng.choice(self.names)
        if source is None or self.inside(source, parent):
            return None
        target = self.replica.lookup(parent, name)
        exchange = target is not None and self.rng.random() < 0.3
        replaced = None
        if target is not None:
            node = self.replica.node(target.st)
            assert node is not None
            if target.st == source.st or (exchange and self.inside(target, source.parent)):
                return None
            if not exchange and (
                (target.kind == KIND_DIR) != (source.kind == KIND_DIR)
                or (target.kind == KIND_DIR and not self.replica.is_empty(target.st))
            ):
                return None
            ver = self.replica.extern_ver
            replaced = Replaced(self.replica.ino_of(target.st), ver(target.lver), ver(node.cver))
        return Rename(
            self.replica.ino_of(source.st), self.replica.extern_ver(source.lver), self.replica.ino_of(parent), name,
            replaced, RENAME_EXCHANGE if exchange else 0,
        )  # fmt: skip

    def inside(self, entry: Entry, parent: int) -> bool:
        return entry.kind == KIND_DIR and (entry.st == parent or self.replica.is_ancestor(entry.st, parent))

    def chmod(self) -> Op | None:
        entry = self.entry()
        if entry is None:
            return None
        mask = self.rng.choice([SET_MODE, SET_MTIME, SET_MODE | SET_MTIME])
        mode = self.rng.choice([0o640, 0o711]) if mask & SET_MODE else 0
        mtime = self.rng.randrange(10**9) if mask & SET_MTIME else 0
        return SetAttr(self.replica.ino_of(entry.st), mask, mode, 0, 0, mtime)

    def xattr(self) -> Op | None:
        entry = self.entry()
        if entry is None:
            return None
        ino, key = self.replica.ino_of(entry.st), self.rng.choice([b"user.x", b"user.y"])
        if self.replica.xattr(entry.st, key) is not None and self.rng.random() < 0.5:
            return DelXattr(ino, key)
        return SetXattr(ino, key, self.rng.randbytes(5))

    async def write(self) -> None:
        entry = self.entry()
        if entry is None or entry.kind != KIND_FILE:
            return
        content = self.vault.open_file(entry.st)
        if self.rng.random() < 0.3:
            await content.truncate(self.rng.randrange(150_000), 10**9)
        else:
            data = self.rng.randbytes(self.rng.choice([0, 1, 3000, 65_536, 200_000]))
            await content.write(self.rng.randrange(70_000), data, 10**9)
        if self.rng.random() < 0.3 and entry.st not in self.held:
            self.held[entry.st] = content  # a program that keeps its file open, and saves with fsync
        else:
            self.vault.release_file(content)
        content.persist()


async def shown(vault: Vault) -> Shown:
    """All that a program can see and that has to stay, by path."""
    found: Shown = {}
    for path, st in vault.replica.walk():
        node = vault.replica.node(st)
        assert node is not None
        data, size, mtime = b"", node.size, node.mtime_ns if node.kind != KIND_DIR else 0
        if node.kind == KIND_FILE:
            content = vault.open_file(st)
            assert content.dirty or content.size == size, path
            data = bytes(await content.read(0, 1 << 20))
            if content.dirty:
                size, mtime = content.size, content.mtime_ns
            content.opens -= 1  # not released: looking changes nothing
            vault.drop_if_idle(content)
        xattrs = tuple((key, vault.replica.xattr(st, key)) for key in vault.replica.xattrs(st))
        found[path] = (node.kind, node.mode, size, node.nlink, mtime, node.target, xattrs, data)
    return found
