"""Judging certificates in `org-ca` mode: a path to a listed authority, and its revocation lists (docs/membership.md).

The library validates paths, but it knows no revocation lists, does not check the type of the last key, and its usual
policy wants names and usages that certificates of people often lack. So: our own rules for the form first, then the
path with a policy of ours, then revocation. An authority is necessary here and never sufficient: who is in the group is
still decided by administrators.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey, MLDSA65PublicKey, MLDSA87PublicKey
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import Criticality, ExtensionPolicy, Policy, PolicyBuilder, Store, VerificationError

from cryptfs.crypto.certificate import (
    Judged,
    Refusal,
    Refused,
    Standing,
    check_dates,
    check_form,
    fingerprint,
    parse_certificate,
    reading,
)
from cryptfs.errors import Damaged

__all__ = ["CRL_MAX", "CrlMode", "OrgPolicy", "RevocationList", "check_crl", "judge_org"]

CRL_MAX: Final = 4 << 20
"""Bytes of DER that a revocation list may have."""


_CA_KEYS: Final = (rsa.RSAPublicKey, ec.EllipticCurvePublicKey, MLDSA44PublicKey, MLDSA65PublicKey, MLDSA87PublicKey)


class CrlMode(Enum):
    """What a missing or outdated revocation list means."""

    OFF = 0
    WARN = 1
    BLOCK = 2


@dataclass(frozen=True, slots=True)
class RevocationList:
    """What a list whose signature verified says of itself. `issuer` is the name of its authority in DER."""

    issuer: bytes
    number: int  # 0 if it has none
    made: datetime  # thisUpdate
    good_until: datetime | None  # nextUpdate

    @property
    def age(self) -> tuple[int, datetime]:
        """Among lists of one authority the one where this is greatest is in force."""
        return self.number, self.made


@dataclass(frozen=True, slots=True)
class OrgPolicy:
    """What the vault's policy says: authorities (DER), purpose certificates must name (dotted OID or ""), lists."""

    authorities: tuple[bytes, ...]
    eku: str
    crl: CrlMode


def judge_org(cert_der: bytes, now: datetime, policy: OrgPolicy, crls: Sequence[bytes] = ()) -> Judged:
    """Judge a certificate in `org-ca` mode at `now` (aware, UTC), with the revocation lists at hand. Raises Refused.

    Authorities and lists that cannot be read count as absent.
    """
    cert = parse_certificate(cert_der)
    key = check_form(cert)
    expires, standings = check_dates(cert, now, timedelta(0))
    authorities = _readable(policy.authorities)
    with reading():
        _check_path(cert, now, authorities, policy.eku)
        covered = policy.crl is CrlMode.OFF or _check_revocation(cert, now, authorities, crls)
    if not covered:
        if policy.crl is CrlMode.BLOCK:
            raise Refused(Refusal.CRL_MISSING)
        standings = (*standings, Standing.CRL_STALE)
    return Judged(fingerprint(cert_der), key, expires, standings)


def _readable(authorities: Sequence[bytes]) -> list[x509.Certificate]:
    """Those that can be read and are authorities: the library takes any certificate it is given for a trust anchor."""
    found = []
    for der in authorities:
        try:
            with reading():
                cert = parse_certificate(der)
                if any(isinstance(e.value, x509.BasicConstraints) and e.value.ca for e in cert.extensions):
                    found.append(cert)
        except Refused:
            continue
    return found


def _check_path(cert: x509.Certificate, now: datetime, authorities: list[x509.Certificate], eku: str) -> None:
    if not authorities:
        raise Refused(Refusal.NOT_ISSUED)

    def usage(_policy: Policy, _cert: x509.Certificate, extension: x509.ExtendedKeyUsage | None) -> None:
        # Without an EKU in the policy any purpose will do; the library's own default wants clientAuth.
        if eku and (extension is None or not any(p.dotted_string in _accepted(eku) for p in extension)):
            raise ValueError("the certificate is for another purpose")

    leaf = ExtensionPolicy.permit_all().may_be_present(x509.ExtendedKeyUsage, Criticality.AGNOSTIC, usage)
    builder = PolicyBuilder().store(Store(authorities)).time(now)
    builder = builder.extension_policies(ca_policy=ExtensionPolicy.webpki_defaults_ca(), ee_policy=leaf)
    try:
        builder.build_client_verifier().verify(cert, [])
    except (VerificationError, ValueError, UnsupportedAlgorithm) as err:
        raise Refused(Refusal.NOT_ISSUED) from err


def _accepted(eku: str) -> set[str]:
    return {eku, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE.dotted_string}


# ---- revocation ----------------------------------------------------------------------------------------------------


def check_crl(crl_der: bytes, authorities: Sequence[bytes]) -> RevocationList:
    """What a list says that one of `authorities` (DER) signed. Raises Damaged for anything else."""
    crl = _verified_crl(crl_der, _readable(authorities))
    if crl is None:
        raise Damaged("a revocation list is not from an authority of this vault")
    return RevocationList(crl.issuer.public_bytes(), _crl_number(crl), crl.last_update_utc, crl.next_update_utc)


def _check_revocation(
    cert: x509.Certificate, now: datetime, authorities: list[x509.Certificate], crls: Sequence[bytes]
) -> bool:
    """Whether a current list covers `cert`. Raises Refused if the latest list, current or not, names it."""
    issuers = [ca for ca in authorities if ca.subject == cert.issuer]
    verified = [crl for crl in (_verified_crl(data, issuers) for data in crls) if crl is not None]
    if not verified:
        return False
    latest = max(verified, key=lambda crl: (_crl_number(crl), crl.last_update_utc))
    entry = latest.get_revoked_certificate_by_serial_number(cert.serial_number)
    if entry is not None and not _taken_back(entry):
        raise Refused(Refusal.REVOKED)
    following = latest.next_update_utc
    return following is not None and latest.last_update_utc <= now <= following


def _verified_crl(crl_der: bytes, issuers: list[x509.Certificate]) -> x509.CertificateRevocationList | None:
    """The list in `crl_der` if one of `issuers` signed it and all of its critical extensions are understood."""
    if len(crl_der) > CRL_MAX:
        return None
    try:
        with reading():
            crl = x509.load_der_x509_crl(crl_der)
            _crl_number(crl)
            # Every critical extension of a list narrows what it covers (part of the certificates, changes only).
            if any(extension.critical for extension in crl.extensions):
                return None
    except Refused:
        return None
    return crl if any(_signed_by(crl, ca) for ca in issuers) else None


def _signed_by(crl: x509.CertificateRevocationList, ca: x509.Certificate) -> bool:
    try:
        with reading():
            key = ca.public_key()
            if not isinstance(key, _CA_KEYS):
                return False
            return ca.subject == crl.issuer and _may_sign_crls(ca) and crl.is_signature_valid(key)
    except Refused:
        return False


def _may_sign_crls(ca: x509.Certificate) -> bool:
    try:
        return ca.extensions.get_extension_for_class(x509.KeyUsage).value.crl_sign
    except x509.ExtensionNotFound:
        return True


def _crl_number(crl: x509.CertificateRevocationList) -> int:
    try:
        return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except x509.ExtensionNotFound:
        return 0


def _taken_back(entry: x509.RevokedCertificate) -> bool:
    try:
        reason = entry.extensions.get_extension_for_class(x509.CRLReason).value.reason
    except x509.ExtensionNotFound:
        return False
    return reason is x509.ReasonFlags.remove_from_crl
