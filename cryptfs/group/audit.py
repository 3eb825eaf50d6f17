"""Audits what administrators did: key changes that shut somebody out or let somebody in.

See docs/membership.md, "Decisions". Nothing here makes a statement void. A member who holds the keys can always hand
them on; what the group can do is see who did, and say so with a name.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from cryptfs.crypto.keys import eid
from cryptfs.format.statement import HOW_CERTIFICATE, Add, Remove
from cryptfs.format.wraps import RECOVERY_ENTRY
from cryptfs.group.authority import epoch_of
from cryptfs.group.gate import Handover
from cryptfs.group.graph import Node
from cryptfs.group.roster import Resolver

__all__ = ["Oddity", "Remark", "audit"]


class Oddity(Enum):
    """What an audit remarks; the value is said to the person, with the author's name before it."""

    LEFT_OUT = "changed the key without giving it to everybody in the group"
    LET_IN = "gave the key to somebody who was not in the group"
    NOT_FOR_ME = "changed the key without wrapping it to this device"
    NOT_FOR_RECOVERY = "changed the key without wrapping it to the recovery key"
    KEY_MADE_FOR = "made the signing key of this device, and may have kept it"
    TOKEN_TWICE = "let in two devices with one invitation"  # noqa: S105  # words, not a secret


@dataclass(frozen=True, slots=True)
class Remark:
    """An oddity, the statement and author (entry ids) it is about, and the entries concerned."""

    oddity: Oddity
    statement: bytes
    author: bytes
    entries: tuple[bytes, ...] = ()


def audit(resolver: Resolver, handovers: Iterable[Handover], me: bytes | None = None) -> list[Remark]:
    """Everything odd among the valid statements, by statement id. `me`: own entry, to look for its wraps.

    `handovers` are those whose signature verified.
    """
    graph, now = resolver.graph, resolver()
    wrapped: dict[bytes, set[bytes]] = {}
    for handover in handovers:
        wrapped.setdefault(handover.eid, set()).update(entry for entry, _ in handover.to)
    remarks = []
    for node in sorted((graph.node(one) for one in now.valid), key=lambda node: node.id):
        if epoch_of(node.statement) is not None:
            remarks += _epoch_remarks(resolver, node, wrapped, me)
        op = node.statement.payload.op
        if isinstance(op, Add) and op.how == HOW_CERTIFICATE and node.id in now.roster:
            remarks.append(Remark(Oddity.KEY_MADE_FOR, node.id, node.author.entry, (node.id,)))
    return remarks + _tokens_used_twice(resolver)


def _epoch_remarks(resolver: Resolver, node: Node, wrapped: dict[bytes, set[bytes]], me: bytes | None) -> list[Remark]:
    graph, epoch = resolver.graph, epoch_of(node.statement)
    if epoch is None:
        return []
    op = node.statement.payload.op
    expected = set(resolver(graph.before(node)).roster) - (set(op.targets) if isinstance(op, Remove) else set())
    to = set(epoch.to)
    holders = wrapped.get(eid(epoch.commit), set())
    genesis = graph.genesis
    found = (
        (Oddity.LEFT_OUT, expected - to),
        (Oddity.LET_IN, to - expected),
        (Oddity.NOT_FOR_ME, {me} & to - holders if me is not None else set()),
        (
            Oddity.NOT_FOR_RECOVERY,
            {RECOVERY_ENTRY} - holders if genesis is not None and genesis.recovery is not None else set(),
        ),
    )
    return [Remark(oddity, node.id, node.author.entry, tuple(sorted(who))) for oddity, who in found if who]


def _tokens_used_twice(resolver: Resolver) -> list[Remark]:
    used: dict[bytes, list[Node]] = {}
    for statement in resolver().valid:
        node = resolver.graph.node(statement)
        op = node.statement.payload.op
        if isinstance(op, Add) and op.invite:
            used.setdefault(op.invite, []).append(node)
    return [
        Remark(Oddity.TOKEN_TWICE, node.id, node.author.entry, tuple(sorted(one.id for one in nodes)))
        for _, nodes in sorted(used.items())
        if len(nodes) > 1
        for node in sorted(nodes, key=lambda node: node.id)
    ]
