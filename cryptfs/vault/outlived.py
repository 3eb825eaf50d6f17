"""Which segments the store need not have any more: two later states, that everybody has vouched for, stand for them.

At or below the floor before F nothing is revised, and nobody begins from there: who comes anew begins from the
checkpoint of F, or from the one before. What stays needed of such a segment are records in its body2 that are in use.
The newest segment of a log stays in any case: its name is what others compare the folder with
(docs/replication.md, "Deletion of log objects").
"""

from typing import TYPE_CHECKING

from cryptfs.format.content import WHERE_BODY2
from cryptfs.group.ends import HeldSegment
from cryptfs.group.floor import NO_FLOOR, Floor
from cryptfs.tree.merge_containers import IN_USE
from cryptfs.vault.horizon import Horizon

if TYPE_CHECKING:
    from cryptfs.vault.vault import Vault

__all__ = ["Outlived", "outliving"]


def outliving(horizon: Horizon) -> tuple[Floor, Floor]:
    """F and the floor before it: their checkpoints stand for what lies at or below the second. NO_FLOOR for none."""
    first, second, *_ = (*horizon.floors()[:2], NO_FLOOR, NO_FLOOR)
    return first, second


class Outlived:
    """Says of segments that count whether the store may be without them, as things stand when this is made."""

    def __init__(self, vault: "Vault") -> None:
        self._logs = vault.standing.logs
        self._rows = vault.replica.rows
        self.stamp = outliving(vault.horizon)[1].stamp
        """At or below it they may be gone; -1 if nothing may."""

    def __call__(self, log_id: bytes, one: HeldSegment) -> bool:
        """Whether nobody would miss it. Late work, without effect, is not outlived: it may be accepted yet."""
        if one.stamp > self.stamp or one.seq >= self._logs.state(log_id).taken - 1:
            return False
        if self._logs.digest_at(log_id, one.seq) != one.digest:
            return False
        body2 = self._rows.container(WHERE_BODY2, one.digest)
        return body2 is None or body2.state != IN_USE
