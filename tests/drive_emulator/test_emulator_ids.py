"""Ids of files to come: minted for one account, good once."""

from tests.drive_emulator import Emulator, VirtualClock
from tests.drive_emulator.real_client import GoogleClient, refused_with


def test_as_many_as_asked_for_and_a_thousand_at_most(anna: GoogleClient) -> None:
    assert len(set(anna.mint(1000))) == 1000
    assert len(anna.run(anna.api.files().generateIds())["ids"]) == 10
    refused_with(400, "invalidParameter", lambda: anna.mint(1001))


def test_an_id_nobody_minted_is_refused(anna: GoogleClient, folder: str) -> None:
    refused_with(400, "fileIdNotUsable", lambda: anna.create(folder, "a", b"", "1" * 33))


def test_an_id_minted_for_another_account_is_refused(
    emulator: Emulator, anna: GoogleClient, ben: GoogleClient, folder: str
) -> None:
    theirs = anna.mint(1)[0]
    refused_with(400, "fileIdNotUsable", lambda: ben.create(folder, "a", b"", theirs))
    emulator.settings.behaviour.foreign_ids = True
    assert ben.create(folder, "a", b"", theirs)["id"] == theirs


def test_an_id_stays_taken_after_the_trash_and_after_deletion(anna: GoogleClient, folder: str) -> None:
    taken = anna.mint(1)[0]
    anna.create(folder, "a", b"", taken)
    anna.update(taken, {"trashed": True})
    refused_with(409, "fileIdInUse", lambda: anna.create(folder, "a", b"", taken))
    anna.delete(taken)
    refused_with(409, "fileIdInUse", lambda: anna.create(folder, "a", b"", taken))


def test_ids_may_be_set_to_grow_old(emulator: Emulator, clock: VirtualClock, anna: GoogleClient, folder: str) -> None:
    emulator.settings.behaviour.id_seconds = 100
    minted = anna.mint(2)
    anna.create(folder, "a", b"", minted[0])
    clock.advance(101)
    refused_with(400, "fileIdNotUsable", lambda: anna.create(folder, "a", b"", minted[1]))


def test_editor_formats_take_no_chosen_id(anna: GoogleClient) -> None:
    body = {"id": anna.mint(1)[0], "name": "a", "mimeType": "application/vnd.google-apps.document"}
    refused_with(400, "fileIdNotUsable", lambda: anna.run(anna.api.files().create(body=body)))
