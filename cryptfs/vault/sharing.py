"""Who has access to the folder at the provider, compared with who is in the group.

The provider's permissions keep others from deleting and from adding junk; they decide nothing about who reads, which
the keys do. No statement says which account a member uses: the provider knows who sent the segments of each log. That
is the provider's word, good enough for whom it lets in, so a person is asked before anything is withdrawn.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptfs.errors import StoreError, UsageError
from cryptfs.format.names import RollupName, SegmentName, parse_name
from cryptfs.group.membership import Membership
from cryptfs.store.base import Access, Call, Sharing, Store

if TYPE_CHECKING:
    from cryptfs.vault.vault import Vault

__all__ = [
    "Overview",
    "access_to",
    "account_named",
    "accounts_of",
    "overview",
    "share",
    "sharing_of",
    "withdraw_from",
]

_ADDRESS_MAX: Final = 254
"""Characters of an address (RFC 5321, 4.5.3.1.3)."""


@dataclass(frozen=True, slots=True)
class Overview:
    """Whom the provider lets in, and the accounts that each member (id) was seen to use."""

    access: tuple[Access, ...]
    accounts: dict[bytes, frozenset[str]]
    names: dict[bytes, str]

    def users_of(self, account: str) -> list[str]:
        """Names of the members who use an account."""
        return [self.names[one] for one in self.names if account in self.accounts.get(one, ())]

    @property
    def outsiders(self) -> list[Access]:
        """Who has access, and by whose account no member has sent anything yet."""
        return [one for one in self.access if not self.users_of(one.account.casefold())]

    @property
    def shut_out(self) -> list[str]:
        """Names of members none of whose accounts has access of its own; by a group or a link it may."""
        let_in = {one.account.casefold() for one in self.access}
        return [name for one, name in self.names.items() if one in self.accounts and not self.accounts[one] & let_in]

    def as_json(self) -> dict[str, object]:
        """For commands."""
        unseen = [name for one, name in self.names.items() if one not in self.accounts]
        rows = [one._asdict() | {"members": self.users_of(one.account.casefold())} for one in self.access]
        return {"access": rows, "without": self.shut_out, "account_unknown": unseen}


def sharing_of(store: Store) -> Sharing:
    """The store as one whose provider shares folders with accounts. Raises UsageError for any other."""
    if isinstance(store, Sharing):
        return store
    raise UsageError(
        "Nobody can be let into this store from here: it knows no accounts.",
        "Leave the option out, and give or withdraw access to the folder where it lies.",
    )


def overview(store: Store, membership: Membership, call: Call) -> Overview:
    """Ask the provider. Raises UsageError for a store without accounts, the store family."""
    sharing = sharing_of(store)
    access = tuple(sorted(sharing.access(call), key=lambda one: (not one.owner, not one.person, one.account)))
    names = {one.member: one.display for one in membership.resolved.roster.values()}
    seen: dict[bytes, set[str]] = {}
    for key, account in sharing.senders("l", call).items():
        name = parse_name(key)
        owner = membership.graph.log_owner(name.log_id) if isinstance(name, SegmentName | RollupName) else None
        if owner is not None and owner.member in names:
            seen.setdefault(owner.member, set()).add(account.casefold())
    return Overview(access, {one: frozenset(accounts) for one, accounts in seen.items()}, names)


def account_named(text: str) -> str:
    """An e-mail address as it was typed. Raises UsageError for what cannot be one."""
    name, at, domain = text.strip().rpartition("@")
    if not (name and at and "." in domain) or len(text) > _ADDRESS_MAX or not text.isprintable() or " " in text.strip():
        raise UsageError(f"'{text}' is no e-mail address.", "Give the address of the account, as ben@example.org.")
    return text.strip()


# ---- acts of `cryptfs-admin`, with JSON values in and out ------------------------------------------------------------


async def share(vault: "Vault", account: str, *, letter: bool) -> bool:
    """Let an account into the folder; returns whether that was necessary. Raises as `overview`."""
    sharing = sharing_of(vault.sender.store)
    return await vault.sender.ask(lambda call: sharing.grant(account, call, letter=letter))


async def access_to(vault: "Vault", _: Mapping[str, object]) -> dict[str, object]:
    """The act `access`: who has access, and who is in. Raises as `overview`."""
    await vault.refresh_membership()
    return (await _overview_of(vault)).as_json()


async def accounts_of(vault: "Vault", arguments: Mapping[str, object]) -> dict[str, object]:
    """The act `accounts`: those that have access and that the member with the id `member` uses, or those `named`.

    Apart from them (`shared`) what others in the group use, too. Raises as `overview`.
    """
    member, named = bytes.fromhex(str(arguments.get("member", ""))), arguments.get("named")
    seen = await _overview_of(vault)
    if isinstance(named, list) and named:
        chosen = [str(one) for one in named]
    else:
        theirs = seen.accounts.get(member, frozenset())
        chosen = [one.account for one in seen.access if one.account.casefold() in theirs]
    others = {account for one, accounts in seen.accounts.items() if one != member for account in accounts}
    alone = [one for one in chosen if one.casefold() not in others]
    return {"accounts": alone, "shared": [one for one in chosen if one.casefold() in others]}


async def withdraw_from(vault: "Vault", arguments: Mapping[str, object]) -> dict[str, object]:
    """The act `withdraw`: let `accounts` in no more. Returns those of which it was done, and why not the others."""
    sharing = sharing_of(vault.sender.store)
    asked = arguments.get("accounts")
    done: list[str] = []
    left: dict[str, str] = {}
    for account in map(str, asked if isinstance(asked, list) else []):
        try:
            await vault.sender.ask(lambda call, account=account: sharing.withdraw(account, call))  # type: ignore[misc]
            done.append(account)
        except StoreError as err:
            left[account] = f"{err} {err.advice}".strip()
    return {"withdrawn": done, "left": left}


async def _overview_of(vault: "Vault") -> Overview:
    store, membership = vault.sender.store, vault.membership
    return await vault.sender.ask(lambda call: overview(store, membership, call))
