"""What an administrator does to a vault that is open here: decide, publish, take in, and tell the others.

The objects of a decision go to the store in their order, wraps before the statement that needs them. Then the vault
takes the statement in as if somebody else had made it, and a segment carries it to everybody (docs/membership.md).
Each act pulls first, so that it is decided on what is known now.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import msgspec
import trio

from cryptfs.crypto.authority import RevocationList, check_crl
from cryptfs.crypto.keys import random_bytes
from cryptfs.errors import Damaged, NotAllowed, StoreGone, UsageError
from cryptfs.format.join import Token
from cryptfs.format.statement import RECOVERY_AUTHOR, Anchor, Cut, Policy, SetPolicy, StatementOp
from cryptfs.group.authority import Tier
from cryptfs.group.decisions import Decision, Desk
from cryptfs.group.invitation import Asking, invite, newcomer, point, read_requests
from cryptfs.store.drive.clientid import with_client
from cryptfs.vault.folder import join_requests
from cryptfs.vault.invitations import InvitationBook, OpenInvitation
from cryptfs.vault.logins import login_of
from cryptfs.vault.people import unused_label
from cryptfs.vault.revocation import carrier
from cryptfs.vault.upload import Sender
from cryptfs.vault.vault import Vault

__all__ = [
    "Pending", "Request", "Welcome",
    "add_by_certificate", "added_by", "approve", "change_role", "check_administrator", "deny", "desk_of", "ends_of",
    "find_request", "make_invitation", "needs_reconciling", "pending_requests", "point_here", "publish", "publish_list",
    "reconcile", "refused_under", "remove", "rotate", "set_policy", "state",
]  # fmt: skip

_PUBLISH_SECONDS: Final = 60.0
_NOT_TRUE: Final = "These are not the words of that device."


async def publish(sender: Sender, objects: Iterable[tuple[str, bytes]]) -> None:
    """Put membership objects into the store, in order. Raises StoreGone if it does not take them within a minute."""
    with trio.move_on_after(_PUBLISH_SECONDS) as scope:
        for name, data in objects:
            await sender.put_until_confirmed(name, data)
    if scope.cancelled_caught:
        raise StoreGone(
            sender.state.message or "The store does not answer.",
            "Nothing may have changed, or everything: see `cryptfs-admin audit`, then try again.",
        )


async def _decide(vault: Vault, decide: Callable[[Desk], Iterable[Decision]]) -> list[Decision]:
    """Make decisions on the newest view, publish them, adopt them."""
    if vault.options.read_only:
        raise NotAllowed("The vault is open for reading only.", "Mount it without `ro`, or unmount it.")
    await vault.exchange.pull()
    check_administrator(vault)
    vault.standing.check_may_send()  # else it would be decided, and no segment would tell anybody
    decisions = list(decide(desk_of(vault)))
    await publish(vault.sender, (one for decision in decisions for one in decision.objects))
    await vault.refresh_membership()
    if decisions:
        await vault.introduce()
    return decisions


def check_administrator(vault: Vault) -> None:
    """Raise NotAllowed unless this device is an admin or owner."""
    role = vault.membership.role
    if role is None or role < Tier.ADMIN:
        raise NotAllowed(
            "Only admins and owners can do this." if role is not None else "This device is not in the group any more.",
            f"`cryptfs-admin members {vault.name}` shows who can.",
        )


def desk_of(vault: Vault) -> Desk:
    """Where this device decides, on what is known here now. Raises NotAllowed for who is not in."""
    examine = vault.certificates.examiner()
    return Desk(vault.membership, lambda cert: examine(cert).public_key, vault.wall_ms(), vault.standing.logs.carried())


async def _anchor(vault: Vault) -> Anchor:
    """This device's last segment, which names everything it has seen; made if there is none."""
    if not vault.standing.log.next_seq:
        await vault.introduce()
    head = vault.standing.log.head(vault.standing.log_id)
    if head is None:
        raise NotAllowed("This device has written nothing yet.", "Use another administrator's device.")
    return Anchor(head.log, head.seq, head.digest)


