"""The acts of `cryptfs-admin` by name, with JSON values in and out: the same whether the vault is mounted or not.

The process of a mount holds the vault's lock, so a command asks it through the control socket; without a mount the
command opens the vault and calls the same function. Whoever may connect to the socket may do what this device may do;
dangerous acts are confirmed before, by the command that asks.
"""

import base64
import binascii
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from cryptfs.crypto.keys import invite_id
from cryptfs.crypto.words import fingerprint_words
from cryptfs.errors import StoreError, UsageError
from cryptfs.format.join import encode_token
from cryptfs.group.authority import Tier
from cryptfs.group.decisions import Decision
from cryptfs.vault import administration as do
from cryptfs.vault.adopting import adopt_from
from cryptfs.vault.invitations import InvitationBook
from cryptfs.vault.lastseen import last_seen
from cryptfs.vault.latework import accept, close_log, discard, late_work, log_of
from cryptfs.vault.people import choose, describe, instant, member_named, role_named
from cryptfs.vault.policies import changed_policy, policy_values
from cryptfs.vault.revoking import cost
from cryptfs.vault.sharing import access_to, accounts_of, share, sharing_of, withdraw_from
from cryptfs.vault.vault import Vault

__all__ = ["ACTS", "Answer", "Arguments", "perform"]

Arguments = Mapping[str, object]
Answer = dict[str, object]

_NAME_MAX: Final = 64


async def perform(vault: Vault, act: str, arguments: Arguments) -> Answer:
    """Do `act`. Raises UsageError for what nobody can do, and whatever the act raises."""
    known = ACTS.get(act)
    if known is None:
        raise UsageError(f"There is no act '{act}'.", "Are command and mount process of one version?")
    return await known(vault, arguments)


# ---- arguments -------------------------------------------------------------------------------------------------------


def _text(arguments: Arguments, key: str) -> str:
    value = arguments.get(key, "")
    if not isinstance(value, str):
        raise UsageError(f"'{key}' must be text.")
    return value


def _name(arguments: Arguments, key: str) -> str:
    value = _text(arguments, key)
    if len(value.encode()) > _NAME_MAX or not value.isprintable():
        raise UsageError(f"'{value}' cannot be a name.", f"Use at most {_NAME_MAX} bytes, and no control characters.")
    return value


def _number(arguments: Arguments, key: str) -> int:
    value = arguments.get(key)
    if not isinstance(value, int):
        raise UsageError(f"'{key}' must be a number.")
    return value


def _ids(arguments: Arguments, key: str) -> list[bytes]:
    values = arguments.get(key, [])
    if not isinstance(values, list):
        raise UsageError(f"'{key}' must be a list of ids.")
    try:
        return [bytes.fromhex(str(one)) for one in values]
    except ValueError as err:
        raise UsageError(f"'{key}' must be a list of ids.") from err


def _member(vault: Vault, word: str) -> bytes:
    """The id of a member who is in. Raises UsageError if `word` names nobody."""
    found = member_named(vault.membership, word)
    if word and not found:
        raise UsageError(f"There is no member called '{word}'.", "See `cryptfs-admin members`.")
    return found


# ---- acts ------------------------------------------------------------------------------------------------------------


async def _members(vault: Vault, _: Arguments) -> Answer:
    await vault.refresh_membership()
    seen = await last_seen(vault.sender, vault.membership)
    return {"members": describe(vault.membership, seen, vault.certificates.findings())}


async def _invite(vault: Vault, arguments: Arguments) -> Answer:
    """With `share` also let an account into the folder: last, so that nothing is open to who is not invited."""
    name, account = _name(arguments, "name"), _text(arguments, "share")
    member = member_named(vault.membership, name) if name else b""
    role = role_named(_text(arguments, "role"))
    if account:
        sharing_of(vault.sender.store)
    if arguments.get("words"):
        token = await do.point_here(vault, role)
    else:
        token = await do.make_invitation(
            vault, role=role, expires_ms=_number(arguments, "expires_ms"), name=name, member=member
        )
    made: Answer = {"token": encode_token(token), "member": member.hex() if token.secret else ""}
    if token.secret:
        made["expires"] = instant(token.expires_ms)
    if account:
        try:
            made["shared"] = await share(vault, account, letter=bool(arguments.get("letter")))
        except StoreError:
            if token.secret:  # nobody will be given it
                InvitationBook(vault.home, vault.membership).withdraw(invite_id(vault.vault_id, token.secret))
            raise
    return made


