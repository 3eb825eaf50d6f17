"""An object arrives in Google Drive exactly once: every fault at every step, and every death between two steps."""

import hashlib
import itertools
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cryptfs.errors import Fatal, LocalDisk, NotFound, Quota, Retry, StoreError
from cryptfs.faults import Faults
from cryptfs.store import Call
from cryptfs.store.drive import body
from cryptfs.store.drive.store import DriveStore
from tests.drive_emulator import Answer, DropAfter, DropBefore, LoseTail, Truncate, html, refusal
from tests.store.conftest import ANNA, BEN, DriveWorld

CALL = Call()
KIB = 1 << 10
SMALL, LARGE = os.urandom(5000), os.urandom(1200 * KIB + 17)
KEY = "p/" + hashlib.sha256(LARGE).hexdigest()

FAULTS = {
    "drop before": DropBefore(),
    "drop in the body": DropBefore(after_bytes=300_000),
    "drop after": DropAfter(),
    "truncated": Truncate(3),
    "500": html(500),
    "401": refusal(401, "authError"),
    "rate": refusal(403, "userRateLimitExceeded"),
    "404": refusal(404, "notFound"),
    "410": Answer(refusal(410, "gone").reply),
    "id refused": refusal(400, "fileIdNotUsable"),
}


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "CHUNK", 256 * KIB)


def persist(store: DriveStore, data: bytes, key: str = KEY, tries: int = 12) -> list[StoreError]:
    """Put it as the uploader does, again and again; returns what went wrong on the way."""
    trouble: list[StoreError] = []
    for _ in range(tries):
        try:
            store.put(key, data, CALL)
        except StoreError as error:
            trouble.append(error)
        else:
            return trouble
    pytest.fail(f"never arrived: {trouble}")


def name(key: str = KEY) -> str:
    return key.partition("/")[2]


def pending(store: DriveStore) -> int:
    return len(store._ids._rows("SELECT key FROM upload", ()))


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
def test_every_fault_at_every_step_ends_with_one_verified_object(
    drive: DriveWorld, tmp_path: Path, fault: str, data: bytes
) -> None:
    store = drive.open(table=tmp_path / "t.db")
    for step in itertools.count(1):
        key = f"p/{step:08x}"
        rule = drive.emulator.fail(FAULTS[fault], nth=step)
        persist(store, data + bytes([step]), key)
        drive.emulator.heal()
        assert drive.objects()[name(key)] == [data + bytes([step])], f"step {step}"
        assert pending(store) == 0
        assert store.get(key, CALL) == data + bytes([step])
        if not rule.hits:
            assert step > (1 if data == SMALL else 5)
            break


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
def test_what_never_arrives_stays_pending_and_makes_nothing(drive: DriveWorld, tmp_path: Path, data: bytes) -> None:
    store = drive.open(table=tmp_path / "t.db")
    store.put("p/00", b"", CALL)
    drive.emulator.fail(DropBefore(), "upload.*", times=None)
    drive.emulator.fail(DropBefore(), "files.create", times=None)
    for _ in range(3):
        with pytest.raises(Retry):
            store.put(KEY, data, CALL)
        assert pending(store) == 1
        assert name() not in drive.objects()


def test_a_session_that_lost_its_tail_goes_on_from_where_it_is(drive: DriveWorld) -> None:
    store = drive.open()
    drive.emulator.fail(LoseTail(256 * KIB), "upload.chunk", nth=3)
    assert len(persist(store, LARGE)) <= 1  # the library sends it again by itself
    assert drive.objects()[name()] == [LARGE]
    assert drive.emulator.count("upload.start") == 1


@pytest.mark.parametrize("status", [404, 410])
def test_an_expired_session_is_replaced_under_the_same_id(drive: DriveWorld, tmp_path: Path, status: int) -> None:
    drive.emulator.settings.behaviour.expired_session = status
    store = drive.open(table=tmp_path / "t.db")
    drive.emulator.fail(DropBefore(), "upload.chunk", nth=3, times=None)
    with pytest.raises(Retry):
        store.put(KEY, LARGE, CALL)
    drive.emulator.heal()
    before = store._ids.upload(KEY)
    drive.emulator.fail(refusal(status, "notFound"), "upload.query", times=None)
    assert persist(store, LARGE) == []
    assert before is not None
    assert store._ids.copies(KEY)[0].id == before.id
    assert drive.objects()[name()] == [LARGE]


def test_other_bytes_under_our_id_are_an_alarm_and_sent_again_as_another_file(drive: DriveWorld) -> None:
    store = drive.open()
    drive.emulator.fail(DropAfter(), "files.create", nth=2)  # the first makes the folder
    # The connection is made anew and the request sent again by itself: a 409, and before it is looked into:
    drive.emulator.fail(Truncate(0), "files.get", nth=2, times=None)
    with pytest.raises(Retry):
        store.put("p/aa", SMALL, CALL)
    drive.emulator.heal()
    (made,) = drive.emulator.named("aa")
    drive.emulator.replace(made.id, b"x" * len(SMALL))
    with pytest.raises(Fatal, match="other bytes") as caught:
        store.put("p/aa", SMALL, CALL)
    assert caught.value.state == "alarm"
    assert persist(store, SMALL, "p/aa") == []
    assert sorted(drive.objects()["aa"]) == sorted([SMALL, b"x" * len(SMALL)])
    assert store.get("p/aa", CALL) == SMALL  # the proven one


