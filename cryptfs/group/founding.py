"""Founds a vault: the genesis, its first epoch, and the wraps of that (docs/membership.md).

The genesis holds no epoch, since the commit of one needs V, which is the hash of the genesis. So a `rotate` follows.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from cryptfs.crypto.certificate import public_key_of
from cryptfs.crypto.keys import EpochSecret, eid, epoch_commit, new_epoch_secret, random_bytes, sign_public
from cryptfs.crypto.recovery import RecoverySecret
from cryptfs.format.names import GENESIS, statement_name
from cryptfs.format.statement import Device, Epoch, Genesis, Policy, Recovery, Rotate, make_genesis, make_statement
from cryptfs.group.handing import Recipient, Signer, hand_over

__all__ = ["DEFAULT_POLICY", "Founding", "found"]

DEFAULT_POLICY: Final = Policy(
    trust=0, cas=(), eku="", crl=0, roster_age_days=7, on_stale=0, min_format=1, ext=()
)  # fmt: skip
"""Certificates are pinned; a week without news of an administrator warns and stops nothing."""


@dataclass(frozen=True, slots=True)
class Founding:
    """A new vault: `objects` (name, bytes) in upload order, V, the founder's entry, and the epoch secrets by id."""

    objects: tuple[tuple[str, bytes], ...] = field(repr=False)
    vault: bytes
    entry: bytes
    secrets: Mapping[bytes, EpochSecret] = field(repr=False)


def found(
    *,
    name: str,
    display: str,
    label: str,
    cert_der: bytes,
    sign_seed: bytes,
    recovery: RecoverySecret | None,
    now_ms: int,
    policy: Policy = DEFAULT_POLICY,
) -> Founding:
    """Make a vault called `name`, founded by the device `label` of `display` with these keys.

    `recovery` None: no recovery key, ever. The genesis carries a signature by the recovery key, which is why its secret
    is needed here; the caller forgets it afterwards. Raises Refused for a certificate that no wrap may go to, Invalid
    for texts that no reader would accept.
    """
    public_key_of(cert_der)
    device = Device(cert_der, sign_public(sign_seed), b"", label)
    public = None if recovery is None else Recovery(recovery.public.sign_public, recovery.public.kem_public, b"")
    genesis = make_genesis(
        time_ms=now_ms,
        nonce=random_bytes(16),
        op=Genesis(name, random_bytes(16), display, device, policy, public),
        sign_seed=sign_seed,
        recovery_seed=None if recovery is None else recovery.sign_seed,
    )
    vault = genesis.id
    signer = Signer(vault, sign_seed)
    es = new_epoch_secret()
    commit = epoch_commit(vault, es)
    rotate = make_statement(
        vault=vault,
        prev=(vault,),
        author=vault,
        time_ms=now_ms,
        nonce=random_bytes(16),
        op=Rotate(Epoch(commit, (vault,), b"")),
        sign_seed=sign_seed,
    )
    # Dates are not judged: somebody whose certificate has expired may found a vault, and renew.
    wraps = hand_over(
        vault,
        signer,
        es,
        [Recipient(vault, (cert_der,))],
        public_key_of,
        recovery=None if recovery is None else recovery.public,
    )
    objects = ((GENESIS, genesis.data), wraps.object, (statement_name(rotate.id), rotate.data))
    return Founding(objects, vault, vault, {eid(commit): es})
