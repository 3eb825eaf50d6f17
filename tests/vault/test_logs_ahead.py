"""Log objects are fetched side by side, and read in their order all the same."""

from pathlib import Path

import pytest
import trio
import trio.testing

from cryptfs.errors import NotFound, StoreGone
from cryptfs.format.limits import MIB
from cryptfs.group.authority import Tier
from cryptfs.vault.logsahead import LogsAhead
from tests.vault.administration_world import World
from tests.vault.vault_faults import state_of, still
from tests.vault.vault_workshop import make_file

__all__ = ["still"]

pytestmark = pytest.mark.usefixtures("still")

KEYS = [f"l/{number}" for number in range(12)]


class Slow:
    """Objects of `size` bytes; a call takes a second. `most`: as many were on their way at once."""

    def __init__(self, size: int = 10) -> None:
        self.size, self.calls, self.now, self.most = size, list[str](), 0, 0

    async def fetch(self, key: str, early: bool) -> bytes:
        self.calls.append(key)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await trio.sleep(1)
            if key == "l/gone":
                raise NotFound(key)
        finally:
            self.now -= 1
        return key.encode().ljust(self.size)


async def test_what_comes_next_is_fetched_while_one_is_read(
    autojump_clock: trio.testing.MockClock,
) -> None:
    del autojump_clock
    store, began = Slow(), trio.current_time()
    ahead = LogsAhead(store.fetch, [KEYS])
    async with ahead.running():
        for key in KEYS:
            assert (await ahead.get(key)).startswith(key.encode())
    assert sorted(store.calls) == sorted(KEYS)
    assert trio.current_time() - began == len(KEYS) / 4
    assert store.most == 4


async def test_what_is_asked_for_again_is_still_here_but_not_without_bounds(
    autojump_clock: trio.testing.MockClock,
) -> None:
    del autojump_clock
    few, many = Slow(), Slow(size=6 * MIB)
    for store in (few, many):
        ahead = LogsAhead(store.fetch, [KEYS[:6]])
        async with ahead.running():
            for key in [*KEYS[:6], KEYS[0]]:
                await ahead.get(key)
    assert len(few.calls) == 6
    assert len(many.calls) > 6


async def test_what_is_not_there_is_told_to_who_asks_for_it_and_asked_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    del autojump_clock
    store = Slow()
    ahead = LogsAhead(store.fetch, [["l/0", "l/gone", "l/2"]])
    async with ahead.running():
        await ahead.get("l/0")
        for _ in range(2):
            with pytest.raises(NotFound):
                await ahead.get("l/gone")
        await ahead.get("l/2")
    assert sorted(store.calls) == ["l/0", "l/2", "l/gone", "l/gone"]


async def test_trouble_of_who_reads_comes_out_as_it_is_and_nothing_goes_on(
    autojump_clock: trio.testing.MockClock,
) -> None:
    del autojump_clock
    store = Slow()
    ahead = LogsAhead(store.fetch, [KEYS])

    async def read() -> None:
        async with ahead.running():
            await ahead.get(KEYS[0])
            raise StoreGone("away")

    with pytest.raises(StoreGone):
        await read()
    assert store.now == 0
    await ahead.get(KEYS[9])
    assert store.calls[-1] == KEYS[9]


async def test_who_was_away_reads_two_logs_that_build_on_each_other_with_one_call_an_object(tmp_path: Path) -> None:
    world = World(tmp_path)
    bob, rita = await world.admit("Bob", Tier.WRITER), await world.admit("Rita", Tier.READER)
    async with rita.open():
        pass
    async with world.anna.open() as anna, bob.open() as other:
        for turn in range(8):
            for vault in (anna, other):
                make_file(vault, b"%d by %s" % (turn, vault.standing.label.encode()))
                await vault.sync()
        await anna.exchange.pull()
        like = state_of(anna)
    objects = len(list((world.folder / "l").iterdir()))
    async with rita.open() as reader:
        assert state_of(reader) == like
        assert reader.sender.gets <= objects
