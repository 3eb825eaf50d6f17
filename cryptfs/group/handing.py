"""Hands epoch secrets to those who may have them: one signed wraps object for each epoch (docs/format.md, "Wraps").

Whether a certificate may receive a secret is judged at this moment and nowhere else; who is refused gets none and is
reported. The recovery key of the vault, if it has one, is always among the recipients.
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias

from cryptfs.crypto.authority import CrlMode, OrgPolicy, judge_org
from cryptfs.crypto.certificate import Judged, Refused, WrapPublicKey, fingerprint, judge_pinned
from cryptfs.crypto.keys import EpochSecret, eid, enrol_info, epoch_commit, wrap_info
from cryptfs.crypto.recovery import RecoveryPublic
from cryptfs.crypto.wrap import wrap, wrap_to_x25519
from cryptfs.format.names import wraps_name
from cryptfs.format.statement import Policy
from cryptfs.format.wraps import RECOVERY_ENTRY, Rec, make_wraps

__all__ = [
    "ExamineCertificate", "Handing", "JudgeCertificate", "Recipient", "Signer", "examine_under", "hand_over",
    "judge_under",
]  # fmt: skip

ExamineCertificate: TypeAlias = Callable[[bytes], Judged]
"""Takes a certificate (DER), returns all there is to say about it now, or raises Refused."""

JudgeCertificate: TypeAlias = Callable[[bytes], WrapPublicKey]
"""Takes a certificate (DER), returns its key, or raises Refused."""


@dataclass(frozen=True, slots=True)
class Signer:
    """Who signs: `author` an entry id or 32 zero bytes for the recovery key, `seed` its Ed25519 seed."""

    author: bytes
    seed: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Recipient:
    """An entry and the certificates (DER) in force for it."""

    entry: bytes
    certs: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Handing:
    """A wraps object (name, bytes), and the entries that got nothing, with the reason."""

    object: tuple[str, bytes]
    unreached: tuple[tuple[bytes, str], ...]


def examine_under(policy: Policy, now: datetime, crls: tuple[bytes, ...] = ()) -> ExamineCertificate:
    """How certificates are judged under the vault's policy at `now` (aware; from `memory.clock`)."""
    if policy.trust == 0:
        return lambda cert: judge_pinned(cert, now)
    org = OrgPolicy(policy.cas, policy.eku, CrlMode(policy.crl))
    return lambda cert: judge_org(cert, now, org, crls)


def judge_under(policy: Policy, now: datetime, crls: tuple[bytes, ...] = ()) -> JudgeCertificate:
    """As `examine_under`, for who only wants the key."""
    examine = examine_under(policy, now, crls)
    return lambda cert: examine(cert).public_key


def hand_over(
    vault: bytes,
    signer: Signer,
    es: EpochSecret,
    recipients: Iterable[Recipient],
    judge: JudgeCertificate,
    *,
    recovery: RecoveryPublic | None = None,
    enrol: tuple[bytes, bytes] | None = None,
) -> Handing:
    """Wrap `es` to every recipient and to the recovery key.

    `enrol`: an entry among the recipients that was admitted by certificate alone, and the 32-byte signing seed made for
    it. Raises Invalid if the object would be longer than readers accept (about 5000 recipients).
    """
    epoch = eid(epoch_commit(vault, es))
    recs: list[Rec] = []
    seeds: list[Rec] = []
    unreached: list[tuple[bytes, str]] = []
    for one in recipients:
        reached = False
        reasons: list[str] = []
        for cert in one.certs:
            try:
                key = judge(cert)
            except Refused as err:
                reasons.append(str(err))
                continue
            reached = True
            cert_fp = fingerprint(cert)
            recs.append(Rec(one.entry, cert_fp, *wrap(key, es, wrap_info(vault, epoch, cert_fp))))
            if enrol is not None and enrol[0] == one.entry:
                seeds.append(Rec(one.entry, cert_fp, *wrap(key, enrol[1], enrol_info(vault, one.entry, cert_fp))))
        if not reached:
            unreached.append((one.entry, "; ".join(reasons)))
    if recovery is not None:
        info = wrap_info(vault, epoch, recovery.fingerprint)
        recs.append(Rec(RECOVERY_ENTRY, recovery.fingerprint, *wrap_to_x25519(recovery.kem_public, es, info)))
    data = make_wraps(
        vault=vault,
        author=signer.author,
        eid=epoch,
        recs=tuple(recs),
        enrol=tuple(seeds),
        sign_seed=signer.seed,
    )
    return Handing((wraps_name(epoch, hashlib.sha256(data).digest()), data), tuple(unreached))
