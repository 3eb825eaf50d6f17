"""The simulated store misbehaves as told, only as told, and the same way for the same seed."""

import os
import random
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest

from cryptfs.errors import Auth, Denied, LocalDisk, NotFound, Quota, Retry, StoreError, StoreGone
from cryptfs.faults import Faults
from cryptfs.store import Abort, Call, Cap, Knobs, SimStore, SimWorld

CALL = Call()
EVERYTHING = {"before": 0.2, "after": 0.2, "list_lag": 3, "ghost_lag": 3, "partial": 0.2, "unordered_changes": True,
              "lost_cursor": 0.2, "stale_get": 0.2, "damage": 0.2}  # fmt: skip


def keys(store: SimStore, prefix: str = "") -> list[str]:
    return [stat.key for stat in store.list(prefix, CALL)]


def told(store: SimStore, cursor: str = "") -> list[str]:
    return [change.key for change in store.changes(cursor, CALL)[0]]


def history(seed: int, knobs: Knobs) -> list[object]:
    """What a device sees that does the same random things each time."""
    store, rng = SimStore(SimWorld(), seed, knobs), random.Random(7)
    seen: list[object] = []
    for _ in range(200):
        key = f"p/{rng.randrange(8):02x}"
        act: Callable[[], object] = rng.choice(
            [
                lambda key=key: store.put(key, key.encode(), CALL),
                lambda key=key: store.get(key, CALL),
                lambda key=key: store.stat(key, CALL),
                lambda key=key: store.delete(key, CALL),
                lambda: keys(store),
                lambda: store.changes("", CALL),
            ]
        )
        try:
            seen.append(act())
        except StoreError as error:
            seen.append((type(error), str(error)))
    return seen


def test_the_same_seed_gives_the_same_history() -> None:
    assert history(1, Knobs(**EVERYTHING)) == history(1, Knobs(**EVERYTHING))
    assert history(1, Knobs(**EVERYTHING)) != history(2, Knobs(**EVERYTHING))


def test_knobs_at_rest_make_every_seed_honest() -> None:
    knobs = Knobs(**EVERYTHING)
    knobs.rest()
    assert knobs == Knobs()
    assert history(1, knobs) == history(2, Knobs())


def test_every_knob_has_a_position_of_rest() -> None:
    assert {field.name: getattr(Knobs(), field.name) or None for field in fields(Knobs)} == dict.fromkeys(
        field.name for field in fields(Knobs)
    )


# ---- errors ----------------------------------------------------------------------------------------------------------


def test_a_failure_before_leaves_the_world_alone() -> None:
    world = SimWorld()
    store = SimStore(world, 1, Knobs(before=1.0, retry_after_s=7.0))
    kinds = set()
    for _ in range(20):
        with pytest.raises(Retry) as caught:
            store.put("p/aa", b"x", CALL)
        kinds.add((type(caught.value), caught.value.after))
    assert kinds == {(Retry, 7.0), (StoreGone, 0.0)}
    assert world.snapshot() == {}


def test_a_lost_reply_comes_after_the_deed() -> None:
    world = SimWorld()
    store = SimStore(world, 1, Knobs(after=1.0))
    with pytest.raises(Retry, match="lost"):
        store.put("p/aa", b"x", CALL)
    assert world.snapshot() == {"p/aa": b"x"}
    with pytest.raises(Retry, match="lost"):
        store.delete("p/aa", CALL)
    assert world.snapshot() == {}


