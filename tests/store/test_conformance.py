"""What every store must do, asked of each in the same words. A new store adds a `Subject` and passes unchanged."""

import math
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from cryptfs.errors import Exists, NotFound, Retry
from cryptfs.store import Abort, Call, Cap, DirectoryStore, MemoryStore, SimStore, SimWorld, Store
from tests.drive_emulator import Emulator
from tests.drive_store import drive_store

CALL = Call()
KEYS = [
    "genesis",
    "README.txt",
    "m/" + "ab" * 32,
    "m/" + "cd" * 32 + ".crl",
    "w/" + "0f" * 16 + "-" + "e" * 16,
    "j/" + "77" * 16,
    "l/" + "1a" * 8 + "-0000000042-" + "b" * 16,
    "l/" + "1a" * 8 + "-r0000000000-0000000041-" + "c" * 16,
    "p/" + "9d" * 16,
    "p0/" + "0d" * 16,
    "pf/" + "fd" * 16,
    "c/" + f"{12345:016x}" + "-" + "ab" * 8 + "-" + "d" * 16,
]


@dataclass
class Subject:
    """One kind of store: `open` gives another client of the same place, `fill` puts many small packs quickly."""

    open: Callable[[], Store]
    fill: Callable[[Iterable[str]], None]
    many: int = 10_000


def directory_subject(path: Path) -> Subject:
    def fill(keys: Iterable[str]) -> None:
        (path / "p").mkdir()
        for key in keys:
            (path / key).write_bytes(b"x")

    return Subject(lambda: DirectoryStore(path), fill)


def memory_subject(_: Path) -> Subject:
    store = MemoryStore()
    return Subject(lambda: store, lambda keys: store.restore(dict.fromkeys(keys, b"x")))


def simulated_subject(_: Path) -> Subject:
    world = SimWorld()
    return Subject(lambda: SimStore(world, seed=1), lambda keys: world.restore(dict.fromkeys(keys, b"x")))


def drive_subject(_: Path) -> Iterator[Subject]:
    anna = "anna@example.org"
    with Emulator() as emulator:
        emulator.user(anna, storage=None)
        vault = emulator.folder(anna, "vault")
        opened: list[Store] = []

        def another() -> Store:
            opened.append(drive_store(emulator, anna, vault))
            return opened[-1]

        def fill(keys: Iterable[str]) -> None:
            packs = emulator.folder(anna, "p", vault)
            for key in keys:
                emulator.file(anna, key.partition("/")[2], b"x", packs)

        yield Subject(another, fill, many=2_500)  # two and a half pages
        for one in opened:
            one.close()


SUBJECTS = {
    "directory": directory_subject, "memory": memory_subject, "simulated": simulated_subject, "drive": drive_subject
}  # fmt: skip


@pytest.fixture(params=SUBJECTS)
def subject(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Subject]:
    place = tmp_path / "store"
    place.mkdir()
    made = SUBJECTS[request.param](place)
    if isinstance(made, Subject):
        yield made
    else:
        yield from made


@pytest.fixture
def store(subject: Subject) -> Iterable[Store]:
    store = subject.open()
    yield store
    store.close()


def keys(store: Store, prefix: str = "", after: str = "") -> list[str]:
    return [stat.key for stat in store.list(prefix, CALL, after)]


# ---- bytes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 4096, (16 << 20) + 1])
def test_bytes_come_back_as_they_were_put(store: Store, size: int) -> None:
    data = os.urandom(size)
    stat = store.put("p/aa", data, CALL)
    assert (stat.key, stat.size) == ("p/aa", size)
    assert store.get("p/aa", CALL) == data
    assert store.stat("p/aa", CALL) == stat


