"""An emulated Drive with Anna's folder `vault`, shared with Ben, and stores on it."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cryptfs.faults import Faults
from cryptfs.store.drive.store import DriveStore
from tests.drive_emulator import Emulator
from tests.drive_store import drive_store

ANNA, BEN = "anna@example.org", "ben@example.org"


@dataclass
class DriveWorld:
    """`open` gives a store of an account; one with a `table` remembers across being opened again."""

    emulator: Emulator
    vault: str
    opened: list[DriveStore] = field(default_factory=list)

    def open(self, email: str = ANNA, table: Path | None = None, faults: Faults | None = None) -> DriveStore:
        store = drive_store(self.emulator, email, self.vault, table, faults=faults)
        self.opened.append(store)
        return store

    def close(self) -> None:
        while self.opened:
            self.opened.pop().close()

    def objects(self) -> dict[str, list[bytes]]:
        """Contents of all files by name; folders left out."""
        found: dict[str, list[bytes]] = {}
        for item in self.emulator.items():
            if item.blob is not None:
                found.setdefault(item.name, []).append(item.blob.data)
        return found


@pytest.fixture
def drive() -> Iterator[DriveWorld]:
    with Emulator() as emulator:
        emulator.user(ANNA)
        world = DriveWorld(emulator, emulator.folder(ANNA, "vault"))
        emulator.share(world.vault, BEN, "writer")
        yield world
        world.close()
