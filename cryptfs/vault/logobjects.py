"""The objects in `l/`: which of them may hold a segment, one of its own or a rollup of many, and what is in them.

A name is only an index. What an object holds its bytes say, and each segment in it is believed for its own digest and
signature, wherever it lies: nobody vouches for a rollup, and nobody has to.
"""

from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

from cryptfs.errors import CryptfsError, Damaged, HostileStore, NeedsUpdate, NotFound
from cryptfs.format.limits import MIB, ROLLUP_MAX, SEGMENT_MAX
from cryptfs.format.names import RollupName, SegmentName, parse_name, rollup_name, segment_name
from cryptfs.format.rollup import parse_rollup
from cryptfs.format.segment import RawSegment, parse_segment
from cryptfs.vault.logsahead import LogsAhead
from cryptfs.vault.upload import Sender

__all__ = ["LogObjects"]

_KEPT: Final = 32 * MIB
"""Bytes of rollups kept in memory while logs are read side by side: each is read segment by segment."""


class LogObjects:
    """The log objects of one vault, as the store told of them last. Trio thread only."""

    def __init__(self, vault: bytes, sender: Sender) -> None:
        self._vault = vault
        self._sender = sender
        self.listed: list[str] = []
        """Names in `l/` as listed last."""
        self._names: set[str] | None = None
        self._rollups: dict[bytes, list[RollupName]] = {}
        self._ahead: LogsAhead | None = None
        self._open: OrderedDict[str, tuple[int, tuple[RawSegment, ...]]] = OrderedDict()

    # ---- what there is ----------------------------------------------------------------------------------------------

    async def look(self) -> list[str]:
        """List `l/`. Raises StoreError."""
        self.all_told(await self._sender.list("l/"))
        return self.listed

    def all_told(self, names: list[str]) -> None:
        """These are all names there are."""
        self.listed = names
        self._names, self._rollups = set(), {}
        self.told(names)

    def told(self, names: Iterable[str]) -> None:
        """These are names that there are, too."""
        if self._names is None:
            self._names = set()
        for key in names:
            name = parse_name(key) if key not in self._names else None
            self._names.add(key)
            if isinstance(name, RollupName):
                self._rollups.setdefault(name.log_id, []).append(name)

    def rolled_up(self) -> list[bytes]:
        """Logs of which there are rollups, sorted."""
        return sorted(self._rollups)

    def rollups(self, log_id: bytes, first: int, last: int | None = None) -> list[str]:
        """Rollups of a log that claim to hold a segment from `first` on, up to `last`, which come first first.

        Of several that begin alike the longest one: it makes the others needless.
        """
        found = [
            one for one in self._rollups.get(log_id, ()) if one.last >= first and (last is None or one.first <= last)
        ]
        found.sort(key=lambda one: (one.first, -one.last, one.h16))
        return [key_of(one) for one in found]

    def dated(self, dates: Mapping[str, int], log_id: bytes, seq: int, digest: bytes) -> int:
        """When the store got a segment at the latest, in ms; `dates` by key; 0 if nothing that may hold it has one."""
        return max((dates.get(key, 0) for key in self._likely(log_id, seq, digest)), default=0)

    # ---- what is in them --------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def ahead(self, sequences: Iterable[Sequence[str]]) -> AsyncIterator[None]:
        """In this block these objects are read in about this order, within each sequence: they are fetched ahead."""
        ahead = LogsAhead(self._fetch, sequences)
        async with ahead.running():
            self._ahead = ahead
            try:
                yield
            finally:
                self._ahead = None

    async def _fetch(self, key: str, early: bool = False) -> bytes:
        most = ROLLUP_MAX if isinstance(parse_name(key), RollupName) else SEGMENT_MAX
        return await self._sender.get(key, 0, most + 1, early=early)

    async def _bytes(self, key: str) -> bytes:
        return await (self._ahead.get(key) if self._ahead is not None else self._fetch(key))

    async def segments(self, key: str) -> tuple[RawSegment, ...]:
        """The segments of good shape in an object, ascending; the log they are of is not looked at.

        Raises NotFound and the rest of the store family, Damaged, NeedsUpdate.
        """
        if not isinstance(parse_name(key), RollupName):
            return (parse_segment(await self._bytes(key), self._vault),)
        if key in self._open:
            self._open.move_to_end(key)
            return self._open[key][1]
        data = await self._bytes(key)
        found = parse_rollup(data, self._vault).segments
        self._open[key] = len(data), found
        while len(self._open) > 1 and sum(size for size, _ in self._open.values()) > _KEPT:
            self._open.popitem(last=False)
        return found

    def forget_bytes(self) -> None:
        """Give the memory back: nobody goes on reading rollups now."""
        self._open.clear()

    async def nearest(self, name: str, digest: bytes) -> RawSegment:
        """As `find`, for the segment that lay by itself under `name`; if nothing has its digest, what lies there now.

        Each record in it can be compared by itself.
        """
        parsed = parse_name(name)
        if not isinstance(parsed, SegmentName):
            raise Damaged("a segment stands under a name that is not its own")
        try:
            return await self.find(parsed.log_id, parsed.seq, digest)
        except Damaged as err:
            try:
                return (await self.segments(name))[0]
            except NotFound:
                raise err from None

    async def find(self, log_id: bytes, seq: int, digest: bytes) -> RawSegment:
        """The segment with that digest D, wherever it lies; its signature is for the caller to check.

        Whoever rolls up deletes the small objects later, so what is not found is listed once more. Raises NotFound if
        no object has it, Damaged if one should have it and its bytes are wrong, StoreError.
        """
        tried: set[str] = set()
        trouble: CryptfsError | None = None
        for again in (False, True):
            if again:
                await self.look()
            for key in self._likely(log_id, seq, digest):
                if key in tried:
                    continue
                tried.add(key)
                try:
                    raws = await self.segments(key)
                except NotFound:
                    continue
                except (HostileStore, NeedsUpdate) as err:
                    trouble = err
                    continue
                for raw in raws:
                    if raw.digest == digest:
                        return raw
                if not isinstance(parse_name(key), RollupName):
                    trouble = Damaged("a segment stands under a name that is not its own")
        raise trouble or NotFound(segment_name(log_id, seq, digest))

    def _likely(self, log_id: bytes, seq: int, digest: bytes) -> Iterator[str]:
        """Objects that may hold it, the best first: its own, unless that is known to be gone and a rollup there."""
        own, rollups = segment_name(log_id, seq, digest), self.rollups(log_id, seq, seq)
        if not rollups or (self._names is not None and own in self._names):
            yield own
        yield from rollups


def key_of(name: RollupName) -> str:
    """The key that a parsed name stands for."""
    return rollup_name(name.log_id, name.first, name.last, name.h16)
