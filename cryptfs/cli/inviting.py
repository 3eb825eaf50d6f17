"""`cryptfs-admin invite`, `uninvite`, `requests`, `approve`, `deny`, `add`: letting somebody in."""

import base64
import datetime as dt
import re
import sys
import time
from pathlib import Path
from typing import Any, Final

import click

from cryptfs.cli.acting import act
from cryptfs.cli.arguments import json_option, passphrase_option, vault_argument
from cryptfs.cli.asking import agree, yes_option
from cryptfs.cli.output import cell, document, line, note, safe, table
from cryptfs.cli.sharing import sharing_arguments, tell_shared
from cryptfs.crypto.importing import import_certificate
from cryptfs.errors import NotAllowed, UsageError
from cryptfs.vault.home import VaultHome

__all__ = ["NAMELESS", "ROLE", "add", "approve", "deny", "invite", "requests", "uninvite"]

NAMELESS: Final = "member"
"""What a newcomer is called who gave no name."""
ROLE: Final = click.Choice(["reader", "writer", "admin", "owner"])
_UNIT_MS: Final = {"m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 7 * 86_400_000}


@click.command(short_help="Make an invitation for one device.")
@vault_argument()
@click.option("--role", type=ROLE, required=True, help="What the device may do.")
@click.option("--name", "person", default="", help="Who it is for; of a member: one more device of theirs.")
@click.option("--expires", default="7d", show_default=True, help="30m, 12h, 7d, 2w, or a date: 2027-01-31.")
@click.option("--qr", is_flag=True, help="Show it as a QR code, too.")
@click.option("--words", is_flag=True, help="Make one without a secret: nine words will be compared instead.")
@click.option("--share", "account", metavar="E-MAIL", default="", help="Let this account into the folder, too.")
@click.option("--letter", is_flag=True, help="Have the provider write to that address.")
@json_option()
@passphrase_option()
def invite(
    *,
    name: str,
    role: str,
    person: str,
    expires: str,
    qr: bool,
    words: bool,
    account: str,
    letter: bool,
    as_json: bool,
    passphrase_file: Path | None,
) -> None:
    """Print an invitation to the vault NAME: one line, good for one device, to be sent over a channel you trust.

    Whoever has it can ask to be let in; nobody is in before `cryptfs-admin approve` on this very device. With --share
    the account of that address can read and write what lies in the folder, which the keys are needed to understand.
    """
    if letter and not account:
        raise UsageError("--letter is about an account.", "Name it: --share E-MAIL.")
    when, given = _expiry_ms(expires), sharing_arguments(account, letter=letter)
    made = act(
        VaultHome.of(name), passphrase_file, "invite", role=role, name=person, expires_ms=when, words=words, **given
    )
    if as_json:
        told = {key: made[key] for key in ("token", "expires", "shared") if key in made}
        document(told | {"role": role, "name": person})
        return
    line(made["token"])
    if account:
        tell_shared(account, new=made["shared"])
    if qr:
        _show_qr(made["token"])
    if words:
        note("It points at the vault and holds no secret. Approve the request with the words of the new device.")
        return
    who = person or "the other person"
    if made["member"]:
        note(f"{who} is a member: it lets in one more device of theirs.")
    note(f"It is good until {made['expires']} for one device ({role}). Keep it secret. On that device, {who} runs")
    note("  cryptfs join TOKEN")
    note(f"and you then let it in: cryptfs-admin approve {name} --all")


@click.command(short_help="Withdraw an invitation of this device.")
@vault_argument()
@click.argument("invitation", required=False)
@json_option()
@passphrase_option()
def uninvite(*, name: str, invitation: str | None, as_json: bool, passphrase_file: Path | None) -> None:
    """Withdraw INVITATION to the vault NAME; without it, list the open ones of this device.

    Who asks under it afterwards is treated as without an invitation: only compared words let them in.
    """
    left = act(VaultHome.of(name), passphrase_file, "uninvite", invitation=invitation or "")["open"]
    if as_json:
        document(left)
        return
    if invitation:
        line(f"The invitation {invitation} is withdrawn.")
    rows = [[one["invitation"], cell(one["name"] or None), one["role"], one["expires"]] for one in left]
    if rows:
        table(("Invitation", "For", "Role", "Until"), rows)
    else:
        note("There is no open invitation of this device.")


def _show_qr(token: str) -> None:
    import segno  # noqa: PLC0415  # only those who want one pay for it

    segno.make(token, error="l").terminal(out=sys.stderr, compact=True)


def _expiry_ms(text: str) -> int:
    """Milliseconds since 1970. Raises UsageError for what is no time to come."""
    now_ms = time.time_ns() // 1_000_000
    span = re.fullmatch(r"(\d{1,5})([mhdw])", text)
    if span:
        return now_ms + int(span[1]) * _UNIT_MS[span[2]]
    try:
        end = dt.datetime.combine(dt.date.fromisoformat(text), dt.time.max).astimezone()
    except ValueError as err:
        raise UsageError(f"'{text}' is no time.", "Write 12h, 7d, 2w, or a date as 2027-01-31.") from err
    if end.timestamp() * 1000 <= now_ms:
        raise UsageError(f"{text} is over.", "Name a day to come.")
    return int(end.timestamp() * 1000)


@click.command(short_help="List who asks to be let in.")
@vault_argument()
@json_option()
@passphrase_option()
def requests(*, name: str, as_json: bool, passphrase_file: Path | None) -> None:
    """List the devices that ask to be let into the vault NAME, with the words that identify them.

    Requests under another administrator's invitation cannot be read here; they are counted as ignored, as noise is.
    """
    answer = act(VaultHome.of(name), passphrase_file, "requests")
    if as_json:
        document({key: answer[key] for key in ("requests", "ignored")})
        return
    _tell_ignored(answer["ignored"])
    if not answer["requests"]:
        note("Nobody is asking.")
        return
    rows = [
        [
            one["id"],
            _who_asks(one),
            one["device"],
            cell(one["role"]),
            one["asked"],
            one["words"],
            "; ".join(one["doubts"]),
        ]
        for one in answer["requests"]
    ]
    table(("Request", "Name", "Device", "Role", "Asked", "Words", "But"), rows)


def _who_asks(one: dict[str, Any]) -> str:
    if one["invited_as"] and one["name"] == NAMELESS:
        return str(one["invited_as"])
    if one["invited_as"] and one["invited_as"] != one["name"]:
        return f"{one['name']} (invited: {one['invited_as']})"
    return str(one["name"])


def _tell_ignored(ignored: list[dict[str, str]]) -> None:
    """Count and name what was left out, by reason."""
    reasons: dict[str, list[str]] = {}
    for one in ignored:
        reasons.setdefault(one["reason"], []).append(one["name"])
    for reason, names in sorted(reasons.items()):
        more = ", …" if len(names) > 3 else ""
        note(safe(f"Ignored {len(names)} in the folder: {reason} ({', '.join(names[:3])}{more})"))


@click.command(short_help="Let in a device that asks.")
@vault_argument()
@click.argument("request", required=False)
@click.option("--all", "everybody", is_flag=True, help="All who answer an invitation of this device, without doubt.")
@click.option("--words", help="The nine words that the new device shows, read out to you.")
@click.option("--role", type=ROLE, help="For a request without an invitation.")
@click.option("--member", default="", help="It is one more device of this member.")
@yes_option()
@json_option()
@passphrase_option()
def approve(
    *,
    name: str,
    request: str | None,
    everybody: bool,
    words: str | None,
    role: str | None,
    member: str,
    yes: bool,
    as_json: bool,
    passphrase_file: Path | None,
) -> None:
    """Let REQUEST (its id, or the name of who asks) into the vault NAME.

    From then on the device can read everything that is in the vault. Without an invitation of this device, or where
    there is a doubt about it, the nine words have to be compared.
    """
    home = VaultHome.of(name)
    if (request is None) == (not everybody):
        raise UsageError("Name one request, or say --all.", f"See `cryptfs-admin requests {name}`.")
    waiting = act(home, passphrase_file, "requests")
    _tell_ignored(waiting["ignored"])
    if everybody:
        chosen = [one for one in waiting["requests"] if one["invited"] and not one["doubts"]]
        if len(chosen) < len(waiting["requests"]):
            more = len(waiting["requests"]) - len(chosen)
            note(f"{more} more need their words compared: see `cryptfs-admin requests`.")
    else:
        chosen = [one for one in waiting["requests"] if request in {one["id"], one["name"], one["invited_as"]}]
        if len(chosen) != 1:
            how_many = f"are {len(chosen)} requests" if chosen else "is no request"
            raise UsageError(f"There {how_many} '{request}'.", f"Give the id: `cryptfs-admin requests {name}`.")
        if not chosen[0]["invited"] and role is None:
            raise UsageError("A request without an invitation needs a role.", "Give --role.")
    if not chosen:
        raise NotAllowed("There is nobody to let in.", f"See `cryptfs-admin requests {name}`.")
    done = []
    for one in chosen:
        told = _compare(one, words) if not one["invited"] or one["doubts"] or words else ""
        agree(_admission(one, role, member), f"Let in {_who_asks(one)}?", yes=yes)
        done.append(
            act(home, passphrase_file, "approve", request=one["id"], words=told, role=role or "", member=member)
        )
        if not as_json:
            line(safe(f"{done[-1]['name']} ({done[-1]['device']}) is in: {done[-1]['role']}."))
    if as_json:
        document([{key: one[key] for key in ("entry", "name", "device", "role")} for one in done])


def _compare(one: dict[str, Any], words: str | None) -> str:
    """The words as read out. Raises UsageError where there is nobody who could read them."""
    for doubt in one["doubts"]:
        note(safe(f"{one['name']}: {doubt}."))
    if words is not None:
        return words
    if not sys.stdin.isatty():
        raise UsageError("The words of the new device have to be compared.", 'Give them: --words "…".')
    typed: str = click.prompt("The nine words that the new device shows", err=True)
    return typed


def _admission(one: dict[str, Any], role: str | None, member: str) -> list[str]:
    name, device, wanted = one["name"], one["device"], one["role"] or role or "?"
    said = [
        f"{_who_asks(one)}, device '{device}', asks to be let in as {wanted}. It will read everything in the vault."
    ]
    if one["device_of"] or member:
        said.append(f"It will be listed as a device of {one['device_of'] or member}.")
    elif one["same_name"]:
        said.append(
            f"There is a {name} in the group already: this will be another one, unless you say --member {name}."
        )
    said.append(f"Its words: {one['words']}")
    return said


@click.command(short_help="Turn a request down.")
@vault_argument()
@click.argument("request")
@json_option()
@passphrase_option()
def deny(*, name: str, request: str, as_json: bool, passphrase_file: Path | None) -> None:
    """Turn down REQUEST (its id, or the name of who asks) to the vault NAME; it is not shown again."""
    answer = act(VaultHome.of(name), passphrase_file, "deny", request=request)
    if as_json:
        document({"request": answer["request"], "name": answer["name"]})
    else:
        line(safe(f"The request of {answer['name']} is turned down."))


@click.command(short_help="Let in the holder of a certificate.")
@vault_argument()
@click.option("--cert", type=click.Path(path_type=Path), required=True, help="Their certificate (PEM or DER).")
@click.option("--role", type=ROLE, required=True, help="What the device may do.")
@click.option("--name", "person", default="", help="How the new member is listed.")
@click.option("--member", default="", help="Instead: it is one more device of this member.")
@click.option("--device-label", default="device", show_default=True, help="How the device is listed.")
@yes_option()
@json_option()
@passphrase_option()
def add(
    *,
    name: str,
    cert: Path,
    role: str,
    person: str,
    member: str,
    device_label: str,
    yes: bool,
    as_json: bool,
    passphrase_file: Path | None,
) -> None:
    """Let the holder of a certificate into the vault NAME, without asking them for anything.

    Prints a line that tells their device where the vault is: `cryptfs join LINE --cert F --key F`.
    """
    if bool(person) == bool(member):
        raise UsageError("Say who it is.", "Give --name for a new member, or --member for a device of one.")
    der = import_certificate(cert.read_bytes())
    who = person or member
    told = [
        f"Whoever has the private key of {cert} will be in as {role}, listed as {who}, and read everything.",
        "This device makes the signing key for them; `cryptfs-admin audit` says so until they join anew.",
    ]
    agree(told, f"Let in {who}?", yes=yes)
    encoded = base64.b64encode(der).decode()
    answer = act(
        VaultHome.of(name),
        passphrase_file,
        "add",
        cert=encoded,
        role=role,
        name=person,
        member=member,
        device=device_label,
    )
    if as_json:
        document({key: answer[key] for key in ("entry", "name", "device", "role", "token")})
        return
    line(answer["token"])
    note(safe(f"{answer['name']} ({answer['device']}) is in: {answer['role']}. On that device:"))
    note("  cryptfs join LINE --cert CERTIFICATE --key PRIVATE-KEY")
