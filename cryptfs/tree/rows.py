"""The rows of the State: typed reads, and the only functions that change them, each of which leaves the way back.

`Rows` appends what a row was before to the undo log and, while a difference is being taken, to the recorder. Nothing
else writes State tables.
"""

from typing import Any, Final, NamedTuple

from cryptfs.format.operation import KIND_DIR
from cryptfs.tree.database import Database
from cryptfs.tree.noderows import NodeRow, NodeRows
from cryptfs.tree.undo import Table, UndoLog

__all__ = ["Container", "Entry", "History", "NodeRow", "Rows"]


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

_ENTRY: Final = "SELECT * FROM dirent WHERE parent = ? AND name = ?"
_PUT_ENTRY: Final = "INSERT OR REPLACE INTO dirent VALUES(?,?,?,?,?)"
_DEL_ENTRY: Final = "DELETE FROM dirent WHERE parent = ? AND name = ?"
_LINKS: Final = "SELECT * FROM dirent WHERE st = ?"
_LINKED: Final = "SELECT 1 FROM dirent WHERE st = ? LIMIT 1"
_COUNT_LINKS: Final = "SELECT count(*) FROM dirent WHERE st = ?"
_COUNT_SUBDIRECTORIES: Final = "SELECT count(*) FROM dirent WHERE parent = ? AND kind = 1"
_CACHED_MAX: Final = 20_000
"""Entries kept in memory, about 400 bytes each; when full, all are dropped, which costs a look-up each."""
_HAS_ENTRIES: Final = "SELECT 1 FROM dirent WHERE parent = ? LIMIT 1"


class Rows:
    """Reads and changes State rows. One instance a replica, one thread."""

    def __init__(self, db: Database, undo: UndoLog) -> None:
        self._db = db
        self._note = undo.note
        self.aliases: dict[int, int] = {}
        self._nodes = NodeRows(db)
        self._entries: dict[tuple[int, bytes], Entry] = {}
        self._absent: tuple[int, bytes] | None = None  # what was asked for last and is not there
        self._counts: dict[int, int] = {}  # links of a file, subdirectories of a directory, as far as known
        self._any_xattrs = False
        self.shown: dict[int, Any] = {}
        """What `Replica.node` made of rows and times; whoever changes one of them takes the node out."""
        self.reload()

    def flush(self) -> None:
        """Bring the tables up to date. Called before every commit."""
        self._nodes.flush()

    def reload(self) -> None:
        """Rows changed behind our back (undo): nothing in memory counts any more."""
        self._nodes.forget()
        self._entries.clear()
        self._absent = None
        self._counts.clear()
        self._any_xattrs = self._db.one("SELECT 1 FROM xattr LIMIT 1") is not None
        self.shown.clear()
        self.reload_aliases()

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
        return self._nodes.get(st)

    def node_in_memory(self, st: int) -> NodeRow | None:
        """The node if that needs no question to the database."""
        return self._nodes.in_memory(st)

    def put_node(self, new: NodeRow, before: NodeRow | None) -> None:
        """Write a node; `before` is its row as read."""
        self._nodes.put(new)
        self.shown.pop(new.st, None)
        if before is None:
            self._remember_count(new.st, 0)
        self._note(Table.NODE, (new.st,), before)

    def del_node(self, before: NodeRow) -> None:
        """Forget a node."""
        self._nodes.delete(before.st)
        self._counts.pop(before.st, None)
        self.shown.pop(before.st, None)
        self._note(Table.NODE, (before.st,), before)

    # ---- entries

    def entry(self, parent: int, name: bytes) -> Entry | None:
        """The entry `name` of the directory `parent`."""
        place = parent, name
        known = self._entries.get(place)
        if known is not None:
            return known
        if place == self._absent:
            return None
        row = self._db.one(_ENTRY, place)
        if row is None:
            self._absent = place
            return None
        return self.remember(Entry._make(row))

    def is_absent(self, parent: int, name: bytes) -> bool:
        """Whether this is the name that was asked for last, in vain: making a file asks four times."""
        return (parent, name) == self._absent

    def note_absent(self, parent: int, name: bytes) -> None:
        """There is no such entry."""
        self._absent = parent, name

    def put_entry(self, new: Entry, before: Entry | None) -> None:
        """Write an entry; `before` is what the name held."""
        self._db.run(_PUT_ENTRY, new)
        self.remember(new)
        self._absent = None
        self._count(new, 1)
        self.shown.pop(new.st, None)
        self.shown.pop(new.parent, None)
        if before is not None:
            self._count(before, -1)
            self.shown.pop(before.st, None)
        self._note(Table.DIRENT, (new.parent, new.name), before)

    def del_entry(self, before: Entry) -> None:
        """Take an entry away."""
        self._db.run(_DEL_ENTRY, (before.parent, before.name))
        self._entries.pop((before.parent, before.name), None)
        self._count(before, -1)
        self.shown.pop(before.st, None)
        self.shown.pop(before.parent, None)
        self._note(Table.DIRENT, (before.parent, before.name), before)

    def count(self, node: NodeRow) -> int:
        """How many entries lead to a node; of a directory: how many directories are in it."""
        known = self._counts.get(node.st)
        if known is None:
            question = _COUNT_SUBDIRECTORIES if node.kind == KIND_DIR else _COUNT_LINKS
            known = int(self._db.one(question, (node.st,))[0])
            self._remember_count(node.st, known)
        return known

    def _count(self, entry: Entry, by: int) -> None:
        counted = entry.parent if entry.kind == KIND_DIR else entry.st
        if counted in self._counts:
            self._counts[counted] += by

    def _remember_count(self, st: int, count: int) -> None:
        if len(self._counts) >= _CACHED_MAX:
            self._counts.clear()
        self._counts[st] = count

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
        if not self._any_xattrs:
            return None
        row = self._db.one("SELECT val FROM xattr WHERE st = ? AND key = ?", (st, key))
        return None if row is None else bytes(row[0])

    def xattrs(self, st: int) -> list[tuple[bytes, bytes]]:
        """All extended attributes, sorted by key."""
        if not self._any_xattrs:
            return []
        rows: list[tuple[bytes, bytes]] = self._db.all("SELECT key, val FROM xattr WHERE st = ? ORDER BY key", (st,))
        return rows

    def put_xattr(self, st: int, key: bytes, val: bytes, before: bytes | None) -> None:
        """Set an extended attribute."""
        self._any_xattrs = True
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