def ends_of(vault: Vault) -> dict[bytes, Cut]:
    """Where every log stands here and now."""
    logs = vault.standing.logs
    return {one: Cut(one, logs.state(one).next_seq, logs.state(one).digest) for one in logs.ids()}


# ---- letting in ------------------------------------------------------------------------------------------------------


async def make_invitation(vault: Vault, *, role: Tier, expires_ms: int, name: str, member: bytes) -> Token:
    """A token for one device; `name` and `member` as in `OpenInvitation`. Raises NotAllowed for a role too high."""
    _check_may_admit(vault, role)
    await vault.exchange.pull()
    anchor = await _anchor(vault)
    token, record = invite(vault.membership, role=role, expires_ms=expires_ms, as_of=anchor, locator=_locator(vault))
    opened = OpenInvitation(record.invite_id, record.secret, record.role, record.expires_ms, name, member)
    # Durable before the token is shown: one that nobody could approve would be worth nothing.
    InvitationBook(vault.home, vault.membership).add(opened, vault.wall_ms())
    return token


async def point_here(vault: Vault, role: Tier) -> Token:
    """A token without secret: it says where the vault is to somebody who will compare words, or is in already."""
    return point(vault.membership, role=role, as_of=await _anchor(vault), locator=_locator(vault))


def _locator(vault: Vault) -> str:
    """Where a newcomer looks; on Google Drive with the client id, which is needed before the folder can be read."""
    url = vault.home.read_settings().store
    return with_client(url, login_of(vault.home, vault.membership)) if url.startswith("gdrive:") else url


def _check_may_admit(vault: Vault, role: Tier) -> None:
    check_administrator(vault)
    if role > Tier.WRITER and vault.membership.role is not Tier.OWNER:
        raise NotAllowed(f"Only owners let in an {role.name.lower()}.", "Ask one, or choose another role.")


@dataclass(frozen=True, slots=True)
class Request:
    """A request that verifies, and the own invitation it answers, if it does."""

    asking: Asking
    invitation: OpenInvitation | None

    @property
    def id(self) -> str:
        """By which a person means it: the first digits of its digest."""
        return self.asking.digest.hex()[:8]


@dataclass(frozen=True, slots=True)
class Pending:
    """What lies in `j/`: requests, and (name, reason) of what was left out."""

    requests: tuple[Request, ...]
    left_out: tuple[tuple[str, str], ...]


async def pending_requests(vault: Vault) -> Pending:
    """Requests that wait for somebody's approval. Raises StoreError."""
    book = InvitationBook(vault.home, vault.membership)
    objects, skipped = await join_requests(vault.sender)
    askings, left_out = read_requests(objects, vault.membership, [one.record for one in book.open], vault.wall_ms())
    requests = tuple(
        Request(one, book.find(one.invitation.invite_id) if one.invitation else None)
        for one in askings
        if one.digest not in book.denied
    )
    vault.standing.news.learn_requests((*left_out, *skipped))
    return Pending(requests, (*left_out, *skipped))


async def find_request(vault: Vault, word: str) -> Request:
    """The request that `word` means: its id, or the name of who asks. Raises UsageError unless exactly one fits."""
    pending = await pending_requests(vault)
    found = [
        one
        for one in pending.requests
        if (len(word) >= 6 and one.asking.digest.hex().startswith(word.lower()))
        or word == (one.invitation.name if one.invitation and one.invitation.name else one.asking.body.display)
    ]
    if len(found) != 1:
        what = "no request" if not found else f"{len(found)} requests"
        raise UsageError(f"There is {what} '{word}'.", "See `cryptfs-admin requests`.")
    return found[0]


@dataclass(frozen=True, slots=True)
class Welcome:
    """Who was let in: entry id, names as listed from now on, role."""

    entry: bytes
    display: str
    device: str
    role: Tier


