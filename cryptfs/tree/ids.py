"""Names of nodes and versions: which `st` is which inode, and which final id an operation made here got.

Facts only: nothing in this module is ever undone. External form means 16-byte inodes and final op ids as they stand in
segments; what is not sealed yet has its provisional form there too.
"""

from collections.abc import Mapping
from typing import Final

from cryptfs.format.names import copy_inode_of, inode_of, lost_inode, root_inode
from cryptfs.format.operation import OpId, Ver, is_provisional_ino, op_id_bytes, provisional_ino
from cryptfs.tree.database import Database
from cryptfs.tree.schema import ROOT_ST

__all__ = ["OP_ID_LEN", "PROVISIONAL_PREFIX", "Ids", "derived_st", "op_id_of", "provisional_id", "split", "st_of_k"]

OP_ID_LEN: Final = 24
PROVISIONAL_PREFIX: Final = b"\xff" * 16

_ST_OFFSET: Final = 16
"""Numbers below are reserved: 0 is no inode, 1 the root."""
_ST_FOREIGN: Final = 1 << 62
_CACHE_ENTRIES: Final = 20_000
"""Names kept in memory, about 200 bytes each; when full, all are dropped, which costs a look-up each."""
_NEIGHBOURS: Final = 32
"""Local operations whose final ids are looked up at once."""
_OWN: Final = "SELECT k, log, n FROM own WHERE k >= ? AND k < ?"


def st_of_k(k: int) -> int:
    """Number of the node that local operation `k` makes."""
    return k + _ST_OFFSET


def derived_st(ino: bytes) -> int:
    """Number of a node that was not made here, unless another one has it: ascending as the inodes are."""
    return int.from_bytes(ino[:8], "big") >> 2 | _ST_FOREIGN


def provisional_id(k: int) -> bytes:
    """The 24 bytes by which local operation `k` is known until it is sealed."""
    return PROVISIONAL_PREFIX + k.to_bytes(8, "big")


def op_id_of(blob: bytes) -> OpId:
    """The op id in 24 bytes."""
    return OpId(blob[:16], int.from_bytes(blob[16:], "big"))


