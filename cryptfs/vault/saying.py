"""Has the store hold operations that no program asked for: what becomes of packs, and of old versions."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from cryptfs.format.operation import Op

if TYPE_CHECKING:
    from cryptfs.vault.vault import Vault

__all__ = ["say_in_log"]


async def say_in_log(vault: "Vault", ops: Iterable[Op]) -> None:
    """Return when the store has these operations, in order, and all that came before. Raises as sealing does."""
    for op in ops:
        vault.submit(op)
    upto = vault.next_k
    while (oldest := vault.pending.oldest_k) is not None and oldest < upto:
        await vault.sealer.seal()
