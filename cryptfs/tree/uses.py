"""Which contents use which containers: facts, read once from every sealed content, that collection decides by.

A content never changes, so its row stays right whatever the order of operations; whether it is *in force* (a node or
an old version has it) is asked when it matters. A paged content whose manifest nobody has read here yet may use
anything, and while one such is in force nothing may be called unused.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import msgspec

from cryptfs.format.content import Content, Paged
from cryptfs.tree.applied import Applied
from cryptfs.tree.database import Database
from cryptfs.tree.facts import Facts
from cryptfs.tree.ids import Ids
from cryptfs.tree.merge_containers import IN_USE, RETIRED, Moved, moved_ranges
from cryptfs.tree.places import Place, Used, merged, present_place, wire_places
from cryptfs.tree.rows import Container, History, NodeRow
from cryptfs.tree.undo import Table, UndoLog

__all__ = ["InUse", "Uses"]

Ranges = list[tuple[int, int]]
"""(offset, length) in bytes."""

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(list[tuple[int, int]]).decode

_FORMS: Final = (
    "INSERT OR IGNORE INTO asked SELECT unhex(printf('ffffffffffffffffffffffffffffffff%016x', own.k)), asked.op"
    " FROM own CROSS JOIN asked ON asked.form = unhex(hex(own.log) || printf('%016x', own.n))"
)
"""Rows may name an operation of this device by the id that it had before it was sealed."""
_NODES: Final = "SELECT DISTINCT asked.op FROM node CROSS JOIN asked ON asked.form = node.content"
_WHOSE: Final = "SELECT DISTINCT node.st FROM node CROSS JOIN asked ON asked.form = node.content"
_OLD: Final = "SELECT DISTINCT asked.op FROM history CROSS JOIN asked ON asked.form = history.content"


@dataclass(frozen=True, slots=True)
class InUse:
    """What is used of the containers that were asked about, and by how many contents.

    `unread` paged contents in force may use more.
    """

    ranges: Mapping[Place, Ranges]
    contents: Mapping[Place, int]
    unread: int


class Uses:
    """Tables `uses` and `unread`, and the questions about containers."""

    def __init__(self, db: Database, ids: Ids, facts: Facts, applied: Applied, undo: UndoLog) -> None:
        self._db = db
        self._ids = ids
        self._facts = facts
        self._applied = applied
        self._undo = undo
        self._asking = False

    # ---- learning

    def catch_up(self, limit: int) -> bool:
        """Take in up to `limit` contents that were sealed since; True if none is left."""
        for log in self._applied.heads():
            left = limit
            while left > 0:
                cursor = self._cursor(log)
                rows = self._db.all(
                    "SELECT op, ext FROM content WHERE op > ? AND op <= ? ORDER BY op LIMIT ?",
                    (cursor, log + b"\xff" * 8, left),
                )
                if not rows:
                    break
                for op, _ in rows:
                    content = self._facts.content(op)
                    if content is not None:
                        self.learn(op, content)
                self._db.run("INSERT OR REPLACE INTO meta VALUES(?, ?)", (f"uses/{log.hex()}", rows[-1][0]))
                left -= len(rows)
            limit = left
            if limit <= 0:
                return False
        return True

    def _cursor(self, log: bytes) -> bytes:
        row = self._db.one("SELECT v FROM meta WHERE k = ?", (f"uses/{log.hex()}",))
        return bytes(row[0]) if row is not None else log

    def read_again(self, log: bytes) -> None:
        """Contents of that log may have become others (another branch of it counts now)."""
        self._db.run("DELETE FROM meta WHERE k = ?", (f"uses/{log.hex()}",))

    def learn(self, op: bytes, content: Content) -> None:
        """Take in what a content names, itself."""
        self._put(op, wire_places(content))
        if isinstance(content.body, Paged):
            self._db.run("INSERT OR REPLACE INTO unread VALUES(?)", (op,))

    def _put(self, op: bytes, places: Iterable[Used]) -> None:
        by_place: dict[Place, Ranges] = {}
        for one in places:
            by_place.setdefault(one.place, []).append((one.off, one.len))
        rows = [(place.where, place.id, op, _encode(merged(ranges))) for place, ranges in by_place.items()]
        self._db.many("INSERT OR REPLACE INTO uses VALUES(?, ?, ?, ?)", rows)

    def unread(self, stable: int) -> list[tuple[bytes, Content]]:
        """Paged contents whose manifest has not been read, and which `in_use` would have to ask about, by operation."""
        ops = {bytes(row[0]) for row in self._db.all("SELECT op FROM unread")}
        found = ((op, self._facts.content(op)) for op in sorted(self._in_force(ops) | self._above(ops, stable)))
        return [(op, content) for op, content in found if content is not None]

    def learn_manifest(self, op: bytes, places: Iterable[Used]) -> None:
        """Everything that the paged content of `op` uses, itself or through its manifest."""
        self._put(op, places)
        self._db.run("DELETE FROM unread WHERE op = ?", (op,))

    # ---- asking

    def in_use(self, places: Iterable[Place], stable: int) -> InUse:
        """What is used of these containers now: by contents in force, and by those that may come into force again.

        That happens when a segment is inserted: to contents that a segment above the stamp `stable` brought or took
        away. All contents must have been taken in (`catch_up`).
        """
        wanted = set(places)
        moves = self.moves()
        rows = [row for source in _sources(wanted, moves) for row in self._rows(source)]
        asked = {op for op, _ in rows}
        unread = [bytes(row[0]) for row in self._db.all("SELECT op FROM unread")]
        live = self._in_force(asked.union(unread)) | self._above(asked.union(unread), stable)
        ranges: dict[Place, Ranges] = {}
        users: dict[Place, set[bytes]] = {}
        for op, used in rows:
            if op in live:
                for one in present_place(used, moves):
                    if one.place in wanted:
                        ranges.setdefault(one.place, []).append((one.off, one.len))
                        users.setdefault(one.place, set()).add(op)
        union = {place: merged(found) for place, found in ranges.items()}
        return InUse(union, {place: len(ops) for place, ops in users.items()}, sum(op in live for op in unread))

    def nodes_of(self, place: Place) -> list[int]:
        """Files, also in the trash, whose present content has records in a container, as far as manifests were read.

        Their st numbers, sorted.
        """
        ops = {op for source in _sources({place}, self.moves()) for op, _ in self._rows(source)}
        with self._asked(ops):
            return sorted(int(row[0]) for row in self._db.all(_WHOSE))

    def count(self, place: Place) -> int:
        """How many contents name a container, in force or not; what asking about it costs."""
        row = self._db.one("SELECT count(*) FROM uses WHERE place = ? AND id = ?", place)
        return 0 if row is None else int(row[0])

    def moves(self) -> dict[Place, list[Moved]]:
        """What was moved out of which container."""
        rows = self._db.all("SELECT * FROM container WHERE length(moved) > 0")
        containers = [Container._make(row) for row in rows]
        return {Place(one.place, one.id): moved_ranges(one) for one in containers}

    def held(self, log: bytes, where: int, *, retired: bool) -> list[Container]:
        """Containers of one kind that the log holds, by id: retired ones, or those in use."""
        rows = self._db.all(
            "SELECT * FROM container WHERE holder = ? AND place = ? AND state = ? ORDER BY id",
            (log, where, RETIRED if retired else IN_USE),
        )
        return [Container._make(row) for row in rows]

    def any_retired(self) -> bool:
        """Whether any container of any log is retired."""
        return self._db.one("SELECT 1 FROM container WHERE state = ? LIMIT 1", (RETIRED,)) is not None

    def _rows(self, source: Place) -> list[tuple[bytes, Used]]:
        rows = self._db.all("SELECT op, ranges FROM uses WHERE place = ? AND id = ?", source)
        return [(bytes(op), Used(*source, off, length)) for op, data in rows for off, length in _decode(data)]

    def _in_force(self, ops: Iterable[bytes]) -> set[bytes]:
        """Those of the sealed operations `ops` whose content a node (also in the trash) or an old version has."""
        with self._asked(ops):
            return {bytes(row[0]) for question in (_NODES, _OLD) for row in self._db.all(question)}

    @contextmanager
    def _asked(self, ops: Iterable[bytes]) -> Iterator[None]:
        """Table `asked` holds these operations, by every id that a row may name them by."""
        if not self._asking:
            self._db.run("CREATE TEMP TABLE asked(form BLOB PRIMARY KEY, op BLOB NOT NULL) WITHOUT ROWID")
            self._asking = True
        self._db.many("INSERT OR IGNORE INTO asked VALUES(?, ?)", [(op, op) for op in ops])
        self._db.run(_FORMS)
        try:
            yield
        finally:
            self._db.run("DELETE FROM asked")

    def _above(self, ops: set[bytes], stable: int) -> set[bytes]:
        """Those of `ops` that a segment above `stable` carries, or drops."""
        first: dict[bytes, int] = {}
        units = []
        for row in self._applied.rows():
            stamp, log = row.position
            if stamp > stable:
                units.append(row.u)
                if log not in first:
                    first[log] = self._applied.segment(row.position).first_op
        found = {op for op in ops if op[:16] in first and int.from_bytes(op[16:], "big") >= first[op[:16]]}
        return found | (ops & self._dropped(min(units)) if units else set())

    def _dropped(self, first_unit: int) -> set[bytes]:
        """Contents that rows had before what was applied from that unit of the undo log on."""
        found: set[bytes] = set()
        for _, _, table, _, before in self._undo.entries(first_unit):
            content = None
            if before is not None and table == Table.NODE:
                content = NodeRow._make(before).content
            elif before is not None and table == Table.HISTORY:
                content = History._make(before).content
            if content is not None:
                found.add(self._ids.external(content))
        return found


def _sources(wanted: set[Place], moves: Mapping[Place, list[Moved]]) -> set[Place]:
    """The wanted containers, and all whose records may have been moved into them."""
    into: dict[Place, set[Place]] = {}
    for old, ranges in moves.items():
        for one in ranges:
            into.setdefault(Place(one.where, one.id), set()).add(old)
    found, waiting = set(wanted), list(wanted)
    while waiting:
        for old in into.get(waiting.pop(), ()):
            if old not in found:
                found.add(old)
                waiting.append(old)
    return found
