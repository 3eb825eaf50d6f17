"""Several whole vaults on one misbehaving store, in one process and in virtual time; a seed gives the history.

Every device is what a mount has under it - journal, packs, replica, sealer, pull, keys - but for the kernel and for the
tasks that run by themselves: who acts, seals, pulls, commits, dies or is cut off is drawn. Worker threads run in line,
each after a drawn number of turns of the scheduler, so that whatever may happen between two awaits does happen. The
store is a `SimStore` with drawn faults. Two phases: trouble, then none until nothing moves any more.
"""

import functools
import json
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar
from unittest import mock

import trio
import trio.testing

from cryptfs.crypto import keys
from cryptfs.crypto.keyfile import DeviceKeys
from cryptfs.crypto.keys import LocalSecret
from cryptfs.errors import CryptfsError, StoreError, StoreGone
from cryptfs.format.operation import KIND_FILE, Rename, Unlink
from cryptfs.group.authority import Tier
from cryptfs.store import Knobs, SimStore, SimWorld
from cryptfs.vault.home import VaultHome
from cryptfs.vault.opening import open_vault
from cryptfs.vault.upkeep import Upkeep
from cryptfs.vault.vault import Vault
from tests.simulation.tree_device import check_tree
from tests.vault.administration_world import Device, World
from tests.vault.random_hand import Hand, shown
from tests.vault.vault_faults import state_of

T = TypeVar("T")

ROUNDS_TO_REST = 12
"""Rounds of everybody sending and pulling after which nothing may move any more."""


# ---- the group -------------------------------------------------------------------------------------------------------

GROUP_FILE = Path(__file__).parent / "group.json"
"""Keys of the members and the store just after they were admitted: certificates are never made alike twice."""


@dataclass(frozen=True)
class Founded:
    """A vault with its members' keys, all objects of its store, and when it was made, ns."""

    keys: list[DeviceKeys]
    objects: dict[str, bytes]
    made_ns: int


@functools.cache
def founded() -> Founded:
    """The group of all runs."""
    told = json.loads(GROUP_FILE.read_text())
    members = [
        DeviceKeys(*(bytes.fromhex(one[name]) for name in _KEY_FIELDS[:-1]), LocalSecret(bytes.fromhex(one["local"])))
        for one in told["keys"]
    ]
    return Founded(members, {name: bytes.fromhex(data) for name, data in told["objects"].items()}, told["made_ns"])


_KEY_FIELDS = ("vault", "entry", "key", "cert", "seed", "local")


def make_group(devices: int = 4) -> None:
    """Found a vault anew and have its members admitted by the real acts: `python -m tests.simulation.vault_group`."""
    base = Path(tempfile.mkdtemp(prefix="cryptfs-simulated-"))
    try:
        world = World(base)

        async def admit() -> list[Device]:
            return [world.anna, *[await world.admit(f"member {n}", Tier.WRITER) for n in range(1, devices)]]

        people = trio.run(admit)
        folder = world.folder
        told = {
            "made_ns": time.time_ns(),
            "keys": [
                dict(zip(_KEY_FIELDS, [part.hex() for part in (
                    one.vault, one.entry, one.cert_key_pkcs8, one.cert_der, one.sign_seed, one.local_secret
                )], strict=True))
                for one in (person.keys for person in people)
            ],
            "objects": {
                str(path.relative_to(folder)): path.read_bytes().hex()
                for path in sorted(folder.rglob("*")) if path.is_file()
            },
        }  # fmt: skip
        GROUP_FILE.write_text(json.dumps(told, indent=1) + "\n")
    finally:
        shutil.rmtree(base)


# ---- one device ------------------------------------------------------------------------------------------------------


