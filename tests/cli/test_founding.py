"""`cryptfs init`."""

import datetime as dt
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_der_private_key

from cryptfs.crypto import keyfile
from cryptfs.crypto.recovery import RecoverySecret, recovery_keys
from cryptfs.crypto.selfsigned import make_certificate
from cryptfs.crypto.words import recovery_seed
from cryptfs.errors import WrongPassphrase
from tests.cli.transcripts import Run, two_lines

KEYS = "data/team/keys.cfs"


def test_a_new_vault_says_where_it_is_and_what_comes_next(run: Run, store_dir: Path) -> None:
    made = run("init", "team", store_dir, "--no-passphrase", "--no-recovery")
    assert made == (
        0,
        f"The vault 'team' is ready in file://{store_dir}.\nMount it with `cryptfs mount team`.\n",
        "",
    )
    assert {"genesis", "m", "w", "README.txt"} <= {path.name for path in store_dir.iterdir()}


def test_the_keys_are_for_their_owner_alone(run: Run, vault: str, home: Path) -> None:
    assert stat.S_IMODE((home / KEYS).stat().st_mode) == 0o600
    assert stat.S_IMODE((home / "data/team").stat().st_mode) == 0o700
    assert not keyfile.is_protected((home / KEYS).read_bytes())


def test_a_passphrase_file_protects_the_keys(run: Run, store_dir: Path, home: Path, tmp_path: Path) -> None:
    secret = tmp_path / "passphrase"
    secret.write_text("correct horse\nnot this line\n")
    assert run("init", "team", store_dir, "--passphrase-file", secret, "--no-recovery").code == 0
    data = (home / KEYS).read_bytes()
    assert keyfile.decode(data, b"correct horse").vault
    with pytest.raises(WrongPassphrase):
        keyfile.decode(data, b"wrong")


def test_the_recovery_file_holds_the_words_for_its_owner_alone(run: Run, store_dir: Path, tmp_path: Path) -> None:
    words = tmp_path / "words"
    assert run("init", "team", store_dir, "--no-passphrase", "--recovery-file", words).code == 0
    assert stat.S_IMODE(words.stat().st_mode) == 0o600
    secret = RecoverySecret(recovery_seed([words.read_text()]))
    assert secret.public.sign_public in (store_dir / "genesis").read_bytes()
    assert recovery_keys(recovery_seed([words.read_text()]), secret.public)


def test_an_own_certificate_is_taken(run: Run, store_dir: Path, home: Path, tmp_path: Path) -> None:
    pkcs8, der = make_certificate("me", dt.datetime.now(dt.UTC))
    pem = load_der_private_key(pkcs8, None).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "key.pem").write_bytes(pem)
    (tmp_path / "cert.der").write_bytes(der)
    pair = ("--cert", tmp_path / "cert.der", "--key", tmp_path / "key.pem")
    assert run("init", "team", store_dir, "--no-passphrase", "--no-recovery", *pair).code == 0
    assert keyfile.decode((home / KEYS).read_bytes(), None).cert_der == der


def test_the_readme_in_the_store_says_what_the_folder_is(vault: str, store_dir: Path) -> None:
    assert "do not rename, edit or delete" in (store_dir / "README.txt").read_text()


def refused(run: Run, *args: object) -> tuple[str, str]:
    result = run("init", *args)
    assert result.code == 64
    return two_lines(result)


def test_a_name_is_taken_once(run: Run, vault: str, tmp_path: Path) -> None:
    what, _ = refused(run, "team", tmp_path / "other", "--no-passphrase", "--no-recovery")
    assert what == "cryptfs: There is a vault called 'team' on this device already."


def test_a_folder_holds_one_vault(run: Run, vault: str, store_dir: Path) -> None:
    what, advice = refused(run, "second", store_dir, "--no-passphrase", "--no-recovery")
    assert (what, advice) == ("cryptfs: There is a vault in that folder already.", "Name a new or empty folder.")


def test_a_folder_with_other_files_is_left_alone(run: Run, store_dir: Path) -> None:
    (store_dir / "thesis.txt").write_text("mine")
    what, _ = refused(run, "team", store_dir, "--no-passphrase", "--no-recovery")
    assert what == f"cryptfs: {store_dir} is not empty."
    assert [path.name for path in store_dir.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("name", ["", "a/b", "..", "-x", "x" * 65, "a b"])
def test_a_name_that_could_be_no_file_name_is_refused(run: Run, store_dir: Path, name: str) -> None:
    refused(run, "--no-passphrase", "--no-recovery", "--", name, store_dir)


def test_without_a_terminal_a_passphrase_must_be_named(run_apart: Run, store_dir: Path) -> None:
    result = run_apart("init", "team", store_dir, "--no-recovery")
    assert (result.code, two_lines(result)[0]) == (
        64,
        "cryptfs: The new keys need a passphrase, and there is no terminal to ask for it.",
    )


def test_without_a_terminal_the_recovery_words_need_a_file(run_apart: Run, store_dir: Path) -> None:
    result = run_apart("init", "team", store_dir, "--no-passphrase")
    assert (result.code, two_lines(result)[1]) == (64, "Use --recovery-file FILE, or --no-recovery.")
    assert list(store_dir.iterdir()) == []


def test_a_certificate_needs_its_key(run: Run, store_dir: Path, tmp_path: Path) -> None:
    refused(run, "team", store_dir, "--cert", tmp_path / "x", "--no-passphrase", "--no-recovery")


def test_an_existing_recovery_file_is_not_overwritten(run: Run, store_dir: Path, tmp_path: Path) -> None:
    words = tmp_path / "words"
    words.write_text("of another vault")
    result = run("init", "team", store_dir, "--no-passphrase", "--recovery-file", words)
    assert result.code == 66
    assert words.read_text() == "of another vault"


def test_a_store_below_a_missing_directory_is_not_made(run: Run, tmp_path: Path) -> None:
    result = run("init", "team", tmp_path / "not-mounted/store", "--no-passphrase", "--no-recovery")
    assert result.code == 66
    assert not (tmp_path / "not-mounted").exists()
