"""What breaks: connections before and after the work is done, answers cut short, dripping, late, of another kind."""

import contextlib
import http.client
import json
import socket
import threading

import pytest
from googleapiclient.errors import HttpError

from tests.drive_emulator import (
    Answer,
    Drip,
    DropAfter,
    DropBefore,
    Emulator,
    Stall,
    Truncate,
    garbage,
    html,
    refusal,
)
from tests.drive_emulator.answers import Reply
from tests.drive_emulator.conftest import ANNA, BEN
from tests.drive_emulator.real_client import GoogleClient, refused_with

BROKEN = (http.client.HTTPException, OSError)


def test_dropped_before_nothing_is_done(emulator: Emulator, anna: GoogleClient, folder: str) -> None:
    emulator.fail(DropBefore(), "files.create", times=2)
    with pytest.raises(BROKEN):
        anna.create(folder, "a", b"")
    assert emulator.items(folder) == []


def test_dropped_after_it_is_done_and_nobody_is_told(emulator: Emulator, anna: GoogleClient, folder: str) -> None:
    made = emulator.file(ANNA, "a", b"", folder)
    emulator.fail(DropAfter(), "files.delete", times=None)
    with pytest.raises((*BROKEN, HttpError)):
        anna.delete(made)
    assert emulator.items(folder) == []


def test_a_truncated_answer(emulator: Emulator, anna: GoogleClient, folder: str) -> None:
    made = emulator.file(ANNA, "a", bytes(1000), folder)
    emulator.fail(Truncate(keep=400), "files.get_media")
    with pytest.raises(http.client.IncompleteRead) as caught:
        anna.read(made)
    assert len(caught.value.partial) == 400


def test_a_dripping_answer_comes_whole_in_the_end(emulator: Emulator, anna: GoogleClient, folder: str) -> None:
    made = emulator.file(ANNA, "a", bytes(50), folder)
    emulator.fail(Drip(piece=10, pause=0.01), "files.get_media")
    assert anna.read(made) == bytes(50)


def test_a_stalled_answer_meets_the_patience_of_the_client(emulator: Emulator, folder: str) -> None:
    emulator.fail(Stall(60), "files.create")
    with GoogleClient(emulator, ANNA, timeout=0.3) as impatient, pytest.raises(TimeoutError):
        impatient.create(folder, "a", b"")
    assert [item.name for item in emulator.items(folder)] == ["a"]  # the work was done


def test_closing_ends_what_stalls() -> None:
    with Emulator() as emulator, GoogleClient(emulator, ANNA) as anna:
        rule = emulator.fail(Stall(3600), "about.get", times=None)
        errors: list[BaseException] = []

        def ask() -> None:
            try:
                anna.run(anna.api.about().get(fields="user"))
            except BROKEN as error:
                errors.append(error)

        asking = threading.Thread(target=ask)
        asking.start()
        assert rule.struck.wait(10)
        emulator.close()
        asking.join(10)
        assert len(errors) == 1


def test_a_page_instead_of_json(emulator: Emulator, anna: GoogleClient, folder: str) -> None:
    emulator.fail(html(502), "files.list")
    assert b"<!DOCTYPE html>" in refused_with(502, "", lambda: anna.names("")).content
    emulator.fail(garbage(), "files.list")
    assert isinstance(anna.run(anna.api.files().list()), str)  # the client hands on what it cannot read


REASONS = [
    (401, "authError"),
    (403, "rateLimitExceeded"),
    (403, "userRateLimitExceeded"),
    (403, "sharingRateLimitExceeded"),
    (403, "dailyLimitExceeded"),
    (403, "storageQuotaExceeded"),
    (403, "quotaExceeded"),
    (403, "teamDriveFileLimitExceeded"),
    (403, "numChildrenInNonRootLimitExceeded"),
    (403, "activeItemCreationLimitExceeded"),
    (403, "teamDriveHierarchyTooDeep"),
    (403, "myDriveHierarchyDepthLimitExceeded"),
    (403, "accessNotConfigured"),
    (403, "insufficientFilePermissions"),
    (403, "appNotAuthorizedToFile"),
    (403, "domainPolicy"),
    (403, "downloadQuotaExceeded"),
    (403, "cannotDownloadAbusiveFile"),
    (400, "fileIdNotUsable"),
    (404, "notFound"),
    (409, "fileIdInUse"),
    (410, "gone"),
    (429, "rateLimitExceeded"),
    (500, "internalError"),
    (503, "backendError"),
]