class Machine:
    """One member's device: alive with an open vault, or down. Its home outlives it."""

    def __init__(self, number: int, own: DeviceKeys, world: SimWorld, base: Path, rng: random.Random) -> None:
        self.name = f"device {number}"
        self.keys = own
        self.rng = rng
        self.knobs = Knobs()
        self.store = SimStore(world, rng.randrange(1 << 32), self.knobs)
        self.base = base / str(number)
        self.vault: Vault | None = None
        self.hand: Hand | None = None
        self.busy: set[str] = set()
        self._tasks: trio.Nursery | None = None
        self._end = trio.Event()
        self._ended = trio.Event()
        self._kill = False

    @property
    def home(self) -> VaultHome:
        top = self.base / "home"
        return VaultHome("v", top / "config", top / "data" / "v", top / "cache" / "v", top / "run")

    async def start(self, nursery: trio.Nursery) -> None:
        """Open the vault; stays down if the store does not let it."""
        self._end, self._ended, self._kill = trio.Event(), trio.Event(), False
        await nursery.start(self._live)

    async def _live(self, task_status: trio.TaskStatus[None]) -> None:
        try:
            async with open_vault(self.home, self.keys, self.store) as vault, trio.open_nursery() as tasks:
                self.vault, self._tasks = vault, tasks
                self.hand = Hand(vault, self.rng)
                task_status.started()
                await self._end.wait()
                if self._kill:
                    vault.shut_down = self._drop_dead  # type: ignore[method-assign, assignment]
                tasks.cancel_scope.cancel()
        except CryptfsError:
            task_status.started()
        except BaseExceptionGroup as group:
            wrong = group.split(CryptfsError)[1]
            if wrong is not None:
                raise
            task_status.started()
        finally:
            self.vault = self.hand = self._tasks = None
            self.busy.clear()
            self._ended.set()

    async def _drop_dead(self) -> None:
        assert self.vault is not None
        self.vault.sender.give_up()

    async def stop(self, *, kill: bool) -> None:
        """Shut down in order, or be killed: what is not durable is lost."""
        self._kill = kill
        self._end.set()
        await self._ended.wait()

    def background(self, what: str, do: Callable[[], Any]) -> None:
        """Have a task of the vault go on beside everything else; one of a kind at a time."""
        if what in self.busy or self._tasks is None:
            return
        self.busy.add(what)

        async def run() -> None:
            try:
                await do()
            except CryptfsError:
                pass  # the real tasks note it and try again; here the dice do
            finally:
                self.busy.discard(what)

        self._tasks.start_soon(run)


# ---- the simulation --------------------------------------------------------------------------------------------------


@dataclass
class Trace:
    """What happened, a line each, to read when a run fails."""

    lines: list[str] = field(default_factory=list)

    def say(self, who: str, what: str) -> None:
        self.lines.append(f"{len(self.lines):4} {who}: {what}")


