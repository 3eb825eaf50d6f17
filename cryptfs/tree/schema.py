"""The tables of the replica, and how the sealed database that holds them is opened (docs/replication.md, "Schema").

Nodes are known by `st`, the 64-bit number the kernel sees; table `local` says which 16-byte inode that is. Versions are
concatenations of 24-byte op ids (log, number) in *internal* form: an id may be the provisional one that the operation
had before it was sealed; table `own` translates it, so that sealing rewrites no row.
"""

from typing import Final

from cryptfs.errors import CryptfsError
from cryptfs.tree.database import Database, ReplicaDamaged

__all__ = ["ROOT_ST", "SCHEMA_VERSION", "ReplicaDamaged", "floor_of", "open_beside", "open_sealed"]

SCHEMA_VERSION: Final = 3
ROOT_ST: Final = 1
CACHE_KIB: Final = 12288
WHOLE_CACHE_KIB: Final = 65536
"""While the whole tree is read or written in the order of a checkpoint, which is not that of every table."""
IN_MEMORY: Final = ":memory:"
"""A database without a file, for tests and for looking at a vault once; there is nothing to seal."""


_TABLES: Final = (
    # ---- State: a pure function of the applied segments (plus the tentative operations on top), undone and redone
    # cver: ids of the present content; content: id of the operation whose Content is in force, NULL as created empty.
    # last_parent, last_name, gone_l: set while the node has no links ("in the trash"); gone_l is the stamp of the drop,
    # -(k + 1) while the local operation k that dropped it is not sealed.
    """CREATE TABLE node(
        st INTEGER PRIMARY KEY, kind INTEGER NOT NULL, mode INTEGER NOT NULL, uid INTEGER NOT NULL,
        gid INTEGER NOT NULL, rdev INTEGER NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
        ctime_ns INTEGER NOT NULL, cver BLOB NOT NULL, content BLOB, target BLOB NOT NULL,
        last_parent INTEGER, last_name BLOB, gone_l INTEGER)""",
    "CREATE INDEX node_gone ON node(gone_l) WHERE gone_l IS NOT NULL",
    # kind repeats that of the node, so that listing and counting subdirectories need no join.
    """CREATE TABLE dirent(
        parent INTEGER NOT NULL, name BLOB NOT NULL, st INTEGER NOT NULL, kind INTEGER NOT NULL, lver BLOB NOT NULL,
        PRIMARY KEY(parent, name)) WITHOUT ROWID""",
    "CREATE INDEX dirent_st ON dirent(st)",
    "CREATE INDEX dirent_subdirectory ON dirent(parent) WHERE kind = 1",
    "CREATE TABLE alias(old INTEGER PRIMARY KEY, new INTEGER NOT NULL)",
    # Where the content of a put came to lie. Keys are final ids, but for tentative puts that landed elsewhere.
    "CREATE TABLE landing(op BLOB PRIMARY KEY, st INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE xattr(st INTEGER NOT NULL, key BLOB NOT NULL, val BLOB NOT NULL, PRIMARY KEY(st, key)) WITHOUT ROWID",
    # place 1 pack, 2 body2 of a segment; holder: the log that may collect it; moved: encoded ranges.
    """CREATE TABLE container(
        place INTEGER NOT NULL, id BLOB NOT NULL, size INTEGER NOT NULL, kind INTEGER NOT NULL, holder BLOB NOT NULL,
        state INTEGER NOT NULL, moved BLOB NOT NULL, PRIMARY KEY(place, id)) WITHOUT ROWID""",
    # Old versions. cver and content are final ids; sup_l: stamp of the segment that superseded the version.
    """CREATE TABLE history(
        st INTEGER NOT NULL, cver BLOB NOT NULL, content BLOB, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
        sup_l INTEGER NOT NULL, PRIMARY KEY(st, cver)) WITHOUT ROWID""",
    "CREATE INDEX history_sup ON history(sup_l)",
    # ---- facts and local things: never undone
    # ino NULL: made here and not sealed yet. Times: what this machine shows for what was last changed here.
    """CREATE TABLE local(
        st INTEGER PRIMARY KEY, ino BLOB UNIQUE, ctime_ns INTEGER, dir_mtime_ns INTEGER, atime_ns INTEGER)""",
    "CREATE TABLE content(op BLOB PRIMARY KEY, ext BLOB NOT NULL) WITHOUT ROWID",
    "CREATE TABLE own(k INTEGER PRIMARY KEY, log BLOB NOT NULL, n INTEGER NOT NULL)",
    """CREATE TABLE head(
        log BLOB PRIMARY KEY, seq INTEGER NOT NULL, digest BLOB NOT NULL, stamp INTEGER NOT NULL) WITHOUT ROWID""",
    # ---- the way back: segments above the floor U and tentative operations, with what their rows were before.
    # u numbers sealed segments and tentative operations as they were applied; odd numbers: what sealing itself changed.
    """CREATE TABLE applied(
        stamp INTEGER NOT NULL, log BLOB NOT NULL, seq INTEGER NOT NULL, u INTEGER NOT NULL, body BLOB NOT NULL,
        PRIMARY KEY(stamp, log)) WITHOUT ROWID""",
    "CREATE TABLE tentative(k INTEGER PRIMARY KEY, u INTEGER NOT NULL, clean INTEGER NOT NULL)",
    """CREATE TABLE undo(
        u INTEGER NOT NULL, n INTEGER NOT NULL, tbl INTEGER NOT NULL, key BLOB NOT NULL, before BLOB,
        PRIMARY KEY(u, n)) WITHOUT ROWID""",
    # ---- for people
    """CREATE TABLE notice(
        op BLOB PRIMARY KEY, kind TEXT NOT NULL, st INTEGER NOT NULL, text BLOB NOT NULL, seen INTEGER NOT NULL
        ) WITHOUT ROWID""",
    "CREATE TABLE meta(k TEXT PRIMARY KEY, v BLOB NOT NULL) WITHOUT ROWID",
)

