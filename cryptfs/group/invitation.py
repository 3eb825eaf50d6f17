"""Inviting and joining: tokens, requests, and what both sides check (docs/membership.md, "Letting somebody in").

The token carries V past the store; the secret in it shows the administrator that the request comes from whoever got the
token. Without a secret, two people compare words. Only the device that made a token can approve under it: a secret
shared in the vault would let any reader pose as the newcomer.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from cryptfs.crypto.keyfile import Invitation
from cryptfs.crypto.keys import fingerprint_digest, heads_digest, invite_id, random_bytes, sign_public
from cryptfs.crypto.words import fingerprint_words
from cryptfs.errors import HostileStore, NeedsUpdate
from cryptfs.format.codec import FMT
from cryptfs.format.join import NO_INVITE, TOKEN_HEADS_MAX, JoinBody, Token, make_join, parse_join
from cryptfs.format.names import join_name
from cryptfs.format.segment_body import LogHead
from cryptfs.format.statement import HOW_TOKEN, HOW_WORDS, Add, Anchor, Device, prove_possession
from cryptfs.group.decisions import Newcomer
from cryptfs.group.graph import StatementGraph
from cryptfs.group.membership import Membership

__all__ = [
    "Asking",
    "Doubt",
    "ask",
    "check_first_view",
    "device_words",
    "invite",
    "newcomer",
    "point",
    "read_requests",
    "view_words",
]

_SECRET_LEN: Final = 16


# ---- the administrator's side ----------------------------------------------------------------------------------------


def invite(
    membership: Membership, *, role: int, expires_ms: int, as_of: Anchor, locator: str
) -> tuple[Token, Invitation]:
    """A token for one device, and the record that its issuer keeps in its key file.

    `as_of`: a segment of the issuer, which names everything it has seen; `locator` only says where to look.
    """
    secret = random_bytes(_SECRET_LEN)
    heads = membership.frontier()[:TOKEN_HEADS_MAX]
    token = Token(FMT, membership.vault, secret, role, expires_ms, heads, as_of, locator)
    return token, Invitation(invite_id(membership.vault, secret), secret, role, expires_ms)


def point(membership: Membership, *, role: int, as_of: Anchor, locator: str) -> Token:
    """A token without secret: it names the vault to somebody already let in, or who will compare words."""
    return Token(FMT, membership.vault, b"", role, 0, membership.frontier()[:TOKEN_HEADS_MAX], as_of, locator)


class Doubt(Enum):
    """Why a request may not simply be approved; the value is said to the administrator."""

    EXPIRED = "the invitation has expired"
    SPENT = "the invitation was used already"
    TWICE = "several devices ask with this one invitation: somebody else may have seen it"
    NOT_OURS = "another device issued the invitation: approve there, or compare words"


@dataclass(frozen=True, slots=True)
class Asking:
    """A join request that verifies. `invitation` is the own record it fits, None if words must be compared."""

    name: str
    digest: bytes
    body: JoinBody
    invitation: Invitation | None
    doubts: frozenset[Doubt]
    words: tuple[str, ...]


def read_requests(
    objects: Iterable[tuple[str, bytes]], membership: Membership, invitations: Sequence[Invitation], now_ms: int
) -> tuple[list[Asking], list[tuple[str, str]]]:
    """The requests among the objects (name, bytes) of `j/`, and what was left out: (name, reason).

    Requests of devices that are in already are left out silently.
    """
    ours = {one.invite_id: one for one in invitations}
    spent = _spent(membership.graph)
    found: dict[bytes, tuple[str, JoinBody, Invitation | None, bytes]] = {}
    left_out: list[tuple[str, str]] = []
    for name, data in objects:
        try:
            request = parse_join(data, membership.vault)
            if request.invite not in (NO_INVITE, *ours):
                left_out.append((name, Doubt.NOT_OURS.value))
                continue
            invitation = ours.get(request.invite)
            body = request.open(invitation.secret if invitation else b"")
        except (HostileStore, NeedsUpdate) as err:
            left_out.append((name, str(err)))
        else:
            if not any(body.device.sign_pub == one.device.sign_pub for one in membership.resolved.roster.values()):
                found[request.digest] = (name, body, invitation, request.digest)
    devices: dict[bytes, set[bytes]] = {}
    for _, body, invitation, _ in found.values():
        if invitation is not None:
            devices.setdefault(invitation.invite_id, set()).add(body.device.sign_pub)
    askings = []
    for name, body, invitation, digest in found.values():
        doubts = _doubts(invitation, devices, spent, now_ms)
        askings.append(Asking(name, digest, body, invitation, doubts, device_words(membership.vault, body.device)))
    return sorted(askings, key=lambda one: one.digest), left_out


def _doubts(
    invitation: Invitation | None, devices: dict[bytes, set[bytes]], spent: set[bytes], now_ms: int
) -> frozenset[Doubt]:
    if invitation is None:
        return frozenset()
    facts = (
        (Doubt.EXPIRED, now_ms > invitation.expires_ms),
        (Doubt.SPENT, invitation.invite_id in spent),
        (Doubt.TWICE, len(devices[invitation.invite_id]) > 1),
    )
    return frozenset(doubt for doubt, fact in facts if fact)


def _spent(graph: StatementGraph) -> set[bytes]:
    """Invitations that an `add` names, valid or not: a void one was acted upon all the same."""
    ops = (node.statement.payload.op for node in graph.nodes(graph.everything))
    return {op.invite for op in ops if isinstance(op, Add) and op.invite}


def newcomer(asking: Asking, member: bytes, role: int) -> Newcomer:
    """What `Desk.admit` takes, from a request the administrator approves.

    With a token the role is that of the issuer's record, whatever the newcomer or `role` says; `role` counts where
    words were compared. `member`: id of an existing member, or 16 new random bytes.
    """
    invitation = asking.invitation
    return Newcomer(
        member=member,
        display=asking.body.display,
        role=invitation.role if invitation else role,
        device=asking.body.device,
        pop=asking.body.pop,
        how=HOW_TOKEN if invitation else HOW_WORDS,
        invite=invitation.invite_id if invitation else b"",
    )


# ---- the newcomer's side ---------------------------------------------------------------------------------------------


def ask(token: Token, *, display: str, label: str, cert: bytes, sign_seed: bytes, now_ms: int) -> tuple[str, bytes]:
    """A join request (name, bytes) by a device with these keys, sealed under the token's secret if it has one."""
    public = sign_public(sign_seed)
    pop = prove_possession(token.vault, cert, public, sign_seed)
    body = JoinBody(FMT, display, Device(cert, public, b"", label), pop, now_ms, ())
    data = make_join(vault=token.vault, body=body, sign_seed=sign_seed, secret=token.secret)
    return join_name(hashlib.sha256(data).digest()), data


