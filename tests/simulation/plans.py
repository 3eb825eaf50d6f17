"""Which moves a history has: drawn from a seed before it begins, so that some can be left out and the rest stay."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["CROWDED", "FLAVOURS", "Move", "Plan", "Trace", "plan", "usual_turns"]


@dataclass(frozen=True)
class Move:
    """The n-th move: what kind, whose turn (modulo those there are), and the seed of all chance in it."""

    number: int
    kind: str
    who: int
    seed: int


@dataclass(frozen=True)
class Plan:
    """One history to be: seed, how many devices it begins with, its flavour, its moves."""

    seed: int
    devices: int
    flavour: str
    turns: int
    moves: tuple[Move, ...]

    def without(self, numbers: set[int]) -> "Plan":
        """The same without some moves."""
        kept = tuple(one for one in self.moves if one.number not in numbers)
        return Plan(self.seed, self.devices, self.flavour, self.turns, kept)

    def told(self) -> dict[str, Any]:
        """As JSON has it: a history that was drawn once stays what it was, whatever is drawn for its seed later."""
        moves = [[one.number, one.kind, one.who, one.seed] for one in self.moves]
        return {
            "seed": self.seed, "devices": self.devices, "flavour": self.flavour, "turns": self.turns, "moves": moves,
        }  # fmt: skip

    @classmethod
    def of(cls, told: dict[str, Any]) -> "Plan":
        """The inverse of `told`."""
        return cls(**(told | {"moves": tuple(Move(*one) for one in told["moves"])}))

    @property
    def command(self) -> str:
        """What repeats it."""
        numbers = {one.number for one in self.moves}
        only = "" if len(numbers) == self.turns else f" --only {','.join(map(str, sorted(numbers)))}"
        return f"python -m tests.simulation.soak --first {self.seed} --runs 1 --turns {self.turns}{only}"


@dataclass
class Trace:
    """What happened, a line each, to read when a run fails."""

    lines: list[str] = field(default_factory=list)

    def say(self, who: str, what: str) -> None:
        self.lines.append(f"{len(self.lines):4} {who}: {what}")


_DAILY: Mapping[str, int] = {
    "work": 40, "mark": 6, "seal": 17, "pull": 12, "commit": 5, "weather": 5, "kill": 4, "power cut": 3, "restart": 3,
    "lose cache": 2, "look back": 2, "sleep": 2, "close files": 2,
}  # fmt: skip

FLAVOURS: Mapping[str, Mapping[str, int]] = {
    "daily": _DAILY,
    "crowd": _DAILY | {"work": 60, "seal": 25, "pull": 18, "send": 8},
    "collection": _DAILY | {
        "work": 26, "empty trash": 6, "weeks pass": 5, "collect": 12, "acknowledge": 6, "send": 10, "quota": 1,
        "rounds": 3, "power cut": 4, "spring clean": 5, "window": 6,
    },
    "group": _DAILY | {
        "work": 26, "invite": 4, "approve": 8, "remove": 3, "change role": 4, "rotate": 3, "close log": 4,
        "accept late": 2, "reconcile": 2, "collect": 3, "send": 6, "weeks pass": 1,
    },
    "copies": _DAILY | {
        "work": 26, "mark": 9, "clone": 4, "keep a copy": 5, "back to the copy": 4, "send": 6, "close log": 1,
    },
    "folder": _DAILY | {
        "work": 26, "remember the folder": 6, "folder of old": 3, "old for long": 3, "folder of old for one": 3,
        "folder again": 3, "object vanishes": 3, "heal": 4, "junk": 2, "quota": 3, "clock jumps": 4, "send": 8,
        "weather": 8, "wait": 10,
    },
    "all": _DAILY | {
        "send": 8, "collect": 4, "acknowledge": 3, "weeks pass": 3, "empty trash": 2, "invite": 2, "approve": 4,
        "remove": 1, "change role": 2, "rotate": 1, "close log": 2, "accept late": 1, "reconcile": 1, "clone": 1,
        "keep a copy": 2, "back to the copy": 2, "remember the folder": 2, "folder of old": 1,
        "folder of old for one": 1, "folder again": 2, "object vanishes": 1, "heal": 1, "clock jumps": 1, "quota": 1,
        "spring clean": 1, "window": 1,
    },
    "checkpoints": _DAILY | {
        "work": 26, "checkpoint": 9, "vouch": 8, "everybody vouches": 4, "send": 8, "lose cache": 7, "rounds": 4,
        "acknowledge": 3, "collect": 3, "empty trash": 1, "invite": 2, "approve": 4, "remove": 1, "close log": 2,
        "accept late": 2, "clone": 1, "keep a copy": 1, "back to the copy": 1,
    },
}  # fmt: skip
"""By flavour how often each kind of move comes, in proportion."""


SHORT = 15
"""Moves up to which a history has few devices, so that something comes of it."""


CROWDED = ("crowd", "collection")
"""Flavours in which all work on the same few files."""


def usual_turns(seed: int) -> int:
    """Many short histories, some longer, few long: most of what goes wrong takes few moves."""
    return 60 if seed % 40 == 0 else 25 if seed % 5 == 0 else 10


def plan(seed: int, turns: int | None = None) -> Plan:
    """The history of a seed: 2 to 5 devices, one of the flavours, `turns` moves or the usual number."""
    turns = usual_turns(seed) if turns is None else turns
    rng = random.Random(seed)
    devices = rng.choice([2, 2, 3] if turns <= SHORT else [2, 3, 3, 4, 5])
    flavour = rng.choice(list(FLAVOURS))
    kinds, weights = zip(*FLAVOURS[flavour].items(), strict=True)
    moves = tuple(
        Move(number, kind, rng.randrange(1 << 16), rng.randrange(1 << 32))
        for number, kind in enumerate(rng.choices(kinds, weights, k=turns))
    )
    return Plan(seed, devices, flavour, turns, moves)