_SINCE_2: Final = (
    # ---- for collection: facts about sealed contents, and how far this device is with what it has retired
    # ranges: encoded (offset, length). unread: paged contents whose manifest has not been read.
    """CREATE TABLE uses(
        place INTEGER NOT NULL, id BLOB NOT NULL, op BLOB NOT NULL, ranges BLOB NOT NULL, PRIMARY KEY(place, id, op)
        ) WITHOUT ROWID""",
    "CREATE TABLE unread(op BLOB PRIMARY KEY) WITHOUT ROWID",
    # seq: own segment that tells of the retire, or a later one; acked_ms: when all had acknowledged it; gone: deleted.
    """CREATE TABLE retirement(
        place INTEGER NOT NULL, id BLOB NOT NULL, seq INTEGER NOT NULL, asked_ms INTEGER NOT NULL, acked_ms INTEGER,
        gone INTEGER NOT NULL, PRIMARY KEY(place, id)) WITHOUT ROWID""",
)
"""Tables that a replica of version 1 lacks; they are filled from the others."""

_FOR_THE_PAST: Final = (
    # Which operations came in which segment, and when by its author's clock: facts, of all segments taken in since the
    # replica was built. What is older has no time, and nothing else depends on it.
    """CREATE TABLE IF NOT EXISTS moment(
        log BLOB NOT NULL, first_op INTEGER NOT NULL, seq INTEGER NOT NULL, ops INTEGER NOT NULL,
        stamp INTEGER NOT NULL, wall_ms INTEGER NOT NULL, digest BLOB NOT NULL,
        PRIMARY KEY(log, first_op, seq)) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS moment_stamp ON moment(stamp)",
    "CREATE INDEX IF NOT EXISTS node_trash ON node(last_parent, last_name) WHERE gone_l IS NOT NULL",
)
"""For looking back (`tree/past.py`); made at every opening, so that replicas from before have them too."""


_WAL_PAGES: Final = "wal_autocheckpoint=16384"
"""64 MiB between two checkpoints: each flushes the disk twice while everything waits."""


def open_sealed(path: str, key: bytes) -> Database:
    """Open or create the database at `path` under the 32-byte `key`, with all tables.

    Raises ReplicaDamaged if it does not open under this key, is damaged, or has the tables of another version.
    """
    db = Database(path)
    try:
        _prepare(db, None if path == IN_MEMORY else key)
    except CryptfsError:
        db.close()  # or its lock would stand in the way of whoever rebuilds
        raise
    return db


def open_beside(path: str, key: bytes) -> Database:
    """A second connection that only reads, and sees what was committed before this call; for another thread.

    Raises as `open_sealed`.
    """
    db = Database(path)
    try:
        _unseal(db, key)
        db.run("PRAGMA query_only = 1")
        db.run(f"PRAGMA cache_size = -{WHOLE_CACHE_KIB}")
        db.run("BEGIN")
        floor_of(db)  # from its first question on a transaction sees one state
    except CryptfsError:
        db.close()
        raise
    return db


def floor_of(db: Database) -> int:
    """The stamp U at and below which nothing is undone any more; -1 at first."""
    row = db.one("SELECT v FROM meta WHERE k = 'floor'")
    return -1 if row is None else int.from_bytes(row[0], "big", signed=True)


def _unseal(db: Database, key: bytes) -> None:
    # Cipher and key come before anything else; "raw:" skips the slow derivation, the key is no passphrase.
    db.pragma("cipher", "chacha20")
    db.pragma("key", "raw:" + key.hex())


def _prepare(db: Database, key: bytes | None) -> None:
    if key is not None:
        _unseal(db, key)
    # NORMAL: after a power cut the last commits may be missing, and are taken from the journal again.
    settings = ("journal_mode=WAL", "temp_store=MEMORY", f"cache_size=-{CACHE_KIB}", "synchronous=NORMAL", _WAL_PAGES)
    for setting in settings:
        db.all("PRAGMA " + setting)  # one pragma an execute: a list stops at the first row
    version = db.pragma("user_version")  # a wrong key shows here
    if version in (0, 1):
        db.run("BEGIN IMMEDIATE")
        for statement in (*_TABLES, *_SINCE_2) if version == 0 else _SINCE_2:
            db.run(statement)
        db.pragma("user_version", SCHEMA_VERSION)
        db.run("COMMIT")
    elif version != SCHEMA_VERSION:
        raise ReplicaDamaged(f"the local copy of the tree has the tables of version {version}")
    for statement in _FOR_THE_PAST:
        db.run(statement)
