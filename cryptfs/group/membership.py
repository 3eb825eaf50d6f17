"""The membership of a vault as one device sees it, from nothing but the bytes in the folder (docs/membership.md).

Everything that was uploaded is evidence at best: objects are cut off, replayed, forged, of other vaults, or made to
waste our time. What verifies is resolved; the rest is counted and named, and changes nothing.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from cryptfs.crypto.keyfile import DeviceKeys, Unwrap
from cryptfs.crypto.keys import PurposeKey, eid, enrol_info, local_key, sign_public, wrap_info
from cryptfs.crypto.recovery import RecoverySecret
from cryptfs.crypto.wrap import unwrap_x25519
from cryptfs.errors import AuthError, HostileStore, NeedsUpdate, NotAllowed
from cryptfs.format.header import ObjectClass, object_class
from cryptfs.format.statement import RECOVERY_AUTHOR, Add, Genesis, RawStatement, split_statement
from cryptfs.format.wraps import Wraps, WrapsPayload, parse_wraps
from cryptfs.group.authority import Tier, epoch_of
from cryptfs.group.epochs import KnownSecrets
from cryptfs.group.gate import Gate, Handover, key_gate
from cryptfs.group.graph import StatementGraph, View
from cryptfs.group.keyring import Keyring
from cryptfs.group.roster import Entry, Resolved, Resolver

__all__ = ["Ignored", "Membership", "open_membership"]

_NAMES_SHOWN: Final = 8
_WAITS: Final = "waits for a statement that is not here"
_FORGED: Final = "its signature does not verify"
_COPY: Final = "a second copy"
_NEWER: Final = "needs a newer cryptfs"


@dataclass(frozen=True, slots=True)
class Ignored:
    """Objects that were left out for one reason; `names` are the first few of `count`."""

    reason: str
    count: int
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Membership:
    """What the membership objects of a vault mean for one device. A value: new objects make a new one.

    `entry` is this device's own place in the roster, None if it has none (not yet admitted, removed, or the recovery
    key); `own` the ids of all entries that ever had its keys. `sign_seed` is the seed it signs with, also when that
    came with an admission by certificate; empty if there is none. `needs_update`: an administrator's statement is too
    new for this version, so nothing may be written.
    """

    graph: StatementGraph
    resolver: Resolver
    resolved: Resolved
    gate: Gate
    keyring: Keyring
    known: KnownSecrets
    handovers: tuple[Handover, ...]
    entry: Entry | None
    own: frozenset[bytes]
    sign_seed: bytes = field(repr=False)
    ignored: tuple[Ignored, ...]
    needs_update: bool
    damaged: frozenset[str]
    """Names of the objects that do not verify: another read, or another copy, may."""
    _objects: tuple[tuple[str, bytes], ...] = field(repr=False)
    _names: frozenset[str] = field(repr=False)
    _keys: DeviceKeys | RecoverySecret = field(repr=False)

    @property
    def vault(self) -> bytes:
        """V."""
        return self.graph.vault

    @property
    def role(self) -> Tier | None:
        """Role of this device in the roster; RECOVERY when opened with the recovery key; None outside."""
        if isinstance(self._keys, RecoverySecret):
            return Tier.RECOVERY
        return self.entry.role if self.entry else None

    @property
    def refused(self) -> tuple[tuple[bytes, str], ...]:
        """What was handed over and did not fit, with who or what it came from."""
        return tuple(self.known.refused)

    @property
    def removed_by(self) -> tuple[bytes, ...]:
        """Authors (entry ids) of the removals that put this device out; empty if it is in, or never was."""
        if self.entry:
            return ()
        removals = {one for mine in self.own for one in self.resolved.removals.get(mine, ())}
        return tuple(sorted({self.graph.node(one).author.entry for one in removals}))

    def local_key(self, purpose: str) -> PurposeKey:
        """The key of one kind of local state of this device. Raises NotAllowed for the recovery key: it keeps none."""
        if isinstance(self._keys, RecoverySecret):
            raise NotAllowed("the recovery key has no device")
        return local_key(self._keys.local_secret, purpose)

    def with_objects(self, more: Iterable[tuple[str, bytes]]) -> "Membership":
        """The membership after `more` objects (name, bytes) have appeared; they take the place of damaged ones."""
        new = tuple(more)
        again = self.damaged.intersection(name for name, _ in new)
        kept = (one for one in self._objects if one[0] not in again)
        return open_membership((*kept, *new), self.vault, self._keys)

    @property
    def size(self) -> int:
        """Bytes of all objects that were taken in, sound or not."""
        return sum(len(data) for _, data in self._objects)

    def has_object(self, name: str, data: bytes | None = None) -> bool:
        """Whether an object of this name, or exactly this object, was taken in, whatever became of it."""
        return name in self._names and (data is None or (name, data) in self._objects)

    def frontier(self, carried: View | None = None) -> tuple[bytes, ...]:
        """What a new statement or segment cites; `carried` is the closure of what applied segments cite."""
        return self.graph.frontier(self.resolved.valid, View(0) if carried is None else carried)

    def name_of(self, entry: bytes) -> str:
        """How to call an entry, in or out, to a person: display name and device; never to be trusted for anything."""
        return display_of(self.graph, entry)

    def name_of_log(self, log_id: bytes) -> str:
        """How to call whoever writes a log, likewise; a log that nobody opened by the beginning of its id."""
        owner = self.graph.log_owner(log_id)
        return self.name_of(owner.entry) if owner is not None else f"log {log_id.hex()[:8]}"


def display_of(graph: StatementGraph, entry: bytes) -> str:
    """The display name and device label that an entry was admitted under."""
    if entry == RECOVERY_AUTHOR:
        return "the recovery key"
    op = graph.node(entry).statement.payload.op if entry in graph else None
    if not isinstance(op, Add | Genesis):
        return "somebody unknown"
    return f"{op.display} ({op.device.label})" if op.device.label else op.display


def open_membership(
    objects: Iterable[tuple[str, bytes]], vault: bytes, keys: DeviceKeys | RecoverySecret
) -> Membership:
    """Resolve the statements and open the wraps among `objects`: (name, bytes) of the genesis and of `m/` and `w/`.

    `vault` is V as pinned on this device, `keys` whose view it is. The order of objects does not matter, and names only
    say which object is meant. Raises HostileStore if the genesis of this vault is not among them, NeedsUpdate if it is
    of a later version, Refused if the certificate and its private key do not belong together.
    """
    given = tuple(objects)
    intake = _Intake(vault)
    for name, data in given:
        intake.take(name, data)
    if intake.genesis_too_new:
        raise NeedsUpdate("this vault was made by a newer cryptfs")
    graph, resolver = intake.graph, Resolver(intake.graph)
    resolved = resolver()
    wraps = intake.opened_wraps()
    handovers = tuple(
        Handover(one.author, one.payload.eid, frozenset((rec.entry, rec.cert_fp) for rec in one.payload.recs))
        for one in wraps
    )
    gate = key_gate(graph, resolved, handovers)
    me = _Identity(vault, keys, graph, wraps)
    known = _secrets(graph, wraps, me)
    needs_update = intake.too_new(resolved)
    return Membership(
        graph=graph,
        resolver=resolver,
        resolved=resolved,
        gate=gate,
        keyring=Keyring(vault, known.secrets, resolved.eids, _closed(graph, resolved, gate)),
        known=known,
        handovers=handovers,
        entry=next((resolved.roster[one] for one in me.preferred if one in resolved.roster), None),
        own=frozenset(me.preferred),
        sign_seed=me.sign_seed,
        ignored=intake.ignored(),
        needs_update=needs_update,
        damaged=frozenset(intake.damaged),
        _objects=given,
        _names=frozenset(name for name, _ in given),
        _keys=keys,
    )


def _closed(graph: StatementGraph, resolved: Resolved, gate: Gate) -> str:
    if gate.open or not resolved.epochs:
        return "" if gate.open else "This vault has no key yet: `cryptfs init` was interrupted."
    names = sorted({display_of(graph, one) for one in gate.outsiders})
    return f"Waiting for an administrator's device to finish removing {' and '.join(names)}."


@dataclass(frozen=True, slots=True)
class _OpenedWraps:
    """Wraps that `author` really signed."""

    author: bytes
    payload: WrapsPayload


# ---- taking objects in -----------------------------------------------------------------------------------------------


class _Intake:
    """Sorts objects into a graph of statements, wraps, and what is left out."""

    def __init__(self, vault: bytes) -> None:
        self.graph = StatementGraph(vault)
        self._wraps: dict[bytes, tuple[str, Wraps]] = {}
        self._newer: list[tuple[str, RawStatement]] = []
        self._copies: dict[bytes, dict[bytes, str]] = {}  # statement id -> signature -> name
        self._left_out: dict[str, list[str]] = {}
        self.damaged: set[str] = set()

    def take(self, name: str, data: bytes) -> None:
        """Take in one object, whatever it is."""
        kind = object_class(data)
        try:
            if kind is ObjectClass.STATEMENT:
                self._statement(name, split_statement(data, self.graph.vault))
            elif kind is ObjectClass.WRAPS:
                self._take_wraps(name, parse_wraps(data, self.graph.vault))
            elif kind is not ObjectClass.CRL:
                self._leave(name, "is no membership object")
                self.damaged.add(name)
        except (HostileStore, NeedsUpdate) as err:
            self._leave(name, str(err))
            self.damaged.add(name)

    def _statement(self, name: str, raw: RawStatement) -> None:
        try:
            statement = raw.open()
        except NeedsUpdate:
            self._newer.append((name, raw))
            return
        # Only now: what does not open must not pass for the first copy of what does.
        copies = self._copies.setdefault(raw.id, {})
        if raw.signatures in copies:
            self._leave(name, _COPY)
            return
        copies[raw.signatures] = name
        self.graph.add(statement)

    @property
    def genesis_too_new(self) -> bool:
        """Whether the genesis is here in a later format; its hash is V, so nobody invented it."""
        return any(raw.is_genesis for _, raw in self._newer)

    def _take_wraps(self, name: str, wraps: Wraps) -> None:
        if wraps.digest in self._wraps:
            self._leave(name, _COPY)
        else:
            self._wraps[wraps.digest] = (name, wraps)

    def _leave(self, name: str, reason: str) -> None:
        self._left_out.setdefault(reason, []).append(name)

    def _key_of(self, author: bytes) -> bytes:
        admission = self.graph.admission(author)
        genesis = self.graph.genesis
        if author == RECOVERY_AUTHOR and genesis is not None and genesis.recovery is not None:
            return genesis.recovery.sign_pub
        if admission is None or author == RECOVERY_AUTHOR:
            raise AuthError("its author is not known here")
        return admission.sign_pub

    def opened_wraps(self) -> list[_OpenedWraps]:
        """The wraps whose signature verifies, in an order that does not depend on the store's."""
        opened = []
        for _, (name, wraps) in sorted(self._wraps.items()):
            try:
                key = self._key_of(wraps.author)
            except AuthError as err:
                self._leave(name, str(err))
                continue
            try:
                payload = wraps.open(key)
            except (HostileStore, NeedsUpdate) as err:
                self._leave(name, str(err))
                self.damaged.add(name)
            else:
                opened.append(_OpenedWraps(wraps.author, payload))
        return opened

    def too_new(self, resolved: Resolved) -> bool:
        """Whether an administrator of the roster signed a statement that this version cannot read.

        Others cannot stop everybody's writing by inventing one.
        """
        found = False
        for name, raw in self._newer:
            try:
                raw.verify(self._key_of(raw.author))
            except AuthError as err:
                self._leave(name, str(err))
                continue
            self._leave(name, _NEWER)
            role = resolved.role(raw.author)
            found = found or (role is not None and role >= Tier.ADMIN)
        return found

    def ignored(self) -> tuple[Ignored, ...]:
        """What was left out so far, by reason."""
        found = {reason: list(names) for reason, names in self._left_out.items()}
        for one, copies in self._copies.items():
            true = self.graph.node(one).statement.signature if one in self.graph else b""
            late = one in self.graph.waiting
            names = [name for signature, name in copies.items() if signature != true]
            if names:
                found.setdefault(_WAITS if late else _FORGED, []).extend(names)
                self.damaged.update(() if late else names)
        return tuple(
            Ignored(reason, len(names), tuple(sorted(names)[:_NAMES_SHOWN])) for reason, names in sorted(found.items())
        )


