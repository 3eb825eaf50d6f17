"""Moves of a simulated history: who is in the group, copies of devices, and what nobody needs any more."""

import random
import shutil
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from cryptfs.faults import Faults
from cryptfs.group.authority import Tier
from cryptfs.vault import administration as do
from cryptfs.vault.joining import Joining
from cryptfs.vault.latework import accept, close_log
from cryptfs.vault.upload import Sender
from cryptfs.vault.vault import Vault
from tests.simulation.clockwork import true_ms
from tests.simulation.founding import founded
from tests.simulation.machine import Machine

if TYPE_CHECKING:
    from tests.simulation.vault_group import Simulation

__all__ = ["MOVES"]

_WEEK_MS = 7 * 86_400_000


def administrator(sim: "Simulation", rng: random.Random) -> Machine | None:
    """A device that is up and may decide something."""
    able = [one for one in sim.machines if one.vault is not None and (one.vault.standing.role or 0) >= Tier.ADMIN]
    return rng.choice(able) if able else None


async def _decide(
    sim: "Simulation", rng: random.Random, what: str, act: Callable[[Vault, Machine], Awaitable[Any]]
) -> None:
    """Have an administrator's device, if one is up, do something."""
    machine = administrator(sim, rng)
    if machine is None or machine.vault is None:
        return
    vault = machine.vault
    trouble = await machine.attempt(lambda: act(vault, machine))
    sim.revised = sim.revised or act.__module__ == __name__
    sim.say(machine, f"{what}: {trouble or 'done'}")


async def invite(sim: "Simulation", _: Machine, rng: random.Random) -> None:
    """Somebody new is invited, and asks to be let in."""
    strangers = founded().strangers
    if sim.invited >= len(strangers):
        return
    keys = strangers[sim.invited]

    async def act(vault: Vault, machine: Machine) -> None:
        role = rng.choice([Tier.WRITER, Tier.WRITER, Tier.READER])
        token = await do.make_invitation(vault, role=role, expires_ms=true_ms() + 50 * _WEEK_MS, name="", member=b"")
        newcomer = sim.add_machine(f"newcomer {sim.invited}", keys)
        newcomer.expected = False
        sim.invited += 1
        newcomer.settle_in()
        joining = Joining(newcomer.home, keys)
        joining.prepare(token, newcomer.name, "laptop", true_ms())
        sender = Sender(newcomer.store, Faults())
        await joining.post(sender)
        sender.give_up()

    await _decide(sim, rng, "invites somebody", act)


async def approve(sim: "Simulation", _: Machine, rng: random.Random) -> None:
    """Who asked is let in."""
    waiting = [one for one in sim.machines if not one.expected and one.name.startswith("newcomer")]
    if not waiting:
        return
    who = rng.choice(waiting)

    async def act(vault: Vault, machine: Machine) -> None:
        await do.approve(vault, await do.find_request(vault, who.name))
        who.expected = True

    await _decide(sim, rng, f"lets {who.name} in", act)


async def remove(sim: "Simulation", machine: Machine, rng: random.Random) -> None:
    """A device is thrown out, and its log cut where the remover has seen it."""

    async def act(vault: Vault, by: Machine) -> None:
        entries = [one for one in sim.entries_of(machine, vault) if one in vault.membership.resolved.roster]
        if entries and by is not machine:
            await do.remove(vault, entries, [])

    await _decide(sim, rng, f"removes {machine.name}", act)


async def change_role(sim: "Simulation", machine: Machine, rng: random.Random) -> None:
    """A device gets another role: removed and added in one act."""
    role = rng.choice([Tier.WRITER, Tier.WRITER, Tier.ADMIN, Tier.READER])

    async def act(vault: Vault, by: Machine) -> None:
        await do.change_role(vault, sim.entries_of(machine, vault), role)

    await _decide(sim, rng, f"makes {machine.name} a {role.name.lower()}", act)


async def rotate(sim: "Simulation", _: Machine, rng: random.Random) -> None:
    """The key is changed."""
    await _decide(sim, rng, "changes the key", lambda vault, _: do.rotate(vault))


async def reconcile(sim: "Simulation", _: Machine, rng: random.Random) -> None:
    """What several administrators began at once is finished."""
    await _decide(sim, rng, "reconciles", lambda vault, _: do.reconcile(vault))


async def close(sim: "Simulation", machine: Machine, rng: random.Random) -> None:
    """The log of a silent device is closed."""

    async def act(vault: Vault, by: Machine) -> None:
        for one in sim.machines:
            one.closed_by_hand = one.closed_by_hand or one.keys is machine.keys
        for entry in sim.entries_of(machine, vault):
            await close_log(vault, entry, lost=False)

    await _decide(sim, rng, f"closes the log of {machine.name}", act)


