"""Random work on a whole tree, with crashes, lost caches and small batches: what is shown is what was made, everywhere.

What is sealed while things go on must be what a device sees that has nothing but the store: all tables are compared.
"""

import random
import shutil

import pytest

from cryptfs.vault import pending
from tests.vault.random_hand import Hand, Shown, shown
from tests.vault.vault_faults import SimWorkshop, dying, empty_cache, forget_everything, state_of

pytestmark = pytest.mark.usefixtures("still")


@pytest.mark.parametrize("seed", range(16))
async def test_a_tree_is_the_same_after_any_crash_and_from_the_store_alone(
    sim: SimWorkshop, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    rng = random.Random(seed)
    monkeypatch.setattr(pending, "_BATCH_OPS", rng.choice([3, 17, 8000]))
    # Small limits, so that small trees go the ways of large ones: packs, manifests, patches, packs closed meanwhile.
    monkeypatch.setattr("cryptfs.vault.manifest.INLINE_MAX", rng.choice([350, 600, 4096]))
    monkeypatch.setattr("cryptfs.vault.sealer._BODY2_TARGET", rng.choice([2000, 80_000, 1 << 20]))
    monkeypatch.setattr("cryptfs.vault.records.SHARED_PACK_TARGET", rng.choice([150_000, 16 << 20]))
    before: Shown = {}
    for _ in range(5):
        async with rng.choice([dying(sim), sim.open()]) as vault:
            assert await shown(vault) == before
            hand = Hand(vault, rng)
            for _ in range(rng.randrange(60)):
                await hand.act()
                if rng.random() < 0.08:
                    await vault.sealer.seal()
            await vault.commit()
            if rng.random() < 0.3:
                await vault.journal.compact()
            before = await shown(vault)
        match rng.randrange(4):
            case 0:
                shutil.rmtree(sim.home.cache_dir)
            case 1:
                empty_cache(sim)
    async with sim.open() as vault:
        await vault.sync()
        assert await shown(vault) == before
        here = state_of(vault)
    forget_everything(sim)
    async with sim.open() as vault:
        assert state_of(vault) == here
        assert await shown(vault) == before
