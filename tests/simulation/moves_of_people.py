"""Moves of a simulated history: what people do all day, and how their devices die under them."""

import functools
import random
from typing import TYPE_CHECKING, Any

from cryptfs.errors import StoreGone
from cryptfs.vault.restoring import Restorer
from cryptfs.vault.vault import Vault
from tests.simulation.judging import deleted_here, difference, own_edits
from tests.simulation.machine import Machine, vault_of
from tests.vault.random_hand import shown

if TYPE_CHECKING:
    from tests.simulation.vault_group import Simulation

__all__ = ["MOVES"]


async def work(sim: "Simulation", machine: Machine, rng: random.Random) -> None:
    """Someone changes files."""
    vault, said = machine.vault, list[str]()
    first = vault.next_k if vault is not None else 0
    for _ in range(rng.choice([1, 1, 3, 8])):
        if machine.vault is None or machine.person is None or machine.vault.read_only:
            break
        machine.person.act_by(rng)
        trouble = await machine.attempt(machine.person.act)
        if trouble:
            said.append(trouble)
    if machine.vault is not None:
        ops = [type(one.op).__name__.lower() for one in machine.vault.pending.entries() if one.k >= first]
        said[:0] = ops
    if said:
        sim.say(machine, f"works: {', '.join(said)}")


async def mark(sim: "Simulation", machine: Machine, rng: random.Random) -> None:
    """A file of its own is made, and made durable."""
    vault, person = machine.vault, machine.person
    if vault is None or person is None or vault.read_only:
        return
    person.act_by(rng)
    made = []

    async def make() -> None:
        sim.marked += 1
        one = await person.mark(b"mark-%d" % sim.marked, machine.name)
        await vault.commit()
        made.append(one)

    trouble = await machine.attempt(make)
    sim.marks.extend(made)
    sim.say(machine, f"makes {made[0].name.decode()}" if made else f"makes a mark: {trouble}")


async def seal(sim: "Simulation", machine: Machine, _: random.Random) -> None:
    """A segment is made, beside everything else."""
    assert machine.vault is not None
    sim.say(machine, f"seals {len(machine.vault.pending)} operations")
    machine.background("seal", machine.vault.sealer.seal)


async def pull(sim: "Simulation", machine: Machine, _: random.Random) -> None:
    """What others did comes in, beside everything else."""
    assert machine.vault is not None
    sim.say(machine, "pulls")
    machine.background("pull", functools.partial(_pulled, machine.vault))


async def _pulled(vault: Vault) -> None:
    """Invariant 18: what is written here and not sealed stays visible."""
    take = vault.reader._take

    def watched(*args: Any) -> None:
        mine = own_edits(vault)
        take(*args)
        left = {entry.k for entry in vault.pending.entries()}
        lost = (mine & left) - own_edits(vault) - deleted_here(vault)
        assert not lost, f"own unsealed edits {lost} are not visible any more"

    vault.reader._take = watched
    try:
        await vault.exchange.pull()
    finally:
        vault.reader._take = take


async def commit(sim: "Simulation", machine: Machine, _: random.Random) -> None:
    """What was done becomes durable here, beside everything else."""
    vault = machine.vault
    assert vault is not None

    async def do() -> None:
        await vault.commit()
        vault.replica.commit()

    sim.say(machine, "commits")
    machine.background("commit", do)


async def send(sim: "Simulation", machine: Machine, _: random.Random) -> None:
    """`cryptfs sync`, for a while."""
    vault = machine.vault
    assert vault is not None

    sim.say(machine, f"syncs; {await machine.attempt(vault.sync) or 'fine'}")


async def look_back(sim: "Simulation", machine: Machine, rng: random.Random) -> None:
    """Something comes back from the trash, or an old version."""
    vault = machine.vault
    assert vault is not None
    paths = [path for path, st in vault.replica.walk() if b"mark-" not in path]
    path = rng.choice(paths) if paths and rng.random() < 0.5 else b"/" + rng.choice([b"a", b"b", b"a/b", b"c"])

    async def do() -> None:
        await Restorer(vault).restore(path.lstrip(b"/"))

    sim.say(machine, f"brings {path.decode()} back: {await machine.attempt(do) or 'done'}")


async def close_files(sim: "Simulation", machine: Machine, _: random.Random) -> None:
    """Programs close what they had open."""
    person = machine.person
    if person is not None and person.held:

        async def do() -> None:
            person.leave()

        sim.say(machine, f"closes {len(person.held)} files{await machine.attempt(do)}")


