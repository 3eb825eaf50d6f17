"""A store that misbehaves as real ones do, by a seed (docs/faults.md, "Store, request level").

A `SimWorld` is the truth: what the provider really holds. Each device has its own `SimStore` onto it, with its own
`Knobs` and its own seed, so that two devices see the same world late, in part or wrongly, each in its own way. The same
seed, knobs and order of calls give the same history. With every knob at rest a `SimStore` is an honest store.
"""

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from cryptfs.errors import Denied, NotFound, Quota, Retry, StoreError, StoreGone
from cryptfs.faults import Faults
from cryptfs.store.base import Buffer, Call, Cap, Changes, Space, Stat, check_key
from cryptfs.store.listing_feed import ListingFeed
from cryptfs.store.memory import MemoryStore, read_local

__all__ = ["Knobs", "SimStore", "SimWorld"]


@dataclass
class Knobs:
    """What goes wrong for one device. Chances are per call, in 0..1; all at rest at first, to be turned at any time."""

    before: float = 0.0  # chance that a call fails and nothing happened
    after: float = 0.0  # chance that a put or delete is carried out and its answer lost
    retry_after_s: float = 0.0  # what such failures ask for
    outage: Callable[[], StoreError] | None = None  # while set, every call raises what it returns
    latency: Callable[[str, str, int], float] | None = None  # (verb, key, bytes) -> seconds, on the clock of the call
    list_lag: int = 0  # a new object is missing from up to so many of this device's listings
    ghost_lag: int = 0  # a deleted one is still in up to so many of them
    partial: float = 0.0  # chance that a listing leaves out an arbitrary part
    unordered_changes: bool = False  # changes are shuffled and some told twice
    lost_cursor: float = 0.0  # chance that a cursor has died
    stale_get: float = 0.0  # chance that get and stat miss what is there, and get still gives what was deleted
    damage: float = 0.0  # chance that get answers with bytes cut, flipped or zeroed

    def rest(self) -> None:
        """Everything back to honest: the second phase of a simulation."""
        for knob in fields(self):
            setattr(self, knob.name, knob.default)


class SimWorld(MemoryStore):
    """The truth behind all devices. `quota` bounds the sum of all objects, bytes."""

    def __init__(self, quota: int | None = None) -> None:
        super().__init__()
        self.quota = quota
        self.owners: dict[str, str] | None = None  # key -> owner; a dictionary here makes deleting a right of the owner
        self.twins: dict[str, set[str]] = {}  # key -> accounts with an object of that key besides the owner
        self.visitors = 0  # how many stores were opened onto it
        self.graves: dict[str, bytes] = {}  # deleted or lost, kept for stale reads

    def lose(self, key: str) -> None:
        """The provider loses an object. KeyError if there is none."""
        self.graves[key] = self.remove(key)

    def plant(self, key: str, data: bytes) -> None:
        """Put any bytes under a key, over whatever lies there."""
        self.restore({**self.snapshot(), key: data})

    def branch(self) -> "SimWorld":
        """A second history from here on: hand it to one device for a fork, or keep it for a rollback."""
        other = SimWorld(self.quota)
        other.restore(self.snapshot())
        other.owners = None if self.owners is None else dict(self.owners)
        other.twins = {key: set(accounts) for key, accounts in self.twins.items()}
        other.graves = dict(self.graves)
        return other


