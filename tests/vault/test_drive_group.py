"""Whole vaults of three accounts on one bad Google Drive, over real HTTP; and a day of it in virtual time."""

import os
import random
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
import trio

from cryptfs.errors import StoreError
from cryptfs.group.authority import Tier
from cryptfs.store import Abort, Call
from cryptfs.store.drive.quota import Limits
from cryptfs.store.drive.store import DriveStore
from cryptfs.store.retry import Backoff
from cryptfs.vault.opening import open_vault
from cryptfs.vault.vault import Vault
from tests.drive_emulator import DropAfter, DropBefore, Emulator, Truncate, VirtualClock, html, refusal
from tests.drive_emulator.limits import UNITS
from tests.drive_store import access, drive_store
from tests.patience import SECONDS
from tests.vault.administration_world import Device, World
from tests.vault.vault_faults import state_of
from tests.vault.vault_workshop import read_file, remove_file, write_file

SEEDS = [int(one) for one in os.environ.get("CRYPTFS_TEST_DRIVE_SEEDS", "1").split(",")]
ANNA = "anna@example.org"
FAULTS = [
    DropBefore(), DropAfter(), Truncate(5), html(500), html(503), refusal(403, "userRateLimitExceeded"),
    refusal(429, "rateLimitExceeded", retry_after=1), refusal(401, "authError"), refusal(500, "backendError"),
]  # fmt: skip


def misbehave(emulator: Emulator, rng: random.Random, chance: float) -> None:
    """Other faults from now on, on a part of all requests."""
    emulator.heal()
    for fault in rng.sample(FAULTS, 3):
        emulator.fail(fault, rng.choice(["*", "files.*", "upload.*", "changes.*"]), times=None, chance=chance)
    if rng.random() < 0.3:
        emulator.expire_tokens()
    emulator.settings.listing.lag_requests = rng.choice([0, 0, 5])
    emulator.settings.listing.miss = rng.choice([0.0, 0.1])


# ---- vaults ----------------------------------------------------------------------------------------------------------


@dataclass
class Member:
    """A device with an account of its own; its table of ids outlives its process."""

    device: Device
    email: str
    emulator: Emulator
    folder: str

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        self.closing, self.closed = trio.Event(), trio.Event()
        store = drive_store(self.emulator, self.email, self.folder, self.device.home.data_dir / "store.db")
        async with open_vault(self.device.home, self.device.keys, store) as vault:
            self.vault: Vault = vault

            async def drop_dead(seconds: float = 3.0) -> None:
                vault.sender.give_up()

            vault.shut_down = drop_dead  # type: ignore[method-assign]
            task_status.started()
            await self.closing.wait()
        self.closed.set()


async def gather(base: Path, emulator: Emulator, nursery: trio.Nursery) -> list[Member]:
    """A group of three, its vault moved from a directory into Anna's Drive."""
    world = World(base)
    devices = [world.anna] + [await world.admit(name, Tier.WRITER) for name in ("Ben", "Cleo")]
    emails = [ANNA, "ben@example.org", "cleo@example.org"]
    emulator.user(ANNA)
    folder = emulator.folder(ANNA, "vault")
    for email in emails[1:]:
        emulator.share(folder, email, "writer")
    mover = drive_store(emulator, ANNA, folder)
    for path in sorted(world.folder.rglob("*")):
        if path.is_file():
            mover.put(path.relative_to(world.folder).as_posix(), path.read_bytes(), Call())
    mover.close()
    members = [Member(*one, emulator, folder) for one in zip(devices, emails, strict=True)]
    for member in members:
        await nursery.start(member.run)
    return members


async def act(member: Member, rng: random.Random, nursery: trio.Nursery, number: int) -> bytes:
    """One of them does something; returns the name of the file that was written, if any."""
    vault, kind = member.vault, rng.random()
    if kind < 0.1:
        member.closing.set()
        await member.closed.wait()
        member.emulator.heal()  # who cannot reach the store needs an hour to start
        await nursery.start(member.run)
    elif kind < 0.7:
        name = rng.choice([b"shared", f"{member.email} {number}".encode()])
        await write_file(vault, name, name + rng.randbytes(rng.choice([100, 50_000, 700_000])))
        await vault.commit()
        return name
    with suppress(StoreError, trio.TooSlowError):
        await vault.sync(1.0)
    return b""


