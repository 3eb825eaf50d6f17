"""The tree as this device sees it: one sealed database, asked and changed by one thread.

Everything between two `commit`s is one transaction of that database, read and written inline. Operations made here are
applied at once and stay *tentative* until they are sealed: `pop_tentative` takes them back, for `integrate` to put the
work of others before them. Nothing here is precious, since the journal and the store can build it again.
"""

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, Self

import apsw

from cryptfs.format.operation import KIND_DIR, Op, Ver
from cryptfs.tree.facts import Facts
from cryptfs.tree.ids import PROVISIONAL_PREFIX, Ids, op_id_of, provisional_id, st_of_k
from cryptfs.tree.merge import apply
from cryptfs.tree.rows import Entry, NodeRow, Rows
from cryptfs.tree.schema import ROOT_ST, open_sealed
from cryptfs.tree.state import Author, State, Step
from cryptfs.tree.times import Times
from cryptfs.tree.undo import UndoLog

__all__ = ["Head", "Node", "Notice", "Replica"]

_ROOT_MODE: Final = 0o755
_I64: Final = struct.Struct(">q")

# Local times are asked for separately: a join with their table takes 17 us, two questions 5 us.
_NODE: Final = (
    "SELECT kind, mode, uid, gid, rdev, size, mtime_ns, ctime_ns, cver, target,"
    " CASE kind WHEN 1 THEN 2 + (SELECT count(*) FROM dirent d WHERE d.parent = ?1 AND d.kind = 1)"
    " ELSE (SELECT count(*) FROM dirent d WHERE d.st = ?1) END"
    " FROM node WHERE st = ?1"
)


class Node(NamedTuple):
    """A node as the kernel is to see it: `size` in bytes, times in ns, `nlink` links (2 + subdirectories).

    `cver` is the version of the content in internal form, see `Replica.extern_ver`.
    """

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


class Head(NamedTuple):
    """The last segment of a log that was integrated."""

    seq: int
    digest: bytes
    stamp: int


class Notice(NamedTuple):
    """Something a person should know: what kind, about which node, with which name, caused by which operation."""

    op: bytes
    kind: str
    st: int
    text: bytes


