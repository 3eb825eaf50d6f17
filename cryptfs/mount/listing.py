"""Open directories: a snapshot a pass, with offsets that find the same entry for the life of the handle."""

from bisect import bisect_right
from collections.abc import Iterator
from errno import EBADF
from typing import Final, NamedTuple

from cryptfs.errors import FsError
from cryptfs.format.operation import KIND_DIR
from cryptfs.mount.attributes import Attributes
from cryptfs.mount.inodes import Inodes
from cryptfs.mount.names import Names

__all__ = ["Listed", "Listings"]

_DOTS: Final = 2
"""`.` and `..` have the offsets 1 and 2; offset 0 means "from the beginning"."""


class Listed(NamedTuple):
    """One entry as it is reported. `offset` continues after it; `counts` says that the kernel now knows the inode."""

    name: bytes
    attributes: Attributes
    offset: int
    counts: bool


class _Listing:
    """One opendir(3). `offsets[i]` belongs to `names[i]`, both ascending by offset; `issued` is the last offset given.

    `state` is the directory's change count at the snapshot: while it stands, entries need no second look.
    """

    __slots__ = ("inodes", "issued", "names", "offsets", "st", "state")

    def __init__(self, st: int) -> None:
        self.st = st
        self.names: list[bytes] = []
        self.inodes: list[int] = []
        self.offsets: list[int] = []
        self.issued = _DOTS
        self.state = -1

    def take(self, entries: list[tuple[bytes, int, int]]) -> None:
        """A new snapshot. A name seen before keeps its offset, a new one gets an offset never used before."""
        known = dict(zip(self.names, self.offsets, strict=True))
        placed = []
        for name, st, _ in entries:
            offset = known.get(name)
            if offset is None:
                self.issued += 1
                offset = self.issued
            placed.append((offset, name, st))
        if known:
            placed.sort()
        self.offsets = [offset for offset, _, _ in placed]
        self.names = [name for _, name, _ in placed]
        self.inodes = [st for _, _, st in placed]


class Listings:
    """All open directories. Nothing here waits."""

    def __init__(self, inodes: Inodes, names: Names) -> None:
        self._inodes = inodes
        self._names = names
        self._handles: dict[int, _Listing] = {}
        self._listed: dict[int, int] = {}
        self._next = 1

    def opendir(self, st: int) -> int:
        """A handle on the directory `st`, also on one that has been removed (it lists nothing)."""
        if st not in self._inodes.orphans:
            self._inodes.directory(st)
        fh = self._next
        self._next = fh + 1
        self._handles[fh] = _Listing(st)
        self._listed[st] = self._listed.get(st, 0) + 1
        self._names.changes.setdefault(st, 0)
        return fh

    def releasedir(self, fh: int) -> None:
        """Close the handle."""
        st = self._handles.pop(fh).st
        left = self._listed[st] - 1
        if left:
            self._listed[st] = left
        else:
            del self._listed[st], self._names.changes[st]

    def list_from(self, fh: int, offset: int) -> Iterator[Listed]:
        """Entries after `offset`, with attributes. 0 takes a new snapshot. Raises EBADF.

        Entries that went away since the snapshot are left out: the kernel would believe in them for a minute.
        """
        listing = self._handles.get(fh)
        if listing is None:
            raise FsError(EBADF)
        st = listing.st
        if st in self._inodes.orphans:
            return
        if offset == 0:
            listing.take(list(self._inodes.replica.entries(st)))
            listing.state = self._names.changes[st]
            self._inodes.accessed(st, directory=True)
        if offset < _DOTS:
            yield from self._dots(st, offset)
        yield from self._entries(listing, bisect_right(listing.offsets, offset))

    def _dots(self, st: int, offset: int) -> Iterator[Listed]:
        if offset < 1:
            yield Listed(b".", self._inodes.attributes(st), 1, counts=False)
        yield Listed(b"..", self._inodes.attributes(self._names.parent(st)), 2, counts=False)

    def _entries(self, listing: _Listing, start: int) -> Iterator[Listed]:
        inodes, replica = self._inodes, self._inodes.replica
        names, numbers, offsets = listing.names, listing.inodes, listing.offsets
        parent = listing.st
        unchanged = self._names.changes[parent] == listing.state
        for index in range(start, len(offsets)):
            name, st = names[index], numbers[index]
            if not unchanged:
                entry = replica.lookup(parent, name)
                if entry is None:
                    continue
                st = entry.st
            node = replica.node(st)
            if node is None or (node.nlink == 0 and node.kind != KIND_DIR):
                continue
            yield Listed(name, inodes.shown(node), offsets[index], counts=True)
