"""Change notices of a directory store."""

import contextlib
import errno
import math
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cryptfs.store import Abort, Call, DirectoryStore, watching
from cryptfs.store.base import MONOTONIC
from cryptfs.store.inotify import Inotify, Seen

LONG = 60.0  # far beyond what any of these takes; nothing here waits for it to pass


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for folder in ("l", "m", "p"):
        (tmp_path / folder).mkdir()
    return tmp_path


@pytest.fixture
def store(place: Path) -> Iterator[DirectoryStore]:
    """A store that has already noticed what was there at first."""
    store = DirectoryStore(place)
    assert store.wait_for_change(Call.within(LONG))
    yield store
    store.close()


class NoTime:
    """A clock on which waiting takes no time: `wait` notes how long it would have been."""

    def __init__(self) -> None:
        self.time = 0.0
        self.waited: list[float] = []

    def now(self) -> float:
        return self.time

    def wait(self, seconds: float, abort: Abort | None) -> None:
        self.waited.append(seconds)
        self.time += seconds


def is_quiet(store: DirectoryStore) -> bool:
    """Whether nothing is to be noticed right now: a call that has just time to look."""
    return not store.wait_for_change(Call.within(0.001))


def test_folders_not_watched_before_count_as_a_change(place: Path) -> None:
    store = DirectoryStore(place)
    assert store.wait_for_change(Call.within(LONG))
    assert is_quiet(store)
    (place / "c").mkdir()
    assert store.wait_for_change(Call.within(LONG))
    store.close()


@pytest.mark.parametrize(
    "act",
    [
        lambda place: DirectoryStore(place).put("l/aa", b"x", Call()),
        lambda place: DirectoryStore(place).put("m/aa", b"x", Call()),
        lambda place: DirectoryStore(place).put("genesis", b"x", Call()),
        lambda place: DirectoryStore(place).put("w/aa", b"x", Call()),
        lambda place: (place / "l/aa").write_bytes(b"another tool writes in place"),
        lambda place: (place / ".tmp-x").write_bytes(b"") or (place / ".tmp-x").rename(place / "l/aa"),
    ],
    ids=["log", "statement", "top", "new folder", "in place", "renamed"],
)
def test_a_new_object_is_noticed(store: DirectoryStore, place: Path, act: Callable[[Path], object]) -> None:
    act(place)
    assert store.wait_for_change(Call.within(LONG))


def test_a_deleted_object_is_noticed(store: DirectoryStore, place: Path) -> None:
    store.put("l/aa", b"x", Call())
    assert store.wait_for_change(Call.within(LONG))
    assert is_quiet(store)
    store.delete("l/aa", Call())
    assert store.wait_for_change(Call.within(LONG))


def test_a_change_is_noticed_by_one_who_sleeps(store: DirectoryStore, place: Path) -> None:
    outcome: list[bool] = []
    sleeper = threading.Thread(target=lambda: outcome.append(store.wait_for_change(Call.within(LONG))))
    sleeper.start()
    DirectoryStore(place).put("l/aa", b"x", Call())
    sleeper.join()
    assert outcome == [True]


@pytest.mark.parametrize("name", ["p/aa", "l/.tmp-aa", "l/aa (conflict)", "holiday.jpg"])
def test_packs_temporary_and_foreign_files_are_not_worth_waking_for(
    store: DirectoryStore, place: Path, name: str
) -> None:
    (place / name).write_bytes(b"x")
    assert is_quiet(store)


class Observed(Abort):
    """Tells when somebody has asked to be woken."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = threading.Event()

    @contextlib.contextmanager
    def waking(self, wake: Callable[[], None]) -> Iterator[None]:
        with super().waking(wake):
            self.asked.set()
            yield


def test_an_abort_wakes_one_who_sleeps(store: DirectoryStore) -> None:
    abort = Observed()
    outcome: list[bool] = []
    sleeper = threading.Thread(target=lambda: outcome.append(store.wait_for_change(Call(abort=abort))))
    sleeper.start()
    abort.asked.wait()
    abort.set()
    sleeper.join()
    assert outcome == [False]


@pytest.mark.parametrize("seconds", [math.inf, 1e12])
def test_an_abort_ends_a_wait_for_ever(seconds: float) -> None:
    abort = Abort()
    outcome: list[bool] = []
    sleeper = threading.Thread(target=lambda: outcome.append(abort.wait(seconds)))
    sleeper.start()
    abort.set()
    sleeper.join()
    MONOTONIC.wait(seconds, abort)
    MONOTONIC.wait(-1.0, None)
    assert outcome == [True]


def test_a_call_already_aborted_does_not_sleep(store: DirectoryStore) -> None:
    abort = Abort()
    abort.set()
    assert not store.wait_for_change(Call(abort=abort))


def test_a_removed_folder_is_noticed_and_watched_again_when_back(store: DirectoryStore, place: Path) -> None:
    (place / "l").rmdir()
    assert store.wait_for_change(Call.within(LONG))
    assert is_quiet(store)
    (place / "l").mkdir()
    assert store.wait_for_change(Call.within(LONG))
    while not is_quiet(store):
        pass
    (place / "l/aa").write_bytes(b"x")
    assert store.wait_for_change(Call.within(LONG))


def test_while_the_directory_is_away_the_time_just_passes(tmp_path: Path) -> None:
    clock = NoTime()
    store = DirectoryStore(tmp_path / "gone")
    assert not store.wait_for_change(Call(30.0, clock=clock))
    assert clock.waited == [30.0]
    store.close()


def test_without_inotify_the_time_just_passes(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise OSError(errno.EMFILE, "no instances left")

    monkeypatch.setattr(watching, "Inotify", refuse)
    clock = NoTime()
    assert not DirectoryStore(place).wait_for_change(Call(30.0, clock=clock))
    assert clock.waited == [30.0]


def test_a_lost_count_of_the_kernel_is_a_change(store: DirectoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Inotify, "wait", lambda *_: [Seen("", "")])
    assert store.wait_for_change(Call.within(LONG))


def test_closing_lets_go_of_every_descriptor(place: Path) -> None:
    before = os.listdir("/proc/self/fd")
    store = DirectoryStore(place)
    assert store.wait_for_change(Call.within(LONG))
    store.close()
    store.close()
    assert os.listdir("/proc/self/fd") == before


def test_a_wake_comes_at_once_when_it_comes_too_late() -> None:
    abort = Abort()
    calls: list[int] = []
    with abort.waking(lambda: calls.append(1)):
        assert calls == []
        abort.set()
        assert calls == [1]
    with abort.waking(lambda: calls.append(2)):
        assert calls == [1, 2]
    abort.set()
    assert calls == [1, 2]
