"""The parts of the replica put together: transactions, local operations, taking them back.

Everything between two `commit`s is one transaction of the database, read and written inline.
"""

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, Literal, Self

from cryptfs.errors import CryptfsError
from cryptfs.format.operation import KIND_DIR, Op, OpId
from cryptfs.tree.applied import Applied
from cryptfs.tree.conflict_name import date_of, label_of
from cryptfs.tree.database import Database
from cryptfs.tree.facts import Facts
from cryptfs.tree.ids import PROVISIONAL_PREFIX, Ids, op_id_of, provisional_id, st_of_k
from cryptfs.tree.merge import apply
from cryptfs.tree.retirement import Retirements
from cryptfs.tree.rows import NodeRow, Rows
from cryptfs.tree.schema import CACHE_KIB, ROOT_ST, WHOLE_CACHE_KIB, open_beside, open_sealed
from cryptfs.tree.state import State, Step
from cryptfs.tree.tentative import Tentative
from cryptfs.tree.times import Times
from cryptfs.tree.undo import UndoLog
from cryptfs.tree.uses import Uses

__all__ = ["Core", "StateTable"]

StateTable = Literal["node", "dirent", "alias", "landing", "xattr", "container", "history"]

_MADE_ANEW: Final = (
    "node", "dirent", "alias", "landing", "xattr", "container", "history", "head", "applied", "tentative", "undo",
    "notice",
)  # fmt: skip
"""Tables that follow from the segments."""
_ROOT_MODE: Final = 0o755
_I64: Final = struct.Struct(">q")


