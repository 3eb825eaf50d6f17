"""Resolve the statements into one answer: who is in, which epochs count, whose policy holds (docs/membership.md).

Several administrators act at the same time, offline, and some of them have been removed by others. Nobody's clock, no
order of arrival and no hash decides between them, only rank, which was fixed when each entry was added:

    Strong removal. Whatever an entry signed that its remover had not seen is void, whether late or backdated - provided
    the removal itself is valid, and its author stands above the removed.

Whether a removal is valid depends only on entries of strictly higher rank (tier, then depth in the tree of adders). So
one pass from the highest rank down answers everything, without recursion, and the answer is a function of the set.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from cryptfs.crypto.keys import eid
from cryptfs.errors import HostileStore
from cryptfs.format.statement import Add, Device, Epoch, Genesis, Policy, Remove, Renew, SetPolicy, Statement
from cryptfs.group.authority import RECOVERY, Admission, Tier, epoch_of, superior
from cryptfs.group.graph import Node, StatementGraph, View

__all__ = ["Entry", "EpochStart", "Resolved", "Resolver", "resolve"]

_REMOVED: Final = "its author was removed by somebody who had not seen it"
_NOT_ADMITTED: Final = "the admission of its author has no effect"
_REMEMBERED: Final = 64
"""Resolutions kept; each segment asks for that of its own citations, and neighbours cite the same."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One device of one member in one role. `certs` are those in force (DER): its first, or its maximal renewals."""

    id: bytes  # 32 bytes, the statement that admits it
    member: bytes  # 16 bytes
    display: str
    role: Tier
    device: Device
    certs: tuple[bytes, ...]
    adder: bytes  # entry id, zeros for the recovery key
    how: int | None  # 0 words compared, 1 token, 2 by certificate; None for the founder


