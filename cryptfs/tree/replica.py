"""The tree as this device sees it: one sealed database, asked and changed by one thread.

Operations made here are applied at once and stay *tentative* until they are sealed: `pop_tentative` takes them back,
for `integrate` to put the work of others before them. Nothing here is precious, since the journal and the store can
build it again.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from cryptfs.format.operation import KIND_DIR, Op, Ver, op_id_bytes, provisional_number
from cryptfs.tree import external
from cryptfs.tree.applied import Head
from cryptfs.tree.core import Core, StateTable
from cryptfs.tree.ids import PROVISIONAL_PREFIX, op_id_of, provisional_id
from cryptfs.tree.integrate import Diff, advance, integrate
from cryptfs.tree.relabel import mark_sealed
from cryptfs.tree.rows import Entry
from cryptfs.tree.schema import ROOT_ST
from cryptfs.tree.segment import IntegratedSegment

__all__ = ["Node", "Notice", "Replica", "StoredVersion"]

_SHOWN_MAX: Final = 20_000
"""Nodes kept in memory as shown, about 500 bytes each."""

_SHOWN: Final = (
    "n.kind, n.mode, n.uid, n.gid, n.rdev, n.size, n.mtime_ns, n.ctime_ns, n.cver, n.content, n.target,"
    " CASE n.kind WHEN 1 THEN 2 + (SELECT count(*) FROM dirent d WHERE d.parent = n.st AND d.kind = 1)"
    " ELSE (SELECT count(*) FROM dirent d WHERE d.st = n.st) END,"
    " l.ctime_ns, l.dir_mtime_ns, l.atime_ns"
)
_NODE: Final = f"SELECT {_SHOWN} FROM node n LEFT JOIN local l ON l.st = n.st WHERE n.st = ?"  # noqa: S608  # constants
_FOUND: Final = (
    f"SELECT e.st, e.kind, e.lver, {_SHOWN} FROM dirent e LEFT JOIN node n ON n.st = e.st"  # noqa: S608
    " LEFT JOIN local l ON l.st = n.st WHERE e.parent = ? AND e.name = ?"
)


class Node(NamedTuple):
    """A node as the kernel is to see it: `size` in bytes, times in ns, `nlink` links (2 + subdirectories).

    `cver` is the version of the content in internal form, see `Replica.extern_ver`; `content` is the operation that
    carries it, likewise, None for a file that was created empty.
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
    content: bytes | None
    target: bytes
    nlink: int


class StoredVersion(NamedTuple):
    """A sealed version of a file's content: of the node `st`, version `ver` (or, if not `present`, an old one).

    `carrier` is the id of the operation that brought `content`, an encoded Content.
    """

    st: int
    ver: Ver
    present: bool
    carrier: bytes
    content: bytes


class Notice(NamedTuple):
    """Something a person should know: what kind, about which node, with which name, caused by which operation."""

    op: bytes
    kind: str
    st: int
    text: bytes


