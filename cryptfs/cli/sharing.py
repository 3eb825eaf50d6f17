"""What commands say and ask about access to the folder at the provider."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from cryptfs.cli.acting import act
from cryptfs.cli.evidence import read_membership
from cryptfs.cli.output import cell, line, note, safe, table
from cryptfs.crypto.keyfile import DeviceKeys
from cryptfs.errors import CryptfsError, UsageError
from cryptfs.store import Call
from cryptfs.vault.home import VaultHome
from cryptfs.vault.sharing import Overview, account_named, overview
from cryptfs.vault.stores import store_beside

__all__ = [
    "ACCESS_KEYS",
    "access_from_store",
    "accounts_to_withdraw",
    "sharing_arguments",
    "tell_access",
    "tell_shared",
    "withdraw",
    "withdrawal",
]

ACCESS_KEYS: Final = ("access", "without", "account_unknown")
_SECONDS: Final = 60.0


# ---- letting in ------------------------------------------------------------------------------------------------------


def sharing_arguments(account: str, *, letter: bool) -> dict[str, object]:
    """What the act `invite` is told of an account. Raises UsageError for what is no address."""
    return {"share": account_named(account), "letter": letter} if account else {}


def tell_shared(account: str, *, new: bool) -> None:
    """Say that the account has access."""
    note(safe(f"{account} can now use the folder." if new else f"{account} could use the folder already."))


# ---- putting out -----------------------------------------------------------------------------------------------------


def accounts_to_withdraw(
    home: VaultHome, passphrase_file: Path | None, chosen: dict[str, Any], named: Sequence[str]
) -> list[str]:
    """The accounts of a member who is to be removed. Raises UsageError if none is known, or other devices use it."""
    who = chosen["member"]
    if not chosen["whole"]:
        raise UsageError(
            f"{who} keeps other devices, which use the folder, too.", "Leave --share out, or remove the member."
        )
    given = [account_named(one) for one in named]
    known = act(home, passphrase_file, "accounts", member=chosen["member_id"], named=given)
    for one in known["shared"]:
        note(safe(f"{one} keeps its access: others in the group use that account, too."))
    if not known["accounts"] and not known["shared"]:
        raise UsageError(
            f"Which account {who} uses is not known: it has sent nothing, or has no access of its own.",
            f"See `cryptfs-admin members {home.name} --access`, and name it (--account E-MAIL) or leave --share out.",
        )
    accounts: list[str] = known["accounts"]
    return accounts


def withdrawal(accounts: Sequence[str]) -> str:
    """What is going to happen to them."""
    if not accounts:
        return "No access to the folder is withdrawn."
    return f"Access to the folder is withdrawn from {', '.join(accounts)}. What they have sent there stays theirs."


def withdraw(
    home: VaultHome, passphrase_file: Path | None, accounts: Sequence[str], *, as_json: bool
) -> dict[str, Any]:
    """After the removal, which stands whatever comes of this. Returns whose access went, and why others' did not."""
    try:
        answer = act(home, passphrase_file, "withdraw", accounts=list(accounts))
    except CryptfsError as err:
        answer = {"withdrawn": [], "left": dict.fromkeys(accounts, f"{err} {err.advice}".strip())}
    if not as_json:
        for one in answer["withdrawn"]:
            line(safe(f"{one} has no access to the folder any more."))
    for one, why in answer["left"].items():
        note(safe(f"{one} still has access: {why} Withdraw it at the provider."))
    return {"withdrawn": answer["withdrawn"], "left": answer["left"]}


# ---- who has access --------------------------------------------------------------------------------------------------


def access_from_store(home: VaultHome, keys: DeviceKeys) -> Overview:
    """Asked at the store, for a command that has no vault open. Raises UsageError for a store without accounts."""
    with closing(store_beside(home.read_settings().store, home, keys)) as store:
        return overview(store, read_membership(store, keys), Call.within(_SECONDS))


def tell_access(access: dict[str, Any]) -> None:
    """The accounts the provider lets in, and what does not fit the group."""
    rows = [
        [
            cell(one["account"]),
            _may(one),
            cell(", ".join(one["members"]) or None),
            "by what lies above" if one["inherited"] else "",
        ]
        for one in access["access"]
    ]
    line("")
    table(("Account", "May", "Member", ""), rows)
    if any(not one["members"] for one in access["access"]):
        note("Without a member: nobody in the group has sent anything by it. Whoever has access and no keys can still")
        note("fetch what is sealed, and where it may write, add to it.")
    for name in access["without"]:
        note(safe(f"{name} is in, and the account known of them has no access of its own."))


def _may(one: dict[str, Any]) -> str:
    if one["owner"]:
        return "own"
    return "write" if one["writes"] else "read"