class Core:
    """One database and what works on it. Belongs to one thread."""

    beside: Callable[[], Database]
    """Opens a second connection, which sees what is committed at that moment, for another thread to read."""

    def __init__(self, db: Database, vault: bytes) -> None:
        self._db = db
        self.vault = vault
        self._begin()
        self.undo = UndoLog(db)
        self.ids = Ids(db, vault)
        self.facts = Facts(db)
        self.rows = Rows(db, self.undo)
        self.times = Times(db, self.rows.shown)
        self.state = State(self.rows, self.ids, self.facts)
        self.applied = Applied(db, self.undo)
        self.tentative = Tentative(db)
        self.uses = Uses(db, self.ids, self.facts, self.applied, self.undo)
        self.retirements = Retirements(db)
        self.set_label("", 0)
        self._next_k = self._written_k = self._meta_int("next_k")
        if self.rows.node(ROOT_ST) is None:
            self._plant_root()
            self._db.run("INSERT INTO local(st, ino) VALUES(?, ?)", (ROOT_ST, self.ids.root_ino))
            self.commit()

    def _plant_root(self) -> None:
        root = NodeRow(ROOT_ST, KIND_DIR, _ROOT_MODE, 0, 0, 0, 0, 0, 0, b"", None, b"", None, None, None)
        self.undo.enabled = False
        self.rows.put_node(root, None)
        self.undo.enabled = True

    @classmethod
    def open(cls, path: str, key: bytes, vault: bytes) -> Self:
        """Open the replica at `path` (or ":memory:") under the 32-byte `key`; make an empty tree if there is none.

        `vault` is the 32-byte vault id. Raises ReplicaDamaged.
        """
        db = open_sealed(path, key)
        try:
            core = cls(db, vault)
        except CryptfsError:
            db.close()
            raise
        core.beside = lambda: open_beside(path, key)
        return core

    # ---- transactions

    def _begin(self) -> None:
        self._db.run("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """Write everything since the last commit, as a whole; survives a crash of the process."""
        self.flush()
        self._db.run("COMMIT")
        self._begin()

    def flush(self) -> None:
        """Bring the tables up to date with what is buffered, within the transaction."""
        self.rows.flush()
        self.undo.flush()
        self.times.flush()
        self.tentative.flush()
        if self._next_k != self._written_k:
            self.meta_set("next_k", _I64.pack(self._next_k))
            self._written_k = self._next_k

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """What is changed in this block is taken back if it raises, with all that is remembered of it."""
        self.flush()
        self._db.run("SAVEPOINT attempt")
        try:
            yield
            self.flush()
        except BaseException:
            self.flush()  # so that nothing is left to be written
            self._db.run("ROLLBACK TO attempt")
            self.ids.forget()
            self.rows.reload()
            raise
        finally:
            self._db.run("RELEASE attempt")

    def close(self, *, commit: bool = True) -> None:
        """Commit (unless told not to) and close."""
        try:
            if commit:
                self.flush()
                self._db.run("COMMIT")
        finally:
            self._db.close()

    # ---- local operations

    def apply_local(self, op: Op, k: int, now_ns: int | None) -> None:
        """Apply operation `k` of this device as the last of all, tentatively.

        `now_ns` becomes ctime of what changes and mtime of directories; None (applying again) leaves times as they are.
        """
        u = self.undo.next_u()
        step = Step(provisional_id(k), k, -(k + 1), 0, self._label, self._date, 0, PROVISIONAL_PREFIX)
        apply(self.state, step, op)
        self.tentative.add(k, u, clean=step.clean)
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
                changed = times.changed(st)
                changed[0] = max(changed[0] or 0, now_ns)
        for st in step.dirs:
            changed = times.changed(st)
            changed[0] = changed[1] = now_ns
        for st in step.mtimes:
            times.changed(st)[1] = None

    def pop_tentative(self) -> None:
        """Take back all tentative operations, also those of an earlier run of the program."""
        first = self.tentative.first_unit()
        if first is not None:
            self.undo.undo_from(first)
            self.rows.reload()
            self.tentative.drop()

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

    def start_over(self) -> None:
        """Empty the tree, to be made anew from its segments. Facts stay: no node gets another number."""
        self.flush()
        for table in _MADE_ANEW:
            self._db.run(f"DELETE FROM {table}")  # noqa: S608 - a literal
        self.applied.forget_floor()
        self.rows.reload()
        self._plant_root()

    # ---- odds and ends kept with the tree

    def learn_own(self, log: bytes, numbers: Mapping[int, int]) -> None:
        """Local operations k got the numbers n in `log`; needed when a rebuilt replica meets pending operations."""
        self.ids.learn_own(log, numbers)

    def own_id(self, k: int) -> OpId | None:
        """Final id of local operation `k`; None while it is not sealed."""
        final = self.ids.own(k)
        return None if final is None else op_id_of(final)

    def final_ino(self, ino: bytes) -> bytes:
        """The final form of an inode if it has one, else the inode itself."""
        st = self.ids.st_of(ino)
        return ino if st is None else self.ids.ino_of(st)

    def all_rows(self, table: StateTable) -> list[tuple[Any, ...]]:
        """All rows of a State table as stored, in no particular order."""
        rows: list[tuple[Any, ...]] = self._db.all(f"SELECT * FROM {table}")  # noqa: S608 - a literal
        return rows

    def widen(self, *, wide: bool) -> None:
        """Have as many pages in memory as it takes to write the whole tree, or as many as usual."""
        self._db.run(f"PRAGMA cache_size = -{WHOLE_CACHE_KIB if wide else CACHE_KIB}")
        if not wide:
            self._db.run("PRAGMA shrink_memory")

    @property
    def db(self) -> Database:
        """For modules of this room that read or write a great many rows at once."""
        return self._db

    def question(self, sql: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        """Rows of a SELECT; for the modules of this room that look at more than one row."""
        rows: list[tuple[Any, ...]] = self._db.all(sql, values)
        return rows

    def forget_local(self, st: int) -> None:
        """The node `st` never existed for anybody else and does not exist any more."""
        self.times.drop(st)
        self._db.run("DELETE FROM local WHERE st = ?", (st,))

    def set_label(self, label: str, wall_ms: int) -> None:
        """Label of this device and present time, for the names of conflict copies until they are sealed."""
        self._label, self._date = label_of(label), date_of(wall_ms)

    def meta_get(self, key: str) -> bytes | None:
        """A value of the owner's, or None."""
        row = self._db.one("SELECT v FROM meta WHERE k = ?", (key,))
        return None if row is None else bytes(row[0])

    def meta_set(self, key: str, value: bytes) -> None:
        """Keep a value with the tree; committed with it."""
        self._db.run("INSERT OR REPLACE INTO meta VALUES(?, ?)", (key, value))

    def _meta_int(self, key: str) -> int:
        value = self.meta_get(key)
        return 0 if value is None else int(_I64.unpack(value)[0])