def test_a_request_that_went_twice_makes_one_file(drive: DriveWorld) -> None:
    store = drive.open()
    store.put("p/00", b"", CALL)
    drive.emulator.fail(DropAfter(), "files.create", times=1)
    persist(store, SMALL)
    assert drive.objects()[name()] == [SMALL]


def test_ids_of_another_account_are_dropped_with_it(drive: DriveWorld, tmp_path: Path) -> None:
    drive.open(ANNA, tmp_path / "t.db").put("p/aa", SMALL, CALL)
    drive.close()
    ben = drive.open(BEN, tmp_path / "t.db")
    assert ben.put("l/bb", SMALL, CALL).size == len(SMALL)
    assert drive.emulator.named("bb")[0].owner == BEN


def test_ids_that_google_has_forgotten_are_minted_anew(drive: DriveWorld) -> None:
    store = drive.open()
    store.put("p/00", b"", CALL)
    drive.emulator.world.minted.clear()
    assert store.put(KEY, LARGE, CALL).size == len(LARGE)
    assert drive.objects()[name()] == [LARGE]


def test_a_folder_that_was_deleted_is_made_again(drive: DriveWorld) -> None:
    store = drive.open()
    store.put("p/00", b"", CALL)
    (folder,) = drive.emulator.named("p")
    drive.emulator.vanish(folder.id)
    persist(store, LARGE)
    (folder,) = drive.emulator.named("p")
    assert [item.name for item in drive.emulator.items(folder.id)] == [name()]


def test_four_threads_make_one_folder(drive: DriveWorld) -> None:
    store = drive.open()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: store.put(f"p/{n:02x}", SMALL, CALL), range(8)))
    assert len(drive.emulator.named("p")) == 1
    assert drive.emulator.count("files.generateIds") <= 4


def test_two_folders_of_one_name_are_both_read_and_all_write_to_the_same(drive: DriveWorld) -> None:
    for data in (b"aa", b"bb"):
        drive.emulator.file(ANNA, data.decode(), data, drive.emulator.folder(ANNA, "l", drive.vault))
    for email, key in ((ANNA, "l/cc"), (BEN, "l/dd"), (ANNA, "l/ee")):
        drive.open(email).put(key, key.encode(), CALL)
    assert len({drive.emulator.named(one)[0].parent for one in ("cc", "dd", "ee")}) == 1
    store = drive.open(BEN)
    assert [stat.key for stat in store.list("l/", CALL)] == ["l/aa", "l/bb", "l/cc", "l/dd", "l/ee"]
    assert store.get("l/bb", CALL) == b"bb"


