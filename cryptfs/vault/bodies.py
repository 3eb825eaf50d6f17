"""Records that travelled in a log segment: its body2 is fetched with the segment, and kept whole."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

import trio

from cryptfs.crypto.keys import random_bytes
from cryptfs.errors import CryptfsError, Damaged, HostileStore, NeedsUpdate, NotFound
from cryptfs.vault.containers import Container
from cryptfs.vault.disk import local_disk
from cryptfs.vault.logobjects import LogObjects
from cryptfs.vault.upload import READ_SECONDS, Sender

__all__ = ["DOUBTFUL", "MISSING", "Bodies", "write_copy"]

MISSING: Final = "is missing"
"""What is wrong with an object that is not there at all."""
DOUBTFUL: Final = ".doubtful"
"""Suffix of copies that did not match their name: good for this run, each record compared by itself."""


class _Waiting:
    """One fetch, and what came of it; the others who want the same wait for it."""

    __slots__ = ("body", "done", "error")

    def __init__(self) -> None:
        self.done = trio.Event()
        self.body: bytes | None = None
        self.error: CryptfsError | None = None


class Bodies:
    """Fetches body2 of segments. `damaged` is told of objects that did not verify, by name."""

    def __init__(
        self,
        sender: Sender,
        log_objects: LogObjects,
        path_of: Callable[[Container], Path],
        segment_name: Callable[[bytes], str | None],
        damaged: dict[str, str],
    ) -> None:
        self._sender = sender
        self._log_objects = log_objects
        self._path_of = path_of
        self._segment_name = segment_name
        self._damaged = damaged
        self._under_way: dict[Container, _Waiting] = {}

    async def record(self, container: Container, off: int, length: int, digest: bytes) -> bytes | memoryview:
        """The record of that hash; what is here at its place is not it. Raises as `fetch`."""
        record = (await self.fetch(container))[off : off + length]
        if hashlib.sha256(record).digest() != digest:
            raise Damaged("a part of a file is damaged in the store")
        return record

    async def fetch(self, container: Container) -> bytes:
        """Bring a body2 here. Raises Damaged if the store lacks it or has junk, StoreError, LocalDisk."""
        while (under_way := self._under_way.get(container)) is not None:
            await under_way.done.wait()
            if under_way.error is not None:
                raise under_way.error
            if under_way.body is not None:
                return under_way.body
        mine = self._under_way[container] = _Waiting()
        try:
            body = mine.body = await self._take(container)
        except CryptfsError as err:
            mine.error = err
            raise
        finally:
            del self._under_way[container]
            mine.done.set()
        return body

    async def _take(self, container: Container) -> bytes:
        name = self._segment_name(container.id)
        if name is None:
            what = f"a part of a file is in the log segment {container.id.hex()}, which is not known here"
            raise Damaged(what)
        try:
            raw = await self._sender.patiently(lambda _: self._log_objects.nearest(name, container.id), READ_SECONDS)
        except NotFound as err:
            self._damaged[name] = MISSING
            raise Damaged(f"a part of a file is missing in the store: {name}") from err
        except (HostileStore, NeedsUpdate) as err:  # it was understood once, so it is another object now
            self._damaged[name] = str(err)
            raise Damaged("a part of a file is damaged in the store") from err
        path, verified = self._path_of(container), raw.digest == container.id
        if verified:
            self._damaged.pop(name, None)
        else:
            path = path.with_suffix(DOUBTFUL)
            self._damaged[name] = "does not match its name"
        body = bytes(raw.body2)
        container.close_file()
        with local_disk("caching a segment"):
            write_copy(path, body)
        container.path, container.size, container.verified = path, len(body), verified
        return body


def write_copy(path: Path, data: bytes) -> None:
    """Write a file of the cache so that it is there whole or not at all. Raises OSError."""
    temporary = path.with_name(f".tmp-{random_bytes(8).hex()}")
    try:
        temporary.write_bytes(data)
        temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)
