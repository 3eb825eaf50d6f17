"""Accounts that go: what another account owns is copied into one's own, and let go where others have it."""

import hashlib
import itertools
import os
from pathlib import Path

import pytest

from cryptfs.errors import Denied, Fatal, NotFound, Quota, StoreError
from cryptfs.faults import Faults
from cryptfs.store import Call, Cap
from cryptfs.store.base import Owning
from cryptfs.store.drive import body
from cryptfs.store.drive.store import DriveStore
from tests.drive_emulator import DropAfter, DropBefore, refusal
from tests.store.conftest import ANNA, BEN, DriveWorld

CALL = Call()
DATA = os.urandom(300_000)
NAME = hashlib.sha256(DATA).hexdigest()
PACK, SEGMENT = f"p/{NAME}", "l/aa"


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "CHUNK", 256 << 10)


def owners(drive: DriveWorld, name: str = NAME) -> list[str]:
    return sorted(item.owner for item in drive.emulator.named(name))


def test_a_pack_is_taken_over_by_one_copy_and_the_original_let_go(drive: DriveWorld) -> None:
    anna, ben = drive.open(), drive.open(BEN)
    assert isinstance(anna, Owning)
    assert Cap.OWNERS in anna.caps
    ben.put(PACK, DATA, CALL)
    drive.emulator.forget_requests()
    assert anna.take_over(PACK, CALL)
    assert not anna.take_over(PACK, CALL)
    assert owners(drive) == [ANNA, BEN]
    assert (drive.emulator.count("files.copy"), drive.emulator.count("files.get_media")) == (1, 0)
    assert not anna.hand_over("p/" + "0" * 64, CALL)
    assert ben.hand_over(PACK, CALL)
    assert not ben.hand_over(PACK, CALL)
    assert owners(drive) == [ANNA]
    assert anna.get(PACK, CALL) == ben.get(PACK, CALL) == DATA


def test_the_last_file_of_an_object_is_never_let_go(drive: DriveWorld) -> None:
    anna, ben = drive.open(), drive.open(BEN)
    ben.put(PACK, DATA, CALL)
    assert not ben.hand_over(PACK, CALL)
    anna.take_over(PACK, CALL)
    (hers,) = [item for item in drive.emulator.named(NAME) if item.owner == ANNA]
    hers.blob, kept = drive.emulator.item(drive.emulator.file(ANNA, "x", b"other bytes")).blob, hers.blob
    assert not ben.hand_over(PACK, CALL)  # a copy of other bytes is none
    hers.blob = kept
    drive.emulator.settings.behaviour.sha256 = False
    assert not ben.hand_over(PACK, CALL)  # others can make files of our MD5
    drive.emulator.settings.behaviour.sha256 = True
    hers.trashed = True
    assert not ben.hand_over(PACK, CALL)
    assert BEN in owners(drive)


def test_a_member_whose_account_is_deleted_leaves_what_was_taken_over(drive: DriveWorld) -> None:
    ben, anna = drive.open(BEN), drive.open()
    for key in (PACK, SEGMENT, "genesis"):
        ben.put(key, DATA, CALL)  # and the folders `p` and `l` are Ben's
    late = drive.open("cleo@example.org")
    drive.emulator.share(drive.vault, "cleo@example.org", "reader")
    for key in (PACK, SEGMENT, "genesis"):
        assert anna.take_over(key, CALL)
    assert all(late.get(key, CALL) == DATA for key in (PACK, SEGMENT, "genesis"))
    drive.emulator.remove_user(BEN)
    for store in (anna, late, drive.open()):
        assert [stat.key for stat in store.list("", CALL)] == ["genesis", SEGMENT, PACK]
        assert all(store.get(key, CALL) == DATA for key in (PACK, SEGMENT, "genesis"))
    anna.put("l/bb", DATA, CALL)
    assert late.get("l/bb", CALL) == DATA


@pytest.mark.parametrize("size", [5_000, 300_000])
def test_where_copying_is_forbidden_the_bytes_are_carried(drive: DriveWorld, size: int) -> None:
    data = DATA[:size]
    key = "p/" + hashlib.sha256(data).hexdigest()
    anna, ben = drive.open(), drive.open(BEN)
    ben.put(key, data, CALL)
    drive.emulator.settings.behaviour.copies_allowed = False
    assert anna.take_over(key, CALL)
    assert owners(drive, key[2:]) == [ANNA, BEN]
    drive.emulator.remove_user(BEN)
    assert anna.get(key, CALL) == data


def test_a_full_account_takes_nothing_over_and_says_so(drive: DriveWorld) -> None:
    anna, ben = drive.open(), drive.open(BEN)
    ben.put(PACK, DATA, CALL)
    drive.emulator.world.users[ANNA].storage = 1000
    with pytest.raises(Quota) as caught:
        anna.take_over(PACK, CALL)
    assert "Free space" in caught.value.advice
    assert owners(drive) == [BEN]


