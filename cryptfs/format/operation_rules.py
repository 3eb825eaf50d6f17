"""Rules of form for operations (docs/format.md, "Operations", rule S8): what values the fields of each type may have.

Everything here is a function of the operation alone, so it never comes out differently later. Whether an operation
makes sense in the tree it meets is another question, answered in `tree/merge.py`.
"""

from collections.abc import Callable
from typing import Any, Final

from cryptfs.format.content_rules import check_content
from cryptfs.format.form import id16, id32, int64, need, uint
from cryptfs.format.limits import (
    I64_MAX,
    NAME_MAX,
    STAMP_MAX,
    TARGET_MAX,
    U32_MAX,
    VER_MAX,
    XATTR_KEY_MAX,
    XATTR_VALUE_MAX,
)
from cryptfs.format.operation import (
    KIND_FILE,
    KIND_SYMLINK,
    KINDS,
    RENAME_EXCHANGE,
    RENAME_NOREPLACE,
    SET_GID,
    SET_MODE,
    SET_MTIME,
    SET_UID,
    Adopted,
    Create,
    DelXattr,
    Expire,
    Link,
    Op,
    OpId,
    Put,
    Rekey,
    Relocate,
    Rename,
    Restore,
    Retire,
    Rmdir,
    Rules,
    SetAttr,
    SetXattr,
    Undelete,
    Unlink,
    Unretire,
    Ver,
    Where,
    is_provisional_ino,
    provisional_number,
)

__all__ = [
    "MODE_MAX",
    "ROLE_ADMIN",
    "ROLE_OWNER",
    "ROLE_READER",
    "ROLE_WRITER",
    "check_name",
    "check_op",
    "required_role",
]

ROLE_READER: Final = 0
ROLE_WRITER: Final = 1
ROLE_ADMIN: Final = 2
ROLE_OWNER: Final = 3

MODE_MAX: Final = 0o7777
_RULES_MAX: Final = 0xFFFF


def check_name(name: bytes) -> None:
    """A name of a directory entry: 1 to 255 bytes without "/" and NUL, not "." or ".."."""
    need(0 < len(name) <= NAME_MAX, "length of a name is out of range")
    need(b"/" not in name and b"\0" not in name and name not in (b".", b".."), "no name for a directory entry")


def _inode(ino: bytes, what: str = "inode") -> None:
    id16(ino, what)
    # Local names of unsealed things must never travel: two devices would mean different things by them.
    need(not is_provisional_ino(ino), f"{what} is provisional")


def _op_id(op: OpId) -> None:
    id16(op.log, "log id")
    uint(op.n, STAMP_MAX, "operation number")
    need(provisional_number(op) is None, "operation id is provisional")


def _ver(ver: Ver, least: int = 1) -> None:
    """`least` to 8 op ids, strictly ascending."""
    need(least <= len(ver) <= VER_MAX, "number of op ids in a version is out of range")
    last: OpId | None = None
    for op in ver:
        _op_id(op)
        need(last is None or last < op, "version is not sorted")
        last = op


def _create(op: Create, body2: int) -> None:
    _inode(op.p)
    check_name(op.name)
    need(op.kind in KINDS, "no such kind of node")
    uint(op.mode, MODE_MAX, "mode")
    uint(op.uid, U32_MAX, "uid")
    uint(op.gid, U32_MAX, "gid")
    uint(op.rdev, I64_MAX, "device number")
    int64(op.mtime_ns, "mtime")
    if op.kind == KIND_SYMLINK:
        need(0 < len(op.target) <= TARGET_MAX and b"\0" not in op.target, "no target for a symlink")
    else:
        need(not op.target, "only symlinks have a target")
    if op.content is not None:
        need(op.kind == KIND_FILE, "only files have content")
        check_content(op.content, body2)


def _put(op: Put, body2: int) -> None:
    _inode(op.i)
    _ver(op.base)
    check_content(op.content, body2)
    int64(op.mtime_ns, "mtime")


def _link(op: Link | Undelete, _: int) -> None:
    _inode(op.i)
    _inode(op.p)
    check_name(op.name)


def _unlink(op: Unlink, _: int) -> None:
    _inode(op.i)
    _ver(op.lver)
    _ver(op.cver, least=0)


def _rmdir(op: Rmdir, _: int) -> None:
    _inode(op.i)
    _ver(op.lver)


