"""`cryptfs ls cat get put info sync fsck` without a mount."""

import json
import os
from pathlib import Path

import pytest

from tests.cli.transcripts import Run, two_lines


@pytest.fixture
def filled(run: Run, vault: str, tmp_path: Path) -> str:
    """A vault with `/letters/anna` (12 bytes) and `/big` (3,000,000 bytes), put there without a mount."""
    source = tmp_path / "source"
    (source / "letters").mkdir(parents=True)
    (source / "letters/anna").write_text("Dear Anna,\n!")
    (source / "big").write_bytes(bytes(range(250)) * 12_000)
    result = run("put", vault, source / "letters", source / "big", "/")
    assert result == (0, "", "")
    return vault


def test_what_was_put_is_listed(run: Run, filled: str) -> None:
    assert run("ls", filled).out == "big\nletters\n"
    assert run("ls", filled, "letters").out == "anna\n"
    titles, line = run("ls", "-l", filled, "/letters/anna").out.splitlines()
    assert titles.split() == ["Mode", "Size", "Changed", "Name"]
    assert (line.split()[1], line.split()[-1]) == ("12", "anna")


def test_the_listing_as_json(run: Run, filled: str) -> None:
    big, letters = json.loads(run("ls", filled, "--json").out)
    assert (big["name"], big["kind"], big["size"]) == ("big", "file", 3_000_000)
    assert (letters["name"], letters["kind"]) == ("letters", "directory")


def test_cat_writes_files_one_after_the_other(run: Run, filled: str) -> None:
    assert run("cat", filled, "letters/anna", "/letters/anna").out == "Dear Anna,\n!Dear Anna,\n!"


def test_get_gives_back_what_put_took(run: Run, filled: str, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    assert run("get", filled, "/", target).code == 0
    assert (target / "big").read_bytes() == (tmp_path / "source/big").read_bytes()
    assert (target / "letters/anna").read_text() == "Dear Anna,\n!"


def test_put_replaces_contents(run: Run, filled: str, tmp_path: Path) -> None:
    (tmp_path / "new").write_text("shorter")
    assert run("put", filled, tmp_path / "new", "big").code == 0
    assert run("cat", filled, "big").out == "shorter"


def test_what_was_put_survives_the_loss_of_the_cache_once_it_is_synced(run: Run, filled: str, home: Path) -> None:
    assert run("sync", filled).code == 0
    for path in sorted((home / "cache").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    assert run("cat", filled, "letters/anna").out == "Dear Anna,\n!"


def test_nothing_readable_reaches_store_or_disk(run: Run, filled: str, home: Path, store_dir: Path) -> None:
    assert run("sync", filled).code == 0
    for root in (home, store_dir):
        for path in root.rglob("*"):
            data = path.read_bytes() if path.is_file() else b""
            for secret in (b"Dear Anna", b"letters", bytes(range(64))):
                assert secret not in data, path
                assert secret not in os.fsencode(path.relative_to(root)), path


def test_info_names_the_objects_of_a_file(run: Run, filled: str, store_dir: Path) -> None:
    assert run("sync", filled).code == 0
    found = json.loads(run("info", filled, "big", "--json").out)
    assert found["size"] == 3_000_000
    for entry in found["objects"]:
        assert (store_dir / entry["object"]).is_file()
    assert found["objects"][0]["object"] in run("info", filled, "big").out


@pytest.mark.parametrize(
    ("command", "path", "reason"),
    [
        ("cat", "nothing", "nothing: No such file or directory"),
        ("cat", "letters", "letters: Is a directory"),
        ("ls", "big/x", "big/x: Not a directory"),
        ("info", "nothing", "nothing: No such file or directory"),
        ("cat", "../x", "../x: paths in a vault start at its root; '..' leads nowhere"),
    ],
)
def test_a_wrong_path_is_named(run: Run, filled: str, command: str, path: str, reason: str) -> None:
    result = run(command, filled, path)
    assert (result.code, two_lines(result)) == (66, (f"cryptfs: {reason}", "Check the path."))


def test_fsck_of_a_sound_vault(run: Run, filled: str) -> None:
    assert run("sync", filled).code == 0
    result = run("fsck", filled, "--read-data", "100%", "--json")
    report = json.loads(result.out)
    assert (result.code, report["problems"]) == (0, [])
    assert (report["files"], report["unsent"]) == (2, 0)
    assert report["objects_read"] >= 1


def packs(store_dir: Path) -> list[Path]:
    return [path for path in store_dir.glob("p*/*") if path.is_file()]


def test_fsck_names_a_missing_object_and_the_files_it_harms(run: Run, filled: str, store_dir: Path) -> None:
    assert run("sync", filled).code == 0
    for pack in packs(store_dir):
        pack.unlink()
    result = run("fsck", filled)
    assert result.code == 65
    assert "is missing in the store\n         harms /big\n" in result.out


def test_fsck_finds_a_flipped_bit_when_it_reads_the_data(run: Run, filled: str, store_dir: Path) -> None:
    assert run("sync", filled).code == 0
    pack = packs(store_dir)[0]
    data = bytearray(pack.read_bytes())
    data[len(data) // 2] ^= 1
    pack.chmod(0o600)
    pack.write_bytes(data)
    assert run("fsck", filled).code == 0
    result = run("fsck", filled, "--read-data", "100%")
    assert result.code == 65
    assert "does not hold what its name promises" in result.out


def test_fsck_finds_a_missing_segment(run: Run, filled: str, store_dir: Path, tmp_path: Path) -> None:
    for _ in range(2):
        (tmp_path / "more").write_text("more")
        assert run("put", filled, tmp_path / "more", "/").code == 0
        assert run("sync", filled).code == 0
    min((store_dir / "l").iterdir()).unlink()
    result = run("fsck", filled)
    assert result.code == 65
    assert "segment 0 is missing" in result.out


@pytest.mark.parametrize("share", ["-1%", "101", "some"])
def test_a_share_is_a_share(run: Run, vault: str, share: str) -> None:
    assert run("fsck", vault, "--read-data", share).code == 64
