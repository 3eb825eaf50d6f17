"""A store that holds back what administrators publish is noticed by the silence; time is the test's own."""

from pathlib import Path

import pytest

from cryptfs.errors import NotAllowed
from cryptfs.group.authority import Tier
from cryptfs.vault import administration as do
from cryptfs.vault.hourly import show_life
from cryptfs.vault.people import choose
from cryptfs.vault.vault import Vault
from tests.vault.administration_world import Device, World
from tests.vault.certificate_world import Clock
from tests.vault.vault_workshop import read_file, write_file

WARNING = "No news from an administrator for 7 days. Removals may not have reached you."


@pytest.fixture
def world(tmp_path: Path, clock: Clock) -> World:
    return World(tmp_path)


async def say_something(who: Device, name: bytes = b"news") -> None:
    async with who.open() as vault:
        await write_file(vault, name, b"x")
        await vault.sync()


async def stop_when_stale(world: World) -> None:
    async with world.anna.open() as vault:
        await do.set_policy(vault, {"on_stale": 1})


class Provider:
    """Hands everything through until it is told to hold back what one device publishes."""

    def __init__(self, world: World) -> None:
        self._folder = world.folder
        self._held: dict[Path, bytes] = {}
        self._known = self._files()

    def _files(self) -> set[Path]:
        return {path for path in self._folder.rglob("*") if path.is_file()}

    def hold_back(self) -> None:
        """Take away everything that came since the last call."""
        for path in self._files() - self._known:
            self._held[path] = path.read_bytes()
            path.unlink()

    def give_back(self) -> None:
        for path, data in self._held.items():
            path.write_bytes(data)


async def test_freeze_no_news_from_an_administrator_is_said_after_the_days_of_the_policy(
    world: World, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """T-freeze, T-freeze-roster: on a running vault; a warning stops nothing."""
    bob = await world.admit("Bob", Tier.WRITER)
    async with bob.open() as vault:
        clock.pass_days(6.9)
        await vault.exchange.pull()
        assert vault.status()["stale"] == ""
        clock.pass_days(0.2)
        await vault.exchange.pull()
        await vault.exchange.pull()
        assert vault.status()["stale"] == WARNING
        assert sum(WARNING in line for line in caplog.messages) == 1
        await write_file(vault, b"mine", b"y")
        await vault.sync()
        await say_something(world.anna)
        await vault.exchange.pull()
        assert vault.status()["stale"] == ""


async def test_freeze_of_a_removal_stops_sealing_if_the_owners_want_that(world: World, clock: Clock) -> None:
    """T-freeze: what is written while nothing is sent is kept, and sent under the new key when the news is there."""
    bob, eve = await world.admit("Bob", Tier.WRITER), await world.admit("Eve", Tier.WRITER)
    async with eve.open():
        pass  # she has been in, and keeps her keys
    await stop_when_stale(world)
    async with bob.open() as vault:
        provider = Provider(world)
        async with vault.exchange.paused():  # he must not hear of it before it is held back
            async with world.anna.open() as annas:
                chosen = choose(annas.membership, "Eve")
                await do.remove(annas, [one.id for one in chosen.entries], [chosen.member])
            provider.hold_back()
        before = vault.keyring.write_keyset
        clock.pass_days(7)
        await vault.exchange.pull()
        await write_file(vault, b"secret", b"not for Eve")
        with pytest.raises(NotAllowed, match=r"for 7 days.*Nothing is sent until there is"):
            await vault.sync()
        assert vault.pending
        assert not vault.read_only
        assert await read_file(vault, b"secret") == b"not for Eve"
        provider.give_back()
        await vault.sync()
        assert not vault.pending
        assert vault.keyring.write_keyset != before
    async with world.anna.open() as annas:
        assert await read_file(annas, b"secret") == b"not for Eve"
    async with eve.open() as eves:
        assert eves.replica.lookup(1, b"secret") is None
        assert not set(eves.keyring.secrets()) >= set(eves.membership.resolved.eids)


async def test_news_of_this_device_itself_is_no_news(world: World, clock: Clock) -> None:
    """An administrator whose own segments counted would never notice that those of the others are held back."""
    carl = await world.admit("Carl", Tier.ADMIN)
    await say_something(carl)
    clock.pass_days(8)
    async with carl.open() as vault:
        await write_file(vault, b"mine", b"y")
        await vault.sync()
        assert vault.trust.freshness.days == 8


async def test_who_is_the_only_administrator_waits_for_nobody(world: World, clock: Clock) -> None:
    await world.admit("Bob", Tier.WRITER)
    await stop_when_stale(world)
    clock.pass_days(100)
    await say_something(world.anna)
    async with world.anna.open() as vault:
        assert vault.status()["stale"] == ""


async def test_silence_goes_on_over_a_restart(world: World, clock: Clock) -> None:
    bob = await world.admit("Bob", Tier.WRITER)
    async with bob.open():
        pass
    clock.pass_days(9)
    async with bob.open() as vault:
        assert "for 9 days" in vault.trust.freshness.words


async def lives(vault: Vault) -> int:
    """Segments that a look makes."""
    before = vault.sealer.segments
    await show_life(vault)
    return vault.sealer.segments - before


async def test_a_quiet_device_shows_once_a_day_that_it_lives(world: World, clock: Clock) -> None:
    bob = await world.admit("Bob", Tier.WRITER)
    await say_something(world.anna)
    async with bob.open() as bobs, world.anna.open() as annas:
        assert await lives(annas) == 0
        clock.pass_days(1)
        assert [await lives(annas), await lives(annas)] == [1, 0]
        await bobs.exchange.pull()
        assert bobs.trust.freshness.days == 0


async def test_who_is_alone_shows_nobody_that_it_lives(world: World, clock: Clock) -> None:
    await say_something(world.anna)
    clock.pass_days(2)
    async with world.anna.open() as vault:
        assert await lives(vault) == 0
