"""The State in external form: rows as checkpoints have them (docs/format.md, "Checkpoints"), free of local numbers.

Inodes have 16 bytes, versions are sorted op ids, contents are encoded as on the wire. Two replicas that have applied
the same segments give the same rows; while operations are tentative the rows mean nothing to anybody else.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final

from cryptfs.format.operation import Ver
from cryptfs.tree.core import Core, StateTable
from cryptfs.tree.ids import op_id_of

__all__ = ["STATE_TABLES", "state_rows"]

Row = tuple[Any, ...]


def state_rows(core: Core, table: StateTable) -> list[Row]:
    """Rows of one of STATE_TABLES in the column order of the schema, sorted by key."""
    make, key = _TABLES[table]
    return sorted(make(core), key=lambda row: row[:key])


def _nodes(core: Core) -> Iterator[Row]:
    for row in core.all_rows("node"):
        st, kind, mode, uid, gid, rdev, size, mtime, ctime, cver, content, target, last_parent, last_name, gone = row
        yield (
            _ino(core, st), kind, mode, uid, gid, rdev, size, mtime, ctime, _ver(core, cver), target,
            _content(core, content), _ino(core, last_parent), last_name, gone,
        )  # fmt: skip


def _dirents(core: Core) -> Iterator[Row]:
    for parent, name, st, _, lver in core.all_rows("dirent"):
        yield _ino(core, parent), name, _ino(core, st), _ver(core, lver)


def _aliases(core: Core) -> Iterator[Row]:
    for old, new in core.all_rows("alias"):
        yield _ino(core, old), _ino(core, new)


def _landings(core: Core) -> Iterator[Row]:
    for op, st in core.all_rows("landing"):
        yield op_id_of(core.ids.external(op)), _ino(core, st)


def _xattrs(core: Core) -> Iterator[Row]:
    for st, key, value in core.all_rows("xattr"):
        yield _ino(core, st), key, value


def _containers(core: Core) -> Iterator[Row]:
    yield from core.all_rows("container")


def _history(core: Core) -> Iterator[Row]:
    for st, cver, content, size, mtime, sup in core.all_rows("history"):
        yield _ino(core, st), _ver(core, cver), _content(core, content), size, mtime, sup


def _ino(core: Core, st: int | None) -> bytes | None:
    return None if st is None else core.ids.ino_of(st)


def _ver(core: Core, blob: bytes) -> Ver:
    return core.ids.ver_of(blob)


def _content(core: Core, carrier: bytes | None) -> bytes | None:
    return None if carrier is None else core.facts.encoded(core.ids.external(carrier))


_TABLES: Final[dict[StateTable, tuple[Callable[[Core], Iterator[Row]], int]]] = {
    "node": (_nodes, 1),
    "dirent": (_dirents, 2),
    "alias": (_aliases, 1),
    "landing": (_landings, 1),
    "xattr": (_xattrs, 2),
    "container": (_containers, 2),
    "history": (_history, 2),
}
"""Rows of a table, and how many columns are its key."""

STATE_TABLES: Final = tuple(_TABLES)
