"""The key gate: whether some current epoch is unknown to everybody outside the roster.

See docs/membership.md, "The key gate". Resolution alone is not enough twice: two removals that did not see each other
leave each removed member with one half of the merged key, and a removal that was void can become valid after somebody
rotated without it. So before anything is sealed, what every outsider may know is computed from above: each way in which
a secret travels counts as taken.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from cryptfs.crypto.keys import eid
from cryptfs.format.statement import RECOVERY_AUTHOR
from cryptfs.group.authority import Tier, epoch_of
from cryptfs.group.graph import Node, StatementGraph
from cryptfs.group.roster import Resolved

__all__ = ["Gate", "Handover", "key_gate"]


@dataclass(frozen=True, slots=True)
class Handover:
    """A signed record that `author` wrapped the secret of epoch `eid` (16 bytes).

    `to`: the recipients' entries, each with the fingerprint of the certificate it was wrapped to.
    """

    author: bytes
    eid: bytes
    to: frozenset[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Gate:
    """Whether anything may be sealed; if not, `outsiders` are those who together may know every current secret."""

    open: bool
    outsiders: tuple[bytes, ...] = ()


def key_gate(graph: StatementGraph, now: Resolved, handovers: Iterable[Handover]) -> Gate:
    """Whether some epoch of M is known to no entry outside the roster. `now` is the meaning of all of `graph`.

    `handovers` are the wraps whose signature verified. Without an epoch the gate is closed, for nobody's sake.
    """
    knowing = _knowing(graph, now, handovers)
    inside = sum(graph.node(entry).bit for entry in now.roster)
    leaks = [knowing[start.statement] & ~inside for start in now.epochs]
    if not all(leaks) and leaks:
        return Gate(open=True)
    pooled = 0
    for leak in leaks:
        pooled |= leak
    outsiders = (one.entry for one in graph.entries() if graph.node(one.entry).bit & pooled)
    return Gate(open=False, outsiders=tuple(sorted(outsiders)))


def _knowing(graph: StatementGraph, now: Resolved, handovers: Iterable[Handover]) -> dict[bytes, int]:
    """For each epoch statement, void ones included, the entries that may know its secret, as bits of their admissions.

    knows(x, e) is the least fixed point of: x issued e; e names x as recipient; the recovery key, or an admin or owner
    in the roster, wrapped e to x; x knows a later e', and its author is the recovery key or knows e: then e is boxed.
    """
    entries = {one.entry: graph.node(one.entry).bit for one in graph.entries()}
    handed: dict[bytes, int] = {}
    for handover in handovers:
        role = now.role(handover.author)
        if role is not None and role >= Tier.ADMIN:
            handed[handover.eid] = handed.get(handover.eid, 0) | _bits(entries, (entry for entry, _ in handover.to))
    starts: list[Node] = []
    knowing: dict[bytes, int] = {}
    for node in graph.nodes(graph.everything):
        epoch = epoch_of(node.statement)
        if epoch is not None:
            starts.append(node)
            direct = _bits(entries, (node.author.entry, *epoch.to))
            knowing[node.id] = direct | handed.get(eid(epoch.commit), 0)
    starts.reverse()  # descendants first: nearly everything is found in the first round
    while _open_boxes(starts, entries, knowing):
        pass
    return knowing


def _bits(entries: dict[bytes, int], ids: Iterable[bytes]) -> int:
    """Ids that belong to no entry count for nobody: nothing can be wrapped to them."""
    found = 0
    for one in ids:
        found |= entries.get(one, 0)
    return found


def _open_boxes(starts: list[Node], entries: dict[bytes, int], knowing: dict[bytes, int]) -> bool:
    """One round of history boxes, from each epoch to all before it. True if anybody learnt anything."""
    learnt = False
    for node in starts:
        author = entries.get(node.author.entry, 0)
        for earlier in starts:
            if not earlier.bit & node.ancestors:
                continue
            able = node.author.entry == RECOVERY_AUTHOR or author & knowing[earlier.id]
            if able and knowing[node.id] & ~knowing[earlier.id]:
                knowing[earlier.id] |= knowing[node.id]
                learnt = True
    return learnt
