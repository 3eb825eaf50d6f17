"""Differential: random system calls on the mount and on a plain directory give the same results, and the same tree.

The model is a directory on tmpfs. A seed that found a bug is added to SEEDS.
"""

import os
import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from randomcalls import World, choose, result, short
from snapshot import differences, snapshot

SEEDS = [1, 2, 3, 4, 5]
if "CRYPTFS_CONFORMANCE_SEEDS" in os.environ:  # FIRST:END, for long runs
    SEEDS = list(range(*map(int, os.environ["CRYPTFS_CONFORMANCE_SEEDS"].split(":"))))
STEPS = 1500


@pytest.fixture
def model() -> Iterator[Path]:
    room = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    path = Path(tempfile.mkdtemp(prefix="cryptfs-model-", dir=room))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.mark.parametrize("seed", SEEDS)
def test_random_calls_agree_with_a_plain_directory(target: Path, model: Path, remount, seed: int) -> None:
    rng = random.Random(seed)
    left, right = World(target), World(model)
    history = []
    try:
        for step in range(STEPS):
            name, args = choose(rng)
            mine, theirs = result(left, name, args), result(right, name, args)
            history.append(
                f"{step} {name[3:]}({short(args)}) = {theirs if not isinstance(theirs, bytes) else len(theirs)}"
            )
            assert mine == theirs, f"seed {seed}: got {mine!r:.200}, plain directory {theirs!r:.200}\n" + "\n".join(
                history[-40:]
            )
            if step % 250 == 249:
                found = differences(snapshot(target, times=False), snapshot(model, times=False))
                assert found == [], f"seed {seed}, step {step}: {found}\n" + "\n".join(history[-250:])
    finally:
        left.close()
        right.close()
    before, start = snapshot(target), time.time_ns() - 3600 * 10**9
    assert differences(snapshot(target, times=False), snapshot(model, times=False)) == []
    remount(forget=True)
    after = differences(before, snapshot(target), rebuilt_since=start)
    assert after == [], f"seed {seed}: not the same after the replica was rebuilt"