def test_an_outage_answers_every_verb_until_it_is_over(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    store = SimStore(SimWorld(), 1, Knobs(outage=lambda: Auth("token revoked")))
    for act in (
        lambda: store.put("p/aa", b"", CALL),
        lambda: store.put_file("p/aa", tmp_path / "file", CALL),
        lambda: store.get("p/aa", CALL),
        lambda: store.stat("p/aa", CALL),
        lambda: store.delete("p/aa", CALL),
        lambda: store.list("", CALL),
        lambda: store.changes("", CALL),
        lambda: store.space(CALL),
    ):
        with pytest.raises(Auth, match="revoked"):
            act()
    store.knobs.rest()
    assert keys(store) == []


def test_a_full_store_takes_again_what_it_has_and_more_once_there_is_room() -> None:
    store = SimStore(SimWorld(quota=10), 1)
    store.put("p/aa", bytes(6), CALL)
    with pytest.raises(Quota):
        store.put("p/bb", bytes(5), CALL)
    assert store.put("p/aa", bytes(6), CALL).size == 6
    assert store.space(CALL) == (10, 4)
    store.delete("p/aa", CALL)
    assert store.put("p/bb", bytes(5), CALL).size == 5


def test_what_another_account_put_cannot_be_deleted() -> None:
    world = SimWorld()
    world.owners = {}
    mine, theirs = SimStore(world, 1, account="a"), SimStore(world, 2, account="b")
    assert Cap.OWNERS in mine.caps
    theirs.put("p/aa", b"x", CALL)
    with pytest.raises(Denied):
        mine.delete("p/aa", CALL)
    theirs.delete("p/aa", CALL)
    mine.delete("p/aa", CALL)
    assert world.snapshot() == {}


def test_every_call_passes_a_fault_point_and_the_deeds_a_second(tmp_path: Path) -> None:
    passed: list[str] = []
    store = SimStore(SimWorld(), 1, faults=Faults(1, passed.append, sticky=True))
    store.put("p/aa", b"x", CALL)
    store.get("p/aa", CALL)
    store.stat("p/aa", CALL)
    store.list("", CALL)
    store.changes("", CALL)
    store.delete("p/aa", CALL)
    store.space(CALL)
    assert passed == [
        "store.put", "store.put.done", "store.get", "store.stat", "store.list", "store.changes", "store.delete",
        "store.delete.done", "store.space",
    ]  # fmt: skip


def test_calls_are_counted_by_verb_and_objects_by_key(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    store = SimStore(SimWorld(), 1)
    store.put("p/aa", b"x", CALL)
    store.put_file("p/aa", tmp_path / "file", CALL)
    store.get("p/aa", CALL)
    store.delete("p/aa", CALL)
    keys(store)
    assert store.calls == {"put": 2, "get": 1, "delete": 1, "list": 1}
    assert (store.puts, store.deletes) == ({"p/aa": 2}, {"p/aa": 1})


def test_a_local_file_that_is_missing_is_not_the_stores_fault(tmp_path: Path) -> None:
    with pytest.raises(LocalDisk):
        SimStore(SimWorld(), 1).put_file("p/aa", tmp_path / "missing", CALL)


# ---- time ------------------------------------------------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time

    def wait(self, seconds: float, abort: Abort | None) -> None:
        self.time += seconds


def test_latency_passes_on_the_clock_of_the_call_and_may_be_too_long() -> None:
    clock, asked = Clock(), []

    def latency(verb: str, key: str, size: int) -> float:
        asked.append((verb, key, size))
        return 0.3 + size / 1000

    store = SimStore(SimWorld(), 1, Knobs(latency=latency))
    store.put("p/aa", bytes(700), Call(clock=clock))
    assert (clock.time, asked) == (1.0, [("put", "p/aa", 700)])
    with pytest.raises(Retry, match="in time"):
        store.put("p/bb", bytes(700), Call.within(0.5, clock=clock))
    assert store.world.snapshot() == {"p/aa": bytes(700)}


# ---- views -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(10))
def test_a_new_object_is_late_in_listings_but_comes(seed: int) -> None:
    world = SimWorld()
    store, prompt = SimStore(world, seed, Knobs(list_lag=3)), SimStore(world, seed)
    for n in range(10):
        store.put(f"l/{n:02x}", b"x", CALL)
    seen = [len(keys(store)) for _ in range(4)]
    assert seen == sorted(seen)
    assert seen[0] < 10
    assert seen[-1] == 10 == len(keys(prompt))
    assert store.get("l/00", CALL) == b"x"


@pytest.mark.parametrize("seed", range(10))
def test_a_deleted_object_haunts_listings_for_a_while(seed: int) -> None:
    store = SimStore(SimWorld(), seed, Knobs(ghost_lag=3))
    for n in range(10):
        store.put(f"l/{n:02x}", b"x", CALL)
    assert len(keys(store)) == 10
    for n in range(10):
        store.delete(f"l/{n:02x}", CALL)
    seen = [len(keys(store)) for _ in range(4)]
    assert seen == sorted(seen, reverse=True)
    assert seen[0] > 0
    assert seen[-1] == 0


def test_lags_end_when_the_knobs_come_to_rest() -> None:
    store = SimStore(SimWorld(), 1, Knobs(list_lag=1000, ghost_lag=1000))
    store.put("l/aa", b"x", CALL)
    assert keys(store) == []
    store.knobs.rest()
    assert keys(store) == ["l/aa"]
    store.knobs.ghost_lag = 1000
    store.delete("l/aa", CALL)
    assert keys(store) == ["l/aa"]
    store.knobs.rest()
    assert keys(store) == []


def test_a_ghost_that_is_put_again_is_no_ghost() -> None:
    store = SimStore(SimWorld(), 1, Knobs(ghost_lag=1000))
    store.put("l/aa", b"x", CALL)
    keys(store)
    store.delete("l/aa", CALL)
    assert keys(store) == ["l/aa"]
    stat = store.put("l/aa", b"x", CALL)
    assert list(store.list("", CALL)) == [stat]


def test_a_partial_listing_leaves_some_out_and_keeps_the_order() -> None:
    store = SimStore(SimWorld(), 1, Knobs(partial=1.0))
    for n in range(20):
        store.put(f"l/{n:02x}", b"x", CALL)
    seen = keys(store)
    assert 0 < len(seen) < 20
    assert seen == sorted(seen)


def test_changes_come_late_doubled_and_out_of_order_but_all_come() -> None:
    store = SimStore(SimWorld(), 1, Knobs(list_lag=3, unordered_changes=True, lost_cursor=0.3))
    for n in range(20):
        store.put(f"l/{n:02x}", b"x", CALL)
    rounds, cursor = [], ""
    for _ in range(4):
        changes, cursor = store.changes(cursor, CALL)
        rounds.append([change.key for change in changes])
    flat = [key for keys in rounds for key in keys]
    assert set(flat) == {f"l/{n:02x}" for n in range(20)}
    assert len(flat) > 20
    assert rounds[0] != sorted(rounds[0])
    assert len(set(rounds[0])) < 20


def test_a_stale_read_misses_what_is_there_and_gives_what_is_gone() -> None:
    store = SimStore(SimWorld(), 1, Knobs(stale_get=1.0))
    store.put("p/aa", b"0123", CALL)
    assert store.stat("p/aa", CALL) is None
    with pytest.raises(NotFound):
        store.get("p/aa", CALL)
    store.delete("p/aa", CALL)
    assert store.get("p/aa", CALL, 1, 2) == b"12"
    store.knobs.rest()
    with pytest.raises(NotFound):
        store.get("p/aa", CALL)


def test_damage_is_cut_flipped_or_zeroed_and_passes() -> None:
    data = os.urandom(64)
    store = SimStore(SimWorld(), 1, Knobs(damage=1.0))
    store.put("p/aa", data, CALL)
    seen = [store.get("p/aa", CALL) for _ in range(50)]
    assert data not in seen
    assert bytes(64) in seen
    assert any(len(piece) < 64 for piece in seen)
    assert any(sum((a ^ b).bit_count() for a, b in zip(piece, data, strict=False)) == 1 for piece in seen)
    store.knobs.rest()
    assert store.get("p/aa", CALL) == data


def test_nothing_cannot_be_damaged() -> None:
    store = SimStore(SimWorld(), 1, Knobs(damage=1.0))
    store.put("p/aa", b"", CALL)
    assert store.get("p/aa", CALL) == b""


# ---- the hand of the provider ----------------------------------------------------------------------------------------


def test_a_lost_object_is_gone_for_everybody() -> None:
    world = SimWorld()
    store, other = SimStore(world, 1), SimStore(world, 2)
    store.put("p/aa", b"x", CALL)
    world.lose("p/aa")
    assert store.stat("p/aa", CALL) is None
    assert keys(other) == []


def test_planted_bytes_replace_an_object() -> None:
    store = SimStore(SimWorld(), 1)
    before = store.put("p/aa", b"x", CALL)
    store.world.plant("p/aa", b"other")
    assert store.get("p/aa", CALL) == b"other"
    assert store.stat("p/aa", CALL) != before


def test_a_rollback_takes_everybody_to_yesterday() -> None:
    world = SimWorld()
    store = SimStore(world, 1)
    store.put("l/aa", b"1", CALL)
    yesterday, cursor = world.snapshot(), store.changes("", CALL)[1]
    store.put("l/bb", b"2", CALL)
    world.restore(yesterday)
    assert keys(store) == ["l/aa"]
    assert told(store, cursor) == []


def test_a_fork_shows_two_devices_two_histories() -> None:
    world = SimWorld(quota=100)
    one, two = SimStore(world, 1), SimStore(world, 2)
    one.put("l/aa", b"1", CALL)
    two.world = world.branch()
    one.put("l/bb", b"2", CALL)
    two.put("l/cc", b"3", CALL)
    assert (keys(one), keys(two)) == (["l/aa", "l/bb"], ["l/aa", "l/cc"])
    assert two.space(CALL) == (100, 98)
