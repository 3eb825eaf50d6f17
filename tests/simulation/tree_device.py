"""A device without disk, store or keys: a replica, a list of pending operations, and a person who changes files.

`LocalUser` makes only calls that POSIX would allow on the tree as the replica shows it, as `mount/filesystem` does.
"""

import hashlib
import random

from cryptfs.format.content import Content, Hole, Inline
from cryptfs.format.operation import (
    KIND_DIR,
    KIND_FIFO,
    KIND_FILE,
    KIND_SYMLINK,
    RENAME_EXCHANGE,
    SET_GID,
    SET_MODE,
    SET_MTIME,
    Create,
    DelXattr,
    Link,
    Op,
    Put,
    Rename,
    Replaced,
    Rmdir,
    SetAttr,
    SetXattr,
    Unlink,
)
from cryptfs.tree import ROOT_ST, Entry, IntegratedSegment, Pending, Replica, make_batch
from cryptfs.tree.external import STATE_TABLES
from cryptfs.tree.ids import st_of_k

VAULT = b"v" * 32
KEY = b"k" * 32
NAMES = [b"a", b"b", b"c", b"d.txt", b"e.tar.gz"]


def open_replica(path: str = ":memory:") -> Replica:
    return Replica.open(path, KEY, VAULT)


def content_of(text: bytes, *, known: bool = True) -> Content:
    """A content whose size and digest are those of `text`; all holes, since nobody reads it."""
    size = len(text)
    digest = hashlib.sha256(text).digest() if known else b""
    return Content(b"f" * 16, size, 16, digest, (), Inline((Hole(1),) if size else ()))


def state_of(replica: Replica) -> dict[str, list[tuple[object, ...]]]:
    return {table: replica.state_rows(table) for table in STATE_TABLES}


def check_tree(replica: Replica) -> None:
    """Invariants 11 to 15 of docs/replication.md, and the bookkeeping of the trash."""
    nodes = {row[0]: row for row in replica.all_rows("node")}
    links: dict[int, list[tuple[int, bytes]]] = {}
    lvers = set()
    for parent, name, st, kind, lver in replica.all_rows("dirent"):
        assert st in nodes, "entry without a node"
        assert nodes[st][1] == kind, "kind of an entry"
        assert nodes[parent][1] == KIND_DIR, "parent is no directory"
        assert 0 < len(name) <= 255, "length of a name"
        assert not {ord("/"), 0} & set(name), "bytes of a name"
        assert name not in (b".", b".."), "dots as a name"
        links.setdefault(st, []).append((parent, name))
        assert (st, lver) not in lvers, "two links of one node by one operation"
        lvers.add((st, lver))
    for st, row in nodes.items():
        gone = row[14]
        assert (gone is None) == (st in links or st == ROOT_ST), "trash"
        assert (row[12] is None) == (gone is None or st == ROOT_ST)
        if row[1] == KIND_DIR:
            assert len(links.get(st, ())) <= 1, "directory with two parents"
        shown = replica.node(st)
        assert shown is not None
        below = sum(entry[0] == st for at, found in links.items() if nodes[at][1] == KIND_DIR for entry in found)
        assert shown.nlink == (2 + below if row[1] == KIND_DIR else len(links.get(st, ())))
    for st in nodes:
        if st in links or st == ROOT_ST:
            above, seen = st, set()
            while above != ROOT_ST:
                assert above not in seen, "cycle"
                seen.add(above)
                above = links[above][0][0]
    for old in replica.rows.aliases:
        end, seen = old, set()
        while end in replica.rows.aliases:
            assert end not in seen, "cycle of aliases"
            seen.add(end)
            end = replica.rows.aliases[end]
        assert end in nodes, "alias that leads nowhere"