async def approve(
    vault: Vault, request: Request, *, words: str = "", role: Tier | None = None, member: bytes = b""
) -> Welcome:
    """Let in who asks.

    Under an own invitation, about which there is no doubt, role and member are those of its record. Otherwise `words`
    must be those that the newcomer reads out, and `role` is given; `member` (16 bytes) for one more device of somebody
    who is in. Raises NotAllowed for doubts or wrong words, Refused for a certificate that may receive no keys.
    """
    asking, invitation = request.asking, request.invitation
    if words:
        if tuple(words.lower().split()) != asking.words:
            raise NotAllowed(_NOT_TRUE, "Have them read out again; if they differ, somebody else is asking.")
        if asking.doubts:
            asking = replace(asking, invitation=None)  # the token proves nothing any more, the words do
    elif asking.invitation is None or asking.doubts:
        why = (
            "; ".join(sorted(one.value for one in asking.doubts)) or "it was made without an invitation of this device"
        )
        raise NotAllowed(f"The request is not approved: {why}.", 'Have its words read out, and give them: --words "…".')
    if invitation is not None:
        role, member = Tier(invitation.role), member or invitation.member
    if role is None:
        raise UsageError("A request without an invitation needs a role.", "Give --role.")
    who = newcomer(asking, member or random_bytes(16), role)
    who = replace(who, role=int(role), display=_display_of(vault, member, invitation, asking))
    label = unused_label(vault.membership, who.member, who.device.label)
    who = replace(who, device=msgspec.structs.replace(who.device, label=label))
    anchor = await _anchor(vault)
    (decision,) = await _decide(vault, lambda desk: [desk.admit(who, anchor)])
    await vault.sender.delete_quietly(asking.name)
    return Welcome(_id_of(decision), who.display, who.device.label, role)


def _display_of(vault: Vault, member: bytes, invitation: OpenInvitation | None, asking: Asking) -> str:
    """A member keeps the name it has; then the administrator's word counts, then the newcomer's."""
    roster = vault.membership.resolved.roster.values()
    known = next((one.display for one in roster if member and one.member == member), "")
    return known or (invitation.name if invitation is not None else "") or asking.body.display


def _id_of(decision: Decision) -> bytes:
    if decision.statement is None:
        raise RuntimeError("an admission is a statement")
    return decision.statement.id


async def deny(vault: Vault, request: Request) -> None:
    """Turn a request down: it is not shown again here, and removed from the store if that lets us."""
    InvitationBook(vault.home, vault.membership).deny(request.asking.digest)
    await vault.sender.delete_quietly(request.asking.name)


async def add_by_certificate(
    vault: Vault, *, cert: bytes, display: str, label: str, role: Tier, member: bytes
) -> tuple[Welcome, Token]:
    """Let in the holder of a certificate (DER) without asking for anything; the token only says where the vault is.

    Errors as `Desk.admit`.
    """
    _check_may_admit(vault, role)
    anchor = await _anchor(vault)
    who = member or random_bytes(16)
    label = unused_label(vault.membership, who, label)
    (decision,) = await _decide(
        vault,
        lambda desk: [
            desk.admit_by_certificate(member=who, display=display, label=label, role=role, cert=cert, as_of=anchor)
        ],
    )
    return Welcome(_id_of(decision), display, label, role), await point_here(vault, role)


# ---- changing and removing -------------------------------------------------------------------------------------------


async def remove(vault: Vault, entries: Iterable[bytes], members: Iterable[bytes]) -> Decision:
    """Remove entries, and whole members; the key changes with it. What they wrote until now, as seen here, counts.

    Raises NotAllowed if this device stands not above all of them, or no owner would remain.
    """
    targets, whole = list(entries), list(members)
    if vault.membership.entry is not None and vault.membership.entry.id in targets:
        raise NotAllowed("A device cannot remove itself.", "Use `cryptfs leave`, or another administrator's device.")
    (decision,) = await _decide(vault, lambda desk: [desk.remove(targets, whole, ends_of(vault))])
    return decision


