"""The contents in memory: those that are open, and those that no segment carries yet.

Each is found by the node that shows it. A merge may change which that is: what was written here to a file that others
changed as well becomes a conflicted copy, and the file has their content.
"""

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, cast

import trio

from cryptfs.errors import FsError
from cryptfs.format.operation import provisional_number
from cryptfs.vault.content import FileContent

if TYPE_CHECKING:
    from cryptfs.tree.replica import Replica
    from cryptfs.vault.vault import Vault

__all__ = ["Contents"]

_DIRTY_ALL_MAX: Final = 32 << 20
"""Bytes of plaintext in memory, all files together."""


class Contents:
    """A base of `Vault`, which gives it the tree."""

    replica: "Replica"

    def __init__(self) -> None:
        self.dirty_bytes = 0
        """Plaintext in memory, all files together."""
        self.files: dict[int, FileContent] = {}
        """By the node that shows it."""
        self.carried: dict[int, FileContent] = {}
        """The contents of pending operations, by their local numbers."""
        self.replaced: list[Callable[[FileContent, FileContent], None]] = []
        """Told of a content that is nobody's present one any more, and the one to use instead."""
        self.keeping: Callable[[FileContent], bool] = lambda _: False
        """Whether programs have a content open, and go on with the version that they have begun to read or change."""
        self.outdated: dict[FileContent, float] = {}
        """Contents of which others made a newer version while programs had them open, and since when; seconds that only
        run forward."""
        self._aside: dict[FileContent, None] = {}  # those whose node shows another content, which is changed as well

    def open_file(self, st: int) -> FileContent:
        """The content of a file, shared by all who have it open; give it back with `release_file`."""
        content = self.files.get(st)
        if content is None:
            node = self.replica.node(st)
            if node is None:
                raise FsError(errno.ENOENT)
            content = self.files[st] = FileContent(cast("Vault", self), st, node.size, node.mtime_ns, node.cver)
        content.opens += 1
        return content

    def superseded(self, st: int, *, asked: bool = False) -> bool:
        """There is a newer version of `st`; returns whether who has it open does not see that yet.

        By others, unless `asked`: somebody on this machine wants that version to be what the file is, at once.
        """
        content = self.files.get(st)
        if content is None:
            return False
        if not asked and self.keeping(content) and not _busy(content):
            self.outdated.setdefault(content, trio.current_time())
            return True
        self.outdated.pop(content, None)
        content.superseded()
        self.drop_if_idle(content)
        return False

    def go_over(self, content: FileContent) -> None:
        """Go over to the newest version of a file that is open, unless changes of our own are under way in it."""
        self.outdated.pop(content, None)
        node = self.replica.node(content.st)
        if node is not None and not _busy(content):
            content.superseded()
            content.mtime_ns = node.mtime_ns

    def follow(self) -> None:
        """After a merge: contents that are not sealed go where the tree has put them.

        What was written here to a file that others changed lies in a conflicted copy now, and the file has their
        content; what was written to a file that others made alike lies in theirs.
        """
        for content in dict.fromkeys(self.carried.values()):
            k = provisional_number(content.base_ver[0]) if content.base_ver else None
            if k is not None and k in self.carried:
                self._place(content, k)

    def _place(self, content: FileContent, k: int) -> None:
        """Have the node that shows the change `k` open as `content`."""
        st = self.replica.landed(k, content.origin)
        there = self.files.get(st)
        if there is content:
            return
        if self.files.get(content.st) is content:
            del self.files[content.st]
        content.st = st
        self.outdated.pop(content, None)  # it shows a file of its own now
        if there is not None and (there.changed or there.pending > 0):
            self._aside[content] = None  # read again when it is sealed; what is open there goes on as a copy of its own
            return
        self._aside.pop(content, None)
        self.files[st] = content
        if there is not None:
            for listener in self.replaced:
                listener(there, content)
            self.outdated.pop(there, None)
            there.forget()

    def contents(self) -> list[FileContent]:
        """All contents in memory."""
        return [*self.files.values(), *self._aside]

    def release_file(self, content: FileContent) -> None:
        """Counterpart of `open_file`. Dirty data are handed over; LocalDisk(Full) if that fails: they are kept."""
        content.opens -= 1
        if content.opens > 0:
            return
        if content.detached and content.pending <= 0:
            content.forget()
        else:  # also if detached: the segment that carries what is pending says the file as a whole
            content.hand_over_now()
        self.drop_if_idle(content)

    def drop_if_idle(self, content: FileContent) -> None:
        """Forget a content nobody needs in memory."""
        if content.opens <= 0 and content.pending <= 0 and (content.detached or not content.dirty):
            content.forget()  # chunks that were loaded for a change that did not come about
            content.map.cut(0)  # what no segment took is of no use to anybody now
            pack = content.release_pack()
            if pack is not None:
                pack.finish_filling()
            self._aside.pop(content, None)
            self.outdated.pop(content, None)
            if self.files.get(content.st) is content:
                del self.files[content.st]

    def relieve(self) -> None:
        """Bring the plaintext in memory below its bound. Raises LocalDisk, LocalDiskFull."""
        if self.dirty_bytes <= _DIRTY_ALL_MAX:
            return
        for content in sorted(self.contents(), key=lambda one: -one.dirty_len):
            content.hand_over_now()
            if self.dirty_bytes <= _DIRTY_ALL_MAX // 2:
                break

    def hand_over_pending(self) -> None:
        """Before a seal: a file with something pending says all of it, so that no version is a mixture."""
        for content in self.contents():
            if content.pending > 0 and content.dirty:
                content.hand_over_now()

    def hand_over_all(self) -> None:
        """Submit whatever is still only in memory. Raises LocalDisk, LocalDiskFull."""
        for content in self.contents():
            content.hand_over_now()


def _busy(content: FileContent) -> bool:
    """Whether changes are under way in it: then it keeps the version it started from in any case."""
    return content.changed or content.pending > 0 or content.map.sealing is not None
