"""Certificates whose private key is on a token: SoftHSM through the real library, from `init` to a mount."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cryptfs.crypto.certificate import public_key_of
from cryptfs.crypto.importing import import_certificate
from cryptfs.crypto.keyfile import decode, is_on_token
from cryptfs.crypto.wrap import unwrap_held, wrap
from cryptfs.errors import ConfigError, UsageError
from cryptfs.vault.smartcard import TokenKey, open_token_key
from cryptfs.vault.tokenuri import TokenUri, parse_token_uri
from tests.cli.people import Person
from tests.cli.softhsm import PIN, Card, card
from tests.cli.test_admin_group import anna, bob, cat, invite, put, words
from tests.cli.transcripts import two_lines

__all__ = ["anna", "bob", "card", "words"]  # fixtures


def der(card: Card, name: str) -> bytes:
    return import_certificate(card.certs[name].read_bytes())


def where(card: Card, name: str) -> TokenUri:
    return parse_token_uri(card.uri(name))


# ---- the token itself ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["p256", "p384", "p521"])
def test_what_is_wrapped_to_a_certificate_opens_on_its_token(card: Card, name: str) -> None:
    cert = der(card, name)
    key = open_token_key(where(card, name), cert, PIN.encode())
    public = public_key_of(cert)
    for _ in range(10):
        assert unwrap_held(key, public, *wrap(public, bytes(range(32)), b"info"), b"info") == bytes(range(32))


def test_rsa_on_a_token_that_cannot_do_oaep_with_sha256_is_told_at_set_up(card: Card) -> None:
    """SoftHSM 2.6 does SHA-1 only. What a token that can is asked stands in `crypto/test_held.py`."""
    cert = der(card, "rsa")
    with pytest.raises(UsageError, match="does not do RSA-OAEP with SHA-256") as caught:
        open_token_key(where(card, "rsa"), cert, PIN.encode())
    assert "P-256" in caught.value.advice


def test_a_key_that_is_not_the_certificates_is_refused(card: Card) -> None:
    """T-keypair-mismatch."""
    with pytest.raises(UsageError, match="is not the certificate's"):
        open_token_key(where(card, "p256"), der(card, "second"), PIN.encode())


def test_absent_token_absent_key_and_absent_module_say_so(card: Card, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="fits no private key"):
        TokenKey(where(card, "nobody"), PIN.encode())
    absent = parse_token_uri(f"pkcs11:token=lost;object=p256?module-path={card.module}")
    with pytest.raises(ConfigError, match="fits no token"):
        TokenKey(absent, PIN.encode())
    with pytest.raises(ConfigError, match="cannot be used"):
        TokenKey(TokenUri(object="p256", module=str(tmp_path / "none.so")), PIN.encode())


def test_a_wrong_pin_is_said_to_be_wrong(card: Card, tmp_path: Path) -> None:
    """In a process of its own: a token asks once a process."""
    (tmp_path / "pin").write_text("13579")
    done = subprocess.run(
        [sys.executable, "-m", "cryptfs", "init", "v", tmp_path / "store", "--no-passphrase", "--no-recovery",
         "--cert", card.certs["p256"], "--key", card.uri("p256")],
        env=os.environ | {"CRYPTFS_HOME": str(tmp_path / "home"), "CRYPTFS_PIN_FILE": str(tmp_path / "pin")},
        capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert (done.returncode, done.stderr.splitlines()[0]) == (77, "cryptfs: The PIN is wrong.")
    assert not (tmp_path / "store").exists()


def test_a_session_that_was_cut_is_opened_again(card: Card) -> None:
    """As when a card is pulled out and put back."""
    cert = der(card, "p256")
    key, public = open_token_key(where(card, "p256"), cert, PIN.encode()), public_key_of(cert)
    key._session.close()
    assert unwrap_held(key, public, *wrap(public, bytes(32), b"i"), b"i") == bytes(32)


# ---- URIs ------------------------------------------------------------------------------------------------------------


def test_uri_says_which_key_as_rfc_7512_writes_it() -> None:
    said = "pkcs11:token=Anna%27s%20card;serial=00ff;object=vault;id=%01%fe;type=private?module-name=opensc-pkcs11"
    assert parse_token_uri(said) == TokenUri(
        "Anna's card", "00ff", object="vault", id=b"\x01\xfe", module="opensc-pkcs11.so"
    )
    assert parse_token_uri("pkcs11:id=%01?pin-source=file:///run/pin").pin_file == "/run/pin"


@pytest.mark.parametrize(
    "uri",
    [
        "https:object=x", "pkcs11:", "pkcs11:token=card", "pkcs11:object=x;object=y", "pkcs11:object",
        "pkcs11:object=x;what=1", "pkcs11:object=x;type=public", "pkcs11:object=%ff",
        "pkcs11:object=x?pin-source=|cat", "pkcs11:object=" + "x" * 3000,
    ],
)  # fmt: skip
def test_uri_that_is_not_understood_is_refused(uri: str) -> None:
    with pytest.raises(UsageError):
        parse_token_uri(uri)


def test_a_pin_in_the_uri_is_refused_and_not_repeated() -> None:
    with pytest.raises(UsageError, match="A PIN does not belong") as caught:
        parse_token_uri("pkcs11:object=x?pin-value=24680")
    assert "24680" not in str(caught.value) + caught.value.advice


# ---- from init to a mount --------------------------------------------------------------------------------------------


@pytest.fixture
def with_pin(card: Card, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRYPTFS_PIN_FILE", str(card.pin_file))


def test_a_person_with_a_card_is_let_in_reads_writes_and_follows_every_key(
    anna: Person, person: object, card: Card, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRYPTFS_PIN_FILE", str(card.pin_file))
    put(anna, tmp_path, "old", "from before")
    dora = person("dora")
    dora.join(invite(anna, "--name", "Dora"), "--cert", card.certs["p384"], "--key", card.uri("p384"))
    anna.must("approve", "team", "--all", "--yes")
    assert cat(dora, "old") == "from before"
    put(dora, tmp_path, "hers", "by Dora")
    anna.must("rotate", "team")
    put(anna, tmp_path, "new", "under the new key")
    assert cat(dora, "new") == "under the new key"
    file = (dora.home / "data" / "team" / "keys.cfs").read_bytes()
    assert is_on_token(file)
    keys = decode(file, None)
    assert (keys.cert_key_pkcs8, keys.token) == (b"", card.uri("p384"))
    # Without a PIN, or with nobody to type one, nothing opens.
    monkeypatch.delenv("CRYPTFS_PIN_FILE")
    assert two_lines(dora.user("cat", "team", "new"))[0] == (
        "cryptfs: The token needs a PIN, and there is no terminal to ask for it."
    )


def test_an_owner_with_a_card_founds_a_vault_lets_in_and_renews_to_another_key(
    person: object, card: Card, with_pin: None, store_dir: Path, tmp_path: Path
) -> None:
    anna = person("anna")
    made = anna.user(
        "init", "team", store_dir, "--no-passphrase", "--no-recovery",
        "--cert", card.certs["p256"], "--key", card.uri("p256", f"pin-source=file:{card.pin_file}"),
    )  # fmt: skip
    assert made.code == 0, made.err
    put(anna, tmp_path, "f", "x")
    renewed = anna.json("renew", "team", "--cert", card.certs["second"], "--key", card.uri("second"))
    assert renewed["complete"] is True
    put(anna, tmp_path, "g", "y")
    anna.must("rotate", "team")
    assert cat(anna, "f") == "x"
    bob = person("bob")
    bob.join(invite(anna, "--name", "Bob"))
    anna.must("approve", "team", "--all", "--yes")
    assert cat(bob, "g") == "y"
    # And back to a key in the file: the card is not needed any more.
    assert anna.json("renew", "team")["complete"] is True
    assert not is_on_token((anna.home / "data" / "team" / "keys.cfs").read_bytes())


@pytest.mark.fuse
def test_a_mount_in_the_background_opens_the_token_itself(
    anna: Person, person: object, card: Card, with_pin: None, tmp_path: Path
) -> None:
    put(anna, tmp_path, "old", "from before")
    dora, point = person("dora"), tmp_path / "mnt"
    dora.join(invite(anna, "--name", "Dora"), "--cert", card.certs["p256"], "--key", card.uri("p256"))
    anna.must("approve", "team", "--all", "--yes")
    point.mkdir()
    environment = os.environ | {"CRYPTFS_HOME": str(dora.home)}

    def cryptfs(*arguments: object) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "cryptfs", *map(str, arguments)], env=environment, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr

    cryptfs("mount", "team", point)
    try:
        assert (point / "old").read_text() == "from before"
        anna.must("rotate", "team")
        put(anna, tmp_path, "new", "under the new key")
        cryptfs("sync", "team")
        assert (point / "new").read_text() == "under the new key"
    finally:
        cryptfs("umount", "team")
