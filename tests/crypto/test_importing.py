"""Keys and certificates from foreign files: T-import."""

import pytest
from certificate_workshop import NOW, Authority, pkcs8
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
    pkcs12,
)
from hypothesis import given
from hypothesis import strategies as st

from cryptfs.crypto.certificate import Refusal, Refused
from cryptfs.crypto.importing import import_certificate, import_pair, import_pkcs12
from cryptfs.crypto.selfsigned import CertificateKey, make_certificate
from cryptfs.errors import NotAllowed, WrongPassphrase

PRIVATE, CERT = make_certificate("Anna", NOW, CertificateKey.P384)
KEY = load_der_private_key(PRIVATE, None)
PARSED = x509.load_der_x509_certificate(CERT)
PEM = PARSED.public_bytes(Encoding.PEM)
LOCKED = BestAvailableEncryption(b"secret")


def key_file(encoding: Encoding, form: PrivateFormat, lock: object) -> bytes:
    return KEY.private_bytes(encoding, form, lock)


FORMS = [
    (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption(), None),
    (Encoding.DER, PrivateFormat.PKCS8, NoEncryption(), None),
    (Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption(), None),
    (Encoding.PEM, PrivateFormat.PKCS8, LOCKED, b"secret"),
    (Encoding.DER, PrivateFormat.PKCS8, LOCKED, b"secret"),
]


@pytest.mark.parametrize(("encoding", "form", "lock", "passphrase"), FORMS)
@pytest.mark.parametrize("cert", [CERT, PEM, b"some text before\n" + PEM])
def test_import_of_key_and_certificate(encoding: Encoding, form: PrivateFormat, lock: object, passphrase, cert) -> None:
    assert import_pair(cert, key_file(encoding, form, lock), passphrase) == (PRIVATE, CERT)


def test_import_of_x25519_which_pkcs12_cannot_hold() -> None:
    key = x25519.X25519PrivateKey.generate()
    cert = Authority().issue(key.public_key())
    assert import_pair(cert, pkcs8(key), None) == (pkcs8(key), cert)


@pytest.mark.parametrize("passphrase", [b"secret", None])
def test_import_of_pkcs12(passphrase: bytes | None) -> None:
    lock = LOCKED if passphrase else NoEncryption()
    data = pkcs12.serialize_key_and_certificates(b"anna", KEY, PARSED, None, lock)
    assert import_pkcs12(data, passphrase) == (PRIVATE, CERT)
    with pytest.raises(WrongPassphrase):
        import_pkcs12(data, b"wrong")


def test_import_with_a_wrong_or_missing_passphrase() -> None:
    for encoding in (Encoding.PEM, Encoding.DER):
        locked = key_file(encoding, PrivateFormat.PKCS8, LOCKED)
        for passphrase in (None, b"wrong"):
            with pytest.raises(WrongPassphrase):
                import_pair(CERT, locked, passphrase)


def test_import_of_a_pair_that_does_not_belong_together() -> None:
    with pytest.raises(Refused) as caught:
        import_pair(CERT, pkcs8(ec.generate_private_key(ec.SECP384R1())), None)
    assert caught.value.reason is Refusal.MISMATCH
    with pytest.raises(Refused):
        import_pair(CERT, pkcs8(ed25519.Ed25519PrivateKey.generate()), None)


def test_import_of_pkcs12_without_certificate_or_key() -> None:
    other = Authority().cert
    for data in (
        pkcs12.serialize_key_and_certificates(None, KEY, None, None, NoEncryption()),
        pkcs12.serialize_key_and_certificates(None, None, None, [other], NoEncryption()),
    ):
        with pytest.raises(Refused):
            import_pkcs12(data, None)


@given(st.binary(max_size=100))
def test_import_of_any_bytes_raises_only_our_errors(data: bytes) -> None:
    for cert in (data, b"-----BEGIN CERTIFICATE-----\n" + data):
        with pytest.raises(Refused):
            import_certificate(cert)
    for key in (data, b"-----BEGIN PRIVATE KEY-----\n" + data):
        with pytest.raises(NotAllowed):
            import_pair(CERT, key, None)
        with pytest.raises(NotAllowed):
            import_pkcs12(key, None)