# ---- opening what is for us ------------------------------------------------------------------------------------------


class _Identity:
    """Whose view it is: which entries are its own, and how it opens a wrap."""

    def __init__(
        self, vault: bytes, keys: DeviceKeys | RecoverySecret, graph: StatementGraph, wraps: Iterable[_OpenedWraps]
    ) -> None:
        self.preferred: tuple[bytes, ...] = ()
        """Ids of the entries with these keys, the one in the key file first."""
        self.openers: Mapping[bytes, Unwrap]
        """What opens wraps to this device, by the fingerprint of the certificate they were made for."""
        if isinstance(keys, RecoverySecret):
            recovery = keys
            self.sign_seed = recovery.sign_seed
            self.recipients = {RECOVERY_AUTHOR}
            self.openers = {
                recovery.public.fingerprint: lambda alg, blob, info: unwrap_x25519(
                    recovery.kem_private, alg, blob, info
                )
            }
            return
        self.openers = keys.openers()
        self.sign_seed = keys.sign_seed or self._enrolled(vault, graph, wraps)
        sign_pub = sign_public(self.sign_seed) if self.sign_seed else b""
        mine = sorted(one.entry for one in graph.entries() if one.sign_pub == sign_pub)
        self.preferred = tuple(sorted(mine, key=lambda entry: (entry != keys.entry, entry)))
        self.recipients = set(mine)

    def _enrolled(self, vault: bytes, graph: StatementGraph, wraps: Iterable[_OpenedWraps]) -> bytes:
        """The signing seed that came with an admission by certificate; empty if none fits an entry."""
        for one in wraps:
            for rec in one.payload.enrol:
                admission = graph.admission(rec.entry)
                opener = self.openers.get(rec.cert_fp)
                if admission is None or opener is None:
                    continue
                try:
                    seed = opener(rec.alg, rec.blob, enrol_info(vault, rec.entry, rec.cert_fp))
                except AuthError:
                    continue
                if sign_public(seed) == admission.sign_pub:
                    return seed
        return b""