class Simulation:
    """One run. `turns`: how many moves the first phase has."""

    def __init__(self, seed: int, base: Path, *, devices: int, turns: int) -> None:
        self.rng = random.Random(seed)
        self.turns = turns
        self.trace = Trace()
        self.world = SimWorld()
        group = founded()
        self.world.restore(group.objects)
        self.machines = [Machine(n, own, self.world, base, self.rng) for n, own in enumerate(group.keys[:devices])]
        self.moves = 0

    async def run(self) -> None:
        """Both phases, and all that must hold afterwards."""
        async with trio.open_nursery() as nursery:
            for machine in self.machines:
                await machine.start(nursery)
            for _ in range(self.turns):
                await self._move(nursery)
            await self._rest(nursery)
            await self._judge(nursery)
            for machine in self.machines:
                await machine.stop(kill=False)

    # ---- trouble

    async def _move(self, nursery: trio.Nursery) -> None:
        machine = self.rng.choice(self.machines)
        if machine.vault is None:
            self.trace.say(machine.name, "starts")
            await machine.start(nursery)
            return
        roll = self.rng.random()
        for chance, move in (
            (0.50, self._work), (0.17, self._seal), (0.12, self._pull), (0.06, self._commit), (0.05, self._weather),
            (0.05, self._kill), (0.03, self._restart), (0.02, self._lose_cache),
        ):  # fmt: skip
            if roll < chance:
                await move(machine, nursery)
                break
            roll -= chance
        for _ in range(self.rng.choice([0, 1, 5, 20])):
            await trio.lowlevel.checkpoint()

    async def _work(self, machine: Machine, _: trio.Nursery) -> None:
        assert machine.hand is not None
        assert machine.vault is not None
        for _ in range(self.rng.choice([1, 1, 3, 8])):
            if machine.vault is None or machine.vault.read_only:
                return
            await self._attempt(machine, "works", machine.hand.act)

    async def _seal(self, machine: Machine, _: trio.Nursery) -> None:
        assert machine.vault is not None
        self.trace.say(machine.name, f"seals {len(machine.vault.pending)} operations")
        machine.background("seal", machine.vault.sealer.seal)

    async def _pull(self, machine: Machine, _: trio.Nursery) -> None:
        vault = machine.vault
        assert vault is not None
        self.trace.say(machine.name, "pulls")

        machine.background("pull", functools.partial(self._pulled, vault))

    async def _pulled(self, vault: Vault) -> None:
        """A pull; what is written here and not sealed stays visible."""
        take = type(vault.exchange).take.__get__(vault.exchange)

        def watched(*args: Any) -> None:
            mine = own_edits(vault)
            take(*args)
            left = {entry.k for entry in vault.pending.entries()}
            lost = (mine & left) - own_edits(vault) - deleted_here(vault)
            assert not lost, f"own unsealed edits {lost} are not visible any more"

        vault.reader._take = watched
        await vault.exchange.pull()

    async def _commit(self, machine: Machine, _: trio.Nursery) -> None:
        vault = machine.vault
        assert vault is not None

        async def commit() -> None:
            await vault.commit()
            vault.replica.commit()

        self.trace.say(machine.name, "commits")
        machine.background("commit", commit)

    async def _weather(self, machine: Machine, _: trio.Nursery) -> None:
        """The store gets better or worse for one device."""
        machine.knobs.rest()
        kind = self.rng.choice(["fine", "fine", "gone", "flaky", "lagging", "partial"])
        self.trace.say(machine.name, f"finds the store {kind}")
        if kind == "gone":
            machine.knobs.outage = functools.partial(StoreGone, "cut off")
        elif kind == "flaky":
            machine.knobs.before = machine.knobs.after = 0.2
        elif kind == "lagging":
            machine.knobs.list_lag = 3
        elif kind == "partial":
            machine.knobs.partial = 0.5

    async def _kill(self, machine: Machine, nursery: trio.Nursery) -> None:
        """What is durable is there again, also without the store, and nothing else changed."""
        vault = machine.vault
        assert vault is not None
        quiet = not machine.busy and not any(content.dirty for content in vault.files.values())
        promised = None
        if quiet and self.rng.random() < 0.7:
            await self._attempt(machine, "commits", vault.commit)
            vault.replica.commit()
            try:
                promised = await shown(vault)
            except StoreError as err:
                self.trace.say(machine.name, f"cannot read everything: {err}")
        self.trace.say(machine.name, "is killed" if promised is None else "is killed after a commit")
        await machine.stop(kill=True)
        outage, machine.knobs.outage = machine.knobs.outage, functools.partial(StoreGone, "cut off")
        await machine.start(nursery)
        machine.knobs.outage = outage
        if machine.vault is not None and promised is not None:
            machine.knobs.rest()
            again = await shown(machine.vault)
            assert again == promised, _difference(promised, again)

    async def _restart(self, machine: Machine, nursery: trio.Nursery) -> None:
        self.trace.say(machine.name, "restarts")
        await machine.stop(kill=False)
        await machine.start(nursery)

    async def _lose_cache(self, machine: Machine, nursery: trio.Nursery) -> None:
        """What is not sealed is whole again, byte for byte, or the vault does not open yet."""
        vault = machine.vault
        assert vault is not None
        quiet = not machine.busy and not any(content.dirty for content in vault.contents())
        await self._attempt(machine, "commits", vault.commit)
        mine: set[bytes] = set()
        if quiet:
            with suppress(StoreError):
                mine = {bytes(await content.read(0, 1 << 20)) for content in {*vault.carried.values()}}
        self.trace.say(machine.name, "loses its cache")
        await machine.stop(kill=True)
        shutil.rmtree(machine.home.cache_dir)
        await machine.start(nursery)
        vault = machine.vault
        if vault is not None and mine:
            with suppress(StoreError):
                again = {bytes(await content.read(0, 1 << 20)) for content in {*vault.carried.values()}}
                assert mine <= again, "an unsent content is not what it was"

    async def _attempt(self, machine: Machine, what: str, do: Callable[[], Any]) -> None:
        try:
            await do()
        except CryptfsError as err:
            self.trace.say(machine.name, f"{what}: {type(err).__name__}")

    # ---- rest

    async def _rest(self, nursery: trio.Nursery) -> None:
        self.trace.say("all", "faults end")
        for machine in self.machines:
            machine.knobs.rest()
            if machine.vault is None:
                await machine.start(nursery)
            assert machine.vault is not None, f"{machine.name} does not open"
            machine.vault.sender.try_now()
            assert machine.hand is not None
            for content in machine.hand.held.values():
                machine.vault.release_file(content)
            machine.hand.held.clear()
        for _ in range(ROUNDS_TO_REST):
            before = self.world.used()
            for machine in self.machines:
                assert machine.vault is not None
                await machine.vault.sync()
            if self.world.used() == before:
                return
        raise AssertionError("the devices do not come to rest")

    async def _judge(self, nursery: trio.Nursery) -> None:
        states = [state_of(machine.vault) for machine in self.machines if machine.vault is not None]
        for machine, state in zip(self.machines, states, strict=True):
            assert machine.vault is not None
            check_tree(machine.vault.replica)
            assert not machine.vault.trust.words, machine.vault.trust.words
            for table, rows in states[0].items():
                assert state[table] == rows, f"{table} of {machine.name} differs from that of {self.machines[0].name}"
        seen = [await shown(machine.vault) for machine in self.machines if machine.vault is not None]
        for machine, one in zip(self.machines, seen, strict=True):
            assert one == seen[0], f"{machine.name}: {_difference(seen[0], one)}"
        check_no_version_is_lost(self.machines[0])
        fresh = self.machines[-1]
        await fresh.stop(kill=False)
        shutil.rmtree(fresh.base)
        await fresh.start(nursery)
        assert fresh.vault is not None
        assert not fresh.vault.read_only, fresh.vault.trust.stops
        rebuilt = state_of(fresh.vault)
        for table, rows in states[0].items():
            assert rebuilt[table] == rows, f"{table} from the store alone"
        assert await shown(fresh.vault) == seen[0]


