"""Moves of a simulated history: checkpoints are made, looked at and vouched for, and devices begin from them."""

import random
from typing import TYPE_CHECKING

from tests.simulation.machine import Machine

if TYPE_CHECKING:
    from tests.simulation.vault_group import Simulation

__all__ = ["MOVES"]


async def checkpoint(sim: "Simulation", machine: Machine, _: random.Random) -> None:
    """It makes a checkpoint of what is stable, whatever the need."""
    vault = machine.vault
    assert vault is not None

    async def act() -> None:
        await vault.exchange.pull()
        await vault.checkpointing.look()
        await vault.checkpointing.make()

    trouble = await machine.attempt(act)
    newest = vault.checkpointing.newest
    sim.say(machine, f"makes a checkpoint: {trouble or (newest and newest.stamp)}")


async def vouch(sim: "Simulation", machine: Machine, rng: random.Random) -> None:
    """It looks at the checkpoints that there are, and says what it found."""
    vault = machine.vault
    assert vault is not None

    async def act() -> None:
        await vault.exchange.pull()
        await vault.checkpointing.look()
        if rng.random() < 0.7:
            await vault.introduce()

    trouble = await machine.attempt(act)
    sim.say(machine, f"looks at checkpoints: {trouble or f'floor {vault.horizon.floor().stamp}'}")


async def everybody_vouches(sim: "Simulation", _: Machine, rng: random.Random) -> None:
    """All that are up do so in turn, twice: the floor may rise."""
    for _turn in range(2):
        for machine in sim.machines:
            if machine.vault is not None and rng.random() < 0.9:
                await vouch(sim, machine, rng)


MOVES = {"checkpoint": checkpoint, "vouch": vouch, "everybody vouches": everybody_vouches}
