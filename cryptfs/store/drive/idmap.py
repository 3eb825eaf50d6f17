"""Which files of Google Drive bear which names, as far as this device knows.

A name is no identity in Drive and a listing proves nothing, so this is a table of hints, fed by own writes, the feed
and listings; whoever loses it pays with listings. Two things in it are more than hints, and are durable before anything
is sent: the id drawn for an upload, by which it can be repeated without making a second file, and the address of its
session, by which it can be continued. Such an address is a capability, so the database is sealed where a key is given.
"""

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import apsw

from cryptfs.errors import LocalDisk, LocalDiskFull

__all__ = ["Entry", "IdMap", "Sums", "Upload"]


class Sums(NamedTuple):
    """What identifies bytes: `size` in bytes, both hashes in hex; `sha256` empty where Google has none."""

    size: int
    md5: str
    sha256: str

    def agree(self, other: "Sums") -> bool:
        """Whether these can be of the same bytes: size and MD5 equal, and SHA-256 where both have it."""
        both = bool(self.sha256 and other.sha256)
        return self[:2] == other[:2] and (not both or self.sha256 == other.sha256)


@dataclass(frozen=True, slots=True)
class Entry:
    """One file that is an object of ours, or a copy of one.

    `mine`: this account owns it, None if Google does not say (shared drives). `proven`: this device compared its sums
    with the bytes it sent.
    """

    id: str
    key: str
    parent: str
    sums: Sums
    mtime_ms: int
    mine: bool | None
    proven: bool = False


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload that was begun. `session` is the address to go on at, a capability; empty before there is one."""

    key: str
    id: str
    parent: str
    sums: Sums
    session: str = ""


_SUMS: Final = "size INT NOT NULL, md5 TEXT NOT NULL, sha256 TEXT NOT NULL"
_SCHEMA: Final = (
    "CREATE TABLE IF NOT EXISTS object(id TEXT PRIMARY KEY, key TEXT NOT NULL, parent TEXT NOT NULL, "
    f"{_SUMS}, mtime_ms INT NOT NULL, mine INT, proven INT NOT NULL) WITHOUT ROWID; "
    "CREATE INDEX IF NOT EXISTS object_key ON object(key); "
    "CREATE INDEX IF NOT EXISTS object_parent ON object(parent); "
    "CREATE TABLE IF NOT EXISTS folder(id TEXT PRIMARY KEY, name TEXT NOT NULL, made TEXT NOT NULL) WITHOUT ROWID; "
    "CREATE TABLE IF NOT EXISTS upload(key TEXT PRIMARY KEY, id TEXT NOT NULL, parent TEXT NOT NULL, "
    f"{_SUMS}, session TEXT NOT NULL) WITHOUT ROWID; "
    "CREATE TABLE IF NOT EXISTS drawn(id TEXT PRIMARY KEY) WITHOUT ROWID; "
    "CREATE TABLE IF NOT EXISTS fact(name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID"
)
_TABLES: Final = ("object", "folder", "upload", "drawn", "fact")
_OBJECT: Final = "id, key, parent, size, md5, sha256, mtime_ms, mine, proven"
_DAMAGE: Final = (apsw.CorruptError, apsw.NotADBError)
_FOREIGN: Final = (*_DAMAGE, apsw.FullError, apsw.IOError, apsw.CantOpenError, apsw.ReadOnlyError, apsw.BusyError)


class IdMap:
    """The table of one vault. Thread-safe. Raises LocalDisk, LocalDiskFull.

    `path` None: in memory, for commands that do not hold the vault. `owner` names folder and login: with another one
    everything is forgotten, since ids are minted for one account. A damaged file is begun anew.
    """

    def __init__(self, path: Path | None, key: bytes | None, owner: str) -> None:
        self._lock = threading.RLock()
        self._path, self._key = path, key
        with self._mapped():
            try:
                self._db = self._open()
            except _DAMAGE:
                for suffix in ("", "-wal", "-shm"):
                    if path is not None:
                        path.with_name(path.name + suffix).unlink(missing_ok=True)
                self._db = self._open()
            if self.fact("owner") != owner:
                self.clear()
                self.set_fact("owner", owner)

    def _open(self) -> apsw.Connection:
        db = apsw.Connection(str(self._path) if self._path is not None else ":memory:")
        try:
            if self._path is not None and self._key is not None:
                db.pragma("cipher", "chacha20")
                db.pragma("key", "raw:" + self._key.hex())
            # FULL: an id must be on the disk before the first byte is sent under it.
            for setting in ("journal_mode=WAL", "synchronous=FULL", "temp_store=MEMORY", "busy_timeout=2000"):
                db.execute("PRAGMA " + setting).fetchall()
            db.execute(_SCHEMA).fetchall()
        except apsw.Error:
            db.close()
            raise
        return db

    # ---- objects ----------------------------------------------------------------------------------------------------

    def learn(self, entries: Iterable[Entry]) -> None:
        """Keep what was seen; what was proven stays proven. Costs a write to the disk, if anything is new."""
        entries = list(entries)
        known = {one.id: one for one in map(self.entry, (entry.id for entry in entries)) if one is not None}
        rows = [
            (e.id, e.key, e.parent, e.sums.size, e.sums.md5, e.sums.sha256, e.mtime_ms, _flag(e.mine), int(e.proven))
            for e in entries
            if replace(e, proven=True) != known.get(e.id) != e
        ]
        if not rows:
            return
        with self._changing() as db:
            db.executemany(
                f"INSERT INTO object({_OBJECT}) VALUES (?,?,?,?,?,?,?,?,?) ON CONFLICT(id) DO UPDATE SET"  # noqa: S608
                " key=excluded.key, parent=excluded.parent, size=excluded.size, sha256=excluded.sha256,"
                " mtime_ms=excluded.mtime_ms, mine=excluded.mine,"
                " proven=max(excluded.proven, proven AND md5=excluded.md5), md5=excluded.md5",
                rows,
            )

    def forget(self, file_id: str) -> Entry | None:
        """Drop a file of which Drive says that it is gone; returns what was known of it."""
        entry = self.entry(file_id)
        if entry is not None:
            with self._changing() as db:
                db.execute("DELETE FROM object WHERE id=?", (file_id,))
        return entry

    def entry(self, file_id: str) -> Entry | None:
        """What is known of a file."""
        found = self._rows(f"SELECT {_OBJECT} FROM object WHERE id=?", (file_id,))  # noqa: S608 - a constant
        return _entry(found[0]) if found else None

    def copies(self, key: str) -> list[Entry]:
        """All files of that name: proven ones first, then own ones, then by id."""
        rows = self._rows(
            f"SELECT {_OBJECT} FROM object WHERE key=? ORDER BY proven DESC, mine DESC, id",  # noqa: S608
            (key,),
        )
        return [_entry(row) for row in rows]

    def starting_with(self, prefix: str) -> list[Entry]:
        """All files whose key starts with `prefix` (ASCII)."""
        rows = self._rows(
            f"SELECT {_OBJECT} FROM object WHERE key>=? AND key<?",  # noqa: S608
            (prefix, prefix + "\x7f"),
        )
        return [_entry(row) for row in rows]

    def inside(self, parent: str) -> list[Entry]:
        """All files known in a folder."""
        rows = self._rows(f"SELECT {_OBJECT} FROM object WHERE parent=?", (parent,))  # noqa: S608
        return [_entry(row) for row in rows]

    def count_in(self, parent: str) -> int:
        """How many files are known in a folder."""
        return int(self._rows("SELECT count(*) FROM object WHERE parent=?", (parent,))[0][0])

    # ---- folders ----------------------------------------------------------------------------------------------------

    def learn_folder(self, file_id: str, name: str, made: str) -> None:
        """A folder of the vault; `made` is when, as Drive writes it."""
        with self._changing() as db:
            db.execute("INSERT OR REPLACE INTO folder VALUES (?,?,?)", (file_id, name, made))

    def forget_folder(self, file_id: str) -> None:
        """A folder is gone, and with it what lay in it."""
        with self._changing() as db:
            db.execute("DELETE FROM folder WHERE id=?", (file_id,))
            db.execute("DELETE FROM object WHERE parent=?", (file_id,))
            db.execute("DELETE FROM upload WHERE parent=? OR id=?", (file_id, file_id))

    def folders(self, name: str) -> list[str]:
        """Ids of the folders of that name; the one to write to first, which is the same on every device: the oldest."""
        return [row[0] for row in self._rows("SELECT id FROM folder WHERE name=? ORDER BY made, id", (name,))]

    def folder_name(self, file_id: str) -> str | None:
        """What a folder of the vault is called; None if it is none."""
        found = self._rows("SELECT name FROM folder WHERE id=?", (file_id,))
        return str(found[0][0]) if found else None

    def folder_names(self) -> list[str]:
        """Names of all folders known, sorted."""
        return [row[0] for row in self._rows("SELECT DISTINCT name FROM folder ORDER BY name", ())]

    # ---- uploads ----------------------------------------------------------------------------------------------------

    def upload(self, key: str) -> Upload | None:
        """The upload of that key that was begun."""
        found = self._rows("SELECT key, id, parent, size, md5, sha256, session FROM upload WHERE key=?", (key,))
        if not found:
            return None
        key, file_id, parent, size, md5, sha256, session = found[0]
        return Upload(key, file_id, parent, Sums(size, md5, sha256), session)

    def begin(self, key: str, parent: str, sums: Sums) -> Upload | None:
        """Draw an id for a new upload; durable on return. None if there is no id left: mint some."""
        with self._changing() as db:
            found = db.execute("SELECT id FROM drawn ORDER BY id LIMIT 1").fetchall()
            if not found:
                return None
            upload = Upload(key, str(found[0][0]), parent, sums)
            db.execute("DELETE FROM drawn WHERE id=?", (upload.id,))
            self._put(db, upload)
        return upload

    def continue_at(self, upload: Upload, session: str) -> Upload:
        """Keep the address of the session ("" for none); durable on return."""
        changed = replace(upload, session=session)
        with self._changing() as db:
            self._put(db, changed)
        return changed

    def ended(self, key: str, entry: Entry | None = None) -> None:
        """That upload is over; `entry` is what came of it."""
        with self._changing() as db:
            db.execute("DELETE FROM upload WHERE key=?", (key,))
            if entry is not None:
                self.learn([entry])

    def add_ids(self, ids: Iterable[str]) -> None:
        """Ids minted for this account."""
        with self._changing() as db:
            db.executemany("INSERT OR IGNORE INTO drawn VALUES (?)", [(one,) for one in ids])

    def drop_ids(self) -> None:
        """The ids are not taken any more."""
        with self._changing() as db:
            db.execute("DELETE FROM drawn")

    # ---- facts ------------------------------------------------------------------------------------------------------

    def fact(self, name: str) -> str:
        """A value kept under a name; empty if there is none."""
        found = self._rows("SELECT value FROM fact WHERE name=?", (name,))
        return str(found[0][0]) if found else ""

    def set_fact(self, name: str, value: str) -> None:
        """Keep it."""
        with self._changing() as db:
            db.execute("INSERT OR REPLACE INTO fact VALUES (?,?)", (name, value))

    def clear(self) -> None:
        """Forget everything."""
        with self._changing() as db:
            for table in _TABLES:
                db.execute(f"DELETE FROM {table}")  # noqa: S608 - a constant

    def close(self) -> None:
        """Close the file."""
        with self._lock, self._mapped():
            self._db.close()

    # ---- the database -----------------------------------------------------------------------------------------------

    @staticmethod
    def _put(db: apsw.Connection, upload: Upload) -> None:
        row = (upload.key, upload.id, upload.parent, *upload.sums, upload.session)
        db.execute("INSERT OR REPLACE INTO upload VALUES (?,?,?,?,?,?,?)", row)

    def _rows(self, statement: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        with self._lock, self._mapped():
            return self._db.execute(statement, values).fetchall()

    @contextmanager
    def _changing(self) -> Iterator[apsw.Connection]:
        """One transaction, all or nothing; inside another one a part of it."""
        with self._lock, self._mapped(), self._db:
            yield self._db

    @contextmanager
    def _mapped(self) -> Iterator[None]:
        try:
            yield
        except apsw.FullError as error:
            raise LocalDiskFull("The table of Google Drive's files does not fit on the disk.") from error
        except (*_FOREIGN, OSError) as error:
            raise LocalDisk(f"The table of Google Drive's files cannot be used ({type(error).__name__}).") from error


def _flag(value: bool | None) -> int | None:
    return None if value is None else int(value)


def _entry(row: tuple[Any, ...]) -> Entry:
    file_id, key, parent, size, md5, sha256, mtime_ms, mine, proven = row
    known = None if mine is None else bool(mine)
    return Entry(file_id, key, parent, Sums(size, md5, sha256), mtime_ms, known, bool(proven))
