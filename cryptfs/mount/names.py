"""Names in directories: looked up, made, taken away. Every rule of the tree is checked here, rights are the kernel's.

The kernel checks types and existence against what it cached; a pulled change may have come in between, so the replica
is asked again (docs/mount.md, "Traps"). Nothing here waits.
"""

import stat
from errno import EEXIST, EINVAL, EISDIR, ENAMETOOLONG, ENOENT, ENOTDIR, ENOTEMPTY, EPERM, ESTALE
from typing import Final

from cryptfs.errors import FsError
from cryptfs.format.operation import KIND_DIR, KIND_FILE, KIND_SYMLINK, Create, Link, Rmdir, Unlink
from cryptfs.mount.attributes import KIND_OF, Attributes, Caller
from cryptfs.mount.inodes import ROOT, Inodes
from cryptfs.tree.rows import Entry

__all__ = ["NAME_MAX", "TARGET_MAX", "Names"]

NAME_MAX: Final = 255
"""Bytes of a name."""

TARGET_MAX: Final = 4095
"""Bytes of a symbolic link's target, as everywhere on Linux."""

_PERMISSIONS: Final = 0o7777


class Names:
    """Lookup, creation and removal of names. Successful answers that carry an inode count as known to the kernel."""

    def __init__(self, inodes: Inodes) -> None:
        self._inodes = inodes
        self._vault = inodes.vault
        self._replica = inodes.replica
        self.changes: dict[int, int] = {}
        """By directory: grows with every change of its entries while somebody lists it (see `listing.py`)."""

    def lookup(self, parent: int, name: bytes) -> Attributes | None:
        """Attributes behind a name, None where there is none. `.` answers for any inode, `..` for a directory."""
        if len(name) > NAME_MAX:
            raise FsError(ENAMETOOLONG)
        inodes = self._inodes
        entry = self._replica.lookup(parent, name)
        if entry is not None:
            attributes = inodes.attributes(entry.st)
        elif name == b".":
            attributes = self._itself(parent)
        elif name == b"..":
            attributes = self._itself(self.parent(parent))
        else:
            return None
        inodes.known(attributes.st)
        return attributes

    def _itself(self, st: int) -> Attributes:
        """For handles that outlived every cache: an inode in the trash is not there any more."""
        attributes = self._inodes.attributes(st)
        if stat.S_ISDIR(attributes.mode) and st != ROOT and self._replica.parent_of(st) is None:
            raise FsError(ESTALE)
        return attributes

    def parent(self, st: int) -> int:
        """The directory above; the root's is itself. Raises ESTALE for a directory without a place."""
        parent = ROOT if st == ROOT else self._replica.parent_of(st)
        if parent is None:
            raise FsError(ESTALE)
        return parent

    def readlink(self, st: int) -> bytes:
        """Target of a symbolic link. Raises ESTALE, or EINVAL for anything else."""
        inodes = self._inodes
        node = inodes.orphans.get(st) or self._replica.node(st)
        if node is None:
            raise FsError(ESTALE)
        if node.kind != KIND_SYMLINK:
            raise FsError(EINVAL)
        inodes.accessed(st)
        return node.target

    # ---- making ----------------------------------------------------------------------------------------------------

    def mknod(self, parent: int, name: bytes, mode: int, rdev: int, caller: Caller) -> Attributes:
        """A file, FIFO, socket or device node. `mode` with type bits, already under the umask."""
        kind = KIND_OF.get(stat.S_IFMT(mode) or stat.S_IFREG)
        if kind is None or kind in (KIND_DIR, KIND_SYMLINK):
            raise FsError(EINVAL)
        return self._make(parent, name, kind, mode, caller, rdev=rdev)

    def mkdir(self, parent: int, name: bytes, mode: int, caller: Caller) -> Attributes:
        """A directory."""
        return self._make(parent, name, KIND_DIR, mode, caller)

    def create(self, parent: int, name: bytes, mode: int, caller: Caller) -> Attributes:
        """An empty regular file."""
        return self._make(parent, name, KIND_FILE, mode, caller)

    def symlink(self, parent: int, name: bytes, target: bytes, caller: Caller) -> Attributes:
        """A symbolic link; `target` is kept byte for byte."""
        if len(target) > TARGET_MAX:
            raise FsError(ENAMETOOLONG)
        return self._make(parent, name, KIND_SYMLINK, 0o777, caller, target=target)

    def _make(
        self, parent: int, name: bytes, kind: int, mode: int, caller: Caller, *, rdev: int = 0, target: bytes = b""
    ) -> Attributes:
        inodes = self._inodes
        directory = inodes.directory(parent)
        self.require_free(parent, name)
        mode &= _PERMISSIONS
        gid = caller.gid
        if directory.mode & stat.S_ISGID:
            # The group of a setgid directory is inherited, and by directories the bit as well (mkdir(2), inode(7)).
            gid = directory.gid
            if kind == KIND_DIR:
                mode |= stat.S_ISGID
        now = inodes.clock.now()
        ino = self._replica.ino_of(parent)
        k = self._vault.submit(Create(ino, name, kind, mode, caller.uid, gid, rdev, now, target, None))
        self.changed(parent)
        attributes = inodes.attributes(k + 16)
        inodes.known(attributes.st)
        return attributes

    def link(self, st: int, parent: int, name: bytes) -> Attributes:
        """A further name for a file. Raises EPERM for directories, ENOENT for an inode without a name."""
        inodes = self._inodes
        inodes.directory(parent)
        node = self._replica.node(st)
        if node is None or node.nlink == 0 or st in inodes.orphans:
            raise FsError(ENOENT)
        if node.kind == KIND_DIR:
            raise FsError(EPERM)
        self.require_free(parent, name)
        self._vault.submit(Link(self._replica.ino_of(st), self._replica.ino_of(parent), name))
        self.changed(parent)
        inodes.known(st)
        return inodes.attributes(st)

    def require_free(self, parent: int, name: bytes) -> None:
        """Raises EEXIST if the name is taken, ENAMETOOLONG or EINVAL if it can be none."""
        if len(name) > NAME_MAX:
            raise FsError(ENAMETOOLONG)
        if name in (b"", b".", b"..") or b"/" in name:
            raise FsError(EINVAL)
        if self._replica.lookup(parent, name) is not None:
            raise FsError(EEXIST)

    # ---- taking away -----------------------------------------------------------------------------------------------

    def unlink(self, parent: int, name: bytes) -> None:
        """Take away a name of a file; with its last one the file becomes an orphan, or goes."""
        entry = self.entry(parent, name)
        if entry.kind == KIND_DIR:
            raise FsError(EISDIR)
        replica, inodes = self._replica, self._inodes
        node = replica.node(entry.st)
        if node is None:
            raise FsError(ESTALE)
        operation = Unlink(replica.ino_of(entry.st), replica.extern_ver(entry.lver), replica.extern_ver(node.cver))
        self._vault.submit(operation)
        if node.nlink == 1:
            inodes.bereave(node, inodes.clock.now())
        self.changed(parent)

    def rmdir(self, parent: int, name: bytes) -> None:
        """Take away an empty directory."""
        entry = self.entry(parent, name)
        if entry.kind != KIND_DIR:
            raise FsError(ENOTDIR)
        replica, inodes = self._replica, self._inodes
        if not replica.is_empty(entry.st):
            raise FsError(ENOTEMPTY)
        node = replica.node(entry.st)
        if node is None:
            raise FsError(ESTALE)
        self._vault.submit(Rmdir(replica.ino_of(entry.st), replica.extern_ver(entry.lver)))
        inodes.bereave(node, inodes.clock.now())
        self.changed(parent)

    def entry(self, parent: int, name: bytes) -> Entry:
        """The entry of that name. Raises ENOENT, ENAMETOOLONG."""
        if len(name) > NAME_MAX:
            raise FsError(ENAMETOOLONG)
        entry = self._replica.lookup(parent, name)
        if entry is None:
            raise FsError(ENOENT)
        return entry

    def changed(self, *directories: int) -> None:
        """Tell the listings of these directories."""
        for st in directories:
            if st in self.changes:
                self.changes[st] += 1
