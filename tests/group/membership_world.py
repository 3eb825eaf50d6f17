"""A small world for tests of the resolver: people with signing keys, statements with any past, real signatures.

Certificates are plain text here, since no rule of the resolver reads them; secrets are numbers, since who can know what
is followed by `reference_rules.py`. Everything random comes from one seed.
"""

import hashlib
import importlib
import importlib.util
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from random import Random
from types import ModuleType, SimpleNamespace

from cryptfs.crypto.keys import sign_public
from cryptfs.crypto.recovery import RecoverySecret
from cryptfs.format.statement import (
    RECOVERY_AUTHOR,
    Accept,
    Add,
    Close,
    Cut,
    Device,
    Epoch,
    Genesis,
    NewLog,
    Policy,
    Recovery,
    Remove,
    Renew,
    Rotate,
    SetPolicy,
    Statement,
    make_genesis,
    make_statement,
    prove_possession,
)

READER, WRITER, ADMIN, OWNER = range(4)
ROOMS = ("authority", "graph", "roster", "gate", "ends", "validity", "memory")


def real_group() -> SimpleNamespace:
    """The modules of the group room as they are."""
    return SimpleNamespace(**{name: importlib.import_module(f"cryptfs.group.{name}") for name in ROOMS})


def mutant_group(room: str, old: str, new: str) -> SimpleNamespace:
    """The same modules with one rule broken: `old`, which stands once in the source of `room`, becomes `new`."""
    source = Path(importlib.import_module(f"cryptfs.group.{room}").__file__ or "").read_text()
    assert source.count(old) == 1, f"{old!r} is not in {room}.py exactly once"
    real_group()  # all of them are loaded
    kept = {f"cryptfs.group.{name}": sys.modules[f"cryptfs.group.{name}"] for name in ROOMS}
    package = sys.modules["cryptfs.group"]
    try:
        for name in kept:
            del sys.modules[name]
        made = {name: _load(name, source.replace(old, new) if name == room else None) for name in ROOMS}
    finally:
        sys.modules.update(kept)
        for name in ROOMS:
            setattr(package, name, kept[f"cryptfs.group.{name}"])
    return SimpleNamespace(**made)


def _load(name: str, source: str | None) -> ModuleType:
    full = f"cryptfs.group.{name}"
    spec = importlib.util.find_spec(full)
    assert spec is not None
    assert spec.origin is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[full] = module
    text = Path(spec.origin).read_text() if source is None else source
    exec(compile(text, spec.origin, "exec"), module.__dict__)
    return module


@dataclass(frozen=True)
class Person:
    """Somebody with the keys of one device."""

    name: str
    member: bytes
    cert: bytes
    seed: bytes

    @cached_property
    def public(self) -> bytes:
        return sign_public(self.seed)

    @property
    def device(self) -> Device:
        return Device(self.cert, self.public, b"", self.name)


