"""What pending operations may still refer to: numbers of operations sealed before them, places in packs closed before.

The journal keeps both, since an operation names others by their local numbers, and records by their places in local
packs, as these were when it was made. What came later names the final ones. So either can go as soon as nothing that is
as old is pending; without that, the lists would grow for ever on a device that is always busy.
"""

from collections import deque
from collections.abc import Iterable, Iterator

from cryptfs.vault.journal import Entry, Names, PackClosed, PackConfirmed

__all__ = ["Cited"]


class Cited:
    """Owned by the vault. A *horizon* is a local operation number: no operation from there on cites the thing."""

    def __init__(self) -> None:
        self._names: deque[tuple[int, tuple[tuple[int, int], ...]]] = deque()  # horizon, (k, n) of one segment
        self._closed: dict[int, PackClosed] = {}
        self._old: dict[int, set[int]] = {}  # numbers of the packs in which the records of a closed one lay
        self._horizons: dict[int, int] = {}  # of closed packs, once one is known

    def sealed(self, ids: tuple[tuple[int, int], ...], next_k: int) -> None:
        """Operations got the numbers `ids`, (k, n); `next_k` and later ones name them by these."""
        if ids:
            self._names.append((next_k, ids))

    def closed(self, pack: PackClosed) -> None:
        """A pack was closed. Records sealed before may be submitted later, and then still name their old places."""
        self._closed[pack.num] = pack
        self._old[pack.num] = {pack.num, *(source for source, _, _ in pack.moves)}
        self._horizons.pop(pack.num, None)

    def forget(self, oldest_k: int | None, next_k: int, unsubmitted: set[int], local: Iterable[int]) -> None:
        """Drop what nothing can cite any more.

        `oldest_k`: the oldest pending operation, None if there is none; `unsubmitted`: packs with records that no
        operation names yet, by their numbers; `local`: packs that the store does not have.
        """
        oldest = next_k if oldest_k is None else oldest_k
        while self._names and self._names[0][0] <= oldest:
            self._names.popleft()
        there = set(local)
        for num, old in list(self._old.items()):
            if num in there or not old.isdisjoint(unsubmitted):
                self._horizons.pop(num, None)
            elif self._horizons.setdefault(num, next_k) <= oldest:
                del self._closed[num], self._old[num], self._horizons[num]

    def names(self) -> Names | None:
        """The numbers, for a new journal; None if there are none."""
        ids = tuple(pair for _, pairs in self._names for pair in pairs)
        return Names(ids) if ids else None

    def packs(self, local: Iterable[int]) -> Iterator[Entry]:
        """What a new journal must say of closed packs; those that are not `local` are in the store."""
        yield from self._closed.values()
        there = set(local)
        for num in self._closed:
            if num not in there:
                yield PackConfirmed(num)