async def window(sim: "Simulation", machine: Machine, rng: random.Random) -> None:
    """A program keeps a file open that somebody else has made, and writes anew: its old records may soon be unused."""
    others = [one for one in sim.machines if one is not machine and one.vault is not None and one.person is not None]
    if not others or machine.person is None:
        return
    maker, person = rng.choice(others), machine.person
    sim.windows += 1
    name = b"window-%d" % sim.windows

    async def make() -> None:
        assert maker.person is not None
        await maker.person.make_large(name, rng.randbytes(150_000))

    async def open_it() -> None:
        await vault_of(machine).exchange.pull()
        person.hold(name)

    async def write_anew() -> None:
        assert maker.person is not None
        await maker.person.write_anew(name, rng.randbytes(90_000))
        await vault_of(maker).sync()

    steps = ((maker, make), (maker, lambda: vault_of(maker).sync()), (machine, open_it), (maker, write_anew))
    trouble = ""
    for who, step in steps:
        if who.vault is None or who.vault.read_only:
            return
        trouble = trouble or await who.attempt(step)
    sim.say(machine, f"keeps {name.decode()} open, which {maker.name} writes anew: {trouble or 'done'}")


# ---- dying -----------------------------------------------------------------------------------------------------------


async def kill(sim: "Simulation", machine: Machine, rng: random.Random) -> None:
    """Invariant 20: what is durable is there again, also without the store, and nothing else changed."""
    vault = machine.vault
    assert vault is not None
    quiet = not machine.busy and not any(content.dirty for content in vault.files.values())
    promised = None
    if quiet and rng.random() < 0.7 and not await machine.attempt(vault.commit) and machine.vault is not None:
        vault.replica.commit()
        promised = await sim.seen_by(machine)
    sim.say(machine, "is killed" if promised is None else "is killed after a commit")
    await machine.stop(kill=True)
    outage, machine.knobs.outage = machine.knobs.outage, functools.partial(StoreGone, "cut off")
    await machine.start(sim.nursery)
    machine.knobs.outage = outage
    if machine.vault is not None and promised is not None and not sim.shows_less(machine):
        machine.knobs.rest()
        again = await shown(machine.vault)
        assert again == promised, f"a kill changed what is shown: {difference(promised, again)}"


async def power_cut(sim: "Simulation", machine: Machine, rng: random.Random) -> None:
    """It dies at any step of whatever comes next."""
    step = rng.choice([1, 2, 3, 5, 8, 13, 21])
    sim.say(machine, f"will die at step {step} from here")
    machine.cut_power_at(step)
    vault = machine.vault
    assert vault is not None
    do = rng.choice([vault.sync, vault.sync, vault.commit, vault.journal.compact, vault.exchange.pull])
    sim.say(machine, f"goes on, and then: {await machine.attempt(do) or 'nothing happened'}")


async def restart(sim: "Simulation", machine: Machine, _: random.Random) -> None:
    """An orderly end and a new start."""
    sim.say(machine, "restarts")
    await machine.stop(kill=False)
    await machine.start(sim.nursery)


async def lose_cache(sim: "Simulation", machine: Machine, rng: random.Random) -> None:
    """What is not sealed is whole again, byte for byte, or the vault does not open yet."""
    vault = machine.vault
    assert vault is not None
    quiet = not machine.busy and not any(content.dirty for content in vault.contents())
    trouble = await machine.attempt(vault.commit)
    mine = await sim.unsent_of(machine) if quiet and not trouble and machine.vault is not None else None
    part = rng.choice(["its cache", "its cache", "its replica", "its cached packs"])
    sim.say(machine, f"loses {part}")
    await machine.stop(kill=True)
    replica = machine.home.replica_file
    if part == "its cache":
        machine.lose(machine.home.cache_dir)
    elif part == "its replica":
        machine.lose(*(replica.with_name(replica.name + suffix) for suffix in ("", "-wal", "-shm")))
    else:
        machine.lose(machine.home.cached_packs_dir)
    await machine.start(sim.nursery)
    if machine.vault is not None and mine and not machine.vault.standing.over:
        again = await sim.unsent_of(machine)
        assert again is None or mine <= again, "an unsent content is not what it was"


MOVES = {
    "work": work, "mark": mark, "seal": seal, "pull": pull, "commit": commit, "send": send, "look back": look_back,
    "close files": close_files, "window": window,
    "kill": kill, "power cut": power_cut, "restart": restart, "lose cache": lose_cache,
}  # fmt: skip
