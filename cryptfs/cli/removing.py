"""`cryptfs-admin remove`, `role`, `rotate`, `reconcile`: putting somebody out, and changing the key."""

from pathlib import Path
from typing import Any, Final

import click

from cryptfs.cli.acting import act, act_long
from cryptfs.cli.adopting import tell_adopted
from cryptfs.cli.arguments import json_option, passphrase_option, vault_argument
from cryptfs.cli.asking import agree, yes_option
from cryptfs.cli.inviting import ROLE
from cryptfs.cli.output import counted, document, line, note, safe, size
from cryptfs.cli.reencrypting import consequences, exit_code, run, tell
from cryptfs.cli.sharing import accounts_to_withdraw, withdraw, withdrawal
from cryptfs.errors import CryptfsError, NotAllowed, StoreError, UsageError
from cryptfs.vault.home import VaultHome

__all__ = ["reconcile", "remove", "role", "rotate"]


_EAGERLY: Final = (
    "Then everything they could read is sealed anew, which takes as long as reading and sending all of it."
)


@click.command(short_help="Put a member or a device out.")
@vault_argument()
@click.argument("who", metavar="MEMBER|DEVICE")
@click.option("--share", "withdrawing", is_flag=True, help="Then withdraw the access of their account to the folder.")
@click.option("--account", "named", metavar="E-MAIL", multiple=True, help="Which that is, where it is not known.")
@click.option("--reencrypt", "eagerly", is_flag=True, help="Then seal anew all that they could read.")
@yes_option()
@json_option()
@passphrase_option()
def remove(
    *,
    name: str,
    who: str,
    withdrawing: bool,
    named: tuple[str, ...],
    eagerly: bool,
    yes: bool,
    as_json: bool,
    passphrase_file: Path | None,
) -> int:
    """Put a member, or one device (NAME/DEVICE, or an id), out of the vault NAME, and change the key.

    What is written from now on cannot be read by who was put out. What they could read before they may have kept; with
    --reencrypt (see `cryptfs-admin reencrypt`) their keys open nothing any more that they have not copied. With --share
    the provider lets their account into the folder no more, so that it can neither add to it nor fetch from it.
    """
    if named and not withdrawing:
        raise UsageError("--account is about withdrawing access.", "Say --share, too.")
    home = VaultHome.of(name)
    chosen = act(home, passphrase_file, "who", who=who)
    if chosen["last_owner"]:
        raise NotAllowed(
            f"{chosen['member']} is the last owner: nobody could let an administrator in any more.",
            "Make somebody else an owner first, or use the recovery words: `cryptfs-admin recover`.",
        )
    accounts = accounts_to_withdraw(home, passphrase_file, chosen, named) if withdrawing else []
    told = [*_removal(chosen), *[withdrawal(accounts)] * withdrawing, *[_EAGERLY] * eagerly]
    agree(told, f"Remove {chosen['member']}?", yes=yes)
    members = [chosen["member_id"]] if chosen["whole"] else []
    answer = act(home, passphrase_file, "remove", entries=chosen["entries"], members=members)
    _tell(answer)
    if not as_json:
        devices = ", ".join(chosen["devices"])
        line(safe(f"{chosen['member']} ({devices}) is out, and the key is changed."))
        if not withdrawing:
            note("Withdraw the permission at the provider, too: until then the files there can be deleted.")
    _adopt(home, passphrase_file, chosen, as_json=as_json)
    withdrawn = withdraw(home, passphrase_file, accounts, as_json=as_json) if withdrawing else None
    sealed = _reencrypt(home, passphrase_file, as_json=as_json) if eagerly else None
    if as_json:
        done = {"removed": chosen["entries"], "statement": answer["statement"]}
        done |= {} if withdrawn is None else withdrawn
        document(done | ({} if sealed is None else {"reencrypted": sealed}))
    if withdrawn is not None and withdrawn["left"]:
        return StoreError.exit_code
    return 0 if sealed is None else exit_code(sealed)


def _adopt(home: VaultHome, passphrase_file: Path | None, chosen: dict[str, Any], *, as_json: bool) -> None:
    """Copy at once what belongs to the account of who is out. That goes wrong without harm: it can be repeated."""
    if not chosen["held"]["owned"] or not chosen["held"]["packs"]:
        return
    who = chosen["member"]
    try:
        answer = act_long(home, passphrase_file, "adopt", who=who)
    except CryptfsError as err:
        note(safe(f"Their packs were not taken over: {err} Repeat it: `cryptfs-admin adopt {home.name} '{who}'`."))
        return
    if not as_json:
        tell_adopted(answer)


