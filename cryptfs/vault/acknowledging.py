"""Says that this device has seen what others did: a segment without operations, when somebody waits for it.

What everybody has acknowledged can be deleted, so a device that only reads must speak up too. An acknowledgement is
not acknowledged: after two rounds nothing more is sent (docs/replication.md, "Acknowledgements").
"""

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import trio

from cryptfs.crypto.keys import chance
from cryptfs.errors import CryptfsError, NotAllowed
from cryptfs.group.graph import View
from cryptfs.vault.logs import Logs
from cryptfs.vault.standing import Standing

if TYPE_CHECKING:
    from cryptfs.vault.vault import Vault

__all__ = ["Acknowledging", "Debt", "debt", "untold"]

log = logging.getLogger(__name__)

_LOOK: Final = 5.0
_PROMPT: Final = 10.0
"""Seconds after which a retire or a change of the group is acknowledged; as much again by chance, so that a group does
not answer in one moment."""
_BUSY: Final = 900.0
_MANY_OPS: Final = 1000
"""Seconds after which so many operations are acknowledged, since the stable stamp lags behind them; or a root is
attested."""
_DAILY: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class Debt:
    """What this device has seen and not acknowledged: anything that `tells` something, anything `asked` for; and how
    many operations.
    """  # noqa: D205 - one sentence

    tells: bool
    asked: bool
    ops: int


def debt(logs: Logs, own: bytes) -> Debt:
    """What a segment of the log `own` would acknowledge."""
    mine = logs.state(own)
    placed = logs.last_placed(own)
    view = placed.view if placed is not None else 0
    tells = asked = False
    ops = 0
    for other in logs.ids():
        state, seen = logs.state(other), mine.seen.get(other, -1)
        if other == own or state.next_seq - 1 <= seen:
            continue
        theirs = logs.last_placed(other)
        news = theirs is not None and bool(theirs.view & ~view)
        tells = tells or news or state.telling > seen
        asked = asked or news or state.asking > seen
        ops += state.next_n - (logs.operations_at(other, seen) if seen >= 0 else 0)
    return Debt(tells, asked, ops)


def untold(standing: Standing) -> bool:
    """Whether something that this device has decided is in no segment yet: who was let in cannot begin before.

    That happens when a crash, or a change of keys, comes between the decision and the segment that tells it.
    """
    if standing.alone:
        return False
    graph, membership = standing.membership.graph, standing.membership
    missing = View(graph.everything & ~standing.logs.carried())
    valid = membership.resolved.valid
    return bool(missing) and any(
        node.author.entry in membership.own and node.id in valid for node in graph.nodes(missing)
    )


class Acknowledging:
    """Acknowledges for one vault while it is open."""

    def __init__(self, vault: "Vault") -> None:
        self._vault = vault
        self._owing_since = -1.0

    async def run(self) -> None:
        """Acknowledge when it is due, until cancelled. Trouble is told in `status` by who seals otherwise."""
        patience = _PROMPT + chance().uniform(0, _PROMPT)
        while True:
            await trio.sleep(_LOOK)
            if self._is_due(patience):
                try:
                    await self.now()
                except NotAllowed as err:
                    log.debug("nothing is acknowledged: %s", err)
                except CryptfsError as err:
                    log.info("nothing could be acknowledged: %s", err)

    async def now(self) -> None:
        """Acknowledge everything that is here, if there is anything to acknowledge. Raises as sealing does."""
        standing = self._vault.standing
        if debt(standing.logs, standing.log_id).tells or untold(standing) or self._vault.checkpointing.owes:
            await self._vault.sealer.seal(anyway=True)

    def _is_due(self, patience: float) -> bool:
        standing = self._vault.standing
        owed, roots, late = debt(standing.logs, standing.log_id), self._vault.checkpointing.owes, untold(standing)
        if not owed.tells and not roots and not late:
            self._owing_since = -1.0
            return False
        now = time.monotonic()
        if self._owing_since < 0:
            self._owing_since = now
        waited = now - self._owing_since
        silent = time.time() - standing.log.wall_ms / 1000
        return (
            ((owed.asked or late) and waited >= patience)
            or ((owed.ops > _MANY_OPS or roots) and waited >= _BUSY)
            or (waited >= patience and silent >= _DAILY)
        )
