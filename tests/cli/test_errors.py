"""Every error a person is likely to meet: two lines, and the exit code scripts rely on."""

import fcntl
import os
import shutil
from pathlib import Path

import pytest

from cryptfs.errors import LocalDiskFull
from tests.cli.transcripts import Result, Run, two_lines


def says(result: Result, code: int, what: str) -> str:
    """Check code and first line (its beginning); returns the advice."""
    first, advice = two_lines(result)
    assert (result.code, first[: len(what) + 9]) == (code, f"cryptfs: {what}")
    return advice


@pytest.fixture
def locked_vault(run: Run, store_dir: Path, tmp_path: Path) -> str:
    """A vault whose keys are under the passphrase "right"; `tmp_path/right` and `tmp_path/wrong` hold passphrases."""
    for word in ("right", "wrong"):
        (tmp_path / word).write_text(word + "\n")
    made = run("init", "team", store_dir, "--passphrase-file", tmp_path / "right", "--no-recovery")
    assert made.code == 0, made.err
    return "team"


def test_wrong_passphrase(run: Run, locked_vault: str, tmp_path: Path) -> None:
    result = run("ls", locked_vault, "--passphrase-file", tmp_path / "wrong")
    assert "--passphrase-file" in says(result, 77, "the key file does not open")


def test_the_passphrase_file_may_come_from_the_environment(
    run: Run, locked_vault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRYPTFS_PASSPHRASE_FILE", str(tmp_path / "right"))
    assert run("ls", locked_vault) == (0, "", "")


def test_the_passphrase_may_be_a_credential_of_systemd(
    run: Run, locked_vault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "right").rename(tmp_path / "cryptfs.passphrase")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert run("ls", locked_vault) == (0, "", "")


def test_the_passphrase_may_come_from_a_descriptor(run_apart: Run, locked_vault: str) -> None:
    assert run_apart("ls", locked_vault, "--passphrase-file", "/dev/stdin", stdin=b"right\n") == (0, "", "")


def test_no_passphrase_and_nobody_to_ask(run_apart: Run, locked_vault: str) -> None:
    advice = says(run_apart("ls", locked_vault), 77, "The keys of 'team' need a passphrase")
    assert advice == "Use --passphrase-file FILE, or set CRYPTFS_PASSPHRASE_FILE."


def test_an_empty_passphrase_file(run: Run, locked_vault: str, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    says(run("ls", locked_vault, "--passphrase-file", tmp_path / "empty"), 64, f"{tmp_path}/empty holds no passphrase")


@pytest.mark.parametrize("command", ["ls", "mount", "sync", "fsck", "status", "umount", "enable", "doctor"])
def test_no_such_vault(run: Run, command: str) -> None:
    advice = says(run(command, "nobody"), 66, "There is no vault called 'nobody' on this device.")
    assert advice == "`cryptfs list` shows the vaults of this device."


def test_store_gone(run: Run, vault: str, store_dir: Path, home: Path) -> None:
    shutil.rmtree(store_dir)
    shutil.rmtree(home / "cache")
    result = run("ls", vault)
    assert result.code == 69
    two_lines(result)


def test_store_gone_does_not_hide_what_is_known_here(run: Run, vault: str, store_dir: Path) -> None:
    assert run("ls", vault).code == 0
    store_dir.rename(store_dir.with_name("away"))
    assert run("ls", vault) == (0, "", "The store cannot be reached; this is what was known at the last contact.\n")


def test_store_of_another_vault(run: Run, vault: str, store_dir: Path, tmp_path: Path) -> None:
    assert run("init", "other", tmp_path / "other", "--no-passphrase", "--no-recovery").code == 0
    shutil.rmtree(store_dir)
    (tmp_path / "other").rename(store_dir)
    says(run("ls", vault), 78, "The folder holds another vault")


def test_newer_format(run: Run, vault: str, store_dir: Path) -> None:
    genesis = store_dir / "genesis"
    data = bytearray(genesis.read_bytes())
    data[8] = 2  # the suite, in every header
    genesis.chmod(0o600)
    genesis.write_bytes(data)
    result = run("ls", vault)
    assert result.code == 65
    assert two_lines(result)[1] == "Please update cryptfs."


def test_full_disk(run: Run, vault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise LocalDiskFull("The local disk is full (writing the journal).")

    monkeypatch.setattr("cryptfs.vault.vault.Vault.check_space", full)
    (tmp_path / "file").write_text("text")
    advice = says(run("put", vault, tmp_path / "file"), 74, "The local disk is full")
    assert advice.startswith("Free space")


def test_in_use_by_another_process(run: Run, vault: str, home: Path) -> None:
    assert run("ls", vault).code == 0
    with (home / "data/team/lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        says(run("ls", vault), 75, "The vault 'team' is in use by process")


def test_settings_that_cannot_be_read(run: Run, vault: str, home: Path) -> None:
    (home / "config/team.toml").write_text("store = \n")
    says(run("ls", vault), 78, f"{home}/config/team.toml cannot be read")


def test_an_unknown_mount_option(run: Run, vault: str, tmp_path: Path) -> None:
    result = run("mount", vault, tmp_path, "-o", "explode")
    assert "allow_other" in says(result, 64, "There is no option 'explode' (-o).")


def test_a_key_file_that_is_none(run: Run, vault: str, home: Path) -> None:
    os.truncate(home / "data/team/keys.cfs", 10)
    result = run("ls", vault)
    assert result.code == 65
    two_lines(result)
