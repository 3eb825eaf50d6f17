"""What a statement says: the payload that is hashed and signed, and the kinds of acts (docs/format.md, "Statements").

Statements lie in the store unencrypted, so that a newcomer can verify them before it holds any key. Who may make which
and when it has effect is in `group/`; what shape it must have is in `format/statement_rules.py`.
"""

from typing import Final

from cryptfs.format.codec import Ext, Wire
from cryptfs.format.segment_body import LogHead as Anchor

__all__ = [
    "CLOSE_FORK", "CLOSE_LOST", "CLOSE_SUSPENDED", "HOW_CERTIFICATE", "HOW_TOKEN", "HOW_WORDS", "RECOVERY_AUTHOR",
    "Accept", "Add", "Anchor", "Close", "Cut", "Device", "Epoch", "Genesis", "NewLog", "Payload", "Policy", "Recovery",
    "Remove", "Renew", "Rotate", "SetPolicy", "StatementOp",
]  # fmt: skip

RECOVERY_AUTHOR: Final = bytes(32)
"""Author of what the recovery key signs, and of the genesis."""

HOW_WORDS: Final = 0
HOW_TOKEN: Final = 1
HOW_CERTIFICATE: Final = 2

CLOSE_SUSPENDED: Final = 1
CLOSE_LOST: Final = 2
CLOSE_FORK: Final = 3


class Device(Wire, frozen=True):
    """The keys of one device: `cert` DER, `sign_pub` Ed25519 (32 bytes), `pq_pub` empty in this version."""

    cert: bytes
    sign_pub: bytes
    pq_pub: bytes
    label: str


class Recovery(Wire, frozen=True):
    """Public halves of the recovery key: Ed25519 and X25519, 32 bytes each; `pq_pub` empty in this version."""

    sign_pub: bytes
    kem_pub: bytes
    pq_pub: bytes


class Epoch(Wire, frozen=True):
    """A new group secret: its commit (32 bytes), the entries it is wrapped to, and earlier secrets in a history box.

    The recovery key is always a recipient and not listed.
    """

    commit: bytes
    to: tuple[bytes, ...]
    hist: bytes


class Policy(Wire, frozen=True):
    """Settings of the vault.

    `trust` 0 pinned, 1 org-ca; `cas` DER certificates; `eku` a dotted OID or empty; `crl` 0 off, 1 warn, 2 block;
    `on_stale` 0 warn, 1 stop sealing when no news came from an administrator for `roster_age_days`; clients below
    `min_format` only read.
    """

    trust: int
    cas: tuple[bytes, ...]
    eku: str
    crl: int
    roster_age_days: int
    on_stale: int
    min_format: int
    ext: tuple[Ext, ...]


class Cut(Wire, frozen=True):
    """The log `log_id` counts up to `count` segments, the last of which has digest `last` (zeros if none counts)."""

    log_id: bytes
    count: int
    last: bytes


class Genesis(Wire, frozen=True, tag=0):
    """The vault begins with its founder's device as owner. `recovery` None: no recovery key, ever."""

    name: str
    member: bytes
    display: str
    device: Device
    policy: Policy
    recovery: Recovery | None


class Add(Wire, frozen=True, tag=1):
    """A device of a member enters in a role (0 reader, 1 writer, 2 admin, 3 owner).

    `pop` proves that it holds its signing key; `how` HOW_* tells how it was authenticated; `invite` is the id of the
    token it used, or empty; `as_of` a segment that its first view must cover.
    """

    member: bytes
    display: str
    role: int
    device: Device
    pop: bytes
    how: int
    invite: bytes
    as_of: Anchor | None


class Remove(Wire, frozen=True, tag=2):
    """Entries leave, whole members if named in `members`; their logs end at `cuts`; the next epoch excludes them."""

    targets: tuple[bytes, ...]
    members: tuple[bytes, ...]
    cuts: tuple[Cut, ...]
    epoch: Epoch


class Rotate(Wire, frozen=True, tag=3):
    """A new epoch."""

    epoch: Epoch


class SetPolicy(Wire, frozen=True, tag=4):
    """New settings."""

    policy: Policy


class NewLog(Wire, frozen=True, tag=5):
    """The author starts a new log, named by this statement, and ends old ones of its own."""

    closes: tuple[Cut, ...]


class Close(Wire, frozen=True, tag=6):
    """Logs end; `reason` CLOSE_*."""

    cuts: tuple[Cut, ...]
    reason: int


class Accept(Wire, frozen=True, tag=7):
    """Late work counts after all, up to `cuts`."""

    cuts: tuple[Cut, ...]


class Renew(Wire, frozen=True, tag=8):
    """The author's device has a new certificate (DER)."""

    cert: bytes
    pop: bytes


StatementOp = Genesis | Add | Remove | Rotate | SetPolicy | NewLog | Close | Accept | Renew


class Payload(Wire, frozen=True):
    """Everything that is hashed and signed.

    `vault` zeros in the genesis; `prev` the frontier its author had seen; `author` an entry or RECOVERY_AUTHOR;
    `time_ms` the author's clock, only ever shown; `nonce` 16 random bytes, so that equal acts are different statements.
    """

    fmt: int
    vault: bytes
    prev: tuple[bytes, ...]
    author: bytes
    time_ms: int
    nonce: bytes
    op: StatementOp
    ext: tuple[Ext, ...]
