"""Runs a cryptfs command on a slow store: `slow_daemon.py mount NAME DIR --foreground`.

Stands for a cloud far away: every call takes its time before anything happens, and all bytes share one line.

SLOW_CALL=S      seconds a call takes (0.15)
SLOW_CREATE=S    seconds a put takes (0.3)
SLOW_MBIT=N      megabits a second of the line (100)
"""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from cryptfs.cli.main import run
from cryptfs.mount import daemon
from cryptfs.store.base import Call, Changes, Stat, Store
from cryptfs.vault.stores import store_at

CALL = float(os.environ.get("SLOW_CALL", "0.15"))
CREATE = float(os.environ.get("SLOW_CREATE", "0.3"))
BYTES_PER_SECOND = float(os.environ.get("SLOW_MBIT", "100")) * 1e6 / 8


class Line:
    """One line for all: bytes go over it one after another, whoever they are for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._free_at = 0.0

    def carry(self, size: int) -> None:
        with self._lock:
            self._free_at = max(time.monotonic(), self._free_at) + size / BYTES_PER_SECOND
            until = self._free_at
        time.sleep(max(0.0, until - time.monotonic()))


class SlowStore:
    """`store`, far away."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._line = Line()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def get(self, key: str, call: Call, start: int = 0, length: int | None = None) -> bytes:
        time.sleep(CALL)
        data = self._store.get(key, call, start, length)
        self._line.carry(len(data))
        return data

    def put(self, key: str, data: bytes, call: Call, *, if_absent: bool = False) -> Stat:
        time.sleep(CREATE)
        self._line.carry(len(data))
        return self._store.put(key, data, call, if_absent=if_absent)

    def put_file(self, key: str, path: Path, call: Call, *, if_absent: bool = False) -> Stat:
        time.sleep(CREATE)
        self._line.carry(path.stat().st_size)
        return self._store.put_file(key, path, call, if_absent=if_absent)

    def stat(self, key: str, call: Call) -> Stat | None:
        time.sleep(CALL)
        return self._store.stat(key, call)

    def list(self, prefix: str, call: Call, after: str = "") -> Iterator[Stat]:
        time.sleep(CALL)
        return self._store.list(prefix, call, after)

    def changes(self, cursor: str, call: Call) -> Changes:
        time.sleep(CALL)
        return self._store.changes(cursor, call)


def slow(opener: Callable[..., Store]) -> Callable[..., Any]:
    return lambda *given: SlowStore(opener(*given))


daemon.store_at = slow(store_at)  # type: ignore[attr-defined]

if __name__ == "__main__":
    run()
