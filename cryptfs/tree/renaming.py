"""Exchanging the ids in operations: provisional for final ones, inodes and versions alike.

An operation names inodes and versions only in the fields listed here; names, attributes and contents stay as they are.
"""

from collections.abc import Callable
from typing import Any, Final

from cryptfs.format.operation import (
    Create,
    DelXattr,
    Link,
    Op,
    OpId,
    Put,
    Rekey,
    Rename,
    Replaced,
    Restore,
    Rmdir,
    SetAttr,
    SetXattr,
    Undelete,
    Unlink,
    Ver,
)

__all__ = ["Names", "rename_ids"]


class Names:
    """How ids are exchanged: `op_id` and `inode` answer for one of each."""

    def __init__(self, op_id: Callable[[OpId], OpId], inode: Callable[[bytes], bytes]) -> None:
        self._op_id = op_id
        self.inode = inode

    def ver(self, ver: Ver) -> Ver:
        """The version with its ids exchanged: sorted, each once."""
        return tuple(sorted({self._op_id(one) for one in ver}))


def rename_ids(op: Op, names: Names) -> Op:
    """The operation with all inodes and versions exchanged."""
    rule = _RULE.get(type(op))
    renamed: Op = op if rule is None else rule(op, names.inode, names.ver)
    return renamed


_Ino = Callable[[bytes], bytes]
_Ver = Callable[[Ver], Ver]


def _create(op: Create, ino: _Ino, _: _Ver) -> Create:
    return Create(ino(op.p), op.name, op.kind, op.mode, op.uid, op.gid, op.rdev, op.mtime_ns, op.target, op.content)


def _rename(op: Rename, ino: _Ino, ver: _Ver) -> Rename:
    old = op.replaced
    replaced = None if old is None else Replaced(ino(old.i), ver(old.lver), ver(old.cver))
    return Rename(ino(op.i), ver(op.lver), ino(op.p2), op.name2, replaced, op.flags)


# Any: each rule takes exactly the type it is listed under, which a mapping cannot say.
_RULE: Final[dict[type, Callable[[Any, _Ino, _Ver], Any]]] = {
    Create: _create,
    Put: lambda op, ino, ver: Put(ino(op.i), ver(op.base), op.content, op.mtime_ns),
    Link: lambda op, ino, _: Link(ino(op.i), ino(op.p), op.name),
    Unlink: lambda op, ino, ver: Unlink(ino(op.i), ver(op.lver), ver(op.cver)),
    Rmdir: lambda op, ino, ver: Rmdir(ino(op.i), ver(op.lver)),
    Rename: _rename,
    SetAttr: lambda op, ino, _: SetAttr(ino(op.i), op.mask, op.mode, op.uid, op.gid, op.mtime_ns),
    SetXattr: lambda op, ino, _: SetXattr(ino(op.i), op.key, op.value),
    DelXattr: lambda op, ino, _: DelXattr(ino(op.i), op.key),
    Undelete: lambda op, ino, _: Undelete(ino(op.i), ino(op.p), op.name),
    Restore: lambda op, ino, ver: Restore(ino(op.i), ver(op.base), ver(op.old)),
    Rekey: lambda op, ino, ver: Rekey(ino(op.i), ver(op.base), op.content),
}
