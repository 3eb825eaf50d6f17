"""Where anybody may put objects, junk can delay a revocation list but not hide it."""

import hashlib
from pathlib import Path

from msgspec.structs import replace

from cryptfs.faults import Faults
from cryptfs.group.founding import DEFAULT_POLICY
from cryptfs.store import Call, MemoryStore
from cryptfs.vault.revocation import RevocationLists, carrier
from cryptfs.vault.upload import Sender
from tests.crypto.certificate_workshop import Authority

VAULT = hashlib.sha256(b"a vault").digest()


async def test_a_list_that_comes_after_a_flood_of_junk_is_found_without_a_restart(tmp_path: Path) -> None:
    authority = Authority()
    store = MemoryStore()
    for number in range(1030):  # names that come before any other
        store.put(f"m/{number:064x}.crl", b"junk", Call())
    lists = RevocationLists(tmp_path, VAULT, Sender(store, Faults()))
    policy = replace(DEFAULT_POLICY, trust=1, cas=(authority.der,), crl=2)

    async def look() -> bool:
        return await lists.refresh([stat.key for stat in store.list("m/", Call())], policy)

    for _ in range(64):
        await look()
    crl = authority.crl(1)
    store.put(*carrier(VAULT, crl), Call())
    looks = 0
    while not lists.ders:
        await look()
        looks += 1
        assert looks <= 7  # as many as are left
    assert lists.ders == (crl,)
