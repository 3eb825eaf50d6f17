"""What a person reads for each answer of Google's: every row of the table, over HTTP, by Google's own client."""

from collections.abc import Callable
from typing import NamedTuple

import pytest

from cryptfs.errors import Auth, Denied, Fatal, NotFound, Quota, Retry, StoreError
from cryptfs.store import Call
from cryptfs.store.drive.errors import TakenForHarmful, from_answer, reason_of, retry_after
from cryptfs.store.drive.store import DriveStore
from tests.drive_emulator import Drip, DropAfter, DropBefore, IgnoreRange, Truncate, garbage, html, refusal
from tests.store.conftest import ANNA, DriveWorld

CALL = Call()
DATA = bytes(range(256)) * 16


def put(store: DriveStore) -> object:
    return store.put("l/aa", DATA, CALL)


def get(store: DriveStore) -> object:
    return store.get("p/aa", CALL)


def part(store: DriveStore) -> object:
    return store.get("p/aa", CALL, 10, 100)


def listing(store: DriveStore) -> object:
    return list(store.list("p/", CALL))


def share(store: DriveStore) -> object:
    return store.grant("cleo@example.org", CALL, letter=False)


def unshare(store: DriveStore) -> object:
    return store.withdraw("ben@example.org", CALL)


Verb = Callable[[DriveStore], object]


class Row(NamedTuple):
    """An answer of Google's to a call, and what becomes of it: class, word in `status`, a part of the advice."""

    status: int
    reason: str
    call: str
    verb: Verb
    kind: type[StoreError]
    state: str
    advice: str


ROWS = [
    Row(403, "rateLimitExceeded", "files.create", put, Retry, "rate limited", "more slowly"),
    Row(403, "userRateLimitExceeded", "files.create", put, Retry, "rate limited", "more slowly"),
    Row(403, "sharingRateLimitExceeded", "files.create", put, Retry, "rate limited", "more slowly"),
    Row(429, "rateLimitExceeded", "files.list", listing, Retry, "rate limited", "more slowly"),
    Row(403, "dailyLimitExceeded", "files.create", put, Quota, "daily limit", "midnight"),
    Row(403, "storageQuotaExceeded", "files.create", put, Quota, "", "Free space in its Drive"),
    Row(403, "quotaExceeded", "files.create", put, Quota, "", "Free space in its Drive"),
    Row(403, "teamDriveFileLimitExceeded", "files.create", put, Fatal, "", "cryptfs-admin collect"),
    Row(403, "numChildrenInNonRootLimitExceeded", "files.create", put, Fatal, "", "cryptfs-admin collect"),
    Row(403, "activeItemCreationLimitExceeded", "files.create", put, Fatal, "", "another account"),
    Row(403, "teamDriveHierarchyTooDeep", "files.create", put, Fatal, "", "Move the vault's folder up"),
    Row(403, "myDriveHierarchyDepthLimitExceeded", "files.create", put, Fatal, "", "Move the vault's folder up"),
    Row(403, "accessNotConfigured", "files.*", get, Fatal, "api not enabled", "Enable it"),
    Row(403, "insufficientFilePermissions", "files.create", put, Denied, "", "as an editor"),
    Row(403, "appNotAuthorizedToFile", "files.get_media", get, Denied, "", "cryptfs login"),
    Row(403, "insufficientParentPermissions", "files.create", put, Denied, "", "as an editor"),
    Row(403, "insufficientPermissions", "files.*", listing, Denied, "", "grant access to all of Google Drive"),
    Row(403, "ACCESS_TOKEN_SCOPE_INSUFFICIENT", "files.*", listing, Denied, "", "grant access to all of Google Drive"),
    Row(403, "SERVICE_DISABLED", "files.*", listing, Fatal, "api not enabled", "Enable it"),
    Row(401, "authError", "files.*", get, Auth, "", "cryptfs login"),
    Row(403, "domainPolicy", "files.*", listing, Denied, "", "allow the client id"),
    Row(403, "downloadQuotaExceeded", "files.get_media", get, Denied, "", "within a day"),
    Row(403, "cannotDownloadAbusiveFile", "files.get_media", get, TakenForHarmful, "", "Its owner can read it"),
    Row(400, "invalidSharingRequest", "permissions.create", share, Denied, "", "--letter"),
    Row(403, "shareOutNotPermitted", "permissions.create", share, Denied, "", "an account they allow"),
    Row(403, "shareInNotPermitted", "permissions.create", share, Denied, "", "an account they allow"),
    Row(403, "teamDriveDomainUsersOnlyRestriction", "permissions.create", share, Denied, "", "an account they allow"),
    Row(403, "teamDriveTeamMembersOnlyRestriction", "permissions.create", share, Denied, "", "an account they allow"),
    Row(403, "cannotDeletePermission", "permissions.delete", unshare, Denied, "", "The owner of the folder"),
    Row(403, "cannotModifyInheritedPermission", "permissions.delete", unshare, Denied, "", "The owner of the folder"),
    Row(400, "somethingNew", "files.create", put, Fatal, "", "cryptfs doctor"),
    Row(408, "timeout", "files.list", listing, Retry, "", "tried again"),
    Row(500, "backendError", "files.create", put, Retry, "", "tried again"),
    Row(503, "backendError", "files.get_media", get, Retry, "", "tried again"),
    Row(416, "requestedRangeNotSatisfiable", "files.get_media", part, Retry, "", "tried again"),
]