class _Lags:
    """What one device's listings still hide and still show."""

    def __init__(self) -> None:
        self._hidden: dict[str, int] = {}  # key -> listings left
        self._ghosts: dict[str, int] = {}
        self._known: dict[str, Stat] = {}  # the world when its lags were last drawn, and the ghosts

    def show(self, now: dict[str, Stat], rng: random.Random, knobs: Knobs) -> dict[str, Stat]:
        """What of the world `now` one more listing shows."""
        if not knobs.list_lag:
            self._hidden.clear()
        if not knobs.ghost_lag:
            self._ghosts.clear()
        for key, stat in now.items():
            self._ghosts.pop(key, None)
            if knobs.list_lag and self._known.get(key) != stat:
                self._hidden[key] = rng.randint(0, knobs.list_lag)
        for key in self._known:
            if knobs.ghost_lag and key not in now and key not in self._ghosts:
                self._ghosts[key] = rng.randint(0, knobs.ghost_lag)
        ghosts = {key: self._known[key] for key in self._ghosts}
        shown = {key: stat for key, stat in now.items() if not _still(self._hidden, key)}
        shown |= {key: stat for key, stat in ghosts.items() if _still(self._ghosts, key)}
        self._known = now | {key: ghosts[key] for key in self._ghosts}
        return shown


