"""Deletes checkpoints that newer ones have made needless.

Kept are those of F and of the floor before it, and in any case two newer ones than each that goes; a silent device may
hold the floor where it is. Everybody deletes his own, and what devices have left that are out (`estates.py`).
"""

from typing import TYPE_CHECKING, Final

from cryptfs.errors import CryptfsError
from cryptfs.format.names import CheckpointName, parse_name
from cryptfs.vault.estates import left_by
from cryptfs.vault.outlived import outliving

if TYPE_CHECKING:
    from cryptfs.vault.vault import Vault

__all__ = ["delete_old_checkpoints"]

_NEWER: Final = 2
_DAY_MS: Final = 86_400_000
_ABOVE_MS: Final = 7 * _DAY_MS
"""How old one is at least that goes although it may become F yet: what everybody said of it has come round by then."""


async def delete_old_checkpoints(vault: "Vault", left: dict[str, str], *, now: bool) -> int:
    """Delete them; returns how many. `now` waives the waiting, a day; `left` gets what could not be, and why.

    Raises StoreError.
    """
    stats = await vault.sender.stats("c/")
    floors = {one.stamp for one in outliving(vault.horizon)}
    before = min(floors)
    there = {stat.key for stat in stats}
    agreed = sorted({one.stamp for one in vault.checkpointing.known if one.agreed and one.name in there})
    count = 0
    for stat in stats:
        name = parse_name(stat.key)
        if not isinstance(name, CheckpointName) or name.stamp in floors or not _is_ours(vault, name):
            continue
        waited = vault.wall_ms() - stat.mtime_ms
        patience = (0 if now else _DAY_MS) if name.stamp < before else _ABOVE_MS
        if waited < patience or sum(stamp > name.stamp for stamp in agreed) < _NEWER:
            continue
        vault.faults.step("checkpoint.delete")
        try:
            await vault.sender.delete(stat.key)
        except CryptfsError as err:
            left[stat.key] = f"{err} {err.advice}".strip()
        else:
            count += 1
    return count


def _is_ours(vault: "Vault", name: CheckpointName) -> bool:
    """A name says whose it is with half an id."""
    if name.entry8 == vault.standing.entry[:8]:
        return True
    authors = [one.entry for one in vault.membership.graph.entries() if one.entry[:8] == name.entry8]
    return bool(authors) and all(left_by(vault, one) for one in authors)
