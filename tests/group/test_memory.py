"""What a device remembers, and what it notices."""

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryptfs.crypto.keys import PurposeKey, local_ctx, random_bytes
from cryptfs.crypto.seal import seal
from cryptfs.errors import AuthError, Damaged, HostileStore, NeedsUpdate
from cryptfs.format.codec import encode
from cryptfs.format.segment_body import LogHead
from cryptfs.group.memory import (
    Alarm,
    News,
    Sight,
    clock,
    compare,
    days_without_news,
    forget,
    learn,
    recall,
    remember,
    reset_clock,
)

VAULT = bytes(range(32))
KEY = PurposeKey(b"k" * 32)
LOG, OTHER = b"l" * 16, b"o" * 16
ANNA, BOB = b"A" * 32, b"B" * 32
DAY = 86_400_000


def d(log, seq, branch=""):
    return sha256(log + bytes([seq]) + branch.encode()).digest()


def head(log, seq, branch=""):
    return LogHead(log, seq, d(log, seq, branch))


class Store:
    """What a store may show: statements, and segments by (log, seq)."""

    def __init__(self, statements, **counts):
        self.statements = set(statements)
        self.segments = {}
        for log, count in counts.items():
            log_id = {"log": LOG, "other": OTHER}[log]
            for seq in range(count):
                self.segments[log_id, seq] = d(log_id, seq)

    def sight(self, **changes):
        heads = {}
        for (log, seq), digest in sorted(self.segments.items()):
            heads[log] = LogHead(log, seq, digest)
        values = {
            "has_statement": lambda one: one in self.statements,
            "digest_at": lambda log, seq: self.segments.get((log, seq)),
            "heads": heads,
            "frontier": tuple(sorted(self.statements)),
            "min_format": 1,
            "covered": {},
        } | changes
        return Sight(**values)


def new_store():
    return Store([b"s" * 32, b"t" * 32], log=5, other=3)


def first_memory(store):
    return learn(forget(VAULT), store.sight(stamp=9, root=b"r" * 32), 1_000, {LOG: ANNA, OTHER: BOB}, OTHER)


@pytest.fixture
def store():
    return new_store()


@pytest.fixture
def memory(store):
    return first_memory(store)


def alarms(memory, sight):
    return [(one.alarm, one.subject) for one in compare(memory, sight)]


def test_the_same_store_raises_no_alarm_and_neither_does_more(memory, store):
    assert alarms(memory, store.sight()) == []
    store.segments[LOG, 5] = d(LOG, 5)
    store.statements.add(b"u" * 32)
    assert alarms(memory, store.sight()) == []


def test_rollback_of_one_log(memory, store):
    """T-rollback, and all below: each class alone, then everything."""
    del store.segments[LOG, 4]
    assert alarms(memory, store.sight()) == [(Alarm.LOG_OLDER, LOG)]
    assert Alarm.LOG_OLDER.stops_sealing


def test_rollback_of_the_roster(memory, store):
    store.statements.discard(b"t" * 32)
    assert alarms(memory, store.sight()) == [(Alarm.STATEMENT_GONE, b"t" * 32)]


def test_rollback_of_everything_to_a_consistent_older_state(memory):
    older = Store([b"s" * 32], log=2, other=1)
    assert {what for what, _ in alarms(memory, older.sight())} == {Alarm.STATEMENT_GONE, Alarm.LOG_OLDER}


def test_rollback_to_an_empty_folder(memory):
    assert len(alarms(memory, Store([]).sight())) == 4


def test_fork_another_segment_in_the_place_of_one_seen_is_proof(memory, store):
    """T-fork, T-equivocate."""
    store.segments[LOG, 4] = d(LOG, 4, "other")
    assert alarms(memory, store.sight()) == [(Alarm.LOG_FORKED, LOG)]


def test_a_trusted_checkpoint_that_covers_a_log_stands_for_it(memory, store):
    for seq in range(5):
        del store.segments[LOG, seq]
    assert alarms(memory, store.sight(covered={LOG: head(LOG, 4)})) == []
    assert alarms(memory, store.sight(covered={LOG: head(LOG, 9)})) == []
    for behind in (head(LOG, 3), head(LOG, 4, "other")):
        assert alarms(memory, store.sight(covered={LOG: behind})) == [(Alarm.LOG_OLDER, LOG)]


def test_clone_own_log_longer_in_the_store_than_here(memory, store):
    """T-clone: another copy of this device's state is at work."""
    store.segments[OTHER, 3] = d(OTHER, 3)
    assert alarms(memory, store.sight()) == [(Alarm.OWN_LOG_AHEAD, OTHER)]


def test_two_roots_for_one_stamp(memory, store):
    assert alarms(memory, store.sight(stamp=9, root=b"x" * 32)) == [(Alarm.ROOTS_DIFFER, b"")]
    assert alarms(memory, store.sight(stamp=9, root=b"r" * 32)) == []
    assert alarms(memory, store.sight(stamp=10, root=b"x" * 32)) == []


