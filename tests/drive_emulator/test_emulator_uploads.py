"""Resumable uploads: what a session tells, forgets and refuses."""

import http.client
import re

import pytest
from googleapiclient.errors import ResumableUploadError

from tests.drive_emulator import DropAfter, DropBefore, Emulator, LoseTail, VirtualClock
from tests.drive_emulator.real_client import Bytes, GoogleClient, refused_with

DATA = bytes(range(251)) * 4500  # a little more than 1 MiB, not a multiple of anything
QUARTER = 256 << 10


@pytest.fixture
def wanted(anna: GoogleClient) -> str:
    return anna.mint(1)[0]


def put(anna: GoogleClient, uri: str, data: bytes, content_range: str | None) -> tuple[int, dict[str, str]]:
    """One PUT to a session, by hand."""
    headers = {"Content-Range": content_range} if content_range else {}
    reply, _ = anna.http.request(uri, "PUT", body=data, headers=headers)
    return reply.status, {name: reply[name] for name in reply}


def started(anna: GoogleClient, folder: str, size: int, file_id: str | None = None) -> str:
    """Address of a new session, as Google's client opens it."""
    request = anna.upload(folder, "a", Bytes(bytes(size), QUARTER, resumable=True), file_id)
    reply, _ = anna.authorized.request(request.uri, "POST", body=request.body, headers=dict(request.headers))
    assert reply.status == 200
    return str(reply["location"])


@pytest.mark.parametrize("place", ["upload", "resumable/upload"])
def test_both_addresses_open_sessions(emulator: Emulator, anna: GoogleClient, folder: str, place: str) -> None:
    body = f'{{"name": "a", "parents": ["{folder}"]}}'
    reply, _ = anna.authorized.request(f"{emulator.url}/{place}/drive/v3/files?uploadType=resumable", "POST", body=body)
    assert reply["location"].startswith(f"{emulator.url}/{place}/drive/v3/files?uploadType=resumable&upload_id=")
    assert put(anna, reply["location"], DATA, None)[0] == 200
    assert [emulator.content(item.id) for item in emulator.named("a")] == [DATA]


def test_a_session_says_how_far_it_got(anna: GoogleClient, folder: str) -> None:
    uri = started(anna, folder, 3 * QUARTER)
    status, headers = put(anna, uri, b"", f"bytes */{3 * QUARTER}")
    assert (status, headers.get("range")) == (308, None)  # nothing there: no Range at all
    status, headers = put(anna, uri, bytes(QUARTER), f"bytes 0-{QUARTER - 1}/{3 * QUARTER}")
    assert (status, headers["range"]) == (308, f"bytes=0-{QUARTER - 1}")
    status, headers = put(anna, uri, b"", f"bytes */{3 * QUARTER}")
    assert (status, headers["range"]) == (308, f"bytes=0-{QUARTER - 1}")


def test_a_chunk_that_is_not_the_last_is_a_multiple_of_256_kib(anna: GoogleClient, folder: str) -> None:
    uri = started(anna, folder, QUARTER)
    assert put(anna, uri, bytes(1000), f"bytes 0-999/{QUARTER}")[0] == 400


def test_a_gap_stores_nothing_and_an_overlap_only_what_is_new(
    emulator: Emulator, anna: GoogleClient, folder: str
) -> None:
    size = 3 * QUARTER
    data = b"a" * QUARTER + b"b" * QUARTER + b"c" * QUARTER
    uri = started(anna, folder, size)
    status, headers = put(anna, uri, data[QUARTER : 2 * QUARTER], f"bytes {QUARTER}-{2 * QUARTER - 1}/{size}")
    assert (status, headers.get("range")) == (308, None)
    put(anna, uri, data[:QUARTER], f"bytes 0-{QUARTER - 1}/{size}")
    assert put(anna, uri, data, f"bytes 0-{size - 1}/{size}")[0] == 200
    assert [emulator.content(item.id) for item in emulator.named("a")] == [data]


def test_an_empty_file_is_made_by_the_question_alone(emulator: Emulator, anna: GoogleClient, folder: str) -> None:
    anna.finish(anna.upload(folder, "empty", Bytes(b"", QUARTER, resumable=True)))
    assert [item.size for item in emulator.named("empty")] == [0]


def test_an_unknown_total_is_known_with_the_last_chunk(emulator: Emulator, anna: GoogleClient, folder: str) -> None:
    uri = started(anna, folder, QUARTER + 7)
    assert put(anna, uri, bytes(QUARTER), f"bytes 0-{QUARTER - 1}/*")[0] == 308
    assert put(anna, uri, bytes(7), f"bytes {QUARTER}-{QUARTER + 6}/{QUARTER + 7}")[0] == 200
    assert emulator.named("a")[0].size == QUARTER + 7


def test_lost_replies_of_chunks_cost_a_question_and_no_bytes(
    emulator: Emulator, anna: GoogleClient, folder: str, wanted: str
) -> None:
    request = anna.upload(folder, "a", Bytes(DATA, QUARTER, resumable=True), wanted)
    request.next_chunk(http=anna.authorized)
    emulator.fail(DropAfter(), "upload.chunk")
    emulator.fail(DropAfter(), "upload.chunk", nth=2)  # the transport sends it again by itself
    with pytest.raises((http.client.HTTPException, OSError)):
        request.next_chunk(http=anna.authorized)
    anna.finish(request)
    assert emulator.content(wanted) == DATA


