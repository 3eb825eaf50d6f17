"""Which rollups hold what their names say: whoever reaches the folder can put any name there, so each is read once.

Who relies on a rollup in place of the segments it names - to delete these, or not to miss them - asks here. What was
found is kept with the replica; what is lost of that is read once more.
"""

import logging
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

import msgspec

from cryptfs.crypto.keys import chance
from cryptfs.errors import HostileStore, Invalid, NeedsUpdate, NotFound
from cryptfs.format.names import RollupName, parse_name
from cryptfs.format.segment import RawSegment, verify_segment
from cryptfs.vault.logobjects import key_of

if TYPE_CHECKING:
    from cryptfs.vault.vault import Vault

__all__ = ["WholeRollups", "read_whole"]

log = logging.getLogger(__name__)

_KEPT: Final = "whole rollups"
_AT_ONCE: Final = 64
"""Rollups read in one look."""

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(list[str]).decode


async def read_whole(vault: "Vault", name: RollupName) -> list[bytes]:
    """The segments in a rollup, complete, as the store has it now.

    Raises Invalid if not all that the name says are there, in order and signed, or one is another than was read here;
    the rest of HostileStore, NotFound, NeedsUpdate, StoreError.
    """
    raws = await vault.log_objects.segments(key_of(name))
    if [raw.seq for raw in raws if _is_sound(vault, name, raw)] != list(range(name.first, name.last + 1)):
        raise Invalid("a rollup does not hold what its name says")
    return [raw.data for raw in raws]


def _is_sound(vault: "Vault", name: RollupName, raw: RawSegment) -> bool:
    """Whether a segment in a rollup is one of that log, signed, and the one that was read here if any was."""
    owner = vault.membership.graph.log_owner(name.log_id)
    if owner is None or raw.log_id != name.log_id:
        return False
    if vault.standing.logs.digest_at(name.log_id, raw.seq) not in {None, raw.digest}:
        return False
    try:
        verify_segment(raw, owner.sign_pub)
    except HostileStore:
        return False
    return True


class WholeRollups:
    """What one vault knows of the rollups in the store."""

    def __init__(self, vault: "Vault") -> None:
        self._vault = vault
        kept = vault.replica.meta_get(_KEPT)
        self._whole = set(_decode(kept)) if kept is not None else set()
        self._partly: dict[str, set[int]] = {}
        """Those that are not what they say, and the numbers of what is in them."""

    async def learn(self, listed: Iterable[str], needed: Mapping[bytes, Iterable[int]]) -> None:
        """Read those of the rollups in `listed` that no look has read yet and that claim any of the segments `needed`.

        By log and number. At most 64 at once, at random: whoever puts more junk there only delays. Raises StoreError.
        """
        names = {key: name for key in listed if isinstance(name := parse_name(key), RollupName)}
        before = set(self._whole)
        self._whole &= names.keys()
        unread = [
            key
            for key, name in names.items()
            if key not in {*self._whole, *self._partly}
            and any(name.first <= seq <= name.last for seq in needed.get(name.log_id, ()))
        ]
        for key in chance().sample(unread, min(len(unread), _AT_ONCE)):
            name = names[key]
            held = await self._read(name)
            if held.issuperset(range(name.first, name.last + 1)):
                self._whole.add(key)
            else:
                log.warning("the log object %s does not hold what its name says", key)
                self._partly[key] = held
        self._vault.log_objects.forget_bytes()
        if self._whole != before:
            self._vault.replica.meta_set(_KEPT, _encode(sorted(self._whole)))

    async def _read(self, name: RollupName) -> set[int]:
        """Numbers of the segments in it that are sound. Raises StoreError."""
        try:
            raws = await self._vault.log_objects.segments(key_of(name))
        except (HostileStore, NeedsUpdate, NotFound):
            return set()
        return {raw.seq for raw in raws if _is_sound(self._vault, name, raw)}

    def may_hold(self, name: RollupName, seq: int) -> bool:
        """Whether a segment lies in it, as far as it was read."""
        held = self._partly.get(key_of(name))
        return name.first <= seq <= name.last and (held is None or seq in held)
