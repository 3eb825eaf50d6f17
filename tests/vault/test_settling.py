"""Conflicted copies: listed with whoever made which side, and settled without losing either."""

from pathlib import Path

import pytest

from cryptfs.errors import NotAllowed, NotKept, UsageError
from cryptfs.group.authority import Tier
from cryptfs.vault.conflicts import keep
from cryptfs.vault.past_acts import look_back
from cryptfs.vault.vault import Vault
from tests.vault.administration_world import Device, World
from tests.vault.test_past import ask, restore, save
from tests.vault.vault_workshop import read_file

Tree = dict[bytes, bytes]


@pytest.fixture
async def bob(tmp_path: Path) -> Device:
    """Bob's device, in a vault where he and Anna saved `plan.txt` without having seen the other's."""
    world = World(tmp_path)
    bob = await world.admit("Bob", Tier.WRITER)
    async with world.anna.open() as anna:
        await save(anna, b"plan.txt", b"both know this")
        async with bob.open() as vault:
            pulls = anna.exchange.pull, vault.exchange.pull
            anna.exchange.pull = vault.exchange.pull = anna.exchange.refresh_membership  # type: ignore[method-assign]
            for one, text in ((anna, b"Anna's plan"), (vault, b"Bob's plan")):
                entry = one.replica.lookup(1, b"plan.txt")
                assert entry is not None
                content = one.open_file(entry.st)
                await content.truncate(0, 1_000)
                await content.write(0, text, 1_000)
                one.release_file(content)
                await one.sealer.seal()
            anna.exchange.pull, vault.exchange.pull = pulls  # type: ignore[method-assign]
            await anna.exchange.pull()
            await vault.exchange.pull()
    return bob


async def tree(vault: Vault) -> Tree:
    return {name: await read_file(vault, name) for name, _, _ in vault.replica.entries(1)}


async def sides(vault: Vault) -> tuple[bytes, bytes]:
    """Names of the original and of the copy."""
    copy, original = sorted(name for name, _, _ in vault.replica.entries(1))
    assert b"conflicted copy" in copy
    return original, copy


async def test_both_sides_are_listed_with_who_made_them(bob: Device) -> None:
    async with bob.open() as vault:
        (row,) = await ask(vault, "conflicts")
        texts = {}
        for side in ("original", "copy"):
            one = row[side]
            assert isinstance(one, dict)
            texts[one["by"]] = await read_file(vault, one["path"].encode()[1:])
        assert texts == {"Anna (desk)": b"Anna's plan", "Bob (laptop)": b"Bob's plan"}


@pytest.mark.parametrize(("side", "which"), [("copy", "this"), ("original", "other")])
async def test_keeping_the_copy_sends_the_original_to_the_trash(bob: Device, side: str, which: str) -> None:
    async with bob.open() as vault:
        original, copy = await sides(vault)
        before = await tree(vault)
        done = await keep(vault, copy if side == "copy" else original, which)
        assert (done.kept, done.trashed) == ([original], [original])
        await vault.sync(20)
        assert await tree(vault) == {original: before[copy]}
        assert await ask(vault, "conflicts") == []
        await restore(vault, original)  # the version before is what was not kept
        assert await tree(vault) == {original: before[original]}


@pytest.mark.parametrize(("side", "which"), [("copy", "other"), ("original", "this")])
async def test_keeping_the_original_sends_the_copy_to_the_trash(bob: Device, side: str, which: str) -> None:
    async with bob.open() as vault:
        original, copy = await sides(vault)
        before = await tree(vault)
        done = await keep(vault, copy if side == "copy" else original, which)
        assert (done.kept, done.trashed) == ([original], [copy])
        await vault.sync(20)
        assert await tree(vault) == {original: before[original]}
        await restore(vault, copy)
        assert await tree(vault) == before


async def test_keeping_both_gives_the_copy_a_normal_name(bob: Device) -> None:
    async with bob.open() as vault:
        original, copy = await sides(vault)
        before = await tree(vault)
        (row,) = await ask(vault, "conflicts")
        assert isinstance(row["copy"], dict)
        whose = row["copy"]["by"].replace(" (", ", ").rstrip(")").encode()
        await keep(vault, copy, "both")
        assert await tree(vault) == {original: before[original], b"plan (%s).txt" % whose: before[copy]}
        assert await ask(vault, "conflicts") == []


async def test_keeping_both_under_a_chosen_name(bob: Device) -> None:
    async with bob.open() as vault:
        original, copy = await sides(vault)
        with pytest.raises(UsageError, match="taken"):
            await keep(vault, copy, "both", original)
        with pytest.raises(UsageError, match="no name"):
            await keep(vault, copy, "both", b"a/b")
        await keep(vault, copy, "both", b"other plan")
        assert set(await tree(vault)) == {original, b"other plan"}


async def test_what_is_in_no_conflict_cannot_be_settled(bob: Device) -> None:
    async with bob.open() as vault:
        await save(vault, b"alone", b"text")
        with pytest.raises(UsageError, match="no conflict"):
            await keep(vault, b"alone", "this")
        with pytest.raises(NotKept):
            await keep(vault, b"nothing", "this")
        with pytest.raises(UsageError):
            await look_back(vault, "keep", {"path": "alone", "which": "all"}, _nobody)


async def test_nothing_is_settled_while_an_alarm_stops_all_writing(
    bob: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bob.open() as vault:
        _, copy = await sides(vault)
        monkeypatch.setattr(type(vault.trust), "stops", "the folder is older than before")
        with pytest.raises(NotAllowed, match="older"):
            await keep(vault, copy, "this")


async def _nobody(_: dict[str, object]) -> None:
    raise AssertionError("nothing is said")
