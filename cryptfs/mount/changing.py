"""chmod, chown, utimens, truncate: `setattr`, field by field, on the inode it names."""

from errno import ESTALE
from typing import NamedTuple

from cryptfs.errors import FsError
from cryptfs.format.operation import KIND_FILE, SET_GID, SET_MODE, SET_MTIME, SET_UID, SetAttr
from cryptfs.mount.attributes import Attributes
from cryptfs.mount.files import Files
from cryptfs.mount.inodes import Inodes, Orphan

__all__ = ["Change", "change"]

_PERMISSIONS = 0o7777


class Change(NamedTuple):
    """The fields to set; None leaves one alone. `mode` may carry type bits, times are ns."""

    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    size: int | None = None
    atime_ns: int | None = None
    mtime_ns: int | None = None


async def change(inodes: Inodes, files: Files, st: int, fields: Change) -> Attributes:
    """Apply `fields` and answer the new attributes. Without any field only ctime moves, as chown(-1, -1) wants it.

    The kernel has checked the rights and decided about setuid and setgid bits: with a mode in the same call.
    """
    if fields.size is not None:
        await files.truncate(st, fields.size)
    orphan = inodes.orphans.get(st)
    if orphan is not None:
        _change_orphan(orphan, fields, inodes.clock.now())
        return inodes.attributes(st)
    # A size comes with the time of the truncation itself, which is already there.
    mtime = fields.mtime_ns if fields.size is None else None
    opened = inodes.opened.get(st)
    if mtime is not None and opened is not None and opened.content.dirty:
        # The bytes written before carry their own time; it has to be older than this one in the order of operations.
        opened.content.hand_over_now()
    _submit(inodes, st, fields, mtime)
    if mtime is not None and opened is not None:
        opened.content.mtime_ns = mtime
    return inodes.attributes(st)


def _submit(inodes: Inodes, st: int, fields: Change, mtime: int | None) -> None:
    replica = inodes.replica
    node = replica.node(st)
    if node is None or (node.kind == KIND_FILE and node.nlink == 0 and st not in inodes.opened):
        raise FsError(ESTALE)
    mask = 0
    mode = uid = gid = 0
    if fields.mode is not None:
        mask |= SET_MODE
        mode = fields.mode & _PERMISSIONS
    if fields.uid is not None:
        mask |= SET_UID
        uid = fields.uid
    if fields.gid is not None:
        mask |= SET_GID
        gid = fields.gid
    if mtime is not None:
        mask |= SET_MTIME
    if mask:
        inodes.vault.submit(SetAttr(replica.ino_of(st), mask, mode, uid, gid, mtime or 0))
    elif fields.size is None:
        replica.touch_ctime(st, inodes.clock.now())
    if fields.atime_ns is not None:
        replica.set_atime(st, fields.atime_ns)


def _change_orphan(orphan: Orphan, fields: Change, now: int) -> None:
    if fields.mode is not None:
        orphan.mode = fields.mode & _PERMISSIONS
    if fields.uid is not None:
        orphan.uid = fields.uid
    if fields.gid is not None:
        orphan.gid = fields.gid
    if fields.atime_ns is not None:
        orphan.atime_ns = fields.atime_ns
    if fields.mtime_ns is not None and fields.size is None:
        orphan.mtime_ns = fields.mtime_ns
    orphan.ctime_ns = now
