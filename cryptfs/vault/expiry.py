"""Lets old versions and the trash go: the operation `expire`, sealed by one administrator's device.

Retention must be an operation, for a clock may not change the state; the clock only says when it is time to make one.
A segment counts as old when both its author's clock and the store's date say so: either alone only delays. A clock of
the far future does not even that. Of a segment below the checkpoint that a device began from neither is known: it
counts as old once a later one of its log does.
"""

import hashlib
from typing import TYPE_CHECKING, Final

import trio

from cryptfs.errors import NotAllowed
from cryptfs.format.limits import STAMP_MAX
from cryptfs.format.names import segment_name
from cryptfs.format.operation import Expire
from cryptfs.group.authority import Tier
from cryptfs.vault.logs import Logs

if TYPE_CHECKING:
    from cryptfs.vault.vault import Vault

__all__ = ["expire", "turn"]

_TURN_S: Final = 600.0
"""Seconds that each further administrator's device waits for those before it."""
_AT_ONCE: Final = 500
"""Segments looked at between two breaths."""
_AHEAD_MS: Final = 86_400_000
"""A clock further ahead than that is wrong or lies: no retention would ever end by it."""


async def expire(vault: "Vault", stable: int, *, everything: bool) -> int:
    """Submit an `expire` if something is older than the retention; returns its stamp, -1 if there is nothing to do.

    `stable` is S. `everything`: whatever its age, and whoever's turn it is. Raises StoreError, and NotAllowed where
    `everything` is asked of who may not.
    """
    role = vault.standing.role
    if role is None or role < Tier.ADMIN:
        if everything:
            raise NotAllowed("Only administrators may let old versions go.")
        return -1
    if stable < 0:
        return -1
    stamp = stable
    if not everything:
        stamp = min(stable, await _old_up_to(vault, vault.options.history_s))
    if stamp < 0:
        return -1
    # Nobody needs to say twice what has no effect: a new `expire` is made only for something.
    if not vault.replica.rows.anything_expires(stamp):
        return -1
    if not everything and not _is_our_turn(vault, stable):
        return -1
    vault.submit(Expire(stamp))
    return stamp


def turn(entry: bytes, others: list[bytes], stable: int) -> int:
    """How many of `others` go before the entry, a different one each time."""

    def rank(one: bytes) -> bytes:
        return hashlib.sha256(one + stable.to_bytes(8, "big")).digest()

    return sum(rank(other) < rank(entry) for other in others)


def _is_our_turn(vault: "Vault", stable: int) -> bool:
    roster = vault.standing.membership.resolved.roster
    others = [one for one, who in roster.items() if who.role >= Tier.ADMIN and one != vault.standing.entry]
    return vault.upkeep.open_for() >= turn(vault.standing.entry, others, stable) * _TURN_S


async def _old_up_to(vault: "Vault", retention_s: float) -> int:
    """The largest stamp such that every segment at or below it is older than the retention; -1 if there is none."""
    logs, now = vault.standing.logs, vault.wall_ms()
    young = now - int(retention_s * 1000)
    dates = await vault.sender.dates("l/")
    own = vault.standing.log_id
    first = None
    for log_id in logs.ids():
        noticed = iter(() if log_id == own else await _noticed(logs, own, log_id))
        known_by, known_ms, unknown = -1, 0, False
        for seq in range(logs.state(log_id).next_seq):
            digest, moment = logs.digest_at(log_id, seq), logs.moment(log_id, seq)
            if digest is None or moment is None:
                unknown = True
                continue
            stamp, wall_ms = moment
            while known_by < seq and log_id != own:
                known_by, known_ms = next(noticed, (STAMP_MAX, now))
            date = dates.get(segment_name(log_id, seq, digest), wall_ms if log_id == own else known_ms)
            if (max(wall_ms, date) if wall_ms <= now + _AHEAD_MS else date) > young:
                # What lies below and is not known may be as young as this.
                stamp = max(logs.state(log_id).begun, 0) if unknown else stamp
                first = stamp if first is None else min(first, stamp)
                break  # stamps grow along a log
            unknown = False
            if seq % _AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
    return STAMP_MAX if first is None else first - 1


async def _noticed(logs: Logs, own: bytes, other: bytes) -> list[tuple[int, int]]:
    """When this device had seen how much of another log, in its own words and by its own clock: (number, ms).

    For segments that lie in rollups, whose date says nothing about them. Both grow.
    """
    found = []
    for seq in range(logs.state(own).next_seq):
        moment, vec = logs.moment(own, seq), logs.named_by(own, seq)
        if moment is not None and other in vec:
            found.append((vec[other], moment[1]))
        if seq % _AT_ONCE == 0:
            await trio.lowlevel.checkpoint()
    return found