def _rename(op: Rename, _: int) -> None:
    _inode(op.i)
    _ver(op.lver)
    _inode(op.p2)
    check_name(op.name2)
    need(op.flags in (0, RENAME_NOREPLACE, RENAME_EXCHANGE), "flags of a rename are out of range")
    need(op.replaced is not None or op.flags != RENAME_EXCHANGE, "an exchange needs two links")
    if op.replaced is not None:
        _inode(op.replaced.i)
        _ver(op.replaced.lver)
        _ver(op.replaced.cver, least=0)


def _setattr(op: SetAttr, _: int) -> None:
    _inode(op.i)
    uint(op.mask - 1, (SET_MODE | SET_UID | SET_GID | SET_MTIME) - 1, "mask")
    uint(op.mode, MODE_MAX, "mode")
    uint(op.uid, U32_MAX, "uid")
    uint(op.gid, U32_MAX, "gid")
    int64(op.mtime_ns, "mtime")
    unset = (
        (SET_MODE, op.mode),
        (SET_UID, op.uid),
        (SET_GID, op.gid),
        (SET_MTIME, op.mtime_ns),
    )
    need(not any(value for bit, value in unset if not op.mask & bit), "a field outside the mask is not zero")


def _xattr_key(key: bytes) -> None:
    need(0 < len(key) <= XATTR_KEY_MAX and b"\0" not in key, "no name for an extended attribute")


def _setxattr(op: SetXattr, _: int) -> None:
    _inode(op.i)
    _xattr_key(op.key)
    need(len(op.value) <= XATTR_VALUE_MAX, "value of an extended attribute is too long")


def _delxattr(op: DelXattr, _: int) -> None:
    _inode(op.i)
    _xattr_key(op.key)


def _restore(op: Restore, _: int) -> None:
    _inode(op.i)
    _ver(op.base)
    _ver(op.old)


def _rekey(op: Rekey, body2: int) -> None:
    _inode(op.i)
    _ver(op.base)
    check_content(op.content, body2)


def _container(where: int, ident: bytes) -> None:
    need(where in (1, 2), "no such kind of container")
    id32(ident, "container")


def _containers(op: Retire | Unretire | Adopted, _: int) -> None:
    need(bool(op.containers), "no container is named")
    last: Where | None = None
    for one in op.containers:
        _container(one.where, one.id)
        need(last is None or last < one, "containers are not sorted")
        last = one


def _relocate(op: Relocate, _: int) -> None:
    _container(op.old_where, op.old_id)
    _container(op.new_where, op.new_id)
    need((op.old_where, op.old_id) != (op.new_where, op.new_id), "records are moved to where they are")
    need(bool(op.ranges), "no range is named")
    free = 0
    for one in op.ranges:
        need(free <= one.old_off and one.len > 0, "ranges are not sorted or overlap")
        uint(one.old_off, I64_MAX - one.len, "offset of a range")
        uint(one.new_off, I64_MAX - one.len, "offset of a range")
        free = one.old_off + one.len


def _expire(op: Expire, _: int) -> None:
    uint(op.stamp, STAMP_MAX, "stamp")


def _rules(op: Rules, _: int) -> None:
    uint(op.number, _RULES_MAX, "number of the rules")


# Any: each rule takes exactly the type it is listed under, which a mapping cannot say.
_RULE: Final[dict[type, Callable[[Any, int], None]]] = {
    Create: _create,
    Put: _put,
    Link: _link,
    Unlink: _unlink,
    Rmdir: _rmdir,
    Rename: _rename,
    SetAttr: _setattr,
    SetXattr: _setxattr,
    DelXattr: _delxattr,
    Undelete: _link,
    Restore: _restore,
    Rekey: _rekey,
    Retire: _containers,
    Unretire: _containers,
    Relocate: _relocate,
    Adopted: _containers,
    Expire: _expire,
    Rules: _rules,
}


def check_op(op: Op, body2: int) -> None:
    """Check one operation of a segment whose body2 has `body2` bytes.

    Raises Invalid, or NeedsUpdate for a codec of a later version.
    """
    _RULE[type(op)](op, body2)


def required_role(op: Op) -> int:
    """The least role whose segments may carry `op`.

    ROLE_OWNER for rules; ROLE_ADMIN for expire and rekey, after which nothing of what was there is kept; else
    ROLE_WRITER.
    """
    match op:
        case Rules():
            return ROLE_OWNER
        case Expire() | Rekey():
            return ROLE_ADMIN
        case _:
            return ROLE_WRITER
