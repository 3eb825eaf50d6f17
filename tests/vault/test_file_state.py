"""What is said of a file without asking the store: waits to be sent, stored, not readable."""

from pathlib import Path

import pytest

from cryptfs.errors import Damaged
from cryptfs.format.operation import KIND_DIR, Create
from cryptfs.vault.vault import Vault
from tests.vault.vault_workshop import Workshop, make_file, read_file, write_file

SMALL, BIG = b"in a segment", bytes(range(256)) * 8192


def state(vault: Vault, name: bytes) -> str:
    entry = vault.replica.lookup(1, name)
    assert entry is not None
    return vault.state_of(entry.st)


def empty_cache(workshop: Workshop) -> None:
    for path in workshop.home.cached_packs_dir.iterdir():
        path.unlink()


def hide(folder: Path) -> dict[Path, bytes]:
    """Delete what lies there; returns what it was."""
    had = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for path in had:
        path.unlink()
    return had


async def test_what_the_store_does_not_have_yet_waits(workshop: Workshop) -> None:
    async with workshop.open() as vault:
        make_file(vault, b"empty")
        vault.submit(Create(vault.replica.ino_of(1), b"folder", KIND_DIR, 0o755, 0, 0, 0, 1, b"", None))
        await write_file(vault, b"big", BIG)
        names = (b"empty", b"folder", b"big")
        assert {state(vault, name) for name in names} == {"waits to be sent"}
        await vault.sync()
        assert {state(vault, name) for name in names} == {"stored"}
        await write_file(vault, b"big", b"more", 10)
        assert state(vault, b"big") == "waits to be sent"
        assert state(vault, b"empty") == "stored"


@pytest.mark.parametrize("change", [lambda data: None, lambda data: bytes(len(data))], ids=["missing", "damaged"])
async def test_a_content_that_is_nowhere_is_not_readable_until_it_is_back(workshop: Workshop, change) -> None:
    async with workshop.open() as vault:
        await write_file(vault, b"big", BIG)
        await vault.sync()
        await write_file(vault, b"small", SMALL)
        await vault.sync()
    empty_cache(workshop)
    async with workshop.open() as vault:
        had = hide(workshop.base / "store/p")
        for path, data in had.items():
            if (other := change(data)) is not None:
                path.write_bytes(other)
        assert state(vault, b"big") == "stored"  # nobody has noticed
        with pytest.raises(Damaged):
            await read_file(vault, b"big")
        assert state(vault, b"big") == "not readable"
        assert state(vault, b"small") == "stored"
        for path, data in had.items():
            path.write_bytes(data)
        assert await read_file(vault, b"big") == BIG
        assert state(vault, b"big") == "stored"


async def test_what_is_on_this_disk_is_readable_whatever_the_store_lacks(workshop: Workshop) -> None:
    async with workshop.open() as vault:
        await write_file(vault, b"big", BIG)
        await vault.sync()
        (path,) = hide(workshop.base / "store/p")
        vault.cache.damaged[f"p/{path.name}"] = "missing"
        assert state(vault, b"big") == "stored"
        assert await read_file(vault, b"big") == BIG
