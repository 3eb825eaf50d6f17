"""Local operations that no segment carries yet, in the order in which they were made.

The journal holds the same durably; this is its mirror in memory, from which the sealer takes its batches.
"""

from collections import deque
from dataclasses import dataclass
from itertools import islice
from typing import Final

from cryptfs.format.content import INLINE_MAX
from cryptfs.format.operation import Adopted, Create, Op, Put, Relocate, Retire, SetXattr, Unretire
from cryptfs.format.segment_body import PackRef
from cryptfs.vault.journal import Entry, Owed, Submitted

__all__ = ["PENDING_MAX", "Batch", "Pending"]

PENDING_MAX: Final = 50_000
"""Operations; more are refused until some are sealed."""
_BATCH_OPS: Final = 6_000
_BATCH_BYTES: Final = 2_500_000
"""Estimated encoded bytes of a batch: a segment holds 4 MiB, of which 1 MiB may be records."""


@dataclass(frozen=True, slots=True)
class Batch:
    """The oldest operations, up to and including number `upto`."""

    entries: list[Submitted]
    upto: int


class Pending:
    """The queue. `sizes`: chunks in the content of a put, for the estimate."""

    def __init__(self) -> None:
        self._queue: deque[Submitted] = deque()
        self.owed: dict[bytes, PackRef] = {}
        """Packs that these operations name, and no segment that counts, by id: the next segment has to."""

    def __len__(self) -> int:
        return len(self._queue)

    def add(self, entry: Submitted) -> None:
        self._queue.append(entry)

    def entries(self) -> list[Submitted]:
        """All of them, oldest first."""
        return list(self._queue)

    def journaled(self) -> list[Entry]:
        """What a new journal has to say of them."""
        return [*([Owed(tuple(self.owed.values()))] if self.owed else []), *self._queue]

    def operations(self) -> list[tuple[int, Op]]:
        """(number, operation) of all, oldest first, as the tree takes them."""
        return [(entry.k, entry.op) for entry in self._queue]

    @property
    def oldest_k(self) -> int | None:
        """Number of the oldest; None if there is none."""
        return self._queue[0].k if self._queue else None

    @property
    def oldest_ns(self) -> int:
        """When the oldest was made, ns; 0 if there is none."""
        return self._queue[0].now_ns if self._queue else 0

    @property
    def newest_ns(self) -> int:
        """When the newest was made, ns; 0 if there is none."""
        return self._queue[-1].now_ns if self._queue else 0

    def batch(self) -> Batch:
        """As many of the oldest as surely fit one segment; at least one, if there is any."""
        taken: list[Submitted] = []
        budget = _BATCH_BYTES
        for entry in islice(self._queue, _BATCH_OPS):
            budget -= _estimate(entry.op)
            if budget < 0 and taken:
                break
            taken.append(entry)
        return Batch(taken, taken[-1].k if taken else -1)

    def settled(self, upto: int) -> None:
        """Everything up to `upto` is in a segment, or vanished."""
        while self._queue and self._queue[0].k <= upto:
            self._queue.popleft()


def _estimate(op: Op) -> int:
    match op:
        case Create():
            return 150 + len(op.name) + len(op.target)
        case Put():
            chunks = -(-op.content.size >> op.content.chunk_log2)
            return 300 + min(INLINE_MAX, 48 * chunks)
        case SetXattr():
            return 100 + len(op.key) + len(op.value)
        case Retire() | Unretire() | Adopted():
            return 50 + 40 * len(op.containers)
        case Relocate():
            return 150 + 30 * len(op.ranges)
        case _:
            return 400  # a rename: two versions and a name of 255 bytes
