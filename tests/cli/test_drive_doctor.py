"""What `cryptfs doctor` says of a vault on Google Drive: each trouble of docs/google-drive.md, met over HTTP."""

import datetime as dt
from collections.abc import Callable, Iterator

import pytest

from cryptfs.cli import drivedoctor
from cryptfs.cli.drivedoctor import examine_drive
from cryptfs.cli.finding import Finding
from cryptfs.store.drive.access import DriveAccess
from cryptfs.store.drive.examining import Examination
from tests.drive_emulator import Emulator, html, refusal
from tests.drive_emulator.faults import Answer
from tests.drive_store import access

ANNA, BEN = "anna@example.org", "ben@example.org"


@pytest.fixture
def drive() -> Iterator[Emulator]:
    with Emulator() as emulator:
        emulator.user(ANNA)
        emulator.user(BEN)
        yield emulator


@pytest.fixture
def folder(drive: Emulator) -> str:
    """Anna's, with some objects in it."""
    top = drive.folder(ANNA, "vault")
    drive.file(ANNA, "genesis", b"{}", top)
    for name in ("m", "l"):
        below = drive.folder(ANNA, name, top)
        for number in range(3):
            drive.file(ANNA, f"{number:064x}", b"sealed", below)
    return top


def examined(login: DriveAccess, folder: str) -> dict[str, Finding]:
    return {one.subject: one for one in examine_drive(login, folder)}


def worst(login: DriveAccess, folder: str) -> Finding:
    """The last thing that was found, which is wrong."""
    found = list(examine_drive(login, folder))
    assert [one.verdict for one in found[:-1] if one.verdict == "fail"] == []
    assert found[-1].verdict == "fail"
    return found[-1]


def test_all_is_well(drive: Emulator, folder: str) -> None:
    found = examined(access(drive, ANNA), folder)
    assert {subject: one.verdict for subject, one in found.items()} == dict.fromkeys(
        ("Google login", "Google account", "Drive folder", "Drive items", "Drive storage", "clock"), "ok"
    )
    assert "all of Google Drive" in found["Google login"].text
    assert found["Drive items"].text.startswith("9 items, 3 in the fullest folder")


def test_the_client_id_is_gone(drive: Emulator, folder: str) -> None:
    login = access(drive, ANNA)
    drive.service.oauth.clients.clear()
    found = worst(login, folder)
    assert (found.subject, "client id" in found.text) == ("Google login", True)
    assert "--client-secret FILE" in found.advice


def test_the_login_was_withdrawn(drive: Emulator, folder: str) -> None:
    login = access(drive, ANNA)
    drive.revoke(ANNA)
    found = worst(login, folder)
    assert ("expired or was revoked" in found.text, "cryptfs login NAME" in found.advice) == (True, True)


def test_a_box_was_not_ticked(drive: Emulator, folder: str) -> None:
    login = access(drive, ANNA)
    drive.service.oauth.grants[login.refresh_token].scopes = "https://www.googleapis.com/auth/drive.file"
    found = worst(login, folder)
    assert ("does not cover" in found.text, "tick the box" in found.advice) == (True, True)


def test_the_login_service_is_down(drive: Emulator, folder: str) -> None:
    login = access(drive, ANNA)
    drive.fail(html(503), "token")
    assert "login service has a problem" in worst(login, folder).text


def test_the_consent_screen_is_in_testing(drive: Emulator, folder: str) -> None:
    made = access(drive, ANNA)
    today = dt.datetime.now(dt.UTC).date()
    login = DriveAccess(
        made.client_id, made.client_secret, made.refresh_token, made.token_uri, ANNA, made.endpoint,
        since=(today - dt.timedelta(days=3)).isoformat(), until=(today + dt.timedelta(days=4)).isoformat(),
    )  # fmt: skip
    found = examined(login, folder)["Google account"]
    assert (found.verdict, "(3 days)" in found.text, '"Testing"' in found.text) == ("warn", True, True)
    assert "Publish it" in found.advice


@pytest.mark.parametrize(
    ("answer", "said", "advised"),
    [
        (refusal(403, "accessNotConfigured"), "API is not enabled", "Enable it"),
        (refusal(403, "domainPolicy"), "administrators", "allow the client id"),
        (refusal(403, "dailyLimitExceeded"), "daily limit", "midnight Pacific"),
        (refusal(403, "userRateLimitExceeded"), "asks to slow down", "more slowly"),
        (refusal(429, "rateLimitExceeded"), "asks to slow down", "more slowly"),
    ],
)
def test_google_does_not_answer_the_project(
    drive: Emulator, folder: str, answer: Answer, said: str, advised: str
) -> None:
    drive.fail(answer, "about.get", times=None)
    found = worst(access(drive, ANNA), folder)
    assert (found.subject, said in found.text, advised in found.advice) == ("Google account", True, True)


def _unshared(drive: Emulator, folder: str) -> None:
    drive.share(folder, BEN, "")


def _trashed(drive: Emulator, folder: str) -> None:
    drive.settings.behaviour.others_read_trash = True
    drive.item(folder).trashed = True


@pytest.mark.parametrize(
    ("break_it", "said", "advised"),
    [(_unshared, "no such folder", "shared with this account"), (_trashed, "in the trash", "take it out")],
)
def test_the_folder_is_not_to_be_had(
    drive: Emulator, folder: str, break_it: Callable[[Emulator, str], None], said: str, advised: str
) -> None:
    drive.share(folder, BEN, "writer")
    break_it(drive, folder)
    found = worst(access(drive, BEN), folder)
    assert (found.subject, said in found.text, advised in found.advice) == ("Drive folder", True, True)


def test_the_folder_may_only_be_read(drive: Emulator, folder: str) -> None:
    drive.share(folder, BEN, "reader")
    found = examined(access(drive, BEN), folder)["Drive folder"]
    assert (found.verdict, "only read" in found.text, "editor" in found.advice) == ("warn", True, True)


def test_a_shared_drive_is_told_as_one(drive: Emulator) -> None:
    top = drive.shared_drive("Team", {ANNA: "organizer"})
    assert 'deleting takes a "Manager"' in examined(access(drive, ANNA), top)["Drive folder"].text


def test_there_is_little_storage_left(drive: Emulator, folder: str) -> None:
    drive.user("small@example.org", storage=1 << 29)
    drive.share(folder, "small@example.org", "writer")
    found = examined(access(drive, "small@example.org"), folder)["Drive storage"]
    assert (found.verdict, "512 MiB left" in found.text, "empty the trash" in found.advice) == ("warn", True, True)


def test_a_folder_is_nearly_full(drive: Emulator, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drivedoctor, "_ITEMS_MAX", 10)
    found = examined(access(drive, ANNA), folder)["Drive items"]
    assert (found.verdict, "cryptfs-admin collect" in found.advice) == ("warn", True)


def test_a_count_that_takes_too_long_is_told_as_that(
    drive: Emulator, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drivedoctor, "_COUNT_SECONDS", 0.0)
    found = examined(access(drive, ANNA), folder)["Drive items"]
    assert (found.verdict, "not counted to the end" in found.text) == ("ok", True)


def test_the_clock_is_wrong(drive: Emulator, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Examination, "clock_error", lambda _: -600.0)
    found = examined(access(drive, ANNA), folder)["clock"]
    assert (found.verdict, found.text) == ("warn", "600 s behind Google's")
    assert "set-ntp" in found.advice
