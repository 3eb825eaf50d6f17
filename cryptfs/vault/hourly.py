"""What an open vault does when nothing happens: says that it is there, and looks at what only time changes.

A writer that has published nothing for a day seals an empty segment, so that the others can tell a quiet device from
one whose segments are held back. And certificates expire, and news gets old, without anybody doing anything.
"""

import logging
from typing import Final

import trio

from cryptfs.crypto.keys import chance
from cryptfs.errors import CryptfsError
from cryptfs.vault.vault import Vault

__all__ = ["look_after", "show_life"]

log = logging.getLogger(__name__)

_FIRST: Final = (60.0, 600.0)
"""Seconds after the start; different on every device, so that a morning's mounts do not all publish at once."""
_EVERY: Final = 3600.0
_HEARTBEAT_MS: Final = 86_400_000


async def look_after(vault: Vault, first: tuple[float, float] = _FIRST) -> None:
    """Look soon after the start and then every hour, until cancelled."""
    await trio.sleep(chance().uniform(*first))
    while True:
        vault.certificates.tell()
        vault.trust.freshness.tell()
        try:
            await show_life(vault)
        except CryptfsError as err:
            log.info("no sign of life was published: %s", err)
        await trio.sleep(_EVERY)


async def show_life(vault: Vault) -> None:
    """Publish a segment if there was none for a day, and somebody is there to see it.

    Raises NotAllowed while nothing may be sealed, StoreError.
    """
    if vault.read_only or len(vault.membership.resolved.roster) < 2:
        return
    if vault.wall_ms() - vault.trust.last_sent_ms >= _HEARTBEAT_MS:
        await vault.introduce()
