"""What waits for the store: packs first, then the segment that names them, each until confirmed.

Stores are synchronous; every call runs in a worker thread, under one of four limiters: for contents that a program
reads, for those that are brought here before anybody asks, for contents that are sent, and for whatever tells what
there is, which never waits behind the others. A store that is away, full or wants a login changes the state that
`status` shows, and the sending goes on by itself when that is over.
"""

import logging
import math
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, TypeVar

import trio

from cryptfs.crypto.keys import chance
from cryptfs.errors import Auth, Denied, NotFound, Quota, Retry, StoreError, StoreGone
from cryptfs.faults import Faults
from cryptfs.store.base import Abort, Call, Cap, Changes, Owning, Stat, Store
from cryptfs.store.retry import Backoff, Limits

__all__ = ["PATIENCE", "READ_SECONDS", "Sender", "StoreState"]

log = logging.getLogger(__name__)
T = TypeVar("T")

PATIENCE: Final = Limits(ceiling_s=30.0, longest_after_s=300.0)
"""Somebody may be looking at `status`: a store that is back is noticed sooner than by default."""
_CALL_SECONDS: Final = 600.0
"""Seconds one upload may take before it is tried anew."""
_BULK: Final = ("p", "c")
"""Folders of what may be large: packs, in any of their folders, and checkpoints."""
READ_SECONDS: Final = 25.0
"""Seconds a read may take: below the deadline of the handler that waits for it."""
_ASK_SECONDS: Final = 120.0
"""The same where only a person waits."""
_AWAY_READ_SECONDS: Final = 3.0
"""The same while the store is known not to answer."""
_SLOW_FAILURE: Final = 1.0
_NOT_ASKED_FOR: Final = 10.0
"""Seconds after which a failure came late, and for which no program is made to wait for the next such failure."""
_HASTE: Final = Limits(first_s=0.25, ceiling_s=5.0)
"""A program waits: asked again sooner than by default."""


class StoreState:
    """How the store answered last, in words for `status`."""

    def __init__(self) -> None:
        self.state = "ok"
        self.message = ""
        self.advice = ""
        self.full = False
        self.away_since = 0.0
        """When it was heard of last before it became unreachable, as `time.monotonic` tells it."""
        self._heard = time.monotonic()
        self._refuses_writes = False

    def succeeded(self, *, writing: bool) -> None:
        """The store took or gave something. A store that gives may still refuse to take: that stands until it takes."""
        self._heard = time.monotonic()
        if self._refuses_writes and not writing:
            return
        if self.state != "ok":
            log.info("the store answers again")
        self.state, self.message, self.advice, self.full, self._refuses_writes = "ok", "", "", False, False

    def failed(self, err: StoreError, *, writing: bool) -> None:
        """The store refused; logged when the reason changes, not at every try."""
        if isinstance(err, Retry) and err.passing:
            return
        state = _state_of(err)
        if state != self.state:
            log.warning("store: %s %s", err, err.advice)
            self.away_since = self._heard
        self.state, self.message, self.advice = state, str(err), err.advice
        self.full = isinstance(err, Quota) and not err.state
        self._refuses_writes = writing and not isinstance(err, Retry)


def _state_of(err: StoreError) -> str:
    if err.state:
        return err.state
    for kind, state in ((Quota, "full"), (Auth, "login needed"), (Denied, "denied"), (Retry, "unreachable")):
        if isinstance(err, kind):
            return state
    return "failing"


