"""The recovery key acts: from paper, without any device of the vault, and nothing of it is kept (docs/membership.md).

Paper words always combine to some secret. So nothing is done before they have reproduced the public keys in the
genesis; and since the genesis is signed by the recovery key too, the words also prove which vault a folder holds.
"""

import datetime as dt
import time
from collections.abc import Iterable, Mapping

from cryptfs.crypto.keyfile import DeviceKeys
from cryptfs.crypto.keys import random_bytes
from cryptfs.crypto.recovery import RecoveryPublic, RecoverySecret, recovery_keys
from cryptfs.errors import ConfigError, HostileStore, NotAllowed, NotFound
from cryptfs.format.limits import STATEMENT_MAX
from cryptfs.format.names import GENESIS
from cryptfs.format.statement import (
    HOW_WORDS,
    Cut,
    Device,
    Genesis,
    genesis_vault,
    parse_statement,
    prove_possession,
)
from cryptfs.group.authority import Tier
from cryptfs.group.decisions import Decision, Desk, Newcomer
from cryptfs.group.handing import judge_under
from cryptfs.group.membership import Membership, open_membership
from cryptfs.vault.administration import publish
from cryptfs.vault.folder import membership_objects
from cryptfs.vault.people import unused_label
from cryptfs.vault.revocation import RevocationLists
from cryptfs.vault.upload import Sender

__all__ = ["admit_owner", "check_recovery", "open_by_recovery", "remove_by_recovery"]


def check_recovery(genesis: Genesis | None, seed: bytes) -> RecoverySecret:
    """The recovery keys, from the 32 bytes of the words. Raises NotAllowed if they are not those of this vault."""
    if genesis is None or genesis.recovery is None:
        raise NotAllowed("This vault was made without a recovery key.", "Only an owner can help.")
    return recovery_keys(seed, RecoveryPublic(genesis.recovery.sign_pub, genesis.recovery.kem_pub))


async def open_by_recovery(sender: Sender, seed: bytes) -> tuple[Membership, RecoverySecret]:
    """The membership as the recovery key sees it; the words decide whether this is the right vault.

    Raises ConfigError if there is no vault, NotAllowed for words of another one, HostileStore, StoreError.
    """
    try:
        data = await sender.get(GENESIS, 0, STATEMENT_MAX + 4096)
    except NotFound as err:
        raise ConfigError("There is no vault in this folder.", "Check the address: --store.") from err
    vault = genesis_vault(data)
    statement = parse_statement(data, vault)
    op = statement.payload.op
    if statement.id != vault or not isinstance(op, Genesis):
        raise HostileStore("The folder does not begin with a genesis.", "Check the address: --store.")
    secret = check_recovery(op, seed)
    statement.verify(op.device.sign_pub)  # by the recovery key too
    return open_membership(await membership_objects(sender), vault, secret), secret


async def _desk(sender: Sender, membership: Membership) -> Desk:
    """Where the recovery key decides. It has no device: certificates are judged by the clock and the lists at hand."""
    policy = membership.resolved.policy
    lists = RevocationLists(None, membership.vault, sender)
    if policy.trust:
        await lists.refresh(await sender.list("m/"), policy)
    judge = judge_under(policy, dt.datetime.now(dt.UTC), lists.ders)
    return Desk(membership, judge, time.time_ns() // 1_000_000)


async def admit_owner(
    sender: Sender, membership: Membership, keys: DeviceKeys, names: tuple[str, str], ends: Mapping[bytes, Cut]
) -> Membership:
    """Make the device with `keys` an owner; the membership afterwards, as the recovery key sees it.

    `names`: display name and device label of one that is new. One that is in already in a lower role is removed and
    added again; `ends` as in `Desk.remove`, or its work so far would not count. Nothing happens if it is an owner.
    """
    display, label = names
    mine = next((e for e in membership.resolved.roster.values() if e.device.sign_pub == keys.sign_public), None)
    if mine is not None and mine.role is Tier.OWNER:
        return membership
    if mine is not None:
        return await _publish(
            sender, membership, (await _desk(sender, membership)).change_role(mine.id, Tier.OWNER, ends)
        )
    member = random_bytes(16)
    device = Device(keys.cert_der, keys.sign_public, b"", unused_label(membership, member, label))
    pop = prove_possession(membership.vault, keys.cert_der, keys.sign_public, keys.sign_seed)
    newcomer = Newcomer(member, display, Tier.OWNER, device, pop, HOW_WORDS)
    return await _publish(sender, membership, [(await _desk(sender, membership)).admit(newcomer)])


async def remove_by_recovery(
    sender: Sender,
    membership: Membership,
    entries: Iterable[bytes],
    members: Iterable[bytes],
    ends: Mapping[bytes, Cut],
) -> Membership:
    """Remove anybody, the founder too. `ends` as in `Desk.remove`. Raises NotAllowed if no owner would remain."""
    return await _publish(sender, membership, [(await _desk(sender, membership)).remove(entries, members, ends)])


async def _publish(sender: Sender, membership: Membership, decisions: Iterable[Decision]) -> Membership:
    objects = [one for decision in decisions for one in decision.objects]
    await publish(sender, objects)
    return membership.with_objects(objects)
