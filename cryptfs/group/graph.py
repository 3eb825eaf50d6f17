"""The statements of a vault as a graph: who signed what after having seen what (docs/membership.md, "The graph").

Statements arrive in any order; each is admitted once everything it names is here and its signature verifies. Ancestors
are kept as bits of one integer, so "had its author seen that?" is one machine operation even with thousands of them.
A *view* is a set of statements that contains the ancestors of its members, in the same bits.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NewType

from cryptfs.errors import AuthError, HostileStore
from cryptfs.format.statement import RECOVERY_AUTHOR, Add, Genesis, NewLog, Statement
from cryptfs.group.authority import RECOVERY, Admission, Tier, epoch_of, founder, judge, newcomer

__all__ = ["FRONTIER_MAX", "Node", "StatementGraph", "View"]

FRONTIER_MAX: Final = 256
"""Statements that `prev` or `mheads` may cite."""

View = NewType("View", int)
"""A set of statements closed under ancestors; bit i is the i-th statement admitted here."""


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """A statement in its place: `bit` is a set of it alone, `ancestors` many bits; `flaw` says why it has no effect."""

    statement: Statement
    id: bytes
    bit: int
    ancestors: int
    author: Admission
    flaw: str


class StatementGraph:
    """All statements of one vault that were handed in, in any order; grows, never shrinks. No I/O.

    What can be asked depends on the set of statements only, never on the order they came in.
    """

    def __init__(self, vault: bytes) -> None:
        self.vault = vault
        self._nodes: list[Node] = []
        self._by_id: dict[bytes, Node] = {}
        self._admissions: dict[bytes, Admission] = {}
        self._logs: dict[bytes, tuple[Node, Admission]] = {}
        self._logs_of: dict[bytes, list[bytes]] = {}
        self._by_commit: dict[bytes, int] = {}
        self._waiting: dict[bytes, dict[bytes, Statement]] = {}  # id -> signature -> copy; a copy may be forged
        self._waited_for: dict[bytes, set[bytes]] = {}
        self.forged: set[bytes] = set()
        """Ids of statements whose signature does not verify, or whose author is no entry."""

    # ---- growing ---------------------------------------------------------------------------------------------------

    def add(self, statement: Statement) -> None:
        """Take a statement in; it waits if it names what is not here yet. A second copy changes nothing.

        Never raises for what the statement says: `forged` and `waiting` tell.
        """
        ready = [statement]
        while ready:
            one = ready.pop()
            if one.id in self._by_id:
                continue
            missing = self._missing(one)
            if missing is not None:
                self._waiting.setdefault(one.id, {})[one.signature] = one
                self._waited_for.setdefault(missing, set()).add(one.id)
            elif self._admit(one):
                self._waiting.pop(one.id, None)
                for late in self._waited_for.pop(one.id, ()):
                    ready += self._waiting.pop(late, {}).values()

    def _missing(self, statement: Statement) -> bytes | None:
        """The first thing the statement names that is not here."""
        if statement.id == self.vault:
            return None
        author = statement.payload.author
        needed = statement.payload.prev + ((self.vault,) if author == RECOVERY_AUTHOR else (author,))
        return next((one for one in needed if one not in self._by_id), None)

    def _admit(self, statement: Statement) -> bool:
        author = self._author(statement)
        try:
            if author is None:
                raise AuthError("a statement names an author who is no device")
            statement.verify(self._key_of(author, statement))
        except HostileStore:
            self.forged.add(statement.id)
            return False
        self.forged.discard(statement.id)  # an earlier copy may have carried a wrong signature
        ancestors = 0
        for earlier in statement.payload.prev:
            node = self._by_id[earlier]
            ancestors |= node.ancestors | node.bit
        flaw = "" if statement.id == self.vault else judge(statement, author, _Past(self, ancestors))
        node = Node(statement, statement.id, 1 << len(self._nodes), ancestors, author, flaw)
        self._nodes.append(node)
        self._by_id[statement.id] = node
        self._register(node)
        return True

    def _author(self, statement: Statement) -> Admission | None:
        op = statement.payload.op
        if statement.id == self.vault:
            return founder(self.vault, op) if isinstance(op, Genesis) else None
        if statement.payload.author == RECOVERY_AUTHOR:
            return RECOVERY
        return self._admissions.get(statement.payload.author)

    def _key_of(self, author: Admission, statement: Statement) -> bytes:
        if author is not RECOVERY:
            return author.sign_pub
        genesis = self._by_id[self.vault].statement.payload.op
        if not isinstance(genesis, Genesis) or genesis.recovery is None or isinstance(statement.payload.op, Genesis):
            raise AuthError("this vault has no recovery key")
        return genesis.recovery.sign_pub

    def _register(self, node: Node) -> None:
        """Index what the statement brings into being, whether or not it has effect."""
        op = node.statement.payload.op
        if isinstance(op, Genesis) and node.id == self.vault:
            self._enter(node, founder(self.vault, op))
        elif isinstance(op, Add):
            self._enter(node, newcomer(node.id, op, node.author))
        elif isinstance(op, NewLog) and not node.flaw:
            self._open_log(node, node.author)
        epoch = epoch_of(node.statement)
        if epoch is not None:
            self._by_commit[epoch.commit] = self._by_commit.get(epoch.commit, 0) | node.bit

    def _enter(self, node: Node, admission: Admission) -> None:
        self._admissions[node.id] = admission
        if admission.tier >= Tier.WRITER:
            self._open_log(node, admission)

    def _open_log(self, node: Node, owner: Admission) -> None:
        # Ids are hashes: a second statement with the same first 16 bytes would take 2^64 tries of one's own.
        if self._logs.setdefault(node.id[:16], (node, owner))[0] is node:
            self._logs_of.setdefault(owner.entry, []).append(node.id[:16])

    # ---- asking ----------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._nodes)

    def __contains__(self, statement_id: bytes) -> bool:
        return statement_id in self._by_id

    @property
    def genesis(self) -> Genesis | None:
        """What the genesis says, if it is here."""
        node = self._by_id.get(self.vault)
        op = node.statement.payload.op if node else None
        return op if isinstance(op, Genesis) else None

    @property
    def waiting(self) -> frozenset[bytes]:
        """Ids of statements that name something not here."""
        return frozenset(self._waiting)

    @property
    def absent(self) -> frozenset[bytes]:
        """Ids that statements name and that are neither here nor waiting themselves."""
        late = [copy for copies in self._waiting.values() for copy in copies.values()]
        named = {one for copy in late for one in (*copy.payload.prev, copy.payload.author)}
        return frozenset(named - set(self._by_id) - set(self._waiting) - {RECOVERY_AUTHOR})

    def node(self, statement_id: bytes) -> Node:
        """The statement in its place. Raises KeyError if it is not here."""
        return self._by_id[statement_id]

    def admission(self, entry: bytes) -> Admission | None:
        """What the admission of `entry` fixes, valid or not; for 32 zero bytes the recovery key."""
        return RECOVERY if entry == RECOVERY_AUTHOR else self._admissions.get(entry)

    def entries(self) -> Iterable[Admission]:
        """Everybody any statement ever tried to admit."""
        return self._admissions.values()

    def log_owner(self, log_id: bytes) -> Admission | None:
        """The entry a log belongs to, None for a log no statement opens."""
        found = self._logs.get(log_id)
        return found[1] if found else None

    def log_opener(self, log_id: bytes) -> Node | None:
        """The `add`, genesis or `log` statement that opens a log."""
        found = self._logs.get(log_id)
        return found[0] if found else None

    def logs_of(self, entry: bytes) -> tuple[bytes, ...]:
        """Ids (16 bytes) of all logs of an entry, the first one first."""
        return tuple(self._logs_of.get(entry, ()))

    @property
    def everything(self) -> View:
        """All statements that are here."""
        return View((1 << len(self._nodes)) - 1)

    def view(self, ids: Iterable[bytes]) -> View:
        """closure(ids): the statements named and all their ancestors. Raises KeyError if one is not here."""
        bits = 0
        for one in ids:
            node = self._by_id[one]
            bits |= node.ancestors | node.bit
        return View(bits)

    def before(self, node: Node) -> View:
        """What the author of `node` had seen."""
        return View(node.ancestors)

    def nodes(self, view: View) -> Iterator[Node]:
        """The statements of a view, each after its ancestors; otherwise in no order to rely on."""
        return (node for node in self._nodes if node.bit & view) if view != self.everything else iter(self._nodes)

    def maximal(self, nodes: Iterable[Node]) -> list[Node]:
        """Those of `nodes` that are no ancestor of another one of them, by id."""
        found = list(nodes)
        covered = 0
        for node in found:
            covered |= node.ancestors
        return sorted((node for node in found if not node.bit & covered), key=lambda node: node.id)

    def frontier(self, valid: Iterable[bytes], carried: View) -> tuple[bytes, ...]:
        """What a new statement or segment cites: the maximal elements of the valid statements and of `carried`.

        `carried` is the closure of what applied segments cite. Void statements that no segment carries are left out,
        so whoever was removed cannot make the list long. A member could; beyond 256 those carried and those of the
        highest rank are kept, the rest wait for a later citation.
        """
        view = View(self.view(valid) | carried)
        top = self.maximal(self.nodes(view))
        if len(top) > FRONTIER_MAX:
            top.sort(key=lambda node: (not node.bit & carried, -node.author.tier, node.author.depth, node.id))
            top = top[:FRONTIER_MAX]
        return tuple(sorted(node.id for node in top))


class _Past:
    """The ancestors of one statement, as `authority.judge` asks about them."""

    def __init__(self, graph: StatementGraph, ancestors: int) -> None:
        self._graph = graph
        self._ancestors = ancestors

    def holds(self, statement_id: bytes) -> bool:
        graph = self._graph
        return statement_id in graph and bool(graph.node(statement_id).bit & self._ancestors)

    def admission(self, entry: bytes) -> Admission | None:
        return self._graph.admission(entry) if self.holds(entry) else None

    def logs_of(self, entry: bytes) -> set[bytes]:
        return {log_id for log_id in self._graph.logs_of(entry) if self.owner_of(log_id) is not None}

    def owner_of(self, log_id: bytes) -> Admission | None:
        opener = self._graph.log_opener(log_id)
        if opener is None or not opener.bit & self._ancestors:
            return None
        return self._graph.log_owner(log_id)

    def commit_used(self, commit: bytes) -> bool:
        return bool(self._graph._by_commit.get(commit, 0) & self._ancestors)  # noqa: SLF001  # the graph's own half
