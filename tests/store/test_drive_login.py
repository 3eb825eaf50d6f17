"""Logging in at Google: what a browser brings back is believed only as the answer to the question that was asked."""

import datetime as dt
import json
import socket
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator

import httplib2
import pytest

from cryptfs.errors import Auth, ConfigError, Denied, Retry, UsageError
from cryptfs.store.base import Call
from cryptfs.store.drive.access import DriveAccess
from cryptfs.store.drive.client import Client
from cryptfs.store.drive.clientid import DriveClient, split_locator, with_client
from cryptfs.store.drive.examining import Examination, FolderState
from cryptfs.store.drive.login import NOWHERE, Doorstep, Question
from cryptfs.store.drive.tokens import log_out
from tests.drive_emulator import Emulator, html, refusal
from tests.drive_store import access

ANNA, BEN = "anna@example.org", "ben@example.org"
TODAY = dt.date(2026, 11, 25)


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator() as emulator:
        emulator.user(ANNA)
        emulator.user(BEN)
        yield emulator


@pytest.fixture
def client(emulator: Emulator) -> DriveClient:
    return DriveClient.from_console(json.dumps(emulator.client_config()).encode())


def browse(address: str, **answer: str) -> str:
    """What a person does: opens the address, clicks; where the browser is sent."""
    http = httplib2.Http()
    http.follow_redirects = False
    head, body = http.request(f"{address}&{urllib.parse.urlencode(answer)}")
    http.close()
    assert head.status == 302, body
    return str(head["location"])


def finish(question: Question, address: str) -> DriveAccess:
    return question.finish(address, Call.within(20), TODAY)


def test_the_login_is_that_of_the_account_that_was_chosen(client: DriveClient, emulator: Emulator) -> None:
    question = Question(client, NOWHERE)
    got = finish(question, browse(question.address, **{"as": BEN}))
    assert (got.account, got.since, got.until, got.endpoint) == (BEN, "2026-11-25", "", emulator.url)
    assert got.refresh_token not in repr(got)
    assert DriveAccess.from_json(got.to_json()) == got


def test_every_login_gets_a_lasting_token_also_the_second(client: DriveClient) -> None:
    tokens = []
    for _ in range(2):
        question = Question(client, NOWHERE)
        tokens.append(finish(question, browse(question.address, **{"as": ANNA})).refresh_token)
    assert len(set(tokens)) == 2


def test_an_answer_to_another_question_is_refused(client: DriveClient) -> None:
    question, other = Question(client, NOWHERE), Question(client, NOWHERE)
    for address in (browse(other.address, **{"as": ANNA}), NOWHERE, "", "nonsense", "http://[::1"):
        with pytest.raises(UsageError, match="not the answer"):
            finish(question, address)


def test_a_code_that_somebody_else_caught_is_of_no_use_to_him(client: DriveClient) -> None:
    question, thief = Question(client, NOWHERE), Question(client, NOWHERE)
    caught = browse(question.address, **{"as": ANNA})
    state = urllib.parse.parse_qs(urllib.parse.urlsplit(thief.address).query)["state"][0]
    code = urllib.parse.parse_qs(urllib.parse.urlsplit(caught).query)["code"][0]
    with pytest.raises(Auth, match="did not take"):  # without the verifier
        finish(thief, f"{NOWHERE}?state={state}&code={code}")


def test_a_person_may_refuse_all_or_drive_alone(client: DriveClient) -> None:
    question = Question(client, NOWHERE)
    with pytest.raises(Denied, match="refused"):
        finish(question, browse(question.address, deny="1"))
    with pytest.raises(Denied, match="not granted"):
        finish(question, browse(question.address, grant="openid", **{"as": ANNA}))


def test_a_code_is_good_once(client: DriveClient) -> None:
    question = Question(client, NOWHERE)
    address = browse(question.address, **{"as": ANNA})
    finish(question, address)
    with pytest.raises(Auth, match="did not take"):
        finish(question, address)