class Replica:
    """See the module. Made by `open`; every method is synchronous and belongs to the one thread of the vault.

    Any method may raise ReplicaDamaged: then close, delete and rebuild.
    """

    def __init__(self, db: apsw.Connection, vault: bytes) -> None:
        self._db = db
        self._run: Callable[..., Any] = db.cursor().execute
        self._begin()
        self.undo = UndoLog(db)
        self.ids = Ids(db, vault)
        self.facts = Facts(db)
        self.times = Times(db)
        self.rows = Rows(db, self.undo)
        self.state = State(self.rows, self.ids, self.facts)
        self._tentative: list[tuple[int, int, int]] = []
        self._next_k = self._meta_int("next_k")
        if self.rows.node(ROOT_ST) is None:
            root = NodeRow(ROOT_ST, KIND_DIR, _ROOT_MODE, 0, 0, 0, 0, 0, 0, b"", None, b"", None, None, None)
            self.undo.enabled = False
            self.rows.put_node(root, None)
            self.undo.enabled = True
            self._run("INSERT INTO local(st, ino) VALUES(?, ?)", (ROOT_ST, self.ids.root_ino))
            self.commit()

    @classmethod
    def open(cls, path: str, key: bytes, vault: bytes) -> Self:
        """Open the replica at `path` (or ":memory:") under the 32-byte `key`; make an empty tree if there is none.

        `vault` is the 32-byte vault id. Raises ReplicaDamaged.
        """
        return cls(open_sealed(path, key), vault)

    # ---- transactions

    def _begin(self) -> None:
        self._run("BEGIN IMMEDIATE").fetchall()

    def commit(self) -> None:
        """Write everything since the last commit, as a whole; survives a crash of the process."""
        self.flush()
        self._run("COMMIT").fetchall()
        self._begin()

    def flush(self) -> None:
        """Bring the tables up to date with what is buffered, within the transaction."""
        self.undo.flush()
        self.times.flush()
        if self._tentative:
            self._db.cursor().executemany("INSERT INTO tentative VALUES(?, ?, ?)", self._tentative)
            self._tentative.clear()
            self.meta_set("next_k", _I64.pack(self._next_k))

    def close(self, *, commit: bool = True) -> None:
        """Commit (unless told not to) and close."""
        if commit:
            self.flush()
            self._run("COMMIT").fetchall()
        self._db.close(force=True)

    # ---- queries: the hot path

    def node(self, st: int) -> Node | None:
        """The node `st`, linked or in the trash (then files have nlink 0)."""
        row = self._run(_NODE, (st,)).fetchone()
        if row is None:
            return None
        kind, mode, uid, gid, rdev, size, mtime, ctime, cver, target, nlink = row
        shown_ctime, shown_mtime, atime = self.times.of(st)
        if shown_mtime is not None:
            mtime = shown_mtime
        ctime = shown_ctime if shown_ctime is not None else ctime or mtime
        if atime is None:
            atime = mtime
        return Node(st, kind, mode, uid, gid, rdev, size, mtime, ctime, atime, cver, target, nlink)

    def lookup(self, parent: int, name: bytes) -> Entry | None:
        """The entry `name` of the directory `parent`."""
        return self.rows.entry(parent, name)

    def entries(self, parent: int) -> list[tuple[bytes, int, int]]:
        """(name, st, kind) of all entries of a directory, sorted by name."""
        rows: list[tuple[bytes, int, int]] = self._run(
            "SELECT name, st, kind FROM dirent WHERE parent = ? ORDER BY name", (parent,)
        ).fetchall()
        return rows

    def is_empty(self, parent: int) -> bool:
        """Whether a directory has no entries."""
        return not self.rows.has_entries(parent)

    def links(self, st: int) -> list[Entry]:
        """All entries that lead to a node."""
        return self.rows.links(st)

    def parent_of(self, st: int) -> int | None:
        """The directory that holds the directory `st`; the root holds itself; None without a link."""
        if st == ROOT_ST:
            return ROOT_ST
        row = self._run("SELECT parent FROM dirent WHERE st = ? LIMIT 1", (st,)).fetchone()
        return None if row is None else int(row[0])

    def is_ancestor(self, above: int, below: int) -> bool:
        """Whether the directory `above` is `below` or stands somewhere above it."""
        return above in self.state.path(below)

    def xattr(self, st: int, key: bytes) -> bytes | None:
        """Value of an extended attribute, None if there is none."""
        return self.rows.xattr(st, key)

    def xattrs(self, st: int) -> list[bytes]:
        """Keys of all extended attributes, sorted."""
        return [key for key, _ in self.rows.xattrs(st)]

    def ino_of(self, st: int) -> bytes:
        """The inode of a node: 16 bytes, provisional while unsealed; the name by which operations mean it."""
        return self.ids.ino_of(st)

    def st_of(self, ino: bytes) -> int | None:
        """The number of an inode, None if it was never heard of; says nothing about whether the node exists."""
        return self.ids.st_of(ino)

    def extern_ver(self, blob: bytes) -> Ver:
        """A version as operations name it."""
        return self.ids.ver_of(blob)

    def content_of(self, st: int) -> bytes | None:
        """The encoded Content of the present version; None if it is not sealed yet, or the file was created empty."""
        carrier = self._carrier(st)
        return None if carrier is None else self.facts.encoded(carrier)

    def pending_content(self, st: int) -> int | None:
        """The local operation `k` that carries the present content, if that is not sealed yet."""
        carrier = self._carrier(st)
        if carrier is None or not carrier.startswith(PROVISIONAL_PREFIX):
            return None
        return op_id_of(carrier).n

    def has_pending_content(self, st: int) -> bool:
        """Whether the present content is that of a local operation that is not sealed yet."""
        return self.pending_content(st) is not None

    def _carrier(self, st: int) -> bytes | None:
        row = self._run("SELECT content FROM node WHERE st = ?", (st,)).fetchone()
        return None if row is None or row[0] is None else self.ids.external(row[0])

    def count_nodes(self) -> int:
        """Number of nodes, those in the trash included."""
        return int(self._run("SELECT count(*) FROM node").fetchone()[0])

    def walk(self) -> Iterator[tuple[bytes, int]]:
        """(path, st) of every link below the root, parents first; for checks, not for speed."""
        waiting = [(b"", ROOT_ST)]
        while waiting:
            path, parent = waiting.pop()
            for name, st, kind in self.entries(parent):
                below = path + b"/" + name
                yield below, st
                if kind == KIND_DIR:
                    waiting.append((below, st))

    # ---- local operations

    def apply_local(self, op: Op, k: int, now_ns: int | None) -> None:
        """Apply operation `k` of this device as the last of all, tentatively.

        `now_ns` becomes ctime of what changes and mtime of directories; None (applying again) leaves times as they are.
        """
        u = self.undo.next_u()
        step = Step(provisional_id(k), k, -(k + 1), 0, b"this device", b"1970-01-01", 0, PROVISIONAL_PREFIX)
        apply(self.state, step, op)
        self._tentative.append((k, u, int(step.clean)))
        if k >= self._next_k:
            self._next_k = k + 1
        if now_ns is not None:
            self._stamp(step, st_of_k(k), now_ns)

    def _stamp(self, step: Step, born: int, now_ns: int) -> None:
        times = self.times
        for st in step.nodes:
            if st == born:
                times.born(st, now_ns)
            else:
                times.changed(st)[0] = now_ns
        for st in step.dirs:
            changed = times.changed(st)
            changed[0] = changed[1] = now_ns
        for st in step.mtimes:
            times.changed(st)[1] = None

    def pop_tentative(self) -> None:
        """Take back all tentative operations, also those of an earlier run of the program."""
        self.flush()
        first = self._run("SELECT min(u) FROM tentative").fetchone()[0]
        if first is not None:
            if self.undo.undo_from(first):
                self.rows.reload_aliases()
            self._run("DELETE FROM tentative")

    def reapply(self, pending: Sequence[tuple[int, Op]]) -> None:
        """Apply pending operations (k, op) again, in order, after `pop_tentative`; shown times stay."""
        for k, op in pending:
            self.apply_local(op, k, None)

    def next_k(self) -> int:
        """One more than the highest local operation this replica has ever seen."""
        return self._next_k

    def set_atime(self, st: int, ns: int) -> None:
        """Set the access time, on this device only."""
        self.times.changed(st)[2] = ns

    def touch_ctime(self, st: int, ns: int) -> None:
        """Set the change time as shown on this device."""
        self.times.changed(st)[0] = ns

    # ---- odds and ends kept with the tree

    def learn_own(self, log: bytes, numbers: Mapping[int, int]) -> None:
        """Local operations k got the numbers n in `log`; needed when a rebuilt replica meets pending operations."""
        self.ids.learn_own(log, numbers)

    def set_authors(self, authors: Mapping[bytes, Author]) -> None:
        """What the roster says about the logs; decides who may adopt containers."""
        self.state.authors = dict(authors)

    def heads(self) -> dict[bytes, Head]:
        """The last integrated segment of every log."""
        rows = self._run("SELECT log, seq, digest, stamp FROM head ORDER BY log").fetchall()
        return {log: Head(seq, digest, stamp) for log, seq, digest, stamp in rows}

    def notices(self) -> list[Notice]:
        """What people have not seen yet, sorted by operation."""
        rows = self._run("SELECT op, kind, st, text FROM notice WHERE seen = 0 ORDER BY op").fetchall()
        return [Notice(*row) for row in rows]

    def see_notices(self) -> None:
        """All notices were shown."""
        self._run("UPDATE notice SET seen = 1")

    def meta_get(self, key: str) -> bytes | None:
        """A value of the owner's, or None."""
        row = self._run("SELECT v FROM meta WHERE k = ?", (key,)).fetchone()
        return None if row is None else bytes(row[0])

    def meta_set(self, key: str, value: bytes) -> None:
        """Keep a value with the tree; committed with it."""
        self._run("INSERT OR REPLACE INTO meta VALUES(?, ?)", (key, value))

    def _meta_int(self, key: str) -> int:
        value = self.meta_get(key)
        return 0 if value is None else int(_I64.unpack(value)[0])