class Replica(Core):
    """See the module. Made by `open`; every method is synchronous and belongs to the one thread of the vault.

    Any method may raise ReplicaDamaged: then close, delete and rebuild.
    """

    # ---- queries: the hot path

    def node(self, st: int) -> Node | None:
        """The node `st`, linked or in the trash (then files have nlink 0)."""
        known: Node | None = self.rows.shown.get(st)
        if known is not None:
            return known
        stored = self.rows.node_in_memory(st)
        if stored is not None:
            _, kind, mode, uid, gid, rdev, size, mtime, ctime, cver, content, target, *_ = stored
            nlink = self.rows.count(stored) + (2 if kind == KIND_DIR else 0)
            fields = kind, mode, uid, gid, rdev, size, mtime, ctime, cver, content, target, nlink
            return self._show(st, (*fields, *self.times.of(st)))
        row = self._db.stored(_NODE, (st,))  # all at once: many nodes are looked at, few change
        return None if row is None else self._show(st, row)

    def _show(self, st: int, row: tuple[Any, ...]) -> Node:
        """The node of a row of `_SHOWN`, kept in memory."""
        kind, mode, uid, gid, rdev, size, mtime, ctime, cver, content, target, nlink, *stored = row
        shown_ctime, shown_mtime, atime = self.times.unwritten(st) or stored
        if shown_mtime is not None:
            mtime = shown_mtime
        ctime = shown_ctime if shown_ctime is not None else ctime or mtime
        if atime is None:
            atime = mtime
        node = Node(st, kind, mode, uid, gid, rdev, size, mtime, ctime, atime, cver, content, target, nlink)
        shown = self.rows.shown
        if len(shown) >= _SHOWN_MAX:
            shown.clear()
        shown[st] = node
        return node

    def lookup(self, parent: int, name: bytes) -> Entry | None:
        """The entry `name` of the directory `parent`. The node is fetched along with it: it is asked for next."""
        known = self.rows.remembered(parent, name)
        if known is not None:
            return known
        if self.rows.is_absent(parent, name):
            return None
        row = self._db.stored(_FOUND, (parent, name))
        if row is None:
            self.rows.note_absent(parent, name)
            return None
        st = row[0]
        if st not in self.rows.shown and self.rows.node_in_memory(st) is None:  # else the table may be behind
            self._show(st, row[3:])
        return self.rows.remember(Entry(parent, name, *row[:3]))

    def entries(self, parent: int) -> list[tuple[bytes, int, int]]:
        """(name, st, kind) of all entries of a directory, sorted by name."""
        rows: list[tuple[bytes, int, int]] = self._db.all(
            "SELECT name, st, kind FROM dirent WHERE parent = ? ORDER BY name", (parent,)
        )
        return rows

    def nodes_in(self, parent: int) -> list[tuple[int, int, int, bytes | None]]:
        """(st, kind, size, content) of all that is in a directory, by name; for who goes through whole trees.

        `content` as in `Node`. Nothing of it is kept in memory.
        """
        rows: list[tuple[int, int, int, bytes | None]] = self._db.all(
            "SELECT n.st, n.kind, n.size, n.content FROM dirent e CROSS JOIN node n ON n.st = e.st"
            " WHERE e.parent = ? ORDER BY e.name",
            (parent,),
        )
        return rows

    def find(self, path: bytes) -> int | None:
        """The node at a path from the root, None if there is none; empty parts and `.` stay where they are."""
        st = ROOT_ST
        for name in path.split(b"/"):
            if name in {b"", b"."}:
                continue
            entry = self.lookup(st, name)
            if entry is None:
                return None
            st = entry.st
        return st

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
        row = self._db.one("SELECT parent FROM dirent WHERE st = ? LIMIT 1", (st,))
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

    def is_merged(self, st: int) -> bool:
        """Whether the node was merged with another one, which goes by another number: made alike in two places."""
        return st in self.rows.aliases

    def extern_ver(self, blob: bytes) -> Ver:
        """A version as operations name it."""
        return self.ids.ver_of(blob)

    def content_of(self, st: int) -> bytes | None:
        """The encoded Content of the present version; None if it is not sealed yet, or the file was created empty."""
        carrier = self._carrier(st)
        return None if carrier is None else self.facts.encoded(carrier)

    def content_carried(self, carrier: bytes) -> bytes | None:
        """The encoded Content that a node's `content` means; None if that is not sealed yet."""
        return self.facts.encoded(self.ids.external(carrier))

    def content_of_version(self, ver: Ver) -> bytes | None:
        """The encoded Content of a version; None if it is not sealed, has none, or was never heard of."""
        for one in ver:
            k = provisional_number(one)
            final = one if k is None else self.own_id(k)
            encoded = None if final is None else self.facts.encoded(op_id_bytes(final))
            if encoded is not None:
                return encoded
        return None

    def landed(self, k: int, st: int) -> int:
        """The node that has the content made by the local operation `k`: `st`, or where a merge has put it."""
        sealed = self.own_id(k)
        found = self.rows.landing(provisional_id(k) if sealed is None else op_id_bytes(sealed))
        st = st if found is None else found
        while st in self.rows.aliases:
            st = self.rows.aliases[st]
        return st

    def pending_content(self, st: int) -> int | None:
        """The local operation `k` that carries the present content, if that is not sealed yet."""
        carrier = self._carrier(st)
        if carrier is None or not carrier.startswith(PROVISIONAL_PREFIX):
            return None
        return op_id_of(carrier).n

    def has_pending_content(self, st: int) -> bool:
        """Whether the present content is that of a local operation that is not sealed yet."""
        return self.pending_content(st) is not None

    def files_with_versions(self) -> list[int]:
        """All nodes, those in the trash included, that have a content or an old version, ascending."""
        rows = self._db.all(
            "SELECT st FROM node WHERE content IS NOT NULL UNION SELECT st FROM history WHERE content IS NOT NULL"
        )
        return [int(row[0]) for row in rows]

    def versions(self, st: int) -> list[StoredVersion]:
        """The sealed versions of a file: the present one, unless it waits to be sealed, then old ones, newest first."""
        found = []
        node = self.rows.node(st)
        if node is not None and node.content is not None:
            found.append((node.cver, True, self.ids.external(node.content)))
        kept = sorted(self.rows.history(st), key=lambda row: row.sup_l, reverse=True)
        found += [(row.cver, False, row.content) for row in kept if row.content is not None]
        contents = ((ver, present, carrier, self.facts.encoded(carrier)) for ver, present, carrier in found)
        return [
            StoredVersion(st, self.ids.ver_of(ver), present, carrier, content)
            for ver, present, carrier, content in contents
            if content is not None
        ]

    def _carrier(self, st: int) -> bytes | None:
        node = self.node(st)
        return None if node is None or node.content is None else self.ids.external(node.content)

    def count_nodes(self) -> int:
        """Number of nodes, those in the trash included."""
        return int(self._db.one("SELECT count(*) FROM node")[0])

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

    def heads(self) -> dict[bytes, Head]:
        """The last integrated segment of every log."""
        return self.applied.heads()

    def notices(self) -> list[Notice]:
        """What people have not seen yet, sorted by operation."""
        rows = self._db.all("SELECT op, kind, st, text FROM notice WHERE seen = 0 ORDER BY op")
        return [Notice(*row) for row in rows]

    def see_notices(self) -> None:
        """All notices were shown."""
        self._db.run("UPDATE notice SET seen = 1")

    # ---- sealed segments

    def integrate(
        self,
        segments: Iterable[IntegratedSegment],
        pending: Sequence[tuple[int, Op]] = (),
        *,
        void: Iterable[tuple[bytes, int]] = (),
        stable: int = -1,
    ) -> Diff:
        """Put segments where the order wants them, see `tree/integrate.py`."""
        return integrate(self, segments, pending, void=void, stable=stable)

    def mark_sealed(
        self, seg: IntegratedSegment, upto_k: int, vanished: Iterable[int] = (), *, stable: int = -1
    ) -> bool:
        """Turn the tentative operations up to `upto_k` into the sealed segment made of them, see `tree/relabel.py`."""
        return mark_sealed(self, seg, upto_k, vanished, stable=stable)

    def advance(self, stamp: int) -> None:
        """Nothing will ever be inserted at or below `stamp`: forget how to undo that."""
        advance(self, stamp)

    def state_rows(self, table: StateTable) -> list[tuple[Any, ...]]:
        """The rows of a State table as checkpoints have them, see `tree/external.py`."""
        return external.state_rows(self, table)
