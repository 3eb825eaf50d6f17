"""While the store is away: starts that do not wait for it, words for people, and what is done when it is back."""

import contextlib
import errno
import re
from typing import Any

import pytest

from cryptfs.errors import LocalDiskFull, Retry, StoreGone
from cryptfs.store import Call
from cryptfs.store.simulated import SimStore
from cryptfs.vault import members
from cryptfs.vault.healing import Healer
from cryptfs.vault.vault import VaultOptions
from tests.vault.test_ranges import noise
from tests.vault.vault_faults import SimWorkshop, empty_cache
from tests.vault.vault_workshop import read_file, write_file

pytestmark = pytest.mark.usefixtures("still")
MIB = 1 << 20


class DeadLine(SimStore):
    """Takes every question, and answers none of them before its caller gives up."""

    asked = 0

    def _enter(self, verb: str, key: str, call: Call, *rest: Any) -> None:
        DeadLine.asked += 1
        call.clock.wait(call.remaining(), call.abort)
        raise Retry("no answer")


async def test_a_start_on_a_dead_line_waits_once_and_not_for_each_question(
    sim: SimWorkshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with sim.open() as vault:
        await write_file(vault, b"small", b"is here")
        await vault.sync()  # so that the other lies in an object of its own
        await write_file(vault, b"large", noise(3 * MIB))
        await vault.sync()
    empty_cache(sim)
    async with sim.open() as vault:
        assert await read_file(vault, b"small") == b"is here"
    monkeypatch.setattr(members, "_FIRST_ANSWER", 1.1)
    sim.make_store = lambda: DeadLine(sim.world, 1, sim.knobs)
    async with sim.open() as vault:
        assert DeadLine.asked == 1
        assert await read_file(vault, b"small") == b"is here"
        with pytest.raises(StoreGone) as caught:
            await read_file(vault, b"large")
        assert (caught.value.errno, DeadLine.asked) == (errno.ENETUNREACH, 1)
        await write_file(vault, b"new", b"made offline")
        await vault.commit()
    sim.make_store = lambda: SimStore(sim.world, 1, sim.knobs)
    async with sim.open() as vault:
        await vault.sync()
        assert await read_file(vault, b"large") == noise(3 * MIB)


async def test_what_is_written_without_the_store_is_taken_up_to_the_limit_and_told(sim: SimWorkshop) -> None:
    sim.options = VaultOptions(spool_bytes=2 * MIB)
    async with sim.open() as vault:
        assert (vault.status()["offline"], vault.status()["no_room"]) == ("", "")
        sim.knobs.outage = lambda: StoreGone("away")
        with pytest.raises(StoreGone):
            await vault.exchange.pull()
        await write_file(vault, b"f", noise(MIB))
        words = str(vault.status()["offline"])
        assert words.startswith("The store has not answered for ")
        assert re.search(r"and changed: 1\.0 MiB wait to be sent, 10\d\d\.\d KiB more fit\.$", words), words
        await write_file(vault, b"g", noise(MIB, 1))
        vault.upkeep.look_at_disk()
        with pytest.raises(LocalDiskFull, match="Too much waits for the store"):
            await write_file(vault, b"h", b"x")
        assert "2.0 MiB wait for the store, and spool_size is 2.0 MiB" in str(vault.status()["no_room"])
        sim.knobs.outage = None
        await vault.sync()
        vault.upkeep.look_at_disk()
        await write_file(vault, b"h", b"x")
        assert (vault.status()["offline"], vault.status()["no_room"]) == ("", "")


async def test_what_is_not_all_back_when_the_store_is_back_is_said_soon(sim: SimWorkshop) -> None:
    async with sim.open() as vault:
        await write_file(vault, b"f", noise(3 * MIB))
        await vault.sync()
    empty_cache(sim)
    async with sim.open() as vault:
        now = [1000.0]
        healer = vault.healer = Healer(vault, lambda: now[0])
        await healer.watch()
        assert healer.words == []
        sim.knobs.outage = lambda: StoreGone("away")
        with pytest.raises(StoreGone):
            await vault.exchange.pull()
        for _ in range(2):
            now[0] += 3700
            with contextlib.suppress(StoreGone):
                await healer.watch()
        (pack,) = [name for name in sim.names("p") if len(sim.world.get(name, Call())) > MIB]
        sim.world.delete(pack, Call())
        sim.knobs.outage = None
        await vault.exchange.pull()
        for _ in range(4):
            now[0] += 60
            await healer.watch()
        assert healer.words[0].startswith("The contents of f are missing in the folder.")
