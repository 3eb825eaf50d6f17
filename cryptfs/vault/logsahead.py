"""Fetches log objects before their turn comes, several side by side.

They build on each other, so they are judged one after the other; that is no reason to wait a round trip for each.
Whoever asks for one of a sequence will ask for those after it: these are fetched meanwhile. What was fetched is kept
for a while, since a segment that waits for another log is asked for again.
"""

from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Final

import trio

from cryptfs.errors import CryptfsError
from cryptfs.format.limits import MIB
from cryptfs.tree.integrate import NeedsRebuild

__all__ = ["LogsAhead"]

Fetch = Callable[[str, bool], Awaitable[bytes]]
"""Brings the object of a key; whether nobody waits for it yet."""

_AHEAD: Final = 4
"""Objects of one log, that which is read among them, that are fetched at a time."""
_KEPT: Final = 16 * MIB
"""Bytes that are kept, more only of what is on its way; the oldest go first."""


class _Coming:
    """An object that is on its way, or here: `outcome` once `here` is set."""

    def __init__(self) -> None:
        self.here = trio.Event()
        self.outcome: bytes | CryptfsError = b""
        self.size = 0


class LogsAhead:
    """One reading of some sequences of objects, by `fetch`. Trio thread only."""

    def __init__(self, fetch: Fetch, sequences: Iterable[Sequence[str]]) -> None:
        self._fetch = fetch
        self._after = {one: other for sequence in sequences for one, other in pairwise(sequence)}
        self._coming: OrderedDict[str, _Coming] = OrderedDict()
        self._nursery: trio.Nursery | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Fetch ahead in this block; what is still on its way at its end is given up."""
        if not self._after:
            yield
            return
        failure: CryptfsError | NeedsRebuild | None = None
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                yield
            except (CryptfsError, NeedsRebuild) as err:  # by itself, not as a group: callers ask what went wrong
                failure = err
            finally:
                self._nursery = None
                self._coming.clear()
                nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure

    async def get(self, key: str) -> bytes:
        """The object; those after it are on their way then. Raises as `fetch`."""
        nursery = self._nursery
        if nursery is None:
            return await self._fetch(key, False)
        wanted, at = self._start(key, nursery, early=False), key
        for _ in range(_AHEAD - 1):
            if (after := self._after.get(at)) is None:
                break
            self._start(after, nursery, early=True)
            at = after
        await wanted.here.wait()
        if isinstance(wanted.outcome, CryptfsError):
            self._coming.pop(key, None)  # perhaps it goes better the next time
            raise wanted.outcome
        return wanted.outcome

    def _start(self, key: str, nursery: trio.Nursery, *, early: bool) -> _Coming:
        if key in self._coming:
            self._coming.move_to_end(key)
            return self._coming[key]
        self._make_room()
        coming = self._coming[key] = _Coming()
        nursery.start_soon(self._bring, key, coming, early)
        return coming

    async def _bring(self, key: str, coming: _Coming, early: bool) -> None:
        try:
            coming.outcome = data = await self._fetch(key, early)
            coming.size = len(data)
        except CryptfsError as err:
            coming.outcome = err
        finally:
            coming.here.set()

    def _make_room(self) -> None:
        kept = sum(one.size for one in self._coming.values())
        for key, one in list(self._coming.items()):
            if kept <= _KEPT:
                return
            if one.here.is_set():
                del self._coming[key]
                kept -= one.size
