"""Rename: one operation, atomic, with every check of rename(2) that the tree decides."""

from errno import EEXIST, EINVAL, EISDIR, ENAMETOOLONG, ENOENT, ENOTDIR, ENOTEMPTY, ESTALE

from cryptfs.errors import FsError
from cryptfs.format.operation import KIND_DIR, RENAME_EXCHANGE, RENAME_NOREPLACE, Rename, Replaced
from cryptfs.mount.inodes import Inodes
from cryptfs.mount.names import NAME_MAX, Names
from cryptfs.tree.replica import Node
from cryptfs.tree.rows import Entry

__all__ = ["rename"]


def rename(inodes: Inodes, names: Names, old: tuple[int, bytes], new: tuple[int, bytes], flags: int) -> None:
    """Move the name `old` (directory, name) to `new`; `flags` 0, NOREPLACE or EXCHANGE, anything else is EINVAL.

    Two names of one inode: nothing happens, as POSIX wants it.
    """
    if flags not in (0, RENAME_NOREPLACE, RENAME_EXCHANGE):
        raise FsError(EINVAL)
    if len(new[1]) > NAME_MAX:
        raise FsError(ENAMETOOLONG)
    replica = inodes.replica
    source = names.entry(*old)
    inodes.directory(new[0])
    target = replica.lookup(*new)
    if flags == RENAME_NOREPLACE and target is not None:
        raise FsError(EEXIST)
    if flags == RENAME_EXCHANGE and target is None:
        raise FsError(ENOENT)
    _refuse_cycle(inodes, source, new[0])
    if target is not None and target.st == source.st:
        return
    replaced: Replaced | None = None
    node: Node | None = None
    if target is not None:
        node = replica.node(target.st)
        if node is None:
            raise FsError(ESTALE)
        if flags == RENAME_EXCHANGE:
            _refuse_cycle(inodes, target, old[0])
        else:
            _require_replaceable(inodes, source, target)
        replaced = _replaced(inodes, target, node)
    operation = Rename(
        replica.ino_of(source.st), replica.extern_ver(source.lver), replica.ino_of(new[0]), new[1], replaced, flags
    )
    inodes.vault.submit(operation)
    if node is not None and flags != RENAME_EXCHANGE and (node.kind == KIND_DIR or node.nlink == 1):
        inodes.bereave(node, inodes.clock.now())
    names.changed(old[0], new[0])


def _refuse_cycle(inodes: Inodes, entry: Entry, parent: int) -> None:
    """No directory moves into itself or below."""
    if entry.kind == KIND_DIR and (entry.st == parent or inodes.replica.is_ancestor(entry.st, parent)):
        raise FsError(EINVAL)


def _require_replaceable(inodes: Inodes, source: Entry, target: Entry) -> None:
    """A file replaces what is no directory, a directory an empty one."""
    if target.kind != KIND_DIR:
        if source.kind == KIND_DIR:
            raise FsError(ENOTDIR)
        return
    if source.kind != KIND_DIR:
        raise FsError(EISDIR)
    if not inodes.replica.is_empty(target.st):
        raise FsError(ENOTEMPTY)


def _replaced(inodes: Inodes, target: Entry, node: Node) -> Replaced:
    replica = inodes.replica
    return Replaced(replica.ino_of(target.st), replica.extern_ver(target.lver), replica.extern_ver(node.cver))
