"""Who sits at a simulated device: a random hand that also makes marks, which nobody changes, and goes back in history.

A mark is a file of a name and content of its own. However devices die, fork and come back: a mark that was made durable
must be in the tree of everybody in the end, unless its device itself was set back to before it.
"""

import random
from dataclasses import dataclass

from cryptfs.format.operation import KIND_DIR, KIND_FILE, Create, provisional_ino
from cryptfs.tree.rows import Entry
from cryptfs.vault.vault import Vault
from tests.vault.random_hand import Hand

__all__ = ["Mark", "Person", "is_mark"]

FEW = [b"a", b"b", b"c"]


@dataclass
class Mark:
    """A file that must not get lost. `by`: name of the device; `k`: number of its last operation there."""

    name: bytes
    data: bytes
    by: str
    k: int


def is_mark(name: bytes) -> bool:
    """Whether a file is somebody's mark."""
    return name.startswith(b"mark-")


class Person(Hand):
    """A hand that leaves marks alone. `crowded`: it knows few places, so that people get into each other's way."""

    def __init__(self, vault: Vault, rng: random.Random, *, crowded: bool = False) -> None:
        super().__init__(vault, rng)
        self.crowded = crowded
        if crowded:
            self.names = FEW

    def act_by(self, rng: random.Random) -> None:
        """Chance comes from there from now on."""
        self.rng = rng

    def directory(self) -> int:
        """As `Hand`; in a crowd the root, or a folder right in it."""
        if not self.crowded:
            return super().directory()
        folders = [st for _, st, kind in self.replica.entries(1) if kind == KIND_DIR]
        return self.rng.choice([1, 1, *folders[:2]])

    def entry(self) -> Entry | None:
        """As `Hand`, but no mark."""
        parent = self.directory()
        names = [name for name, _, _ in self.replica.entries(parent) if not is_mark(name)]
        return self.replica.lookup(parent, self.rng.choice(names)) if names else None

    async def write(self) -> None:
        """As `Hand`, or on in a file that a program has open, wherever a merge has put it."""
        open_ = [one for one in self.held.values() if not one.detached]
        if not open_ or self.rng.random() < 0.6:
            await super().write()
            return
        content = self.rng.choice(open_)
        await content.write(self.rng.randrange(70_000), self.rng.randbytes(self.rng.choice([1, 3000])), 10**9)
        if self.rng.random() < 0.5:
            content.hand_over_now()  # it is saved
        content.persist()

    async def mark(self, name: bytes, by: str) -> Mark:
        """Make one in the root."""
        root = self.replica.ino_of(1)
        k = self.vault.submit(Create(root, name, KIND_FILE, 0o600, 1, 2, 0, 7, b"", None))
        st = self.replica.st_of(provisional_ino(k))
        assert st is not None
        data = self.rng.randbytes(self.rng.choice([20, 700, 30_000, 70_000]))
        content = self.vault.open_file(st)
        await content.write(0, data, 10**9)
        self.vault.release_file(content)
        return Mark(name, data, by, self.vault.next_k - 1)

    async def make_large(self, name: bytes, data: bytes) -> None:
        """A file in the root, large enough for several chunks and a pack."""
        k = self.vault.submit(Create(self.replica.ino_of(1), name, KIND_FILE, 0o600, 1, 2, 0, 7, b"", None))
        st = self.replica.st_of(provisional_ino(k))
        assert st is not None
        await self._fill(st, data)

    async def write_anew(self, name: bytes, data: bytes) -> None:
        """Nothing is left of what a file in the root held."""
        entry = self.replica.lookup(1, name)
        if entry is not None:
            await self._fill(entry.st, data)

    def hold(self, name: bytes) -> None:
        """Have a file in the root open from now on."""
        entry = self.replica.lookup(1, name)
        if entry is not None and entry.st not in self.held:
            self.held[entry.st] = self.vault.open_file(entry.st)

    async def _fill(self, st: int, data: bytes) -> None:
        content = self.vault.open_file(st)
        try:
            await content.truncate(0, 10**9)
            await content.write(0, data, 10**9)
        finally:
            self.vault.release_file(content)

    def leave(self) -> None:
        """Close whatever is held open."""
        for content in self.held.values():
            self.vault.release_file(content)
        self.held.clear()
