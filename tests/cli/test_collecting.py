"""`cryptfs-admin collect`, on a real mount and without one."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest

from tests.cli.transcripts import Run


def amount(store: Path) -> int:
    return sum(path.stat().st_size for path in (store / "p").rglob("*") if path.is_file())


def sums(top: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in top.iterdir()}


@pytest.mark.fuse
def test_space_of_what_was_deleted_comes_back_and_the_rest_reads_from_the_store_alone(
    run: Run, run_admin: Run, vault: str, store_dir: Path, home: Path
) -> None:
    point = store_dir.parent / "mnt"
    point.mkdir()
    assert run("mount", vault, point).code == 0
    try:
        for i in range(12):
            (point / f"f{i}").write_bytes(os.urandom(400_000))
        (point / "big").write_bytes(os.urandom(8_000_000))
        assert run("sync", vault).code == 0
        (point / "big").write_bytes(os.urandom(1_000_000))
        for i in range(9):
            (point / f"f{i}").unlink()
        assert run("sync", vault).code == 0
        before, expected = amount(store_dir), sums(point)

        assert run_admin("collect", vault, "--history").code == 64  # it asks, and nobody is there to say yes
        done = json.loads(run_admin("collect", vault, "--history", "--yes", "--json").out)
        assert (done["history_let_go"], done["deleted"]) == (True, 0)
        assert done["delay_ends_ms"] > 0
        assert "goes from" in run_admin("collect", vault).out
        assert "Deleted" in run_admin("collect", vault, "--now").out
        assert amount(store_dir) < before - 11_000_000
        assert sums(point) == expected
    finally:
        assert run("umount", vault).code == 0
    checked = run("fsck", vault, "--read-data", "100")
    assert checked.code == 0
    assert "PROBLEM" not in checked.out
    shutil.rmtree(home / "cache")
    assert run("mount", vault, point).code == 0
    try:
        assert sums(point) == expected
    finally:
        run("umount", vault)


def test_without_a_mount_and_fsck_says_what_is_not_needed(
    run: Run, run_admin: Run, vault: str, tmp_path: Path, store_dir: Path
) -> None:
    for data in (os.urandom(3_000_000), b"short"):
        (tmp_path / "f").write_bytes(data)
        assert run("put", vault, tmp_path / "f", "/f").code == 0
        assert run("sync", vault).code == 0
    assert "Packs that no present file needs: 1, 2.87 MiB; kept for old versions" in run("fsck", vault).out
    assert "No pack of this device is unused" in run_admin("collect", vault).out
    assert "Deleted 1 pack" in run_admin("collect", vault, "--now", "--history", "--yes").out
    assert amount(store_dir) == 0
    assert run("cat", vault, "f").out == "short"