@pytest.fixture
def store(drive: DriveWorld) -> DriveStore:
    """With an object to read, and folders to write into."""
    store = drive.open()
    store.put("p/aa", DATA, CALL)
    store.put("l/00", b"", CALL)
    return store


def refused(error: pytest.ExceptionInfo[StoreError]) -> StoreError:
    """Two lines for a person: what happened, what to do; no address, no token."""
    told = f"{error.value}\n{error.value.advice}"
    assert len(told.splitlines()) == 2
    assert all(told.splitlines())
    assert "http://" not in told
    assert "Bearer" not in told
    return error.value


@pytest.mark.parametrize("new_shape", [False, True], ids=["usual", "new"])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.status} {row.reason}")
def test_each_refusal_is_told_in_two_lines(drive: DriveWorld, store: DriveStore, row: Row, *, new_shape: bool) -> None:
    drive.emulator.fail(refusal(row.status, row.reason, new_shape=new_shape), row.call, times=None)
    with pytest.raises(row.kind) as caught:
        row.verb(store)
    error = refused(caught)
    assert type(error) is row.kind
    assert error.state == row.state
    assert row.advice in error.advice
    drive.emulator.heal()
    if row.kind is not Quota:
        assert store.put("l/aa", DATA, CALL).size == len(DATA)


@pytest.mark.parametrize("answer", [html(502), html(200), garbage(200)], ids=["html 502", "html 200", "half of JSON"])
@pytest.mark.parametrize("verb", [put, listing])
def test_a_page_instead_of_an_answer_is_tried_again(
    drive: DriveWorld, store: DriveStore, answer: object, verb: Verb
) -> None:
    drive.emulator.fail(answer, "files.*", times=None)  # type: ignore[arg-type]
    with pytest.raises(Retry) as caught:
        verb(store)
    refused(caught)


@pytest.mark.parametrize("fault", [DropBefore(), DropAfter(), Truncate(7)], ids=["before", "after", "truncated"])
@pytest.mark.parametrize("verb", [put, get, part, listing])
def test_a_broken_connection_is_tried_again(
    drive: DriveWorld, store: DriveStore, fault: DropBefore, verb: Verb
) -> None:
    drive.emulator.fail(fault, "files.*", times=None)
    with pytest.raises(Retry) as caught:
        verb(store)
    refused(caught)
    drive.emulator.heal()
    verb(store)


def test_a_revoked_login_wants_a_new_one_and_is_not_tried_again(drive: DriveWorld, store: DriveStore) -> None:
    drive.emulator.revoke(ANNA)
    for verb in (put, get, listing):
        with pytest.raises(Auth) as caught:
            verb(store)
        assert "cryptfs login" in refused(caught).advice


def test_an_expired_token_is_renewed_without_anybody_noticing(drive: DriveWorld, store: DriveStore) -> None:
    drive.emulator.expire_tokens()
    assert get(store) == DATA
    drive.emulator.expire_tokens()
    put(store)
    assert len(drive.objects()["aa"]) == 2  # l/aa and p/aa


@pytest.mark.parametrize(("status", "kind"), [(503, Retry), (400, Auth)])
def test_trouble_at_the_token_host_is_told_apart_from_a_dead_login(
    drive: DriveWorld, store: DriveStore, status: int, kind: type[StoreError]
) -> None:
    drive.emulator.expire_tokens()
    reason = "backendError" if status == 503 else "invalid_grant"
    drive.emulator.fail(refusal(status, reason), "token", times=None)
    store.client._lines._credentials.expiry = None
    with pytest.raises(kind):
        get(store)


def test_a_token_host_that_cannot_be_reached_is_a_matter_of_the_network(drive: DriveWorld, store: DriveStore) -> None:
    drive.emulator.expire_tokens()
    store.client._lines._credentials.expiry = None
    drive.emulator.fail(DropBefore(), "token", times=None)
    with pytest.raises(Retry) as caught:
        get(store)
    assert "network" in refused(caught).advice
    drive.emulator.heal()
    assert get(store) == DATA


