"""Who made a version, who took something away, and when: from the logs, for people. Nothing rests on it.

Times are the clocks of the authors, as everything that people read. A version names its operations, hence its logs. A
deletion is known by the stamp of its segment alone, which segments of other logs may bear too: then those are read.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptfs.errors import HostileStore, NotAllowed, StoreError
from cryptfs.format.operation import Op, Rename, Rmdir, Unlink
from cryptfs.tree.ids import PROVISIONAL_PREFIX, op_id_of, split
from cryptfs.tree.past import Moment, moment_of, moments_at
from cryptfs.tree.rows import NodeRow

if TYPE_CHECKING:
    from cryptfs.vault.vault import Vault

__all__ = ["Authorship", "Made"]

_NS_PER_MS: Final = 1_000_000
_READ_MAX: Final = 64
"""Segments kept while one question is answered."""


@dataclass(frozen=True, slots=True)
class Made:
    """When and by whom. `wall_ms` 0: not known; `logs`: of whoever it may have been, sorted; `sent`: sealed already."""

    wall_ms: int
    logs: tuple[bytes, ...]
    by: str
    sent: bool = True


class Authorship:
    """Answers for one vault; made for one question of a person, as it remembers what it read."""

    def __init__(self, vault: "Vault") -> None:
        self._vault = vault
        self._read: dict[bytes, tuple[Op, ...]] = {}
        self._drops: dict[tuple[int, int], Made] = {}

    def name_of(self, log: bytes) -> str:
        """Member and device that a log belongs to."""
        return self._vault.membership.name_of_log(log)

    def of_version(self, ver: bytes) -> Made:
        """Of a version in external form. If several made the same, the first of them counts as the time."""
        ids = split(ver)
        if not ids:
            return Made(0, (), "")
        if any(one.startswith(PROVISIONAL_PREFIX) for one in ids):
            return self._mine()
        moments = [moment_of(self._vault.replica, one) for one in ids]
        known = [one.wall_ms for one in moments if one is not None]
        return self._made(min(known, default=0), sorted({op_id_of(one).log for one in ids}))

    async def of_drop(self, node: NodeRow) -> Made:
        """Of the loss of a node's last name. A store that cannot be asked leaves all candidates."""
        stamp = node.gone_l if node.gone_l is not None else 0
        if stamp < 0:
            return self._mine()
        known = self._drops.get((stamp, 0))
        if known is not None:
            return known
        moments = moments_at(self._vault.replica, stamp)
        if len(moments) <= 1:
            made = self._drops[stamp, 0] = self._made_in(moments)
            return made
        known = self._drops.get((stamp, node.st))
        if known is None:
            known = self._drops[stamp, node.st] = self._made_in([
                one for one in moments if await self._may_have_dropped(one, node)
            ] or moments)  # fmt: skip
        return known

    async def _may_have_dropped(self, moment: Moment, node: NodeRow) -> bool:
        try:
            ops = await self.operations(moment)
        except (StoreError, HostileStore, NotAllowed):
            return True
        state = self._vault.replica.state
        for op in ops:
            dropped = op.i if isinstance(op, Unlink | Rmdir) else None
            if isinstance(op, Rename) and op.replaced is not None:
                dropped = op.replaced.i
            found = None if dropped is None else state.find(dropped)
            if found is not None and found.st == node.st:
                return True
        return False

    async def operations(self, moment: Moment) -> tuple[Op, ...]:
        """The operations of a segment, fetched again. Raises Damaged if it is not what was judged, StoreError."""
        ops = self._read.get(moment.digest)
        if ops is None:
            vault = self._vault
            ops = (await vault.reader.open_again(moment.log, moment.seq, moment.digest)).ops
            if len(self._read) >= _READ_MAX:
                self._read.clear()
            self._read[moment.digest] = ops
        return ops

    def _made_in(self, moments: list[Moment]) -> Made:
        return self._made(min((one.wall_ms for one in moments), default=0), sorted(one.log for one in moments))

    def _made(self, wall_ms: int, logs: list[bytes]) -> Made:
        return Made(wall_ms, tuple(logs), " or ".join(sorted({self.name_of(log) for log in logs})))

    def _mine(self) -> Made:
        standing = self._vault.standing
        return Made(self._vault.wall_ms(), (standing.log_id,), standing.label, sent=False)
