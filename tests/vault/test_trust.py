"""A folder that shows less than before, or a second copy of a device, is noticed before anything is written."""

import shutil
from pathlib import Path

import pytest

from cryptfs.errors import FsError, NotAllowed
from cryptfs.vault.vault import Vault
from tests.vault.vault_workshop import Workshop, make_file, read_file, write_file


def segments(workshop: Workshop) -> list[Path]:
    return sorted((workshop.base / "store" / "l").iterdir(), key=lambda path: path.name.split("-")[1])


async def three_segments(workshop: Workshop) -> None:
    async with workshop.open() as vault:
        for turn in range(3):
            await write_file(vault, b"f%d" % turn, b"x" * 100)
            await vault.sync()


async def refuses(vault: Vault) -> None:
    assert vault.read_only
    with pytest.raises(FsError, match="EROFS"):
        make_file(vault, b"new")
    with pytest.raises(NotAllowed):
        await vault.introduce()


async def test_rollback_of_the_last_segment_is_noticed_at_the_next_start(workshop: Workshop) -> None:
    await three_segments(workshop)
    segments(workshop)[-1].unlink()
    async with workshop.open() as vault:
        await refuses(vault)
        assert "older state" in vault.trust.words
        assert await read_file(vault, b"f2") == b"x" * 100


async def test_rollback_while_mounted_is_noticed_and_ends_when_the_object_is_back(workshop: Workshop) -> None:
    await three_segments(workshop)
    async with workshop.open() as vault:
        last = segments(workshop)[-1]
        kept = last.read_bytes()
        last.unlink()
        await vault.exchange.pull()
        await refuses(vault)
        last.write_bytes(kept)
        await vault.exchange.pull()
        assert not vault.read_only
        make_file(vault, b"new")


async def test_rollback_of_everything_to_yesterday_is_noticed(workshop: Workshop) -> None:
    await three_segments(workshop)
    shutil.copytree(workshop.base / "store", workshop.base / "yesterday")
    async with workshop.open() as vault:
        await write_file(vault, b"later", b"y")
        await vault.sync()
    shutil.rmtree(workshop.base / "store")
    (workshop.base / "yesterday").rename(workshop.base / "store")
    async with workshop.open() as vault:
        await refuses(vault)


async def test_a_statement_that_disappears_is_noticed(workshop: Workshop) -> None:
    await three_segments(workshop)
    async with workshop.open() as vault:
        next((workshop.base / "store" / "m").iterdir()).unlink()
        await vault.exchange.pull()
        await refuses(vault)
        assert "decisions have disappeared" in vault.trust.words


async def test_two_copies_of_one_device_are_noticed_by_both(workshop: Workshop) -> None:
    await three_segments(workshop)
    shutil.copytree(workshop.base / "home", workshop.base / "copy" / "home")
    shutil.copytree(workshop.base / "store", workshop.base / "before")
    async with workshop.open() as vault:
        await write_file(vault, b"mine", b"1")
        await vault.sync()
    mine = segments(workshop)[-1]
    # The copy worked at the same moment: it saw the folder as it was before.
    kept = mine.read_bytes()
    mine.unlink()
    copy = Workshop(workshop.base / "copy", workshop.keys, workshop.make_store)
    async with copy.open() as vault:
        await write_file(vault, b"theirs", b"2")
        await vault.sync()
    mine.write_bytes(kept)
    shown: list[bytes] = []
    for one in (workshop, copy, workshop):
        async with one.open() as vault:
            assert not vault.read_only
            await vault.sync()
            shown = [name for name, _, _ in vault.replica.entries(1)]
    assert {b"mine", b"theirs"} <= set(shown)


async def test_junk_under_the_name_of_a_segment_is_no_alarm(workshop: Workshop) -> None:
    await three_segments(workshop)
    last = segments(workshop)[-1]
    (last.parent / (last.name[:-4] + "beef")).write_bytes(b"junk" * 100)
    (last.parent / (last.name[:-4] + "cafe")).write_bytes(last.read_bytes()[:-1])
    async with workshop.open() as vault:
        assert not vault.read_only
        assert vault.trust.words == ""


async def test_a_memory_that_is_gone_or_torn_is_begun_anew_and_said(workshop: Workshop) -> None:
    await three_segments(workshop)
    for damage in (b"", b"torn"):
        workshop.home.trust_file.write_bytes(damage)
        async with workshop.open() as vault:
            assert vault.trust.lost
            assert not vault.read_only
        async with workshop.open() as vault:
            assert not vault.trust.lost


async def test_what_was_written_before_the_alarm_is_kept(workshop: Workshop) -> None:
    await three_segments(workshop)
    async with workshop.open() as vault:
        content = vault.open_file(make_file(vault, b"open"))
        await content.write(0, b"precious", 1)
        segments(workshop)[-1].unlink()
        await vault.exchange.pull()
        with pytest.raises(FsError, match="EROFS"):
            await content.write(8, b"more", 2)
        vault.release_file(content)
    async with workshop.open() as vault:
        assert await read_file(vault, b"open") == b"precious"


async def test_a_segment_sent_while_the_store_is_listed_is_no_rollback(workshop: Workshop) -> None:
    await three_segments(workshop)
    async with workshop.open() as vault:
        before, listed = vault.trust.memory, await vault.sender.list("l/")
        await write_file(vault, b"f", b"y")
        await vault.sync()
        statements = await vault.sender.list("m/")
        await vault.trust.look([*statements, *listed], before)
        assert not vault.trust.alarms
        await vault.trust.look([*statements, *listed], vault.trust.memory)
        assert vault.trust.alarms
