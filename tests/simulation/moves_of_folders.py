"""Moves of a simulated history: what the provider, the weather and time do to a group and its folder."""

import functools
import random
from typing import TYPE_CHECKING

import trio

from cryptfs.errors import StoreGone
from tests.simulation.machine import Machine

if TYPE_CHECKING:
    from tests.simulation.vault_group import Simulation

__all__ = ["MOVES"]

_DAY = 86_400
_YEAR_NS = 365 * _DAY * 10**9


async def weather(sim: "Simulation", machine: Machine, rng: random.Random) -> None:
    """The store gets better or worse for one device."""
    knobs = machine.knobs
    knobs.rest()
    kind = rng.choice(["fine", "fine", "gone", "flaky", "lagging", "partial", "ghostly", "shuffled", "stale"])
    sim.say(machine, f"finds the store {kind}")
    if kind == "gone":
        knobs.outage = functools.partial(StoreGone, "cut off")
    elif kind == "flaky":
        knobs.before = knobs.after = 0.2
    elif kind == "lagging":
        knobs.list_lag = 3
    elif kind == "partial":
        knobs.partial = 0.5
    elif kind == "ghostly":
        knobs.ghost_lag = 3
    elif kind == "shuffled":
        knobs.unordered_changes, knobs.lost_cursor = True, 0.2
    elif kind == "stale":
        knobs.stale_get = 0.1


async def quota(sim: "Simulation", machine: Machine, rng: random.Random) -> None:
    """The folder is full for everybody, or has room again."""
    full = sim.folder.quota is None and rng.random() < 0.7
    sim.folder.quota = sim.folder.used() + rng.choice([0, 3000, 100_000]) if full else None
    sim.say("folder", "is nearly full" if full else "has room")


async def remember_the_folder(sim: "Simulation", machine: Machine, _: random.Random) -> None:
    """Somebody makes a backup of the folder."""
    sim.backups.append(sim.folder.snapshot())
    sim.say("folder", "is remembered")


async def folder_of_old(sim: "Simulation", machine: Machine, rng: random.Random) -> None:
    """A backup of the folder is restored."""
    if not sim.backups or sim.hidden:
        return
    older = rng.choice(sim.backups)
    now = sim.folder.snapshot()
    sim.hidden = {key: data for key, data in now.items() if key not in older}
    if not sim.hidden:
        return  # nobody has anything to notice
    sim.folder.restore({key: data for key, data in older.items() if key in now})
    sim.rolled_back_at(None)
    sim.say("folder", f"is as it was: without {len(sim.hidden)} objects")


async def folder_of_old_for_one(sim: "Simulation", machine: Machine, rng: random.Random) -> None:
    """One device is shown an older folder, and what it puts there nobody else sees."""
    if not sim.backups or machine.store.world is not sim.folder:
        return
    machine.store.world = sim.folder.beside(rng.choice(sim.backups))
    sim.rolled_back_at(machine)
    sim.say(machine, "is shown the folder as it was")


async def folder_again(sim: "Simulation", machine: Machine, _: random.Random) -> None:
    """Everything is there again, for everybody."""
    sim.show_everything()
    sim.say("folder", "is whole again")


async def old_for_long(sim: "Simulation", machine: Machine, rng: random.Random) -> None:
    """A backup is restored and stays: everybody looks, is patient, looks again, and would go on."""
    await folder_of_old(sim, machine, rng)
    for _look in range(3):
        for one in sim.machines:
            if one.vault is not None:
                await one.attempt(one.vault.exchange.pull)
        sim.jump(130)
    for one in sim.machines:
        if one.vault is not None:
            sim.say(one, f"would go on: {await one.attempt(one.vault.sealer.seal) or 'fine'}")


async def object_vanishes(sim: "Simulation", machine: Machine, rng: random.Random) -> None:
    """The provider loses an object, or somebody tidies up."""
    names = sorted(key for key in sim.folder.snapshot() if key[:2] in ("l/", "p/"))
    if names:
        key = rng.choice(names)
        sim.vanished[key] = sim.folder.snapshot()[key]
        sim.folder.lose(key)
        sim.say("folder", f"loses {key}")


async def heal(sim: "Simulation", machine: Machine, rng: random.Random) -> None:
    """A device puts back what it has of what is missing, by itself in its time or because it is asked."""
    vault = machine.vault
    if vault is not None:
        asked = rng.random() < 0.5
        trouble = await machine.attempt(vault.healer.heal if asked else vault.healer.watch)
        sim.say(machine, f"{'heals' if asked else 'looks for what is missing'}: {trouble or 'done'}")


async def junk(sim: "Simulation", machine: Machine, rng: random.Random) -> None:
    """Somebody puts objects there that look like segments and are none: torn, doubled under another name, invented."""
    objects = sim.folder.snapshot()
    names = sorted(key for key in objects if key.startswith("l/"))
    if not names:
        return
    key = rng.choice(names)
    data = objects[key]
    kind = rng.choice(["torn", "changed", "of another place"])
    h16 = rng.randbytes(8).hex()
    name = key[: -len(h16)] + h16 if kind != "of another place" else rng.choice(names)[:-1] + rng.choice("0123456789ab")
    if name in objects:
        return
    at = rng.randrange(len(data))
    made = {"torn": data[:at], "changed": data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]}.get(kind, data)
    sim.folder.plant(name, made)
    sim.junk.add(name)
    sim.say("folder", f"has a {kind} copy of {key} as {name}")


# ---- time ------------------------------------------------------------------------------------------------------------


async def sleep(sim: "Simulation", machine: Machine, rng: random.Random) -> None:
    """A device sleeps with what it has not sent; others go on. It is down until somebody starts it."""
    sim.say(machine, "is switched off")
    await machine.stop(kill=rng.random() < 0.5)
    machine.asleep_until = trio.current_time() + rng.choice([10, 3600, _DAY, 20 * _DAY])


async def wait(sim: "Simulation", machine: Machine, rng: random.Random) -> None:
    """Some minutes pass."""
    sim.jump(rng.choice([130, 700, 4000]))


async def weeks_pass(sim: "Simulation", machine: Machine, rng: random.Random) -> None:
    """So many days that some delay is over."""
    days = rng.choice([1, 2, 5, 33])
    sim.say("time", f"{days} days pass")
    sim.jump(days * _DAY + 60)


async def clock_jumps(sim: "Simulation", machine: Machine, rng: random.Random) -> None:
    """A device's clock is years off, or right again."""
    machine.clock.off_ns = rng.choice([0, 0, -3, 2, 40, 200]) * _YEAR_NS + rng.randrange(10**9)
    sim.say(machine, f"has a clock that is {machine.clock.off_ns / _YEAR_NS:.0f} years off")


MOVES = {
    "weather": weather, "quota": quota, "remember the folder": remember_the_folder, "folder of old": folder_of_old,
    "folder of old for one": folder_of_old_for_one, "folder again": folder_again, "old for long": old_for_long,
    "object vanishes": object_vanishes,
    "heal": heal, "junk": junk, "sleep": sleep, "wait": wait, "weeks pass": weeks_pass, "clock jumps": clock_jumps,
}  # fmt: skip
