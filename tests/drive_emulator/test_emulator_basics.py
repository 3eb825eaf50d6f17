"""The emulated Drive through Google's own client: what everything else stands on."""

from tests.drive_emulator import DropAfter, Emulator
from tests.drive_emulator.real_client import Bytes, GoogleClient, refused_with

ANNA = "anna@example.org"


def test_a_create_that_is_sent_again_makes_one_object() -> None:
    with Emulator() as emulator, GoogleClient(emulator, ANNA) as drive:
        folder = emulator.folder(ANNA, "vault")
        wanted = drive.mint(1)[0]
        emulator.fail(DropAfter(), "files.create")
        # The transport sends the request again by itself when the connection breaks, and nobody is told.
        refused_with(409, "fileIdInUse", lambda: drive.create(folder, "a", b"first", file_id=wanted))
        assert [item.id for item in emulator.items(folder)] == [wanted]
        assert emulator.count("files.create") == 2


def test_without_a_chosen_id_the_same_makes_twins() -> None:
    with Emulator() as emulator, GoogleClient(emulator, ANNA) as drive:
        folder = emulator.folder(ANNA, "vault")
        emulator.fail(DropAfter(), "files.create")
        drive.create(folder, "a", b"first")
        assert [item.name for item in emulator.items(folder)] == ["a", "a"]


def test_bytes_go_up_and_come_down_unchanged() -> None:
    awkward = b"\r\n--===============1==\n\x00\r" * 300 + b"\r"
    with Emulator() as emulator, GoogleClient(emulator, ANNA) as drive:
        folder = emulator.folder(ANNA, "vault")
        for data in (b"", b"x", awkward):
            reply = drive.create(folder, "a", data)
            assert reply["size"] == str(len(data))
            assert drive.read(str(reply["id"])) == data


def test_large_bodies_go_up_in_chunks() -> None:
    data = bytes(range(256)) * 4096  # 1 MiB
    with Emulator() as emulator, GoogleClient(emulator, ANNA) as drive:
        folder = emulator.folder(ANNA, "vault")
        reply = drive.finish(drive.upload(folder, "big", Bytes(data, 256 << 10, resumable=True)))
        assert emulator.content(str(reply["id"])) == data
        assert [one.status for one in emulator.requests("upload.chunk")] == [308, 308, 308, 200]
