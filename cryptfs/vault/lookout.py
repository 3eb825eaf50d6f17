"""What is in `m/`, `w/` and `l/` of the store: told by its change feed, listed from where we are, or listed as a whole.

Which way is taken depends on what the store can do; what comes out is names that may be news. Names prove nothing and
are never believed: what is new is read and verified, and what a listing lacks is for the trust memory to judge, which
it does after every *audit*, a listing of everything (docs/replication.md, "Pull").
"""

import time
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple, Protocol

import msgspec

from cryptfs.format.names import SegmentName, parse_name
from cryptfs.store.base import Cap
from cryptfs.vault.tempo import Audits
from cryptfs.vault.upload import Sender

__all__ = ["Following", "Lookout", "Sighting"]

_SHELF: Final = "lookout"
_PAGE: Final = 1000
"""Names that a store gives in one call of a listing; with fewer names than that a whole listing is one call."""
_SLEPT: Final = 600.0
"""Seconds without a look after which this machine has slept, or its clock was set: as good as a start."""
_WAITING_KEPT: Final = 10_000
"""Names that are remembered over a restart because they could not be read yet; with more, everything is listed."""


class Sighting(NamedTuple):
    """What one look showed, by folder. `whole`: it is all there is; otherwise all that may be new."""

    statements: list[str]
    wraps: list[str]
    segments: list[str]
    whole: bool


class Following(NamedTuple):
    """A log that may go on: what its names start with, and the last one that was read, empty before the first."""

    prefix: str
    last: str


class Shelf(Protocol):
    """The replica: what is kept there is as old as what was taken in from the store."""

    def meta_get(self, key: str) -> bytes | None:
        """A value, or None."""

    def meta_set(self, key: str, value: bytes) -> None:
        """Keep a value."""


class _Kept(msgspec.Struct, array_like=True, frozen=True):
    """`cursor` of the feed, empty: none; the last audit; names in `l/` that were told and are not read yet."""

    cursor: str
    audited: float
    stirred: bool
    waiting: tuple[str, ...]


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(_Kept).decode


class Lookout:
    """Looks at one store for one vault. One look at a time, by the task that holds the exchange's lock.

    `following` says which logs may go on, `own` what the last name of this device's log is that the store must have,
    empty if it has none. The cursor is kept in the transaction that takes in what it told of, so after a crash nothing
    is missed.
    """

    def __init__(
        self, sender: Sender, shelf: Shelf, following: Callable[[], list[Following]], own: Callable[[], Following]
    ) -> None:
        self._sender = sender
        self._shelf = shelf
        self._following = following
        self._own = own
        kept = shelf.meta_get(_SHELF)
        before = _decode(kept) if kept is not None else _Kept("", 0.0, stirred=False, waiting=())
        self._kept = before
        self._cursor = before.cursor
        self._told = list(before.waiting)
        self._statements: dict[str, None] = {}
        self._wraps: dict[str, None] = {}
        self._segments = 0  # names in l/ at the last audit
        self._last = 0.0  # of this process; none yet
        self.audits = Audits(before.audited, before.stirred)

    async def look(self, *, whole: bool = False, uneasy: bool = False) -> Sighting:
        """What may be new now; `whole`: list everything in any case, `uneasy`: soon. Raises StoreError."""
        now = time.time()
        fresh = not 0.0 <= now - self._last < _SLEPT
        whole = whole or self.audits.due(now, uneasy=uneasy)
        if Cap.CHANGES in self._sender.store.caps:
            seen = await self._by_feed(fresh=fresh, whole=whole)
        else:
            seen = await self._by_listing(whole=whole)
        if seen.whole:
            self._segments = len(seen.segments)
        self._last = now
        return seen

    # ---- the ways ---------------------------------------------------------------------------------------------------

    async def _by_feed(self, *, fresh: bool, whole: bool) -> Sighting:
        """Ask the feed first: what comes while everything is listed is told the next time."""
        first, removed = not self._cursor, False
        changes, cursor = await self._sender.changes(self._cursor)
        for key, stat in changes:
            if stat is not None:
                self._note(key)
            else:  # a hint, and no deletion by itself; but what vanishes must not do so unnoticed
                removed = removed or key.startswith(("m/", "w/", "l/"))
        self._cursor = cursor
        if first:  # an answer without a cursor is everything there is
            return self._sighting(whole=True)
        if whole or removed or (fresh and not await self._still_ends(self._own())):
            return await self._audit()
        if fresh:  # they are few, and what was told to an earlier process is not remembered
            self._statements |= dict.fromkeys(await self._sender.list("m/"))
            self._wraps |= dict.fromkeys(await self._sender.list("w/"))
        return self._sighting(whole=False)

    def _note(self, key: str) -> None:
        if key.startswith("m/"):
            self._statements[key] = None
        elif key.startswith("w/"):
            self._wraps[key] = None
        elif key.startswith("l/"):
            self._told.append(key)

    def _sighting(self, *, whole: bool) -> Sighting:
        told, self._told = [*dict.fromkeys(self._told)], []  # a feed may tell things twice
        return Sighting([*self._statements], [*self._wraps], told, whole)

    async def _still_ends(self, log: Following) -> bool:
        """Whether the store shows the end of this device's log, and nothing beyond it."""
        names = await self._from_last(log) if log.last else []
        return [name for name in names if isinstance(parse_name(name), SegmentName)] == [log.last] * bool(log.last)

    async def _from_last(self, log: Following) -> list[str]:
        """Names of a log from the last one that was read on, that one among them if it is still there."""
        last = parse_name(log.last) if log.last else None
        after = f"{log.prefix}{last.seq:010d}" if isinstance(last, SegmentName) else ""
        return await self._sender.list(log.prefix, after)

    async def _by_listing(self, *, whole: bool) -> Sighting:
        """What a segment rests on may come between two listings; then it waits for the next look."""
        logs = self._following()
        if whole or self._segments // _PAGE <= len(logs):  # listing everything takes no more calls, and shows more
            return await self._audit()
        statements, wraps = await self._sender.list("m/"), await self._sender.list("w/")
        segments: list[str] = []
        for log in logs:
            found = await self._from_last(log)
            if log.last and log.last not in found:
                return await self._audit()
            segments += found
        return Sighting(statements, wraps, segments, whole=False)

    async def _audit(self) -> Sighting:
        self._statements = dict.fromkeys(await self._sender.list("m/"))
        self._wraps = dict.fromkeys(await self._sender.list("w/"))
        segments = await self._sender.list("l/")
        self._told = []
        return Sighting([*self._statements], [*self._wraps], segments, whole=True)

    # ---- over a restart ---------------------------------------------------------------------------------------------

    def keep(self, waiting: Iterable[str], *, whole: bool, news: bool) -> None:
        """What was told is taken in, but for these names in `l/`. No waiting.

        `whole`: it was an audit, and its outcome was judged; `news`: there was something new.
        """
        if whole:
            self.audits.done(self._last)
        self.audits.stirred = self.audits.stirred or news
        names = tuple(waiting)
        cursor = self._cursor if len(names) <= _WAITING_KEPT else ""
        kept = _Kept(cursor, self.audits.last, self.audits.stirred, names if cursor else ())
        if kept != self._kept:
            self._shelf.meta_set(_SHELF, _encode(kept))
            self._kept = kept
