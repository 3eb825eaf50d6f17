"""Who may sign what: rank, and the conditions a statement meets or fails for ever (docs/membership.md).

"What can be judged at once" is its section there. Everything here looks at one statement and its ancestors only, so the
answer is the same on every device and never changes. Whether the author was removed meanwhile is the other half, in
`roster.py`.

    role                tier  may sign with effect
    recovery key        4     everything but what only a device can (log, renew); above every owner
    owner               3     + add anybody; remove admins, and owners below it in the tree of adders; policy
    admin               2     + add or remove writers and readers; rotate; close and accept their logs
    writer              1     log
    reader              0     renew
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final, Protocol

from cryptfs.errors import AuthError
from cryptfs.format.statement import (
    RECOVERY_AUTHOR,
    Accept,
    Add,
    Close,
    Epoch,
    Genesis,
    NewLog,
    Remove,
    Renew,
    Rotate,
    SetPolicy,
    Statement,
    check_possession,
)

__all__ = ["RECOVERY", "Admission", "Past", "Tier", "epoch_of", "founder", "judge", "newcomer", "superior"]


class Tier(IntEnum):
    """Rank of a role; the first four are the numbers of roles in statements."""

    READER = 0
    WRITER = 1
    ADMIN = 2
    OWNER = 3
    RECOVERY = 4


@dataclass(frozen=True, slots=True, eq=False)
class Admission:
    """What the admission of an entry fixes for ever: its role, who added it, and whether that chain reaches the top."""

    entry: bytes  # id of the `add` (32 bytes), zeros for the recovery key
    tier: Tier
    adder: "Admission | None"  # None for the recovery key only
    depth: int  # steps of adders up to the recovery key
    sound: bool  # every adder up the chain had the role to add the next
    member: bytes
    sign_pub: bytes

    def under(self, other: "Admission") -> bool:
        """Whether `other` stands somewhere above in the chain of adders."""
        above = self.adder
        while above is not None:
            if above.entry == other.entry:
                return True
            above = above.adder
        return False


RECOVERY: Final = Admission(RECOVERY_AUTHOR, Tier.RECOVERY, None, 0, True, b"", b"")
"""The recovery key: outside the roster, above every owner. Stands for it even in a vault that has none."""


class Past(Protocol):
    """The proper ancestors of one statement."""

    def holds(self, statement_id: bytes) -> bool:
        """Whether the statement is an ancestor."""

    def admission(self, entry: bytes) -> Admission | None:
        """The entry, if the statement that admits it is an ancestor."""

    def logs_of(self, entry: bytes) -> set[bytes]:
        """Ids of the first log of a writer or above, and of those its `log` statements among the ancestors opened."""

    def owner_of(self, log_id: bytes) -> Admission | None:
        """The entry that one of the ancestors gives this log to."""

    def commit_used(self, commit: bytes) -> bool:
        """Whether an ancestor starts an epoch with this commit."""


def founder(vault: bytes, op: Genesis) -> Admission:
    """The entry that the genesis admits."""
    return Admission(vault, Tier.OWNER, RECOVERY, 1, True, op.member, op.device.sign_pub)


def newcomer(entry: bytes, op: Add, adder: Admission) -> Admission:
    """The entry that an `add` by `adder` describes, whatever comes of it."""
    tier = Tier(op.role)
    sound = adder.sound and _may_add(adder.tier, tier)
    return Admission(entry, tier, adder, adder.depth + 1, sound, op.member, op.device.sign_pub)


def superior(above: Admission, below: Admission) -> bool:
    """Whether `above` may remove `below`. Static and without cycles: peers can never remove each other."""
    if above.tier is Tier.RECOVERY:
        return True
    if above.tier is Tier.OWNER and below.tier is Tier.OWNER:
        return below.under(above)
    return above.tier >= Tier.ADMIN and above.tier > below.tier


def epoch_of(statement: Statement) -> Epoch | None:
    """The epoch a statement starts, if it is one that does."""
    op = statement.payload.op
    return op.epoch if isinstance(op, Remove | Rotate) else None


def judge(statement: Statement, author: Admission, past: Past) -> str:
    """Why the statement can never have effect, in a few words; empty if it can.

    `author` is the entry named in it, or RECOVERY. The signature has been verified.
    """
    op = statement.payload.op
    if author.tier is not Tier.RECOVERY and not past.holds(author.entry):
        return "signed before its author was admitted"
    if not author.sound:
        return "its author was added by somebody without the right to"
    epoch = epoch_of(statement)
    if epoch is not None and past.commit_used(epoch.commit):
        return "announces an old key as a new one"
    if isinstance(op, Genesis):
        return "a second genesis"
    lowest, highest, rule = _RULES[type(op)]
    if not lowest <= author.tier <= highest:
        return "its author's role does not allow it"
    return rule(op, statement, author, past)


# ---- the rule of each kind of statement, over it and its ancestors ---------------------------------------------------


def _may_add(adder: Tier, newcomer_tier: Tier) -> bool:
    return adder >= Tier.OWNER or (adder is Tier.ADMIN and newcomer_tier <= Tier.WRITER)


def _add(op: Add, statement: Statement, author: Admission, _past: Past) -> str:
    if not _may_add(author.tier, Tier(op.role)):
        return "its author may not give that role"
    return _possession(statement.vault, op.device.cert, op.device.sign_pub, op.pop)


def _remove(op: Remove, _statement: Statement, author: Admission, past: Past) -> str:
    targets = [past.admission(entry) for entry in op.targets]
    known = [one for one in targets if one is not None]
    if not known or len(known) < len(targets):
        return "removes nobody, or somebody it does not know"
    if not all(superior(author, one) for one in known):
        return "its author does not stand above everybody it removes"
    if not set(op.members) <= {one.member for one in known}:
        return "names a member of whom it removes no device"
    if set(op.targets) & set(op.epoch.to):
        return "hands the new key to somebody it removes"
    logs: set[bytes] = set().union(*(past.logs_of(one.entry) for one in known))
    if {cut.log_id for cut in op.cuts} != logs:
        return "does not say where each log of those it removes ends"
    return ""


def _own_logs(op: NewLog, _statement: Statement, author: Admission, past: Past) -> str:
    if not {cut.log_id for cut in op.closes} <= past.logs_of(author.entry):
        return "closes logs that are not its author's"
    return ""


def _close(op: Close, _statement: Statement, author: Admission, past: Past) -> str:
    return _above_logs(author, (cut.log_id for cut in op.cuts), past, itself=True)


def _accept(op: Accept, _statement: Statement, author: Admission, past: Past) -> str:
    return _above_logs(author, (cut.log_id for cut in op.cuts), past, itself=False)


def _above_logs(author: Admission, logs: Iterable[bytes], past: Past, *, itself: bool) -> str:
    for log_id in logs:
        owner = past.owner_of(log_id)
        if owner is None:
            return "names a log it does not know"
        if not (superior(author, owner) or (itself and owner.entry == author.entry)):
            return "its author does not stand above the owner of that log"
    return ""


def _renew(op: Renew, statement: Statement, author: Admission, _past: Past) -> str:
    return _possession(statement.vault, op.cert, author.sign_pub, op.pop)


def _free(_op: object, _statement: Statement, _author: Admission, _past: Past) -> str:
    return ""


def _possession(vault: bytes, cert: bytes, sign_pub: bytes, pop: bytes) -> str:
    try:
        check_possession(vault, cert, sign_pub, pop)
    except AuthError:
        return "the device did not prove that it holds its keys"
    return ""


# Any: each rule takes exactly the type it is listed under, which a mapping cannot say.
_RULES: Final[dict[type, tuple[Tier, Tier, Callable[[Any, Statement, Admission, Past], str]]]] = {
    Add: (Tier.ADMIN, Tier.RECOVERY, _add),
    Remove: (Tier.ADMIN, Tier.RECOVERY, _remove),
    Rotate: (Tier.ADMIN, Tier.RECOVERY, _free),
    SetPolicy: (Tier.OWNER, Tier.RECOVERY, _free),
    NewLog: (Tier.WRITER, Tier.OWNER, _own_logs),
    Close: (Tier.WRITER, Tier.RECOVERY, _close),
    Accept: (Tier.ADMIN, Tier.RECOVERY, _accept),
    Renew: (Tier.READER, Tier.OWNER, _renew),
}
"""Kind of statement -> lowest and highest tier of its author, and the further conditions."""