class Ids:
    """Translates names. Owned by the replica; the caches only hold what the tables say."""

    def __init__(self, db: Database, vault: bytes) -> None:
        self._db = db
        self._vault = vault
        self.root_ino = root_inode(vault)
        self.lost_ino = lost_inode(vault)
        self._st: dict[bytes, int] = {self.root_ino: ROOT_ST}
        self._ino: dict[int, bytes] = {ROOT_ST: self.root_ino}
        self._own: dict[int, bytes] = {}
        highest = db.one("SELECT coalesce(max(k), -1) FROM own")
        self._sealed: int = highest[0] if highest is not None else -1
        """Highest local operation that has a final id."""

    def forget(self) -> None:
        """The tables changed behind our back."""
        self._st, self._ino, self._own = {self.root_ino: ROOT_ST}, {ROOT_ST: self.root_ino}, {}

    # ---- inodes

    def st_of(self, ino: bytes) -> int | None:
        """Number of a known inode; None if no number was ever given to it."""
        st = self._st.get(ino)
        if st is not None:
            return st
        if is_provisional_ino(ino):
            return int.from_bytes(ino[8:], "big") + _ST_OFFSET
        row = self._db.one("SELECT st FROM local WHERE ino = ?", (ino,))
        if row is None:
            return None
        found: int = row[0]
        self._remember(found, ino)
        return found

    def give_st(self, ino: bytes, hint: int | None = None) -> int:
        """Number of an inode, given now if it has none: `hint` if that is nameless, else one derived from the inode."""
        st = self.st_of(ino)
        if st is not None:
            return st
        if hint is not None and self._nameless(hint):
            st = hint
        else:
            st = derived_st(ino)
            while self._db.one("SELECT 1 FROM local WHERE st = ?", (st,)) is not None:
                st += 1
        self.name(st, ino)
        return st

    def name(self, st: int, ino: bytes) -> None:
        """Record the final inode of a node."""
        self._db.run("INSERT INTO local(st, ino) VALUES(?1, ?2) ON CONFLICT(st) DO UPDATE SET ino = ?2", (st, ino))
        self._remember(st, ino)

    def ino_of(self, st: int) -> bytes:
        """The inode of a node: 16 bytes, provisional as long as the operation that made the node is not sealed."""
        ino = self._ino.get(st)
        if ino is None:
            row = self._db.one("SELECT ino FROM local WHERE st = ?", (st,))
            ino = provisional_ino(st - _ST_OFFSET) if row is None or row[0] is None else bytes(row[0])
            self._remember(st, ino)
        return ino

    def born(self, k: int) -> None:
        """Local operation `k` makes a node now: nobody needs to look up that it has no final inode yet."""
        self._remember(st_of_k(k), provisional_ino(k))

    def _nameless(self, st: int) -> bool:
        row = self._db.one("SELECT ino FROM local WHERE st = ?", (st,))
        return row is None or row[0] is None

    def _remember(self, st: int, ino: bytes) -> None:
        if len(self._st) >= _CACHE_ENTRIES:
            self._st = {self.root_ino: ROOT_ST}
        if len(self._ino) >= _CACHE_ENTRIES:
            self._ino = {ROOT_ST: self.root_ino}
        self._st[ino] = st
        self._ino[st] = ino

    def made_by(self, op: bytes) -> bytes:
        """The inode that the sealed create `op` (24 bytes) makes."""
        return inode_of(self._vault, op_id_of(op))

    def copy_made_by(self, op: bytes) -> bytes:
        """The inode of the conflict copy that the sealed put `op` (24 bytes) leads to."""
        return copy_inode_of(self._vault, op_id_of(op))

    # ---- op ids and versions

    def own(self, k: int) -> bytes | None:
        """Final id (24 bytes) of local operation `k`; None while it is not sealed."""
        final = self._own.get(k)
        if final is None:
            if k > self._sealed:
                return None  # as nearly always: what was just done here
            self._load_own(k)
            final = self._own.get(k)
        return final

    def _load_own(self, k: int) -> None:
        """Look up `k` and its neighbours: files that were made together are read together."""
        if len(self._own) >= _CACHE_ENTRIES:
            self._own = {}
        first = k - k % _NEIGHBOURS
        for near, log, n in self._db.all(_OWN, (first, first + _NEIGHBOURS)):
            self._own[near] = log + n.to_bytes(8, "big")

    def learn_own(self, log: bytes, numbers: Mapping[int, int]) -> None:
        """Record the numbers that local operations got in the log `log`: k -> n."""
        if numbers:
            rows = [(k, log, n) for k, n in numbers.items()]
            self._db.many("INSERT OR REPLACE INTO own VALUES(?, ?, ?)", rows)
            self._own = {}
            self._sealed = max(self._sealed, *numbers)

    def external(self, blob: bytes) -> bytes:
        """A version in external form, in which versions compare: final ids as far as known, sorted, each once."""
        if len(blob) == OP_ID_LEN:
            if not blob.startswith(PROVISIONAL_PREFIX):
                return blob
            return self.own(int.from_bytes(blob[16:], "big")) or blob
        return b"".join(sorted({self.external(blob[at : at + OP_ID_LEN]) for at in range(0, len(blob), OP_ID_LEN)}))

    def external_of(self, ver: Ver) -> bytes:
        """The external form of a version given as op ids."""
        return self.external(b"".join(map(op_id_bytes, ver)))

    def ver_of(self, blob: bytes) -> Ver:
        """A stored version as op ids, for operations."""
        ext = self.external(blob)
        return tuple(op_id_of(ext[at : at + OP_ID_LEN]) for at in range(0, len(ext), OP_ID_LEN))


def split(ext: bytes) -> list[bytes]:
    """The 24-byte ids of a version."""
    return [ext[at : at + OP_ID_LEN] for at in range(0, len(ext), OP_ID_LEN)]
