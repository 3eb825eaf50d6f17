"""Makes membership decisions: the statement, and before it the wraps that it needs (docs/membership.md).

Each function returns objects in the order in which they are to be uploaded; it does no I/O, and the membership changes
only when the objects are in the folder. A decision that would have no effect, or that would leave the vault without an
owner, is refused here, since what is published cannot be taken back.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from cryptfs.crypto.certificate import fingerprint, same_key
from cryptfs.crypto.keys import epoch_commit, new_epoch_secret, new_sign_seed, random_bytes, sign_public
from cryptfs.crypto.recovery import RecoveryPublic
from cryptfs.errors import NotAllowed
from cryptfs.format.names import statement_name
from cryptfs.format.statement import (
    HOW_CERTIFICATE,
    RECOVERY_AUTHOR,
    Add,
    Anchor,
    Cut,
    Device,
    Epoch,
    Remove,
    Renew,
    Rotate,
    Statement,
    StatementOp,
    make_statement,
    prove_possession,
)
from cryptfs.format.wraps import RECOVERY_ENTRY
from cryptfs.group.authority import Tier
from cryptfs.group.epochs import box_history, worth_boxing
from cryptfs.group.graph import View
from cryptfs.group.handing import JudgeCertificate, Recipient, Signer, hand_over
from cryptfs.group.membership import Membership
from cryptfs.group.roster import Entry

__all__ = ["Decision", "Desk", "Newcomer"]


@dataclass(frozen=True, slots=True)
class Decision:
    """What to upload, in order, and the entries that could not be given a key, with the reason."""

    objects: tuple[tuple[str, bytes], ...] = field(repr=False)
    statement: Statement | None
    unreached: tuple[tuple[bytes, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Newcomer:
    """A device to be let in. `seed` only if its signing key was made here, for an admission by certificate alone."""

    member: bytes
    display: str
    role: int
    device: Device
    pop: bytes
    how: int
    invite: bytes = b""
    seed: bytes = field(default=b"", repr=False)


class Desk:
    """Where one administrator, or the recovery key, decides on one membership. Holds no state of its own.

    `carried` is the closure of what the applied segments cite; `judge` decides which certificates may receive keys now.
    """

    def __init__(
        self, membership: Membership, judge: JudgeCertificate, now_ms: int, carried: View | None = None
    ) -> None:
        self.membership = membership
        self._judge = judge
        self._now_ms = now_ms
        self._carried = carried
        if membership.role is None or not membership.sign_seed:
            raise NotAllowed("this device is not in the roster of the vault", "Ask an administrator to let it in.")
        author = membership.entry.id if membership.entry else RECOVERY_AUTHOR
        self._signer = Signer(author, membership.sign_seed)

    # ---- decisions -------------------------------------------------------------------------------------------------

    def say(self, op: StatementOp) -> Decision:
        """Any statement that needs no key: policy, log, close, accept, renew. Raises NotAllowed if it has no effect."""
        statement = self._statement(op)
        self._check(statement)
        return Decision(((statement_name(statement.id), statement.data),), statement)

    def rotate(self) -> Decision:
        """A new epoch for everybody in the roster."""
        return self._with_epoch(self.membership.resolved.roster.values(), Rotate)

    def remove(
        self, targets: Iterable[bytes], members: Iterable[bytes] = (), ends: Mapping[bytes, Cut] | None = None
    ) -> Decision:
        """Remove entries, and all of whole members; the key changes in the same statement.

        `ends`: where each of their logs ends, by log id, after a full pull; logs not named are cut at nothing.
        """
        graph, roster = self.membership.graph, self.membership.resolved.roster
        whole = tuple(sorted(set(members)))
        out = tuple(sorted({*targets, *(one.id for one in roster.values() if one.member in whole)}))
        seen = graph.view(self._prev())
        cuts = {}
        for target in out:
            for log_id in graph.logs_of(target):
                opener = graph.log_opener(log_id)
                if opener is not None and opener.bit & seen:
                    cuts[log_id] = (ends or {}).get(log_id, Cut(log_id, 0, bytes(32)))
        ordered = tuple(cuts[one] for one in sorted(cuts))
        whole = tuple(sorted(set(members)))
        stay = [
            one for one in self.membership.resolved.roster.values() if one.id not in out and one.member not in whole
        ]
        return self._with_epoch(stay, lambda epoch: Remove(out, whole, ordered, epoch))

    def admit(self, newcomer: Newcomer, as_of: Anchor | None = None) -> Decision:
        """Let a device in, with the current epochs wrapped to it.

        `as_of` is a segment that its first view must cover. Raises Refused for a certificate that may receive no keys,
        NotAllowed if the keys are those of another member, or if the statement would have no effect.
        """
        self._judge(newcomer.device.cert)
        self._check_keys_are_new(newcomer)
        op = Add(
            newcomer.member,
            newcomer.display,
            newcomer.role,
            newcomer.device,
            newcomer.pop,
            newcomer.how,
            newcomer.invite,
            as_of,
        )
        statement = self._statement(op)
        self._check(statement)
        held = self.membership.keyring.secrets()
        enrol = (statement.id, newcomer.seed) if newcomer.seed else None
        handed = [
            hand_over(
                self.membership.vault,
                self._signer,
                held[one],
                [Recipient(statement.id, (newcomer.device.cert,))],
                self._judge,
                enrol=enrol,
            )
            for one in self.membership.resolved.eids
            if one in held
        ]
        if not handed:
            raise NotAllowed("this device holds no current key to hand on", "Use another administrator's device.")
        return Decision((*(one.object for one in handed), (statement_name(statement.id), statement.data)), statement)

    def admit_by_certificate(
        self, *, member: bytes, display: str, label: str, role: int, cert: bytes, as_of: Anchor | None = None
    ) -> Decision:
        """Let the holder of a certificate in without asking for anything.

        Its signing key is made here, sealed to the certificate and forgotten. The administrator could have kept it, so
        the audit shows the entry until it is replaced through a join. Errors as `admit`.
        """
        seed = new_sign_seed()
        public = sign_public(seed)
        device = Device(cert, public, b"", label)
        pop = prove_possession(self.membership.vault, cert, public, seed)
        return self.admit(Newcomer(member, display, role, device, pop, HOW_CERTIFICATE, seed=seed), as_of)

    def change_role(self, entry: bytes, role: int, ends: Mapping[bytes, Cut] | None = None) -> list[Decision]:
        """Remove an entry and add its device again in another role; the second decision has seen the first.

        Authority never changes within an entry, so nothing it signed before is judged anew. `ends` as in `remove`.
        Raises NotAllowed if either half would have no effect.
        """
        op = (
            self.membership.graph.node(entry).statement.payload.op if entry in self.membership.resolved.roster else None
        )
        if not isinstance(op, Add):
            raise NotAllowed("only a device that was let in can change its role")
        device, pop = self._keys_in_force(entry, op)
        out = self.remove([entry], (), ends)
        after = Desk(self.membership.with_objects(out.objects), self._judge, self._now_ms, self._carried)
        again = Newcomer(op.member, op.display, role, device, pop, op.how)
        return [out, after.admit(again)]

    def reconcile(self) -> Decision | None:
        """What an administrator's client does after each sync; None if there is nothing to do.

        A rotation if several epochs are current or the key gate is closed; else the current epoch to those who lack it.
        Nobody can look into another's wraps, so a signed handover by an administrator of the roster counts as received.
        """
        now = self.membership.resolved
        if len(now.epochs) != 1 or not self.membership.gate.open:
            return self.rotate()
        current = now.eids[0]
        es = self.membership.keyring.secrets().get(current)
        trusted = [one for one in self.membership.handovers if one.eid == current and self._hands_keys(one.author)]
        received = {pair for one in trusted for pair in one.to}
        lacking = [
            Recipient(entry.id, certs)
            for entry in now.roster.values()
            if (certs := tuple(cert for cert in entry.certs if (entry.id, fingerprint(cert)) not in received))
        ]
        recovery = self._recovery()
        if recovery is not None and (RECOVERY_ENTRY, recovery.fingerprint) in received:
            recovery = None
        if es is None or (not lacking and recovery is None):
            return None
        handed = hand_over(self.membership.vault, self._signer, es, lacking, self._judge, recovery=recovery)
        if recovery is None and len(handed.unreached) == len(lacking):
            return None
        return Decision((handed.object,), None, handed.unreached)

    # ---- parts -----------------------------------------------------------------------------------------------------

    def _keys_in_force(self, entry: bytes, op: Add) -> tuple[Device, bytes]:
        """Device and proof of possession with the certificate that was renewed last, if one was."""
        graph, resolved = self.membership.graph, self.membership.resolved
        for statement in sorted(resolved.valid):
            node = graph.node(statement)
            renew = node.statement.payload.op
            if (
                isinstance(renew, Renew)
                and node.author.entry == entry
                and renew.cert == resolved.roster[entry].certs[0]
            ):
                return Device(renew.cert, op.device.sign_pub, op.device.pq_pub, op.device.label), renew.pop
        return op.device, op.pop

    def _hands_keys(self, author: bytes) -> bool:
        role = self.membership.resolved.role(author)
        return role is not None and role >= Tier.ADMIN

    def _prev(self) -> tuple[bytes, ...]:
        return self.membership.frontier(self._carried)

    def _statement(self, op: StatementOp) -> Statement:
        return make_statement(
            vault=self.membership.vault,
            prev=self._prev(),
            author=self._signer.author,
            time_ms=self._now_ms,
            nonce=random_bytes(16),
            op=op,
            sign_seed=self._signer.seed,
        )

    def _check(self, statement: Statement) -> None:
        """Refuse to publish what has no effect, or what takes away the last owner."""
        after = self.membership.with_objects([(statement_name(statement.id), statement.data)]).resolved
        if statement.id not in after.valid:
            raise NotAllowed(f"this would have no effect: {after.void.get(statement.id, 'it is not valid')}")
        if not after.owners():
            raise NotAllowed("no owner would remain in this vault", "Make somebody else an owner first.")

    def _recovery(self) -> RecoveryPublic | None:
        genesis = self.membership.graph.genesis
        if genesis is None or genesis.recovery is None:
            return None
        return RecoveryPublic(genesis.recovery.sign_pub, genesis.recovery.kem_pub)

    def _with_epoch(self, recipients: Iterable[Entry], make: Callable[[Epoch], StatementOp]) -> Decision:
        """A statement that starts an epoch, behind the wraps of it: whoever sees it can also open it."""
        vault = self.membership.vault
        es = new_epoch_secret()
        stay = sorted(recipients, key=lambda one: one.id)
        box = box_history(vault, es, worth_boxing(self.membership.known, self.membership.resolved.eids))
        statement = self._statement(make(Epoch(epoch_commit(vault, es), tuple(one.id for one in stay), box)))
        self._check(statement)
        handed = hand_over(
            vault,
            self._signer,
            es,
            [Recipient(one.id, one.certs) for one in stay],
            self._judge,
            recovery=self._recovery(),
        )
        for entry, why in handed.unreached:
            if entry == self._signer.author:  # it would shut itself out, and could hand the key to nobody any more
                raise NotAllowed(
                    f"This device could not receive the new key itself: {why}.",
                    "Renew its certificate (`cryptfs-admin renew`), or let another administrator do this.",
                )
        return Decision((handed.object, (statement_name(statement.id), statement.data)), statement, handed.unreached)

    def _check_keys_are_new(self, newcomer: Newcomer) -> None:
        """A certificate or signing key of another member would make one person look like two."""
        for one in self.membership.resolved.roster.values():
            if one.member == newcomer.member:
                continue
            certs = any(same_key(cert, newcomer.device.cert) for cert in one.certs)
            if certs or newcomer.device.sign_pub == one.device.sign_pub:
                raise NotAllowed(f"these keys belong to {one.display} already", "Each device makes keys of its own.")
