"""Rules of form for statements (docs/format.md, "Statements"): lengths, ranges, sorted lists. Nothing about authority.

Each function raises Invalid, or NeedsUpdate for a later format or a critical extension. A statement that fails here is
as if it did not exist, for everybody and for ever.
"""

import re
from collections.abc import Callable
from typing import Any, Final

from cryptfs.crypto.keys import SIGNATURE_LEN
from cryptfs.crypto.seal import SEAL_OVERHEAD_MIN, sealed_len
from cryptfs.format.codec import check_ext, check_fmt
from cryptfs.format.form import ascending, frontier, id16, id32, int64, need, optional, text, uint
from cryptfs.format.limits import CERT_MAX, HISTORY_MAX, STAMP_MAX
from cryptfs.format.operation_rules import ROLE_OWNER
from cryptfs.format.segment_rules import check_head
from cryptfs.format.statement_body import (
    CLOSE_FORK,
    CLOSE_SUSPENDED,
    RECOVERY_AUTHOR,
    Accept,
    Add,
    Anchor,
    Close,
    Cut,
    Device,
    Epoch,
    Genesis,
    NewLog,
    Payload,
    Policy,
    Recovery,
    Remove,
    Renew,
    Rotate,
    SetPolicy,
)

__all__ = ["check_anchor", "check_device", "check_payload"]

_ZEROS: Final = bytes(32)
_TEXT_MAX: Final = 64
_PQ_MAX: Final = 4096
"""Post-quantum keys are empty in this version and ignored; later ones stay below this."""
_HISTORY_BOX_MAX: Final = sealed_len(3 + HISTORY_MAX * (1 + 2 + 16 + 2 + 32))
_CAS_MAX: Final = 16
_SMALL_MAX: Final = 0xFFFF
_OID: Final = re.compile(r"[0-2](\.(0|[1-9][0-9]{0,9})){1,31}")


def check_payload(payload: Payload, vault: bytes, *, genesis: bool) -> None:
    """Check a payload of `vault` (32 bytes); `genesis` says whether it stands where the genesis must."""
    check_fmt(payload.fmt)
    check_ext(payload.ext)
    id16(payload.nonce, "nonce")
    id32(payload.author, "author")
    int64(payload.time_ms, "time")
    frontier(payload.prev, "earlier statements")
    need(isinstance(payload.op, Genesis) == genesis, "a genesis is not where it belongs")
    if genesis:
        need(payload.vault == _ZEROS and payload.author == RECOVERY_AUTHOR, "a genesis names no vault and no author")
        need(not payload.prev, "a genesis has nothing before it")
    else:
        need(payload.vault == vault, "belongs to another vault")
        need(bool(payload.prev), "cites nothing")
    _RULE[type(payload.op)](payload.op)


def check_device(device: Device) -> None:
    """The certificate is only measured here: whether it parses depends on a library, and no rule may."""
    _cert(device.cert)
    id32(device.sign_pub, "signing key")
    need(len(device.pq_pub) <= _PQ_MAX, "post-quantum key is too long")
    text(device.label, _TEXT_MAX, "label")


def check_anchor(anchor: Anchor | None) -> None:
    """A segment, or None where the format has nil."""
    if anchor is not None:
        check_head(anchor, "anchor")


def _cert(cert: bytes) -> None:
    need(0 < len(cert) <= CERT_MAX, "size of a certificate is out of range")


def _pop(pop: bytes) -> None:
    need(len(pop) == SIGNATURE_LEN, "proof of possession is no signature")


def _ids(ids: tuple[bytes, ...], length: int, what: str) -> None:
    need(all(len(one) == length for one in ids), f"{what} have not {length} bytes")
    ascending(ids, what)


def _cuts(cuts: tuple[Cut, ...]) -> None:
    for cut in cuts:
        id16(cut.log_id, "log id")
        uint(cut.count, STAMP_MAX, "number of segments")
        id32(cut.last, "last digest")
        need((cut.count == 0) == (cut.last == _ZEROS), "only a log without segments has no last one")
    ascending((cut.log_id for cut in cuts), "cuts")


def _epoch(epoch: Epoch) -> None:
    id32(epoch.commit, "commit")
    _ids(epoch.to, 32, "recipients")
    need(
        not epoch.hist or SEAL_OVERHEAD_MIN <= len(epoch.hist) <= _HISTORY_BOX_MAX, "size of a history box out of range"
    )


def _policy(policy: Policy) -> None:
    check_ext(policy.ext)
    uint(policy.trust, 1, "trust")
    need(len(policy.cas) <= _CAS_MAX, "too many certificate authorities")
    for ca in policy.cas:
        _cert(ca)
    need(not policy.eku or _OID.fullmatch(policy.eku) is not None, "extended key usage is no OID")
    uint(policy.crl, 2, "crl")
    uint(policy.roster_age_days, _SMALL_MAX, "roster age")
    uint(policy.on_stale, 1, "on_stale")
    uint(policy.min_format, _SMALL_MAX, "least format")


def _recovery(recovery: Recovery) -> None:
    id32(recovery.sign_pub, "recovery signing key")
    id32(recovery.kem_pub, "recovery key")
    need(len(recovery.pq_pub) <= _PQ_MAX, "post-quantum key is too long")


def _genesis(op: Genesis) -> None:
    text(op.name, _TEXT_MAX, "name of the vault")
    id16(op.member, "member")
    text(op.display, _TEXT_MAX, "display name")
    check_device(op.device)
    _policy(op.policy)
    if op.recovery is not None:
        _recovery(op.recovery)


def _add(op: Add) -> None:
    id16(op.member, "member")
    text(op.display, _TEXT_MAX, "display name")
    uint(op.role, ROLE_OWNER, "role")
    check_device(op.device)
    _pop(op.pop)
    uint(op.how, 0xFF, "how")
    optional(op.invite, 16, "invite")
    check_anchor(op.as_of)


def _remove(op: Remove) -> None:
    _ids(op.targets, 32, "targets")
    _ids(op.members, 16, "members")
    _cuts(op.cuts)
    _epoch(op.epoch)


def _close(op: Close) -> None:
    _cuts(op.cuts)
    need(CLOSE_SUSPENDED <= op.reason <= CLOSE_FORK, "no such reason to close a log")


def _renew(op: Renew) -> None:
    _cert(op.cert)
    _pop(op.pop)


# Any: each rule takes exactly the type it is listed under, which a mapping cannot say.
_RULE: Final[dict[type, Callable[[Any], None]]] = {
    Genesis: _genesis,
    Add: _add,
    Remove: _remove,
    Rotate: lambda op: _epoch(op.epoch),
    SetPolicy: lambda op: _policy(op.policy),
    NewLog: lambda op: _cuts(op.closes),
    Close: _close,
    Accept: lambda op: _cuts(op.cuts),
    Renew: _renew,
}