async def accept_late(sim: "Simulation", _: Machine, rng: random.Random) -> None:
    """What came after the end of a log is to count after all."""

    async def act(vault: Vault, by: Machine) -> None:
        await vault.exchange.pull()
        if vault.reader.late:
            await accept(vault, rng.choice(sorted(vault.reader.late)))

    await _decide(sim, rng, "accepts late work", act)


# ---- copies of devices -----------------------------------------------------------------------------------------------


async def clone(sim: "Simulation", machine: Machine, _: random.Random) -> None:
    """The disk of a device, as it is at this moment, runs in a second machine."""
    if len(sim.machines) >= 6 or sum(one.keys is machine.keys for one in sim.machines) > 1:
        return
    other = sim.add_machine(f"copy of {machine.name}", machine.keys)
    machine.copy_home(other.base)
    other.expected = machine.expected
    other.forked_by_hand = machine.forked_by_hand = True
    other.store.shown = set(machine.store.shown)
    sim.say(machine, "exists twice")
    await other.start(sim.nursery)


async def keep_a_copy(sim: "Simulation", machine: Machine, _: random.Random) -> None:
    """A backup of a device is made, alive as it is."""
    to = machine.base.with_name(f"{machine.base.name}.kept")
    if to.exists():
        shutil.rmtree(to)
    machine.copy_home(to)
    machine.kept = sim.marks_known_to(machine)
    sim.say(machine, "is copied to a backup")


async def back_to_the_copy(sim: "Simulation", machine: Machine, _: random.Random) -> None:
    """The backup is put in the place of the device; what it had not sent since is gone."""
    kept = machine.base.with_name(f"{machine.base.name}.kept")
    if not kept.exists():
        return
    sim.forget_unsent_marks(machine)
    await machine.stop(kill=True)
    shutil.rmtree(machine.base)
    shutil.copytree(kept, machine.base)
    machine.forked_by_hand = True
    machine.store.shown.clear()  # it does not know any more what it had seen
    sim.say(machine, "is set back to its backup")
    await machine.start(sim.nursery)


# ---- what nobody needs -----------------------------------------------------------------------------------------------


async def collect(sim: "Simulation", machine: Machine, rng: random.Random) -> None:
    """One run of the collector."""
    vault = machine.vault
    assert vault is not None
    now, history = rng.random() < 0.5, rng.random() < 0.3
    if history and (vault.standing.role or 0) < Tier.ADMIN:
        history = False
    trouble = await machine.attempt(lambda: vault.collector.run(now=now, history=history))
    last = vault.collector.last
    told = trouble or (last.held_back if last is not None else "")
    done = f"retires {last.retired}, deletes {last.deleted}, {last.remaining} wait" if last and not told else told
    sim.say(machine, f"collects{' now' * now}{', history too' * history}: {done}")


async def acknowledge(sim: "Simulation", machine: Machine, _: random.Random) -> None:
    """It says what it has seen."""
    vault = machine.vault
    assert vault is not None

    async def act() -> None:
        await vault.exchange.pull()
        await vault.acknowledging.now()

    sim.say(machine, f"acknowledges: {await machine.attempt(act) or 'done'}")


async def empty_trash(sim: "Simulation", _: Machine, rng: random.Random) -> None:
    """Old versions and the trash are let go, and everybody hears of it."""

    async def act(vault: Vault, by: Machine) -> None:
        await vault.collector.run(now=True, history=True)

    await _decide(sim, rng, "empties the trash", act)
    await rounds(sim, _, rng)


async def spring_clean(sim: "Simulation", _: Machine, rng: random.Random) -> None:
    """All that are up do their part until what nobody uses is deleted; files that are open stay open."""
    await empty_trash(sim, _, rng)
    for _turn in range(2):
        for machine in sim.machines:
            if machine.vault is not None:
                await machine.attempt(partial(machine.vault.collector.run, now=True))
        await rounds(sim, _, rng)
    done = [one.vault.collector.last for one in sim.machines if one.vault is not None]
    sim.say("all", f"clean up: {sum(one.deleted for one in done if one is not None)} packs deleted last")


async def rounds(sim: "Simulation", _: Machine, rng: random.Random) -> None:
    """All that are up send, pull, acknowledge, and collect what may go."""
    for machine in sim.machines:
        if machine.vault is None or rng.random() < 0.2:
            continue
        vault = machine.vault

        async def act(vault: Vault = vault) -> None:
            await vault.exchange.pull()
            await vault.sealer.seal()
            await vault.acknowledging.now()

        trouble = await machine.attempt(act)
        sim.say(machine, f"takes part in a round{': ' * bool(trouble)}{trouble}")


MOVES = {
    "invite": invite, "approve": approve, "remove": remove, "change role": change_role, "rotate": rotate,
    "reconcile": reconcile, "close log": close, "accept late": accept_late, "clone": clone, "keep a copy": keep_a_copy,
    "back to the copy": back_to_the_copy, "collect": collect, "acknowledge": acknowledge, "empty trash": empty_trash,
    "rounds": rounds, "spring clean": spring_clean,
}  # fmt: skip
