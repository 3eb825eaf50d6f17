"""Brings records, and what lies around them, from the store to this disk.

A call of a store costs a fifth of a second, whatever it brings; so a range of 1 MiB at least is asked for, and of a
small pack all of it. Who wants what is on its way already waits for that. A record counts when it has the hash that was
signed for it; what came along is kept unproved in a sparse copy (`sparse.py`), where each record is judged when it is
read. When the last range of a pack is here, it is compared with its name; then its records need no judging any more.
"""

import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Final

import trio

from cryptfs.errors import CryptfsError, Damaged, LocalDisk, LocalDiskFull, NotFound, StoreError
from cryptfs.format.content import WHERE_BODY2
from cryptfs.format.limits import PACK_MAX
from cryptfs.format.names import pack_name
from cryptfs.vault.bodies import MISSING, Bodies
from cryptfs.vault.containers import Container
from cryptfs.vault.disk import local_disk
from cryptfs.vault.extents import Extents
from cryptfs.vault.logobjects import LogObjects
from cryptfs.vault.ranges import RANGE_MIN, RANGE_WHOLE, Reach, Want
from cryptfs.vault.sparse import SparseCopy
from cryptfs.vault.upload import READ_SECONDS, Sender

__all__ = ["Fetching"]

log = logging.getLogger(__name__)

_AHEAD_MAX: Final = 6
"""Ranges on their way that nobody waits for yet; the store takes eight calls, so who waits finds room."""
_HEADER_MAX: Final = 4096
_INDEX_SMALL: Final = 256 << 10
"""Bytes before the first record of a pack at most, and behind its last one usually."""
_PATIENCE: Final = 120.0
"""Seconds for a range that no program waits for, on a slow line."""
_LULL: Final = 1.0
_LULL_LATEST: Final = 10.0
"""Seconds without a program that waits before something is brought here that nobody asked for, and seconds at most."""


class _Flight:
    """A range that is on its way. `error`: why it did not come."""

    __slots__ = ("done", "end", "error", "start")

    def __init__(self, start: int, end: int) -> None:
        self.start = start
        self.end = end
        self.done = trio.Event()
        self.error: CryptfsError | None = None