def test_packs_are_spread_before_their_folder_is_full(drive: DriveWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cryptfs.store.drive.folders.SPLIT_AT", 2)
    store, other = drive.open(), drive.open(BEN)
    for key in ("p/0a", "p/1b", "p/2c", "p/2d", "p/3e"):
        store.put(key, key.encode(), CALL)
    assert [stat.key for stat in store.list("p", CALL)] == ["p/0a", "p/1b", "p2/2c", "p2/2d", "p3/3e"]
    for reader in (store, other):
        assert reader.get("p/2c", CALL) == b"p/2c"
        assert reader.stat("p/3e", CALL) is not None
    store.delete("p/2c", CALL)
    with pytest.raises(NotFound):
        store.get("p/2c", CALL)
    assert store.put("p/2d", b"p/2d", CALL).key == "p2/2d"


def test_nothing_is_sent_to_a_full_account_before_it_has_room(drive: DriveWorld) -> None:
    store = drive.open()
    store.put("p/00", b"", CALL)
    user = drive.emulator.world.users[ANNA]
    user.storage = 100
    for _ in range(3):
        with pytest.raises(Quota):
            store.put(KEY, LARGE, CALL)
    tried = drive.emulator.count("upload.start")
    assert tried <= 1
    user.storage = 1 << 30
    assert persist(store, LARGE) == []


def test_a_file_that_changes_while_it_is_sent_is_not_taken_for_what_it_was(drive: DriveWorld, tmp_path: Path) -> None:
    store, path = drive.open(), tmp_path / "pack"
    path.write_bytes(LARGE)
    drive.emulator.fail(DropBefore(), "upload.chunk", nth=3, times=None)
    with pytest.raises(Retry):
        store.put_file(KEY, path, CALL)
    drive.emulator.heal()
    path.write_bytes(LARGE[:-1] + b"?")
    store.put_file(KEY, path, CALL)  # another object; the session of the first is forgotten
    assert drive.objects()[name()] == [LARGE[:-1] + b"?"]
    with path.open("r+b") as file:
        file.truncate(10)
    store.put_file("p/cc", path, CALL)
    path.unlink()
    with pytest.raises(LocalDisk):
        store.put_file("p/dd", path, CALL)


def test_of_copies_a_reader_who_asks_again_gets_another(drive: DriveWorld) -> None:
    folder = drive.emulator.folder(ANNA, "l", drive.vault)
    bodies = [b"one", b"two", b"six"]
    for data in bodies:
        drive.emulator.file(ANNA, "aa", data, folder)
    store = drive.open(BEN)
    assert sorted(store.get("l/aa", CALL) for _ in bodies) == sorted(bodies)


def test_of_copies_the_one_whose_hash_is_its_name_comes_first(drive: DriveWorld) -> None:
    folder = drive.emulator.folder(ANNA, "p", drive.vault)
    for data in (b"junk", LARGE, b"other junk"):
        drive.emulator.file(ANNA, name(), data, folder)
    store = drive.open(BEN)
    assert all(store.get(KEY, CALL) == LARGE for _ in range(4))


# ---- deaths ----------------------------------------------------------------------------------------------------------

DYING = """
import os, signal, sys
from pathlib import Path
from cryptfs.faults import Faults
from cryptfs.store import Call
from cryptfs.store.drive import body
from cryptfs.store.drive.access import DriveAccess
from cryptfs.store.drive.quota import Limits
from cryptfs.store.drive.store import DriveStore
body.CHUNK = 256 << 10
login, folder, table, key, pack, at = sys.argv[1:]
faults = Faults(int(at), lambda name: os.kill(os.getpid(), signal.SIGKILL))
quick = Limits(rate=1e4, rate_max=1e4, burst=1e4, minute_units=10**9)
store = DriveStore(DriveAccess.from_json(Path(login).read_bytes()), folder, Path(table), key=bytes(range(32)),
                   limits=quick, faults=faults)
store.put_file(key, Path(pack), Call.within(20))
"""


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
def test_killed_at_every_step_and_resumed_there_is_one_object(drive: DriveWorld, tmp_path: Path, data: bytes) -> None:
    from tests.drive_store import access

    login, pack, table = tmp_path / "login", tmp_path / "pack", tmp_path / "t.db"
    login.write_bytes(access(drive.emulator, ANNA).to_json())
    pack.write_bytes(data)

    def run(key: str, step: int) -> int:
        line = [sys.executable, "-c", DYING, str(login), drive.vault, str(table), key, str(pack), str(step)]
        return subprocess.run(line, check=False, cwd=Path.cwd()).returncode

    for step in itertools.count(1):
        key = f"p/{step:02x}"
        died = run(key, step)
        assert died in (0, -9)
        store = drive.open(table=table)
        store.put_file(key, pack, CALL)
        assert drive.objects()[name(key)] == [data], f"step {step}"
        assert pending(store) == 0
        drive.close()
        if died == 0:
            assert step > 4
            break


def test_a_new_process_goes_on_where_the_session_is(drive: DriveWorld, tmp_path: Path) -> None:
    table = tmp_path / "t.db"
    drive.emulator.fail(DropBefore(), "upload.chunk", nth=4, times=None)
    with pytest.raises(Retry):
        drive.open(table=table).put(KEY, LARGE, CALL)
    drive.close()
    drive.emulator.heal()
    sent = sum(one.received for one in drive.emulator.requests("upload.chunk"))
    drive.open(table=table).put(KEY, LARGE, CALL)
    again = sum(one.received for one in drive.emulator.requests("upload.chunk")) - sent
    assert again < len(LARGE) - 2 * 256 * KIB
    assert drive.emulator.count("upload.start") == 1
    assert drive.objects()[name()] == [LARGE]


def test_secrets_of_an_upload_lie_sealed(drive: DriveWorld, tmp_path: Path) -> None:
    store = drive.open(table=tmp_path / "t.db")
    drive.emulator.fail(DropBefore(), "upload.chunk", nth=2, times=None)
    with pytest.raises(Retry) as caught:
        store.put(KEY, LARGE, CALL)
    upload = store._ids.upload(KEY)
    assert upload is not None
    assert upload.session.startswith("http")
    assert "upload_id" not in f"{caught.value} {caught.value.advice}"
    assert upload.session not in repr(caught.value)
    stored = b"".join(path.read_bytes() for path in tmp_path.glob("t.db*"))
    assert len(stored) > 8192
    for secret in (upload.session, upload.id, KEY, "upload_id"):
        assert secret.encode() not in stored


def test_a_damaged_table_is_begun_anew(drive: DriveWorld, tmp_path: Path) -> None:
    table = tmp_path / "t.db"
    drive.open(table=table).put(KEY, SMALL, CALL)
    drive.close()
    for path in tmp_path.glob("t.db*"):
        path.write_bytes(b"not a database" * 1000)
    assert drive.open(table=table).get(KEY, CALL) == SMALL


def test_one_key_is_sent_by_one_thread_at_a_time(drive: DriveWorld) -> None:
    store, gate = drive.open(), threading.Barrier(4)

    def put(_: int) -> str:
        gate.wait()
        return store.put(KEY, LARGE, CALL).id

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(put, range(4)))) == 1
    assert drive.objects()[name()] == [LARGE]
    assert Faults().count == 0
