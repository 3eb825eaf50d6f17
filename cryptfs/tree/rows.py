"""The rows of the State: typed reads, and the only functions that change them, each of which leaves the way back.

`Rows` appends what a row was before to the undo log and, while a difference is being taken, to the recorder. Nothing
else writes State tables.
"""

from typing import Any, Final, NamedTuple

from cryptfs.tree.database import Database
from cryptfs.tree.undo import Table, UndoLog

__all__ = ["Container", "Entry", "History", "NodeRow", "Rows"]


class NodeRow(NamedTuple):
    """A node as stored; sizes in bytes, times in ns, the rest as in `tree/schema.py`."""

    st: int
    kind: int
    mode: int
    uid: int
    gid: int
    rdev: int
    size: int
    mtime_ns: int
    ctime_ns: int
    cver: bytes
    content: bytes | None
    target: bytes
    last_parent: int | None
    last_name: bytes | None
    gone_l: int | None


class Entry(NamedTuple):
    """A link: directory, name, the node it leads to and its kind, the version that placed it (internal form)."""

    parent: int
    name: bytes
    st: int
    kind: int
    lver: bytes


class History(NamedTuple):
    """An old version of a file; `content` is the id of the operation that carries it, None for an empty file."""

    st: int
    cver: bytes
    content: bytes | None
    size: int
    mtime_ns: int
    sup_l: int


class Container(NamedTuple):
    """What holds records; `moved` are encoded ranges."""

    place: int
    id: bytes
    size: int
    kind: int
    holder: bytes
    state: int
    moved: bytes


Row = tuple[Any, ...]

_NODE: Final = "SELECT * FROM node WHERE st = ?"
_PUT_NODE: Final = "INSERT OR REPLACE INTO node VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
_DEL_NODE: Final = "DELETE FROM node WHERE st = ?"
_ENTRY: Final = "SELECT * FROM dirent WHERE parent = ? AND name = ?"
_PUT_ENTRY: Final = "INSERT OR REPLACE INTO dirent VALUES(?,?,?,?,?)"
_DEL_ENTRY: Final = "DELETE FROM dirent WHERE parent = ? AND name = ?"
_LINKS: Final = "SELECT * FROM dirent WHERE st = ?"
_LINKED: Final = "SELECT 1 FROM dirent WHERE st = ? LIMIT 1"
_CACHED_MAX: Final = 20_000
"""Rows kept in memory, about 400 bytes each; when full, all are dropped, which costs a look-up each."""
_HAS_ENTRIES: Final = "SELECT 1 FROM dirent WHERE parent = ? LIMIT 1"


