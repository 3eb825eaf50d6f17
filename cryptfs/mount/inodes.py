"""Which inodes the kernel knows, which are open, which live on without a name: the one table behind every request."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from errno import ENOENT, ENOTDIR, ESTALE
from typing import Final

from cryptfs.errors import FsError
from cryptfs.format.operation import KIND_DIR, KIND_FILE, KIND_SYMLINK
from cryptfs.mount.attributes import TYPE_BITS, Attributes, Owner, blocks_of, present_bytes
from cryptfs.mount.localxattrs import LocalXattrs
from cryptfs.mount.times import AtimeRule, Clock, atime_is_due
from cryptfs.tree.replica import Node
from cryptfs.vault.content import FileContent
from cryptfs.vault.vault import Vault

__all__ = ["ROOT", "Inodes", "OpenFile", "Orphan"]

ROOT: Final = 1

_BLOCKS_REMEMBERED: Final = 50_000
"""Files whose holes are remembered; above that the memory is emptied and filled again."""

_KEPT_MAX: Final = 50_000
"""Inodes of which is remembered which pages the kernel may hold; when full, all are dropped: they are read again."""

_KEPT_SECONDS: Final = 60.0
"""Seconds that who only reads a file goes on with the version that he opened, while others have made a newer one."""

_SIZE_BITS: Final = 45
"""Sizes are up to 16 TiB."""

_COUNTED_ALWAYS: Final = 1 << 24
"""Bytes up to which the chunks of an open file are counted whenever somebody asks."""

_SMALLEST_CHUNK: Final = 1 << 16
"""A file up to this size is one chunk: it has no holes worth counting."""


@dataclass(slots=True)
class Orphan:
    """An inode whose last name is gone while a program or the kernel still holds it. Lives in memory, is never logged.

    `content_lost` says that its bytes can no longer be opened again.
    """

    st: int
    kind: int
    mode: int
    uid: int
    gid: int
    rdev: int
    size: int
    mtime_ns: int
    ctime_ns: int
    atime_ns: int
    target: bytes
    xattrs: dict[bytes, bytes]
    content_lost: bool = False


class OpenFile:
    """The content of an open inode, how many handles share it, and how many of them may write."""

    __slots__ = ("_counted", "_counted_at", "_present", "content", "handles", "writers")

    def __init__(self, content: FileContent) -> None:
        self.content = content
        self.handles = 0
        self.writers = 0
        self._counted: tuple[int, int] | None = None
        self._counted_at = 0.0
        self._present = 0

    @property
    def version(self) -> int:
        """Size and mtime of the content now as one number: all that the kernel knows a version by."""
        return self.content.mtime_ns << _SIZE_BITS | self.content.size

    def present(self) -> int:
        """Bytes of chunks that are there. Counting walks over all of them: for a big file at most once a second."""
        content = self.content
        version = content.size, content.mtime_ns
        if version != self._counted:
            now = time.monotonic()
            if self._counted is None or content.size <= _COUNTED_ALWAYS or now - self._counted_at >= 1.0:
                self._present = content.allocated()
                self._counted, self._counted_at = version, now
        return self._present


class Inodes:
    """Owned by the file system, touched on the trio thread only; no method waits.

    `lookups[st]` counts what the kernel was told and has not forgotten. An orphan stays while it is open or known.
    """

    def __init__(
        self, vault: Vault, local: LocalXattrs, *, owner: Owner | None, atime: AtimeRule, nodiratime: bool
    ) -> None:
        self.vault = vault
        vault.replaced.append(self.replace_content)
        vault.keeping = self.keeps
        self.replica = vault.replica
        self.clock = Clock()
        self.lookups: dict[int, int] = {}
        self.opened: dict[int, OpenFile] = {}
        self.orphans: dict[int, Orphan] = {}
        self.kept: dict[int, int] = {}
        """`OpenFile.version` of which the kernel may hold pages, by inode; gone when the kernel forgets it."""
        self._local = local
        self._owner = owner
        self._atime: AtimeRule = "noatime" if vault.read_only else atime
        self._dir_atime: AtimeRule = "noatime" if nodiratime else self._atime
        self._present: dict[int, tuple[bytes, int]] = {}

    # ---- attributes ------------------------------------------------------------------------------------------------

    def attributes(self, st: int) -> Attributes:
        """What `stat` shows of `st`. Raises ESTALE for an inode that is no more."""
        if st in self.orphans:
            return self._orphan_attributes(self.orphans[st])
        node = self.replica.node(st)
        if node is None or (node.nlink == 0 and st not in self.opened):
            # Open files that another device removed go on: what is written to them brings them back.
            raise FsError(ESTALE)
        return self.shown(node)

    def shown(self, node: Node) -> Attributes:
        """The one way from a node to what `stat` shows."""
        st, kind, size, mtime, ctime = node.st, node.kind, node.size, node.mtime_ns, node.ctime_ns
        uid, gid = node.uid, node.gid
        if self._owner is not None:
            uid, gid = self._owner.shown(uid, gid)
        blocks = 0
        if kind == KIND_FILE:
            opened = self.opened.get(st)
            if opened is not None:
                content = opened.content
                if content.st != st:  # others changed the file as well: while it is open, it is what was written here
                    copy = self.replica.node(content.st)
                    if copy is not None:
                        size, mtime, ctime = copy.size, copy.mtime_ns, max(ctime, copy.ctime_ns)
                blocks = blocks_of(opened.present())
                if content.dirty:
                    size, mtime = content.size, content.mtime_ns
                    ctime = max(ctime, mtime)
                elif content in self.vault.outdated:
                    size, mtime = content.size, content.mtime_ns
            elif size <= _SMALLEST_CHUNK:
                blocks = blocks_of(size)
            else:
                blocks = blocks_of(self._present_bytes(node))
        elif kind == KIND_SYMLINK:
            size = len(node.target)
        elif kind == KIND_DIR:
            size, blocks = 4096, 8
        return Attributes(
            st, TYPE_BITS[kind] | node.mode, node.nlink, uid, gid, node.rdev, size, blocks, node.atime_ns, mtime, ctime
        )

    def _orphan_attributes(self, orphan: Orphan) -> Attributes:
        size = orphan.size
        blocks = blocks_of(size) if orphan.kind == KIND_FILE else 0
        opened = self.opened.get(orphan.st)
        if opened is not None:
            content = opened.content
            size, blocks = content.size, blocks_of(opened.present())
        uid, gid = orphan.uid, orphan.gid
        if self._owner is not None:
            uid, gid = self._owner.shown(uid, gid)
        mode, rdev = TYPE_BITS[orphan.kind] | orphan.mode, orphan.rdev
        times = orphan.atime_ns, orphan.mtime_ns, orphan.ctime_ns
        return Attributes(orphan.st, mode, 0, uid, gid, rdev, size, blocks, *times)

    def _present_bytes(self, node: Node) -> int:
        """Bytes of a closed file that are no holes."""
        known = self._present.get(node.st)
        if known is not None and known[0] == node.cver:
            return min(known[1], node.size)
        encoded = self.replica.content_of(node.st)
        present = node.size if encoded is None else present_bytes(encoded, node.size)
        if encoded is not None:
            self._remember_present(node, present)
        return present

    def _remember_present(self, node: Node, present: int) -> None:
        if len(self._present) >= _BLOCKS_REMEMBERED:
            self._present.clear()
        self._present[node.st] = (node.cver, present)

    # ---- what the kernel knows -------------------------------------------------------------------------------------

    def known(self, st: int) -> None:
        """The kernel was told of `st` once more: by lookup, mknod, mkdir, symlink, link, create or a listing."""
        self.lookups[st] = self.lookups.get(st, 0) + 1

    def keeps_pages(self, st: int, opened: OpenFile) -> bool:
        """Whether the pages that the kernel may have of an inode are those of the present version; if not, they are
        dropped, and those to come will be.
        """  # noqa: D205 - one sentence
        version = opened.version
        known = self.kept.get(st)
        if known is None and len(self.kept) >= _KEPT_MAX:
            self.kept.clear()
        self.kept[st] = version
        return known == version

    def forget(self, forgotten: Iterable[tuple[int, int]]) -> None:
        """The kernel dropped so many references to each inode."""
        lookups = self.lookups
        for st, count in forgotten:
            left = lookups.get(st, 0) - count
            if left > 0:
                lookups[st] = left
            else:
                lookups.pop(st, None)
                self.kept.pop(st, None)
                if st in self.orphans and st not in self.opened:
                    self._bury(st)

    def directory(self, st: int) -> Node:
        """The live directory `st`. Raises ENOTDIR, or ENOENT, ESTALE if it is gone."""
        if st in self.orphans:
            raise FsError(ENOENT)
        node = self.replica.node(st)
        if node is None:
            raise FsError(ESTALE)
        if node.kind != KIND_DIR:
            raise FsError(ENOTDIR)
        return node

    # ---- orphans ---------------------------------------------------------------------------------------------------

    def bereave(self, node: Node, now: int) -> None:
        """The last name was just taken away; `node` as it was before.

        Whoever has it open keeps it; what is written from here on is nobody's but his, and never logged. The copy is
        made because the replica keeps nothing of a file that came and went between two segments.
        """
        st = node.st
        opened = self.opened.get(st)
        self._present.pop(st, None)
        if opened is None and st not in self.lookups:
            self._local.drop(st)
            return
        attributes = self.shown(node)
        if opened is not None and opened.content.st == st:
            opened.content.detached = True
        replica = self.replica
        xattrs = {key: replica.xattr(st, key) or b"" for key in replica.xattrs(st)}
        self.orphans[st] = Orphan(
            st, node.kind, node.mode, node.uid, node.gid, node.rdev, attributes.size, attributes.mtime_ns, now,
            node.atime_ns, node.target, xattrs,
        )  # fmt: skip

    def _bury(self, st: int) -> None:
        del self.orphans[st]
        self._local.drop(st)

    # ---- open files ------------------------------------------------------------------------------------------------

    def hold(self, st: int, *, writing: bool = False) -> OpenFile:
        """One more handle on the file `st`. Raises ESTALE for a nameless one whose last handle was closed.

        Who is going to write starts from the newest version, unless somebody else is writing to an older one.
        """
        opened = self.opened.get(st)
        if writing and opened is not None and not opened.writers:
            self.go_over(opened.content)
        if opened is None:
            orphan = self.orphans.get(st)
            if orphan is not None and orphan.content_lost:
                raise FsError(ESTALE)
            opened = OpenFile(self.vault.open_file(st))
            if orphan is not None:
                opened.content.detached = True
            self.opened[st] = opened
        opened.handles += 1
        opened.writers += writing
        return opened

    def let_go(self, st: int, opened: OpenFile, *, writing: bool = False) -> None:
        """One handle less. The last one gives the content back to the vault."""
        opened.handles -= 1
        opened.writers -= writing
        if opened.handles:
            return
        content = opened.content
        del self.opened[st]
        orphan = self.orphans.get(st)
        if orphan is not None:
            orphan.size = content.size
            orphan.content_lost = True
            if st not in self.lookups:
                self._bury(st)
        elif content.size > _SMALLEST_CHUNK:
            node = self.replica.node(st)
            if node is not None:
                self._remember_present(node, content.allocated())
        if content.st != st or content in self.vault.outdated:  # from now on the file is what the others made of it
            self.vault.exchange.announce([], [st])
        self.vault.release_file(content)

    def keeps(self, content: FileContent) -> bool:
        """Whether programs have that content open."""
        opened = self.opened.get(content.st)
        if opened is not None and opened.content is content:
            return True
        return content.st != content.origin and any(one.content is content for one in self.opened.values())

    def go_over(self, content: FileContent) -> None:
        """Whoever has it open goes on with the newest version, if others have made one."""
        if content in self.vault.outdated:
            self.vault.go_over(content)
            self.vault.exchange.announce([], [content.st])

    def go_over_late(self, now: float) -> None:
        """Go over to newer versions where all handles only read, and have had their time; `now` as trio tells it."""
        for opened in list(self.opened.values()):
            since = self.vault.outdated.get(opened.content)
            if since is not None and now - since >= _KEPT_SECONDS and not opened.writers:
                self.go_over(opened.content)

    def replace_content(self, old: FileContent, new: FileContent) -> None:
        """Whoever has `old` open goes on with `new`: what was written here to a file that others made alike."""
        for opened in self.opened.values():
            if opened.content is old:
                opened.content = new
                old.opens -= 1
                new.opens += 1

    def changed_elsewhere(self, st: int) -> None:
        """`st` was changed, not through this mount: pages and counted blocks are of an old version."""
        self.kept.pop(st, None)
        self._present.pop(st, None)
        node = self.replica.node(st) if st in self.orphans else None
        if node is not None and node.nlink > 0:
            self._has_a_name_again(st)

    def _has_a_name_again(self, st: int) -> None:
        """It was brought back from the trash: who has it open goes on with the file that everybody sees."""
        del self.orphans[st]
        opened = self.opened.get(st)
        if opened is not None:
            opened.content.reattach()

    # ---- times -----------------------------------------------------------------------------------------------------

    def accessed(self, st: int, *, directory: bool = False) -> None:
        """Somebody read `st`: move its access time, if the mount's rule says so. This device only."""
        rule = self._dir_atime if directory else self._atime
        if rule == "noatime":
            return
        now = self.clock.now()
        orphan = self.orphans.get(st)
        if orphan is not None:
            if atime_is_due(rule, orphan.atime_ns, orphan.mtime_ns, orphan.ctime_ns, now):
                orphan.atime_ns = now
            return
        node = self.replica.node(st)
        if node is not None and atime_is_due(rule, node.atime_ns, node.mtime_ns, node.ctime_ns, now):
            self.replica.set_atime(st, now)
