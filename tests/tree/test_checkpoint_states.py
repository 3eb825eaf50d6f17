"""The tree at a stamp, told and taken in again: what a checkpoint carries is what replaying to there gives."""

import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cryptfs.errors import Invalid
from cryptfs.format.checkpoint import CheckpointLog
from cryptfs.format.checkpoint_head import TABLE_DIRENT, TABLE_HINTS, TABLE_NODE, state_root, table_hash
from cryptfs.format.codec import encode
from cryptfs.format.names import root_inode
from cryptfs.tree import IntegratedSegment, Replica
from cryptfs.tree.external import STATE_TABLES
from cryptfs.tree.integrate import NeedsRebuild
from cryptfs.tree.loading import Loader
from cryptfs.tree.past import moments_at
from cryptfs.tree.snapshot import StateAt, state_at
from tests.simulation.tree_device import VAULT, LocalUser, check_tree, open_replica, state_of
from tests.simulation.tree_group import Device, Network, as_foreign, run

Tables = dict[int, list[bytes]]
decode = msgspec.msgpack.Decoder(list[Any]).decode


def told(replica: Replica, stamp: int) -> Tables:
    replica.flush()
    return {table: list(rows) for table, rows in StateAt(replica.db, VAULT, stamp).tables()}


def root_of(tables: Tables, stamp: int) -> bytes:
    return state_root(VAULT, stamp, 1, {table: table_hash(table, rows) for table, rows in tables.items()})


def segments_of(network: Network) -> list[IntegratedSegment]:
    return sorted((as_foreign(sent.seg) for sent in network.sent.values()), key=lambda seg: seg.position)


def heads_at(segments: Iterable[IntegratedSegment]) -> list[CheckpointLog]:
    heads = {seg.log: CheckpointLog(seg.log, seg.seq, seg.digest, seg.stamp) for seg in segments}
    return [heads[log] for log in sorted(heads)]


def loaded(tables: Tables, segments: Iterable[IntegratedSegment], stamp: int, into: Replica | None = None) -> Replica:
    replica = into or open_replica()
    loader = Loader(replica, heads_at(segments))
    for table, rows in tables.items():
        for at in range(0, len(rows), 7):
            loader.take(table, rows[at : at + 7])
    loader.finish(stamp)
    return replica


def rows_of(replica: Replica) -> Tables:
    return {n: [encode(row) for row in replica.state_rows(table)] for n, table in enumerate(STATE_TABLES, 1)}


@pytest.mark.parametrize("seed", range(2000, 2030))
def test_checkpoint_and_tail_give_what_full_replay_gives(seed: int) -> None:
    """Invariants 23 and 24: one root on every device, and from there on nothing that tells where it began."""
    network, group = run(seed, devices=2 + seed % 3, rounds=25, expire=seed % 2 == 0)
    segments = segments_of(network)
    stamp = random.Random(seed).choice([seg.stamp for seg in segments])
    below = [seg for seg in segments if seg.stamp <= stamp]
    plain = open_replica()
    plain.integrate(below, stable=1 << 40)
    state = told(group[0].replica, stamp)
    assert state == rows_of(plain)
    assert len({root_of(told(device.replica, stamp), stamp) for device in group}) == 1
    started = loaded(state, below, stamp)
    check_tree(started)
    assert rows_of(started) == state
    started.integrate([seg for seg in segments if seg.stamp > stamp])
    check_tree(started)
    assert state_of(started) == state_of(group[0].replica)
    later = random.Random(seed + 1).choice([seg.stamp for seg in segments if seg.stamp >= stamp])
    assert root_of(told(started, later), later) == root_of(told(group[-1].replica, later), later)


