"""Several whole vaults on one misbehaving folder, in one process and in virtual time; a seed gives the history.

Every device is what a mount has under it - journal, packs, replica, sealer, pull, keys - but for the kernel and for the
tasks that run by themselves: who acts, seals, pulls, commits, dies, is cut off, copied, thrown out or sleeps for weeks
is drawn (`plans.py`). Two phases: trouble, then none until nothing moves any more. Then the judges (`invariants.py`).
"""

import random
import shutil
import signal
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import trio
import trio.testing

from cryptfs.crypto.keyfile import DeviceKeys
from cryptfs.errors import CryptfsError, StoreError
from cryptfs.format.names import SegmentName, StatementName, parse_name
from cryptfs.group.authority import Tier
from cryptfs.vault import administration
from cryptfs.vault.vault import Vault
from tests.simulation import moves_of_checkpoints, moves_of_folders, moves_of_groups, moves_of_people
from tests.simulation.clockwork import determined
from tests.simulation.folder import Folder
from tests.simulation.founding import founded
from tests.simulation.invariants import Verdict
from tests.simulation.machine import Machine, vault_of
from tests.simulation.person import Mark
from tests.simulation.plans import CROWDED, Move, Plan, Trace, plan
from tests.vault.random_hand import Shown, shown

__all__ = ["Simulation", "run_plan", "simulate"]

T = TypeVar("T")

MOVES = moves_of_people.MOVES | moves_of_folders.MOVES | moves_of_groups.MOVES | moves_of_checkpoints.MOVES
ROUNDS_TO_REST = 14
"""Rounds of everybody sending and pulling after which nothing may move any more."""
PATIENCE = 120.0
"""Seconds that something may be absent from a listing before a device must say so."""
SECONDS_MAX = 20
"""Seconds of a processor after which a history counts as stuck."""