class World:
    """Makes statements and remembers all of them. `world.vault` is both V and the founder's entry."""

    def __init__(self, group: SimpleNamespace, seed: int = 0, *, recovery: bool = True) -> None:
        self.group = group
        self.rng = Random(seed)
        self.people: dict[bytes, Person] = {}
        self.recovery = RecoverySecret(self.rng.randbytes(32))
        public = Recovery(self.recovery.public.sign_public, self.recovery.public.kem_public, b"") if recovery else None
        anna = self.person("Anna")
        policy = Policy(0, (), "", 0, 7, 0, 1, ())
        genesis = make_genesis(
            time_ms=0,
            nonce=self.rng.randbytes(16),
            op=Genesis("vault", anna.member, "Anna", anna.device, policy, public),
            sign_seed=anna.seed,
            recovery_seed=self.recovery.sign_seed if recovery else None,
        )
        self.vault = genesis.id
        self.anna = genesis.id
        self.people[genesis.id] = anna
        self.graph = group.graph.StatementGraph(self.vault)
        self.graph.add(genesis)
        self.resolver = group.roster.Resolver(self.graph)
        self.statements: list[Statement] = [genesis]

    # ---- people and views ------------------------------------------------------------------------------------------

    def person(self, name: str, member: bytes | None = None) -> Person:
        cert = b"certificate of " + name.encode() + self.rng.randbytes(8)
        return Person(name, member or self.rng.randbytes(16), cert, self.rng.randbytes(32))

    def now(self, view: int | None = None):
        """The resolved membership, of everything or of a view."""
        return self.resolver(view)

    def heads(self, *views: int) -> tuple[bytes, ...]:
        """What an honest author who has seen everything, or these views, cites."""
        view = 0
        for one in views:
            view |= one
        view = view or self.graph.everything
        return self.graph.frontier(self.now(view).valid, 0)

    def roster(self, view: int | None = None) -> set[bytes]:
        return set(self.now(view).roster)

    # ---- statements ------------------------------------------------------------------------------------------------

    def say(self, author: bytes, op, prev: tuple[bytes, ...] | None = None) -> bytes:
        """Publish a statement by an entry, or by the recovery key; `prev` is by default everything valid so far."""
        seed = self.recovery.sign_seed if author == RECOVERY_AUTHOR else self.people[author].seed
        statement = make_statement(
            vault=self.vault,
            prev=self.heads() if prev is None else tuple(sorted(prev)),
            author=author,
            time_ms=0,
            nonce=self.rng.randbytes(16),
            op=op,
            sign_seed=seed,
        )
        self.graph.add(statement)
        self.statements.append(statement)
        return statement.id

    def add(self, by: bytes, who: Person | str, role: int, prev: tuple[bytes, ...] | None = None) -> bytes:
        who = self.person(who) if isinstance(who, str) else who
        pop = prove_possession(self.vault, who.cert, who.public, who.seed)
        entry = self.say(by, Add(who.member, who.name, role, who.device, pop, 0, b"", None), prev)
        self.people[entry] = who
        return entry

    def epoch(self, to, commit: bytes | None = None) -> Epoch:
        return Epoch(commit or self.rng.randbytes(32), tuple(sorted(to)), b"")

    def remove(self, by: bytes, *targets: bytes, prev=None, members=(), to=None, cuts=None, commit=None) -> bytes:
        """A removal with the recipients and cuts an honest author would give, unless told otherwise."""
        cited = self.heads() if prev is None else prev
        view = self.graph.view(cited)
        if to is None:
            roster = self.now(view).roster
            to = [one for one in roster if one not in targets and roster[one].member not in members]
        if cuts is None:
            seen = [log for one in targets for log in self.graph.logs_of(one) if self._opened(log) & view]
            cuts = [Cut(log, 0, bytes(32)) for log in seen]
        cuts = tuple(sorted(cuts, key=lambda cut: cut.log_id))
        op = Remove(tuple(sorted(targets)), tuple(sorted(members)), cuts, self.epoch(to, commit))
        return self.say(by, op, cited)

    def _opened(self, log_id: bytes) -> int:
        return self.graph.log_opener(log_id).bit

    def rotate(self, by: bytes, prev=None, to=None, commit=None) -> bytes:
        cited = self.heads() if prev is None else prev
        to = self.now(self.graph.view(cited)).roster if to is None else to
        return self.say(by, Rotate(self.epoch(to, commit)), cited)

    def policy(self, by: bytes, days: int = 7, prev=None) -> bytes:
        return self.say(by, SetPolicy(Policy(0, (), "", 0, days, 0, 1, ())), prev)

    def new_log(self, by: bytes, closes=(), prev=None) -> bytes:
        return self.say(by, NewLog(tuple(closes)), prev)

    def close(self, by: bytes, *cuts: Cut, reason: int = 1, prev=None) -> bytes:
        return self.say(by, Close(tuple(sorted(cuts, key=lambda cut: cut.log_id)), reason), prev)

    def accept(self, by: bytes, *cuts: Cut, prev=None) -> bytes:
        return self.say(by, Accept(tuple(sorted(cuts, key=lambda cut: cut.log_id))), prev)

    def renew(self, by: bytes, cert: bytes, prev=None, seed: bytes | None = None) -> bytes:
        who = self.people[by]
        pop = prove_possession(self.vault, cert, who.public, seed or who.seed)
        return self.say(by, Renew(cert, pop), prev)

    def gate(self, handovers=()):
        return self.group.gate.key_gate(self.graph, self.now(), handovers)


def cut(log_id: bytes, count: int, last: bytes | None = None) -> Cut:
    return Cut(log_id, count, last if last is not None else digest(log_id, count - 1) if count else bytes(32))


def digest(log_id: bytes, seq: int, branch: str = "") -> bytes:
    """Stands for D of a segment."""
    return hashlib.sha256(log_id + seq.to_bytes(8, "big") + branch.encode()).digest()
