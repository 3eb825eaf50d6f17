"""Letting accounts into a folder of Google Drive and out, as Drive has it: over HTTP, with the real client."""

from collections.abc import Iterator

import pytest

from cryptfs.errors import Denied, Retry
from cryptfs.store.base import Access, Call, Sharing
from cryptfs.store.drive.store import DriveStore
from cryptfs.store.memory import MemoryStore
from tests.drive_emulator import Emulator
from tests.drive_emulator.faults import DropAfter, refusal
from tests.drive_store import drive_store

ANNA, BEN, EVE = "anna@example.org", "ben@example.org", "eve@elsewhere.net"
KEY = "l/" + "0" * 32 + "-0000000000-" + "1" * 16


@pytest.fixture
def drive() -> Iterator[Emulator]:
    with Emulator() as emulator:
        for who in (ANNA, BEN, EVE):
            emulator.user(who)
        yield emulator


@pytest.fixture
def folder(drive: Emulator) -> str:
    return drive.folder(ANNA, "vault")


@pytest.fixture
def anna(drive: Emulator, folder: str) -> Iterator[DriveStore]:
    store = drive_store(drive, ANNA, folder)
    yield store
    store.close()


def soon() -> Call:
    return Call.within(20)


def accounts(store: DriveStore) -> dict[str, Access]:
    return {one.account: one for one in store.access(soon())}


def test_only_stores_of_accounts_can_share(anna: DriveStore) -> None:
    assert isinstance(anna, Sharing)
    assert not isinstance(MemoryStore(), Sharing)


def test_who_is_let_in_can_write_until_it_is_withdrawn(drive: Emulator, folder: str, anna: DriveStore) -> None:
    assert anna.grant(BEN, soon(), letter=False)
    his = drive_store(drive, BEN, folder)
    his.put(KEY, b"sealed", soon())
    assert accounts(anna)[BEN] == Access(BEN, writes=True, owner=False, inherited=False, person=True)
    assert anna.withdraw(BEN.upper(), soon())
    his.close()
    his = drive_store(drive, BEN, folder)
    with pytest.raises(Denied):
        his.get("genesis", soon())
    with pytest.raises(Denied, match="not to be found"):
        his.put(KEY.replace("1", "2"), b"more", soon())
    his.close()
    assert anna.get(KEY, soon()) == b"sealed"  # what he sent stays his, and ours to read
    assert not anna.withdraw(BEN, soon())


@pytest.mark.parametrize("letter", [False, True])
def test_google_writes_a_letter_only_if_told_to(drive: Emulator, anna: DriveStore, letter: bool) -> None:
    anna.grant(BEN, soon(), letter=letter)
    (asked,) = drive.requests("permissions.create")
    assert asked.query["sendNotificationEmail"] == str(letter).lower()


def test_who_may_write_already_is_left_as_it_is(drive: Emulator, folder: str, anna: DriveStore) -> None:
    drive.share(folder, BEN, "writer")
    assert not anna.grant(BEN, soon(), letter=False)
    drive.share(folder, BEN, "reader")
    assert anna.grant(BEN, soon(), letter=False)
    assert accounts(anna)[BEN].writes


def test_a_lost_answer_to_a_grant_makes_one_permission(drive: Emulator, anna: DriveStore) -> None:
    drive.fail(DropAfter(), "permissions.create")
    try:
        anna.grant(BEN, soon(), letter=False)
    except Retry:
        anna.grant(BEN, soon(), letter=False)
    assert sorted(accounts(anna)) == [ANNA, BEN]


def test_the_owner_cannot_be_withdrawn(drive: Emulator, folder: str, anna: DriveStore) -> None:
    anna.grant(BEN, soon(), letter=False)
    his = drive_store(drive, BEN, folder)
    with pytest.raises(Denied, match="belongs to anna"):
        his.withdraw(ANNA, soon())
    his.close()