def _secrets(graph: StatementGraph, wraps: Iterable[_OpenedWraps], me: _Identity) -> KnownSecrets:
    commits, boxes = _announced(graph)
    known = KnownSecrets(graph.vault, commits, boxes)
    for one in wraps:
        epoch = one.payload.eid
        for rec in one.payload.recs:
            opener = me.openers.get(rec.cert_fp)
            if rec.entry not in me.recipients or opener is None or epoch in known.secrets:
                continue
            try:
                secret = opener(rec.alg, rec.blob, wrap_info(graph.vault, epoch, rec.cert_fp))
            except AuthError:
                known.refused.append((one.author, "a wrapped key does not open"))
                continue
            known.offer(epoch, secret, one.author)
    return known


def _announced(
    graph: StatementGraph,
) -> tuple[Mapping[bytes, frozenset[bytes]], Mapping[bytes, list[tuple[bytes, bytes]]]]:
    """Commits, and history boxes with their statement, by epoch id; of void statements too: they may turn valid."""
    commits: dict[bytes, frozenset[bytes]] = {}
    boxes: dict[bytes, list[tuple[bytes, bytes]]] = {}
    for node in sorted(graph.nodes(graph.everything), key=lambda node: node.id):
        epoch = epoch_of(node.statement)
        if epoch is not None:
            one = eid(epoch.commit)
            commits[one] = commits.get(one, frozenset()) | {epoch.commit}
            boxes.setdefault(one, []).append((node.id, epoch.hist))
    return commits, boxes
