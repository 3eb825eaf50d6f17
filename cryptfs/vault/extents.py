"""Which bytes of something are there: ranges that neither overlap nor touch, in order."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator

__all__ = ["Extents"]


class Extents:
    """A set of half-open ranges [start, end) of bytes."""

    __slots__ = ("_ends", "_starts")

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(list(zip(self._starts, self._ends, strict=True)))

    @property
    def total(self) -> int:
        """Bytes in all ranges together."""
        return sum(self._ends) - sum(self._starts)

    def add(self, start: int, end: int) -> None:
        """Count start..end as there."""
        if start >= end:
            return
        first = bisect_left(self._ends, start)  # the first range that reaches up to `start`
        last = bisect_right(self._starts, end)  # behind the last one that begins within
        if first < last:
            start, end = min(start, self._starts[first]), max(end, self._ends[last - 1])
        self._starts[first:last] = [start]
        self._ends[first:last] = [end]

    def remove(self, start: int, end: int) -> None:
        """Count start..end as not there."""
        first = bisect_right(self._ends, start)
        last = bisect_left(self._starts, end)
        if start >= end or first >= last:
            return
        left = [(self._starts[first], start), (end, self._ends[last - 1])]
        left = [(one, other) for one, other in left if one < other]
        self._starts[first:last] = [one for one, _ in left]
        self._ends[first:last] = [other for _, other in left]

    def covers(self, start: int, end: int) -> bool:
        """Whether all of start..end is there."""
        if start >= end:
            return True
        at = bisect_right(self._starts, start) - 1
        return at >= 0 and end <= self._ends[at]

    def gaps(self, start: int, end: int) -> list[tuple[int, int]]:
        """What of start..end is not there, in order."""
        found = []
        at = bisect_right(self._ends, start)
        while start < end:
            if at == len(self._starts) or self._starts[at] >= end:
                found.append((start, end))
                break
            if self._starts[at] > start:
                found.append((start, self._starts[at]))
            start = max(start, self._ends[at])
            at += 1
        return found