def _reencrypt(home: VaultHome, passphrase_file: Path | None, *, as_json: bool) -> dict[str, Any]:
    """All of the vault, after a removal; nothing is asked again."""
    expected = act(home, passphrase_file, "reencrypt_cost")
    if expected["versions"]:
        for one in consequences(expected):
            note(safe(one))
    answer = run(home, passphrase_file, expected)
    if not as_json:
        tell(answer)
    return {key: value for key, value in answer.items() if key != "ok"}


def _removal(chosen: dict[str, Any]) -> list[str]:
    devices = ", ".join(f"{device} ({role})" for device, role in zip(chosen["devices"], chosen["roles"], strict=True))
    what = "all devices" if chosen["whole"] else "one of several devices"
    said = [
        f"This removes {what} of {chosen['member']}: {devices}.",
        "What they wrote stays. What is written from now on they cannot read; what they could read, they may keep.",
        "Changes on their devices that are not in the folder yet will not be merged.",
    ]
    held = chosen["held"]
    if held["owned"] and held["packs"]:
        said.append(
            f"Their account holds {counted(held['packs'], 'pack')} of this vault, {size(held['bytes'])}: after the "
            "removal these are copied into yours. Until that is done they can be deleted there."
        )
    if chosen["added"]:
        said.append(f"They let in {', '.join(chosen['added'])}, who stay: remove them, too, if you do not know them.")
    return said


@click.command(short_help="Change what a member or device may do.")
@vault_argument()
@click.argument("who", metavar="MEMBER|DEVICE")
@click.argument("new_role", metavar="ROLE", type=ROLE)
@yes_option()
@json_option()
@passphrase_option()
def role(*, name: str, who: str, new_role: str, yes: bool, as_json: bool, passphrase_file: Path | None) -> None:
    """Make a member or one device of the vault NAME a reader, writer, admin or owner.

    Each device is removed and added again in one go, and the key is changed with it.
    """
    home = VaultHome.of(name)
    chosen = act(home, passphrase_file, "who", who=who)
    if chosen["last_owner"] and new_role != "owner":
        raise NotAllowed(f"{chosen['member']} is the last owner.", "Make somebody else an owner first.")
    told = [f"{chosen['member']} ({', '.join(chosen['devices'])}) will be {new_role}, is {', '.join(chosen['roles'])}."]
    if new_role in {"admin", "owner"}:
        told.append(
            "It will be able to let people in and out" + (", administrators too." if new_role == "owner" else ".")
        )
    told.append("Mounts of these devices have to be mounted anew afterwards.")
    agree(told, f"Make {chosen['member']} {new_role}?", yes=yes)
    answer = act(home, passphrase_file, "role", entries=chosen["entries"], role=new_role)
    if as_json:
        document(answer["changed"])
        return
    for one in answer["changed"]:
        line(safe(f"{one['name']} ({one['device']}) is now {one['role']}."))
    if not answer["changed"]:
        note("Nothing had to be changed.")


@click.command(short_help="Change the key.")
@vault_argument()
@json_option()
@passphrase_option()
def rotate(*, name: str, as_json: bool, passphrase_file: Path | None) -> None:
    """Change the key of the vault NAME: what is written from now on is sealed under a new one, for the same group."""
    answer = act(VaultHome.of(name), passphrase_file, "rotate")
    _tell(answer)
    if as_json:
        document({"statement": answer["statement"]})
    else:
        line("The key is changed.")


@click.command(short_help="Hand the key to those who lack it.")
@vault_argument()
@json_option()
@passphrase_option()
def reconcile(*, name: str, as_json: bool, passphrase_file: Path | None) -> None:
    """Finish what administrators began at the same time in the vault NAME.

    Hands the key to members who lack it, and changes it where several are in force.
    """
    answer = act(VaultHome.of(name), passphrase_file, "reconcile")
    if answer["done"]:
        _tell(answer)
    if as_json:
        document({"done": answer["done"]})
    else:
        line("Done." if answer["done"] else "There was nothing to do.")


def _tell(answer: dict[str, Any]) -> None:
    for one in answer["without_key"]:
        note(safe(f"Got no key: {one}"))
    if not answer["may_seal"]:
        note("Nothing is sent for the moment: run `cryptfs-admin reconcile`.")