async def change_role(vault: Vault, entries: Iterable[bytes], role: Tier) -> list[Welcome]:
    """Give devices another role: each is removed and added again. Errors as `remove` and `Desk.admit`."""
    changed = []
    for entry in entries:
        known = vault.membership.resolved.roster.get(entry)
        if known is None or known.role == role:
            continue
        if vault.membership.entry is not None and vault.membership.entry.id == entry:
            raise NotAllowed("A device cannot change its own role.", "Another administrator can.")
        decisions = await _decide(
            vault,
            lambda desk, entry=entry: desk.change_role(entry, role, ends_of(vault)),  # type: ignore[misc]
        )
        changed.append(Welcome(_id_of(decisions[-1]), known.display, known.device.label, role))
    return changed


async def rotate(vault: Vault) -> Decision:
    """Change the key: what is written from now on is sealed under a new one."""
    (decision,) = await _decide(vault, lambda desk: [desk.rotate()])
    return decision


def needs_reconciling(vault: Vault) -> bool:
    """Whether `reconcile` would find something to do, on what is known here."""
    return desk_of(vault).reconcile() is not None


async def reconcile(vault: Vault) -> Decision | None:
    """Hand the key to those who lack it, or change it if several are in force; None if there was nothing to do."""
    decided = await _decide(vault, lambda desk: [one] if (one := desk.reconcile()) is not None else [])
    return decided[0] if decided else None


async def state(vault: Vault, make: Callable[[], StatementOp]) -> Decision:
    """Any statement that needs no key, made on the newest view. Raises NotAllowed if it would have no effect."""
    (decision,) = await _decide(vault, lambda desk: [desk.say(make())])
    return decision


async def set_policy(vault: Vault, changes: Mapping[str, object]) -> Policy:
    """Change settings of the vault, by field of `Policy`. Raises NotAllowed for who is no owner, Invalid."""
    await _decide(
        vault,
        lambda desk: [desk.say(SetPolicy(msgspec.structs.replace(vault.membership.resolved.policy, **changes)))],
    )
    return vault.membership.resolved.policy


def refused_under(vault: Vault, changes: Mapping[str, object]) -> list[str]:
    """Who would get no new keys if the settings were changed so, with the reason."""
    policy = msgspec.structs.replace(vault.membership.resolved.policy, **changes)
    return [
        f"{vault.membership.name_of(one.entry)}: {one.remark}"
        for one in vault.certificates.findings(policy).values()
        if one.refused
    ]


async def publish_list(vault: Vault, der: bytes) -> RevocationList:
    """Bring a revocation list (DER) of a trusted authority to everybody; older ones of it are removed.

    Any member may: the authority has signed it. Raises UsageError for a list that is of no use here, StoreError.
    """
    if vault.options.read_only:
        raise NotAllowed("The vault is open for reading only.", "Mount it without `ro`, or unmount it.")
    await vault.exchange.pull()
    policy = vault.membership.resolved.policy
    if policy.trust == 0:
        raise UsageError(
            "The certificates of this vault are pinned: no authority is asked about them.",
            f"Name one first: `cryptfs-admin policy {vault.name} ca FILE`, then `trust org-ca`.",
        )
    try:
        fact = check_crl(der, policy.cas)
    except Damaged as err:
        raise UsageError(
            "No certificate authority of this vault has signed that list.", "Is it the right file?"
        ) from err
    held = next((one for one in vault.certificates.lists.facts if one.issuer == fact.issuer), None)
    if held is not None and held.age > fact.age:
        raise UsageError(f"A later list is in force already (number {held.number}).", "Fetch the authority's newest.")
    await publish(vault.sender, [carrier(vault.vault_id, der)])
    await vault.refresh_membership()
    for name in vault.certificates.lists.superseded(fact.issuer):
        await vault.sender.delete_quietly(name)
    return fact


def added_by(vault: Vault, entries: Iterable[bytes]) -> list[str]:
    """Names of those in the roster whom these entries let in: a removal that has seen them leaves them in."""
    adders = set(entries) - {RECOVERY_AUTHOR}
    roster = vault.membership.resolved.roster.values()
    return [vault.membership.name_of(one.id) for one in roster if one.adder in adders and one.id not in adders]
