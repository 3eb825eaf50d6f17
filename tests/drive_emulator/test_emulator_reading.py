"""Reading: whole files, ranges, what `fields` leaves, checksums."""

import hashlib

import pytest

from tests.drive_emulator import Emulator, FlipBit, IgnoreRange, OldVersion, Vanish
from tests.drive_emulator.conftest import ANNA
from tests.drive_emulator.fields import parse_mask, select
from tests.drive_emulator.real_client import GoogleClient, refused_with

DATA = bytes(range(256)) * 16


@pytest.fixture
def made(emulator: Emulator, folder: str) -> str:
    return emulator.file(ANNA, "a", DATA, folder)


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=100-299", 100, 300),
        ("bytes=4000-", 4000, 4096),
        ("bytes=4000-9999", 4000, 4096),
        ("bytes=-96", 4000, 4096),
        ("bytes=-9999", 0, 4096),
    ],
)
def test_a_part_comes_with_206_and_says_which(anna: GoogleClient, made: str, asked: str, start: int, end: int) -> None:
    seen, data = anna.answered(made, asked)
    assert data == DATA[start:end]
    assert (seen[0].status, seen[0]["content-range"]) == (206, f"bytes {start}-{end - 1}/4096")


def test_beyond_the_end_is_416(emulator: Emulator, anna: GoogleClient, made: str, folder: str) -> None:
    refused_with(416, "requestedRangeNotSatisfiable", lambda: anna.read(made, "bytes=4096-5000"))
    empty = emulator.file(ANNA, "empty", b"", folder)
    refused_with(416, "", lambda: anna.read(empty, "bytes=0-0"))
    assert anna.read(empty) == b""


def test_the_whole_comes_with_200(emulator: Emulator, anna: GoogleClient, made: str) -> None:
    assert anna.answered(made)[0][0].status == 200
    emulator.fail(IgnoreRange(), "files.get_media")
    seen, data = anna.answered(made, "bytes=1-2")
    assert (seen[0].status, data) == (200, DATA)
    emulator.settings.behaviour.range_honoured = False
    assert anna.read(made, "bytes=1-2") == DATA


def test_a_flipped_bit_an_old_version_a_vanished_file(emulator: Emulator, anna: GoogleClient, made: str) -> None:
    emulator.fail(FlipBit(at=7), "files.get_media")
    assert [at for at, byte in enumerate(anna.read(made)) if byte != DATA[at]] == [7]
    emulator.replace(made, b"newer")
    emulator.fail(OldVersion(), "files.get_media")
    assert anna.read(made) == DATA
    assert anna.read(made) == b"newer"
    emulator.fail(Vanish(), "files.get")
    refused_with(404, "notFound", lambda: anna.get(made))
    refused_with(404, "notFound", lambda: anna.read(made))


def test_stored_bytes_may_rot_under_their_checksum(emulator: Emulator, anna: GoogleClient, made: str) -> None:
    emulator.corrupt(made, at=3)
    assert anna.read(made) != DATA
    assert anna.get(made)["md5Checksum"] == hashlib.md5(DATA, usedforsecurity=False).hexdigest()


def test_checksums_and_a_size_that_is_text(emulator: Emulator, anna: GoogleClient, made: str, folder: str) -> None:
    told = anna.get(made, "size,md5Checksum,sha256Checksum")
    assert told == {
        "size": "4096",
        "md5Checksum": hashlib.md5(DATA, usedforsecurity=False).hexdigest(),
        "sha256Checksum": hashlib.sha256(DATA).hexdigest(),
    }
    emulator.settings.behaviour.sha256 = False
    assert anna.get(made, "md5Checksum,sha256Checksum").keys() == {"md5Checksum"}
    assert "size" not in anna.get(folder)


def test_a_folder_has_no_bytes(anna: GoogleClient, folder: str) -> None:
    refused_with(403, "fileNotDownloadable", lambda: anna.read(folder))


def test_without_fields_only_the_least_is_told(anna: GoogleClient, made: str) -> None:
    told = anna.run(anna.api.files().get(fileId=made))
    assert told.keys() == {"kind", "id", "name", "mimeType"}
    listed = anna.run(anna.api.files().list())
    assert listed.keys() == {"kind", "incompleteSearch", "files"}
    assert {frozenset(one) for one in listed["files"]} == {frozenset({"kind", "id", "name", "mimeType"})}


def test_fields_may_go_deep(anna: GoogleClient, made: str) -> None:
    assert anna.get(made, "id,capabilities(canDelete,canTrash),owners/emailAddress") == {
        "id": made,
        "capabilities": {"canDelete": True, "canTrash": True},
        "owners": [{"emailAddress": ANNA}],
    }


@pytest.mark.parametrize("fields", ["nonsense", "id,", "id(", "", "capabilities(canDelete", "id name"])
def test_fields_that_do_not_exist_are_refused(anna: GoogleClient, made: str, fields: str) -> None:
    refused_with(400, "invalidParameter", lambda: anna.get(made, fields))


def test_masks() -> None:
    value = {"a": {"b": 1, "c": 2}, "d": [{"e": 3, "f": 4}], "g": 5}
    assert select(value, parse_mask("a/b,d(e)")) == {"a": {"b": 1}, "d": [{"e": 3}]}
    assert select(value, parse_mask("a,g")) == {"a": {"b": 1, "c": 2}, "g": 5}
    assert select(value, parse_mask("*")) == value


def test_about_wants_fields_and_counts_bytes(emulator: Emulator, anna: GoogleClient, made: str) -> None:
    refused_with(400, "required", lambda: anna.run(anna.api.about().get()))
    told = anna.run(anna.api.about().get(fields="user(emailAddress),storageQuota"))
    assert told["user"] == {"emailAddress": ANNA}
    assert told["storageQuota"] == {
        "limit": str(15 << 30),
        "usage": "4096",
        "usageInDrive": "4096",
        "usageInDriveTrash": "0",
    }
    anna.update(made, {"trashed": True})
    assert anna.run(anna.api.about().get(fields="storageQuota"))["storageQuota"]["usageInDriveTrash"] == "4096"
    anna.delete(made)
    assert anna.run(anna.api.about().get(fields="storageQuota"))["storageQuota"]["usage"] == "0"