def own_edits(vault: Vault, *, linked: bool = True) -> set[object]:
    """Versions made here, not sealed yet, of files that are linked and not empty."""
    found: set[object] = set()
    for row in vault.replica.all_rows("node"):
        if row[1] == KIND_FILE and row[6] > 0 and (row[14] is None or not linked):
            found |= {op.n for op in vault.replica.extern_ver(row[9]) if op.log == b"\xff" * 16}
    return found


def deleted_here(vault: Vault) -> set[object]:
    """Own edits that the user has deleted or replaced since; a conflict may show them again for a while."""
    found: set[object] = set()
    for entry in vault.pending.entries():
        op = entry.op
        if isinstance(op, Unlink):
            found |= {one.n for one in op.cver}
        elif isinstance(op, Rename) and op.replaced is not None:
            found |= {one.n for one in op.replaced.cver}
    return found


def check_no_version_is_lost(machine: Machine) -> None:
    """Invariant 16: each content that was ever sealed is in a file, in the trash or in the history."""
    assert machine.vault is not None
    replica = machine.vault.replica
    kept: set[object] = set()
    for table, column in (("node", 9), ("history", 1)):
        for row in replica.all_rows(table):
            kept.update(replica.extern_ver(row[column]))
    for ver, *_ in replica.all_rows("content"):
        assert set(replica.extern_ver(ver)) <= kept, "a version is neither in the tree nor in the history"


def _difference(expected: dict[bytes, Any], found: dict[bytes, Any]) -> str:
    names = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    return f"differs in {[(name, _short(expected.get(name)), _short(found.get(name))) for name in names[:5]]}"


def _short(value: Any) -> Any:
    return value if value is None else (*value[:-1], len(value[-1]))


# ---- determinism -----------------------------------------------------------------------------------------------------


@contextmanager
def determined(seed: int) -> Iterator[None]:
    """Worker threads in line, one source of chance for all, virtual clocks, and no task of a vault by itself."""
    rng = random.Random(seed)
    began_ns = founded().made_ns

    async def in_line(sync_fn: Callable[..., T], *args: Any, **_: Any) -> T:
        for _ in range(rng.choice([1, 1, 2, 5])):
            await trio.lowlevel.checkpoint()
        return sync_fn(*args)

    async def nothing(self: Upkeep, nursery: trio.Nursery) -> None:
        await trio.lowlevel.checkpoint()

    with ExitStack() as stack:

        def use(owner: object, name: str, value: object) -> None:
            stack.enter_context(mock.patch.object(owner, name, value))

        use(trio.to_thread, "run_sync", in_line)
        use(Upkeep, "run", nothing)
        use(keys, "os", SimpleNamespace(urandom=rng.randbytes))
        use(keys, "random", SimpleNamespace(SystemRandom=lambda: rng, Random=random.Random))
        use(time, "time_ns", lambda: began_ns + int(trio.current_time() * 1e9))
        use(time, "monotonic", trio.current_time)
        use(trio._core._run, "_ALLOW_DETERMINISTIC_SCHEDULING", True)  # as trio's own plugin for Hypothesis does
        trio._core._run._r.seed(seed)
        yield


def simulate(seed: int, *, devices: int = 3, turns: int = 120) -> Trace:
    """Run one history; what goes wrong is raised with the last moves."""
    base = Path(tempfile.mkdtemp(prefix="cryptfs-simulated-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    simulation: Simulation | None = None
    try:
        with determined(seed):
            simulation = Simulation(seed, base, devices=devices, turns=turns)
            trio.run(simulation.run, clock=trio.testing.MockClock(autojump_threshold=0))
    except BaseException as err:
        if simulation is not None:
            err.add_note("\n".join([f"seed {seed}, {devices} devices, {turns} turns", *simulation.trace.lines[-40:]]))
        raise
    else:
        return simulation.trace
    finally:
        shutil.rmtree(base)


if __name__ == "__main__":
    make_group()
