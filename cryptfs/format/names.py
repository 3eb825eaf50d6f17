"""How objects are called in the store, and the ids that are derived instead of chosen.

A name is only an index: objects prove themselves by their bytes, and a wrong name costs a look-up, nothing else.
Derived ids (logs, inodes) cannot be claimed by anybody but the author of what they are derived from.
"""

import hashlib
import re
from dataclasses import dataclass
from typing import Final

from cryptfs.format.limits import STAMP_MAX
from cryptfs.format.operation import OpId, op_id_bytes

__all__ = [
    "FOLDERS", "GENESIS", "README",
    "CheckpointName", "CrlName", "GenesisName", "JoinName", "ObjectName", "PackName", "RollupName", "SegmentName",
    "StatementName", "WrapsName",
    "checkpoint_name", "copy_inode_of", "crl_name", "first_log_id", "inode_of", "join_name", "later_log_id",
    "log_prefix", "lost_inode", "pack_name", "parse_name", "rollup_name", "root_inode", "segment_name",
    "statement_name", "wraps_name",
]  # fmt: skip

FOLDERS: Final = ("m", "w", "j", "l", "p", "c")
"""Statements and CRLs, wraps, join requests, logs, packs, checkpoints. Packs may also lie in p0 .. pf."""
GENESIS: Final = "genesis"
README: Final = "README.txt"

# ---- derived ids ---------------------------------------------------------------------------------------------------


def _hash(label: bytes, *parts: bytes) -> bytes:
    return hashlib.sha256(b"cryptfs/v1 " + label + b"\0" + b"".join(parts)).digest()[:16]


def inode_of(vault: bytes, op: OpId) -> bytes:
    """The inode made by the create `op`: 16 bytes."""
    return _hash(b"ino", vault, op_id_bytes(op))


def copy_inode_of(vault: bytes, op: OpId) -> bytes:
    """The inode of the conflict copy that the put `op` leads to: 16 bytes."""
    return _hash(b"copy", vault, op_id_bytes(op))


def root_inode(vault: bytes) -> bytes:
    """The inode of the root directory: 16 bytes."""
    return _hash(b"root", vault)


def lost_inode(vault: bytes) -> bytes:
    """The inode of `lost+found`: 16 bytes."""
    return _hash(b"lost", vault)


def first_log_id(entry: bytes) -> bytes:
    """The log an entry (32 bytes) has by being admitted: 16 bytes."""
    return entry[:16]


def later_log_id(statement: bytes) -> bytes:
    """The log that the `log` statement with this id (32 bytes) opens: 16 bytes."""
    return statement[:16]


# ---- names ---------------------------------------------------------------------------------------------------------


def statement_name(statement: bytes) -> str:
    """`m/<id>` of a statement other than the genesis."""
    return f"m/{statement.hex()}"


def crl_name(digest: bytes) -> str:
    """`m/<digest of the object>.crl`."""
    return f"m/{digest.hex()}.crl"


def wraps_name(epoch: bytes, digest: bytes) -> str:
    """`w/<eid>-<h16>`; `digest` is that of the object."""
    return f"w/{epoch.hex()}-{digest[:8].hex()}"


def join_name(digest: bytes) -> str:
    """`j/<first 16 bytes of the digest of the object>`."""
    return f"j/{digest[:16].hex()}"


def log_prefix(log_id: bytes) -> str:
    """What the names of all objects of a log start with."""
    return f"l/{log_id.hex()}-"


def segment_name(log_id: bytes, seq: int, digest: bytes) -> str:
    """`l/<log>-<seq>-<h16>`; `digest` is D."""
    return f"{log_prefix(log_id)}{seq:010d}-{digest[:8].hex()}"


def rollup_name(log_id: bytes, first: int, last: int, digest: bytes) -> str:
    """`l/<log>-r<first>-<last>-<h16>`; `digest` is that of the object."""
    return f"{log_prefix(log_id)}r{first:010d}-{last:010d}-{digest[:8].hex()}"


def pack_name(pack_id: bytes, *, spread: bool = False) -> str:
    """`p/<id>`, or `p<d>/<id>` with d the first hex digit in folders that are `spread`."""
    return f"p{pack_id.hex()[0] if spread else ''}/{pack_id.hex()}"


def checkpoint_name(stamp: int, entry: bytes, digest: bytes) -> str:
    """`c/<S>-<first 8 bytes of the author's entry>-<h16>`; `digest` is H(header ‖ head)."""
    return f"c/{stamp:016x}-{entry[:8].hex()}-{digest[:8].hex()}"


