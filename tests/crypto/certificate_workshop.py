"""Makes the certificates, good and bad, that the tests of this room judge."""

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

NOW = datetime(2030, 6, 1, tzinfo=UTC)
DAY = timedelta(days=1)
FLAGS = (
    *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
    *("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
)


def name_of(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def usage(*allowed: str) -> x509.KeyUsage:
    return x509.KeyUsage(**{flag: flag in allowed for flag in FLAGS})


def der(cert: x509.Certificate) -> bytes:
    return cert.public_bytes(Encoding.DER)


def pkcs8(key: object) -> bytes:
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


class Authority:
    """A certificate authority with a P-256 key; `now` lies amid the life of all it issues."""

    def __init__(
        self, name: str = "Test authority", *, crl_sign: bool = True, key: object = None, now: datetime = NOW
    ) -> None:
        self.now = now
        self.key = key or ec.generate_private_key(ec.SECP256R1())
        self.name = name_of(name)
        own = x509.SubjectKeyIdentifier.from_public_key(self.key.public_key())
        builder = (
            x509.CertificateBuilder(self.name, self.name, self.key.public_key(), 1, now - 400 * DAY, now + 400 * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage("key_cert_sign", *(["crl_sign"] if crl_sign else [])), critical=True)
            .add_extension(own, critical=False)
        )
        self.cert = builder.sign(self.key, self._hash())
        self.der = der(self.cert)

    def _hash(self) -> object:
        return hashes.SHA256() if isinstance(self.key, ec.EllipticCurvePrivateKey) else None

    def issue(
        self,
        public_key: object,
        *extensions: tuple[x509.ExtensionType, bool],
        begins: datetime | None = None,
        expires: datetime | None = None,
        serial: int = 1000,
        subject: str = "Anna",
    ) -> bytes:
        begins, expires = begins or self.now - DAY, expires or self.now + 365 * DAY
        builder = x509.CertificateBuilder(self.name, name_of(subject), public_key, serial, begins, expires)
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        builder = builder.add_extension(issuer, critical=False)
        return der(builder.sign(self.key, self._hash()))

    def crl(
        self,
        number: int | None,
        *revoked: int,
        this: datetime = NOW - DAY,
        following: datetime = NOW + DAY,
        reason: x509.ReasonFlags | None = None,
        critical: x509.ExtensionType | None = None,
        signer: object = None,
    ) -> bytes:
        builder = x509.CertificateRevocationListBuilder(self.name, this, following)
        if number is not None:
            builder = builder.add_extension(x509.CRLNumber(number), critical=False)
        if critical is not None:
            builder = builder.add_extension(critical, critical=True)
        for serial in revoked:
            entry = x509.RevokedCertificateBuilder(serial, this)
            if reason is not None:
                entry = entry.add_extension(x509.CRLReason(reason), critical=False)
            builder = builder.add_revoked_certificate(entry.build())
        return builder.sign(signer or self.key, self._hash()).public_bytes(Encoding.DER)
