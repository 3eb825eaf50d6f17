"""Which X.509 certificates may receive wraps.

A certificate is a public key with a name and dates. Its fingerprint, SHA-256 over the DER, is the identity that people
confirm; the rules here keep out keys that are weak or that cannot receive a wrap. They run only where somebody is about
to wrap: they depend on time and on a library, so they never decide whether a statement is valid.

The judgement stands in front of the library and not on it: its parsers accept RSA-1024, secp256k1, CA certificates and
unknown critical extensions without a word.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Final, TypeAlias

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa, x25519
from cryptography.hazmat.primitives.serialization import load_der_private_key
from cryptography.x509.oid import ExtensionOID

from cryptfs.errors import NotAllowed

__all__ = [
    "CERT_CURVES",
    "CERT_MAX",
    "GRACE",
    "RSA_BITS",
    "RSA_EXPONENT",
    "Judged",
    "Refusal",
    "Refused",
    "Standing",
    "WrapPrivateKey",
    "WrapPublicKey",
    "check_dates",
    "check_form",
    "check_key",
    "fingerprint",
    "judge_pinned",
    "matching_private_key",
    "parse_certificate",
    "public_key_of",
    "reading",
    "same_key",
]

WrapPublicKey: TypeAlias = x25519.X25519PublicKey | ec.EllipticCurvePublicKey | rsa.RSAPublicKey
WrapPrivateKey: TypeAlias = x25519.X25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

CERT_MAX: Final = 16 * 1024
"""Bytes of DER that a certificate in a statement may have."""
CERT_CURVES: Final = ("secp256r1", "secp384r1", "secp521r1")
RSA_BITS: Final = range(3072, 8192 + 1)
RSA_EXPONENT: Final = 65537
GRACE: Final = timedelta(days=30)
"""Warn this long before expiry; in pinned mode also: go on wrapping this long after it."""

_KNOWN_CRITICAL: Final = frozenset(
    {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
    }
)
# Any scalar shows a point of small order, as every private key is a multiple of 8; this one is not a secret.
_PROBE: Final = x25519.X25519PrivateKey.from_private_bytes(bytes(32))


class Refusal(Enum):
    """Why a certificate gets no wraps; the value is said to the person."""

    UNREADABLE = "the certificate cannot be read"
    TOO_LONG = "the certificate is longer than 16 KiB"
    KEY_TYPE = "the key is not X25519, P-256, P-384, P-521 or RSA"
    WEAK_KEY = "the key is weak"
    RSA_SIZE = "an RSA key must have 3072 to 8192 bits"
    RSA_EXPONENT = "an RSA key must have the exponent 65537"
    IS_CA = "the certificate belongs to a certificate authority"
    KEY_USAGE = "the certificate's key usage does not allow encryption to it"
    CRITICAL_EXTENSION = "the certificate has a critical extension that cryptfs does not know"
    SELF_SIGNATURE = "the certificate's signature on itself does not verify"
    NOT_YET_VALID = "the certificate is not valid yet"
    EXPIRED = "the certificate has expired"
    NOT_ISSUED = "no certificate authority of this vault has issued the certificate"
    REVOKED = "the certificate authority has revoked the certificate"
    CRL_MISSING = "there is no current revocation list of the certificate's authority"
    MISMATCH = "the private key does not belong to the certificate"
    NO_TOKEN = "the token that holds the private key is not there"  # noqa: S105  # words, not a secret


class Refused(NotAllowed):
    """A certificate that may not be used; `reason` says why."""

    default_advice = (
        "Use a certificate for an X25519, P-256, P-384, P-521 or RSA (3072 bits and more) key that is valid now."
    )

    def __init__(self, reason: Refusal) -> None:
        super().__init__(reason.value)
        self.reason = reason


class Standing(Enum):
    """What there is to say about a certificate that was not refused."""

    GOOD = "good"
    EXPIRES_SOON = "expires within 30 days"
    IN_GRACE = "has expired; renew it now"
    CRL_STALE = "the revocation list is missing or out of date"


@dataclass(frozen=True, slots=True)
class Judged:
    """A certificate that may receive wraps."""

    fingerprint: bytes
    public_key: WrapPublicKey
    expires: datetime
    standings: tuple[Standing, ...]


def fingerprint(cert_der: bytes) -> bytes:
    """cert_fp: SHA-256 of the DER, 32 bytes."""
    return hashlib.sha256(cert_der).digest()


@contextmanager
def reading() -> Iterator[None]:
    """Everything a foreign parser raises on strange bytes becomes `Refused(UNREADABLE)`."""
    try:
        yield
    except (
        ValueError,
        TypeError,
        OverflowError,
        UnsupportedAlgorithm,
        x509.InvalidVersion,
        x509.DuplicateExtension,
        x509.UnsupportedGeneralNameType,
    ) as err:
        raise Refused(Refusal.UNREADABLE) from err


def parse_certificate(cert_der: bytes) -> x509.Certificate:
    """The certificate in at most 16 KiB of DER. Raises Refused."""
    if len(cert_der) > CERT_MAX:
        raise Refused(Refusal.TOO_LONG)
    with reading():
        return x509.load_der_x509_certificate(cert_der)


def check_key(public_key: object) -> WrapPublicKey:
    """Return the key if it is of a type and strength that wraps may go to; raise Refused otherwise."""
    if isinstance(public_key, x25519.X25519PublicKey):
        try:
            _PROBE.exchange(public_key)
        except ValueError:
            raise Refused(Refusal.WEAK_KEY) from None
        return public_key
    if isinstance(public_key, ec.EllipticCurvePublicKey):
        if public_key.curve.name not in CERT_CURVES:
            raise Refused(Refusal.KEY_TYPE)
        return public_key
    if isinstance(public_key, rsa.RSAPublicKey):
        if public_key.key_size not in RSA_BITS:
            raise Refused(Refusal.RSA_SIZE)
        if public_key.public_numbers().e != RSA_EXPONENT:
            raise Refused(Refusal.RSA_EXPONENT)
        return public_key
    raise Refused(Refusal.KEY_TYPE)


def public_key_of(cert_der: bytes) -> WrapPublicKey:
    """The key of a certificate, by `check_key`. Raises Refused."""
    cert = parse_certificate(cert_der)
    with reading():
        public_key = cert.public_key()
    return check_key(public_key)


def same_key(one_der: bytes, other_der: bytes) -> bool:
    """Whether two certificates are for one key; those that cannot be read are for none."""
    try:
        return one_der == other_der or public_key_of(one_der) == public_key_of(other_der)
    except Refused:
        return False


def check_form(cert: x509.Certificate) -> WrapPublicKey:
    """The key of `cert` if everything about it that is independent of time and issuer is in order. Raises Refused."""
    with reading():
        public_key, extensions = cert.public_key(), list(cert.extensions)
    key = check_key(public_key)
    for extension in extensions:
        if extension.critical and extension.oid not in _KNOWN_CRITICAL:
            raise Refused(Refusal.CRITICAL_EXTENSION)
        if isinstance(extension.value, x509.BasicConstraints) and extension.value.ca:
            raise Refused(Refusal.IS_CA)
        if isinstance(extension.value, x509.KeyUsage):
            usage = extension.value
            if not (usage.key_encipherment if isinstance(key, rsa.RSAPublicKey) else usage.key_agreement):
                raise Refused(Refusal.KEY_USAGE)
    return key


def check_dates(cert: x509.Certificate, now: datetime, grace: timedelta) -> tuple[datetime, tuple[Standing, ...]]:
    """Expiry of `cert`, and what to warn of. Raises Refused before its first day and `grace` after its last."""
    with reading():
        begins, expires = cert.not_valid_before_utc, cert.not_valid_after_utc
    if now < begins:
        raise Refused(Refusal.NOT_YET_VALID)
    if now - grace > expires:
        raise Refused(Refusal.EXPIRED)
    if now > expires:
        return expires, (Standing.IN_GRACE,)
    return expires, (Standing.EXPIRES_SOON,) if expires - now < GRACE else ()


def judge_pinned(cert_der: bytes, now: datetime) -> Judged:
    """Judge a certificate in `pinned` mode at `now` (aware, UTC). Raises Refused.

    The only signature looked at is that of a certificate which says it signed itself. A certificate issued by somebody
    else is taken for its key and dates: in this mode people vouch for the fingerprint, not an issuer.
    """
    cert = parse_certificate(cert_der)
    key = check_form(cert)
    with reading():
        self_issued = cert.issuer == cert.subject
    if self_issued:
        try:
            cert.verify_directly_issued_by(cert)
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
            raise Refused(Refusal.SELF_SIGNATURE) from None
    expires, standings = check_dates(cert, now, GRACE)
    return Judged(fingerprint(cert_der), key, expires, standings)


def matching_private_key(pkcs8_der: bytes, cert_der: bytes) -> WrapPrivateKey:
    """The private key in `pkcs8_der` (unencrypted PKCS#8), which must belong to the certificate. Raises Refused.

    Checked at every unlock: with a certificate swapped under the key, or the reverse, the device would announce a key
    that it cannot use, or that somebody else can.
    """
    public_key = public_key_of(cert_der)
    with reading():
        private_key = load_der_private_key(pkcs8_der, None)
    if not isinstance(private_key, x25519.X25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise Refused(Refusal.KEY_TYPE)
    if private_key.public_key() != public_key:
        raise Refused(Refusal.MISMATCH)
    return private_key
