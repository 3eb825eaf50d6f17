"""How much to fetch when something is missing: what reading so far says about what will be read next.

Two things are foreseen. A large file that is read in sequence: the ranges before its reader are fetched while it reads.
And somebody who goes through a tree of small files, which lie in packs about in the order in which they were made: the
more of them were missing in a row, the more of a pack is fetched with the next one. Whoever jumps about in a large file
gets the least range there is, each time.
"""

import math
from typing import Final, Protocol

import trio

from cryptfs.vault.ranges import RANGE_MIN, RANGE_WHOLE, Reach

__all__ = ["SMALL_FILE", "ReadAhead", "Walk"]

SMALL_FILE: Final = RANGE_MIN
"""Bytes up to which a file is one of many rather than something to read through."""
_AT_ONCE: Final = 8 << 20
"""Bytes up to which a file that is read from its beginning is fetched as a whole."""
_WINDOW_FIRST: Final = 2 << 20
_WINDOW_MAX: Final = 16 << 20
"""Bytes before the reader of a large file that are here or on their way; the line must not run empty within a call."""
_PIECE: Final = 2 << 20
"""Bytes of one call made for it: several are on their way at once."""
_NEAR: Final = 2 << 20
"""Bytes by which a read may miss the expected place: the kernel asks for several pieces at once, in any order."""

_WALK_PAUSE: Final = 10.0
"""Seconds after which the next small file that is missing says nothing about those before."""
_WALK_SURE: Final = 3
"""Small files missing in a row that make it a walk."""


class Walk:
    """Small files that were missing, one after another; one for the whole vault."""

    def __init__(self) -> None:
        self._count = 0
        self._last = -math.inf

    def missed(self) -> Reach:
        """Another small file is not here: how much of its pack to fetch."""
        now = trio.current_time()
        self._count = self._count + 1 if now - self._last < _WALK_PAUSE else 1
        self._last = now
        if self._count >= _WALK_SURE:
            return Reach(RANGE_WHOLE, around=True, rest=True)
        return Reach(RANGE_MIN << (self._count - 1), around=True)


class Chunks(Protocol):
    """The file that is read: `chunk_log2`, `size` in bytes, length of its records, and beginning to fetch."""

    chunk_log2: int
    size: int

    def sealed_len(self, index: int) -> int:
        """See StoredContent."""

    def fetch_run(self, index: int, limit: int) -> int:
        """See ReadContent."""


class ReadAhead:
    """One large file with chunks that were missing."""

    __slots__ = ("_asked", "_expected", "_file", "_window", "due")

    def __init__(self, file: Chunks) -> None:
        self._file = file
        self._window = 0  # bytes; 0 while reads do not follow each other
        self._expected = -1  # chunk that a reader in sequence misses next
        self._asked = 0  # first chunk that was not asked for yet
        self.due = math.inf
        """Chunk whose reading means that more is to be asked for."""

    def missed(self, index: int) -> Reach:
        """Chunk `index` is not here: how much to fetch with it, while the rest of the window is begun."""
        file = self._file
        near = _NEAR >> file.chunk_log2
        own = max(1, RANGE_MIN >> file.chunk_log2)
        if index == self._expected - 1 and not self._window:
            return Reach(own * file.sealed_len(index))  # several wait for the same chunk
        if index == 0:
            self._window = file.size if file.size <= _AT_ONCE else 0
            self._asked = 0
        elif self._expected >= 0 and self._expected - near <= index <= max(self._expected, self._asked) + near:
            self._window = min(max(_WINDOW_FIRST, 2 * self._window), _WINDOW_MAX)
        else:
            self._window = self._asked = 0
        self._expected = index + 1 if self._window == 0 else max(self._expected, index + 1)
        if self._window:
            own = max(1, _PIECE >> file.chunk_log2)
        self._asked = max(self._asked, index + own)
        self.due = math.inf
        if self._window:
            self.go_on(index)
        return Reach(own * file.sealed_len(index))

    def go_on(self, index: int) -> None:
        """The reader is at chunk `index`: begin to fetch what of the window before it was not asked for yet."""
        file = self._file
        count = -(-file.size >> file.chunk_log2)
        target = min(count, index + 1 + (self._window >> file.chunk_log2))
        piece = max(1, _PIECE >> file.chunk_log2)
        while self._asked < target:
            begun = file.fetch_run(self._asked, min(count, self._asked + piece))
            if not begun:
                self.due = index + 1  # too much is under way, or a page of the manifest is needed first
                return
            self._asked += begun
        self._expected = max(self._expected, self._asked)
        self.due = math.inf if self._asked >= count else self._asked - (self._window >> file.chunk_log2) // 2
