"""Calls to Google Drive: given up in every phase, tokens renewed once, listings that hide, a feed that starts over."""

import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cryptfs.errors import NotFound, Retry
from cryptfs.store import Abort, Call, Change
from cryptfs.store.drive.access import DriveAccess
from cryptfs.store.drive.store import DriveStore
from tests.drive_emulator import Drip, Stall
from tests.store.conftest import ANNA, BEN, DriveWorld

CALL = Call()
DATA = bytes(range(256)) * 40
DEADLINE = 5.0
"""Seconds in which a call that was given up must be back; the sockets themselves wait thirty."""


def given_up(act: Callable[[Call], object], ready: Callable[[], object]) -> None:
    """Run `act` in a thread, give it up when `ready` returns, and see it end with Retry in time."""
    abort, caught = Abort(), []

    def run() -> None:
        with pytest.raises(Retry) as error:
            act(Call(abort=abort))
        caught.append(error.value)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    ready()
    abort.set()
    thread.join(DEADLINE)
    assert not thread.is_alive()
    assert "given up" in str(caught[0])


@pytest.mark.parametrize("fault", [Stall(60), Drip(1, 0.02)], ids=["in the header", "in the body"])
def test_a_call_that_is_given_up_ends_at_once_and_is_not_sent_again(drive: DriveWorld, fault: Stall) -> None:
    store = drive.open()
    store.put("p/aa", DATA, CALL)
    rule = drive.emulator.fail(fault, "files.get_media")
    before = drive.emulator.count("files.get_media")
    given_up(lambda call: store.get("p/aa", call), lambda: rule.struck.wait(DEADLINE))
    assert store.get("p/aa", CALL) == DATA
    assert drive.emulator.count("files.get_media") == before + 2


def test_a_call_that_is_given_up_while_connecting_ends_at_once() -> None:
    with socket.socket() as server:  # takes connections into its queue, until that is full, and never answers
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        address = server.getsockname()
        full = [socket.socket() for _ in range(4)]
        for one in full:
            one.setblocking(False)
            one.connect_ex(address)
        url = f"http://127.0.0.1:{address[1]}"
        store = DriveStore(DriveAccess("id", "secret", "refresh", f"{url}/token", ANNA, url), "root-of-nothing")
        given_up(lambda call: store.get("p/aa", call), lambda: threading.Event().wait(0.3))
        store.close()
        for one in full:
            one.close()


def test_an_aborted_put_is_resolved_by_its_id(drive: DriveWorld) -> None:
    store = drive.open()
    store.put("p/00", b"", CALL)
    rule = drive.emulator.fail(Stall(60), "files.create")
    given_up(lambda call: store.put("p/aa", DATA, call), lambda: rule.struck.wait(DEADLINE))
    store.put("p/aa", DATA, CALL)
    assert drive.objects()["aa"] == [DATA]


def test_a_late_call_ends_although_bytes_keep_coming(drive: DriveWorld) -> None:
    store = drive.open()
    store.put("p/aa", DATA, CALL)
    drive.emulator.fail(Drip(1, 0.02), "files.get_media")
    with pytest.raises(Retry, match="in time"):
        store.get("p/aa", Call.within(0.3))


def test_eight_threads_without_a_token_ask_for_one_once(drive: DriveWorld) -> None:
    drive.open().put("p/aa", DATA, CALL)
    store = drive.open()
    store._ids.learn(drive.opened[0]._ids.copies("p/aa"))
    drive.emulator.forget_requests()
    for round_ in (1, 2):  # without a token; with one that was withdrawn
        gate = threading.Barrier(8)

        def get(_: int, gate: threading.Barrier = gate) -> bytes:
            gate.wait()
            return store.get("p/aa", CALL)

        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(get, range(8))) == {DATA}
        assert drive.emulator.count("token") == round_
        drive.emulator.expire_tokens()


# ---- listings and the feed -------------------------------------------------------------------------------------------


