"""The process is killed before each of its steps in turn: what it promised is there, and nothing is half there.

By default a sample within a time limit; CRYPTFS_TEST_EVERY_STEP=1 tries every step of several histories, and kills the
recovery too.
"""

import multiprocessing
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from typing import Any

import pytest
import trio

from cryptfs.format.names import SegmentName, parse_name
from tests.vault.crash_workload import State, perform, plan, recover, stand_still, states, workshop_at
from tests.vault.vault_faults import state_of
from tests.vault.vault_workshop import Workshop, read_file

EVERY = bool(os.environ.get("CRYPTFS_TEST_EVERY_STEP"))
SECONDS = 1200.0 if EVERY else 7.0
AT_LEAST = 6
"""Steps tried however slow the machine is."""
SEEDS = range(6) if EVERY else range(2)

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["tests.vault.crash_workload"])


@pytest.fixture(scope="module", autouse=True)
def no_helper_process_stays() -> Iterator[None]:
    yield
    forkserver._forkserver._stop()
    resource_tracker._resource_tracker._stop()


def in_a_process(do: Callable[..., None], *args: Any) -> int:
    """Run it in a process of its own; returns its exit code, -9 when it was killed."""
    process = _processes.Process(target=do, args=args)
    process.start()
    process.join(60)
    assert process.exitcode is not None, "the process hangs"
    return process.exitcode


class Promises:
    """What the killed process said."""

    def __init__(self, base: Path) -> None:
        said = [line.split() for line in (base / "promises").read_text().splitlines()]
        self.began = max((int(number) for word, number in said if word == "began"), default=0)
        self.promised = max((int(number) for word, number in said if word == "promised"), default=0)
        self.steps = max((int(number) for word, number in said if word == "steps"), default=0)


async def judge(workshop: Workshop, allowed: list[State], hint: str) -> None:
    """Raises unless the vault opens with one of these states, keeps it, and the store alone says the same."""
    async with workshop.open() as vault:
        found = {name: await read_file(vault, name) for name, _, _ in vault.replica.entries(1)}
        assert found in allowed, f"{hint}: {explain(found, allowed)}"
        await vault.sync()
        here = state_of(vault)
    async with workshop.open() as vault:
        assert {name: await read_file(vault, name) for name, _, _ in vault.replica.entries(1)} == found, hint
        assert state_of(vault) == here, hint
        assert not vault.pending, hint
    assert not list(workshop.home.packs_dir.iterdir()), hint
    shutil.rmtree(workshop.base / "home")
    async with workshop.open() as vault:
        assert state_of(vault) == here, hint
        assert {name: await read_file(vault, name) for name, _, _ in vault.replica.entries(1)} == found, hint
    numbers = [name.seq for name in map(parse_name, keys_in(workshop.base / "store")) if isinstance(name, SegmentName)]
    assert sorted(numbers) == list(range(len(numbers))), f"{hint}: a segment twice, or one is missing: {numbers}"


def keys_in(store: Path) -> list[str]:
    return [str(path.relative_to(store)) for path in store.rglob("*") if path.is_file()]


def explain(found: State, allowed: list[State]) -> str:
    wrong = {
        name: len(found.get(name, b"")) for name in found | allowed[-1] if found.get(name) != allowed[-1].get(name)
    }
    return f"none of {len(allowed)} allowed states; differs from the last in {wrong}"


def steps_to_try(total: int, seed: int) -> Iterator[int]:
    """Every step, in an order that spreads a sample."""
    steps = list(range(1, total + 1))
    random.Random(seed).shuffle(steps)
    until = time.monotonic() + SECONDS / len(SEEDS)
    for tried, step in enumerate(steps):
        if tried >= AT_LEAST and time.monotonic() > until:
            return
        yield step


@pytest.fixture
def template(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    """A vault nobody has opened yet; to be copied for each try."""
    from cryptfs.vault.upkeep import Upkeep

    monkeypatch.setattr(Upkeep, "run", Upkeep.run)
    stand_still()
    return workshop


def copied(template: Workshop, place: Path) -> Workshop:
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    shutil.copytree(template.base / "store", place / "store")
    return workshop_at(place, template.keys)


@pytest.mark.timeout(0 if EVERY else 120)
@pytest.mark.parametrize("seed", SEEDS)
def test_killed_before_any_step_nothing_promised_is_lost_and_nothing_is_mixed(
    template: Workshop, tmp_path: Path, seed: int
) -> None:
    known = states(plan(seed))
    whole = copied(template, tmp_path / "whole")
    assert in_a_process(perform, str(whole.base), whole.keys, seed, 0) == 0
    total = Promises(whole.base).steps
    assert total > 100
    trio.run(judge, whole, [known[-1]], "never killed")
    tried = 0
    for step in steps_to_try(total, seed):
        workshop = copied(template, tmp_path / "try")
        # Packs that are sent in the background make a few steps more or less: then it ends before it is killed.
        assert in_a_process(perform, str(workshop.base), workshop.keys, seed, step) in (-9, 0)
        hint = f"seed {seed}, killed before step {step} of {total}"
        if EVERY or step % 5 == 0:
            in_a_process(recover, str(workshop.base), workshop.keys, 1 + step % 23)
            hint += f", and before step {1 + step % 23} of the recovery"
        said = Promises(workshop.base)
        trio.run(judge, workshop, known[said.promised : said.began + 1], hint)
        tried += 1
    print(f"seed {seed}: {tried} of {total} steps tried")
    assert tried >= AT_LEAST
