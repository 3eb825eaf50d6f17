"""A device that was away so long that segments it lacks were deleted goes on from a checkpoint.

The store shows later segments of a log, but not the next one: that is on its way, or two floors have passed since and
its owner has deleted it. If a checkpoint that may be believed stands for what is missing, the tree is made anew from
it; what this device has not sent yet comes on top again. If nobody known here stands up for one, the tree stays as it
is, and nothing is written until a person has compared the words of its root (docs/replication.md, "Checkpoints"). Where
there is none at all and the beginning of a log is gone, the tree is not whole: that is said, and nothing is written.

That can only happen to who is not asked: no floor passes a log that goes on before that has vouched for it. A device
that has such a log heeds nobody's mere word that it was left behind, or any writer could stop all others by his.
"""

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from cryptfs.errors import HostileStore, NeedsUpdate, NotAllowed, NotFound
from cryptfs.format.segment import verify_segment
from cryptfs.store import Cap
from cryptfs.vault.checkpointing import Known
from cryptfs.vault.checkpoints import Ground, StoredCheckpoint, newest_first
from cryptfs.vault.logs import Logs
from cryptfs.vault.rebuilding import rebuild_from
from cryptfs.vault.starting import Candidate, drop, judge

if TYPE_CHECKING:
    from cryptfs.vault.vault import Vault

__all__ = ["Jumping"]

log = logging.getLogger(__name__)

_LOOKED_AT: Final = 2
"""Segments of a log without a beginning whose signatures are looked at, the newest."""
_Known = tuple[int, int, bytes]
"""How much was known when a checkpoint was judged: statements, names of log objects, the root remembered last."""


class Jumping:
    """For one vault, by the task that pulls."""

    def __init__(self, vault: "Vault") -> None:
        self._vault = vault
        self._passed: dict[str, _Known] = {}
        """Checkpoints that did not help: with as much known, they do not now."""
        self._headless: frozenset[bytes] = frozenset()
        """Logs whose beginning the last look did not show."""

    async def jump(self) -> bool:
        """Begin anew from a checkpoint if something that is missing can only come from one; whether that was done.

        The store was listed as a whole just now, and read as far as it goes. Raises StoreError, LocalDisk.
        """
        vault, doubtful = self._vault, None
        gaps = vault.reader.gaps()
        for name, size in await newest_first(vault.sender, vault.membership, above=self._here()) if gaps else ():
            found = await self._judge(name, size)
            if found is None or not _stands_for(found.one, gaps, vault.standing.logs):
                continue
            if found.ground is Ground.NONE:
                doubtful = doubtful or found.one
            elif await self._try(found):
                vault.checkpointing.doubt(None)
                vault.checkpointing.lack(())
                return True
            else:
                self._passed[name] = self._known()
        asked = self._is_asked()
        vault.checkpointing.doubt(None if asked else doubtful)
        vault.checkpointing.lack(() if asked or doubtful is not None else await self._without_beginning(gaps))
        return False

    def _is_asked(self) -> bool:
        """Whether others wait for the word of this device's log before they delete: it is in the store, is all in the
        tree with what it builds on, and goes on.
        """  # noqa: D205 - one sentence
        vault, log_id = self._vault, self._vault.standing.log_id
        end, head = vault.reader.end(log_id), vault.trust.memory.head(log_id)
        taken = vault.standing.logs.state(log_id).taken
        return end is not None and end.count is None and head is not None and head.seq < taken

    def _here(self) -> int:
        """The stamp up to which nothing can be missing."""
        self._vault.reader.flush()
        return self._vault.horizon.stable()

    def _known(self) -> _Known:
        vault = self._vault
        return len(vault.membership.graph), len(vault.log_objects.listed), vault.trust.memory.root

    async def _judge(self, name: str, size: int) -> Candidate | None:
        """Look at a checkpoint, unless that came to nothing before."""
        if self._passed.get(name) == self._known():
            return None
        found = await judge(self._vault, name, size, self._vault.standing.made)
        if found is None:
            self._passed[name] = self._known()
        return found

    async def _without_beginning(self, gaps: Mapping[bytes, int]) -> frozenset[bytes]:
        """Logs of which nothing was read here, though later ones are there, signed: names prove nothing."""
        before, found = self._headless, set[bytes]()
        for log_id in (one for one, seq in gaps.items() if not seq):
            waiting = self._vault.reader.waiting
            names = [name for seq in waiting.numbers(log_id) for name in waiting.names(log_id, seq)]
            if any([await self._is_signed(log_id, name) for name in names[-_LOOKED_AT:]]):
                found.add(log_id)
        self._headless = frozenset(found)
        return self._headless if Cap.STRONG_LIST in self._vault.sender.store.caps else self._headless & before

    async def _is_signed(self, log_id: bytes, name: str) -> bool:
        owner = self._vault.membership.graph.log_owner(log_id)
        try:
            raws = await self._vault.log_objects.segments(name)
            if owner is not None:
                verify_segment(raws[0], owner.sign_pub)
        except (HostileStore, NeedsUpdate, NotFound):
            return False
        return owner is not None and raws[0].log_id == log_id

    async def _try(self, found: Candidate) -> bool:
        vault, one = self._vault, found.one
        try:
            await rebuild_from(vault, found)
        except (HostileStore, NeedsUpdate, NotAllowed, NotFound) as err:
            log.warning("the checkpoint %s does not help: %s", one.name, err)
            return False
        finally:
            drop(vault)
        vault.checkpointing.remember(replace(Known.of(one, vault.wall_ms()), agreed=True, given=True))
        vault.checkpointing.settle()
        why = f"{one.name}, {found.ground.value}"
        log.warning("this device was away for so long that what it lacks was tidied away; it goes on from %s", why)
        return True


def _stands_for(one: StoredCheckpoint, gaps: Mapping[bytes, int], logs: Logs) -> bool:
    """Whether a checkpoint has a segment that is missing, and no other one than this device where both have one.

    `gaps`: number of the first missing one, by log.
    """
    known = ((logs.digest_at(head.log, head.seq), head.digest) for head in one.head.heads)
    fills = any(head.seq >= gaps.get(head.log, head.seq + 1) for head in one.head.heads)
    return fills and all(here in {None, there} for here, there in known)
