"""`cryptfs-admin renew`: a device replaces its certificate, by a new one or by one that it brings."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from cryptfs.cli import renewing
from cryptfs.crypto.keyfile import decode, encode
from cryptfs.errors import StoreGone
from tests.cli.people import Person
from tests.cli.test_admin_group import anna, bob, cat, put, words
from tests.cli.transcripts import two_lines
from tests.crypto.certificate_workshop import Authority

__all__ = ["anna", "bob", "words"]  # fixtures


def keys_of(who: Person) -> object:
    return decode((who.home / "data" / "team" / "keys.cfs").read_bytes(), None)


def pair_in(directory: Path, ca: Authority, **how: object) -> tuple[Path, Path]:
    """Files of a certificate by `ca` and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    files = directory / "person.der", directory / "person.key"
    files[0].write_bytes(ca.issue(key.public_key(), **how))  # type: ignore[arg-type]
    files[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return files


def test_renew_a_writer_goes_on_reading_writing_and_gets_the_next_key(
    anna: Person, bob: Person, tmp_path: Path
) -> None:
    """T-renew: a self-made certificate, pinned; several times in a row."""
    put(anna, tmp_path, "old", "from before")
    before = keys_of(bob)
    for _ in range(2):
        done = bob.admin("renew", "team")
        assert done.code == 0, done.err
        assert "is replaced; the new one is good until 20" in done.out
        assert "next administrator's device" in done.err
    put(bob, tmp_path, "at once", "sealed before anybody handed a key to the new one")
    after = keys_of(bob)
    assert after.sign_seed == before.sign_seed
    assert after.cert_der != before.cert_der
    assert after.former[0].cert_der == before.cert_der
    assert anna.must("reconcile", "team")
    anna.must("rotate", "team")
    put(anna, tmp_path, "new", "under the new key")
    assert cat(bob, "old") == "from before"
    assert cat(bob, "new") == "under the new key"
    put(bob, tmp_path, "mine", "by Bob")
    assert cat(anna, "mine") == "by Bob"
    assert "PROBLEM" not in bob.must("verify", "team")
    acts = anna.json("audit", "team")["acts"]
    assert [one["author"] for one in acts if one["act"] == "renewed the certificate"] == ["Bob (device)"] * 2


def test_renew_an_administrator_hands_the_key_to_itself(anna: Person, tmp_path: Path) -> None:
    """T-renew: nobody else could."""
    answer = anna.json("renew", "team")
    assert answer["complete"] is True
    put(anna, tmp_path, "mine", "by Anna")
    assert cat(anna, "mine") == "by Anna"
    # All that was wrapped to the old certificate is reached through the new one alone.
    keys = keys_of(anna)
    file = anna.home / "data" / "team" / "keys.cfs"
    file.write_bytes(encode(type(keys)(**{f: getattr(keys, f) for f in keys.__slots__} | {"former": ()}), None))
    assert cat(anna, "mine") == "by Anna"


def test_renew_that_was_interrupted_is_finished_by_the_next(
    anna: Person, bob: Person, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T-renew: the keys are on the disk before anything is announced."""

    async def gone(*_: object) -> bool:
        raise StoreGone("The store does not answer.")

    with monkeypatch.context() as patch:
        patch.setattr(renewing, "announce", gone)
        assert bob.admin("renew", "team").code == 69
    half = keys_of(bob)
    assert len(half.former) == 1
    put(bob, tmp_path, "between", "the old one still counts")
    assert bob.admin("renew", "team").code == 0
    assert keys_of(bob) == half
    anna.must("rotate", "team")
    put(bob, tmp_path, "after", "x")


def test_renew_brings_a_certificate_of_the_companys_authority(
    person: Callable[[str], Person], store_dir: Path, tmp_path: Path
) -> None:
    """T-renew: in `org-ca` mode the new certificate has to pass before anybody wraps to it."""
    ca = Authority("Company", now=datetime.now(UTC))
    (tmp_path / "ca.der").write_bytes(ca.der)
    anna = person("anna")
    cert, key = pair_in(tmp_path, ca)
    made = anna.user(
        "init", "team", store_dir, "--no-passphrase", "--no-recovery", "--cert", cert, "--key", key,
        "--ca", tmp_path / "ca.der",
    )  # fmt: skip
    assert made.code == 0, made.err
    message, _ = two_lines(anna.admin("renew", "team"))
    assert message == ("cryptfs-admin: Certificates of this vault come from an authority.")
    cert, key = pair_in(tmp_path, Authority("Another", now=datetime.now(UTC)))
    message, _ = two_lines(anna.admin("renew", "team", "--cert", cert, "--key", key))
    assert message == ("cryptfs-admin: no certificate authority of this vault has issued the certificate")
    assert keys_of(anna).former == ()
    cert, key = pair_in(tmp_path, ca, serial=1001)
    assert anna.admin("renew", "team", "--cert", cert, "--key", key).code == 0
    put(anna, tmp_path, "f", "x")
    assert anna.admin("renew", "team", "--cert", cert, "--key", key).code == 64


def test_renew_never_takes_the_key_of_another_member(anna: Person, bob: Person, tmp_path: Path) -> None:
    theirs = keys_of(anna)
    (tmp_path / "c").write_bytes(theirs.cert_der)
    (tmp_path / "k").write_bytes(theirs.cert_key_pkcs8)
    message, _ = two_lines(bob.admin("renew", "team", "--cert", tmp_path / "c", "--key", tmp_path / "k"))
    assert message == "cryptfs-admin: The key of that certificate belongs to Anna."


def test_renew_of_an_entry_by_certificate_alone_keeps_its_signing_key(
    anna: Person, person: Callable[[str], Person], tmp_path: Path
) -> None:
    """T-renew, T-enrol: the signing key came sealed to the old certificate."""
    cert, key = pair_in(tmp_path, Authority("Whoever", now=datetime.now(UTC)))
    added = anna.json("add", "team", "--cert", cert, "--role", "writer", "--name", "Dora", "--yes")
    dora = person("dora")
    dora.join(added["token"], "--cert", cert, "--key", key)
    assert dora.admin("renew", "team").code == 0
    assert keys_of(dora).sign_seed
    put(dora, tmp_path, "hers", "by Dora")
    assert cat(anna, "hers") == "by Dora"
