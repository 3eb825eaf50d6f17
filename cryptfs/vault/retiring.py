"""Chooses which containers of this device's log go out of use, and copies out what is still live in them.

Two kinds of waste: what nobody uses, and what lies in small pieces. Records in body2 of segments keep whole segments in
the store, and small packs cost calls; both are copied into full packs once they are a week old, when there is enough
to fill one, or after four weeks anyway.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import msgspec
import trio

from cryptfs.format.content import WHERE_BODY2, WHERE_PACK
from cryptfs.format.limits import MIB, PACK_SHARED_TARGET, STAMP_MAX
from cryptfs.format.names import SegmentName, pack_name, parse_name
from cryptfs.format.operation import Op, Retire, Where
from cryptfs.tree.places import Place
from cryptfs.tree.rows import Container
from cryptfs.vault.holding import Holding
from cryptfs.vault.pieces import Sparse
from cryptfs.vault.repack import repack

if TYPE_CHECKING:
    from cryptfs.vault.vault import Vault

__all__ = ["Retired", "Retiring", "Say", "wheres"]

_REPACK_QUIETLY: Final = 256 * MIB
"""Bytes copied in one run that nobody asked for."""
_CONTENT_COST: Final = 600
_PACK_COST: Final = 4096
"""Bytes that index, keys and hints of a small file take in a pack, and a pack in any case; generous."""
_SMALL: Final = 4 * MIB
"""Bytes of a pack that is too small to stay, and of live records that are worth a pack."""
_SMALL_SINCE: Final = "small packs"
_PATIENCE: Final = 4
"""Ages that a record waits in body2 for others to fill a pack with."""
_MANY: Final = 100
_OP_CONTAINERS: Final = 100
_AS_IT_IS: Final = STAMP_MAX
"""Stable stamp where only the present counts: what comes back after a retire is noticed by RECHECK."""

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(dict[bytes, int]).decode

Say = Callable[[str], None]
"""Is told in words what goes on."""


@dataclass(slots=True)
class Retired:
    """What is to be sealed, in order: first where records went, then what is out of use. `packs` are the packs among
    it, `repacked` how many of them were copied; `left`: containers left alone, by name of the object, and why.
    """  # noqa: D205 - one sentence

    ops: list[Op] = field(default_factory=list)
    packs: list[Container] = field(default_factory=list)
    repacked: int = 0
    left: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _Judged:
    """`unused`: nothing of it is live; `sparse`: little is; `small`: in small pieces, and old enough."""

    unused: list[Container] = field(default_factory=list)
    sparse: list[tuple[Container, Sparse]] = field(default_factory=list)
    small: list[tuple[Container, Sparse]] = field(default_factory=list)


class Retiring:
    """Chooses for one vault."""

    def __init__(self, vault: "Vault", holding: Holding) -> None:
        self._vault = vault
        self._holding = holding

    async def choose(self, *, everything: bool, say: Say) -> Retired:
        """Look at everything that the log of this device holds, and copy out what is worth it.

        `everything`: whatever it takes. Raises StoreError, HostileStore, LocalDisk; nothing is lost then.
        """
        uses, log_id = self._vault.replica.uses, self._vault.standing.log_id
        held = uses.held(log_id, WHERE_PACK, retired=False)
        held += [one for one in uses.held(log_id, WHERE_BODY2, retired=False) if self._is_old_body2(one)]
        say(f"Looking at {len(held)} containers.")
        judged = _Judged()
        while held:
            await self._judge(self._holding.portion(held, lambda one: Place(one.place, one.id)), judged)
        if self._are_worth_a_pack(judged.small):
            judged.sparse += judged.small
        gone = list(judged.unused)
        if not (judged.sparse or everything or _are_worth_a_word(gone)):
            return Retired()
        done = Retired()
        budget = float("inf") if everything else _REPACK_QUIETLY
        while judged.sparse and budget > 0:
            group = _group(judged.sparse)
            budget -= sum(one.live for _, one in group)
            gone += await self._copy(group, done, say)
        done.packs = [one for one in gone if one.place == WHERE_PACK]
        done.ops.extend(Retire(some) for some in wheres([Place(one.place, one.id) for one in gone]))
        return done

    async def _copy(self, group: list[tuple[Container, Sparse]], done: Retired, say: Say) -> list[Container]:
        say(f"Copying {sum(one.live for _, one in group)} bytes that are in use out of {len(group)} containers.")
        moves, left = await repack(self._vault, [one for _, one in group])
        done.ops.extend(moves)
        done.left.update({self._name(place): why for place, why in left.items()})
        moved = [container for container, one in group if one.place not in left]
        done.repacked += sum(one.place == WHERE_PACK for one in moved)
        return moved

    def _name(self, place: Place) -> str:
        if place.where == WHERE_PACK:
            return pack_name(place.id)
        return self._vault.cache.segments.name(place.id) or place.id.hex()

    # ---- judging --------------------------------------------------------------------------------------------------

    async def _judge(self, portion: list[Container], judged: _Judged) -> None:
        by_place = {Place(one.place, one.id): one for one in portion}
        found = await self._holding.look(by_place, _AS_IT_IS)
        pinned = self._holding.pinned()
        for place, container in by_place.items():
            ranges = found.ranges.get(place, [])
            cost = sum(length for _, length in ranges) + _CONTENT_COST * found.contents.get(place, 0) + _PACK_COST
            if place in pinned:
                continue
            one = container, Sparse(place, tuple(ranges))
            if not ranges:
                judged.unused.append(container)
            elif place.where == WHERE_PACK and cost * 2 < container.size:
                judged.sparse.append(one)
            elif place.where == WHERE_BODY2 or container.size < _SMALL:
                judged.small.append(one)
        await trio.lowlevel.checkpoint()

    # ---- what lies in small pieces --------------------------------------------------------------------------------

    def _is_old_body2(self, container: Container) -> bool:
        return self._age_of_body2(container.id) >= self._old_ms

    @property
    def _old_ms(self) -> int:
        return int(self._vault.options.settle_s * 1000)

    def _age_of_body2(self, digest: bytes) -> int:
        """Age in ms of a segment with records, by its author's clock; -1 if it is not known."""
        name = parse_name(self._vault.cache.segments.name(digest) or "")
        if not isinstance(name, SegmentName):
            return -1
        moment = self._vault.standing.logs.moment(name.log_id, name.seq)
        return self._vault.wall_ms() - moment[1] if moment is not None else -1

    def _are_worth_a_pack(self, small: list[tuple[Container, Sparse]]) -> bool:
        """Leave of these what is old enough; whether that is worth copying."""
        since = self._small_since([one.place for _, one in small if one.place.where == WHERE_PACK])
        horizon = self._vault.wall_ms() - self._old_ms
        small[:] = [each for each in small if since.get(each[1].place.id, 0) <= horizon]
        if sum(one.live for _, one in small) >= _SMALL and len(small) > 1:
            return True
        small[:] = [each for each in small if each[1].place.where == WHERE_BODY2]
        return any(self._age_of_body2(one.place.id) >= _PATIENCE * self._old_ms for _, one in small)

    def _small_since(self, packs: list[Place]) -> dict[bytes, int]:
        """When this device first saw that these packs are small, in ms; what is lost of that only delays."""
        replica, now = self._vault.replica, self._vault.wall_ms()
        kept = replica.meta_get(_SMALL_SINCE)
        known = _decode(kept) if kept is not None else {}
        since = {place.id: known.get(place.id, now) for place in packs}
        if since != known:
            replica.meta_set(_SMALL_SINCE, _encode(since))
        return since


def _are_worth_a_word(gone: list[Container]) -> bool:
    """Whether everybody shall be asked about these: a few segments without live records can wait for others."""
    return len(gone) >= _MANY or any(one.place == WHERE_PACK for one in gone)


def _group(sparse: list[tuple[Container, Sparse]]) -> list[tuple[Container, Sparse]]:
    """Take containers off the list whose live records fill one new pack."""
    group = [sparse.pop()]
    while sparse and sum(one.live for _, one in group) + sparse[-1][1].live <= PACK_SHARED_TARGET:
        group.append(sparse.pop())
    return group


def wheres(places: Iterable[Place]) -> list[tuple[Where, ...]]:
    """Containers as operations name them: sorted, some at a time."""
    ordered = sorted(places)
    return [
        tuple(Where(one.where, one.id) for one in ordered[at : at + _OP_CONTAINERS])
        for at in range(0, len(ordered), _OP_CONTAINERS)
    ]
