"""Whose logs a device keeps in order: its own, and logs that have ended and that nobody writes any more.

Those of its own member, and for an administrator's device those of anybody; as with packs (`group/heirs.py`), since who
may take over what a log holds may tidy the log, too. Several devices wait for each other; twice is harmless.
"""

from typing import TYPE_CHECKING, Final

from cryptfs.group.authority import Admission, Tier
from cryptfs.vault.expiry import turn

if TYPE_CHECKING:
    from cryptfs.vault.vault import Vault

__all__ = ["left_by", "tended_logs"]

_TURN_S: Final = 600.0
"""Seconds that each device waits for those before it."""


def tended_logs(vault: "Vault") -> list[bytes]:
    """The own log first, then ended ones, all of whose segments are here."""
    standing, graph = vault.standing, vault.membership.graph
    found = [standing.log_id]
    for log_id in standing.logs.ids():
        end, owner = vault.reader.end(log_id), graph.log_owner(log_id)
        if log_id == standing.log_id or end is None or end.count is None or owner is None:
            continue
        if standing.logs.state(log_id).taken == end.count and _is_ours(vault, owner):
            found.append(log_id)
    return found


def left_by(vault: "Vault", entry: bytes) -> bool:
    """Whether a device, by its entry, may not write any more, and this one looks after what it left."""
    admission = vault.membership.graph.admission(entry)
    who = vault.membership.resolved.roster.get(entry)
    return admission is not None and (who is None or who.role < Tier.WRITER) and _is_ours(vault, admission)


def _is_ours(vault: "Vault", owner: Admission) -> bool:
    """Whether this device tends what `owner` left, and has waited for those that are before it."""
    roster, me = vault.membership.resolved.roster, vault.membership.entry
    if me is None or (vault.sender.has_owners and me.member != owner.member):  # others' objects cannot be deleted
        return False
    heirs = [
        entry for entry, who in roster.items() if who.role >= Tier.WRITER and _may(who.role, who.member, owner.member)
    ]
    if me.id not in heirs:
        return False
    others = [entry for entry in heirs if entry != me.id]
    return vault.upkeep.open_for() >= turn(me.id, others, vault.horizon.stable()) * _TURN_S


def _may(role: Tier, member: bytes, owner: bytes) -> bool:
    return role >= Tier.ADMIN or member == owner