class Sender:
    """Calls of one open vault to its store."""

    def __init__(self, store: Store, faults: Faults) -> None:
        self.store = store
        self._faults = faults
        self._calls: set[Abort] = set()
        self._given_up = False
        self._writes = trio.CapacityLimiter(3)
        self._reads = trio.CapacityLimiter(8)
        self._early_reads = trio.CapacityLimiter(1)
        self._early_logs = trio.CapacityLimiter(3)
        self._control = trio.CapacityLimiter(2)
        self.state = StoreState()
        self.nudge = trio.Event()
        """Set to try again at once."""
        self.puts = 0
        self.gets = 0
        self.read_bytes = 0
        self._silent_until = -math.inf
        self.asks = 0
        """Listings and questions to the feed."""

    def give_up(self) -> None:
        """Make every call in flight, and every later one, return soon."""
        self._given_up = True
        for abort in list(self._calls):
            abort.set()

    def try_now(self) -> None:
        """End the present wait between two tries."""
        self.nudge.set()
        self.nudge = trio.Event()

    async def put_until_confirmed(self, key: str, data: bytes | Path) -> None:
        """Store an object; returns when the store holds exactly these bytes, however long that takes.

        Only cancellation ends it early. An object of that name with other bytes is somebody's junk on a name that is
        made of our hash: it is reported as a failing store and tried again.
        """
        backoff = Backoff(chance(), PATIENCE)
        while True:
            try:
                await self._write(key, data)
            except StoreError as err:
                self._note(err, writing=True)
                with trio.move_on_after(backoff.after(err)):
                    await self.nudge.wait()
            else:
                self.state.succeeded(writing=True)
                return

    async def put(self, key: str, data: bytes | Path) -> None:
        """As `put_until_confirmed`, but one try. Raises StoreError."""
        try:
            await self._write(key, data)
        except StoreError as err:
            self._note(err, writing=True)
            raise
        self.state.succeeded(writing=True)

    def _note(self, err: StoreError, *, writing: bool) -> None:
        if not self._given_up:  # a call we gave up says nothing about the store
            self.state.failed(err, writing=writing)

    async def _write(self, key: str, data: bytes | Path) -> None:
        def put(call: Call) -> None:
            self._faults.step("store.put")
            if isinstance(data, Path):
                self.store.put_file(key, data, call)
            else:
                self.store.put(key, data, call)
            self._faults.step("store.put.done")

        self.puts += 1
        await self._call(put, _CALL_SECONDS, self._lane(key, self._writes))

    async def get(
        self, key: str, start: int = 0, length: int | None = None, seconds: float = READ_SECONDS, *, early: bool = False
    ) -> bytes:
        """Bytes of an object. Raises NotFound and the rest of the store family after one try.

        `early`: nobody waits for them; they shall not take the place of what somebody waits for.
        """
        if self.state.state == "unreachable":
            seconds = min(seconds, _AWAY_READ_SECONDS)
        self.gets += 1
        lane = (self._early_logs if key.startswith("l/") else self._early_reads) if early else None
        data = await self._read(key, lambda call: self.store.get(key, call, start, length), seconds, lane)
        self.read_bytes += len(data)
        return data

    async def fetch(self, key: str, start: int, length: int, seconds: float, *, early: bool = False) -> bytes:
        """As `get`, `patiently`."""
        return await self.patiently(lambda left: self.get(key, start, length, left, early=early), seconds)

    async def patiently(self, ask: Callable[[float], Awaitable[T]], seconds: float) -> T:
        """What `ask(seconds left)` gives: a hiccup of the store is sat out, a store that does not answer is not asked.

        Raises StoreGone at once while the last failure was a silence, and is recent; otherwise what `ask` raises.
        """
        deadline = trio.current_time() + seconds
        backoff = Backoff(chance(), _HASTE)
        while True:
            self.refuse_if_silent()
            try:
                return await ask(deadline - trio.current_time())
            except StoreGone:
                raise
            except Retry as err:
                pause = backoff.after(err)
                self.refuse_if_silent()
                if trio.current_time() + pause >= deadline:
                    raise
                await trio.sleep(pause)

    def refuse_if_silent(self) -> None:
        """Raise StoreGone if the last call has waited in vain, a moment ago: who waits should not do so again."""
        if self.state.state == "unreachable" and time.monotonic() < self._silent_until:
            raise StoreGone("the store does not answer", self.state.advice)

    async def list(self, prefix: str, after: str = "", seconds: float = _CALL_SECONDS) -> list[str]:
        """Keys that start with `prefix` and follow `after`."""
        self.asks += 1
        return await self._read(
            prefix, lambda call: [stat.key for stat in self.store.list(prefix, call, after)], seconds
        )

    async def changes(self, cursor: str) -> Changes:
        """What the store's feed tells since `cursor`, and the next cursor. Raises StoreError."""
        self.asks += 1
        seconds = READ_SECONDS if cursor else _CALL_SECONDS
        return await self._read("", lambda call: self.store.changes(cursor, call), seconds)

    async def size(self, key: str) -> int | None:
        """Size of an object in bytes, None if it is not there."""
        stat = await self._read(key, lambda call: self.store.stat(key, call))
        return stat.size if stat is not None else None

    async def space(self) -> tuple[int, int] | None:
        """(total, free) bytes of the store, None if it does not say."""
        space = await self._read("", self.store.space)
        return (space.total, space.free) if space is not None else None

    async def delete(self, key: str) -> None:
        """Remove an object that nobody needs any more; one that is gone already is as good. Raises StoreError."""
        try:
            await self._call(lambda call: self.store.delete(key, call), READ_SECONDS, self._lane(key, self._writes))
        except NotFound:
            return

    @property
    def has_owners(self) -> bool:
        """Whether objects belong to accounts, and only their owner can delete them."""
        return isinstance(self.store, Owning) and Cap.OWNERS in self.store.caps

    async def take_over(self, key: str) -> bool:
        """Have the object belong to this account; False if it does already. Raises NotFound, Quota, StoreError."""
        store = self.store
        if not isinstance(store, Owning) or not self.has_owners:
            return False
        return await self._call(lambda call: store.take_over(key, call), _CALL_SECONDS, self._lane(key, self._writes))

    async def hand_over(self, key: str) -> bool:
        """Delete this account's copy of what another account has as well; whether there was one. Raises StoreError."""
        store = self.store
        if not isinstance(store, Owning) or not self.has_owners:
            return False
        return await self._call(lambda call: store.hand_over(key, call), _CALL_SECONDS, self._lane(key, self._writes))

    async def ask(self, do: Callable[[Call], T]) -> T:
        """`do`, which is neither reading nor sending contents. Raises StoreError; the state of the store stays."""
        return await self._call(do, _ASK_SECONDS, self._control)

    async def dates(self, prefix: str) -> dict[str, int]:
        """When the store says that it got each object, ms since 1970. Raises StoreError."""
        return await self._read(
            prefix, lambda call: {stat.key: stat.mtime_ms for stat in self.store.list(prefix, call)}, _CALL_SECONDS
        )

    async def stats(self, prefix: str) -> tuple[Stat, ...]:
        """The objects whose key starts with `prefix`, as the store describes them. Raises StoreError."""
        return await self._read(prefix, lambda call: (*self.store.list(prefix, call),), _CALL_SECONDS)

    async def delete_quietly(self, key: str) -> None:
        """Remove an object that nobody needs any more, if the store lets us; it may belong to somebody else."""
        try:
            await self._call(lambda call: self.store.delete(key, call), READ_SECONDS, self._lane(key, self._writes))
        except StoreError as err:
            log.debug("not removed: %s", err)

    def _lane(self, key: str, bulk: trio.CapacityLimiter) -> trio.CapacityLimiter:
        """Contents may take their time; what says what there is, and segments, never queue behind them."""
        return bulk if key.startswith(_BULK) else self._control

    async def _read(
        self,
        key: str,
        do: Callable[[Call], T],
        seconds: float = READ_SECONDS,
        lane: trio.CapacityLimiter | None = None,
    ) -> T:
        began = math.inf

        def ask(call: Call) -> T:
            nonlocal began
            began = time.monotonic()  # not before: waiting for a turn says nothing about the store
            return do(call)

        try:
            result = await self._call(ask, seconds, lane or self._lane(key, self._reads))
        except NotFound:
            self.state.succeeded(writing=False)
            raise
        except StoreError as err:
            self._note(err, writing=False)
            if isinstance(err, Retry) and time.monotonic() - began >= _SLOW_FAILURE:
                self._silent_until = time.monotonic() + _NOT_ASKED_FOR
            raise
        self.state.succeeded(writing=False)
        return result

    async def _call(self, do: Callable[[Call], T], seconds: float, lane: trio.CapacityLimiter) -> T:
        """`do` in a thread of that lane, with `seconds` (may be infinite) from when its turn has come.

        The call has a flag of its own to give it up by. It is set when the caller is cancelled, so that the thread and
        its place in the lane come back at once, and not when a socket times out.
        """
        abort = Abort()
        if self._given_up:
            abort.set()
        self._calls.add(abort)

        def run() -> T:
            return do(Call.within(seconds, abort) if math.isfinite(seconds) else Call(abort=abort))

        try:
            return await trio.to_thread.run_sync(run, limiter=lane, abandon_on_cancel=True)
        finally:
            self._calls.discard(abort)
            abort.set()  # a thread that is abandoned ends now; to one that has ended it means nothing