def test_downgrade_of_the_least_format_is_noticed_and_never_learnt(memory, store):
    """T-downgrade."""
    memory = learn(memory, store.sight(min_format=3), 2_000, {})
    assert alarms(memory, store.sight(min_format=2)) == [(Alarm.FORMAT_LOWERED, b"")]
    assert learn(memory, store.sight(min_format=2), 3_000, {}).min_format == 3


def test_learning_never_goes_back(memory, store):
    shorter = Store(store.statements, log=2, other=1)
    again = learn(memory, shorter.sight(stamp=3, root=b"q" * 32), 500, {LOG: ANNA, OTHER: BOB})
    assert again.heads == memory.heads
    assert (again.stamp, again.root, again.clock_ms) == (9, b"r" * 32, 1_000)
    assert again.news == memory.news
    assert again.own_head == head(OTHER, 2)


def test_freeze_roster_days_count_from_when_an_administrator_was_last_heard_of(memory, store):
    """T-freeze-roster: with the clock as an argument. Replays of old segments are no news."""
    assert days_without_news(memory, [ANNA], 1_000 + 9 * DAY) == 9
    assert days_without_news(memory, [ANNA], 1_000 + 9 * DAY - 1) == 8
    again = learn(memory, store.sight(), 1_000 + 5 * DAY, {LOG: ANNA, OTHER: BOB})
    assert days_without_news(again, [ANNA], 1_000 + 9 * DAY) == 9
    store.segments[LOG, 5] = d(LOG, 5)
    again = learn(memory, store.sight(), 1_000 + 5 * DAY, {LOG: ANNA, OTHER: BOB})
    assert days_without_news(again, [ANNA], 1_000 + 9 * DAY) == 4
    assert days_without_news(again, [BOB], 1_000 + 9 * DAY) == 9
    assert days_without_news(again, [], 1_000 + 9 * DAY) is None


def test_clock_never_goes_behind_what_was_seen(memory):
    """T-clock."""
    assert clock(memory, 500) == 1_000
    assert clock(memory, 2_000) == 2_000
    assert clock(memory, 500, [3_000]) == 3_000
    assert clock(reset_clock(memory, 400), 450) == 450


def test_memory_survives_the_file(memory):
    """T-memory."""
    data = remember(memory, KEY)
    assert recall(data, KEY, VAULT) == memory
    assert recall(remember(forget(VAULT), KEY), KEY, VAULT) == forget(VAULT)


def test_memory_torn_or_altered_or_of_another_vault_or_device_is_never_believed(memory):
    data = remember(memory, KEY)
    for length in range(0, len(data), 5):
        with pytest.raises(HostileStore):
            recall(data[:length], KEY, VAULT)
    for place in range(0, len(data), 3):
        with pytest.raises(HostileStore):
            recall(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :], KEY, VAULT)
    with pytest.raises(AuthError):
        recall(data, PurposeKey(random_bytes(32)), VAULT)
    with pytest.raises(AuthError):
        recall(data, KEY, bytes(32))


def sealed(value):
    return b"CFSMEMO1" + seal(KEY, local_ctx("memory", VAULT), encode(value))


def test_memory_of_a_later_version_asks_for_an_update(memory):
    with pytest.raises(NeedsUpdate):
        recall(sealed((2, VAULT, "something else")), KEY, VAULT)


def test_memory_out_of_range_is_damaged(memory):
    base = (1, VAULT, (), (), b"", 0, b"", 0, 0, ())
    for place, value in (
        (0, 0),
        (1, b"short"),
        (2, (b"b" * 32, b"a" * 32)),
        (3, (LogHead(b"short", 0, bytes(32)),)),
        (3, (head(OTHER, 1), head(LOG, 1))),
        (4, b"short"),
        (6, b"short"),
        (9, (News(BOB, 1), News(ANNA, 1))),
    ):
        with pytest.raises(Damaged):
            recall(sealed((*base[:place], value, *base[place + 1 :])), KEY, VAULT)
    assert recall(sealed(base), KEY, VAULT) == forget(VAULT)


heads = st.dictionaries(st.binary(min_size=16, max_size=16), st.integers(0, 1 << 62), max_size=6)


@given(heads, heads, st.integers(0, 1 << 50), st.integers(0, 1 << 50))
def test_learning_is_the_maximum_of_all_that_was_seen(first, second, then, later):
    def sight(counts):
        shown = {log: LogHead(log, seq, d(log, seq % 256)) for log, seq in counts.items()}
        return Sight(lambda _: True, lambda *_: None, shown, (), 1, {})

    memory = learn(learn(forget(VAULT), sight(first), then, {}), sight(second), later, {})
    expected = {log: max(first.get(log, -1), second.get(log, -1)) for log in {*first, *second}}
    assert {one.log: one.seq for one in memory.heads} == expected
    assert [one.log for one in memory.heads] == sorted(expected)
    assert memory.clock_ms == max(then, later)
    assert recall(remember(memory, KEY), KEY, VAULT) == memory
