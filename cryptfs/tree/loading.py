"""A State that a checkpoint brings takes the place of the tree, as if every segment up to its stamp had been applied.

Rows come as they stand in the checkpoint, in its order, and are compared with the rules of form; when all are in, the
tree is looked at as a whole. What does not hold is an error of whoever made the checkpoint, and the tree is to be
emptied again (`Core.start_over`). Nodes that have a number here keep it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final, TypeVar

from cryptfs.crypto.keys import lp
from cryptfs.errors import Invalid
from cryptfs.format.checkpoint_head import STATE_TABLES, TABLE_HINTS, CheckpointLog, table_hasher
from cryptfs.format.codec import Wire, decode
from cryptfs.format.content import Content
from cryptfs.format.content_rules import check_content
from cryptfs.format.form import id16, id32, int64, need, uint
from cryptfs.format.limits import I64_MAX, OPS_MAX, STAMP_MAX, TARGET_MAX, VER_MAX, XATTR_KEY_MAX, XATTR_VALUE_MAX
from cryptfs.format.operation import KIND_BLOCK, KIND_FILE, KIND_SYMLINK, OpId, Ver, op_id_bytes
from cryptfs.format.operation_rules import MODE_MAX, check_name
from cryptfs.tree.applied import Head
from cryptfs.tree.core import Core
from cryptfs.tree.facts import unnamed
from cryptfs.tree.ids import derived_st, st_of_k
from cryptfs.tree.merge_containers import IN_USE, RETIRED, moved_ranges
from cryptfs.tree.rows import Container

__all__ = ["Loader"]

_ROW_MAX: Final = 1 << 20
_U32: Final = 0xFFFFFFFF
_PLACES: Final = (1, 2)
_ID: Final = 24
"""Bytes of an operation id."""


class _Node(Wire, frozen=True):
    ino: bytes
    kind: int
    mode: int
    uid: int
    gid: int
    rdev: int
    size: int
    mtime_ns: int
    ctime_ns: int
    cver: Ver
    target: bytes
    content: bytes | None
    last_parent: bytes | None
    last_name: bytes | None
    gone: int | None


class _Dirent(Wire, frozen=True):
    parent: bytes
    name: bytes
    ino: bytes
    lver: Ver


class _Alias(Wire, frozen=True):
    old: bytes
    new: bytes


class _Landing(Wire, frozen=True):
    op: OpId
    ino: bytes


class _Xattr(Wire, frozen=True):
    ino: bytes
    key: bytes
    value: bytes


class _Container(Wire, frozen=True):
    place: int
    id: bytes
    size: int
    kind: int
    holder: bytes
    state: int
    moved: bytes


class _History(Wire, frozen=True):
    ino: bytes
    cver: Ver
    content: bytes | None
    size: int
    mtime_ns: int
    sup: int


class _Moment(Wire, frozen=True):
    log: bytes
    first_op: int
    seq: int
    ops: int
    stamp: int
    wall_ms: int
    digest: bytes


R = TypeVar("R", bound=Wire)

_LOCAL: Final = "INSERT OR IGNORE INTO local(st, ino) VALUES(?, ?)"
_CONTENT: Final = "INSERT OR IGNORE INTO content VALUES(?, ?)"
_NODE: Final = "INSERT INTO node VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
_DIRENT: Final = "INSERT INTO dirent SELECT ?1, ?2, ?3, coalesce((SELECT kind FROM node WHERE st = ?3), -1), ?4"
_MOMENT: Final = "INSERT OR IGNORE INTO moment VALUES(?,?,?,?,?,?,?)"

_FLAWS: Final = (
    ("the root is missing",
     "SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM node WHERE st = 1 AND kind = 1 AND gone_l IS NULL)"),
    ("an entry leads to no node", "SELECT 1 FROM dirent WHERE kind < 0"),
    ("an entry is in no directory", "SELECT 1 FROM dirent d LEFT JOIN node n ON n.st = d.parent WHERE n.kind IS NOT 1"),
    ("a node is neither linked nor removed",
     "SELECT 1 FROM node n WHERE gone_l IS NULL AND st != 1 AND NOT EXISTS (SELECT 1 FROM dirent WHERE st = n.st)"),
    ("a removed node is linked", "SELECT 1 FROM dirent d CROSS JOIN node n ON n.st = d.st WHERE n.gone_l IS NOT NULL"),
    ("a directory has two places", "SELECT 1 FROM dirent WHERE kind = 1 GROUP BY st HAVING count(*) > 1"),
    ("the root is in a directory", "SELECT 1 FROM dirent WHERE st = 1"),
    ("directories form a circle", """
        WITH RECURSIVE below(st) AS (SELECT 1 UNION ALL
            SELECT d.st FROM dirent d JOIN below ON d.parent = below.st WHERE d.kind = 1)
        SELECT 1 WHERE (SELECT count(*) FROM below) != (SELECT 1 + count(*) FROM dirent WHERE kind = 1)"""),
    ("an attribute belongs to no node", "SELECT 1 FROM xattr x LEFT JOIN node n ON n.st = x.st WHERE n.st IS NULL"),
    ("an old version belongs to no node", "SELECT 1 FROM history h LEFT JOIN node n ON n.st = h.st WHERE n.st IS NULL"),
)  # fmt: skip
"""What must not be in a tree, and a question whose answer shows it. Each directory has one place, so walking ends."""


class Loader:
    """Takes one State in. `heads`: the last segments that are in it; `own`: numbers that local operations k got.

    `own_log` is the log they are in. Everything raises Invalid for what cannot be a State.
    """

    def __init__(
        self, core: Core, heads: Iterable[CheckpointLog], own: Mapping[int, int] | None = None, own_log: bytes = b""
    ) -> None:
        core.start_over()
        self._core = core
        self._db = core.db
        self._db.run("DELETE FROM node")  # the root comes like any other
        self._heads = list(heads)
        self._logs = {head.log for head in self._heads}
        self._last: dict[int, Any] = {}
        self._hashers = {table: table_hasher(table) for table in STATE_TABLES}
        self._take = dict(
            zip(
                STATE_TABLES,
                (self._nodes, self._dirents, self._aliases, self._landings, self._xattrs, self._containers,
                 self._history),
                strict=True,
            )
        )  # fmt: skip
        self._shared: list[tuple[bytes, bytes]] = []
        self._odd = {
            bytes(ino): st
            for st, ino in self._db.each("SELECT st, ino FROM local WHERE ino IS NOT NULL")
            if st != derived_st(ino)
        }
        """Inodes whose number does not follow from them: the root, and what was made here."""
        core.learn_own(own_log, own or {})
        for k, n in sorted((own or {}).items()):
            ino = core.ids.made_by(own_log + n.to_bytes(8, "big"))
            if core.ids.st_of(ino) is None:
                self._odd[ino] = core.ids.give_st(ino, st_of_k(k))

    def take(self, table: int, rows: Sequence[bytes]) -> None:
        """The next rows of a table; tables and rows come in the order of the checkpoint."""
        if table == TABLE_HINTS:
            self._moments(rows)
            return
        hasher = self._hashers[table]
        for row in rows:
            hasher.update(lp(row))
        self._take[table](rows)

    def hashes(self) -> dict[int, bytes]:
        """`thash` of every table as taken in."""
        return {table: hasher.digest() for table, hasher in self._hashers.items()}

    def finish(self, stamp: int) -> None:
        """All is in: look at it as a whole, and let it be the tree at `stamp`, below which nothing is undone."""
        core = self._core
        self._db.many(_CONTENT, self._shared)
        for flaw, question in _FLAWS:
            need(self._db.one(question) is None, flaw)
        core.rows.reload()
        self._check_aliases()
        for head in self._heads:
            core.applied.put_head(head.log, Head(head.seq, head.digest, head.stamp))
            core.uses.read_again(head.log)
        core.applied.advance(stamp, None)

    def bodies(self) -> Iterator[tuple[bytes, int, bytes]]:
        """Segments (log, number, D) whose records are used where they lie: their names are needed to read them."""
        held = {bytes(row[0]) for row in self._db.all("SELECT id FROM container WHERE place = 2")}
        for log, seq, digest in self._db.all("SELECT log, seq, digest FROM moment"):
            if digest in held:
                yield log, seq, digest

    # ---- rows and numbers

    def _rows(self, kind: type[R], table: int, rows: Sequence[bytes], key: Callable[[R], Any]) -> list[R]:
        found = [decode(kind, row, _ROW_MAX) for row in rows]
        keys = [*map(key, found)]
        keys[:0] = self._last.get(table, [])
        need(all(one < other for one, other in pairwise(keys)), "rows are not sorted")
        self._last[table] = keys[-1:]
        return found

    def _st(self, ino: bytes) -> int:
        id16(ino, "inode")
        return self._odd.get(ino) or derived_st(ino)

    def _numbers(self, inos: Iterable[bytes]) -> None:
        """See to it that every one of these inodes has its number."""
        fresh = {ino: derived_st(ino) for ino in inos if ino not in self._odd}
        for ino in fresh:
            id16(ino, "inode")
        before = self._db.changed()
        self._db.many(_LOCAL, [(st, ino) for ino, st in fresh.items()])
        if self._db.changed() - before != len(fresh):  # some are known here, or two would have one number
            for ino, st in fresh.items():
                given = self._core.ids.give_st(ino)
                if given != st:
                    self._odd[ino] = given

    def _ver(self, ver: Ver) -> bytes:
        """A version as it is stored; of logs that are in the State."""
        need(len(ver) <= VER_MAX and list(ver) == sorted(set(ver)), "a version is not in order")
        for one in ver:
            need(one.log in self._logs, "a version is of a log that is not in the state")
            uint(one.n, STAMP_MAX, "number of an operation")
        return b"".join(map(op_id_bytes, ver))

    def _carriers(self, contents: list[tuple[bytes, bytes | None]]) -> list[bytes | None]:
        """What (version, encoded content) are to be known by here: the operation of the version, if it has one alone.

        The operation that really brought a content is not told. Any name will do, as the content is what counts.
        """
        alone = [(ver, ext) for ver, ext in contents if ext is not None and len(ver) == _ID]
        before = self._db.changed()
        self._db.many(_CONTENT, alone)
        simple = self._db.changed() - before == len(alone)
        return [None if ext is None else self._carrier(ver, ext, simple=simple) for ver, ext in contents]

    def _carrier(self, ver: bytes, ext: bytes, *, simple: bool) -> bytes:
        if len(ver) == _ID and (simple or self._core.facts.encoded(ver) == ext):
            return ver
        self._shared += [(ver[at : at + _ID], ext) for at in range(0, len(ver), _ID)]
        name = unnamed(ext)
        self._db.run(_CONTENT, (name, ext))
        self._core.uses.learn(name, decode(Content, ext, _ROW_MAX))
        return name

    # ---- tables

    def _nodes(self, rows: Sequence[bytes]) -> None:
        found = self._rows(_Node, 1, rows, lambda row: row.ino)
        self._numbers([row.ino for row in found])
        self._numbers([row.last_parent for row in found if row.last_parent is not None])
        vers = [self._ver(row.cver) for row in found]
        carriers = self._carriers([(ver, row.content) for ver, row in zip(vers, found, strict=True)])
        made = []
        for row, ver, carrier in zip(found, vers, carriers, strict=True):
            _check_node(row)
            above = None if row.last_parent is None else self._st(row.last_parent)
            made.append(
                (self._st(row.ino), row.kind, row.mode, row.uid, row.gid, row.rdev, row.size, row.mtime_ns,
                 row.ctime_ns, ver, carrier, row.target, above, row.last_name, row.gone)
            )  # fmt: skip
        self._db.many(_NODE, made)

    def _dirents(self, rows: Sequence[bytes]) -> None:
        found = self._rows(_Dirent, 2, rows, lambda row: (row.parent, row.name))
        for row in found:
            check_name(row.name)
            need(bool(row.lver), "an entry was placed by nobody")
        self._db.many(
            _DIRENT, [(self._st(row.parent), row.name, self._st(row.ino), self._ver(row.lver)) for row in found]
        )

    def _aliases(self, rows: Sequence[bytes]) -> None:
        found = self._rows(_Alias, 3, rows, lambda row: row.old)
        self._numbers({ino for row in found for ino in (row.old, row.new)})
        self._db.many("INSERT INTO alias VALUES(?, ?)", [(self._st(row.old), self._st(row.new)) for row in found])

    def _landings(self, rows: Sequence[bytes]) -> None:
        found = self._rows(_Landing, 4, rows, lambda row: row.op)
        self._numbers({row.ino for row in found})
        self._db.many("INSERT INTO landing VALUES(?, ?)", [(self._ver((row.op,)), self._st(row.ino)) for row in found])

    def _xattrs(self, rows: Sequence[bytes]) -> None:
        found = self._rows(_Xattr, 5, rows, lambda row: (row.ino, row.key))
        for row in found:
            need(0 < len(row.key) <= XATTR_KEY_MAX and len(row.value) <= XATTR_VALUE_MAX, "an attribute is too long")
            need(b"\0" not in row.key, "no name for an extended attribute")
        self._db.many("INSERT INTO xattr VALUES(?, ?, ?)", [(self._st(row.ino), row.key, row.value) for row in found])

    def _containers(self, rows: Sequence[bytes]) -> None:
        found = self._rows(_Container, 6, rows, lambda row: (row.place, row.id))
        made = [Container(row.place, row.id, row.size, row.kind, row.holder, row.state, row.moved) for row in found]
        for one in made:
            id32(one.id, "id of a container")
            id16(one.holder, "holder of a container")
            need(one.place in _PLACES and one.state in (IN_USE, RETIRED), "a container is nowhere")
            uint(one.size, I64_MAX, "size of a container")
            uint(one.kind, _U32, "kind of a container")
            try:
                moved_ranges(one)
            except ValueError as err:
                raise Invalid("what was moved out of a container cannot be read") from err
        self._db.many("INSERT INTO container VALUES(?,?,?,?,?,?,?)", made)

    def _history(self, rows: Sequence[bytes]) -> None:
        found = self._rows(_History, 7, rows, lambda row: (row.ino, row.cver))
        vers = [self._ver(row.cver) for row in found]
        carriers = self._carriers([(ver, row.content) for ver, row in zip(vers, found, strict=True)])
        made = []
        for row, ver, carrier in zip(found, vers, carriers, strict=True):
            _check_content(row.content, row.size)
            int64(row.mtime_ns, "time")
            uint(row.sup, STAMP_MAX, "stamp")
            made.append((self._st(row.ino), ver, carrier, row.size, row.mtime_ns, row.sup))
        self._db.many("INSERT INTO history VALUES(?,?,?,?,?,?)", made)

    def _moments(self, rows: Sequence[bytes]) -> None:
        """For people only: what is wrong with them leads to wrong dates at worst. What is of no segment is left out."""
        found = [decode(_Moment, row, _ROW_MAX) for row in rows]
        for row in found:
            id16(row.log, "log id")
            id32(row.digest, "segment digest")
            for number in (row.first_op, row.seq, row.ops, row.stamp):
                uint(number, STAMP_MAX, "number")
            int64(row.wall_ms, "wall clock")
        last = {head.log: head for head in self._heads}
        self._db.many(
            _MOMENT,
            [
                (row.log, row.first_op, row.seq, row.ops, row.stamp, row.wall_ms, row.digest)
                for row in found
                if (head := last.get(row.log))
                and row.seq <= head.seq
                and row.stamp <= head.stamp
                and row.ops <= OPS_MAX
            ],
        )

    def _check_aliases(self) -> None:
        aliases = self._core.rows.aliases
        sound: set[int] = set()
        for old in aliases:
            path = set[int]()
            end = old
            while end in aliases and end not in sound:
                need(end not in path, "aliases form a circle")
                path.add(end)
                end = aliases[end]
            need(end in sound or self._core.rows.node(end) is not None, "an alias leads nowhere")
            need(self._core.rows.node(old) is None, "an alias is a node")
            sound |= path


def _check_node(row: _Node) -> None:
    uint(row.kind, KIND_BLOCK, "kind")
    uint(row.mode, MODE_MAX, "mode")
    for number in (row.uid, row.gid, row.rdev):
        uint(number, _U32, "owner or device number")
    int64(row.mtime_ns, "time")
    int64(row.ctime_ns, "time")
    need(len(row.target) <= TARGET_MAX and b"\0" not in row.target, "no target for a symlink")
    need(bool(row.target) == (row.kind == KIND_SYMLINK), "only symlinks have a target")
    need(
        (row.gone is None) == (row.last_name is None) == (row.last_parent is None), "a place in the trash is half there"
    )
    if row.gone is not None:
        uint(row.gone, STAMP_MAX, "stamp")
        check_name(row.last_name or b"")  # under which it may come back
    need(row.kind == KIND_FILE or (row.size == 0 and row.content is None), "only files have contents")
    _check_content(row.content, row.size)


def _check_content(ext: bytes | None, size: int) -> None:
    if ext is None:
        need(size == 0, "a content is missing")
        return
    content = decode(Content, ext, _ROW_MAX)
    check_content(content)
    need(content.size == size, "a file is not as long as its content")
