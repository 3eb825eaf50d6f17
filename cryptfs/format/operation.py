"""The operations of a log as they are encoded (docs/format.md, "Operations").

One operation, one tagged MessagePack array; field order is the format. Inodes are 16 bytes, names are raw bytes, a
`Ver` is the sorted list of 1 to 8 op ids that made a content or placed a link. What the operations do is in
`tree/merge.py`, what values their fields may have in `format/operation_rules.py`.

Before an operation is sealed it may carry *provisional* ids (see `provisional_*`): its number in the log is not known
yet.
"""

from typing import Final

from cryptfs.format.codec import Wire
from cryptfs.format.content import Content

__all__ = [
    "KINDS", "KIND_BLOCK", "KIND_CHAR", "KIND_DIR", "KIND_FIFO", "KIND_FILE", "KIND_SOCKET", "KIND_SYMLINK",
    "RENAME_EXCHANGE", "RENAME_NOREPLACE",
    "SET_GID", "SET_MODE", "SET_MTIME", "SET_UID",
    "Adopted", "Create", "DelXattr", "Expire", "Link", "Op", "OpId", "Put", "Range", "Rekey", "Relocate", "Rename",
    "Replaced", "Restore", "Retire", "Rmdir", "Rules", "SetAttr", "SetXattr", "Undelete", "Unlink", "Unretire", "Ver",
    "Where",
    "is_provisional_ino", "op_id_bytes", "provisional_ino", "provisional_number", "provisional_op_id",
]  # fmt: skip

KIND_FILE: Final = 0
KIND_DIR: Final = 1
KIND_SYMLINK: Final = 2
KIND_FIFO: Final = 3
KIND_SOCKET: Final = 4
KIND_CHAR: Final = 5
KIND_BLOCK: Final = 6
KINDS: Final = range(7)

RENAME_NOREPLACE: Final = 1
RENAME_EXCHANGE: Final = 2

SET_MODE: Final = 1
SET_UID: Final = 2
SET_GID: Final = 4
SET_MTIME: Final = 8


class OpId(Wire, frozen=True, order=True):
    """`n` counts the operations through the log `log` (16 bytes) from 0."""

    log: bytes
    n: int


Ver = tuple[OpId, ...]


class Replaced(Wire, frozen=True):
    """What a rename overwrites or exchanges, as its author saw it."""

    i: bytes
    lver: Ver
    cver: Ver


class _Op(Wire, frozen=True):
    """Base of all operations."""


class Create(_Op, frozen=True, tag=1):
    """New inode and entry.

    `mode` holds the twelve permission bits, the type is `kind`; `target` is for symlinks, else empty; `content` None =
    empty file.
    """

    p: bytes
    name: bytes
    kind: int
    mode: int
    uid: int
    gid: int
    rdev: int
    mtime_ns: int
    target: bytes
    content: Content | None


class Put(_Op, frozen=True, tag=2):
    """New content of `i`, made from the version `base`.

    `base` is never empty: the version of a file without content is that of its create.
    """

    i: bytes
    base: Ver
    content: Content
    mtime_ns: int


class Link(_Op, frozen=True, tag=3):
    """A further name for `i`."""

    i: bytes
    p: bytes
    name: bytes


class Unlink(_Op, frozen=True, tag=4):
    """Take away the link of `i` placed by `lver`; `cver` is the content version the author saw (may be empty)."""

    i: bytes
    lver: Ver
    cver: Ver


class Rmdir(_Op, frozen=True, tag=5):
    """Take away the directory `i`."""

    i: bytes
    lver: Ver


class Rename(_Op, frozen=True, tag=6):
    """Move the link (`i`, `lver`) to `p2`/`name2`; `flags` 1 noreplace, 2 exchange."""

    i: bytes
    lver: Ver
    p2: bytes
    name2: bytes
    replaced: Replaced | None
    flags: int


class SetAttr(_Op, frozen=True, tag=7):
    """Set the fields named by `mask` (SET_*); the others are 0."""

    i: bytes
    mask: int
    mode: int
    uid: int
    gid: int
    mtime_ns: int


class SetXattr(_Op, frozen=True, tag=8):
    """Set an extended attribute."""

    i: bytes
    key: bytes
    value: bytes


class DelXattr(_Op, frozen=True, tag=9):
    """Remove an extended attribute."""

    i: bytes
    key: bytes


class Undelete(_Op, frozen=True, tag=10):
    """Bring `i` back from the trash."""

    i: bytes
    p: bytes
    name: bytes


class Restore(_Op, frozen=True, tag=11):
    """Make the old version `old` the present content."""

    i: bytes
    base: Ver
    old: Ver


class Rekey(_Op, frozen=True, tag=12):
    """Same plaintext under a new file key; makes no new version."""

    i: bytes
    base: Ver
    content: Content


class Where(Wire, frozen=True, order=True):
    """A container: `where` 1 pack, 2 body2 of a segment; `id` 32 bytes."""

    where: int
    id: bytes


class Retire(_Op, frozen=True, tag=20):
    """From here on nobody makes new references to these containers."""

    containers: tuple[Where, ...]


class Unretire(_Op, frozen=True, tag=21):
    """Takes a retire back."""

    containers: tuple[Where, ...]


class Range(Wire, frozen=True):
    """A moved range: offsets and length in bytes."""

    old_off: int
    new_off: int
    len: int


class Relocate(_Op, frozen=True, tag=22):
    """Records were copied, byte for byte, to another container."""

    old_where: int
    old_id: bytes
    new_where: int
    new_id: bytes
    ranges: tuple[Range, ...]


class Adopted(_Op, frozen=True, tag=23):
    """This log now holds these containers."""

    containers: tuple[Where, ...]


class Expire(_Op, frozen=True, tag=24):
    """History and trash superseded at or below the stamp are dropped."""

    stamp: int


class Rules(_Op, frozen=True, tag=30):
    """Number of the merge rules from here on."""

    number: int


Op = (
    Create | Put | Link | Unlink | Rmdir | Rename | SetAttr | SetXattr | DelXattr | Undelete | Restore | Rekey
    | Retire | Unretire | Relocate | Adopted | Expire | Rules
)  # fmt: skip

# ---- provisional ids: local names of what is not sealed yet --------------------------------------------------------

_PROVISIONAL_LOG: Final = b"\xff" * 16
_PROVISIONAL_INO: Final = b"\xff" * 8


def provisional_op_id(k: int) -> OpId:
    """The id of the `k`-th local operation before it is sealed."""
    return OpId(_PROVISIONAL_LOG, k)


def provisional_number(op: OpId) -> int | None:
    """`k` of a provisional id, None for a final one."""
    return op.n if op.log == _PROVISIONAL_LOG else None


def provisional_ino(k: int) -> bytes:
    """The inode made by the `k`-th local operation before that is sealed: 16 bytes."""
    return _PROVISIONAL_INO + k.to_bytes(8, "big")


def is_provisional_ino(ino: bytes) -> bool:
    """Whether `ino` is a local name (a hash starts with 8 bytes of ff once in 2^64)."""
    return ino.startswith(_PROVISIONAL_INO)


def op_id_bytes(op: OpId) -> bytes:
    """The 24 bytes of an op id: log, then `n` big-endian."""
    return op.log + op.n.to_bytes(8, "big")
