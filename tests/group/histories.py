"""Random histories: administrators who act at once, some of them removed, some with an invented past.

Each device has a view of its own and learns from the others in part. Devices in the roster of their own view act as an
honest client would; those outside go on as if nothing had happened, or cite whatever past suits them. What each device
really holds is followed secret by secret, so that a claim about who can read is checked against what was handed out.
"""

from dataclasses import dataclass, fields
from types import SimpleNamespace

from membership_world import ADMIN, OWNER, READER, WRITER, World

from cryptfs.format.statement import RECOVERY_AUTHOR, Remove, Rotate

STEPS = 36
HOSTILE_AT_THE_END = 12


class History:
    """A world after `STEPS` random steps; everything follows from `seed`."""

    def __init__(self, group: SimpleNamespace, seed: int) -> None:
        self.world = World(group, seed)
        self.rng = self.world.rng
        self.views = {self.world.anna: self.world.graph.everything}
        self.held: dict[bytes, set[bytes]] = {self.world.anna: set()}  # entry -> epoch statements it can open
        self.boxed: dict[bytes, set[bytes]] = {}  # epoch statement -> what its history box holds
        self.handovers: list[object] = []
        self._learn(self.world.anna, self.world.rotate(self.world.anna))
        for role in (OWNER, ADMIN, ADMIN, WRITER, READER):
            self._act(self.world.anna, "add", role)
        for _ in range(STEPS):
            self._step()

    # ---- who knows what --------------------------------------------------------------------------------------------

    def _learn(self, author: bytes, said: bytes) -> None:
        """The author has seen its own statement; a new epoch reaches its recipients and boxes what its author holds."""
        node = self.world.graph.node(said)
        if author != RECOVERY_AUTHOR:
            self.views[author] |= node.bit | node.ancestors
        op = node.statement.payload.op
        if isinstance(op, Remove | Rotate):
            everything = set(self.boxed)
            holds = everything if author == RECOVERY_AUTHOR else self.opened(self.held[author])
            self.boxed[said] = {one for one in holds if self.world.graph.node(one).bit & node.ancestors}
            for entry in {author, *op.epoch.to} - {RECOVERY_AUTHOR}:
                self.held.setdefault(entry, set()).add(said)

    def opened(self, secrets: set[bytes]) -> set[bytes]:
        """All epochs that somebody with these secrets can open, history boxes included."""
        found, left = set(secrets), list(secrets)
        while left:
            new = self.boxed[left.pop()] - found
            found |= new
            left += new
        return found

    # ---- steps -----------------------------------------------------------------------------------------------------

    def _step(self) -> None:
        author = self.rng.choice(sorted(self.views))
        chance = self.rng.random()
        entry = self.world.now(self.views[author]).roster.get(author)
        if chance < 0.2 or (entry is not None and entry.role < ADMIN):
            self._sync(author)
        elif chance < 0.22:
            self._act(RECOVERY_AUTHOR, self.rng.choice(["add", "remove", "rotate"]))
        elif entry is not None:
            self._act(author, self.rng.choice(["add", "remove", "remove", "rotate", "policy", "again"]))
        else:
            self._act(author, self.rng.choice(["add", "remove", "rotate", "policy"]), past=self._past(author))

    def _sync(self, entry: bytes) -> None:
        """Learn some of what another device has seen."""
        graph = self.world.graph
        other = self.views[self.rng.choice(sorted(self.views))]
        nodes = sorted(graph.nodes(other), key=lambda node: node.id)
        chosen = self.rng.sample(nodes, self.rng.randint(1, len(nodes))) if self.rng.random() < 0.5 else nodes
        self.views[entry] |= graph.view(node.id for node in chosen)

    def _past(self, entry: bytes) -> int:
        """Something that the entry may claim to be all it had seen; its own admission is always in it."""
        graph = self.world.graph
        nodes = sorted(graph.nodes(self.views[entry]), key=lambda node: node.id)
        return graph.view(
            [entry, *(node.id for node in self.rng.sample(nodes, self.rng.randint(0, min(4, len(nodes)))))]
        )

    def _act(self, author: bytes, what: str, role: int | None = None, past: int | None = None) -> None:
        world = self.world
        view = world.graph.everything if author == RECOVERY_AUTHOR else self.views[author]
        view = view if past is None else past
        prev = world.heads(view)
        if past is not None:
            prev = tuple(node.id for node in world.graph.maximal(world.graph.nodes(view)))
        roster = world.now(view).roster
        said = b""
        if what == "add":
            role = self._role(author, roster) if role is None else role
            said = world.add(author, f"device {len(world.statements)}", role, prev)
        elif what == "again":  # somebody known, in or out, gets in with the same member or even the same device
            who = world.people[self.rng.choice(sorted(world.people))]
            if self.rng.random() < 0.5:
                who = world.person(f"device {len(world.statements)}", who.member)
            said = world.add(author, who, self._role(author, roster), prev)
        elif what == "remove":
            said = self._remove(author, roster, prev)
        elif what == "rotate":
            said = world.rotate(author, prev)
        elif what == "policy":
            said = world.policy(author, self.rng.randint(1, 9), prev)
        if said and said in world.graph:
            if said in world.people:
                self.views.setdefault(said, world.graph.view([said]))
                self.held.setdefault(said, set())
                self._hand_on(author, said, view)
            self._learn(author, said)

    def _role(self, author: bytes, roster) -> int:
        """Any that an honest author of its role may give; outsiders ask for whatever they like."""
        modest = author in roster and roster[author].role == ADMIN
        return self.rng.choice([READER, WRITER] if modest else [READER, WRITER, ADMIN, ADMIN, OWNER])

    def _remove(self, author: bytes, roster, prev: tuple[bytes, ...]) -> bytes:
        """Remove somebody, or all of a member; an honest author only those below it, and never the last owner."""
        superior, me = self.world.group.authority.superior, self.world.graph.admission(author)
        honest = author in roster or author == RECOVERY_AUTHOR
        below = [one for one in sorted(roster) if one != author]
        if honest:
            below = [one for one in below if superior(me, self.world.graph.admission(one))]
        if not below:
            return b""
        target = self.rng.choice(below)
        whole = self.rng.random() < 0.3
        member = roster[target].member
        out = [one for one in below if roster[one].member == member] if whole else [target]
        if honest and not [one for one in roster if roster[one].role == OWNER and one not in out]:
            return b""
        return self.world.remove(author, *out, members=[member] if whole else [], prev=prev)

    def _hand_on(self, author: bytes, entry: bytes, view: int) -> None:
        """An honest client wraps the current epochs to whom it adds; that is a handover, and counts as such."""
        if author == RECOVERY_AUTHOR or entry not in self.world.roster(view | self.world.graph.node(entry).bit):
            return
        current = {one.statement for one in self.world.now(view).epochs}
        given = self.opened(self.held[author]) & current
        self.held[entry] |= given
        for one in self.world.now(view).epochs:
            if one.statement in given:
                self.handovers.append(self.world.group.gate.Handover(author, one.eid, frozenset({(entry, bytes(32))})))