async def _requests(vault: Vault, _: Arguments) -> Answer:
    await vault.refresh_membership()
    pending = await do.pending_requests(vault)
    return {
        "requests": [_request(vault, one) for one in pending.requests],
        "ignored": [{"name": name, "reason": reason} for name, reason in pending.left_out],
    }


def _request(vault: Vault, one: do.Request) -> Answer:
    body, invitation = one.asking.body, one.invitation
    roster = vault.membership.resolved.roster.values()
    of = next((e.display for e in roster if invitation and invitation.member and e.member == invitation.member), "")
    return {
        "id": one.id,
        "name": body.display,
        "invited_as": of or (invitation.name if invitation else ""),
        "device_of": of,
        "device": body.device.label,
        "role": Tier(invitation.role).name.lower() if invitation else "",
        "asked": instant(body.time_ms),
        "doubts": sorted(doubt.value for doubt in one.asking.doubts),
        "invited": invitation is not None,
        "words": " ".join(one.asking.words),
        "same_name": not of and any(entry.display == body.display for entry in roster),
    }


async def _uninvite(vault: Vault, arguments: Arguments) -> Answer:
    """Without `invitation` only those that are open."""
    book, word = InvitationBook(vault.home, vault.membership), _text(arguments, "invitation").lower()
    still = [one for one in book.open if one.expires_ms > vault.wall_ms()]
    if word:
        found = [one for one in still if len(word) >= 6 and one.invite_id.hex().startswith(word)]
        if len(found) != 1:
            raise UsageError(f"There is no open invitation '{word}' of this device.", "See `cryptfs-admin uninvite`.")
        book.withdraw(found[0].invite_id)
        still.remove(found[0])
    return {
        "open": [
            {
                "invitation": one.invite_id.hex()[:8],
                "name": one.name,
                "role": Tier(one.role).name.lower(),
                "expires": instant(one.expires_ms),
            }
            for one in still
        ]
    }


async def _approve(vault: Vault, arguments: Arguments) -> Answer:
    request = await do.find_request(vault, _text(arguments, "request"))
    role = _text(arguments, "role")
    member = _member(vault, _text(arguments, "member"))
    welcome = await do.approve(
        vault, request, words=_text(arguments, "words"), role=role_named(role) if role else None, member=member
    )
    return _welcome(welcome)


def _welcome(one: do.Welcome) -> Answer:
    return {"entry": one.entry.hex(), "name": one.display, "device": one.device, "role": one.role.name.lower()}


async def _deny(vault: Vault, arguments: Arguments) -> Answer:
    request = await do.find_request(vault, _text(arguments, "request"))
    shown = _request(vault, request)
    await do.deny(vault, request)
    return {"request": request.id, "name": shown["invited_as"] or shown["name"]}


def _der(arguments: Arguments, key: str) -> bytes:
    try:
        return base64.b64decode(_text(arguments, key), validate=True)
    except binascii.Error as err:
        raise UsageError(f"'{key}' must be in base64.") from err


async def _add(vault: Vault, arguments: Arguments) -> Answer:
    cert = _der(arguments, "cert")
    member = _member(vault, _text(arguments, "member"))
    name = next((e.display for e in vault.membership.resolved.roster.values() if e.member == member), "")
    welcome, token = await do.add_by_certificate(
        vault,
        cert=cert,
        display=name or _name(arguments, "name"),
        label=_name(arguments, "device"),
        role=role_named(_text(arguments, "role")),
        member=member,
    )
    return _welcome(welcome) | {"token": encode_token(token)}


async def _who(vault: Vault, arguments: Arguments) -> Answer:
    """Whom a removal or change of role would be about, so that a person can be asked."""
    await vault.exchange.pull()
    chosen = choose(vault.membership, _text(arguments, "who"))
    entries = [one.id for one in chosen.entries]
    owners = vault.membership.resolved.owners()
    return {
        "member": chosen.display,
        "member_id": chosen.member.hex(),
        "whole": chosen.whole,
        "entries": [one.hex() for one in entries],
        "devices": [one.device.label for one in chosen.entries],
        "roles": [one.role.name.lower() for one in chosen.entries],
        "added": do.added_by(vault, entries),
        "held": vault.adopter.held_by(entries),
        "last_owner": bool(owners) and all(one.id in entries for one in owners),
        "self": vault.membership.entry is not None and vault.membership.entry.id in entries,
    }


async def _remove(vault: Vault, arguments: Arguments) -> Answer:
    return _decided(vault, await do.remove(vault, _ids(arguments, "entries"), _ids(arguments, "members")))


