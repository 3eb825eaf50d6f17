"""A device replaces its own certificate: it says so in a statement, and gets the key anew (docs/membership.md).

No administrator has to agree: whoever can sign the statement holds the device already. But nobody hands a key to the
new certificate unless it passes, so one that would not is refused here. The order is: both private keys durable on this
disk, then the statement; the old one goes on opening what was wrapped to it.
"""

from cryptfs.crypto.certificate import Judged, same_key
from cryptfs.crypto.keyfile import DeviceKeys
from cryptfs.crypto.keys import sign_public
from cryptfs.errors import NotAllowed
from cryptfs.format.statement import Renew, prove_possession
from cryptfs.group.authority import Tier
from cryptfs.vault.administration import desk_of, publish, reconcile
from cryptfs.vault.vault import Vault

__all__ = ["check_new", "is_announced", "renew"]


def check_new(vault: Vault, cert_der: bytes) -> Judged:
    """What is to be said of a certificate that is to replace this device's.

    Raises Refused if nobody would hand it a key, NotAllowed if its key is another member's or this device is not in.
    """
    entry = vault.membership.entry
    if entry is None:
        raise NotAllowed("This device is not in the group any more.", "Ask for a new invitation.")
    judged = vault.certificates.examiner()(cert_der)
    for one in vault.membership.resolved.roster.values():
        if one.member != entry.member and any(same_key(cert, cert_der) for cert in one.certs):
            raise NotAllowed(f"The key of that certificate belongs to {one.display}.", "Each device has its own.")
    return judged


def is_announced(vault: Vault, keys: DeviceKeys) -> bool:
    """Whether the group knows the certificate in the key file; not if an earlier renewal was interrupted."""
    entry = vault.membership.entry
    return entry is not None and keys.cert_der in entry.certs


async def renew(vault: Vault, cert_der: bytes) -> bool:
    """Announce the new certificate, whose key is in the key file by now; whether it has the present key already.

    An administrator's device hands the key to itself, others wait for one. Raises NotAllowed, StoreGone.
    """
    if vault.options.read_only:
        raise NotAllowed("The vault is open for reading only.", "Mount it without `ro`, or unmount it.")
    membership = vault.membership
    pop = prove_possession(membership.vault, cert_der, sign_public(membership.sign_seed), membership.sign_seed)
    decision = desk_of(vault).say(Renew(cert_der, pop))
    await publish(vault.sender, decision.objects)
    await vault.refresh_membership()
    role = vault.membership.role
    if role is not None and role >= Tier.WRITER:
        await vault.introduce()
    if role is None or role < Tier.ADMIN:
        return False
    await reconcile(vault)
    return True