def test_a_token_host_in_trouble_is_no_verdict(client: DriveClient, emulator: Emulator) -> None:
    question = Question(client, NOWHERE)
    address = browse(question.address, **{"as": ANNA})
    emulator.fail(html(503), "token")
    with pytest.raises(Retry):
        finish(question, address)


def test_an_unpublished_consent_screen_is_announced(client: DriveClient, emulator: Emulator) -> None:
    emulator.service.oauth.testing = True
    question = Question(client, NOWHERE)
    assert finish(question, browse(question.address, **{"as": ANNA})).until == "2026-12-02"


def test_the_doorstep_waits_for_the_one_who_was_asked(client: DriveClient) -> None:
    with Doorstep() as doorstep:
        question = Question(client, doorstep.redirect)
        early = socket.create_connection(("127.0.0.1", int(doorstep.redirect.rstrip("/").rpartition(":")[2])))

        def visitors() -> None:  # a browser that connects in advance, one that asks for an icon, one that lies
            for stray in ("favicon.ico", "?state=guessed&code=4/0x"):
                try:
                    urllib.request.urlopen(doorstep.redirect + stray, timeout=10).close()
                except urllib.error.HTTPError as error:
                    error.close()
            urllib.request.urlopen(question.address + "&as=" + ANNA, timeout=10).close()  # follows the redirect

        visiting = threading.Thread(target=visitors)
        visiting.start()
        address = doorstep.wait(question, 20)
        visiting.join()
        early.close()
    assert finish(question, address).account == ANNA


def test_nobody_comes(client: DriveClient) -> None:
    with Doorstep() as doorstep, pytest.raises(Auth, match="Nobody has answered"):
        doorstep.wait(Question(client, doorstep.redirect), 0.01)


def test_a_port_that_is_taken(client: DriveClient) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(UsageError, match="not free"):
        Doorstep(taken.getsockname()[1])


def test_logging_out_withdraws_it_at_google(emulator: Emulator) -> None:
    login = access(emulator, ANNA)
    assert log_out(login) is True
    assert log_out(login) is False
    with pytest.raises(Auth):
        Client(login).about(Call.within(20))
    emulator.fail(html(503), "revoke")
    with pytest.raises(Retry):
        log_out(login)


# ---- a login that was renewed while the store was open ---------------------------------------------------------------


def test_an_open_store_takes_a_newer_login_of_the_same_account(emulator: Emulator) -> None:
    kept = [access(emulator, ANNA)]
    client = Client(kept[0], reload=lambda: kept[0])
    emulator.revoke(ANNA)
    with pytest.raises(Auth):
        client.about(Call.within(20))
    kept[0] = access(emulator, ANNA)
    assert client.about(Call.within(20))[0] == ANNA
    client.close()


def test_an_open_store_does_not_become_another_account(emulator: Emulator) -> None:
    kept = [access(emulator, ANNA)]
    client = Client(kept[0], reload=lambda: kept[0])
    emulator.revoke(ANNA)
    kept[0] = access(emulator, BEN)
    with pytest.raises(Auth):
        client.about(Call.within(20))
    client.close()


def test_a_login_that_was_withdrawn_here_leaves_googles_word(emulator: Emulator) -> None:
    def gone() -> DriveAccess:
        raise Auth("no login")

    client = Client(access(emulator, ANNA), reload=gone)
    emulator.revoke(ANNA)
    with pytest.raises(Auth, match="expired or was revoked"):
        client.about(Call.within(20))
    client.close()


# ---- the client id ---------------------------------------------------------------------------------------------------

INSTALLED = {
    "client_id": "1234567890-abc.apps.googleusercontent.com",
    "client_secret": "GOCSPX-a_b",
    "auth_uri": "https://accounts.google.com/o/oauth2/auth",
    "token_uri": "https://oauth2.googleapis.com/token",
}


