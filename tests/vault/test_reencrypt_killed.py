"""Killed before each of its steps in turn, a re-encryption loses nothing, and the next run finishes it."""

import os
import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from cryptfs.vault.oldkeys import survey
from cryptfs.vault.pace import Pace
from tests.vault.crash_workload import stand_still, workshop_at
from tests.vault.reencrypt_workload import fill, perform, run, small_parts
from tests.vault.test_crash_loop import in_a_process, no_helper_process_stays
from tests.vault.vault_workshop import Workshop, read_file

__all__ = ["no_helper_process_stays"]

EVERY = bool(os.environ.get("CRYPTFS_TEST_EVERY_STEP"))
SECONDS = 1200.0 if EVERY else 8.0


@pytest.fixture
def template(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    """A vault with everything under old keys; to be copied for each try."""
    from cryptfs.vault import manifest, reencrypt, resealing, sealer
    from cryptfs.vault.upkeep import Upkeep

    monkeypatch.setattr(Upkeep, "run", Upkeep.run)
    for module, name in (
        (reencrypt, "BATCH_BYTES"),
        (resealing, "WHOLE_PACK_TARGET"),
        (sealer, "_BODY2_TARGET"),
        (manifest, "INLINE_MAX"),
    ):
        monkeypatch.setattr(module, name, getattr(module, name))
    stand_still()
    small_parts()

    async def prepare() -> None:
        async with workshop.open() as vault:
            await fill(vault)

    trio.run(prepare)
    return workshop


def copied(template: Workshop, place: Path) -> Workshop:
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(template.base, place, ignore=shutil.ignore_patterns("try", "whole"))
    return workshop_at(place, template.keys)


async def contents(workshop: Workshop) -> dict[bytes, bytes]:
    async with workshop.open() as vault:
        return {name: await read_file(vault, name) for name, _, _ in vault.replica.entries(1)}


async def judge(workshop: Workshop, holds: dict[bytes, bytes], hint: str) -> None:
    """Everything is there, also in every old version; one more run finishes; and the store alone says the same."""
    written = bytearray(holds[b"middle"])
    written[70_000:70_010] = b"in between"
    async with workshop.open() as vault:
        found = {name: await read_file(vault, name) for name, _, _ in vault.replica.entries(1)}
        assert found in (holds, holds | {b"middle": bytes(written)}), hint
        assert (await run(vault)).complete, hint
        assert (await survey(vault, None, Pace())).versions == 0, hint
        assert not vault.pending, hint
    assert await contents(workshop) == found, hint
    assert not list(workshop.home.packs_dir.iterdir()), hint
    shutil.rmtree(workshop.base / "home")
    assert await contents(workshop) == found, hint


def steps_to_try(total: int) -> Iterator[int]:
    """Every step, in an order that spreads a sample; some however slow the machine is."""
    steps = list(range(1, total + 1))
    random.Random(1).shuffle(steps)
    until = time.monotonic() + SECONDS
    for number, step in enumerate(steps):
        if number >= 6 and time.monotonic() > until:
            return
        yield step


@pytest.mark.timeout(0 if EVERY else 120)
def test_killed_before_any_step_nothing_is_lost_and_the_next_run_finishes(template: Workshop, tmp_path: Path) -> None:
    holds = trio.run(contents, template)
    whole = copied(template, tmp_path / "whole")
    assert in_a_process(perform, str(whole.base), whole.keys, 0) == 0
    total = int((whole.base / "steps").read_text())
    assert total > 50
    trio.run(judge, whole, holds, "never killed")
    tried = 0
    for step in steps_to_try(total):
        workshop = copied(template, tmp_path / "try")
        assert in_a_process(perform, str(workshop.base), workshop.keys, step) in (-9, 0)
        trio.run(judge, workshop, holds, f"killed before step {step} of {total}")
        tried += 1
    print(f"{tried} of {total} steps tried")
