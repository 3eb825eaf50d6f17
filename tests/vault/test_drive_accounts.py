"""Whole vaults on a Google Drive over HTTP: an account that is closed, and reading through a bad line."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import trio

from cryptfs.errors import Damaged
from cryptfs.store import Call
from cryptfs.vault import administration as do
from cryptfs.vault.adopting import adopt_from
from cryptfs.vault.people import choose
from tests.drive_emulator import DropAfter, Emulator, FlipBit, IgnoreRange, Truncate, refusal
from tests.drive_store import drive_store
from tests.vault.test_drive_group import ANNA, Member, gather
from tests.vault.vault_workshop import read_file, write_file

BEN = "ben@example.org"
FILES = {b"%d" % number: random.Random(number).randbytes(1_300_000) for number in range(6)}


@asynccontextmanager
async def group(tmp_path: Path) -> AsyncIterator[tuple[Emulator, list[Member]]]:
    """Anna, Ben and Cleo; Ben has written the files."""
    with Emulator() as emulator:
        async with trio.open_nursery() as nursery:
            members = await gather(tmp_path, emulator, nursery)
            for name, data in FILES.items():
                await write_file(members[1].vault, name, data)
            await members[1].vault.sync()
            yield emulator, members
            for member in members:
                member.closing.set()


async def test_an_account_that_was_taken_over_is_closed_and_nothing_is_missing(tmp_path: Path) -> None:
    """T-owner, by Google's own rules: with an account go all its files."""
    async with group(tmp_path) as (emulator, (anna, ben, cleo)):
        await anna.vault.exchange.pull()
        chosen = choose(anna.vault.membership, "Ben")
        await do.remove(anna.vault, [one.id for one in chosen.entries], [chosen.member])
        answer = await adopt_from(anna.vault, {"who": "Ben"})
        assert answer["left"] == {}
        ben.closing.set()
        await ben.closed.wait()
        emulator.remove_user(BEN)
        assert {item.owner for item in emulator.items() if item.blob is not None} == {ANNA}
        await cleo.vault.sync()
        for name, data in FILES.items():
            assert await read_file(cleo.vault, name) == data
        newcomer = drive_store(emulator, "cleo@example.org", anna.folder)
        assert {stat.key[0] for stat in newcomer.list("", Call())} >= {"m", "w", "l", "p"}
        newcomer.close()


async def test_packs_are_read_in_ranges_whatever_the_line_does(tmp_path: Path) -> None:
    faults = [Truncate(300_000), FlipBit(at=4000), IgnoreRange(), refusal(416, "requestedRangeNotSatisfiable"),
              DropAfter(), refusal(503, "backendError")]  # fmt: skip
    async with group(tmp_path) as (emulator, (_, _, cleo)):
        await cleo.vault.sync()
        emulator.forget_requests()
        rules = []
        for (name, data), fault in zip(FILES.items(), faults, strict=True):
            rules.append(emulator.fail(fault, "files.get_media"))
            with suppress(Damaged):  # never other bytes; and nothing of them is kept
                assert await read_file(cleo.vault, name) == data
            emulator.heal()
            assert await read_file(cleo.vault, name) == data
        asked = [one for one in emulator.requests() if one.call == "files.get_media"]
        assert sum(one.range is not None and one.status == 206 for one in asked) > 1
        assert sum(rule.struck.is_set() for rule in rules) > 2
        assert cleo.vault.sender.state.state == "ok"