@pytest.mark.parametrize("arrived", [0, 100, QUARTER, QUARTER + 100])
def test_a_connection_that_breaks_within_a_chunk_keeps_whole_quarters(
    emulator: Emulator, anna: GoogleClient, folder: str, wanted: str, arrived: int
) -> None:
    emulator.fail(DropBefore(arrived), "upload.chunk", times=2)
    request = anna.upload(folder, "a", Bytes(DATA, 2 * QUARTER, resumable=True), wanted)
    with pytest.raises((http.client.HTTPException, OSError)):
        request.next_chunk(http=anna.authorized)
    asked = put(anna, request.resumable_uri, b"", f"bytes */{len(DATA)}")[1].get("range")
    kept = int(re.findall(r"-(\d+)", asked)[0]) + 1 if asked else 0
    assert kept == arrived // QUARTER * QUARTER
    anna.finish(request)
    assert emulator.content(wanted) == DATA


def test_a_session_that_lost_its_tail_is_filled_again(
    emulator: Emulator, anna: GoogleClient, folder: str, wanted: str
) -> None:
    rule = emulator.fail(LoseTail(QUARTER), "upload.chunk", nth=2, times=2)
    request = anna.upload(folder, "a", Bytes(DATA, QUARTER, resumable=True), wanted)
    request.next_chunk(http=anna.authorized)
    with pytest.raises((http.client.HTTPException, OSError)):
        request.next_chunk(http=anna.authorized)
    anna.finish(request)
    assert rule.hits == 2
    assert emulator.content(wanted) == DATA


@pytest.mark.parametrize("status", [404, 410])
def test_sessions_expire(emulator: Emulator, clock: VirtualClock, anna: GoogleClient, folder: str, status: int) -> None:
    emulator.settings.behaviour.expired_session = status
    wanted = anna.mint(1)[0]
    request = anna.upload(folder, "a", Bytes(DATA, QUARTER, resumable=True), wanted)
    request.next_chunk(http=anna.authorized)
    clock.advance(8 * 86_400)
    refused_with(status, "", lambda: anna.finish(request))
    again = anna.upload(folder, "a", Bytes(DATA, QUARTER, resumable=True), wanted)
    anna.finish(again)  # the id is still free
    assert emulator.content(wanted) == DATA


@pytest.mark.parametrize("status", [200, 404, 410])
def test_a_finished_session_and_its_last_chunk_again(
    emulator: Emulator, anna: GoogleClient, folder: str, wanted: str, status: int
) -> None:
    emulator.settings.behaviour.finished_session = status
    uri = started(anna, folder, 10, wanted)
    assert put(anna, uri, bytes(10), "bytes 0-9/10")[0] == 200
    assert put(anna, uri, bytes(10), "bytes 0-9/10")[0] == status
    assert put(anna, uri, b"", "bytes */10")[0] == 200  # the question is answered by what was made
    assert len(emulator.items(folder)) == 1


def test_a_session_is_not_opened_for_what_could_not_be_made(
    emulator: Emulator, anna: GoogleClient, eve: GoogleClient, folder: str, wanted: str
) -> None:
    large = Bytes(DATA, QUARTER, resumable=True)
    refused_with(404, "notFound", lambda: eve.finish(eve.upload(folder, "a", large)))
    emulator.world.users["anna@example.org"].storage = 1000
    with pytest.raises(ResumableUploadError) as caught:
        anna.finish(anna.upload(folder, "a", large))
    assert b"storageQuotaExceeded" in caught.value.content
    anna.create(folder, "small", b"x", wanted)
    with pytest.raises(ResumableUploadError) as caught:
        anna.finish(anna.upload(folder, "a", Bytes(b"y" * 9, QUARTER, resumable=True), wanted))
    assert caught.value.resp.status == 409


def test_two_sessions_of_one_id_make_one_file(emulator: Emulator, anna: GoogleClient, folder: str, wanted: str) -> None:
    first, second = (anna.upload(folder, "a", Bytes(DATA, QUARTER, resumable=True), wanted) for _ in range(2))
    first.next_chunk(http=anna.authorized)
    second.next_chunk(http=anna.authorized)
    anna.finish(first)
    refused_with(409, "fileIdInUse", lambda: anna.finish(second))
    assert len(emulator.items(folder)) == 1


def test_a_session_taken_over_after_a_restart(emulator: Emulator, anna: GoogleClient, folder: str, wanted: str) -> None:
    request = anna.upload(folder, "a", Bytes(DATA, QUARTER, resumable=True), wanted)
    request.next_chunk(http=anna.authorized)
    adopted = anna.upload(folder, "a", Bytes(DATA, QUARTER, resumable=True), wanted)
    adopted.resumable_uri, adopted._in_error_state = request.resumable_uri, True
    sent = emulator.count("upload.chunk")
    anna.finish(adopted)
    assert emulator.content(wanted) == DATA
    assert emulator.count("upload.chunk") - sent == 4  # the first one was not sent again


def test_uploads_in_one_call_have_a_limit(anna: GoogleClient, folder: str) -> None:
    refused_with(413, "uploadTooLarge", lambda: anna.create(folder, "a", bytes(6 << 20)))


def test_other_contents_for_a_file_that_is_there(emulator: Emulator, anna: GoogleClient, folder: str) -> None:
    made = anna.create(folder, "a", b"one")["id"]
    anna.run(anna.api.files().update(fileId=made, media_body=Bytes(b"two")))
    assert anna.read(made) == b"two"
    anna.finish(anna.api.files().update(fileId=made, media_body=Bytes(DATA, QUARTER, resumable=True)))
    assert anna.read(made) == DATA


def test_plain_media_without_metadata(emulator: Emulator, anna: GoogleClient) -> None:
    uri = f"{emulator.url}/upload/drive/v3/files?uploadType=media"
    reply, _ = anna.authorized.request(uri, "POST", body=b"bytes", headers={"Content-Type": "text/plain"})
    assert reply.status == 200
    assert [(item.mime, item.size) for item in emulator.named("Untitled")] == [("text/plain", 5)]
