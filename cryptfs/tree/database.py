"""The one connection to the sealed database, and the border where its library's exceptions become ours.

All statements are constants, so that the library's statement cache holds each of them prepared.

Rows of one table, `node`, may wait in memory (`tree/noderows.py`). Every statement that names the table has them
written first, whoever asks: nobody has to remember it.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import apsw

from cryptfs.errors import CryptfsError, HostileStore, Invalid, LocalDisk, LocalDiskFull

__all__ = ["Database", "ReplicaDamaged"]

Values = tuple[Any, ...]


class ReplicaDamaged(HostileStore):
    """The local copy of the tree cannot be used; it is only a copy: delete it and build it again."""

    default_advice = "It is rebuilt from the store by itself."


_DAMAGE: Final = (apsw.CorruptError, apsw.NotADBError)
_FOREIGN: Final = (*_DAMAGE, apsw.FullError, apsw.IOError, apsw.CantOpenError, apsw.ReadOnlyError)


class Database:
    """A connection with one cursor. Raises ReplicaDamaged, LocalDiskFull, LocalDisk; then it is of no further use."""

    def __init__(self, path: str) -> None:
        try:
            self._connection = apsw.Connection(path)
        except _FOREIGN as err:
            raise _ours(err) from err
        # Plans do not depend on values: without this a statement with a join, or with a partial index in reach, is
        # compiled again at every execution with other values (15 to 25 us).
        self._connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
        self._waiting: Callable[[], None] | None = None
        self._concerns: dict[str, bool] = {}  # statement -> whether it names the table whose rows may wait
        cursor = self._connection.cursor()
        self._execute = cursor.execute
        self._executemany = cursor.executemany

    def wait(self, write: Callable[[], None]) -> None:
        """Rows of the table `node` wait; `write` is called once, before the next statement that names the table."""
        self._waiting = write

    def _settle(self, statement: str, write: Callable[[], None]) -> None:
        concerns = self._concerns.get(statement)
        if concerns is None:
            concerns = self._concerns[statement] = re.search(r"\bnode\b", statement) is not None
        if concerns:
            self._waiting = None
            write()

    def run(self, statement: str, values: Values = ()) -> None:
        """Execute a statement that gives no rows; what changes rows is complete after its first step."""
        if self._waiting is not None:
            self._settle(statement, self._waiting)
        try:
            self._execute(statement, values)
        except _FOREIGN as err:
            raise _ours(err) from err

    def one(self, statement: str, values: Values = ()) -> Any:
        """The first row of the answer, None if there is none."""
        if self._waiting is not None:
            self._settle(statement, self._waiting)
        return self.stored(statement, values)

    def stored(self, statement: str, values: Values = ()) -> Any:
        """As `one`, from what is written; for who has looked at what waits."""
        try:
            return self._execute(statement, values).fetchone()
        except _FOREIGN as err:
            raise _ours(err) from err

    def all(self, statement: str, values: Values = ()) -> list[Any]:
        """All rows of the answer."""
        if self._waiting is not None:
            self._settle(statement, self._waiting)
        try:
            return self._execute(statement, values).fetchall()
        except _FOREIGN as err:
            raise _ours(err) from err

    def each(self, statement: str, values: Values = ()) -> Iterator[Any]:
        """The rows of the answer one by one, for more than memory should hold; nothing may be written meanwhile."""
        if self._waiting is not None:
            self._settle(statement, self._waiting)
        try:
            yield from self._connection.cursor().execute(statement, values)
        except _FOREIGN as err:
            raise _ours(err) from err

    def changed(self) -> int:
        """Rows that were written since the connection was opened; the difference tells what a statement has done."""
        return self._connection.total_changes()

    def many(self, statement: str, rows: Iterable[Values]) -> None:
        """Execute a statement for every row. Raises Invalid for rows of others that exclude each other."""
        if self._waiting is not None:
            self._settle(statement, self._waiting)
        try:
            self._executemany(statement, rows)
        except apsw.ConstraintError as err:
            raise Invalid("rows exclude each other") from err
        except _FOREIGN as err:
            raise _ours(err) from err

    def pragma(self, name: str, value: str | int | None = None) -> Any:
        """Set or ask a pragma."""
        try:
            return self._connection.pragma(name) if value is None else self._connection.pragma(name, value)
        except _FOREIGN as err:
            raise _ours(err) from err

    def close(self) -> None:
        """Close; what is not committed is gone."""
        self._connection.close(force=True)


def _ours(err: apsw.Error) -> CryptfsError:
    if isinstance(err, _DAMAGE):
        return ReplicaDamaged("the local copy of the tree is damaged, or sealed under another key")
    if isinstance(err, apsw.FullError):
        return LocalDiskFull("no space for the local copy of the tree")
    return LocalDisk("the disk under the local copy of the tree failed")