@dataclass(frozen=True, slots=True)
class EpochStart:
    """An epoch and the statement that starts it."""

    statement: bytes
    author: bytes
    eid: bytes
    epoch: Epoch


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a set of statements means. Equal sets give equal answers. Ids are 32 bytes, epoch ids 16."""

    vault: bytes
    roster: Mapping[bytes, Entry]  # by entry id
    valid: frozenset[bytes]
    void: Mapping[bytes, str]  # statement id -> why it has no effect
    removals: Mapping[bytes, tuple[bytes, ...]]  # entry -> valid removals that hit it
    contested: frozenset[bytes]  # entries out only because they were added while somebody else removed them
    epochs: tuple[EpochStart, ...]  # the maximal valid ones, by epoch id: M
    policy: Policy
    policy_by: bytes  # id of the statement it stands in
    policies: tuple[bytes, ...]  # all maximal policy statements; more than one: the owners are told

    @property
    def eids(self) -> tuple[bytes, ...]:
        """Ids of the epochs of M, ascending: the key set for everything new."""
        return tuple(sorted({one.eid for one in self.epochs}))

    def role(self, entry: bytes) -> Tier | None:
        """The role of an entry of the roster, RECOVERY for 32 zero bytes, None for everybody else."""
        if entry == RECOVERY.entry:
            return Tier.RECOVERY
        found = self.roster.get(entry)
        return found.role if found else None

    def owners(self) -> list[Entry]:
        """Owners in the roster."""
        return [one for one in self.roster.values() if one.role is Tier.OWNER]


class Resolver:
    """Resolves views of one graph and remembers the latest answers. One task at a time."""

    def __init__(self, graph: StatementGraph) -> None:
        self.graph = graph
        self._known: OrderedDict[View, Resolved] = OrderedDict()

    def __call__(self, view: View | None = None) -> Resolved:
        """The meaning of `view`, by default of everything here.

        Raises HostileStore if the genesis is not in it.
        """
        wanted = self.graph.everything if view is None else view
        found = self._known.get(wanted)
        if found is None:
            found = _resolve(self.graph, wanted)
            self._known[wanted] = found
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return found

    def at(self, cited: Iterable[bytes]) -> Resolved:
        """The membership resolved over closure(cited). Raises KeyError if a cited statement is not here."""
        return self(self.graph.view(cited))


def resolve(vault: bytes, statements: Iterable[Statement]) -> Resolved:
    """The meaning of a set of statements of one vault, in any order. Raises HostileStore without the genesis."""
    graph = StatementGraph(vault)
    for statement in statements:
        graph.add(statement)
    return Resolver(graph)()


# ---- the pass from the highest rank down -----------------------------------------------------------------------------


class _Removals:
    """The valid removals found so far, by what they hit."""

    def __init__(self) -> None:
        self._by_target: dict[bytes, list[Node]] = {}
        self._by_likeness: dict[bytes, list[Node]] = {}

    def take(self, node: Node, op: Remove, graph: StatementGraph) -> None:
        """Remember a valid removal."""
        for target in op.targets:
            self._by_target.setdefault(target, []).append(node)
            removed = graph.admission(target)
            if removed is not None:
                self._by_likeness.setdefault(removed.sign_pub, []).append(node)
        for member in op.members:
            self._by_likeness.setdefault(member, []).append(node)

    def hitting(self, entry: Admission, place: Node) -> tuple[list[Node], list[Node]]:
        """hits(R, entry): removals that name it, and those of the same member or device made without seeing it."""
        named = [node for node in self._by_target.get(entry.entry, ()) if superior(node.author, entry)]
        alike = self._by_likeness.get(entry.sign_pub, []) + self._by_likeness.get(entry.member, [])
        return named, [
            node
            for node in dict.fromkeys(alike)
            if not place.bit & node.ancestors
            and not node.bit & place.ancestors
            and node not in named
            and superior(node.author, entry)
        ]


def _resolve(graph: StatementGraph, view: View) -> Resolved:
    if graph.vault not in graph or not graph.node(graph.vault).bit & view:
        raise HostileStore("The genesis of this vault is not here.")
    by_author: dict[bytes, list[Node]] = {}
    void: dict[bytes, str] = {}
    entrants: list[tuple[Admission, Node]] = []
    for node in graph.nodes(view):
        entry = graph.admission(node.id)
        if entry is not None:
            entrants.append((entry, node))
        if node.id == graph.vault:
            continue
        if node.flaw:
            void[node.id] = node.flaw
        else:
            by_author.setdefault(node.author.entry, []).append(node)

    valid: dict[bytes, Node] = {graph.vault: graph.node(graph.vault)}
    removals = _Removals()
    hit_by: dict[bytes, tuple[list[Node], list[Node]]] = {}
    # Equal ranks cannot touch each other, so their order among themselves does not matter.
    entrants.sort(key=lambda pair: (-pair[0].tier, pair[0].depth))
    for author, place in [(RECOVERY, graph.node(graph.vault)), *entrants]:
        named, alike = hit_by[author.entry] = removals.hitting(author, place)
        for node in by_author.get(author.entry, ()):
            if place.id not in valid:
                void[node.id] = _NOT_ADMITTED
            elif any(not node.bit & removal.ancestors for removal in named + alike):
                void[node.id] = _REMOVED
            else:
                valid[node.id] = node
                op = node.statement.payload.op
                if isinstance(op, Remove):
                    removals.take(node, op, graph)
    return _answer(graph, valid, void, hit_by)


def _answer(
    graph: StatementGraph,
    valid: dict[bytes, Node],
    void: dict[bytes, str],
    hit_by: dict[bytes, tuple[list[Node], list[Node]]],
) -> Resolved:
    admitted = [entry for entry in hit_by if entry in valid]
    certs = _certificates(graph, valid.values())
    policies = _policies(graph, valid.values())
    deciding = min(policies, key=lambda node: (node.author.depth, node.id))
    return Resolved(
        vault=graph.vault,
        roster={entry: _entry(valid[entry], certs) for entry in sorted(admitted) if not any(hit_by[entry])},
        valid=frozenset(valid),
        void=dict(sorted(void.items())),
        removals={
            entry: tuple(sorted(node.id for node in hit_by[entry][0] + hit_by[entry][1]))
            for entry in sorted(admitted)
            if any(hit_by[entry])
        },
        contested=frozenset(entry for entry in admitted if hit_by[entry][1] and not hit_by[entry][0]),
        epochs=_epochs(graph, valid.values()),
        policy=_policy_in(deciding),
        policy_by=deciding.id,
        policies=tuple(node.id for node in policies),
    )


def _entry(node: Node, renewed: Mapping[bytes, tuple[bytes, ...]]) -> Entry:
    op = node.statement.payload.op
    if isinstance(op, Genesis):
        certs = renewed.get(node.id, (op.device.cert,))
        return Entry(node.id, op.member, op.display, Tier.OWNER, op.device, certs, RECOVERY.entry, None)
    if not isinstance(op, Add):
        raise TypeError("an entry is admitted by an add or the genesis")
    certs = renewed.get(node.id, (op.device.cert,))
    return Entry(node.id, op.member, op.display, Tier(op.role), op.device, certs, node.author.entry, op.how)


def _certificates(graph: StatementGraph, valid: Iterable[Node]) -> dict[bytes, tuple[bytes, ...]]:
    """The maximal valid renewals of each entry; several if they were made at the same time."""
    renewals: dict[bytes, list[Node]] = {}
    for node in valid:
        if isinstance(node.statement.payload.op, Renew):
            renewals.setdefault(node.author.entry, []).append(node)
    found: dict[bytes, tuple[bytes, ...]] = {}
    for entry, nodes in renewals.items():
        ops = [node.statement.payload.op for node in graph.maximal(nodes)]
        found[entry] = tuple(sorted({op.cert for op in ops if isinstance(op, Renew)}))
    return found


def _epochs(graph: StatementGraph, valid: Iterable[Node]) -> tuple[EpochStart, ...]:
    """M: every valid epoch that no other valid one has seen. No winner is picked among them."""
    starts = []
    for node in graph.maximal(node for node in valid if epoch_of(node.statement) is not None):
        epoch = epoch_of(node.statement)
        if epoch is not None:
            starts.append(EpochStart(node.id, node.author.entry, eid(epoch.commit), epoch))
    return tuple(sorted(starts, key=lambda one: (one.eid, one.statement)))


def _policies(graph: StatementGraph, valid: Iterable[Node]) -> list[Node]:
    found = graph.maximal(node for node in valid if isinstance(node.statement.payload.op, SetPolicy))
    return found or [graph.node(graph.vault)]


def _policy_in(node: Node) -> Policy:
    op = node.statement.payload.op
    if not isinstance(op, SetPolicy | Genesis):
        raise TypeError("a policy stands in a policy statement or the genesis")
    return op.policy
