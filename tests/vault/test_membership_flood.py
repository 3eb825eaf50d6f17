"""A folder flooded with membership objects costs bounded memory, and those who are in go on."""

import hashlib

import pytest

from cryptfs.vault import members
from tests.vault.vault_workshop import Workshop, read_file, write_file


async def test_a_flood_of_junk_statements_is_read_up_to_a_bound(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(members._read, "__defaults__", (100_000,))
    monkeypatch.setattr(members, "_BYTES_MAX", 100_000)
    async with workshop.open() as vault:
        await write_file(vault, b"f", b"x")
        await vault.sync()
        for number in range(50):
            junk = b"CFSSTMT1" + bytes([number]) * 20_000
            (workshop.base / "store" / "m" / hashlib.sha256(junk).hexdigest()).write_bytes(junk)
        await vault.exchange.pull()
        assert vault.membership.size < 100_000 + members._AT_ONCE * 20_100  # those on their way when it was reached
        await write_file(vault, b"g", b"y")
        await vault.sync()
    async with workshop.open() as vault:
        assert await read_file(vault, b"g") == b"y"