class Rows:
    """Reads and changes State rows. One instance a replica, one thread."""

    def __init__(self, db: Database, undo: UndoLog) -> None:
        self._db = db
        self._note = undo.note
        self.aliases: dict[int, int] = {}
        self._nodes: dict[int, NodeRow] = {}
        self._entries: dict[tuple[int, bytes], Entry] = {}
        self.shown: dict[int, Any] = {}
        """What `Replica.node` made of rows and times; whoever changes one of them takes the node out."""
        self.reload()

    def reload(self) -> None:
        """Rows changed behind our back (undo): nothing in memory counts any more."""
        self._nodes.clear()
        self._entries.clear()
        self.shown.clear()
        self.reload_aliases()

    def _remember_node(self, row: NodeRow) -> None:
        if len(self._nodes) >= _CACHED_MAX:
            self._nodes.clear()
        self._nodes[row.st] = row

    def remember(self, entry: Entry) -> Entry:
        """Keep an entry that was read; returns it."""
        if len(self._entries) >= _CACHED_MAX:
            self._entries.clear()
        self._entries[entry.parent, entry.name] = entry
        return entry

    def remembered(self, parent: int, name: bytes) -> Entry | None:
        """The entry if it is in memory."""
        return self._entries.get((parent, name))

    # ---- nodes

    def node(self, st: int) -> NodeRow | None:
        """The node, linked or in the trash."""
        known = self._nodes.get(st)
        if known is not None:
            return known
        row = self._db.one(_NODE, (st,))
        if row is None:
            return None
        found = NodeRow._make(row)
        self._remember_node(found)
        return found

    def put_node(self, new: NodeRow, before: NodeRow | None) -> None:
        """Write a node; `before` is its row as read."""
        self._db.run(_PUT_NODE, new)
        self._remember_node(new)
        self.shown.pop(new.st, None)
        self._note(Table.NODE, (new.st,), before)

    def del_node(self, before: NodeRow) -> None:
        """Forget a node."""
        self._db.run(_DEL_NODE, (before.st,))
        self._nodes.pop(before.st, None)
        self.shown.pop(before.st, None)
        self._note(Table.NODE, (before.st,), before)

    # ---- entries

    def entry(self, parent: int, name: bytes) -> Entry | None:
        """The entry `name` of the directory `parent`."""
        known = self._entries.get((parent, name))
        if known is not None:
            return known
        row = self._db.one(_ENTRY, (parent, name))
        if row is None:
            return None
        return self.remember(Entry._make(row))

    def put_entry(self, new: Entry, before: Entry | None) -> None:
        """Write an entry; `before` is what the name held."""
        self._db.run(_PUT_ENTRY, new)
        self.remember(new)
        self.shown.pop(new.st, None)
        self.shown.pop(new.parent, None)
        if before is not None:
            self.shown.pop(before.st, None)
        self._note(Table.DIRENT, (new.parent, new.name), before)

    def del_entry(self, before: Entry) -> None:
        """Take an entry away."""
        self._db.run(_DEL_ENTRY, (before.parent, before.name))
        self._entries.pop((before.parent, before.name), None)
        self.shown.pop(before.st, None)
        self.shown.pop(before.parent, None)
        self._note(Table.DIRENT, (before.parent, before.name), before)

    def links(self, st: int) -> list[Entry]:
        """All entries that lead to a node, in no particular order."""
        return [Entry._make(row) for row in self._db.all(_LINKS, (st,))]

    def linked(self, st: int) -> bool:
        """Whether an entry leads to the node (the root has none)."""
        return self._db.one(_LINKED, (st,)) is not None

    def has_entries(self, st: int) -> bool:
        """Whether a directory is not empty."""
        return self._db.one(_HAS_ENTRIES, (st,)) is not None

    # ---- aliases and landings

    def put_alias(self, old: int, new: int) -> None:
        """From now on `old` means `new`. `old` must not be an alias yet."""
        self._db.run("INSERT INTO alias VALUES(?, ?)", (old, new))
        self._note(Table.ALIAS, (old,), None)
        self.aliases[old] = new

    def del_alias(self, old: int) -> None:
        """Take an alias away."""
        self._db.run("DELETE FROM alias WHERE old = ?", (old,))
        self._note(Table.ALIAS, (old,), (old, self.aliases.pop(old)))

    def reload_aliases(self) -> None:
        """Aliases are few and asked for at every step, hence kept in memory as a whole."""
        self.aliases = dict(self._db.all("SELECT old, new FROM alias"))

    def landing(self, op: bytes) -> int | None:
        """The node where the content of the put `op` (24 bytes) came to lie."""
        row = self._db.one("SELECT st FROM landing WHERE op = ?", (op,))
        return None if row is None else int(row[0])

    def put_landing(self, op: bytes, st: int) -> None:
        """Record a landing; it must be new."""
        self._db.run("INSERT INTO landing VALUES(?, ?)", (op, st))
        self._note(Table.LANDING, (op,), None)

    def del_landing(self, op: bytes, st: int) -> None:
        """Forget a landing."""
        self._db.run("DELETE FROM landing WHERE op = ?", (op,))
        self._note(Table.LANDING, (op,), (op, st))

    # ---- extended attributes

    def xattr(self, st: int, key: bytes) -> bytes | None:
        """Value of an extended attribute."""
        row = self._db.one("SELECT val FROM xattr WHERE st = ? AND key = ?", (st, key))
        return None if row is None else bytes(row[0])

    def xattrs(self, st: int) -> list[tuple[bytes, bytes]]:
        """All extended attributes, sorted by key."""
        rows: list[tuple[bytes, bytes]] = self._db.all("SELECT key, val FROM xattr WHERE st = ? ORDER BY key", (st,))
        return rows

    def put_xattr(self, st: int, key: bytes, val: bytes, before: bytes | None) -> None:
        """Set an extended attribute."""
        self._db.run("INSERT OR REPLACE INTO xattr VALUES(?, ?, ?)", (st, key, val))
        self._note(Table.XATTR, (st, key), None if before is None else (st, key, before))

    def del_xattr(self, st: int, key: bytes, before: bytes) -> None:
        """Remove an extended attribute."""
        self._db.run("DELETE FROM xattr WHERE st = ? AND key = ?", (st, key))
        self._note(Table.XATTR, (st, key), (st, key, before))

    # ---- old versions

    def history(self, st: int) -> list[History]:
        """Old versions of a node, sorted by version."""
        rows = self._db.all("SELECT * FROM history WHERE st = ? ORDER BY cver", (st,))
        return [History._make(row) for row in rows]

    def history_of(self, st: int, cver: bytes) -> History | None:
        """One old version; `cver` in external form."""
        row = self._db.one("SELECT * FROM history WHERE st = ? AND cver = ?", (st, cver))
        return None if row is None else History._make(row)

    def put_history(self, new: History) -> None:
        """Keep an old version; one that is kept already gets the later stamp."""
        before = self.history_of(new.st, new.cver)
        self._db.run("INSERT OR REPLACE INTO history VALUES(?,?,?,?,?,?)", new)
        self._note(Table.HISTORY, (new.st, new.cver), before)

    def del_history(self, before: History) -> None:
        """Forget an old version."""
        self._db.run("DELETE FROM history WHERE st = ? AND cver = ?", (before.st, before.cver))
        self._note(Table.HISTORY, (before.st, before.cver), before)

    def expired_history(self, stamp: int) -> list[History]:
        """Versions superseded at or below `stamp`."""
        rows = self._db.all("SELECT * FROM history WHERE sup_l <= ? ORDER BY st, cver", (stamp,))
        return [History._make(row) for row in rows]

    def expired_nodes(self, stamp: int) -> list[NodeRow]:
        """Nodes without links that lost their last one at or below `stamp`."""
        rows = self._db.all("SELECT * FROM node WHERE gone_l BETWEEN 0 AND ? ORDER BY st", (stamp,))
        return [NodeRow._make(row) for row in rows]

    def anything_expires(self, stamp: int) -> bool:
        """Whether `expired_history` or `expired_nodes` would give anything."""
        old = self._db.one("SELECT 1 FROM history WHERE sup_l <= ? LIMIT 1", (stamp,))
        return (
            old is not None
            or self._db.one("SELECT 1 FROM node WHERE gone_l BETWEEN 0 AND ? LIMIT 1", (stamp,)) is not None
        )

    # ---- containers

    def container(self, place: int, ident: bytes) -> Container | None:
        """A container that some log has named."""
        row = self._db.one("SELECT * FROM container WHERE place = ? AND id = ?", (place, ident))
        return None if row is None else Container._make(row)

    def put_container(self, new: Container, before: Container | None) -> None:
        """Write a container."""
        self._db.run("INSERT OR REPLACE INTO container VALUES(?,?,?,?,?,?,?)", new)
        self._note(Table.CONTAINER, (new.place, new.id), before)

    # ---- notices and marks

    def mark(self, table: Table, st: int) -> None:
        """Leave a mark about a node among the changes."""
        self._note(table, (st,), None)

    def put_notice(self, op: bytes, kind: str, st: int, text: bytes) -> None:
        """Tell the person something about the operation `op`; undone with the operation unless seen."""
        self._db.run("INSERT OR IGNORE INTO notice VALUES(?, ?, ?, ?, 0)", (op, kind, st, text))
        self._note(Table.NOTICE, (op,), None)
