"""What a look at the store costs, and that it misses nothing: by feed, by listing from where we are, as a whole."""

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio

from cryptfs.crypto.keys import random_bytes
from cryptfs.errors import NotAllowed, StoreGone
from cryptfs.faults import Faults
from cryptfs.format.names import first_log_id, log_prefix, segment_name
from cryptfs.group.authority import Tier
from cryptfs.store import Call, Changes, DirectoryStore, MemoryStore
from cryptfs.vault.lookout import Following, Lookout
from cryptfs.vault.opening import open_vault
from cryptfs.vault.upload import Sender
from cryptfs.vault.vault import Vault
from tests.patience import SECONDS
from tests.vault.administration_world import Device, World
from tests.vault.feed_store import FeedStore, FeedWorld
from tests.vault.vault_workshop import make_file

HOUR = 3600.0


@dataclass
class Clock:
    """Moves the wall clock, which audits go by."""

    ahead: float = 0.0
    real: float = field(default_factory=time.time)

    def time(self) -> float:
        return self.real + self.ahead


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    one = Clock()
    monkeypatch.setattr("cryptfs.vault.lookout.time.time", one.time)
    return one


@dataclass
class Party:
    """Anna and Bob on a provider with a feed."""

    world: FeedWorld
    anna: Device
    bob: Device

    @asynccontextmanager
    async def open(self, device: Device, store: FeedStore | None = None) -> AsyncIterator[Vault]:
        async with open_vault(device.home, device.keys, store or FeedStore(self.world)) as vault:
            yield vault

    async def write(self, vault: Vault, name: bytes) -> None:
        make_file(vault, name)
        await vault.sync()


@pytest.fixture
async def party(tmp_path: Path) -> Party:
    world = World(tmp_path)
    bob = await world.admit("Bob", Tier.WRITER)
    feed = FeedWorld()
    here = DirectoryStore(world.folder)
    view = FeedStore(feed)
    for stat in here.list("", Call()):
        view.put(stat.key, here.get(stat.key, Call()), Call())
    here.close()
    return Party(feed, world.anna, bob)


async def test_an_idle_look_at_a_feed_is_one_call_however_much_there_is(party: Party) -> None:
    store = FeedStore(party.world)
    async with party.open(party.anna) as anna, party.open(party.bob, store) as bob:
        for number in range(20):
            await party.write(anna, b"%d" % number)
        await bob.exchange.pull()
        store.calls.clear()
        assert not await bob.exchange.pull()
        assert dict(store.calls) == {"changes": 1}
        await party.write(anna, b"more")
        store.calls.clear()
        assert await bob.exchange.pull()
        assert dict(store.calls) == {"changes": 1, "get": 1}
        assert bob.replica.lookup(1, b"more") is not None


async def test_a_restart_goes_on_at_the_cursor_and_lists_no_logs(party: Party) -> None:
    async with party.open(party.anna) as anna:
        async with party.open(party.bob):
            pass
        await party.write(anna, b"meanwhile")
    store = FeedStore(party.world)
    async with party.open(party.bob, store) as bob:
        assert bob.replica.lookup(1, b"meanwhile") is not None
        assert "l/" not in store.listed


async def test_a_cursor_that_died_costs_a_look_at_everything_and_loses_nothing(party: Party) -> None:
    store = FeedStore(party.world)
    async with party.open(party.anna) as anna, party.open(party.bob, store) as bob:
        await bob.exchange.pull()
        party.world.dead = {str(number) for number in range(len(party.world.events) + 1)}
        await party.write(anna, b"meanwhile")
        assert await bob.exchange.pull()
        assert bob.replica.lookup(1, b"meanwhile") is not None


async def test_what_a_feed_forgets_to_tell_is_found_by_the_hourly_audit(party: Party, clock: Clock) -> None:
    store = FeedStore(party.world)
    async with party.open(party.anna) as anna, party.open(party.bob, store) as bob:
        await party.write(anna, b"told")
        await bob.exchange.pull()
        before = len(party.world.events)
        await party.write(anna, b"untold")
        del party.world.events[before:]
        assert not await bob.exchange.pull()
        clock.ahead += 500  # less than a sleep
        assert not await bob.exchange.pull()
        for _ in range(7):
            clock.ahead += 500
            await bob.exchange.pull()
        assert bob.replica.lookup(1, b"untold") is not None


async def test_sync_does_not_rely_on_the_feed(party: Party) -> None:
    async with party.open(party.anna) as anna, party.open(party.bob) as bob:
        before = len(party.world.events)
        await party.write(anna, b"untold")
        del party.world.events[before:]
        await bob.sync(thorough=True)
        assert bob.replica.lookup(1, b"untold") is not None


async def test_after_a_start_the_end_of_the_own_log_is_compared(party: Party) -> None:
    """The folder was set back while the mount was away, and the feed says nothing of it."""
    async with party.open(party.anna) as anna:
        await party.write(anna, b"first")
        old = party.world.objects.snapshot()
        await party.write(anna, b"second")
    party.world.objects.restore(old)
    store = FeedStore(party.world)
    async with party.open(party.anna, store) as anna:
        assert "l/" in store.listed
        assert "older state" in anna.trust.words


