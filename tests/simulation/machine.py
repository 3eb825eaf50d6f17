"""One simulated device: what a mount has under it, alive with an open vault or down. Its home outlives it."""

import functools
import random
import shutil
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import trio

from cryptfs.crypto.keyfile import DeviceKeys
from cryptfs.errors import CryptfsError
from cryptfs.faults import Faults
from cryptfs.store import Knobs
from cryptfs.tree.segment import IntegratedSegment
from cryptfs.vault.home import VaultHome
from cryptfs.vault.opening import open_vault
from cryptfs.vault.vault import Vault
from tests.simulation.clockwork import Clock
from tests.simulation.folder import DeviceStore, Folder
from tests.simulation.person import Person

__all__ = ["Machine", "PowerCut", "vault_of"]


ENDURANCE = 200.0
"""Seconds that a person waits for an act before giving it up; a store that is full may take for ever."""


class PowerCut(BaseException):
    """The device dies at this step; nothing that was not durable survives."""


class Machine:
    """A device called `name` with its keys and its way to the folder.

    `trouble`: why the vault did not open last time, None if it did. `expected`: the person using it must be able to
    work in the end; false for who was removed, or never let in.
    """

    def __init__(self, name: str, own: DeviceKeys, folder: Folder, base: Path, seed: int) -> None:
        self.name = name
        self.keys = own
        self.rng = random.Random(seed)
        self.knobs = Knobs()
        self.store = DeviceStore(folder, self.rng.randrange(1 << 32), self.knobs, name)
        self.base = base
        self.clock = Clock()
        self.vault: Vault | None = None
        self.person: Person | None = None
        self.busy: set[str] = set()
        self.expected = True
        self.crowded = False
        self.forked_by_hand = False
        """Its home was copied, or an old copy put in its place: its log may say two things."""
        self.closed_by_hand = False
        """Somebody closed its log."""
        self.trouble: CryptfsError | None = None
        self.error: CryptfsError | None = None
        self.asleep_until = 0.0
        self.older_since: float | None = None
        """Since when the folder shows it less than there is, None if it does not."""
        self.missed_since: float | None = None
        """When, since its start, it first looked at a folder that shows it less."""
        self.looked_at = -1.0
        self.looks = self.looks_used = 0
        """Times it pulled with success, and how many of them before its last new segment."""
        """When it last pulled with success."""
        self.stable = -1
        self.below_s: list[int] = []
        """Stamps of segments that came although S was at or above them."""
        self.kept: set[bytes] = set()
        """Marks that the backup of its home has."""
        self.faults = Faults()
        self._tasks: trio.Nursery | None = None
        self._end = trio.Event()
        self._ended = trio.Event()
        self._ended.set()
        self._killed = False

    @property
    def home(self) -> VaultHome:
        top = self.base / "home"
        return VaultHome("v", top / "config", top / "data" / "v", top / "cache" / "v", top / "run")

    def settle_in(self) -> None:
        """Make a home, if there is none."""
        if not self.home.settings_file.exists():
            self.home.create_dirs()
            self.home.write_settings("file:///simulated")

    def copy_home(self, to: Path) -> None:
        """A copy of everything on this device as it is at this moment, alive or not."""
        if self.base.exists():
            shutil.copytree(self.base, to)

    # ---- life -------------------------------------------------------------------------------------------------------

    async def start(self, nursery: trio.Nursery) -> None:
        """Open the vault; stays down if that cannot be."""
        await self._ended.wait()
        self._end, self._ended, self._killed = trio.Event(), trio.Event(), False
        self.faults = Faults()
        self.store.use_faults(self.faults)
        self.settle_in()
        await nursery.start(self._live)

    async def _live(self, task_status: trio.TaskStatus[None]) -> None:
        self.clock.enter()
        try:
            async with open_vault(self.home, self.keys, self.store, faults=self.faults) as vault:
                vault.shut_down = functools.partial(self._shut_down, vault.shut_down)  # type: ignore[method-assign]
                self._watch(vault)
                async with trio.open_nursery() as tasks:
                    self.vault, self._tasks, self.trouble = vault, tasks, None
                    self.person = Person(vault, self.rng, crowded=self.crowded)
                    task_status.started()
                    await self._end.wait()
                    tasks.cancel_scope.cancel()
        except (CryptfsError, PowerCut, BaseExceptionGroup) as err:
            if not _expected(err):
                raise
            self.trouble = _first(err)
            if self.vault is None:
                task_status.started()
        finally:
            self.vault = self.person = self._tasks = None
            self.busy.clear()
            self._ended.set()

    def _watch(self, vault: Vault) -> None:
        """Note when it looks at the folder, and whether something comes that was never to come any more."""
        look, take = vault.trust.look, vault.reader._take
        self.stable, self.missed_since = -1, None
        if vault.unconfirmed is not None:
            self.store.tried.add(vault.unconfirmed.name)  # it was sealed before

        async def looks(*args: Any) -> None:
            await look(*args)
            self.looked_at = trio.current_time()
            self.looks += 1
            if self.older_since is not None and self.missed_since is None:
                self.missed_since = self.looked_at
            self.stable = max(self.stable, vault.collector.stable())

        def takes(segments: list[IntegratedSegment], void: list[tuple[bytes, int]]) -> None:
            self.below_s += [one.stamp for one in segments if one.stamp <= self.stable and not one.own]
            take(segments, void)

        vault.trust.look, vault.reader._take = looks, takes  # type: ignore[method-assign]

    async def _shut_down(self, orderly: Callable[[], Awaitable[None]]) -> None:
        if not self._killed:
            await orderly()
        elif self.vault is not None:
            self.vault.sender.give_up()

    async def stop(self, *, kill: bool) -> None:
        """Shut down in order, or be killed: what is not durable is lost."""
        self._killed = self._killed or kill
        self._end.set()
        await self._ended.wait()

    def cut_power_at(self, step: int) -> None:
        """Die at the n-th step from now at which something could be left half done."""

        def die(_: str) -> None:
            self._killed = True
            self._end.set()
            raise PowerCut

        self.faults.at, self.faults.act, self.faults.sticky = self.faults.count + step, die, True

    # ---- acting -----------------------------------------------------------------------------------------------------

    def background(self, what: str, do: Callable[[], Awaitable[Any]]) -> None:
        """Have a task of the vault go on beside everything else; one of a kind at a time."""
        if what in self.busy or self._tasks is None or self._end.is_set():
            return
        self.busy.add(what)

        async def run() -> None:
            self.clock.enter()
            try:
                await do()
            except (CryptfsError, PowerCut, BaseExceptionGroup) as err:  # the real tasks note it; here the dice do
                if not _expected(err):
                    raise
            finally:
                self.busy.discard(what)

        self._tasks.start_soon(run)

    async def attempt(self, do: Callable[[], Awaitable[Any]]) -> str:
        """Do it now; returns what went wrong, empty if nothing. `error` is that, if it is an error of ours."""
        self.error = None
        try:
            with self.clock.in_force(), trio.move_on_after(ENDURANCE) as waiting:
                await do()
        except (CryptfsError, PowerCut, BaseExceptionGroup) as err:
            if not _expected(err):
                raise
            if self._killed:
                await self._ended.wait()
                return "the power is cut"
            self.error = _first(err)
            return f"{type(err).__name__}: {err}"
        except Exception:
            if not self._killed:
                raise
            return "the power is cut"  # what goes on in a process that is no more does not count
        return "gave up waiting" if waiting.cancelled_caught else ""

    def lose(self, *parts: Path) -> None:
        """What lies there is gone; only while the device is down."""
        for part in parts:
            if part.is_dir():
                shutil.rmtree(part)
            else:
                with suppress(FileNotFoundError):
                    part.unlink()


def vault_of(machine: Machine) -> Vault:
    """Its open vault."""
    assert machine.vault is not None, f"{machine.name} is down"
    return machine.vault


def _first(err: BaseException) -> CryptfsError | None:
    while isinstance(err, BaseExceptionGroup):
        err = err.exceptions[0]
    return err if isinstance(err, CryptfsError) else None


def _expected(err: BaseException) -> bool:
    """Whether that is trouble that a device may have, and no defect."""
    if isinstance(err, BaseExceptionGroup):
        return err.split((CryptfsError, PowerCut))[1] is None
    return isinstance(err, CryptfsError | PowerCut)