class Fetching:
    """All fetches of one open vault. Trio thread; writing and comparing files in threads.

    `path_of` gives the file of a whole container, `size_of` the bytes of a pack as its author told them, 0 if unknown;
    `segment_name` the object that has a body2. `grown` is told how many bytes were added to the cache.
    """

    def __init__(
        self,
        sender: Sender,
        log_objects: LogObjects,
        *,
        path_of: Callable[[Container], Path],
        size_of: Callable[[Container], int],
        segment_name: Callable[[bytes], str | None],
        grown: Callable[[int], None],
    ) -> None:
        self._sender = sender
        self._path_of = path_of
        self._size_of = size_of
        self._grown = grown
        self._flights: dict[Container, list[_Flight]] = {}
        self.nursery: trio.Nursery | None = None
        """Where that runs which nobody waits for; None: nothing is fetched ahead."""
        self.ahead_now = 0
        """Ranges on their way that nobody asked for yet."""
        self.waited = 0
        """Records that somebody had to wait for, since the start."""
        self._waiting = 0
        self._waited_at = -math.inf
        self._served = trio.Event()
        self.damaged: dict[str, str] = {}
        """Objects that did not verify, with what was wrong."""
        self._bodies = Bodies(sender, log_objects, path_of, segment_name, self.damaged)

    # ---- what is asked for ----------------------------------------------------------------------------------------

    async def record(self, container: Container, want: Want, reach: Reach) -> bytes | memoryview:
        """The record wanted. Raises Damaged if the store has another or none, StoreError, LocalDisk.

        What is here at its place was found wanting by the caller.
        """
        self.waited += 1
        self._waiting += 1
        try:
            return await self._record(container, want, reach)
        finally:
            self._waiting -= 1
            self._has_served()

    async def _record(self, container: Container, want: Want, reach: Reach) -> bytes | memoryview:
        if container.where == WHERE_BODY2:
            return await self._bodies.record(container, *want)
        self._forget(container, want)
        while (flight := self._flying(container, want.off, want.end)) is not None:
            await flight.done.wait()
            if isinstance(flight.error, StoreError):
                raise flight.error
            record = container.read(want.off, want.length)
            if record is not None and want.is_(record):
                return record
        start, end = self._range(container, want, reach)
        data = await self._fly(container, start, end, want)
        if reach.rest:
            self._fetch_rest(container)
        return want.among(data, start)

    def ahead(self, container: Container, start: int, end: int) -> bool:
        """Begin to fetch start..end of a pack, as far as it is not here. False: too much is on its way already."""
        if self.nursery is None or self.ahead_now >= _AHEAD_MAX:
            return False
        if container.where == WHERE_BODY2 or container.path is not None:
            return True
        for gap_start, gap_end in self._missing(container, start, end):
            self.ahead_now += 1
            self.nursery.start_soon(self._fly_alone, container, gap_start, gap_end)
        return True

    async def part(self, container: Container, start: int, end: int) -> None:
        """Return when all of start..end is here, as it seems. Raises Damaged, StoreError, LocalDisk."""
        while container.path is None:
            if container.where == WHERE_BODY2:
                await self._bodies.fetch(container)
                return
            if (flight := self._flying(container, start, end)) is not None:
                await flight.done.wait()
                continue
            gaps = self._missing(container, start, end)
            if not gaps:
                return
            await self._fly(container, *gaps[0], None)
            self._require_kept(container, *gaps[0])

    async def quietly(self, container: Container, start: int, end: int) -> None:
        """As `part`, for what nobody waits for: one range after the other, each when those who wait had their turn."""
        if container.where == WHERE_BODY2:
            if container.path is None:
                await self._bodies.fetch(container)
            return
        while container.path is None and self._missing(container, start, end):
            calm = await self._lull()
            gaps = self._missing(container, start, end)
            if container.path is None and gaps:
                begin, stop = gaps[0]
                stop = stop if calm else min(stop, begin + RANGE_MIN)
                await self._fly(container, begin, stop, None, early=True)
                self._require_kept(container, begin, stop)
        await self.part(container, start, end)  # what others fetch of it meanwhile

    async def _lull(self) -> bool:
        """Wait until no program has waited for the store for a moment; False if they keep on doing it."""
        with trio.move_on_after(_LULL_LATEST):
            while True:
                if self._waiting or self.ahead_now:
                    await self._served.wait()
                elif (left := self._waited_at + _LULL - trio.current_time()) > 0:
                    await trio.sleep(left)
                else:
                    return True
        return False

    def _has_served(self) -> None:
        self._waited_at = trio.current_time()
        self._served.set()
        self._served = trio.Event()

    def _require_kept(self, container: Container, start: int, end: int) -> None:
        """Who wants something to be here, and not only to read it once, has to hear that it could not be kept."""
        if self.lacks(container, start, end) == end - start:
            raise LocalDiskFull("What was fetched could not be kept in the cache.")

    async def whole(self, container: Container) -> None:
        """Bring all of a container here. Raises as `part`, Damaged also if it is not what its name says."""
        if container.where == WHERE_BODY2:
            if container.path is None:
                await self._bodies.fetch(container)
            return
        size = self._size_of(container) or await self._sender.size(pack_name(container.id)) or 0
        if not 0 < size <= PACK_MAX:
            raise self._missing_in_store(container)
        for _ in range(2):  # what an earlier run left may be torn: then all of it is fetched anew
            await self.part(container, 0, size)
            if container.path is None:
                await self._compare(container, size)
            if container.path is not None:
                return
            container.drop_file()
        raise Damaged(f"{pack_name(container.id)} is not what its name says")

    def lacks(self, container: Container, start: int, end: int) -> int:
        """How many bytes of start..end are not here."""
        if container.path is not None:
            return 0
        if container.sparse is None:
            return end - start
        container.sparse.open()
        return sum(gap_end - gap_start for gap_start, gap_end in container.sparse.present.gaps(start, end))

    def _forget(self, container: Container, want: Want) -> None:
        """The caller found that record wrong in the copy; what lies behind it came with it, or tore with it."""
        sparse = container.sparse
        if sparse is not None and sparse.present.covers(want.off, want.end):
            sparse.present.remove(want.off, want.off + max(want.length, RANGE_MIN))

    # ---- ranges ---------------------------------------------------------------------------------------------------

    def _flying(self, container: Container, start: int, end: int) -> _Flight | None:
        return next((one for one in self._flights.get(container, ()) if one.start < end and start < one.end), None)

    def _range(self, container: Container, want: Want, reach: Reach) -> tuple[int, int]:
        """What to ask for so that the record comes: more than that, but nothing twice."""
        size = self._size_of(container)
        if want.end <= size <= RANGE_WHOLE:
            return 0, size
        start, end = want.off, want.off + max(want.length, reach.length)
        if reach.around:
            start -= want.off % reach.length
            end = max(start + reach.length, want.end)
        if size:
            end = max(want.end, min(end, size))
        gaps = self._missing(container, start, end)
        # What is missing around the record, in one piece; the parts of it that are here already come once more.
        start = next((gap[0] for gap in gaps if gap[0] <= want.off < gap[1]), want.off)
        end = next((gap[1] for gap in gaps if gap[0] < want.end <= gap[1]), want.end)
        return start, end

    def _missing(self, container: Container, start: int, end: int) -> list[tuple[int, int]]:
        """What of start..end is neither here nor on its way, in pieces that one call may bring.

        The header and the index of a pack come along with its first and last records: nobody asks for them, and only
        a pack that is here as a whole can be compared with its name.
        """
        size = self._size_of(container)
        start = 0 if start < _HEADER_MAX else start
        end = size if end < size <= end + _INDEX_SMALL else end
        there = Extents()
        for flight in self._flights.get(container, ()):
            there.add(flight.start, flight.end)
        if container.sparse is not None:
            container.sparse.open()
            for one in container.sparse.present:
                there.add(*one)
        pieces: list[tuple[int, int]] = []
        for gap_start, gap_end in there.gaps(start, end):
            cuts = range(gap_start, gap_end, RANGE_WHOLE)
            pieces.extend((at, min(at + RANGE_WHOLE, gap_end)) for at in cuts)
        return pieces

    def _fetch_rest(self, container: Container) -> None:
        size = self._size_of(container)
        for start, end in self._missing(container, 0, size):
            if not self.ahead(container, start, end):
                return

    # ---- one call -------------------------------------------------------------------------------------------------

    async def _fly_alone(self, container: Container, start: int, end: int) -> None:
        try:
            if self._flying(container, start, end) is None:
                await self._fly(container, start, end, None)
        except CryptfsError as err:
            log.debug("nothing was fetched ahead: %s", err)  # whoever needs it asks again, and hears why
        finally:
            self.ahead_now -= 1
            self._has_served()

    async def _fly(
        self, container: Container, start: int, end: int, want: Want | None, *, early: bool = False
    ) -> bytes:
        """Ask the store for one range and keep it, if the record wanted that lies in it is right."""
        flight = _Flight(start, end)
        self._flights.setdefault(container, []).append(flight)
        try:
            data, right = await self._ask(container, start, end, want, early=early)
            if want is not None and not right:
                self.damaged[pack_name(container.id)] = "does not match its name"
                raise Damaged("a part of a file is damaged in the store")
            await self._keep(container, start, data)
            if not right:  # else whoever wants all of it would ask for ever
                raise Damaged("an object in the store is shorter than its author said")
        except CryptfsError as err:
            flight.error = err
            raise
        finally:
            flights = self._flights[container]
            flights.remove(flight)
            if not flights:
                del self._flights[container]
            flight.done.set()
        return data

    async def _ask(
        self, container: Container, start: int, end: int, want: Want | None, *, early: bool
    ) -> tuple[bytes, bool]:
        """What the store has there, and whether it is right as far as that shows: the record wanted, or all of it.

        A wrong answer may be the fault of the line or of something in between: only the second is called damage.
        """
        until = trio.current_time() + (_PATIENCE if want is None else READ_SECONDS)
        for again in (True, False):
            data = await self._get(container, start, end - start, until - trio.current_time(), early=early)
            data = data[: end - start]
            right = len(data) == end - start if want is None else want.is_(want.among(data, start))
            if right or not again:
                break
            log.info("an answer of the store is damaged, it is asked once more: %s", pack_name(container.id))
        return data, right

    async def _get(self, container: Container, start: int, length: int, seconds: float, *, early: bool) -> bytes:
        try:
            return await self._sender.fetch(pack_name(container.id), start, length, seconds, early=early)
        except NotFound as err:
            raise self._missing_in_store(container) from err

    def _missing_in_store(self, container: Container) -> Damaged:
        name = pack_name(container.id)
        self.damaged[name] = MISSING
        return Damaged(f"a part of a file is missing in the store: {name}")

    # ---- keeping --------------------------------------------------------------------------------------------------

    async def _keep(self, container: Container, start: int, data: bytes) -> None:
        """Put a range into the copy. A disk that is full or broken only means asking the store again."""
        if container.path is not None and container.verified:
            return  # all of it came meanwhile, or what is wrong with it is for the caller to say
        try:
            sparse = self._sparse(container)
            sparse.open()
            # What is written over may be read at the same moment; a record that is half of this is no record.
            with local_disk("caching a part of a pack"):
                await trio.to_thread.run_sync(sparse.write, start, data)
            sparse.present.add(start, start + len(data))
            sparse.complete_wrong = False
            self._grown(len(data))
            size = self._size_of(container)
            if size and sparse is container.sparse and sparse.present.covers(0, size):
                await self._compare(container, size)
        except LocalDisk as err:
            log.warning("a part of a pack could not be kept in the cache: %s", err)

    def _sparse(self, container: Container) -> SparseCopy:
        if container.path is not None:
            container.drop_file()  # a whole one that has turned out to be wrong
        if container.sparse is None:
            container.sparse = SparseCopy(self._path_of(container).with_suffix(".part"), fresh=True)
            container.verified = False
        return container.sparse

    async def _compare(self, container: Container, size: int) -> None:
        """All of a pack is here: from now on it is trusted as a whole, if it is what its name says."""
        sparse = container.sparse
        if sparse is None or sparse.complete_wrong:
            return
        with local_disk("comparing a cached pack"):
            digest = await trio.to_thread.run_sync(sparse.digest)
        if sparse is not container.sparse or not sparse.present.covers(0, size):
            return  # removed, or found wrong in part, while it was read
        name = pack_name(container.id)
        if digest != container.id:
            sparse.complete_wrong = True
            if sparse.fresh:  # else a crash may have torn it
                self.damaged[name] = "does not match its name"
            return
        path = self._path_of(container)
        with local_disk("caching a pack"):
            sparse.path.rename(path)
        container.path, container.size, container.verified = path, size, True
        container.sparse = None
        self.damaged.pop(name, None)