@pytest.mark.parametrize(("status", "reason"), REASONS)
def test_every_refusal_in_both_shapes(emulator: Emulator, anna: GoogleClient, status: int, reason: str) -> None:
    if status == 401:  # which the client answers by renewing its token, twice
        emulator.fail(refusal(status, reason), "files.list", times=3)
    emulator.fail(refusal(status, reason), "files.list")
    error = json.loads(refused_with(status, reason, lambda: anna.names("")).content)["error"]
    assert (error["code"], error["errors"][0]["reason"]) == (status, reason)
    emulator.heal()
    emulator.fail(refusal(status, reason, retry_after=11, new_shape=True), "files.list", times=3)
    caught = refused_with(status, "", lambda: anna.names(""))
    error = json.loads(caught.content)["error"]
    assert error["details"][0]["reason"].replace("_", "") == reason.upper()
    assert error["status"].isupper()
    assert caught.resp["retry-after"] == "11"


def test_rules_choose_by_call_count_and_account(
    emulator: Emulator, anna: GoogleClient, ben: GoogleClient, folder: str
) -> None:
    rule = emulator.fail(refusal(503, "backendError"), "files.*", nth=3, times=2, email=ANNA)
    outcomes = []
    for client in (anna, ben, anna, anna, anna, anna, ben):
        try:
            outcomes.append(client.get(folder, "name")["name"])
        except HttpError as error:
            outcomes.append(error.resp.status)
    assert outcomes == ["vault", "vault", "vault", 503, 503, "vault", "vault"]
    assert (rule.seen, rule.hits) == (5, 2)


def test_chance_is_the_same_for_the_same_seed() -> None:
    def history(seed: int) -> list[int]:
        with Emulator(seed=seed) as emulator, GoogleClient(emulator, BEN) as ben:
            emulator.fail(html(500), "files.generateIds", times=None, chance=0.5)
            for _ in range(20):
                with contextlib.suppress(HttpError):
                    ben.mint(1)
            return [one.status for one in emulator.requests("files.generateIds")]

    assert history(1) == history(1) != history(2)


def test_requests_are_remembered(emulator: Emulator, anna: GoogleClient, folder: str) -> None:
    made = anna.create(folder, "a", bytes(700))["id"]
    anna.read(made, "bytes=0-99")
    emulator.fail(DropAfter(), "files.get_media")
    anna.read(made)
    told = [(one.call, one.email, one.range, one.status, one.sent, one.fault) for one in emulator.requests()]
    assert told[1:] == [
        ("files.get_media", ANNA, "bytes=0-99", 206, 100, ""),
        ("files.get_media", ANNA, None, 0, 0, "DropAfter"),
        ("files.get_media", ANNA, None, 200, 700, ""),
    ]
    emulator.forget_requests()
    assert emulator.count() == 0


def test_all_connections_may_be_cut_at_once(emulator: Emulator, anna: GoogleClient, folder: str) -> None:
    anna.get(folder)
    emulator.sever()
    assert anna.get(folder, "name") == {"name": "vault"}  # on a new one


def test_an_address_that_is_nowhere_is_answered_as_google_does(emulator: Emulator, anna: GoogleClient) -> None:
    reply, body = anna.authorized.request(emulator.url + "/drive/v9/files")
    assert (reply.status, reply["content-type"]) == (404, "text/html; charset=UTF-8")
    assert b"Error 404" in body


def test_half_a_request_does_nothing(emulator: Emulator, folder: str) -> None:
    host, port = emulator.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as line:
        line.sendall(b"POST /upload/drive/v3/files?uploadType=media HTTP/1.1\r\nContent-Length: 100\r\n\r\nhalf")
    with GoogleClient(emulator, ANNA) as anna:
        anna.get(folder)
    assert [item.name for item in emulator.items() if not item.is_folder] == []


def test_a_body_in_chunks_of_http(emulator: Emulator, anna: GoogleClient) -> None:
    host = emulator.url.removeprefix("http://")
    line = http.client.HTTPConnection(host)
    headers = {"Authorization": f"Bearer {emulator.user(ANNA)}", "Content-Type": "text/plain"}
    place = "/upload/drive/v3/files?uploadType=media"
    line.request("POST", place, body=iter([b"one ", b"two"]), headers=headers, encode_chunked=True)
    assert line.getresponse().status == 200
    line.close()
    assert emulator.content(emulator.named("Untitled")[0].id) == b"one two"


def test_an_answer_of_ones_own(emulator: Emulator, anna: GoogleClient) -> None:
    emulator.fail(Answer(Reply(418, b"teapot")), "files.create")
    refused_with(418, "teapot", lambda: anna.create("root", "a", b""))
