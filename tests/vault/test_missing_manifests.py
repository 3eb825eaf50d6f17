"""A file whose manifest is gone from the folder does not keep what was done to others from being sent."""

import random
from pathlib import Path

import pytest

from cryptfs.errors import Damaged
from cryptfs.vault import remnant
from cryptfs.vault.vault import Vault
from tests.vault.vault_workshop import Workshop, read_file, write_file

MIB = 1 << 20
DATA = random.Random(3).randbytes(20 * MIB)


def lose_manifests(vault: Vault, workshop: Workshop) -> dict[Path, bytes]:
    """Delete every pack that holds nothing but manifests, here and in the folder; returns what was in the folder."""
    entry = vault.replica.lookup(1, b"big")
    assert entry is not None
    content = vault.open_file(entry.st)
    assert content.map.base.manifest is not None or not content.map.base.chunks
    content.ensure_loaded()
    assert content.map.base.manifest is not None
    place = content.map.base.manifest.loc
    pages = content.map.base.root.pages if content.map.base.root is not None else ()
    vault.release_file(content)
    gone = {}
    for ident in {place.id, *(page.loc.id for page in pages if page is not None)}:
        path = workshop.base / "store" / "p" / ident.hex()
        if path.exists():
            gone[path] = path.read_bytes()
            path.unlink()
    for path in workshop.home.cached_packs_dir.iterdir():
        if path.stat().st_size < MIB:
            path.unlink()
    return gone


async def broken(workshop: Workshop) -> None:
    """A large file that is in the store, and a small one."""
    async with workshop.open() as vault:
        await write_file(vault, b"big", DATA)
        await vault.sync()
        await write_file(vault, b"big", b"y" * 100, offset=MIB)
        await vault.sync()


async def change_and_lose(vault: Vault, workshop: Workshop) -> dict[Path, bytes]:
    """Append to the file, so that its last page has to be written anew, and lose that page before it is sent."""
    entry = vault.replica.lookup(1, b"big")
    assert entry is not None
    content = vault.open_file(entry.st)
    await content.load_keys()
    gone = lose_manifests(vault, workshop)
    await content.write(20 * MIB, b"new" * 100, 5)
    vault.release_file(content)
    return gone


async def test_a_missing_manifest_holds_up_nobody_for_ever(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """What exists of the file becomes a conflicted copy, as whoever reads the folder sees it; the file stays."""
    await broken(workshop)
    async with workshop.open() as vault:
        gone = await change_and_lose(vault, workshop)
        assert gone
        await write_file(vault, b"other", b"mine")
        with pytest.raises(Damaged):
            await vault.sealer.seal()  # the folder may only lag
        monkeypatch.setattr(remnant, "PATIENCE", 0.0)
        await vault.sync()
        names = [name for name, _, _ in vault.replica.entries(1)]
        (copy,) = [name for name in names if b"conflicted copy" in name]
        assert {b"big", b"other", copy} == set(names)
        shown = await read_file(vault, copy)
        assert shown[20 * MIB :] == b"new" * 100
        for path, data in gone.items():
            path.write_bytes(data)
        assert (await read_file(vault, b"big"))[:100] == DATA[:100]
    for path in sorted(workshop.home.cache_dir.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    async with workshop.open() as vault:
        assert await read_file(vault, b"other") == b"mine"
        assert await read_file(vault, copy) == shown
        whole = bytearray(DATA)
        whole[MIB : MIB + 100] = b"y" * 100
        assert await read_file(vault, b"big") == whole


async def test_a_manifest_that_comes_back_in_time_costs_nothing(workshop: Workshop) -> None:
    await broken(workshop)
    async with workshop.open() as vault:
        gone = await change_and_lose(vault, workshop)
        with pytest.raises(Damaged):
            await vault.sealer.seal()
        for path, data in gone.items():
            path.write_bytes(data)
        await vault.sync()
        assert [name for name, _, _ in vault.replica.entries(1)] == [b"big"]
        assert (await read_file(vault, b"big"))[20 * MIB :] == b"new" * 100
