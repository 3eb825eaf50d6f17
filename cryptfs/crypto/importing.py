"""Keys and certificates from files that other programs wrote: PEM, DER, PKCS#8, PKCS#12.

Import only. What cryptfs itself stores goes into the key file under Argon2id; these formats make a passphrase far
cheaper to guess (PKCS#8 as libraries write it: 2048 rounds of PBKDF2).
"""

from collections.abc import Iterator
from contextlib import contextmanager

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
    load_pem_private_key,
    pkcs12,
)

from cryptfs.crypto.certificate import Refusal, Refused, matching_private_key, parse_certificate
from cryptfs.errors import UsageError, WrongPassphrase

__all__ = ["import_certificate", "import_pair", "import_pkcs12", "import_revocation_list"]


@contextmanager
def _reading_a_key() -> Iterator[None]:
    try:
        yield
    except TypeError as err:  # how the library says: encrypted, but no password given, or the reverse
        raise WrongPassphrase("the key file needs a passphrase, or has none") from err
    except (ValueError, UnsupportedAlgorithm) as err:
        raise WrongPassphrase("the key file cannot be read with this passphrase") from err


def import_certificate(data: bytes) -> bytes:
    """DER of the first certificate in PEM or DER `data`. Raises Refused."""
    try:
        cert = (x509.load_pem_x509_certificate if b"-----BEGIN" in data else x509.load_der_x509_certificate)(data)
    except (ValueError, x509.InvalidVersion) as err:
        raise Refused(Refusal.UNREADABLE) from err
    der = cert.public_bytes(Encoding.DER)
    parse_certificate(der)  # its limit on the length
    return der


def import_revocation_list(data: bytes) -> bytes:
    """DER of the revocation list in PEM or DER `data`; who signed it is another question. Raises UsageError."""
    try:
        crl = (x509.load_pem_x509_crl if b"-----BEGIN" in data else x509.load_der_x509_crl)(data)
    except ValueError as err:
        raise UsageError("That is no certificate revocation list.", "Give one in PEM or DER.") from err
    return crl.public_bytes(Encoding.DER)


def import_pair(cert_data: bytes, key_data: bytes, passphrase: bytes | None) -> tuple[bytes, bytes]:
    """(PKCS#8 DER unencrypted, certificate DER) from a certificate file and a private key file, each PEM or DER.

    Raises WrongPassphrase if the key does not open, Refused if either is of no use or they do not belong together.
    """
    cert_der = import_certificate(cert_data)
    with _reading_a_key():
        load = load_pem_private_key if b"-----BEGIN" in key_data else load_der_private_key
        key = load(key_data, passphrase)
    pkcs8 = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    matching_private_key(pkcs8, cert_der)
    return pkcs8, cert_der


def import_pkcs12(data: bytes, passphrase: bytes | None) -> tuple[bytes, bytes]:
    """(PKCS#8 DER unencrypted, certificate DER) from a PKCS#12 file. Raises as `import_pair`."""
    with _reading_a_key():
        key, cert, _ = pkcs12.load_key_and_certificates(data, passphrase)
    if key is None or cert is None:
        raise Refused(Refusal.UNREADABLE)
    pkcs8 = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    cert_der = cert.public_bytes(Encoding.DER)
    matching_private_key(pkcs8, cert_der)
    return pkcs8, cert_der