class SimStore:
    """One device's view of `world`. Deterministic when called from one thread.

    `calls` counts by verb, `puts` and `deletes` by key; `world` may be replaced while running: a rollback for this
    device alone.
    """

    def __init__(
        self,
        world: SimWorld,
        seed: int,
        knobs: Knobs | None = None,
        *,
        account: str = "",
        faults: Faults | None = None,
    ) -> None:
        self.world = world
        self.knobs = knobs or Knobs()
        self.account = account
        self.calls: Counter[str] = Counter()
        self.puts: Counter[str] = Counter()
        self.deletes: Counter[str] = Counter()
        self._faults = faults or Faults()
        self._rng = random.Random(seed)  # noqa: S311 - a simulation must repeat
        self._lags = _Lags()
        self._lock = threading.Lock()  # guards the counters, the random numbers and the lags
        world.visitors += 1
        self._feed = ListingFeed(self._listing, run=f"visitor {world.visitors}")

    @property
    def caps(self) -> frozenset[Cap]:
        """See Store."""
        caps = {Cap.ATOMIC_PUT, Cap.IF_ABSENT}
        if self.world.owners is not None:
            caps.add(Cap.OWNERS)
        return frozenset(caps)

    def put(self, key: str, data: Buffer, call: Call, *, if_absent: bool = False) -> Stat:
        """See Store."""
        self._enter("put", key, call, memoryview(data).nbytes)
        with self._lock:
            self.puts[key] += 1
        known = self.world.stat(key, call)
        quota = self.world.quota
        if known is None and quota is not None and self.world.used() + memoryview(data).nbytes > quota:
            raise Quota("the store is full")
        stat = self.world.put(key, data, call, if_absent=if_absent)
        if known is None and self.world.owners is not None:
            self.world.owners[key] = self.account
        self._leave("put")
        return stat

    def put_file(self, key: str, path: Path, call: Call, *, if_absent: bool = False) -> Stat:
        """See Store. Counts as a put."""
        return self.put(key, read_local(path), call, if_absent=if_absent)

    def get(self, key: str, call: Call, start: int = 0, length: int | None = None) -> bytes:
        """See Store."""
        self._enter("get", key, call, length or 0)
        stale = self._chance(self.knobs.stale_get)
        if stale and key in self.world.graves:
            grave = self.world.graves[key]
            return grave[start:] if length is None else grave[start : start + length]
        if stale:
            raise NotFound(f"no object {key}")
        data = self.world.get(key, call, start, length)
        if data and self._chance(self.knobs.damage):
            return self._damaged(data)
        return data

    def stat(self, key: str, call: Call) -> Stat | None:
        """See Store."""
        self._enter("stat", key, call)
        return None if self._chance(self.knobs.stale_get) else self.world.stat(key, call)

    def delete(self, key: str, call: Call) -> None:
        """See Store."""
        self._enter("delete", key, call)
        with self._lock:
            self.deletes[key] += 1
        owners = self.world.owners
        if self.world.stat(key, call) is not None:
            twins = self.world.twins.get(key, set())
            if self.account in twins:
                twins.remove(self.account)
            elif owners is not None and owners.get(key, self.account) != self.account:
                raise Denied(f"{key} belongs to another account")
            elif owners is not None and twins:
                owners[key] = twins.pop()
            else:
                self.world.lose(key)
        self._leave("delete")

    def take_over(self, key: str, call: Call) -> bool:
        """See Owning."""
        self._enter("copy", key, call)
        stat, owners = self.world.stat(key, call), self.world.owners
        if stat is None:
            raise NotFound(f"no object {key}")
        twins = self.world.twins.setdefault(key, set())
        if owners is None or owners.get(key, self.account) == self.account or self.account in twins:
            return False
        twins.add(self.account)
        self._leave("copy")
        return True

    def hand_over(self, key: str, call: Call) -> bool:
        """See Owning."""
        owner, twins = (self.world.owners or {}).get(key), self.world.twins.get(key, set())
        if not twins or self.account not in {owner, *twins}:
            return False
        self.delete(key, call)
        return True

    def list(self, prefix: str, call: Call, after: str = "") -> Iterator[Stat]:
        """See Store."""
        self._enter("list", prefix, call)
        return (stat for stat in self._listing(call) if stat.key.startswith(prefix) and stat.key > after)

    def changes(self, cursor: str, call: Call) -> Changes:
        """See Store."""
        self._enter("changes", cursor, call)
        changes, following = self._feed.since("" if self._chance(self.knobs.lost_cursor) else cursor, call)
        if self.knobs.unordered_changes:
            with self._lock:
                changes += [change for change in changes if self._rng.random() < 0.5]
                self._rng.shuffle(changes)
        return changes, following

    def space(self, call: Call) -> Space | None:
        """See Store."""
        self._enter("space", "", call)
        if self.world.quota is None:
            return None
        return Space(self.world.quota, max(0, self.world.quota - self.world.used()))

    def close(self) -> None:
        """See Store. The world goes on."""

    # ---- misbehaving ---------------------------------------------------------------------------------------------

    def _enter(self, verb: str, key: str, call: Call, size: int = 0) -> None:
        if verb not in ("list", "changes", "space"):
            check_key(key)
        call.check()
        with self._lock:
            self.calls[verb] += 1
        self._faults.step(f"store.{verb}")
        if self.knobs.latency is not None:
            call.clock.wait(self.knobs.latency(verb, key, size), call.abort)
            call.check()
        if self.knobs.outage is not None:
            raise self.knobs.outage()
        if self._chance(self.knobs.before):
            raise self._failure(f"{verb} failed")

    def _leave(self, verb: str) -> None:
        self._faults.step(f"store.{verb}.done")
        if self._chance(self.knobs.after):
            raise self._failure(f"the answer to a {verb} was lost")

    def _failure(self, message: str) -> Retry:
        if self._chance(0.5):
            return Retry(message, after=self.knobs.retry_after_s)
        return StoreGone(message)

    def _chance(self, probability: float) -> bool:
        if probability <= 0:
            return False  # a knob at rest takes no random number, so that turning one does not stir the others
        with self._lock:
            return self._rng.random() < probability

    def _damaged(self, data: bytes) -> bytes:
        with self._lock:
            at = self._rng.randrange(len(data))
            kind = self._rng.randrange(3)
            bit = 1 << self._rng.randrange(8)
        if kind == 0:
            return data[:at]
        if kind == 1:
            return data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :]
        return bytes(len(data))

    def _listing(self, call: Call) -> Sequence[Stat]:
        """All of the world as this device is shown it now, by ascending key."""
        now = {stat.key: stat for stat in self.world.list("", call)}
        with self._lock:
            shown = self._lags.show(now, self._rng, self.knobs)
            listing = [shown[key] for key in sorted(shown)]
            if self.knobs.partial and self._rng.random() < self.knobs.partial:
                listing = [stat for stat in listing if self._rng.random() < 0.5]
        return listing


def _still(left: dict[str, int], key: str) -> bool:
    """Whether a lag goes on for one more listing; counts it down."""
    if left.get(key, 0) <= 0:
        left.pop(key, None)
        return False
    left[key] -= 1
    return True
