"""`cryptfs fsck --salvage`: what a person sees of it, and where it refuses to write."""

import json
import shutil
from pathlib import Path

import pytest

from tests.cli.transcripts import Run, two_lines


@pytest.fixture
def wrecked(run: Run, vault: str, tmp_path: Path, store_dir: Path, home: Path) -> str:
    """A vault with `/letters/anna` and `/big`, whose logs are lost, on a device that has lost its cache."""
    source = tmp_path / "source"
    (source / "letters").mkdir(parents=True)
    (source / "letters/anna").write_text("Dear Anna,\n!")
    (source / "big").write_bytes(bytes(range(250)) * 12_000)
    assert run("put", vault, source / "letters", source / "big", "/").code == 0
    assert run("sync", vault).code == 0
    shutil.rmtree(store_dir / "l")
    shutil.rmtree(home / "cache")
    return vault


def test_files_are_written_with_what_can_be_said_of_them_and_only_where_nothing_is(
    run: Run, wrecked: str, tmp_path: Path, store_dir: Path
) -> None:
    found = run("fsck", wrecked, "--salvage", tmp_path / "out", "--yes", "--json")
    assert found.code == 0, found.err
    assert "in clear" in found.err
    files = {one["meant"]: one for one in json.loads(found.out)["files"]}
    assert files["letters/anna"] == {
        "meant": "letters/anna", "path": "letters/anna", "grade": "found", "size": 12, "missing": 0, "by": "",
    }  # fmt: skip
    assert (tmp_path / "out/big").read_bytes() == (tmp_path / "source/big").read_bytes()
    assert (tmp_path / "out/letters/anna").read_text() == "Dear Anna,\n!"
    again = run("fsck", wrecked, "--salvage", tmp_path / "out", "--yes")
    assert (again.code, two_lines(again)[1]) == (64, "Nothing is ever overwritten: name a new directory.")
    for inside in (store_dir, store_dir / "below/it"):
        found = run("fsck", wrecked, "--salvage", inside, "--yes")
        assert (found.code, two_lines(found)[1]) == (64, "Everybody could read it there: name another one.")
    for other in ("--heal", "--read-data=5%"):
        assert run("fsck", wrecked, "--salvage", tmp_path / "new", other).code == 64


def test_what_is_lost_is_said_and_the_exit_code_tells(run: Run, wrecked: str, tmp_path: Path, store_dir: Path) -> None:
    (pack,) = (store_dir / "p").iterdir()
    data = pack.read_bytes()
    pack.chmod(0o600)
    pack.write_bytes(data[: len(data) // 2] + bytes(100_000) + data[len(data) // 2 + 100_000 :])
    found = run("fsck", wrecked, "--salvage", tmp_path / "out", "--yes")
    assert found.code == 65
    assert "INCOMPLETE  big: 192 KiB of 2.86 MiB are missing; written as big (incomplete)\n" in found.out
    assert "1: every part found, not attributable" in found.out
    (store_dir / "genesis").unlink()
    found = run("fsck", wrecked, "--salvage", tmp_path / "none", "--yes")
    assert (found.code, "The beginning of the vault is lost" in found.err) == (65, True)
