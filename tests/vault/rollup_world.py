"""Logs with rollups: few segments make one, days pass at once, and hostile rollups are planted beside honest ones."""

import hashlib
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from cryptfs.format.header import ObjectClass, pack_header
from cryptfs.format.names import RollupName, SegmentName, parse_name, rollup_name
from cryptfs.vault import rollups
from cryptfs.vault.vault import Vault
from tests.vault.administration_world import Device, World
from tests.vault.vault_workshop import write_file

DAY_MS = 86_400_000
MANY = 5


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """Anna's vault; a rollup is made of more than `MANY` segments."""
    monkeypatch.setattr(rollups, "_MANY", MANY)
    return World(tmp_path)


def pass_days(vault: Vault, days: float) -> None:
    """Let the clock of this device be so much further on."""
    at = vault.wall_ms() + int(days * DAY_MS)
    vault.wall_ms = lambda: at  # type: ignore[method-assign]


def body(number: int) -> bytes:
    """What file `number` holds."""
    return b"%d " % number * 3000


async def save(vault: Vault, numbers: Iterable[int]) -> None:
    """Small files, each in a segment of its own."""
    for number in numbers:
        await write_file(vault, b"f%d" % number, body(number))
        await vault.sync()


def singles(folder: Path, log_id: bytes) -> dict[int, bytes]:
    """The segments of a log that lie by themselves, by number."""
    return {
        name.seq: path.read_bytes()
        for path in sorted((folder / "l").iterdir())
        if isinstance(name := parse_name(f"l/{path.name}"), SegmentName) and name.log_id == log_id
    }


def rolled(folder: Path, log_id: bytes) -> dict[tuple[int, int], bytes]:
    """The rollups of a log, by their first and last number."""
    return {
        (name.first, name.last): path.read_bytes()
        for path in sorted((folder / "l").iterdir())
        if isinstance(name := parse_name(f"l/{path.name}"), RollupName) and name.log_id == log_id
    }


def plant(world: World, log_id: bytes, first: int, segments: Sequence[bytes], data: bytes = b"") -> Path:
    """Put a rollup of any segments into the folder, or, under its name, other `data`."""
    fixed = struct.pack(">16sQQ", log_id, first, first + len(segments) - 1)
    whole = b"".join((pack_header(ObjectClass.ROLLUP, world.vault, b"", len(segments), fixed), *segments))
    name = rollup_name(log_id, first, first + len(segments) - 1, hashlib.sha256(whole).digest())
    path = world.folder / name
    path.write_bytes(data or whole)
    return path


def remove_singles(folder: Path, log_id: bytes, numbers: Iterable[int]) -> None:
    """Segments no more lie by themselves."""
    gone = set(numbers)
    for path in (folder / "l").iterdir():
        name = parse_name(f"l/{path.name}")
        if isinstance(name, SegmentName) and name.log_id == log_id and name.seq in gone:
            path.unlink()


__all__ = [
    "DAY_MS", "MANY", "Device", "World", "body", "pass_days", "plant", "remove_singles", "rolled", "save", "singles",
    "world",
]  # fmt: skip