class Simulation:
    """One run of a plan."""

    def __init__(self, what: Plan, base: Path, trace: Trace) -> None:
        self.plan = what
        self.trace = trace
        self.base = base
        self.rng = random.Random(what.seed)
        self.clock = trio.testing.MockClock(autojump_threshold=0)
        group = founded()
        self.folder = Folder(group.store_of(what.devices))
        self.machines: list[Machine] = []
        for number, own in enumerate(group.keys[: what.devices]):
            self.add_machine(f"device {number}", own)
        self.marks: list[Mark] = []
        self.marked = self.windows = 0
        self.invited = 0
        self.backups: list[dict[str, bytes]] = []
        self.hidden: dict[str, bytes] = {}
        self.vanished: dict[str, bytes] = {}
        self.junk: set[str] = set()
        self.revised = False
        """An administrator has revised what counts: by a removal, a closing, an accept."""
        self.nursery: trio.Nursery

    def add_machine(self, name: str, keys: DeviceKeys) -> Machine:
        """One more device, down as yet."""
        number = len(self.machines)
        machine = Machine(name, keys, self.folder, self.base / str(number), self.rng.randrange(1 << 32))
        machine.crowded = self.plan.flavour in CROWDED
        machine.store.before_put = lambda key: self._may_put(machine, key)
        self.machines.append(machine)
        return machine

    def say(self, who: Machine | str, what: str) -> None:
        self.trace.say(who.name if isinstance(who, Machine) else who, what)

    def jump(self, seconds: float) -> None:
        """Let time pass for everybody."""
        self.clock.jump(seconds)

    async def run(self) -> None:
        """Both phases, and all that must hold afterwards."""
        async with trio.open_nursery() as self.nursery:
            for machine in self.machines:
                await machine.start(self.nursery)
            for move in self.plan.moves:
                await self._make(move)
            settled = await self._rest()
            await Verdict(self, settled).all(thorough=self.plan.seed % 3 == 0)
            for machine in self.machines:
                await machine.stop(kill=False)

    # ---- trouble

    async def _make(self, move: Move) -> None:
        rng = random.Random(move.seed)
        machine = self.machines[move.who % len(self.machines)]
        needs_vault = MOVES[move.kind] not in moves_of_folders.MOVES.values()
        if machine.vault is None and needs_vault:
            if trio.current_time() < machine.asleep_until:
                return
            await machine.start(self.nursery)
            self.say(machine, f"starts; {machine.trouble or 'fine'}")
            if machine.vault is None:
                return
        machine.store.draw_from(move.seed)
        with machine.clock.in_force():
            await MOVES[move.kind](self, machine, rng)
        for _ in range(rng.choice([0, 1, 5, 20])):
            await trio.lowlevel.checkpoint()

    def show_everything(self) -> None:
        """Nobody is shown an older folder any more; what was put there meanwhile lies in the one folder."""
        for machine in self.machines:
            if machine.store.world is not self.folder:
                self.folder.give_back(machine.store.world.snapshot())
                machine.store.world = self.folder
            machine.older_since = machine.missed_since = None
        self.folder.give_back(self.hidden | self.vanished)
        self.hidden, self.vanished = {}, {}

    def rolled_back_at(self, machine: Machine | None) -> None:
        """From now on the folder shows less to that device, or to all."""
        for one in self.machines if machine is None else [machine]:
            if one.older_since is None:
                one.older_since = trio.current_time()

    def shows_less(self, machine: Machine) -> bool:
        """Whether the device is shown less than there is."""
        missing = self.hidden or self.vanished or machine.knobs.stale_get
        return bool(missing) or machine.store.world is not self.folder

    def check_excuse(self, machine: Machine, err: CryptfsError) -> None:
        """35: what cannot be read is on its way, or the folder shows too little at the moment."""
        assert isinstance(err, StoreError) or self.shows_less(machine), f"cannot read what is there: {err}"

    async def seen_by(self, machine: Machine) -> Shown | None:
        """All that a device shows; None if it cannot, for a good reason."""
        return await self._ask(machine, lambda: shown(vault_of(machine)))

    async def unsent_of(self, machine: Machine) -> set[bytes] | None:
        """The contents that a device has not sent; None as above."""

        async def contents() -> set[bytes]:
            carried = dict.fromkeys(vault_of(machine).carried.values())
            return {bytes(await content.read(0, 1 << 20)) for content in carried}

        return await self._ask(machine, contents)

    async def _ask(self, machine: Machine, question: Callable[[], Awaitable[T]]) -> T | None:
        answers: list[T] = []

        async def ask() -> None:
            answers.append(await question())

        trouble = await machine.attempt(ask)
        if machine.error is not None:
            self.check_excuse(machine, machine.error)
            self.say(machine, f"cannot read everything: {trouble}")
        return answers[0] if answers else None

    def _may_put(self, machine: Machine, key: str) -> None:
        """A new segment is made on a view that is new. 32: and not on one that has less than its device had seen."""
        again = key in machine.store.tried or key in self.folder.ever  # the same bytes as before, or healing
        if not isinstance(parse_name(key), SegmentName) or again or machine.vault is None:
            return
        looked = machine.looks > machine.looks_used or machine.vault.standing.alone
        assert looked, f"{machine.name} seals without having looked at the folder"
        machine.looks_used = machine.looks
        if machine.missed_since is None or machine.looked_at - machine.missed_since <= PATIENCE:
            return
        there = machine.store.world.snapshot().keys()
        missed = [one for one in _last(machine.store.shown - self.junk) if one not in {*there, *self.vanished}]
        assert not missed, f"{machine.name} seals though the folder lacks {missed[:3]}, which it had seen"

    # ---- who is who

    def entries_of(self, machine: Machine, judge: Vault) -> list[bytes]:
        """The entries that a device has in the group, as another one knows it."""
        public = machine.keys.sign_public
        return [one.entry for one in judge.membership.graph.entries() if one.sign_pub == public]

    def logs_of(self, machine: Machine, judge: Vault) -> set[bytes]:
        """All logs of a device."""
        return {log for entry in self.entries_of(machine, judge) for log in judge.membership.graph.logs_of(entry)}

    def marks_known_to(self, machine: Machine) -> set[bytes]:
        return {one.name for one in self.marks if one.by == machine.name}

    def forget_unsent_marks(self, machine: Machine) -> None:
        """The device is set back: what it had not sent, and its backup does not know, is nobody's any more."""
        vault = machine.vault
        oldest = vault.pending.oldest_k if vault is not None and vault.unconfirmed is None else 0
        self.marks = [
            one
            for one in self.marks
            if one.by != machine.name
            or one.name in machine.kept
            or (vault is not None and (oldest is None or one.k < oldest))
        ]

    # ---- rest

    async def _rest(self) -> list[Machine]:
        """Faults end; returns the devices that are in the group, when nothing moves any more."""
        self.say("all", "faults end")
        now = self.folder.snapshot()
        wrong = [key for key, data in self.vanished.items() if now.get(key, data) != data]
        assert not wrong, f"{wrong[0]} was healed with other bytes"  # 37
        self.show_everything()
        self.folder.quota = None
        for name in self.junk:
            self.folder.remove(name)
        for machine in self.machines:
            machine.knobs.rest()
            machine.faults.act = None
            machine.clock.off_ns = 0
        before: set[str] = set()
        for number in range(ROUNDS_TO_REST):
            troubles = {one.name: trouble for one in self.machines if (trouble := await self._take_part(one))}
            self.jump(PATIENCE / 2)
            now = set(self.folder.snapshot())
            if now == before and not any(troubles.values()) and number > 0:
                break
            before = now
        else:
            raise AssertionError(f"the devices do not come to rest: {troubles}")
        settled = [one for one in self.machines if one.vault is not None and one.vault.standing.role is not None]
        assert settled, "nobody is left in the group"
        return [one for one in settled if not vault_of(one).pending]

    async def _take_part(self, machine: Machine) -> str:
        """One device sends and takes what there is; returns what hinders it, empty if nothing, or if it is out."""
        if machine.vault is None:
            await machine.start(self.nursery)
        vault = machine.vault
        if vault is None:
            return str(machine.trouble) if machine.expected else ""
        if machine.person is not None:
            machine.person.leave()

        async def act() -> None:
            await vault.sync()
            if (vault.standing.role or 0) >= Tier.ADMIN and administration.needs_reconciling(vault):
                await administration.reconcile(vault)
            if not vault.read_only:
                await vault.acknowledging.now()

        trouble = await machine.attempt(act)
        vault = machine.vault
        if vault is None:
            return trouble or "it died"
        role = vault.standing.role
        if vault.standing.over or (role is None and vault.membership.entry is not None):
            await machine.stop(kill=False)  # it goes on at its next start
            return "begins another log"
        if role is None or (role < Tier.WRITER and vault.pending):
            return ""  # it is out, or may not send what it has any more
        return trouble or ("has not sent everything" if vault.pending else "") or vault.trust.words