def keys(store: DriveStore, prefix: str = "l/") -> list[str]:
    return [stat.key for stat in store.list(prefix, CALL)]


def test_a_listing_that_hides_an_object_removes_nothing(drive: DriveWorld) -> None:
    store = drive.open()
    store.put("l/aa", DATA, CALL)
    store.put("l/bb", DATA, CALL)
    (hidden,) = drive.emulator.named("aa")
    drive.emulator.settings.listing.hidden.add(hidden.id)
    assert keys(store) == ["l/aa", "l/bb"]
    assert store.get("l/aa", CALL) == DATA
    assert keys(drive.open(BEN)) == ["l/bb"]  # who never heard of it cannot know


def test_what_drive_says_is_gone_is_gone(drive: DriveWorld) -> None:
    anna, ben = drive.open(), drive.open(BEN)
    for key in ("l/aa", "l/bb"):
        anna.put(key, DATA, CALL)
    assert keys(ben) == ["l/aa", "l/bb"]
    anna.delete("l/aa", CALL)
    assert keys(ben) == ["l/bb"]
    with pytest.raises(NotFound):
        ben.get("l/aa", CALL)


def test_the_feed_tells_of_others_objects_and_of_what_is_gone_by_name(drive: DriveWorld, tmp_path: Path) -> None:
    anna, ben = drive.open(), drive.open(BEN, tmp_path / "t.db")
    anna.put("l/aa", DATA, CALL)
    _, cursor = ben.changes("", CALL)
    anna.put("l/bb", DATA, CALL)
    anna.put("c/cc", DATA, CALL)  # in a folder that ben has not heard of
    anna.delete("l/aa", CALL)
    drive.emulator.file(ANNA, "unrelated", b"x")
    told, cursor = ben.changes(cursor, CALL)
    assert {change.key: change.stat is not None for change in told} == {"l/aa": False, "l/bb": True, "c/cc": True}
    drive.opened.remove(ben)
    ben.close()
    anna.put("l/dd", DATA, CALL)
    asked = drive.emulator.count("files.list")
    told, cursor = drive.open(BEN, tmp_path / "t.db").changes(cursor, CALL)
    assert [change.key for change in told] == ["l/dd"]
    assert drive.emulator.count("files.list") == asked


def test_a_token_of_the_feed_that_is_refused_starts_over(drive: DriveWorld) -> None:
    store = drive.open()
    store.put("l/aa", DATA, CALL)
    _, cursor = store.changes("", CALL)
    told, _ = store.changes(cursor.partition(".")[0] + ".9999999999", CALL)
    assert "l/aa" in {change.key for change in told}


def test_the_feed_of_a_shared_drive_is_its_own(drive: DriveWorld) -> None:
    drive.vault = drive.emulator.shared_drive("Team", {ANNA: "organizer", BEN: "writer"})
    anna, ben = drive.open(), drive.open(BEN)
    anna.put("l/aa", DATA, CALL)
    _, cursor = ben.changes("", CALL)
    stat = anna.put("l/bb", DATA, CALL)
    assert Change("l/bb", stat) in ben.changes(cursor, CALL)[0]
    assert keys(ben) == ["l/aa", "l/bb"]
    assert ben.get("l/bb", CALL) == DATA
    assert anna.space(CALL) is None
    ben.put("p/cc", DATA, CALL)
    anna.delete("p/cc", CALL)
    with pytest.raises(NotFound):
        ben.get("p/cc", CALL)


def test_foreign_files_in_the_folder_are_nobodys(drive: DriveWorld) -> None:
    folder = drive.emulator.folder(ANNA, "l", drive.vault)
    drive.emulator.file(ANNA, "notes (1).txt", b"x", folder)
    drive.emulator.file(ANNA, "holiday.jpg", b"x", drive.vault)
    drive.emulator.folder(ANNA, "ab", folder)
    drive.emulator.folder(ANNA, "pictures", drive.vault)
    assert keys(drive.open(), "") == []
