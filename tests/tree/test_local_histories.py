"""One device: applied at once, coalesced, sealed in place; and the same segments integrated by a fresh replica."""

import contextlib
import random
from pathlib import Path

import pytest

from cryptfs.tree import Replica, ReplicaDamaged
from tests.simulation.tree_device import LocalUser, check_tree, open_replica, state_of
from tests.simulation.tree_group import as_foreign

SEEDS = range(60)


def shown(replica: Replica) -> list[object]:
    """What a program sees: numbers, names, attributes, times."""
    return [(path, replica.node(st)) for path, st in sorted(replica.walk())]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("alone", [True, False], ids=["alone", "keeping the way back"])
def test_sealing_in_place_gives_the_state_that_integrating_gives(seed: int, alone: bool) -> None:
    rng = random.Random(seed)
    user = LocalUser(open_replica(), rng)
    fresh = open_replica()
    relabelled = 0
    for stamp in range(1, 7):
        for _ in range(rng.choice([1, 8, 40])):
            user.act()
        upto = rng.choice([None, None, len(user.pending) // 2])
        before = shown(user.replica)
        seg, vanished, last = user.seal(stamp, upto=upto)
        done = user.replica.mark_sealed(seg, last, vanished, stable=stamp if alone else -1)
        if not done:
            user.replica.integrate([seg], [(one.k, one.op) for one in user.pending])
        relabelled += done
        check_tree(user.replica)
        assert [(p, n._replace(cver=b"")) for p, n in before] == [
            (p, n._replace(cver=b"")) for p, n in shown(user.replica)
        ], "sealing moved something under the programs"
        fresh.integrate([as_foreign(seg)])
        check_tree(fresh)
        user.replica.pop_tentative()
        assert state_of(user.replica) == state_of(fresh), f"seed {seed} stamp {stamp}"
        user.replica.reapply([(one.k, one.op) for one in user.pending])
    assert relabelled >= 3


@pytest.mark.parametrize("seed", range(20))
def test_a_crash_at_any_point_loses_nothing_that_the_journal_has(seed: int, tmp_path: Path) -> None:
    """What the replica had not committed is applied again; what it had is taken back and applied again."""
    rng = random.Random(seed)
    path = str(tmp_path / "replica")
    user = LocalUser(open_replica(path), rng)
    steady = LocalUser(open_replica(), random.Random(0))
    for stamp in range(1, 5):
        for _ in range(rng.choice([5, 25])):
            made = len(user.pending)
            user.act()
            for one in user.pending[made:]:
                steady.now = user.now - 1_000_000_007
                steady.submit(one.op)
            if rng.random() < 0.2:
                user.replica.commit()
            if rng.random() < 0.1:
                user.replica.close(commit=rng.random() < 0.3)
                user.replica = open_replica(path)
                user.replica.pop_tentative()
                user.replica.reapply([(one.k, one.op) for one in user.pending])
        check_tree(user.replica)
        seen = [(p, n._replace(ctime_ns=0, mtime_ns=0, atime_ns=0)) for p, n in shown(user.replica)]
        assert seen == [(p, n._replace(ctime_ns=0, mtime_ns=0, atime_ns=0)) for p, n in shown(steady.replica)]
        steady.pending = list(user.pending)
        seg, vanished, last = user.seal(stamp)
        same, _, _ = steady.seal(stamp)
        assert same.ops == seg.ops
        assert user.replica.mark_sealed(seg, last, vanished, stable=stamp)
        assert steady.replica.mark_sealed(seg, last, vanished, stable=stamp)
        user.replica.commit()
        assert state_of(user.replica) == state_of(steady.replica)
    user.replica.close()


def test_the_key_opens_the_replica_and_no_other_does(tmp_path: Path) -> None:
    path = str(tmp_path / "replica")
    open_replica(path).close()
    open_replica(path).close()
    with pytest.raises(ReplicaDamaged):
        Replica.open(path, b"x" * 32, b"v" * 32)


def test_damage_anywhere_in_the_file_is_noticed_as_damage(tmp_path: Path) -> None:
    path = tmp_path / "replica"
    user = LocalUser(open_replica(str(path)), random.Random(3))
    for _ in range(300):
        user.act()
    user.replica.close()
    whole = path.read_bytes()
    for at in range(100, len(whole), len(whole) // 40):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        replica = None
        with contextlib.suppress(ReplicaDamaged):
            replica = open_replica(str(path))
            state_of(replica)  # or it is a page that nobody reads
        if replica is not None:
            replica.close(commit=False)
    path.write_bytes(b"x" * len(whole))
    with pytest.raises(ReplicaDamaged):
        open_replica(str(path))


def test_what_happened_here_keeps_its_numbers_when_the_replica_is_built_again() -> None:
    rng = random.Random(7)
    user = LocalUser(open_replica(), rng)
    segments = []
    for stamp in range(1, 4):
        for _ in range(20):
            user.act()
        seg, vanished, last = user.seal(stamp)
        assert user.replica.mark_sealed(seg, last, vanished, stable=stamp)
        segments.append(seg)
    for _ in range(10):
        user.act()
    again = open_replica()
    again.integrate(segments, [(one.k, one.op) for one in user.pending], stable=3)
    assert [(p, st) for p, st in sorted(again.walk())] == [(p, st) for p, st in sorted(user.replica.walk())]
    again.pop_tentative()
    user.replica.pop_tentative()
    assert state_of(again) == state_of(user.replica)
