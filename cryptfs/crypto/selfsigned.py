"""A certificate for somebody who has none: a fresh key, signed by itself.

For `pinned` mode, where the fingerprint is what people confirm. X25519 keys cannot sign, so the default is P-256. The
name in it is readable by the provider; a pseudonym will do.
"""

from datetime import datetime, timedelta
from enum import Enum
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from cryptfs.crypto.certificate import RSA_EXPONENT
from cryptfs.crypto.keys import random_bytes

__all__ = ["CERTIFICATE_LIFE", "CertificateKey", "make_certificate"]

CERTIFICATE_LIFE: Final = timedelta(days=3650)
_CLOCK_SKEW: Final = timedelta(days=1)


class CertificateKey(Enum):
    """Key types that can sign their own certificate."""

    P256 = "p256"
    P384 = "p384"
    P521 = "p521"
    RSA3072 = "rsa3072"
    RSA4096 = "rsa4096"


_CURVES: Final[dict[CertificateKey, tuple[type[ec.EllipticCurve], type[SHA256 | SHA384 | SHA512]]]] = {
    CertificateKey.P256: (ec.SECP256R1, SHA256),
    CertificateKey.P384: (ec.SECP384R1, SHA384),
    CertificateKey.P521: (ec.SECP521R1, SHA512),
}
_RSA_BITS: Final = {CertificateKey.RSA3072: 3072, CertificateKey.RSA4096: 4096}


def make_certificate(
    name: str, now: datetime, key_type: CertificateKey = CertificateKey.P256, life: timedelta = CERTIFICATE_LIFE
) -> tuple[bytes, bytes]:
    """Make a key and its certificate: (PKCS#8 DER unencrypted, certificate DER).

    `name` is the common name, 1 to 64 characters; `now` is aware. Raises ValueError for other names.
    """
    hash_: SHA256 | SHA384 | SHA512
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
    if key_type in _CURVES:
        curve, hash_type = _CURVES[key_type]
        key, hash_ = ec.generate_private_key(curve()), hash_type()
    else:
        key, hash_ = rsa.generate_private_key(RSA_EXPONENT, _RSA_BITS[key_type]), SHA256()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    cert = (
        x509.CertificateBuilder(issuer_name=subject, subject_name=subject, public_key=key.public_key())
        .serial_number(int.from_bytes(random_bytes(16), "big") | 1)
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + life)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(encipherment=key_type in _RSA_BITS), critical=True)
        .sign(key, hash_)
    )
    pkcs8 = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return pkcs8, cert.public_bytes(Encoding.DER)


def _usage(*, encipherment: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=encipherment,
        data_encipherment=False,
        key_agreement=not encipherment,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
