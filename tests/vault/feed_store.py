"""A store with a change feed, as some providers have one: what a device is told is as long as what is new.

`FeedWorld` is the provider, `FeedStore` the view of one device, with counted calls and a latency for each. Cursors
outlive a view, as they outlive a restart of the mount.
"""

import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from cryptfs.store import Buffer, Call, Cap, Change, Changes, MemoryStore, Space, Stat
from cryptfs.store.memory import read_local


class FeedWorld:
    """Objects, and in which order they came and went."""

    def __init__(self) -> None:
        self.objects = MemoryStore()
        self.events: list[str] = []
        self.lock = threading.Lock()
        self.dead: set[str] = set()
        """Cursors that are refused: what they had not told is told as everything there is."""

    def happened(self, key: str) -> None:
        with self.lock:
            self.events.append(key)


class FeedStore:
    """One device's view. `calls` counts by verb; `delay`: seconds that each call takes."""

    def __init__(self, world: FeedWorld, delay: float = 0.0) -> None:
        self.world = world
        self.delay = delay
        self.calls: Counter[str] = Counter()
        self.listed: list[str] = []

    @property
    def caps(self) -> frozenset[Cap]:
        return self.world.objects.caps | {Cap.CHANGES}

    def _enter(self, verb: str, call: Call) -> None:
        self.calls[verb] += 1
        if self.delay:
            call.clock.wait(self.delay, call.abort)
        call.check()

    def put(self, key: str, data: Buffer, call: Call, *, if_absent: bool = False) -> Stat:
        self._enter("put", call)
        fresh = self.world.objects.stat(key, call) is None
        stat = self.world.objects.put(key, data, call, if_absent=if_absent)
        if fresh:
            self.world.happened(key)
        return stat

    def put_file(self, key: str, path: Path, call: Call, *, if_absent: bool = False) -> Stat:
        return self.put(key, read_local(path), call, if_absent=if_absent)

    def get(self, key: str, call: Call, start: int = 0, length: int | None = None) -> bytes:
        self._enter("get", call)
        return self.world.objects.get(key, call, start, length)

    def stat(self, key: str, call: Call) -> Stat | None:
        self._enter("stat", call)
        return self.world.objects.stat(key, call)

    def delete(self, key: str, call: Call) -> None:
        self._enter("delete", call)
        self.world.objects.delete(key, call)
        self.world.happened(key)

    def list(self, prefix: str, call: Call, after: str = "") -> Iterator[Stat]:
        self._enter("list", call)
        self.listed.append(prefix)
        return self.world.objects.list(prefix, call, after)

    def changes(self, cursor: str, call: Call) -> Changes:
        self._enter("changes", call)
        with self.world.lock:
            events, dead = list(self.world.events), cursor in self.world.dead
        if not cursor or dead:
            return [Change(stat.key, stat) for stat in self.world.objects.list("", call)], str(len(events))
        told = dict.fromkeys(events[int(cursor) :])
        return [Change(key, self.world.objects.stat(key, call)) for key in told], str(len(events))

    def space(self, call: Call) -> Space | None:
        self._enter("space", call)
        return self.world.objects.space(call)

    def close(self) -> None:
        pass
