"""An administrator's device finishes what several began at the same time, without being asked (docs/membership.md).

Two removals that did not see each other leave two keys in force, a newcomer may lack one, and until that is mended
nobody's changes are sent. Every administrator's mount looks after each change of the group, and waits a random while
before it acts, so that usually one of them does and the others see it done.
"""

import logging
from typing import Final

import trio

from cryptfs.crypto.keys import chance
from cryptfs.errors import CryptfsError
from cryptfs.group.authority import Tier
from cryptfs.vault.administration import needs_reconciling, reconcile
from cryptfs.vault.vault import Vault

__all__ = ["keep_reconciled"]

log = logging.getLogger(__name__)

_DELAY: Final = (2.0, 30.0)
"""Seconds; the longer this can be, the fewer devices act at once."""
_AFTER_TROUBLE: Final = 60.0


async def keep_reconciled(vault: Vault, acting: trio.Lock, delay: tuple[float, float] = _DELAY) -> None:
    """Look after every pull that brought something, until cancelled. `acting` is held while this device decides."""
    while True:
        news = vault.exchange.settled
        try:
            if _may(vault) and needs_reconciling(vault):
                await trio.sleep(chance().uniform(*delay))  # only to differ from others
                async with acting:
                    if _may(vault) and await reconcile(vault) is not None:
                        log.info("the key is handed on or changed, as the group had changed")
        except CryptfsError as err:
            log.warning("the key could not be handed on: %s", err)
            await trio.sleep(_AFTER_TROUBLE)
        await news.wait()


def _may(vault: Vault) -> bool:
    role = vault.membership.role
    return not vault.read_only and role is not None and role >= Tier.ADMIN
