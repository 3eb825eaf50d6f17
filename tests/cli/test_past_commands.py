"""`cryptfs versions trash restore`, and old versions copied out, without a mount and on one."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cryptfs.cli.past import when
from cryptfs.errors import UsageError
from tests.cli.transcripts import Run, two_lines

on_a_mount = pytest.mark.fuse


@pytest.fixture
def edited(run: Run, vault: str, tmp_path: Path) -> str:
    """A vault with `/d/f`: first "one", then "two"."""
    (tmp_path / "d").mkdir()
    for text in ("one", "two"):
        (tmp_path / "d/f").write_text(text)
        assert run("put", vault, tmp_path / "d", "/").code == 0
        assert run("sync", vault).code == 0
    return vault


@pytest.fixture
def mounted(run: Run, edited: str, tmp_path: Path) -> Iterator[Path]:
    point = tmp_path / "mnt"
    point.mkdir()
    assert run("mount", edited, point).code == 0
    yield point
    run("umount", edited)


def versions(run: Run, vault: str, path: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run("versions", vault, path, "--json").out)
    return found


def test_versions_are_listed_newest_first(run: Run, edited: str) -> None:
    new, old = versions(run, edited, "/d/f")
    assert (new["state"], old["state"], new["by"], new["contents"]) == (
        "present", "old", "owner (first device)", "here",
    )  # fmt: skip
    titles, first, second = run("versions", edited, "d/f").out.splitlines()
    assert titles.split() == ["Version", "When", "By", "Size", "State", "Contents"]
    assert (first.split()[0], second.split()[0]) == (new["version"], old["version"])


def test_an_old_version_is_read_copied_out_and_brought_back(run: Run, edited: str, tmp_path: Path) -> None:
    old = versions(run, edited, "d/f")[1]["version"]
    assert run("cat", edited, "d/f", "--version", old).out == "one"
    assert run("get", edited, "d/f", tmp_path / "copy", "--version", old[:5]).code == 0
    assert (tmp_path / "copy").read_text() == "one"
    done = run("restore", edited, "d/f", "--version", old)
    assert done == (0, f"/d/f is back (1 file, 3 B, version {old}).\n", "")
    assert run("cat", edited, "d/f").out == "one"
    assert run("restore", edited, "d/f", "--to", "d/other").code == 0
    assert run("cat", edited, "d/other").out == "two"


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        (("versions", "nothing"), 66, "/nothing: nothing of that name is there, or kept."),
        (("versions", "d"), 64, "/d is a folder: folders have no versions."),
        (("restore", "d"), 64, "/d is a folder that is there."),
        (("restore", "d/f", "--version", "0000"), 64, "No version begins with '0000'."),
        (("restore", "d/f", "--before", "soon"), 64, "'soon' is no time."),
        (("restore", "d/f", "--before", "100w"), 64, "No version from before that time is kept."),
        (("restore", "d/f", "--to", "x/y"), 66, "/x: nothing of that name is there, or kept."),
        (("cat", "d/f", "d/f", "--version", "0000"), 64, "A version is one of one file."),
    ],
)
def test_what_cannot_be_had_is_said_in_two_lines(
    run: Run, edited: str, line: tuple[str, ...], code: int, said: str
) -> None:
    result = run(line[0], edited, *line[1:])
    assert (result.code, two_lines(result)[0]) == (code, f"cryptfs: {said}")


def test_times_are_dates_or_how_long_ago() -> None:
    assert when("1h") - when("2h") in range(3_599_000, 3_601_000)
    assert when("2026-05-12 14:30") - when("2026-05-12") == 14 * 3_600_000 + 30 * 60_000
    with pytest.raises(UsageError):
        when("yesterday")


@on_a_mount
def test_what_is_deleted_on_a_mount_comes_back_into_an_open_directory(run: Run, edited: str, mounted: Path) -> None:
    directory = os.open(mounted / "d", os.O_RDONLY)
    assert os.listdir(directory) == ["f"]
    (mounted / "d/f").unlink()
    assert os.listdir(directory) == []
    assert not (mounted / "d/f").exists()  # which the kernel may remember, like the directory's attributes
    empty = os.fstat(directory)
    (row,) = json.loads(run("trash", edited, "--json").out)
    assert (row["path"], row["kind"], row["size"], row["by"]) == ("/d/f", "file", 3, "owner (first device)")
    assert run("restore", edited, "d/f").code == 0
    assert os.listdir(directory) == ["f"]
    assert os.fstat(directory).st_mtime_ns > empty.st_mtime_ns
    os.close(directory)
    assert (mounted / "d/f").read_text() == "two"
    assert run("trash", edited).err == "Nothing deleted is kept there.\n"


@on_a_mount
def test_a_mounted_file_is_restored_under_its_readers(run: Run, edited: str, mounted: Path) -> None:
    old = versions(run, edited, "d/f")[1]["version"]
    with (mounted / "d/f").open() as stream:
        assert stream.read() == "two"
        assert run("cat", edited, "d/f", "--version", old).out == "one"
        assert run("restore", edited, "d/f", "--version", old).code == 0
        stream.seek(0)
        assert stream.read() == "one"
    assert [row["state"] for row in versions(run, edited, "d/f")] == ["present", "old", "old"]


@on_a_mount
def test_what_a_program_holds_open_without_a_name_has_one_again(run: Run, edited: str, mounted: Path) -> None:
    with (mounted / "d/f").open("r+") as stream:
        (mounted / "d/f").unlink()
        assert os.fstat(stream.fileno()).st_nlink == 0
        assert run("restore", edited, "d/f").code == 0
        stream.write("TWO, and more")
        stream.flush()
        assert os.stat(mounted / "d/f").st_ino == os.fstat(stream.fileno()).st_ino
    assert (mounted / "d/f").read_text() == "TWO, and more"
    assert run("sync", edited).code == 0
    assert run("cat", edited, "d/f", "--version", versions(run, edited, "d/f")[1]["version"]).out == "two"


@on_a_mount
def test_a_removed_tree_comes_back(run: Run, edited: str, mounted: Path) -> None:
    (mounted / "d/deep").mkdir()
    (mounted / "d/deep/g").write_text("deep")
    assert run("sync", edited).code == 0
    for path in ("d/deep/g", "d/f"):
        (mounted / path).unlink()
    for path in ("d/deep", "d"):
        (mounted / path).rmdir()
    (row,) = json.loads(run("trash", edited, "--json").out)
    assert (row["path"], row["kind"], row["files"]) == ("/d", "directory", 2)
    assert "2 folders, 2 files, 7 B" in run("restore", edited, "/d").out
    assert (mounted / "d/deep/g").read_text() == "deep"
    assert (mounted / "d/f").read_text() == "two"
