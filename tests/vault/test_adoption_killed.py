"""Killed before any step of taking packs over, or of letting one's own copy go, a group loses nothing."""

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cryptfs.faults import Faults
from cryptfs.group.authority import Tier
from cryptfs.store import Call, SimStore, SimWorld
from cryptfs.vault.opening import open_vault
from cryptfs.vault.vault import Vault, VaultOptions
from tests.vault.administration_world import Device, World
from tests.vault.vault_faults import still, use_faults
from tests.vault.vault_workshop import read_file, write_file

__all__ = ["still"]

pytestmark = pytest.mark.usefixtures("still")

BODIES = {b"first": b"1" * 1_200_000, b"second": b"2" * 1_300_000}
STEPS_MOST = 100

Work = Callable[[Vault], Awaitable[object]]


class Killed(Exception):
    """The process ended here."""


def die(name: str) -> None:
    raise Killed(name)


class Accounts:
    """Anna, an administrator, and Bob, on a store where each owns what he made; all of it as it was once, too."""

    def __init__(self, base: Path, anna: Device, bob: Device) -> None:
        self.sim, self.base, self.anna, self.bob = SimWorld(), base, anna, bob
        self.sim.owners = {}
        self._kept = self.sim

    @asynccontextmanager
    async def open(self, device: Device, faults: Faults | None = None) -> AsyncIterator[Vault]:
        """With `faults` the process dies at the end of the block at the latest."""
        store = SimStore(self.sim, 1, account=device.name, faults=faults)
        async with open_vault(device.home, device.keys, store, VaultOptions(settle_s=-1)) as vault:
            if faults is not None:

                async def drop_dead() -> None:
                    vault.sender.give_up()

                vault.shut_down = drop_dead  # type: ignore[method-assign, assignment]
                use_faults(vault, faults)
            yield vault

    def _tops(self) -> list[Path]:
        return [device.home.cache_dir.parent.parent for device in (self.anna, self.bob)]

    def keep(self) -> None:
        """How things are now is what `again` goes back to."""
        self._kept = self.sim.branch()
        shutil.rmtree(self.base / "kept", ignore_errors=True)
        for top in self._tops():
            shutil.copytree(top, self.base / "kept" / top.name)

    def again(self) -> None:
        self.sim = self._kept.branch()
        for top in self._tops():
            shutil.rmtree(top)
            shutil.copytree(self.base / "kept" / top.name, top)

    async def kill_at(self, device: Device, step: int, work: Work) -> str:
        """The step before which the process died; empty if it came to its end before."""
        faults = Faults(0, die)
        try:
            async with self.open(device, faults) as vault:
                faults.count, faults.at = 0, step
                await work(vault)
                faults.act = None
        except* Killed:
            pass
        return faults.fired


@pytest.fixture
async def accounts(tmp_path: Path) -> Accounts:
    world = World(tmp_path)
    bob = await world.admit("Bob", Tier.WRITER)
    found = Accounts(tmp_path, world.anna, bob)
    for path in sorted(world.folder.rglob("*")):
        key = path.relative_to(world.folder).as_posix()
        if path.is_file() and not key.startswith("."):
            SimStore(found.sim, 0, account="Anna").put(key, path.read_bytes(), Call())
    async with found.open(bob) as vault:
        for name, body in BODIES.items():
            await write_file(vault, name, body)
            await vault.sync()
    async with found.open(world.anna) as vault:
        await vault.exchange.pull()
    found.keep()
    return found


async def take_over(vault: Vault) -> None:
    await vault.adopter.adopt([one.log for one in vault.adopter.holders() if one.may])


async def let_go(vault: Vault) -> None:
    await vault.exchange.pull()
    await vault.adopter.let_go()


async def finish_and_look(accounts: Accounts) -> None:
    """One more run of each; then all packs lie in Anna's account alone, and everything reads from there."""
    async with accounts.open(accounts.bob) as vault:
        await let_go(vault)  # at the worst moment: she may have copies, or have said so, and not the other
    packs = {stat.key for stat in accounts.sim.list("p/", Call())}
    assert len(packs) == len(BODIES), "nothing is lost on the way"
    async with accounts.open(accounts.anna) as vault:
        await take_over(vault)
        assert {one.packs for one in vault.adopter.holders()} <= {0}
    async with accounts.open(accounts.bob) as vault:
        await let_go(vault)
    owners = accounts.sim.owners
    assert owners is not None
    assert {(key, owners[key]) for key in packs} == {(key, "Anna") for key in packs}
    assert not any(accounts.sim.twins.get(key) for key in packs)
    for path in accounts.anna.home.cached_packs_dir.iterdir():
        path.unlink()
    async with accounts.open(accounts.anna) as vault:
        for name, body in BODIES.items():
            assert await read_file(vault, name) == body
        assert not vault.trust.alarms


async def killed_everywhere(accounts: Accounts, device: Device, work: Work) -> set[str]:
    passed = set[str]()
    for step in range(1, STEPS_MOST):
        accounts.again()
        fired = await accounts.kill_at(device, step, work)
        await finish_and_look(accounts)
        if not fired:
            return passed
        passed.add(fired)
    pytest.fail("it never comes to its end")


async def test_killed_before_any_step_of_taking_over_nothing_is_lost(accounts: Accounts) -> None:
    passed = await killed_everywhere(accounts, accounts.anna, take_over)
    assert passed >= {"adopt.copy", "store.copy.done", "adopt.say", "journal.write", "store.put", "store.put.done"}


async def test_killed_before_any_step_of_letting_go_nothing_is_lost(accounts: Accounts) -> None:
    async with accounts.open(accounts.anna) as vault:
        await take_over(vault)
    accounts.keep()
    passed = await killed_everywhere(accounts, accounts.bob, let_go)
    assert passed >= {"adopt.let-go", "store.delete", "store.delete.done"}