def _last(names: set[str]) -> list[str]:
    """Of these objects the statements, and of each log the last segment."""
    found: dict[bytes, tuple[int, str]] = {}
    for name in names:
        parsed = parse_name(name)
        if isinstance(parsed, StatementName):
            found[parsed.id] = 0, name
        elif isinstance(parsed, SegmentName):
            found[parsed.log_id] = max(found.get(parsed.log_id, (-1, "")), (parsed.seq, name))
    return [name for _, name in found.values()]


# ---- running ---------------------------------------------------------------------------------------------------------


def simulate(seed: int, *, turns: int | None = None, only: set[int] | None = None) -> Trace:
    """Run the history of a seed, or only some of its moves; what goes wrong is raised with the last moves."""
    whole = plan(seed, turns)
    return run_plan(whole if only is None else whole.without({one.number for one in whole.moves} - only))


def run_plan(what: Plan) -> Trace:
    """Run a history; what goes wrong is raised with its last moves, and the command that repeats it."""
    base = Path(tempfile.mkdtemp(prefix="cryptfs-simulated-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    trace = Trace()
    try:
        with _limited(SECONDS_MAX), determined(what.seed):
            simulation = Simulation(what, base, trace)
            trio.run(simulation.run, clock=simulation.clock)
    except BaseException as err:
        head = f"seed {what.seed}: {what.devices} devices, {len(what.moves)} moves of the flavour '{what.flavour}'"
        err.add_note("\n".join([head, *trace.lines[-60:], f"again: {what.command}"]))
        raise
    else:
        return trace
    finally:
        shutil.rmtree(base)


@contextmanager
def _limited(seconds: int) -> Iterator[None]:
    """A history that is stuck fails."""

    def stuck(*_: object) -> None:
        raise TimeoutError(f"stuck for {seconds} s")

    before = signal.signal(signal.SIGPROF, stuck)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
