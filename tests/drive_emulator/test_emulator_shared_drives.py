"""Shared drives: the drive owns everything, roles decide, and one must say that one knows of them."""

import pytest

from tests.drive_emulator import Emulator
from tests.drive_emulator.conftest import ANNA, BEN, EVE
from tests.drive_emulator.real_client import GoogleClient, refused_with

ALL = {"supportsAllDrives": True, "includeItemsFromAllDrives": True}


@pytest.fixture
def drive(emulator: Emulator) -> str:
    return emulator.shared_drive("Team", {ANNA: "organizer", BEN: "writer", EVE: "fileOrganizer"})


def test_the_drive_owns(emulator: Emulator, ben: GoogleClient, drive: str) -> None:
    told = ben.get(ben.create(drive, "b", b"12345")["id"])
    assert told["driveId"] == drive
    assert not {"owners", "ownedByMe"} & told.keys()
    assert emulator.world.bytes_of[BEN] == 0


def test_writers_write_file_organizers_trash_organizers_delete(
    emulator: Emulator, anna: GoogleClient, ben: GoogleClient, eve: GoogleClient, drive: str
) -> None:
    made = ben.create(drive, "b", b"")["id"]
    for client, trash, delete in ((ben, False, False), (eve, True, False), (anna, True, True)):
        told = client.get(made, "capabilities")["capabilities"]
        assert (told["canEdit"], told["canTrash"], told["canDelete"]) == (True, trash, delete)
    refused_with(403, "insufficientFilePermissions", lambda: ben.update(made, {"trashed": True}))
    refused_with(403, "insufficientFilePermissions", lambda: eve.delete(made))
    eve.update(made, {"trashed": True})
    assert ben.get(made)["trashed"] is True  # everybody still sees it, unlike on My Drive
    anna.delete(made)
    refused_with(404, "notFound", lambda: ben.get(made))
    emulator.settings.behaviour.writer_may_trash = True
    ben.update(ben.create(drive, "c", b"")["id"], {"trashed": True})


def test_calls_that_do_not_say_they_know_see_nothing(ben: GoogleClient, drive: str) -> None:
    made = ben.create(drive, "b", b"")["id"]
    refused_with(404, "notFound", lambda: ben.run(ben.api.files().get(fileId=made)))
    assert ben.names("name = 'b'") == []
    assert ben.names("name = 'b'", **ALL) == ["b"]
    assert ben.names(f"'{drive}' in parents", corpora="drive", driveId=drive, **ALL) == ["b"]
    refused_with(403, "driveId", lambda: ben.names("", corpora="drive", **ALL))
    refused_with(403, "", lambda: ben.names("", includeItemsFromAllDrives=True))
    start = ben.feed_end()
    ben.create(drive, "c", b"")
    assert ben.changes(start)[0] == []
    assert [one["file"]["name"] for one in ben.changes(start, **ALL)[0]] == ["c"]


def test_a_drive_has_a_feed_of_its_own(anna: GoogleClient, ben: GoogleClient, drive: str) -> None:
    start = ben.feed_end(driveId=drive, supportsAllDrives=True)
    made = ben.create(drive, "b", b"")["id"]
    anna.delete(made)
    heard = ben.changes(start, driveId=drive, **ALL)[0]
    assert {(one["fileId"], one["removed"]) for one in heard} == {(made, True)}


def test_who_is_no_member_sees_no_drive(emulator: Emulator, drive: str, anna: GoogleClient) -> None:
    assert [one["name"] for one in anna.run(anna.api.drives().list())["drives"]] == ["Team"]
    emulator.user("dan@example.org")
    with GoogleClient(emulator, "dan@example.org") as dan:
        assert dan.run(dan.api.drives().list())["drives"] == []
        refused_with(404, "", lambda: dan.run(dan.api.drives().get(driveId=drive)))
        refused_with(404, "", lambda: dan.create(drive, "x", b""))
        refused_with(404, "", lambda: dan.changes("1", driveId=drive, **ALL))


def test_members_are_managed_by_organizers(
    emulator: Emulator, anna: GoogleClient, ben: GoogleClient, drive: str
) -> None:
    emulator.user("dan@example.org")
    body = {"type": "user", "role": "writer", "emailAddress": "dan@example.org"}

    def share(client: GoogleClient) -> dict[str, str]:
        request = client.api.permissions().create(
            fileId=drive, body=body, supportsAllDrives=True, sendNotificationEmail=False
        )
        return dict(client.run(request))

    refused_with(403, "insufficientFilePermissions", lambda: share(ben))
    permission = share(anna)["id"]
    with GoogleClient(emulator, "dan@example.org") as dan:
        dan.create(drive, "d", b"")
        anna.run(anna.api.permissions().delete(fileId=drive, permissionId=permission, supportsAllDrives=True))
        refused_with(404, "notFound", lambda: dan.create(drive, "e", b""))


def test_a_drive_holds_so_many_items(emulator: Emulator, ben: GoogleClient, drive: str) -> None:
    emulator.settings.limits.shared_drive_items = 2
    ben.create(drive, "a", b"")
    ben.create(drive, "b", b"")
    refused_with(403, "teamDriveFileLimitExceeded", lambda: ben.create(drive, "c", b""))


def test_a_shared_drive_itself_is_not_deleted_as_a_file(anna: GoogleClient, drive: str) -> None:
    refused_with(403, "", lambda: anna.delete(drive))