class LocalUser:
    """Makes operations from the random numbers it is given. `pending` is what the journal would hold."""

    def __init__(self, replica: Replica, rng: random.Random, log: bytes = b"A" * 16) -> None:
        self.replica = replica
        self.rng = rng
        self.log = log
        self.pending: list[Pending] = []
        self.k = 0
        self.now = 10**18
        self.first_op = 0
        self.seq = 0
        self.texts = 0
        self.label = "Anna's laptop"
        self.role = 1

    # ---- doing something

    def submit(self, op: Op) -> int:
        k = self.k
        self.k += 1
        self.now += 1_000_000_007
        self.pending.append(Pending(k, op))
        self.replica.apply_local(op, k, self.now)
        return k

    def act(self) -> None:
        """One random call; some come to nothing."""
        self.rng.choice(_ACTIONS)(self)

    def _dir(self) -> int:
        st = ROOT_ST
        while self.rng.random() < 0.6:
            below = [child for _, child, kind in self.replica.entries(st) if kind == KIND_DIR]
            if not below:
                break
            st = self.rng.choice(below)
        return st

    def _entry(self, kind: int | None = None) -> Entry | None:
        for _ in range(4):
            parent = self._dir()
            found = [name for name, _, k in self.replica.entries(parent) if kind is None or k == kind]
            if found:
                return self.replica.lookup(parent, self.rng.choice(found))
        return None

    def _free(self) -> tuple[int, bytes] | None:
        parent, name = self._dir(), self.rng.choice(NAMES)
        return None if self.replica.lookup(parent, name) else (parent, name)

    def _text(self) -> bytes:
        self.texts += 1
        return b"" if self.rng.random() < 0.1 else b"%s text %d" % (self.log[:1], self.texts % 40)

    def create(self) -> None:
        free = self._free()
        if free is None:
            return
        kind = self.rng.choice([KIND_FILE] * 6 + [KIND_DIR] * 3 + [KIND_SYMLINK, KIND_FIFO])
        target = self.rng.choice([b"there", b"elsewhere"]) if kind == KIND_SYMLINK else b""
        ino = self.replica.ino_of(free[0])
        k = self.submit(Create(ino, free[1], kind, 0o644, 1000, 1000, 0, self.now, target, None))
        if kind == KIND_FILE and self.rng.random() < 0.7:
            self._put(st_of_k(k))

    def _put(self, st: int) -> None:
        node = self.replica.node(st)
        assert node is not None
        known = self.rng.random() < 0.8
        base = self.replica.extern_ver(node.cver)
        self.submit(Put(self.replica.ino_of(st), base, content_of(self._text(), known=known), self.now))

    def put(self) -> None:
        entry = self._entry(KIND_FILE)
        if entry is not None:
            self._put(entry.st)

    def link(self) -> None:
        entry, free = self._entry(), self._free()
        if entry is not None and free is not None and entry.kind != KIND_DIR:
            parent = self.replica.ino_of(free[0])
            self.submit(Link(self.replica.ino_of(entry.st), parent, free[1]))

    def remove(self) -> None:
        entry = self._entry()
        if entry is None:
            return
        ino, lver = self.replica.ino_of(entry.st), self.replica.extern_ver(entry.lver)
        if entry.kind != KIND_DIR:
            self.submit(Unlink(ino, lver, self._cver(entry.st)))
        elif self.replica.is_empty(entry.st):
            self.submit(Rmdir(ino, lver))

    def _cver(self, st: int) -> tuple[object, ...]:
        node = self.replica.node(st)
        assert node is not None
        return self.replica.extern_ver(node.cver)

    def _replaced(self, entry: Entry) -> Replaced:
        lver = self.replica.extern_ver(entry.lver)
        return Replaced(self.replica.ino_of(entry.st), lver, self._cver(entry.st))

    def rename(self) -> None:
        entry, parent, name = self._entry(), self._dir(), self.rng.choice(NAMES)
        if entry is None or (entry.kind == KIND_DIR and self.replica.is_ancestor(entry.st, parent)):
            return
        held = self.replica.lookup(parent, name)
        if held is not None:
            if held.st == entry.st or (held.kind == KIND_DIR) != (entry.kind == KIND_DIR):
                return
            if held.kind == KIND_DIR and not self.replica.is_empty(held.st):
                return
        replaced = None if held is None else self._replaced(held)
        lver = self.replica.extern_ver(entry.lver)
        ino, into = self.replica.ino_of(entry.st), self.replica.ino_of(parent)
        self.submit(Rename(ino, lver, into, name, replaced, 0))

    def exchange(self) -> None:
        one, two = self._entry(), self._entry()
        if one is None or two is None or one.st == two.st:
            return
        if one.kind == KIND_DIR and self.replica.is_ancestor(one.st, two.parent):
            return
        if two.kind == KIND_DIR and self.replica.is_ancestor(two.st, one.parent):
            return
        lver = self.replica.extern_ver(one.lver)
        ino, into = self.replica.ino_of(one.st), self.replica.ino_of(two.parent)
        self.submit(Rename(ino, lver, into, two.name, self._replaced(two), RENAME_EXCHANGE))

    def save(self) -> None:
        """As editors do: a new file beside, renamed over the old one."""
        entry = self._entry(KIND_FILE)
        if entry is None or self.replica.lookup(entry.parent, b".tmp") is not None:
            return
        parent = self.replica.ino_of(entry.parent)
        k = self.submit(Create(parent, b".tmp", KIND_FILE, 0o600, 0, 0, 0, self.now, b"", None))
        self._put(st_of_k(k))
        made = self.replica.lookup(entry.parent, b".tmp")
        assert made is not None
        lver = self.replica.extern_ver(made.lver)
        ino = self.replica.ino_of(made.st)
        self.submit(Rename(ino, lver, parent, entry.name, self._replaced(entry), 0))

    def setattr(self) -> None:
        entry = self._entry()
        if entry is None:
            return
        mask = self.rng.choice([SET_MODE, SET_GID, SET_MTIME, SET_MODE | SET_MTIME])
        mode = self.rng.choice([0o600, 0o755]) if mask & SET_MODE else 0
        gid = self.rng.randrange(3) if mask & SET_GID else 0
        mtime = self.rng.randrange(10) * 10**9 if mask & SET_MTIME else 0
        self.submit(SetAttr(self.replica.ino_of(entry.st), mask, mode, 0, gid, mtime))

    def xattr(self) -> None:
        entry = self._entry()
        if entry is None:
            return
        ino, key = self.replica.ino_of(entry.st), self.rng.choice([b"user.a", b"user.b"])
        if self.rng.random() < 0.6:
            self.submit(SetXattr(ino, key, b"%d" % self.rng.randrange(5)))
        elif self.replica.xattr(entry.st, key) is not None:
            self.submit(DelXattr(ino, key))

    # ---- sealing

    def seal(self, stamp: int, *, upto: int | None = None) -> tuple[IntegratedSegment, list[int], int]:
        """The segment made of the first `upto` pending operations, the vanished creates, and the last k in it."""
        part = self.pending[:upto]
        later = self.pending[len(part) :]
        batch = make_batch(part, self.replica, self.log, self.first_op, VAULT, later=later)
        digest = hashlib.sha256(self.log + b"%d" % self.seq).digest()
        seg = IntegratedSegment(
            self.log, self.seq, digest, stamp, 1_700_000_000_000 + self.rng.randrange(10**6), self.label, self.role,
            self.first_op, batch.ops, own=True, ids=batch.ids,
        )  # fmt: skip
        self.first_op += len(batch.ops)
        self.seq += 1
        last = part[-1].k if part else (self.pending[0].k if self.pending else self.k) - 1
        self.pending = self.pending[len(part) :]
        return seg, batch.vanished, last


_ACTIONS = [
    *[LocalUser.create] * 5,
    *[LocalUser.put] * 3,
    *[LocalUser.remove] * 3,
    *[LocalUser.rename] * 3,
    LocalUser.link,
    LocalUser.exchange,
    LocalUser.save,
    *[LocalUser.setattr] * 2,
    LocalUser.xattr,
]