async def _role(vault: Vault, arguments: Arguments) -> Answer:
    changed = await do.change_role(vault, _ids(arguments, "entries"), role_named(_text(arguments, "role")))
    return {"changed": [_welcome(one) for one in changed]}


async def _rotate(vault: Vault, _: Arguments) -> Answer:
    return _decided(vault, await do.rotate(vault))


async def _reconcile(vault: Vault, _: Arguments) -> Answer:
    decision = await do.reconcile(vault)
    return {"done": False} if decision is None else _decided(vault, decision) | {"done": True}


def _decided(vault: Vault, decision: Decision) -> Answer:
    return {
        "statement": decision.statement.id.hex() if decision.statement else "",
        "without_key": [f"{vault.membership.name_of(who)}: {why}" for who, why in decision.unreached],
        "may_seal": vault.keyring.may_seal,
    }


async def _policy(vault: Vault, arguments: Arguments) -> Answer:
    key = _text(arguments, "key")
    if not key:
        await vault.refresh_membership()
        return {"policy": policy_values(vault.membership.resolved.policy)}
    changes = changed_policy(vault.membership.resolved.policy, key, _text(arguments, "value"))
    if arguments.get("preview"):
        return {"refused": do.refused_under(vault, changes)}
    return {"policy": policy_values(await do.set_policy(vault, changes))}


async def _crl(vault: Vault, arguments: Arguments) -> Answer:
    fact = await do.publish_list(vault, _der(arguments, "crl"))
    until = fact.good_until
    return {
        "number": fact.number,
        "made": fact.made.strftime("%Y-%m-%d"),
        "until": until.strftime("%Y-%m-%d") if until is not None else "",
        "remarks": vault.certificates.remarks(),
    }


async def _late(vault: Vault, _: Arguments) -> Answer:
    return {
        "late": [
            {
                "log": one.log.hex(),
                "who": one.who,
                "why": one.why,
                "segments": len(one.segments),
                "changes": one.changes,
                "last": instant(one.last_ms),
                "paths": list(one.paths),
                "sent_again": one.again,
            }
            for one in await late_work(vault)
        ]
    }


async def _accept(vault: Vault, arguments: Arguments) -> Answer:
    return {"accepted": await accept(vault, log_of(vault, _text(arguments, "log")))}


async def _discard(vault: Vault, arguments: Arguments) -> Answer:
    return {"discarded": await discard(vault, log_of(vault, _text(arguments, "log")))}


async def _close(vault: Vault, arguments: Arguments) -> Answer:
    lost = bool(arguments.get("lost"))
    return {"closed": sum([await close_log(vault, one, lost=lost) for one in _ids(arguments, "entries")])}


async def _checkpoint(vault: Vault, _: Arguments) -> Answer:
    """Make one now, and say at once that it is right, so that nobody waits for the next change."""
    await vault.exchange.pull()
    await vault.checkpointing.look()
    made = await vault.checkpointing.make()
    if vault.checkpointing.owes:
        await vault.introduce()
    return {"made": made is not None} | vault.checkpointing.words_for()


async def _roots(vault: Vault, arguments: Arguments) -> Answer:
    """The checkpoints that are known here, with words to compare; `confirm`: those of the doubtful one are right."""
    if arguments.get("confirm"):
        await vault.checkpointing.confirm()
        await vault.exchange.pull(thorough=True)
    else:
        await vault.checkpointing.look()
    known, doubtful = vault.checkpointing.known, vault.checkpointing.doubtful
    shown = [*([doubtful] if doubtful is not None and doubtful not in known else []), *reversed(known)]
    return {
        "checkpoints": [
            {
                "stamp": one.stamp,
                "by": vault.membership.name_of(one.author),
                "words": " ".join(fingerprint_words(one.root)),
                "agreed": one.agreed,
                "doubtful": one == doubtful,
            }
            for one in shown
        ]
    }


ACTS: Final[dict[str, Callable[[Vault, Arguments], Awaitable[Answer]]]] = {
    "members": _members,
    "invite": _invite,
    "uninvite": _uninvite,
    "requests": _requests,
    "approve": _approve,
    "deny": _deny,
    "add": _add,
    "who": _who,
    "remove": _remove,
    "role": _role,
    "rotate": _rotate,
    "reconcile": _reconcile,
    "policy": _policy,
    "crl": _crl,
    "reencrypt_cost": cost,
    "adopt": adopt_from,
    "access": access_to,
    "accounts": accounts_of,
    "withdraw": withdraw_from,
    "late": _late,
    "accept": _accept,
    "discard": _discard,
    "close": _close,
    "checkpoint": _checkpoint,
    "roots": _roots,
}