@dataclass(frozen=True, slots=True)
class GenesisName:
    """The first statement of the vault."""


@dataclass(frozen=True, slots=True)
class StatementName:
    """`id` 32 bytes."""

    id: bytes


@dataclass(frozen=True, slots=True)
class CrlName:
    """`digest` 32 bytes of the object."""

    digest: bytes


@dataclass(frozen=True, slots=True)
class WrapsName:
    """`eid` 16 bytes, `h16` the first 8 bytes of the object's digest."""

    eid: bytes
    h16: bytes


@dataclass(frozen=True, slots=True)
class JoinName:
    """`h32` the first 16 bytes of the object's digest."""

    h32: bytes


@dataclass(frozen=True, slots=True)
class SegmentName:
    """`h16` the first 8 bytes of D."""

    log_id: bytes
    seq: int
    h16: bytes


@dataclass(frozen=True, slots=True)
class RollupName:
    """Segments `first`..`last`, both included."""

    log_id: bytes
    first: int
    last: int
    h16: bytes


@dataclass(frozen=True, slots=True)
class PackName:
    """`id` 32 bytes."""

    id: bytes


@dataclass(frozen=True, slots=True)
class CheckpointName:
    """`stamp` S, `entry8` first 8 bytes of the author's entry."""

    stamp: int
    entry8: bytes
    h16: bytes


ObjectName = (
    GenesisName | StatementName | CrlName | WrapsName | JoinName | SegmentName | RollupName | PackName | CheckpointName
)

_NAME: Final = re.compile(
    r"(?P<genesis>genesis)"
    r"|m/(?P<statement>[0-9a-f]{64})"
    r"|m/(?P<crl>[0-9a-f]{64})\.crl"
    r"|w/(?P<wraps>[0-9a-f]{32})-(?P<wraps_h>[0-9a-f]{16})"
    r"|j/(?P<join>[0-9a-f]{32})"
    r"|l/(?P<log>[0-9a-f]{32})-(?P<seq>[0-9]{10,19})-(?P<log_h>[0-9a-f]{16})"
    r"|l/(?P<roll>[0-9a-f]{32})-r(?P<first>[0-9]{10,19})-(?P<last>[0-9]{10,19})-(?P<roll_h>[0-9a-f]{16})"
    r"|p(?P<digit>[0-9a-f]?)/(?P<pack>[0-9a-f]{64})"
    r"|c/(?P<stamp>[0-9a-f]{16})-(?P<entry8>[0-9a-f]{16})-(?P<ckpt_h>[0-9a-f]{16})"
)


def parse_name(name: str) -> ObjectName | None:
    """What an object of this name claims to be; None for names that are not ours and are ignored."""
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    part = found.groupdict()
    parsed: ObjectName
    match found.lastgroup:
        case "genesis":
            parsed = GenesisName()
        case "statement":
            parsed = StatementName(bytes.fromhex(part["statement"]))
        case "crl":
            parsed = CrlName(bytes.fromhex(part["crl"]))
        case "wraps_h":
            parsed = WrapsName(bytes.fromhex(part["wraps"]), bytes.fromhex(part["wraps_h"]))
        case "join":
            parsed = JoinName(bytes.fromhex(part["join"]))
        case "log_h":
            parsed = SegmentName(bytes.fromhex(part["log"]), int(part["seq"]), bytes.fromhex(part["log_h"]))
        case "roll_h":
            parsed = RollupName(
                bytes.fromhex(part["roll"]), int(part["first"]), int(part["last"]), bytes.fromhex(part["roll_h"])
            )
        case "pack":
            parsed = PackName(bytes.fromhex(part["pack"]))
        case _:
            parsed = CheckpointName(
                int(part["stamp"], 16), bytes.fromhex(part["entry8"]), bytes.fromhex(part["ckpt_h"])
            )
    return parsed if _spelled(parsed, name) else None


def _spelled(parsed: ObjectName, name: str) -> bool:
    """Whether the numbers in `name` are in range and spelled in the one way in which we write them."""
    match parsed:
        case SegmentName(log_id, seq, h16):
            return seq <= STAMP_MAX and segment_name(log_id, seq, h16) == name
        case RollupName(log_id, first, last, h16):
            return first <= last <= STAMP_MAX and rollup_name(log_id, first, last, h16) == name
        case PackName(pack_id):
            return name in (pack_name(pack_id), pack_name(pack_id, spread=True))
        case CheckpointName(stamp):
            return stamp <= STAMP_MAX
        case _:
            return True
