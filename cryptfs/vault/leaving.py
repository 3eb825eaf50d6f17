"""A device goes for good: everything is sent, its logs are closed by itself, and the group can see that it left.

It cannot remove itself: whoever removes makes the new key, and a leaving device must not know that. So it asks, by
closing its log, and an administrator removes it (docs/membership.md).
"""

from typing import Final

import trio

from cryptfs.errors import NotAllowed, Retry
from cryptfs.format.statement import CLOSE_SUSPENDED, Close, Cut
from cryptfs.vault.administration import desk_of, publish
from cryptfs.vault.vault import Vault

__all__ = ["leave_vault"]

_SYNC_SECONDS: Final = 600.0


async def leave_vault(vault: Vault) -> None:
    """Send what waits and close the own log. Nothing local is deleted. Raises Retry if not everything can be sent."""
    try:
        await vault.sync(_SYNC_SECONDS)
    except trio.TooSlowError as err:
        raise Retry("Not everything could be sent.", "Leave when the store answers.") from err
    if vault.standing.role is None:
        return  # removed already: there is nothing to close
    log = vault.standing.log
    closing = Close((Cut(vault.standing.log_id, log.next_seq, log.digest),), CLOSE_SUSPENDED)
    try:
        decision = desk_of(vault).say(closing)
    except NotAllowed:
        return  # a reader has no log
    await publish(vault.sender, decision.objects)
