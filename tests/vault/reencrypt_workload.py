"""A re-encryption in a process of its own that is killed at its n-th step, see `crash_workload.py`."""

import random
from pathlib import Path

import trio

from cryptfs.crypto.keyfile import DeviceKeys
from cryptfs.vault import administration as do
from cryptfs.vault import manifest, reencrypt, resealing, sealer
from cryptfs.vault.pace import Pace
from cryptfs.vault.reencrypt import Outcome, Reencryption
from cryptfs.vault.vault import Vault
from tests.vault.crash_workload import Killer, stand_still, workshop_at
from tests.vault.vault_workshop import remove_file, write_file


def small_parts() -> None:
    """Everything happens several times: batches, packs, pages."""
    reencrypt.BATCH_BYTES, resealing.WHOLE_PACK_TARGET = 400_000, 150_000
    sealer._BODY2_TARGET, manifest.INLINE_MAX = 80_000, 600


async def fill(vault: Vault) -> None:
    """Files with old versions, under a key that is changed then."""
    rng = random.Random(3)
    for name, size in ((b"small", 50), (b"middle", 200_000), (b"large", 900_000), (b"gone", 70_000)):
        await write_file(vault, name, rng.randbytes(size))
    await vault.sync()
    await write_file(vault, b"large", b"another", offset=200_000)
    await write_file(vault, b"small", b"new")
    remove_file(vault, b"gone")
    await vault.sync()
    await do.rotate(vault)


async def run(vault: Vault) -> Outcome:
    """Re-encrypt all of the vault."""

    async def seen(_more: int) -> None:
        await trio.lowlevel.checkpoint()

    return await Reencryption(vault, None, b"", Pace(), seen).run()


def perform(base: str, keys: DeviceKeys, at: int) -> None:
    """Re-encrypt, while a file is written; entry point of the process that is killed before step `at` (0: never)."""
    killer = Killer(at)

    async def work() -> None:
        async with workshop_at(Path(base), keys).open() as vault:
            vault.shut_down = trio.lowlevel.checkpoint  # type: ignore[method-assign]
            await write_file(vault, b"middle", b"in between", offset=70_000)
            await vault.commit()
            await run(vault)

    stand_still()
    small_parts()
    killer.watch()
    trio.run(work)
    Path(base, "steps").write_text(str(killer.count))
