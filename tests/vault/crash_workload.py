"""A vault at work in a process of its own that is killed at its n-th step.

Steps are the calls that change this machine's disk, the store's folder among it: each is a moment before which the
process may die. What the vault has promised stands in a file that only grows.
"""

import os
import random
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from cryptfs.crypto.keyfile import DeviceKeys
from cryptfs.store import DirectoryStore
from cryptfs.vault import manifest, records, sealer
from cryptfs.vault.upkeep import Upkeep
from cryptfs.vault.vault import Vault
from tests.vault.vault_workshop import Workshop, make_file, remove_file

State = dict[bytes, bytes]

WATCHED = ("fsync", "fdatasync", "pwrite", "rename", "replace", "unlink", "link", "ftruncate")
"""Functions of `os` whose calls count as steps."""


@dataclass(frozen=True)
class Action:
    """`kind`: make, write, save, cut, remove (they change the state), or commit, seal, compact, evict.

    `save` is a write to a file that stays open, put down for the commit that follows, as `fsync` does.
    """

    kind: str
    name: bytes = b""
    offset: int = 0
    data: bytes = b""


def plan(seed: int, length: int = 26) -> list[Action]:
    """A history: small and large saves, overwrites, removals, with commits and seals in between."""
    rng = random.Random(seed)
    actions: list[Action] = []
    names: list[bytes] = []
    for number in range(length):
        kind = rng.random()
        if names and kind < 0.1:
            actions.append(Action("remove", names.pop(rng.randrange(len(names)))))
        elif names and kind < 0.2:
            actions.append(Action("cut", rng.choice(names), rng.randrange(100_000)))
        else:
            if not names or kind < 0.6:
                names.append(b"n%d" % number)
                actions.append(Action("make", names[-1]))
            size = rng.choice([10, 3000, 70_000, 300_000, 1_200_000])
            actions.append(Action("write", rng.choice(names), rng.randrange(60_000), rng.randbytes(size)))
        if names and rng.random() < 0.3:
            actions.append(Action("save", rng.choice(names), rng.randrange(60_000), rng.randbytes(500)))
            actions.append(Action("commit"))
        kind = rng.random()
        if kind < 0.5:
            actions.append(Action("commit"))
        if kind < 0.25:
            actions.append(Action("seal"))
        if kind < 0.06:
            actions.append(Action("compact"))
        if kind > 0.94:
            actions.append(Action("evict"))
    return [*actions, Action("commit"), Action("seal"), Action("commit")]


def states(actions: list[Action]) -> list[State]:
    """What the tree looks like before the first action and after each."""
    seen: list[State] = [{}]
    for action in actions:
        state = dict(seen[-1])
        old = state.get(action.name, b"")
        match action.kind:
            case "make":
                state[action.name] = b""
            case "write" | "save":
                at = action.offset
                state[action.name] = old[:at].ljust(at, b"\0") + action.data + old[at + len(action.data) :]
            case "cut":
                state[action.name] = old[: action.offset].ljust(action.offset, b"\0")
            case "remove":
                del state[action.name]
        seen.append(state)
    return seen


async def act(vault: Vault, action: Action) -> None:
    """Carry out one action."""
    match action.kind:
        case "make":
            make_file(vault, action.name)
        case "remove":
            entry = vault.replica.lookup(1, action.name)
            remove_file(vault, action.name)
            content = vault.files.get(entry.st) if entry is not None else None
            if content is not None:
                content.detached = True
        case "save":
            entry = vault.replica.lookup(1, action.name)
            assert entry is not None
            content = vault.open_file(entry.st)
            await content.write(action.offset, action.data, 1)
            content.persist()
        case "write" | "cut":
            entry = vault.replica.lookup(1, action.name)
            assert entry is not None
            content = vault.open_file(entry.st)
            if action.kind == "write":
                await content.write(action.offset, action.data, 1)
            else:
                await content.truncate(action.offset, 1)
            content.hand_over_now()
            vault.release_file(content)
        case "commit":
            await vault.commit()
            vault.replica.commit()
        case "seal":
            await vault.sealer.seal()
        case "compact":
            await vault.journal.compact()
        case "evict":
            vault.cache.evict()


class Killer:
    """Counts steps and kills the process before the `at`-th; 0 only counts."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.count = 0
        self._lock = threading.Lock()

    def watch(self) -> None:
        for name in WATCHED:
            setattr(os, name, self._watched(getattr(os, name)))

    def _watched(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            with self._lock:
                self.count += 1
                if self.count == self.at:
                    os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)

        return call


def workshop_at(base: Path, keys: DeviceKeys) -> Workshop:
    return Workshop(base, keys, lambda: DirectoryStore(base / "store"))


def perform(base: str, keys: DeviceKeys, seed: int, at: int) -> None:
    """Run the plan of this seed; entry point of the process. Writes one line for each thing that happened."""
    promises = os.open(f"{base}/promises", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    killer = Killer(at)

    def say(word: str, number: int) -> None:
        os.write(promises, f"{word} {number}\n".encode())

    async def run() -> None:
        async with workshop_at(Path(base), keys).open() as vault:
            vault.shut_down = trio.lowlevel.checkpoint  # type: ignore[method-assign]
            for number, action in enumerate(plan(seed), start=1):
                say("began", number)
                await act(vault, action)
                if action.kind == "commit":
                    say("promised", number)

    stand_still()
    if seed % 2:  # small files go the ways of large ones
        records.SHARED_PACK_TARGET, sealer._BODY2_TARGET, manifest.INLINE_MAX = 150_000, 80_000, 400
    killer.watch()
    trio.run(run)
    say("steps", killer.count)


def recover(base: str, keys: DeviceKeys, at: int) -> None:
    """Open the vault and send what is pending; entry point of a process that is killed in its recovery."""
    killer = Killer(at)

    async def run() -> None:
        async with workshop_at(Path(base), keys).open() as vault:
            await vault.sync()

    stand_still()
    killer.watch()
    trio.run(run)


def stand_still() -> None:
    """No background tasks: every run of a plan passes the same steps."""

    async def run(self: Upkeep, nursery: trio.Nursery) -> None:
        await trio.lowlevel.checkpoint()

    Upkeep.run = run  # type: ignore[method-assign]