@pytest.mark.parametrize(
    "file",
    [
        b"",
        b"[]",
        b"{}",
        json.dumps({"web": INSTALLED}).encode(),
        json.dumps({"installed": INSTALLED | {"client_id": "somebody"}}).encode(),
        json.dumps({"installed": INSTALLED | {"client_secret": 7}}).encode(),
        json.dumps({"installed": INSTALLED | {"token_uri": "http://evil.example.org/token"}}).encode(),
        json.dumps({"installed": INSTALLED | {"api_endpoint": "http://evil.example.org"}}).encode(),
    ],
)
def test_a_file_that_is_no_desktop_client_is_refused(file: bytes) -> None:
    with pytest.raises(ConfigError):
        DriveClient.from_console(file)


def test_an_invitation_carries_the_client_id_of_the_inviter() -> None:
    login = DriveAccess(INSTALLED["client_id"], INSTALLED["client_secret"], "1//secret")
    locator = with_client("gdrive:1AbC", login)
    assert login.refresh_token not in urllib.parse.unquote(locator)
    assert split_locator(locator) == (
        "gdrive:1AbC",
        DriveClient.from_console(json.dumps({"installed": INSTALLED}).encode()),
    )
    assert split_locator("gdrive:1AbC") == ("gdrive:1AbC", None)
    assert split_locator("file:///a?client=b") == ("file:///a?client=b", None)
    with pytest.raises(ConfigError):
        split_locator("gdrive:1AbC?client=nonsense&secret=x")


def test_an_invitation_never_sends_anybody_elsewhere_than_to_google(emulator: Emulator) -> None:
    assert with_client("gdrive:1AbC", access(emulator, ANNA)) == "gdrive:1AbC"


def test_a_later_login_may_use_the_client_id_of_the_first(emulator: Emulator, client: DriveClient) -> None:
    assert DriveClient.of(access(emulator, ANNA)) == client


# ---- what doctor asks ------------------------------------------------------------------------------------------------


def test_an_examination_tells_folder_room_and_clock(emulator: Emulator) -> None:
    folder = emulator.folder(ANNA, "vault")
    emulator.share(folder, BEN, "reader")
    drive = emulator.shared_drive("Team", {ANNA: "organizer"})
    call = Call.within(20)
    told = {}
    for who, where in ((ANNA, folder), (BEN, folder), (ANNA, drive), (BEN, drive)):
        asked = Examination(access(emulator, who), where, wall=lambda: 4_000_000_000.0)
        told[who, where] = asked.folder(call)
        room = asked.account(call)[1]
        assert room is not None
        assert room.total == 15 << 30
        error = asked.clock_error()
        assert error is not None
        assert error > 1e9
        asked.close()
    assert told == {
        (ANNA, folder): FolderState(may_add=True, trashed=False, shared_drive=False, own=True),
        (BEN, folder): FolderState(may_add=False, trashed=False, shared_drive=False, own=False),
        (ANNA, drive): FolderState(may_add=True, trashed=False, shared_drive=True, own=False),
        (BEN, drive): None,
    }


def test_an_examination_meets_what_keeps_a_new_project_from_working(emulator: Emulator) -> None:
    emulator.fail(refusal(403, "accessNotConfigured"), "about.get", times=None)
    asked = Examination(access(emulator, ANNA), emulator.folder(ANNA, "vault"))
    with pytest.raises(Exception, match="not enabled"):
        asked.account(Call.within(20))
    asked.close()


def test_no_log_holds_a_code_or_a_token(client: DriveClient, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(0)
    question = Question(client, NOWHERE)
    address = browse(question.address, **{"as": ANNA})
    got = finish(question, address)
    code = urllib.parse.parse_qs(urllib.parse.urlsplit(address).query)["code"][0]
    assert code not in caplog.text
    assert got.refresh_token not in caplog.text
