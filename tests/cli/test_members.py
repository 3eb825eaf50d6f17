"""`cryptfs-admin members` and `verify`, from the store alone."""

import json
import shutil
from pathlib import Path

from tests.cli.transcripts import Run, two_lines


def test_members_lists_the_founder(run_admin: Run, vault: str) -> None:
    shown = run_admin("members", vault)
    titles, founder = shown.out.splitlines()
    assert titles.split("  ")[0] == "Member"
    assert founder.split()[:4] == ["owner", "first", "device", "owner"]
    assert founder.endswith("founder   this device")


def test_members_as_json(run_admin: Run, vault: str) -> None:
    (entry,) = json.loads(run_admin("members", vault, "--json").out)
    assert (entry["role"], entry["own"], entry["device"]) == ("owner", True, "first device")


def test_verify_says_what_was_checked_and_the_words(run_admin: Run, vault: str) -> None:
    shown = run_admin("verify", vault)
    assert shown.code == 0
    words, state, counts = shown.out.splitlines()
    assert words.startswith("owner (first device): ")
    assert len(words.partition(": ")[2].split()) == 9
    assert len(state.partition("The whole state: ")[2].split()) == 9
    assert counts.startswith("2 statements and 0 segments")


def test_a_statement_that_is_cut_off_is_noticed(run_admin: Run, vault: str, store_dir: Path) -> None:
    (statement,) = (store_dir / "m").iterdir()
    statement.chmod(0o600)
    statement.write_bytes(statement.read_bytes()[:-1])
    shown = run_admin("verify", vault, "--json")
    assert shown.code == 65
    assert json.loads(shown.out)["problems"]


def test_a_forged_statement_is_noticed(run_admin: Run, vault: str, store_dir: Path) -> None:
    (statement,) = (store_dir / "m").iterdir()
    data = bytearray(statement.read_bytes())
    data[-1] ^= 1
    statement.chmod(0o600)
    statement.write_bytes(data)
    shown = run_admin("verify", vault)
    assert shown.code == 65
    assert "its signature does not verify" in shown.out


def test_the_store_of_another_vault_is_refused(
    run: Run, run_admin: Run, vault: str, store_dir: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    assert run("init", "other", other, "--no-passphrase", "--no-recovery").code == 0
    shutil.rmtree(store_dir)
    other.rename(store_dir)
    result = run_admin("members", vault)
    assert (result.code, two_lines(result)[0]) == (
        78,
        "cryptfs-admin: The folder holds another vault than the one this device has keys for.",
    )
