"""Containers by name, their copies on this disk, and bringing them here.

The cache holds only what the store has confirmed; anything in it may vanish at any time. What comes from the store is
compared with its digest as a whole; an object that fails is kept all the same, because the records in it that are sound
can still be read: each is compared by itself then.
"""

import hashlib
import logging
import os
from functools import partial
from pathlib import Path
from typing import Final

import trio

from cryptfs.crypto.keys import random_bytes
from cryptfs.errors import Damaged, HostileStore, NeedsUpdate, NotFound
from cryptfs.format.content import WHERE_BODY2, WHERE_PACK, Loc
from cryptfs.format.limits import PACK_MAX
from cryptfs.format.names import pack_name
from cryptfs.tree.places import Moves, Place, Used, present_place
from cryptfs.tree.replica import Replica
from cryptfs.vault.containers import Container
from cryptfs.vault.disk import local_disk
from cryptfs.vault.logobjects import LogObjects
from cryptfs.vault.upload import Sender

__all__ = ["MISSING", "Cache", "SegmentNames"]

log = logging.getLogger(__name__)

MISSING: Final = "is missing"
"""What is wrong with an object that is not there at all."""
_DOUBTFUL: Final = ".doubtful"
"""Suffix of copies that did not match their name: good for this run, each record compared by itself."""
_PIECE: Final = 8 << 20
"""Bytes asked of the store at once."""


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
    """All containers of one open vault that have a final name. Trio thread; file work of fetches in threads."""

    def __init__(
        self, directory: Path, sender: Sender, segments: SegmentNames, log_objects: LogObjects, limit: int
    ) -> None:
        self._directory = directory
        self._sender = sender
        self.segments = segments
        self._log_objects = log_objects
        self._limit = limit
        self._known: dict[tuple[int, bytes], Container] = {}
        self._moves: Moves = {}
        self._fetching: dict[tuple[int, bytes], trio.Lock] = {}
        self.damaged: dict[str, str] = {}
        """Objects that did not verify, with what was wrong."""
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
            self._relocate(known)
        return known

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
        with local_disk("tidying the cache"):
            self._path(*place).unlink(missing_ok=True)

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
            _write(path, data)
        except OSError:
            log.warning("a segment's records could not be kept in the cache")
        else:
            container.path = path
            self.pinned.add(path)
        return container

    def _path(self, where: int, ident: bytes) -> Path:
        return self._directory / f"{ident.hex()}.{'pack' if where == WHERE_PACK else 'body2'}"

    # ---- fetching -------------------------------------------------------------------------------------------------

    async def fetch(self, container: Container) -> None:
        """Bring a container to this disk. Raises Damaged if the store lacks it or has junk, StoreError, LocalDisk."""
        key = (container.where, container.id)
        lock = self._fetching.setdefault(key, trio.Lock())
        async with lock:
            if container.path is None:
                name = await self._fetch(container)
                if container.verified:
                    self.damaged.pop(name, None)
                else:
                    self.damaged[name] = "does not match its name"
        self._fetching.pop(key, None)

    async def _fetch(self, container: Container) -> str:
        if container.where == WHERE_BODY2:
            return await self._fetch_body2(container)
        name = pack_name(container.id)
        path = self._path(container.where, container.id)
        temporary = path.with_name(f".tmp-{random_bytes(8).hex()}")
        digest = hashlib.sha256()
        size = 0
        try:
            with local_disk("caching a pack"):
                out = await trio.to_thread.run_sync(lambda: temporary.open("wb"))
            try:
                while size < PACK_MAX:
                    piece = await self._get(name, size, _PIECE)
                    digest.update(piece)
                    size += len(piece)
                    with local_disk("caching a pack"):
                        await trio.to_thread.run_sync(out.write, piece)
                    if len(piece) < _PIECE:
                        break
            finally:
                out.close()
            verified = digest.digest() == container.id
            if not verified:
                path = path.with_suffix(_DOUBTFUL)
            with local_disk("caching a pack"):
                temporary.rename(path)
        finally:
            temporary.unlink(missing_ok=True)
        container.path, container.size = path, size
        container.verified = verified
        return name

    async def _fetch_body2(self, container: Container) -> str:
        name = self.segments.name(container.id)
        if name is None:
            what = f"a part of a file is in the log segment {container.id.hex()}, which is not known here"
            raise Damaged(what)
        try:
            raw = await self._log_objects.nearest(name, container.id)
        except NotFound as err:
            self.damaged[name] = MISSING
            raise Damaged(f"a part of a file is missing in the store: {name}") from err
        except (HostileStore, NeedsUpdate) as err:  # it was understood once, so it is another object now
            self.damaged[name] = str(err)
            raise Damaged("a part of a file is damaged in the store") from err
        path = self._path(WHERE_BODY2, container.id)
        verified = raw.digest == container.id
        if not verified:
            path = path.with_suffix(_DOUBTFUL)
        with local_disk("caching a segment"):
            _write(path, bytes(raw.body2))
        container.path, container.size, container.verified = path, len(raw.body2), verified
        return name

    async def _get(self, name: str, start: int, length: int) -> bytes:
        try:
            return await self._sender.get(name, start, length)
        except NotFound as err:
            self.damaged[name] = MISSING
            raise Damaged(f"a part of a file is missing in the store: {name}") from err

    # ---- room -----------------------------------------------------------------------------------------------------

    def used(self) -> int:
        """Bytes of copies on this disk."""
        total = 0
        with local_disk("reading the cache"), os.scandir(self._directory) as entries:
            for entry in entries:
                total += entry.stat().st_size
        return total

    def evict(self) -> None:
        """Remove the copies used longest ago until the cache fits its limit."""
        files: list[tuple[int, float, Path, int]] = []
        by_path = {c.path: c for c in self._known.values() if c.path is not None}
        total = 0
        with local_disk("reading the cache"), os.scandir(self._directory) as entries:
            for entry in entries:
                status = entry.stat()
                total += status.st_size
                path = Path(entry.path)
                if path in self.pinned or path in self.held:
                    continue
                container = by_path.get(path)
                files.append((container.last_used if container else 0, status.st_mtime, path, status.st_size))
        if total <= self._limit:
            return
        for _, _, path, size in sorted(files):
            container = by_path.get(path)
            if container is not None:
                container.drop_file()
            else:
                with local_disk("tidying the cache"):
                    path.unlink(missing_ok=True)
            total -= size
            if total <= self._limit * 9 // 10:
                return


def _write(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".tmp-{random_bytes(8).hex()}")
    try:
        temporary.write_bytes(data)
        temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)