@pytest.mark.parametrize("seed", SEEDS)
async def test_devices_of_three_accounts_on_a_bad_drive_converge_and_lose_nothing(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    with Emulator(seed=seed) as emulator:
        async with trio.open_nursery() as nursery:
            members = await gather(tmp_path, emulator, nursery)
            written: set[bytes] = set()
            for number in range(24):
                misbehave(emulator, rng, 0.08)
                name = await act(rng.choice(members), rng, nursery, number)
                written |= {name} - {b""}
            remove_file(members[0].vault, b"shared")
            emulator.heal()
            emulator.settings.listing.lag_requests, emulator.settings.listing.miss = 0, 0.0
            with trio.fail_after(SECONDS):
                for _ in range(3):
                    for member in members:
                        await member.vault.sync()
            states = [state_of(member.vault) for member in members]
            assert states[0] == states[1] == states[2]
            for member in members:
                for name in written - {b"shared"}:
                    assert (await read_file(member.vault, name)).startswith(name)
                assert member.vault.sender.state.state == "ok"
            for member in members:
                member.closing.set()
        names = [item.name for item in emulator.items() if item.blob is not None]
        assert len(names) == len(set(names)), "an object was made twice"


# ---- a day -----------------------------------------------------------------------------------------------------------


class Passing:
    """The emulator's virtual time as the store's clock: whoever waits lets it pass."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock

    def now(self) -> float:
        return self._clock.now()

    def wait(self, seconds: float, abort: Abort | None) -> None:
        self._clock.advance(seconds)


class Keeper:
    """Who asks a store until it answers, as the vault does, and counts."""

    def __init__(self, store: DriveStore, clock: Passing, rng: random.Random) -> None:
        self.store, self._clock, self._rng = store, clock, rng

    def put(self, key: str, data: bytes) -> None:
        backoff = Backoff(self._rng)
        while True:
            try:
                self.store.put(key, data, Call.within(600, clock=self._clock))
            except StoreError as error:
                self._clock.wait(backoff.after(error), None)
            else:
                return


def test_a_day_of_a_bad_drive_ends_with_every_object_there_once_and_within_the_limits() -> None:
    rng, clock = random.Random(7), VirtualClock()
    with Emulator(clock=clock, seed=7) as emulator:
        limits, passing, start = emulator.settings.limits, Passing(clock), clock.now()
        limits.writes_per_second, limits.user_units_per_minute = 3.0, 325_000
        emulator.user(ANNA)
        store = DriveStore(access(emulator, ANNA), emulator.folder(ANNA, "vault"), clock=passing, limits=Limits())
        keeper, sent = Keeper(store, passing, rng), {}
        while clock.now() < start + timedelta(hours=24).total_seconds():
            misbehave(emulator, rng, 0.1)
            for _ in range(rng.choice([1, 1, 20])):
                key, data = f"l/{len(sent):08x}", os.urandom(rng.choice([10, 300_000]))
                keeper.put(key, data)
                sent[key] = data
            clock.advance(rng.uniform(60, 3 * 3600))
        emulator.heal()
        assert [stat.key for stat in store.list("l/", Call())] == sorted(sent)
        for key, data in sent.items():
            assert [item.blob.data for item in emulator.named(key[2:]) if item.blob] == [data]
        assert len(sent) > 50
        assert max(_in_a_minute(emulator)) < 325_000
        store.close()


def _in_a_minute(emulator: Emulator) -> list[int]:
    """Quota units of the minute before each request."""
    asked = [(one.at, UNITS.get(one.call, 50)) for one in emulator.requests()]
    return [sum(units for at, units in asked if end - 60 < at <= end) for end, _ in asked]
