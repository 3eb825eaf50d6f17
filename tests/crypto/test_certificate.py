"""Certificates in pinned mode: T-badkeys, T-x509, T-expiry, T-keypair-mismatch."""

from datetime import timedelta

import pytest
import reference_crypto as ref
from certificate_workshop import DAY, NOW, Authority, der, name_of, pkcs8, usage
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mlkem, rsa, x25519
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from hypothesis import given
from hypothesis import strategies as st

from cryptfs.crypto.certificate import (
    CERT_MAX,
    Refusal,
    Refused,
    Standing,
    fingerprint,
    judge_pinned,
    matching_private_key,
    public_key_of,
)
from cryptfs.crypto.selfsigned import CertificateKey, make_certificate
from cryptfs.crypto.wrap import unwrap, wrap

CA = Authority()
P256 = ec.generate_private_key(ec.SECP256R1())
MADE = {kind: make_certificate("Anna", NOW, kind) for kind in CertificateKey}


def reason(cert_der: bytes, now: object = NOW) -> Refusal:
    with pytest.raises(Refused) as caught:
        judge_pinned(cert_der, now)
    assert str(caught.value) == caught.value.reason.value
    return caught.value.reason


def odd_rsa(bits: int, e: int = 65537) -> rsa.RSAPublicKey:
    return RSAPublicNumbers(e, int.from_bytes(ref.stream("modulus", bits // 8), "big") | 1 << bits - 1 | 1).public_key()


@pytest.mark.parametrize("kind", CertificateKey)
def test_made_certificate_is_judged_good_and_receives_wraps(kind: CertificateKey) -> None:
    private, cert = MADE[kind]
    judged = judge_pinned(cert, NOW)
    assert judged.standings == ()
    assert judged.fingerprint == fingerprint(cert) == ref.hashlib.sha256(cert).digest()
    alg, blob = wrap(judged.public_key, bytes(32), b"info")
    assert unwrap(matching_private_key(private, cert), alg, blob, b"info") == bytes(32)


def test_x25519_certificate_of_an_issuer_is_taken_for_its_key() -> None:
    key = x25519.X25519PrivateKey.generate()
    cert = CA.issue(key.public_key(), (usage("key_agreement"), True))
    assert judge_pinned(cert, NOW).public_key == key.public_key()
    assert matching_private_key(pkcs8(key), cert).public_key() == key.public_key()


WEAK_X25519 = x25519.X25519PublicKey.from_public_bytes(bytes(32))
REFUSED_KEYS = {
    "RSA-1024": (lambda: odd_rsa(1024), Refusal.RSA_SIZE),
    "RSA-2048": (lambda: odd_rsa(2048), Refusal.RSA_SIZE),
    "RSA-8200": (lambda: odd_rsa(8200), Refusal.RSA_SIZE),
    "RSA e=3": (lambda: odd_rsa(3072, 3), Refusal.RSA_EXPONENT),
    "secp256k1": (lambda: ec.generate_private_key(ec.SECP256K1()).public_key(), Refusal.KEY_TYPE),
    "Brainpool": (lambda: ec.generate_private_key(ec.BrainpoolP384R1()).public_key(), Refusal.KEY_TYPE),
    "Ed25519": (lambda: ed25519.Ed25519PrivateKey.generate().public_key(), Refusal.KEY_TYPE),
    "Ed448": (lambda: ed448.Ed448PrivateKey.generate().public_key(), Refusal.KEY_TYPE),
    "ML-KEM": (lambda: mlkem.MLKEM768PrivateKey.generate().public_key(), Refusal.KEY_TYPE),
    "low-order X25519": (lambda: WEAK_X25519, Refusal.WEAK_KEY),
}


@pytest.mark.parametrize("name", REFUSED_KEYS)
def test_badkeys_in_a_certificate_are_refused(name: str) -> None:
    make, expected = REFUSED_KEYS[name]
    assert reason(CA.issue(make())) is expected


RSA_KEY = odd_rsa(3072)
REFUSED_FORMS = {
    "CA leaf": (P256, [(x509.BasicConstraints(ca=True, path_length=None), True)], Refusal.IS_CA),
    "CA leaf, not critical": (P256, [(x509.BasicConstraints(ca=True, path_length=None), False)], Refusal.IS_CA),
    "EC for signatures only": (P256, [(usage("digital_signature"), True)], Refusal.KEY_USAGE),
    "EC with RSA's usage": (P256, [(usage("key_encipherment"), False)], Refusal.KEY_USAGE),
    "RSA with EC's usage": (RSA_KEY, [(usage("key_agreement"), True)], Refusal.KEY_USAGE),
    "unknown critical": (
        P256,
        [(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\5\0"), True)],
        Refusal.CRITICAL_EXTENSION,
    ),
    "critical name constraints": (
        P256,
        [(x509.NameConstraints([x509.DNSName("example.org")], None), True)],
        Refusal.CRITICAL_EXTENSION,
    ),
}


@pytest.mark.parametrize("name", REFUSED_FORMS)
def test_x509_gap_of_the_library_is_closed(name: str) -> None:
    key, extensions, expected = REFUSED_FORMS[name]
    public = key.public_key() if isinstance(key, ec.EllipticCurvePrivateKey) else key
    assert reason(CA.issue(public, *extensions)) is expected


def test_x509_known_and_uncritical_extensions_pass() -> None:
    extensions = [
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (usage("key_agreement", "digital_signature"), True),
        (x509.SubjectAlternativeName([x509.RFC822Name("anna@example.org")]), True),
        (x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.EMAIL_PROTECTION]), True),
        (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\5\0"), False),
    ]
    assert judge_pinned(CA.issue(P256.public_key(), *extensions), NOW).standings == ()
    assert judge_pinned(CA.issue(RSA_KEY, (usage("key_encipherment"), True)), NOW).public_key == RSA_KEY


def test_self_signature_that_does_not_verify_is_refused() -> None:
    name = name_of("Anna")
    builder = x509.CertificateBuilder(name, name, P256.public_key(), 5, NOW - DAY, NOW + DAY)
    other = ec.generate_private_key(ec.SECP256R1())
    assert reason(der(builder.sign(other, hashes.SHA256()))) is Refusal.SELF_SIGNATURE
    x_key = x25519.X25519PrivateKey.generate().public_key()
    builder = x509.CertificateBuilder(name, name, x_key, 5, NOW - DAY, NOW + DAY)
    assert reason(der(builder.sign(other, hashes.SHA256()))) is Refusal.SELF_SIGNATURE


def test_expiry_warns_then_grants_grace_then_refuses() -> None:
    _, cert = make_certificate("Anna", NOW, life=timedelta(days=100))
    expires = NOW + 100 * DAY
    assert reason(cert, NOW - 2 * DAY) is Refusal.NOT_YET_VALID
    assert judge_pinned(cert, NOW - DAY).standings == ()  # a slow clock elsewhere does no harm
    assert judge_pinned(cert, expires - 31 * DAY).standings == ()
    assert judge_pinned(cert, expires - 29 * DAY).standings == (Standing.EXPIRES_SOON,)
    assert judge_pinned(cert, expires + 29 * DAY).standings == (Standing.IN_GRACE,)
    assert reason(cert, expires + 31 * DAY) is Refusal.EXPIRED


def test_certificate_that_never_expires_is_no_trouble() -> None:
    cert = CA.issue(P256.public_key(), expires=NOW.replace(year=9999, month=12, day=31))
    assert judge_pinned(cert, NOW).standings == ()


def test_certificate_beyond_the_size_limit_is_refused() -> None:
    filler = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), bytes(CERT_MAX))
    assert reason(CA.issue(P256.public_key(), (filler, False))) is Refusal.TOO_LONG


@given(st.binary(max_size=200))
def test_unreadable_bytes_are_refused_and_nothing_else(data: bytes) -> None:
    assert reason(data) is Refusal.UNREADABLE
    with pytest.raises(Refused):
        public_key_of(data)


@pytest.mark.parametrize("kind", [CertificateKey.P256, CertificateKey.RSA3072])
@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
def test_flip_of_any_byte_of_a_self_signed_certificate_is_refused(kind: CertificateKey) -> None:
    _, cert = MADE[kind]
    for at in range(len(cert)):
        for bit in (1, 0x80):
            changed = cert[:at] + bytes([cert[at] ^ bit]) + cert[at + 1 :]
            try:
                judged = judge_pinned(changed, NOW)
            except Refused:
                continue
            # With issuer and subject made different it is somebody else's certificate, whose signature pinned mode
            # does not look at. And the library takes a signature that counts its last, zero bit as padding for the
            # same one. The fingerprint, which is what people confirm, is another one in both cases.
            parsed = x509.load_der_x509_certificate(changed)
            signed = x509.load_der_x509_certificate(cert).tbs_certificate_bytes
            assert parsed.issuer != parsed.subject or parsed.tbs_certificate_bytes == signed
            assert judged.fingerprint != fingerprint(cert)


def test_cut_certificate_is_refused() -> None:
    _, cert = MADE[CertificateKey.P256]
    for cut in range(len(cert)):
        assert reason(cert[:cut]) is Refusal.UNREADABLE
    assert reason(cert + b"\0") is Refusal.UNREADABLE


def test_keypair_mismatch_is_refused_at_unlock() -> None:
    for kind, other in zip(CertificateKey, [*list(CertificateKey)[1:], CertificateKey.P256], strict=True):
        with pytest.raises(Refused) as caught:
            matching_private_key(MADE[kind][0], MADE[other][1])
        assert caught.value.reason is Refusal.MISMATCH
    twin = make_certificate("Anna", NOW)
    with pytest.raises(Refused) as caught:
        matching_private_key(twin[0], MADE[CertificateKey.P256][1])
    assert caught.value.reason is Refusal.MISMATCH


@pytest.mark.parametrize(
    "data",
    [b"", b"\x30\x00", bytes(100), pkcs8(ed25519.Ed25519PrivateKey.generate())],
    ids=["empty", "sequence", "zeros", "ed25519"],
)
def test_private_key_that_is_none_of_ours_is_refused(data: bytes) -> None:
    with pytest.raises(Refused):
        matching_private_key(data, MADE[CertificateKey.P256][1])