def test_nobody_withdraws_the_account_of_this_very_device(drive: Emulator, folder: str, anna: DriveStore) -> None:
    anna.grant(BEN, soon(), letter=False)
    his = drive_store(drive, BEN, folder)
    with pytest.raises(Denied, match="uses that account itself"):
        his.withdraw(BEN, soon())
    his.close()


def test_what_comes_from_a_folder_above_is_withdrawn_there(drive: Emulator) -> None:
    above = drive.folder(ANNA, "above")
    drive.share(above, BEN, "writer")
    store = drive_store(drive, ANNA, drive.folder(ANNA, "vault", above))
    assert accounts(store)[BEN].inherited
    with pytest.raises(Denied, match="by a folder above"):
        store.withdraw(BEN, soon())
    store.close()
    assert drive.count("permissions.delete") == 0


def test_a_shared_drives_members_are_its_managers_business(drive: Emulator) -> None:
    top = drive.shared_drive("Team", {ANNA: "organizer", BEN: "writer"})
    inside, on_top = (drive_store(drive, ANNA, one) for one in (drive.folder(ANNA, "vault", top), top))
    with pytest.raises(Denied, match="member of the shared drive"):
        inside.withdraw(BEN, soon())
    assert inside.grant(EVE, soon(), letter=False)
    assert inside.withdraw(EVE, soon())
    assert on_top.grant(EVE, soon(), letter=False)
    assert on_top.withdraw(EVE, soon())
    bens = drive_store(drive, BEN, top)
    with pytest.raises(Denied):
        bens.grant(EVE, soon(), letter=False)
    for store in (inside, on_top, bens):
        store.close()


@pytest.mark.parametrize(
    ("status", "reason", "said"),
    [
        (403, "shareOutNotPermitted", "administrators forbid it"),
        (403, "shareInNotPermitted", "administrators forbid it"),
        (403, "teamDriveDomainUsersOnlyRestriction", "administrators forbid it"),
        (400, "invalidSharingRequest", "--letter"),
        (403, "domainPolicy", "do not allow this program"),
        (403, "insufficientFilePermissions", "as an editor"),
    ],
)
def test_what_a_domain_forbids_is_said(drive: Emulator, anna: DriveStore, status: int, reason: str, said: str) -> None:
    drive.fail(refusal(status, reason), "permissions.create")
    with pytest.raises(Denied) as told:
        anna.grant(EVE, soon(), letter=False)
    assert said in f"{told.value} {told.value.advice}"


def test_who_may_only_read_does_not_learn_who_has_access(drive: Emulator, folder: str, anna: DriveStore) -> None:
    drive.share(folder, BEN, "reader")
    his = drive_store(drive, BEN, folder)
    with pytest.raises(Denied):
        his.access(soon())
    his.close()


def test_many_permissions_come_in_pages(drive: Emulator, folder: str, anna: DriveStore) -> None:
    for number in range(120):
        drive.share(folder, f"p{number}@example.org", "reader")
    assert len(accounts(anna)) == 121
    assert drive.count("permissions.list") == 2


def test_who_sent_an_object_is_who_made_its_oldest_file(drive: Emulator, folder: str, anna: DriveStore) -> None:
    anna.grant(BEN, soon(), letter=False)
    his = drive_store(drive, BEN, folder)
    his.put(KEY, b"sealed", soon())
    (logs,) = drive.named("l")
    copy = drive.file(ANNA, KEY.removeprefix("l/"), b"sealed", logs.id)  # she took it over
    drive.item(copy).created += 60
    assert anna.senders("l", soon()) == {KEY: BEN}
    his.close()


def test_on_a_shared_drive_too(drive: Emulator) -> None:
    store = drive_store(drive, BEN, drive.shared_drive("Team", {ANNA: "organizer", BEN: "writer"}))
    store.put(KEY, b"sealed", soon())
    assert store.senders("l", soon()) == {KEY: BEN}
    store.close()