@pytest.mark.parametrize("reason", ["downloadQuotaExceeded", "cannotDownloadAbusiveFile"])
def test_a_file_that_is_not_given_out_is_read_from_another_copy(drive: DriveWorld, reason: str) -> None:
    (folder,) = drive.emulator.named("p") or [drive.emulator.item(drive.emulator.folder(ANNA, "p", drive.vault))]
    for _ in range(2):
        drive.emulator.file(ANNA, "aa", DATA, folder.id)
    reader = drive.open("ben@example.org")
    drive.emulator.fail(refusal(403, reason), "files.get_media", times=1)
    assert get(reader) == DATA
    drive.emulator.fail(refusal(403, reason), "files.get_media", times=None)
    with pytest.raises(Denied):
        get(reader)


@pytest.mark.parametrize("shared", [False, True])
def test_what_is_taken_for_harmful_comes_to_who_may_delete_it(drive: DriveWorld, *, shared: bool) -> None:
    if shared:
        drive.vault = drive.emulator.shared_drive("Team", {ANNA: "organizer", "ben@example.org": "writer"})
    anna, ben = drive.open(), drive.open("ben@example.org")
    anna.put("p/aa", DATA, CALL)
    drive.emulator.settings.behaviour.abusive.update(item.id for item in drive.emulator.named("aa"))
    assert (get(anna), part(anna)) == (DATA, DATA[10:110])
    for verb in (get, part):
        with pytest.raises(TakenForHarmful) as caught:
            verb(ben)
        assert "heal" in refused(caught).advice


def test_nobody_there_is_a_matter_of_the_network(drive: DriveWorld, store: DriveStore) -> None:
    drive.emulator.close()
    with pytest.raises(Retry) as caught:
        get(store)
    assert "network" in refused(caught).advice


def test_a_vault_that_is_not_shared_any_more_is_gone(drive: DriveWorld, store: DriveStore) -> None:
    ben = drive.open("ben@example.org")
    assert get(ben) == DATA
    drive.emulator.share(drive.vault, "ben@example.org", "")
    for verb in (put, listing):
        with pytest.raises(Denied) as caught:
            verb(ben)
        assert refused(caught).state == "folder gone"
    with pytest.raises((NotFound, Denied)):
        get(ben)


def test_a_part_that_was_not_asked_for_is_no_answer(drive: DriveWorld, store: DriveStore) -> None:
    drive.emulator.fail(IgnoreRange(), "files.get_media", times=None)
    with pytest.raises(Retry):
        part(store)
    with pytest.raises(Fatal) as caught:
        part(store)
    assert "proxy" in refused(caught).advice
    drive.emulator.heal()
    assert part(store) == DATA[10:110]
    drive.emulator.fail(IgnoreRange(), "files.get_media")
    with pytest.raises(Retry):
        part(store)


def test_an_answer_drop_by_drop_ends_with_the_time_of_the_call(drive: DriveWorld, store: DriveStore) -> None:
    drive.emulator.fail(Drip(1, 0.05), "files.get_media")
    with pytest.raises(Retry, match="in time"):
        store.get("p/aa", Call.within(0.5))


# ---- the words alone -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", ""), (b"<html>", ""), (b"[]", ""), (b"{}", ""), (b'{"error": null}', ""), (b'{"error": "invalid_grant"}',
        "invalid_grant"), (b'{"error": {"errors": [{"reason": "x y <b>"}]}}', ""), (b'{"error": {"errors": 5}}', ""),
        (b'{"error": {"errors": [{"reason": "notFound"}], "status": "NOT_FOUND"}}', "notFound"),
        (b'{"error": {"details": [{}, {"reason": "SERVICE_DISABLED"}], "status": "PERMISSION_DENIED"}}',
        "SERVICE_DISABLED"), (b'{"error": {"status": "RESOURCE_EXHAUSTED"}}', "RESOURCE_EXHAUSTED"), (b"\xff\xfe", ""),
    ],
)  # fmt: skip
def test_the_reason_is_one_word_or_nothing(body: bytes, reason: str) -> None:
    assert reason_of(body) == reason
    for status in (400, 401, 403, 404, 409, 410, 416, 429, 500):
        assert isinstance(from_answer(status, body, {}, 0.0), StoreError)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("", 0.0), ("7", 7.0), ("0.5", 0.5), ("-3", 0.0), ("1e9", 120.0), ("nan", 0.0), ("inf", 120.0), ("soon", 0.0),
        ("Thu, 01 Jan 1970 00:01:40 GMT", 60.0), ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
    ],
)  # fmt: skip
def test_retry_after_is_kept_to_within_two_minutes(header: str, seconds: float) -> None:
    assert retry_after({"retry-after": header}, 40.0) == seconds
