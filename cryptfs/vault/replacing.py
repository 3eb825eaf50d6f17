"""Puts right bytes in the place of wrong ones (docs/replication.md, "Healing").

The one place where something is deleted because it is damaged, and only when a person says so. Each object is read once
more, to its last byte, and only where a copy that verifies lies here it is deleted, and stored again under its name.
Whatever ends that in between leaves an object missing, which is put back like any other.
"""

import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from cryptfs.errors import StoreError
from cryptfs.format.names import RollupName, parse_name
from cryptfs.vault.absence import harm_of, in_order
from cryptfs.vault.healing import Healed
from cryptfs.vault.inspecting import Inspector

if TYPE_CHECKING:
    from cryptfs.vault.vault import Vault

__all__ = ["replace_damaged"]

log = logging.getLogger(__name__)

Say = Callable[[str], None]


async def replace_damaged(vault: "Vault", names: Iterable[str], say: Say = log.debug) -> Healed:
    """Replace those of the objects that are not what they should be; of a damaged rollup, its segments are put back.

    Raises StoreError, LocalDisk; what was put back stays so.
    """
    done, inspector = Healed(), Inspector(vault)
    for name in in_order(names):
        parsed = parse_name(name)
        if isinstance(parsed, RollupName):
            lacking = [one for one in await inspector.lacking(parsed) if one]
            done.add(await vault.healer.put_back(lacking, say))
        elif await vault.sender.size(name) is not None and not await inspector.is_sound(name):
            await _replace(vault, name, done, say)
    return done


async def _replace(vault: "Vault", name: str, done: Healed, say: Say) -> None:
    copy = await vault.copies.find(name)
    if copy is None:
        done.left.append(harm_of(vault, name))
        return
    vault.faults.step("heal.replace")
    try:
        await vault.sender.delete(name)
        vault.faults.step("heal.replaced")
        await vault.sender.put(name, copy)
    except StoreError as err:
        done.refused[name] = f"{err} {err.advice}".strip()
        return
    vault.cache.damaged.pop(name, None)
    done.note(name, copy)
    say(f"{name} is put back.")