def test_what_is_gone_cannot_be_taken_over(drive: DriveWorld) -> None:
    anna, ben = drive.open(), drive.open(BEN)
    ben.put(PACK, DATA, CALL)
    list(anna.list("p/", CALL))
    drive.emulator.remove_user(BEN)
    with pytest.raises(NotFound):
        anna.take_over(PACK, CALL)


def test_other_bytes_under_the_name_of_a_pack_are_not_taken_over(drive: DriveWorld) -> None:
    anna, ben = drive.open(), drive.open(BEN)
    ben.put(PACK, DATA[:-1], CALL)
    with pytest.raises(Fatal, match="not what that name says"):
        anna.take_over(PACK, CALL)
    drive.open("cleo@example.org")
    drive.emulator.share(drive.vault, "cleo@example.org", "writer")
    drive.open("cleo@example.org").put(PACK, DATA, CALL)
    assert drive.open().take_over(PACK, CALL)
    assert [item.blob.data for item in drive.emulator.named(NAME) if item.owner == ANNA and item.blob] == [DATA]


def test_of_objects_that_only_a_reader_can_tell_apart_each_is_taken_over_but_not_any_number(drive: DriveWorld) -> None:
    anna, ben = drive.open(), drive.open(BEN)
    ben.put("l/00", b"", CALL)
    (folder,) = drive.emulator.named("l")
    for number in range(9):
        drive.emulator.file(BEN, "aa", b"%d" % number, folder.id)
    assert anna.take_over(SEGMENT, CALL)
    assert owners(drive, "aa") == [ANNA] * 4 + [BEN] * 9


def test_what_another_account_owns_is_not_deleted(drive: DriveWorld) -> None:
    anna, ben = drive.open(), drive.open(BEN)
    ben.put(PACK, DATA, CALL)
    with pytest.raises(Denied) as caught:
        anna.delete(PACK, CALL)
    assert "cryptfs-admin adopt" in caught.value.advice
    assert owners(drive) == [BEN]


def test_on_a_shared_drive_nothing_has_an_owner(drive: DriveWorld) -> None:
    drive.vault = drive.emulator.shared_drive("Team", {ANNA: "organizer", BEN: "writer"})
    anna, ben = drive.open(), drive.open(BEN)
    ben.put(PACK, DATA, CALL)
    assert not anna.take_over(PACK, CALL)
    assert not ben.hand_over(PACK, CALL)
    assert Cap.OWNERS not in anna.caps
    assert len(drive.emulator.named(NAME)) == 1


FAULTS = {
    "drop before": DropBefore(), "drop after": DropAfter(), "404": refusal(404, "notFound"),
    "500": refusal(500, "backendError"), "rate": refusal(403, "userRateLimitExceeded"),
    "id refused": refusal(400, "fileIdNotUsable"),
}  # fmt: skip


def persist(store: DriveStore) -> None:
    """Take over as those do who are told to try again."""
    for _ in range(6):
        try:
            store.take_over(PACK, CALL)
        except NotFound:
            pytest.fail("a fault was taken for an object that is gone")
        except StoreError:
            continue
        return
    pytest.fail("never taken over")


@pytest.mark.parametrize("fault", [one for one in FAULTS if one != "404"])
def test_every_fault_at_every_call_ends_with_one_copy(drive: DriveWorld, fault: str) -> None:
    ben = drive.open(BEN)
    ben.put(PACK, DATA, CALL)
    for call in ("files.list", "files.get", "files.generateIds", "files.create", "files.copy"):
        anna = drive.open()
        drive.emulator.fail(FAULTS[fault], call, times=2)
        persist(anna)
        drive.emulator.heal()
        assert owners(drive) == [ANNA, BEN], call
        anna.delete(PACK, CALL)
        drive.opened.remove(anna)
        anna.close()


def test_a_copy_that_finds_nothing_while_the_original_is_there_is_tried_again(drive: DriveWorld) -> None:
    drive.open(BEN).put(PACK, DATA, CALL)
    drive.emulator.fail(FAULTS["404"], "files.copy", times=2)
    persist(drive.open())
    assert owners(drive) == [ANNA, BEN]


class Died(Exception):
    """The process is gone."""


def test_stopped_at_every_step_and_begun_again_there_is_one_copy(drive: DriveWorld, tmp_path: Path) -> None:
    def die(name: str) -> None:
        raise Died(name)

    drive.open(BEN).put(PACK, DATA, CALL)
    passed = set()
    for at in itertools.count(1):
        faults, table = Faults(at, die), tmp_path / f"{at}.db"
        dying = drive.open(ANNA, table, faults)
        try:
            dying.take_over(PACK, CALL)
        except Died as death:
            passed.add(str(death))
        drive.opened.remove(dying)
        dying.close()
        anna = drive.open(ANNA, table)
        anna.take_over(PACK, CALL)
        assert owners(drive) == [ANNA, BEN]
        anna.delete(PACK, CALL)
        drive.opened.remove(anna)
        anna.close()
        if not faults.fired:
            break
    assert passed == {"drive.copy", "drive.copied", "drive.proven"}