async def test_what_a_feed_calls_removed_is_compared_at_once(party: Party) -> None:
    """Rollback, nothing is sealed before that."""
    store = FeedStore(party.world)
    async with party.open(party.anna, store) as anna:
        await party.write(anna, b"first")
        await anna.exchange.pull()
        gone = party.world.events[-1]
        store.delete(gone, Call())
        make_file(anna, b"second")
        with pytest.raises(NotAllowed, match="older state"):
            await anna.sealer.seal()


async def test_a_segment_that_could_not_be_fetched_is_not_forgotten_over_a_restart(party: Party) -> None:
    class Withheld(FeedStore):
        """Tells of a segment, and does not give it yet."""

        def get(self, key: str, call: Call, start: int = 0, length: int | None = None) -> bytes:
            if key.startswith("l/") and key == party.world.events[-1]:
                raise StoreGone("not yet")
            return super().get(key, call, start, length)

    async with party.open(party.anna) as anna:
        store = Withheld(party.world)
        async with party.open(party.bob) as bob:
            await bob.exchange.pull()
        await party.write(anna, b"late")
        async with party.open(party.bob, store) as bob:
            assert bob.replica.lookup(1, b"late") is None
        async with party.open(party.bob) as bob:
            assert bob.replica.lookup(1, b"late") is not None


async def test_control_calls_do_not_queue_behind_contents() -> None:
    """Three uploads that never end leave room for a listing, and for a segment."""
    stuck = [trio.Event() for _ in range(4)]
    began: list[str] = []

    class Slow(MemoryStore):
        def put(self, key, data, call, *, if_absent=False):  # type: ignore[no-untyped-def]
            began.append(key)
            if key.startswith("p/"):
                assert call.abort is not None
                call.abort.wait(60)
            return super().put(key, data, call, if_absent=if_absent)

    sender = Sender(Slow(), Faults())
    async with trio.open_nursery() as nursery:
        for number in range(len(stuck)):
            nursery.start_soon(sender.put_until_confirmed, f"p/{number:032x}", b"pack")
        with trio.fail_after(SECONDS):
            await sender.put_until_confirmed(segment_name(bytes(16), 0, bytes(32)), b"segment")
            assert await sender.list("l/")
        assert len([key for key in began if key.startswith("p/")]) <= 3
        sender.give_up()
        nursery.cancel_scope.cancel()


# ---- without a feed --------------------------------------------------------------------------------------------------


class Listing(MemoryStore):
    """Notes what was listed."""

    def __init__(self) -> None:
        super().__init__()
        self.listed: list[tuple[str, str]] = []
        self.told = 0

    def list(self, prefix: str, call: Call, after: str = "") -> Iterator:  # type: ignore[type-arg]
        self.listed.append((prefix, after))
        found = list(super().list(prefix, call, after))
        self.told += len(found)
        return iter(found)

    def changes(self, cursor: str, call: Call) -> Changes:
        raise AssertionError("it has no feed")


class Shelf(dict[str, bytes]):
    meta_get = dict.get
    meta_set = dict.__setitem__


@pytest.fixture
def logs() -> list[bytes]:
    return [first_log_id(random_bytes(32)) for _ in range(2)]


async def test_a_long_log_is_listed_from_where_we_are(logs: list[bytes], clock: Clock) -> None:
    store = Listing()
    names = {log: [segment_name(log, seq, bytes(32)) for seq in range(2000)] for log in logs}
    for name in (name for log in logs for name in names[log]):
        store.put(name, b"", Call())
    following = [Following(log_prefix(log), names[log][-1]) for log in logs]
    lookout = Lookout(Sender(store, Faults()), Shelf(), lambda: following, lambda: Following("", ""))
    first = await lookout.look()
    assert first.whole
    assert len(first.segments) == 4000
    lookout.keep([], whole=True, news=True)
    store.listed.clear()
    store.told = 0
    second = await lookout.look()
    assert not second.whole
    assert set(second.segments) == {names[log][-1] for log in logs}
    assert store.told == 2
    assert {prefix for prefix, _ in store.listed} == {"m/", "w/", *(log_prefix(log) for log in logs)}
    new = segment_name(logs[0], 2000, bytes(32))
    store.put(new, b"", Call())
    assert new in (await lookout.look()).segments
    store.remove(names[logs[1]][-1])
    assert (await lookout.look()).whole  # what was read last is gone: everything has to be compared
    store.put(names[logs[1]][-1], b"", Call())
    assert not (await lookout.look()).whole
    clock.ahead = HOUR
    assert (await lookout.look()).whole


async def test_a_short_folder_is_listed_as_a_whole_because_that_is_no_dearer(logs: list[bytes]) -> None:
    store = Listing()
    lookout = Lookout(
        Sender(store, Faults()), Shelf(), lambda: [Following(log_prefix(log), "") for log in logs],
        lambda: Following("", ""),
    )  # fmt: skip
    for _ in range(2):
        assert (await lookout.look()).whole
        lookout.keep([], whole=True, news=False)
    assert [prefix for prefix, _ in store.listed] == ["m/", "w/", "l/"] * 2