@pytest.mark.parametrize("size", [0, 1, (16 << 20) + 1])
def test_a_local_file_is_put_as_bytes_are(store: Store, tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    (tmp_path / "pack").write_bytes(data)
    assert store.put_file("p/aa", tmp_path / "pack", CALL).size == size
    assert store.get("p/aa", CALL) == data
    assert store.put("p/aa", data, CALL) == store.put_file("p/aa", tmp_path / "pack", CALL)


def test_any_buffer_can_be_put_and_keeping_it_does_not_change_the_object(store: Store) -> None:
    buffer = bytearray(b"0123456789")
    store.put("p/aa", memoryview(buffer)[2:5], CALL)
    store.put("p/bb", buffer, CALL)
    buffer[:] = b"x" * 10
    assert store.get("p/aa", CALL) == b"234"
    assert store.get("p/bb", CALL) == b"0123456789"


@pytest.mark.parametrize(
    ("start", "length", "expected"),
    [
        (0, None, b"0123456789"), (0, 10, b"0123456789"), (0, 0, b""), (3, 4, b"3456"), (9, 1, b"9"), (9, None, b"9"),
        (8, 5, b"89"), (10, 1, b""), (10, None, b""), (11, None, b""), (2**40, 2**40, b""), (0, 2**62, b"0123456789"),
    ],
)  # fmt: skip
def test_a_range_ends_where_the_object_ends(store: Store, start: int, length: int | None, expected: bytes) -> None:
    store.put("p/aa", b"0123456789", CALL)
    assert store.get("p/aa", CALL, start, length) == expected


@pytest.mark.parametrize(("start", "length"), [(-1, None), (0, -1)])
def test_a_negative_range_is_a_bug(store: Store, start: int, length: int) -> None:
    store.put("p/aa", b"0123456789", CALL)
    with pytest.raises(ValueError, match="range"):
        store.get("p/aa", CALL, start, length)


def test_a_reader_never_sees_a_part_of_an_object(subject: Subject) -> None:
    data = os.urandom(4 << 20)
    writer, reader = subject.open(), subject.open()
    thread = threading.Thread(target=writer.put, args=("p/aa", data, CALL))
    thread.start()
    sizes = set()
    while 0 in sizes or not sizes or thread.is_alive():
        sizes.discard(0)
        stat = reader.stat("p/aa", CALL)
        sizes.add(0 if stat is None else stat.size)
        try:
            assert reader.get("p/aa", CALL) == data
        except NotFound:
            assert stat is None
    thread.join()
    assert sizes == {len(data)}
    assert keys(reader) == ["p/aa"]


# ---- objects are immutable -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("if_absent", [False, True])
def test_equal_bytes_put_again_succeed_and_change_nothing(store: Store, if_absent: bool) -> None:
    first = store.put("l/aa-0000000000-bb", b"segment", CALL, if_absent=if_absent)
    assert store.put("l/aa-0000000000-bb", b"segment", CALL, if_absent=if_absent) == first
    assert list(store.list("l/", CALL)) == [first]


@pytest.mark.parametrize("other", [b"", b"segmenT", b"segment and more", b"seg"])
def test_other_bytes_never_replace_an_object(store: Store, other: bytes) -> None:
    if Cap.IF_ABSENT not in store.caps:
        pytest.skip("this store cannot tell")
    store.put("p/aa", b"segment", CALL)
    with pytest.raises(Exists):
        store.put("p/aa", other, CALL, if_absent=True)
    assert store.get("p/aa", CALL) == b"segment"


def test_a_difference_at_the_end_of_a_large_object_is_seen(store: Store, tmp_path: Path) -> None:
    if Cap.IF_ABSENT not in store.caps:
        pytest.skip("this store cannot tell")
    data = bytes(9 << 20)
    store.put("p/aa", data, CALL)
    (tmp_path / "other").write_bytes(data[:-1] + b"\x01")
    with pytest.raises(Exists):
        store.put_file("p/aa", tmp_path / "other", CALL, if_absent=True)


def test_of_racing_puts_one_wins_and_its_object_is_whole(subject: Subject) -> None:
    count = 8
    bodies = [bytes([n]) * 100_000 for n in range(count)]
    stores = [subject.open() for _ in bodies]
    gate = threading.Barrier(count)

    def race(store: Store, body: bytes) -> bool:
        gate.wait()
        try:
            store.put("p/aa", body, CALL, if_absent=True)
        except Exists:
            return False
        return True

    with ThreadPoolExecutor(count) as pool:
        won = list(pool.map(race, stores, bodies))
    present = stores[0].get("p/aa", CALL)
    assert present in bodies
    if Cap.IF_ABSENT in stores[0].caps:
        assert [body for body, winner in zip(bodies, won, strict=True) if winner] == [present]
    assert keys(stores[0]) == ["p/aa"]


def test_racing_puts_of_equal_bytes_all_succeed(subject: Subject) -> None:
    count = 8
    gate = threading.Barrier(count)

    def race(store: Store) -> int:
        gate.wait()
        return store.put("p/aa", b"same" * 10_000, CALL, if_absent=True).size

    with ThreadPoolExecutor(count) as pool:
        assert list(pool.map(race, [subject.open() for _ in range(count)])) == [40_000] * count


# ---- names -----------------------------------------------------------------------------------------------------------


def test_every_name_of_the_format_can_be_used(store: Store) -> None:
    for key in KEYS:
        store.put(key, key.encode(), CALL)
    assert keys(store) == sorted(KEYS)
    assert [store.get(key, CALL) for key in KEYS] == [key.encode() for key in KEYS]


@pytest.mark.parametrize(
    "key",
    [
        "", "/", "p/", "/aa", "../genesis", "p/../genesis", "p/..", "p/.tmp-aa", "p/a/b", "other", "p/AA", "p/a b",
        "P/aa", "p/aa\0", "p/aa\n", "pg/aa", "p00/aa", "genesis/aa",
        "p/aa (conflicted copy)", "m/aa.crl.crl", "p/-aa", "p/aa-",
    ],
)  # fmt: skip
def test_a_name_outside_the_format_is_a_bug_for_every_verb(store: Store, tmp_path: Path, key: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    for attempt in (
        lambda: store.put(key, b"", CALL),
        lambda: store.put_file(key, tmp_path / "file", CALL),
        lambda: store.get(key, CALL),
        lambda: store.stat(key, CALL),
        lambda: store.delete(key, CALL),
    ):
        with pytest.raises(ValueError, match="not a key"):
            attempt()
    assert keys(store) == []


def test_a_listing_takes_a_prefix_and_a_place_to_start_after(store: Store) -> None:
    for key in ("genesis", "l/aa-0000000001-cc", "l/aa-0000000002-cc", "l/ab-0000000001-cc", "m/aa", "p/aa", "p0/aa"):
        store.put(key, b"", CALL)
    assert keys(store, "l/") == ["l/aa-0000000001-cc", "l/aa-0000000002-cc", "l/ab-0000000001-cc"]
    assert keys(store, "l/aa-") == ["l/aa-0000000001-cc", "l/aa-0000000002-cc"]
    assert keys(store, "l/aa-", "l/aa-0000000001-cc") == ["l/aa-0000000002-cc"]
    assert keys(store, "l/aa-", "l/aa-0000000001") == ["l/aa-0000000001-cc", "l/aa-0000000002-cc"]
    assert keys(store, "", "l/ab") == ["l/ab-0000000001-cc", "m/aa", "p/aa", "p0/aa"]
    assert keys(store, "p") == ["p/aa", "p0/aa"]
    assert keys(store, "g") == ["genesis"]
    assert keys(store, "x") == keys(store, "c/") == keys(store, "l/aa-", "m/") == []


def test_a_listing_of_many_objects_is_whole_and_in_order(subject: Subject) -> None:
    many = [f"p/{n:08x}" for n in range(subject.many)]
    subject.fill(many)
    store = subject.open()
    assert keys(store, "p/") == many
    assert keys(store, "p/", many[-3]) == many[-2:]


def test_a_finished_put_is_in_the_next_listing(subject: Subject) -> None:
    store = subject.open()
    if Cap.STRONG_LIST not in store.caps:
        pytest.skip("this store does not promise it")
    other = subject.open()
    for n in range(20):
        store.put(f"l/{n:02x}", b"x", CALL)
        assert len(keys(other, "l/")) == n + 1


# ---- the missing -----------------------------------------------------------------------------------------------------


def test_the_missing_is_not_found(store: Store) -> None:
    store.put("p/aa", b"x", CALL)
    for key in ("p/bb", "c/aa", "genesis"):
        assert store.stat(key, CALL) is None
        with pytest.raises(NotFound):
            store.get(key, CALL)


def test_deleting_twice_is_fine_and_touches_nothing_else(store: Store) -> None:
    store.put("p/aa", b"a", CALL)
    store.put("p/ab", b"b", CALL)
    store.delete("p/aa", CALL)
    store.delete("p/aa", CALL)
    store.delete("c/00", CALL)
    assert store.stat("p/aa", CALL) is None
    assert keys(store) == ["p/ab"]


def test_a_deleted_object_can_be_put_back(store: Store) -> None:
    store.put("p/aa", b"a", CALL)
    store.delete("p/aa", CALL)
    assert store.put("p/aa", b"a", CALL).size == 1
    assert store.get("p/aa", CALL) == b"a"


# ---- changes ---------------------------------------------------------------------------------------------------------


def test_changes_tell_everything_at_first_then_what_is_new(subject: Subject) -> None:
    store, other = subject.open(), subject.open()
    other.put("l/aa", b"1", CALL)
    first, cursor = store.changes("", CALL)
    assert {change.key for change in first} == {"l/aa"}
    stat = other.put("m/bb", b"2", CALL)
    second, cursor = store.changes(cursor, CALL)
    assert ("m/bb", stat) in second
    third, _ = store.changes(cursor, CALL)
    assert {change.key for change in third} <= {"l/aa", "m/bb"}


def test_changes_are_not_lost_by_a_restart(subject: Subject) -> None:
    store = subject.open()
    store.put("l/aa", b"1", CALL)
    _, cursor = store.changes("", CALL)
    store.put("l/bb", b"2", CALL)
    assert "l/bb" in {change.key for change in subject.open().changes(cursor, CALL)[0]}


def test_changes_may_be_asked_again_with_the_cursor_before(subject: Subject) -> None:
    store = subject.open()
    _, cursor = store.changes("", CALL)
    store.put("l/aa", b"1", CALL)
    first, _ = store.changes(cursor, CALL)
    again, _ = store.changes(cursor, CALL)
    assert "l/aa" in {change.key for change in first} & {change.key for change in again}


@pytest.mark.parametrize("cursor", ["dead", "0.0", "\0", "x" * 10_000])
def test_a_dead_cursor_gives_everything(store: Store, cursor: str) -> None:
    store.put("l/aa", b"1", CALL)
    store.put("m/bb", b"2", CALL)
    assert {change.key for change in store.changes(cursor, CALL)[0]} == {"l/aa", "m/bb"}


# ---- calls -----------------------------------------------------------------------------------------------------------


def aborted() -> Abort:
    abort = Abort()
    abort.set()
    return abort


@pytest.mark.parametrize("call", [Call(deadline=-math.inf), Call(abort=aborted())], ids=["late", "aborted"])
def test_a_call_that_is_over_does_nothing(store: Store, call: Call) -> None:
    store.put("p/aa", b"x", CALL)
    for attempt in (
        lambda: store.put("p/bb", b"", call),
        lambda: store.get("p/aa", call),
        lambda: store.stat("p/aa", call),
        lambda: store.delete("p/aa", call),
        lambda: list(store.list("", call)),
        lambda: list(store.list("p/", call)),
        lambda: store.changes("", call),
        lambda: store.space(call),
    ):
        with pytest.raises(Retry):
            attempt()
    assert keys(store) == ["p/aa"]


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_the_space_left_is_part_of_the_whole(store: Store) -> None:
    space = store.space(CALL)
    assert space is None or 0 <= space.free <= space.total


def test_eight_threads_at_once_leave_nothing_behind(subject: Subject) -> None:
    store = subject.open()
    store.put("genesis", b"g", CALL)
    list(store.list("", CALL))
    descriptors, threads = open_files(), threading.active_count()

    def work(n: int) -> None:
        for i in range(5):
            key = f"p/{n:02x}-{i:02x}"
            store.put(key, key.encode(), CALL)
            assert store.get(key, CALL) == key.encode()
            assert key in keys(store, "p/")
            next(iter(store.list("", CALL)))  # abandoned half-way
            with pytest.raises(NotFound):
                store.get("c/00", CALL)
            store.delete(key, CALL)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert keys(store) == ["genesis"]
    store.close()
    # An emulated service lives in this process too, and hears of closed connections a moment later.
    until = time.monotonic() + 10
    while (open_files() > descriptors or threading.active_count() > threads) and time.monotonic() < until:
        threading.Event().wait(0.01)
    assert open_files() <= descriptors
    assert threading.active_count() <= threads
