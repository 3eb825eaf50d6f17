"""Members and devices as people speak of them: finding those that a word means, and describing all of them.

Names are what an administrator wrote down. They choose whom an act is about only if they fit exactly one member; ids
always do.
"""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cryptfs.errors import UsageError
from cryptfs.format.statement import Add, Close, Genesis
from cryptfs.group.authority import Tier
from cryptfs.group.membership import Membership
from cryptfs.group.roster import Entry
from cryptfs.vault.certificates import Finding

__all__ = [
    "Chosen",
    "called",
    "choose",
    "describe",
    "in_order",
    "instant",
    "member_named",
    "role_named",
    "unused_label",
]

_ID_MIN: Final = 6
"""Hex digits of an id that are enough to mean it."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """Whom an act is about: all devices of a member (`whole`), or one of several."""

    member: bytes
    display: str
    entries: tuple[Entry, ...]
    whole: bool


def role_named(word: str) -> Tier:
    """The role called `word`. Raises UsageError."""
    found = Tier.__members__.get(word.upper())
    if found is None or found is Tier.RECOVERY:
        raise UsageError(f"There is no role '{word}'.", "Roles are reader, writer, admin and owner.")
    return found


def in_order(membership: Membership) -> list[Entry]:
    """The roster, highest role first, the devices of a member together."""
    roster = membership.resolved.roster.values()
    best = {one.member: max(other.role for other in roster if other.member == one.member) for one in roster}
    return sorted(
        roster, key=lambda one: (-best[one.member], one.display, one.member, -one.role, one.device.label, one.id)
    )


def called(membership: Membership, entry: bytes) -> set[str]:
    """All ways to say who an entry is, also one that is out: as lists show it, NAME, and NAME/DEVICE."""
    op = membership.graph.node(entry).statement.payload.op
    names = {membership.name_of(entry)}
    return names | {op.display, f"{op.display}/{op.device.label}"} if isinstance(op, Add | Genesis) else names


def choose(membership: Membership, word: str) -> Chosen:
    """The member or device that `word` means: a name, NAME/DEVICE, or six digits and more of an id.

    Raises UsageError if nobody or more than one fits.
    """
    roster = in_order(membership)
    by_member = {one.member: [other for other in roster if other.member == one.member] for one in roster}
    found = {
        member: devices
        for member, devices in by_member.items()
        if any(one.display == word for one in devices) or _is_id(word, member)
    }
    if len(found) == 1:
        ((member, devices),) = found.items()
        return Chosen(member, devices[0].display, tuple(devices), whole=True)
    single = [one for one in roster if f"{one.display}/{one.device.label}" == word or _is_id(word, one.id)]
    if len(single) == 1:
        one = single[0]
        return Chosen(one.member, one.display, (one,), whole=len(by_member[one.member]) == 1)
    if not found and not single:
        raise UsageError(f"There is nobody called '{word}' in the group.", "See `cryptfs-admin members`.")
    ids = ", ".join([*(member.hex()[:8] for member in found), *(one.id.hex()[:8] for one in single)])
    raise UsageError(f"'{word}' can mean several: {ids}", "Give one of these ids instead.")


def member_named(membership: Membership, word: str) -> bytes:
    """The id of the one member called `word`, empty if there is none. Raises UsageError if there are several."""
    found = {one.member for one in membership.resolved.roster.values() if one.display == word}
    found |= {one.member for one in membership.resolved.roster.values() if _is_id(word, one.member)}
    if len(found) > 1:
        ids = ", ".join(one.hex()[:8] for one in sorted(found))
        raise UsageError(f"'{word}' can mean several members: {ids}", "Give one of these ids instead.")
    return next(iter(found), b"")


def unused_label(membership: Membership, member: bytes, label: str) -> str:
    """`label`, with a number if another device of the member has it: what is listed must tell them apart."""
    taken = {one.device.label for one in membership.resolved.roster.values() if one.member == member}
    number, candidate = 1, label
    while candidate in taken:
        number += 1
        candidate = f"{label[:58]} {number}"
    return candidate


def describe(
    membership: Membership, seen_ms: Mapping[bytes, int], certificates: Mapping[bytes, Finding]
) -> list[dict[str, object]]:
    """The roster as JSON values, one device each.

    `seen_ms`: log id -> clock of the last segment's author; `certificates`: what is said of each entry's.
    """
    return [_described(membership, one, seen_ms, certificates[one.id]) for one in in_order(membership)]


def _described(
    membership: Membership, entry: Entry, seen_ms: Mapping[bytes, int], certificate: Finding
) -> dict[str, object]:
    graph = membership.graph
    seen = max((seen_ms[one] for one in graph.logs_of(entry.id) if one in seen_ms), default=None)
    return {
        "entry": entry.id.hex(),
        "member_id": entry.member.hex(),
        "member": entry.display,
        "device": entry.device.label,
        "role": entry.role.name.lower(),
        "certificate": certificate.until,
        "certificate_remark": certificate.remark,
        "without_new_keys": certificate.refused,
        "since": instant(graph.node(entry.id).statement.payload.time_ms),
        "last_seen": None if seen is None else instant(seen),
        "added_by": "founder" if entry.how is None else membership.name_of(entry.adder),
        "left": _has_left(membership, entry),
        "own": membership.entry is not None and membership.entry.id == entry.id,
    }


def _has_left(membership: Membership, entry: Entry) -> bool:
    """Whether the device itself closed a log of its own: `cryptfs leave` does, as a sign for the administrators."""
    own = membership.graph.logs_of(entry.id)
    for one in membership.resolved.valid:
        node = membership.graph.node(one)
        op = node.statement.payload.op
        # An administrator's close of somebody else's log says nothing about the administrator.
        if isinstance(op, Close) and node.author.entry == entry.id and any(cut.log_id in own for cut in op.cuts):
            return True
    return False


def instant(ms: int) -> str:
    """A time in ms since 1970 as text that sorts, to the second; "?" if no calendar knows it."""
    try:
        return dt.datetime.fromtimestamp(ms // 1000, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError, OSError):
        return "?"


def _is_id(word: str, one: bytes) -> bool:
    return len(word) >= _ID_MIN and one.hex().startswith(word.lower())