@pytest.mark.parametrize("seed", range(20))
def test_what_is_not_sealed_yet_is_not_in_the_state(seed: int) -> None:
    rng = random.Random(seed)
    user, fresh, segments = LocalUser(open_replica(), rng), open_replica(), []
    for stamp in range(1, 6):
        for _ in range(rng.choice([1, 8, 40])):
            user.act()
        seg, vanished, last = user.seal(stamp, upto=rng.choice([None, len(user.pending) // 2]))
        if not user.replica.mark_sealed(seg, last, vanished):
            user.replica.integrate([seg], [(one.k, one.op) for one in user.pending])
        segments.append(as_foreign(seg))
    for _ in range(10):
        user.act()
    at = rng.randrange(1, 6)
    fresh.integrate(segments[:at])
    assert told(user.replica, at) == rows_of(fresh)


def test_a_second_connection_tells_the_state_while_the_first_writes_on(tmp_path: Path) -> None:
    user = LocalUser(open_replica(str(tmp_path / "replica")), random.Random(5))
    for _ in range(60):
        user.act()
    seg, vanished, last = user.seal(1)
    assert user.replica.mark_sealed(seg, last, vanished)
    with state_at(user.replica, 1) as then:
        for _ in range(60):
            user.act()
        user.replica.commit()
        tables = {table: list(rows) for table, rows in then.tables()}
        moments = list(then.moments())
    user.replica.pop_tentative()
    assert tables == rows_of(user.replica)
    started = open_replica()
    loader = Loader(started, heads_at([seg]))
    for table, rows in tables.items():
        loader.take(table, rows)
    loader.take(TABLE_HINTS, moments)
    loader.finish(1)
    assert moments_at(started, 1) == moments_at(user.replica, 1) != []


def test_a_state_below_the_floor_cannot_be_told(tmp_path: Path) -> None:
    network, group = run(1, devices=2, rounds=10)
    stamp = max(sent.seg.stamp for sent in network.sent.values()) - 1
    before = told(group[0].replica, stamp)
    group[0].replica.advance(stamp)
    assert told(group[0].replica, stamp) == before
    with pytest.raises(NeedsRebuild):
        told(group[0].replica, stamp - 1)


@pytest.mark.parametrize("seed", range(12))
def test_nodes_keep_their_numbers_when_a_state_takes_the_place_of_the_tree(seed: int) -> None:
    """As when the tree is made anew while programs have files open."""
    network, group = run(seed, devices=3, rounds=20)
    segments = segments_of(network)
    for device in group:
        replica, stamp = device.replica, segments[len(segments) // 2].stamp
        walked = sorted(replica.walk())
        replica.flush()
        state = told(replica, stamp)
        loaded(state, [seg for seg in segments if seg.stamp <= stamp], stamp, into=replica)
        replica.integrate([seg for seg in segments if seg.stamp > stamp])
        check_tree(replica)
        assert sorted(replica.walk()) == walked


def test_a_device_that_lost_its_replica_finds_its_own_nodes_under_their_old_numbers() -> None:
    user = LocalUser(open_replica(), random.Random(11))
    for _ in range(40):
        user.act()
    seg, vanished, last = user.seal(1)
    assert user.replica.mark_sealed(seg, last, vanished)
    again = open_replica()
    loader = Loader(again, heads_at([seg]), seg.ids, seg.log)
    for table, rows in told(user.replica, 1).items():
        loader.take(table, rows)
    loader.finish(1)
    assert sorted(again.walk()) == sorted(user.replica.walk())


# ---- what cannot be a state ---------------------------------------------------------------------------------------


def some_state() -> tuple[Tables, list[IntegratedSegment]]:
    user = Device(0, Network(), random.Random(8))
    for _ in range(120):
        user.act()
    user.send(everything=True)
    segments = segments_of(user.network)
    return told(user.replica, user.stamp), segments


STATE, SEGMENTS = some_state()


@pytest.mark.parametrize("seed", range(60))
def test_a_state_with_wrong_rows_is_refused_or_is_a_sound_tree(seed: int) -> None:
    """Whoever signs a checkpoint may write anything into its rows."""
    rng = random.Random(seed)
    tables = {table: list(rows) for table, rows in STATE.items()}
    table = rng.choice([table for table, rows in tables.items() if rows])
    rows = tables[table]
    at = rng.randrange(len(rows))
    kind = rng.randrange(5)
    if kind == 0:
        del rows[at]
    elif kind == 1:
        rows.insert(at, rng.choice(rows))
    elif kind == 2:
        row = bytearray(rows[at])
        row[rng.randrange(len(row))] ^= 1 << rng.randrange(8)
        rows[at] = bytes(row)
    elif kind == 3:
        rows[at] = rows[at][: rng.randrange(len(rows[at]))]
    else:
        rows.reverse()
    try:
        replica = loaded(tables, SEGMENTS, SEGMENTS[-1].stamp)
    except Invalid:
        return
    check_tree(replica)


def wrong(table: int, change: Callable[[list[list[Any]]], None]) -> Tables:
    rows = [decode(row) for row in STATE[table]]
    change(rows)
    return STATE | {table: [encode(row) for row in rows]}


def test_twin_numbers_of_directories_that_are_not_there_are_refused() -> None:
    """Numbers follow from the first 62 bits of an inode: whoever signs a checkpoint chooses inodes that have one."""

    def twin(rows: list[list[Any]]) -> None:
        at = next(at for at, row in enumerate(rows) if row[0] != root_inode(VAULT) and rows[at - 1][0] != row[0])
        parent, name, *rest = rows[at]
        rows.insert(at, [parent[:8] + bytes(8), name, *rest])

    with pytest.raises(Invalid):
        loaded(wrong(TABLE_DIRENT, twin), SEGMENTS, SEGMENTS[-1].stamp)


@pytest.mark.parametrize("name", [b"..", b"a/b", b"", b"a\0"])
def test_names_in_the_trash_that_lead_elsewhere_are_refused(name: bytes) -> None:
    def rename(rows: list[list[Any]]) -> None:
        next(row for row in rows if row[13] is not None)[13] = name

    with pytest.raises(Invalid):
        loaded(wrong(TABLE_NODE, rename), SEGMENTS, SEGMENTS[-1].stamp)


def test_framing_hints_about_segments_that_are_not_in_the_state_are_left_out() -> None:
    """They are in no root: who vouches for a checkpoint does not vouch for them. Sums of them must not overflow."""
    head = heads_at(SEGMENTS)[0]
    good = (head.log, 1 << 61, head.seq, 1, head.stamp, 5, head.digest)
    huge = 1 << 62
    bad = [
        (head.log, huge, head.seq, huge, head.stamp, 5, bytes(32)),
        (head.log, huge, head.seq, 1, head.stamp + 1, 5, bytes(32)),
        (head.log, huge, head.seq + 1, 1, head.stamp, 5, bytes(32)),
        (bytes(16), huge, 0, 1, 0, 5, bytes(32)),
    ]
    replica = open_replica()
    loader = Loader(replica, heads_at(SEGMENTS))
    for table, rows in STATE.items():
        loader.take(table, rows)
    loader.take(TABLE_HINTS, [encode(row) for row in (good, *bad)])
    loader.finish(SEGMENTS[-1].stamp)
    assert replica.question("SELECT log, first_op FROM moment", ()) == [good[:2]]
