"""What a reader asks for: a record of a container, and how much of what lies around it is worth fetching with it."""

import hashlib
from typing import Final, NamedTuple

__all__ = ["LEAST", "RANGE_MIN", "RANGE_WHOLE", "Reach", "Want"]

RANGE_MIN: Final = 1 << 20
"""Bytes asked of the store at least."""
RANGE_WHOLE: Final = 4 << 20
"""Bytes up to which a pack is fetched as a whole, and asked for at most at once."""


class Reach(NamedTuple):
    """How much more than the record wanted is worth fetching: `length` bytes in all.

    `around`: those of a window of that length which the record lies in, rather than those from its beginning on.
    `rest`: somebody is going through all that is in the pack.
    """

    length: int = RANGE_MIN
    around: bool = False
    rest: bool = False


LEAST: Final = Reach()
"""As little as is ever fetched."""


class Want(NamedTuple):
    """A record: `length` bytes at `off` of its container, with SHA-256 `digest`."""

    off: int
    length: int
    digest: bytes

    @property
    def end(self) -> int:
        """Where the next one begins."""
        return self.off + self.length

    def among(self, data: bytes, start: int) -> memoryview:
        """It, or what stands for it, in `data` that begin at `start`."""
        return memoryview(data)[self.off - start : self.end - start]

    def is_(self, record: bytes | memoryview | None) -> bool:
        """Whether those bytes are the ones that were signed for."""
        return record is not None and hashlib.sha256(record).digest() == self.digest
