"""Containers by name, and their copies on this disk, which together fit a limit.

The cache holds only what the store has confirmed; anything in it may vanish at any time. A copy bears the name of its
object once all of it is here and was compared with that name; until then, or if it is not what its name says, it is a
sparse one, of which each record proves itself. Fetching is the work of `fetching.py`.
"""

import logging
import os
from functools import partial
from pathlib import Path
from typing import Final

from cryptfs.format.content import WHERE_BODY2, WHERE_PACK, Loc
from cryptfs.format.names import pack_name
from cryptfs.tree.places import Moves, Place, Used, present_place
from cryptfs.tree.replica import Replica
from cryptfs.vault.bodies import write_copy
from cryptfs.vault.containers import Container
from cryptfs.vault.disk import local_disk
from cryptfs.vault.fetching import Fetching
from cryptfs.vault.logobjects import LogObjects
from cryptfs.vault.sparse import SparseCopy
from cryptfs.vault.upload import Sender

__all__ = ["Cache", "SegmentNames"]

log = logging.getLogger(__name__)

_LOOK_AFTER: Final = 256 << 20
"""Bytes fetched after which the limit is looked at, without waiting for the next regular look."""
_LOOK_LEAST: Final = 8 << 20
"""The same for a very small limit: looking costs a look at every file."""


class SegmentNames:
    """Names of segments in the store by digest D, kept with the replica; filled by whoever reads or writes logs."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica

    def learn(self, digest: bytes, name: str) -> None:
        self._replica.meta_set(f"segment/{digest.hex()}", name.encode())

    def name(self, digest: bytes) -> str | None:
        found = self._replica.meta_get(f"segment/{digest.hex()}")
        return found.decode() if found is not None else None


class Cache:
    """All containers of one open vault that have a final name. Trio thread; `limit` in bytes."""

    def __init__(self, directory: Path, sender: Sender, replica: Replica, log_objects: LogObjects, limit: int) -> None:
        self._directory = directory
        self.segments = SegmentNames(replica)
        self._replica = replica
        self.limit = limit
        self._known: dict[tuple[int, bytes], Container] = {}
        self._moves: Moves = {}
        self._added = 0  # bytes, since the limit was looked at
        self.fetching = Fetching(
            sender, log_objects, path_of=lambda one: self._path(one.where, one.id), size_of=self._size_of,
            segment_name=self.segments.name, grown=self._grown,
        )  # fmt: skip
        self.damaged = self.fetching.damaged
        """Objects that did not verify, with what was wrong."""
        self.kept: frozenset[str] | None = frozenset()
        """Ids in hex of what is pinned (`keeping.py`), outside the limit; None: not known yet, nothing is removed."""
        self.pinned: set[Path] = set()
        """Records of the segment on its way, until the store has it."""
        self.held: set[Path] = set()
        """Packs made here that are on their way to the store."""

    def container(self, loc: Loc) -> Container:
        """The container at a final location."""
        key = (loc.where, loc.id)
        known = self._known.get(key)
        if known is None:
            path = self._path(loc.where, loc.id)
            here = path.exists()
            known = self._known[key] = Container(-1, loc.where, loc.id, path if here else None)
            known.verified = here  # only what was verified bears this name; what rots later does not open
            if not here and (sparse := path.with_suffix(".part")).exists():
                known.sparse = SparseCopy(sparse)
            self._relocate(known)
        return known

    @property
    def moves(self) -> Moves:
        """What `follow` was told last."""
        return self._moves

    def name_of(self, container: Container) -> str:
        """The object in the store; empty if it has no name yet, or none that is known here."""
        if container.where == WHERE_BODY2:
            return self.segments.name(container.id) or ""
        return pack_name(container.id) if container.id else ""

    def follow(self, moves: Moves) -> None:
        """These records were copied to other containers by who holds them; replaces what was said before."""
        self._moves = moves
        for container in self._known.values():
            self._relocate(container)

    def _relocate(self, container: Container) -> None:
        place = Place(container.where, container.id)
        container.relocated = partial(self._moved, place) if place in self._moves else None

    def _moved(self, place: Place, off: int) -> tuple[Container, int] | None:
        there = present_place(Used(*place, off, 1), self._moves, 1)[0]
        if there.place == place:
            return None
        return self.container(Loc(there.where, there.id, 0)), there.off

    def unnamed(self) -> list[Container]:
        """Packs made here that the store has, and no segment names yet."""
        return [one for one in self._known.values() if one.where == WHERE_PACK and not one.named]

    def forget(self, place: Place) -> None:
        """The object is gone from the store; programs that have the file open may read its copy here to the end."""
        known = self._known.pop(place, None)
        if known is not None:
            known.drop_file(keep_readable=True)
        path = self._path(*place)
        with local_disk("tidying the cache"):
            path.unlink(missing_ok=True)
            path.with_suffix(".part").unlink(missing_ok=True)

    def adopt(self, container: Container) -> None:
        """A container made here has its final name now."""
        self._known[container.where, container.id] = container
        self._relocate(container)

    def keep_body2(self, digest: bytes, data: bytes) -> Container:
        """Keep the records that travelled in the segment `digest`. A full disk only means asking the store later."""
        container = Container(-1, WHERE_BODY2, digest, None, len(data))
        container.verified = True
        self._known[WHERE_BODY2, digest] = container
        path = self._path(WHERE_BODY2, digest)
        try:
            write_copy(path, data)
        except OSError:
            log.warning("a segment's records could not be kept in the cache")
        else:
            container.path = path
            self.pinned.add(path)
        return container

    def _path(self, where: int, ident: bytes) -> Path:
        return self._directory / f"{ident.hex()}.{'pack' if where == WHERE_PACK else 'body2'}"

    def _size_of(self, container: Container) -> int:
        """Bytes of a pack as the segment that made it known says; 0 if none did."""
        known = self._replica.rows.container(container.where, container.id)
        return known.size if known is not None else 0

    # ---- room -----------------------------------------------------------------------------------------------------

    def used(self) -> int:
        """Bytes of copies on this disk."""
        total = 0
        with local_disk("reading the cache"), os.scandir(self._directory) as entries:
            for entry in entries:
                total += _room(entry.stat())
        return total

    def _grown(self, count: int) -> None:
        self._added += count
        if self._added >= min(_LOOK_AFTER, max(_LOOK_LEAST, self.limit // 10)):
            self.evict()

    def evict(self) -> None:
        """Remove the copies used longest ago until the cache fits its limit."""
        self._added = 0
        if self.kept is None:
            return
        files: list[tuple[int, float, Path, int]] = []
        by_path = {path: c for c in self._known.values() if (path := c.path or (c.sparse and c.sparse.path))}
        total = 0
        with local_disk("reading the cache"), os.scandir(self._directory) as entries:
            for entry in entries:
                status = entry.stat()
                path = Path(entry.path)
                if path.stem in self.kept:
                    continue
                total += _room(status)
                if path in self.pinned or path in self.held:
                    continue
                container = by_path.get(path)
                files.append((container.last_used if container else 0, status.st_mtime, path, _room(status)))
        if total <= self.limit:
            return
        for _, _, path, size in sorted(files):
            container = by_path.get(path)
            if container is not None:
                container.drop_file()
            else:
                with local_disk("tidying the cache"):
                    path.unlink(missing_ok=True)
            total -= size
            if total <= self.limit * 9 // 10:
                return


def _room(status: os.stat_result) -> int:
    """Bytes that a file takes on the disk; of a sparse one, those that are there."""
    return min(status.st_size, status.st_blocks * 512)