# ---- what must hold after every history ------------------------------------------------------------------------


def answer(world: World):
    """Everything of the resolution that anybody acts upon."""
    now = world.now()
    return now.roster, now.epochs, now.policy_by, now.contested, now.valid


def check_order(history: History) -> None:
    """The answer is a function of the set of statements."""
    world = history.world
    shuffled = list(world.statements)
    history.rng.shuffle(shuffled)
    assert world.group.roster.resolve(world.vault, shuffled) == world.now()


def check_removed(history: History) -> None:
    """Whoever a valid removal names is out, for good; coming back takes a new entry."""
    world = history.world
    for one in world.now().valid:
        op = world.graph.node(one).statement.payload.op
        if isinstance(op, Remove):
            assert not set(op.targets) & world.roster()


def check_owner(history: History) -> None:
    """There is always an owner, and only the recovery key puts the founder out."""
    world = history.world
    assert world.now().owners()
    if world.anna not in world.roster():
        authors = {world.graph.node(one).author.entry for one in world.now().removals[world.anna]}
        assert authors == {RECOVERY_AUTHOR}


def check_secrecy(history: History) -> None:
    """Behind an open gate, all outsiders together with all they ever got cannot open some current epoch."""
    world = history.world
    if world.gate(history.handovers).open:
        outside = set(history.held) - world.roster()
        pooled = history.opened(set().union(*(history.held[one] for one in outside)))
        assert {one.statement for one in world.now().epochs} - pooled


def check_alone(history: History) -> None:
    """No outsider alone can open every current epoch. Random histories have not contradicted it; gates are for that."""
    world = history.world
    current = {one.statement for one in world.now().epochs}
    for one in set(history.held) - world.roster():
        assert current - history.opened(history.held[one])


def check_backdating(history: History) -> None:
    """T-backdate: nothing outsiders sign, with any past, changes the answer, shuts the gate or enters the frontier."""
    world = history.world
    outside = sorted(set(world.people) - world.roster())
    before, frontier, was_open = answer(world), world.heads(), world.gate(history.handovers).open
    for _ in range(HOSTILE_AT_THE_END if outside else 0):
        author = history.rng.choice(outside)
        history.views[author] = world.graph.everything
        history._act(author, history.rng.choice(["add", "remove", "rotate", "policy"]), past=history._past(author))
    assert answer(world) == before
    assert world.heads() == frontier
    assert world.gate(history.handovers).open or not was_open


def check_repair(history: History) -> None:
    """One rotation on top of everything leaves one epoch and an open gate."""
    world = history.world
    owner = min(one.id for one in world.now().owners())
    rotation = world.rotate(owner)
    assert [one.statement for one in world.now().epochs] == [rotation]
    assert world.gate(history.handovers).open


INVARIANTS = (check_order, check_removed, check_owner, check_secrecy, check_alone, check_backdating, check_repair)
"""In this order: the last two add to the history."""


def broken_invariant(group: SimpleNamespace, seed: int) -> str:
    """The name of the first invariant that does not hold after the history of `seed`; empty if all do."""
    history = History(group, seed)
    for check in INVARIANTS:
        try:
            check(history)
        except AssertionError:
            return check.__name__
    return ""


@dataclass
class Turbulence:
    """How wild histories are. They would prove nothing if gates never closed and nobody was ever put out unseen."""

    histories: int = 0
    statements: int = 0
    outsiders: int = 0
    closed_gates: int = 0
    merged_keys: int = 0
    contested: int = 0
    void_by_removal: int = 0

    def note(self, history: History) -> None:
        world = history.world
        now = world.now()
        self.histories += 1
        self.statements += len(world.statements)
        self.outsiders += len(set(world.people) - set(now.roster))
        self.closed_gates += not world.gate().open
        self.merged_keys += len(now.epochs) > 1
        self.contested += bool(now.contested)
        self.void_by_removal += any("removed" in reason for reason in now.void.values())

    def add(self, other: "Turbulence") -> None:
        for one in fields(self):
            setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))