def check_first_view(
    token: Token, membership: Membership, covers: Callable[[Anchor], bool], as_of: Anchor | None = None
) -> None:
    """What a newcomer demands of the first view of the vault that the store shows it.

    `covers(anchor)`: whether the segment is here, or a checkpoint at or after it. `as_of`: the one in its own `add`,
    once that is here. Raises HostileStore for another vault than the token's, and for an older view than its issuer's.
    """
    if membership.vault != token.vault:
        raise HostileStore("This folder is another vault than the one in the invitation.", "Check the address.")
    missing = [one for one in token.heads if one not in membership.graph]
    behind = [one for one in (token.as_of, as_of) if one is not None and not covers(one)]
    if missing or behind:
        raise HostileStore(
            "The folder shows an older state than whoever invited you has seen.",
            "Wait until it has synchronised; if this stays, ask the one who invited you.",
        )


# ---- words that people compare ---------------------------------------------------------------------------------------


def device_words(vault: bytes, device: Device) -> tuple[str, ...]:
    """Nine words for the keys of a device, to be read out over the phone: 90 bits over both keys and the vault."""
    return fingerprint_words(fingerprint_digest(vault, device.cert, device.sign_pub))


def view_words(vault: bytes, frontier: Iterable[bytes], heads: Iterable[LogHead]) -> tuple[str, ...]:
    """Nine words for everything a device has seen; equal ones on two devices rule out a fork up to that moment."""
    return fingerprint_words(heads_digest(vault, frontier, ((one.log, one.seq, one.digest) for one in heads)))
