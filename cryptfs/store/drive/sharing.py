"""Whom Google lets into the vault's folder, and who sent what lies there."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from cryptfs.errors import Denied, NotFound
from cryptfs.store.base import Access, Call
from cryptfs.store.drive.client import Client
from cryptfs.store.drive.folders import Folders
from cryptfs.store.drive.quota import Kind

__all__ = ["Permissions"]

_WRITES: Final = frozenset({"writer", "fileOrganizer", "organizer", "owner"})
_SHOWN: Final = "id,type,role,emailAddress,domain,permissionDetails(inherited)"
_SENT: Final = "name,createdTime,owners(emailAddress),lastModifyingUser(emailAddress)"
_PAGE: Final = 1000
_PERMISSIONS_PAGE: Final = 100


class Permissions:
    """Of the folder at the top of one vault. Thread-safe. Raises the store family; `Denied` for who may only read."""

    def __init__(self, client: Client, folders: Folders) -> None:
        self._client, self._folders = client, folders

    def access(self, call: Call) -> tuple[Access, ...]:
        """See `Sharing`."""
        return tuple(_access_of(row) for row in self._rows(call))

    def grant(self, account: str, call: Call, *, letter: bool) -> bool:
        """See `Sharing`. Asked twice, Google makes one permission of it."""
        if any(one.account.casefold() == account.casefold() and one.writes for one in self.access(call)):
            return False
        body = {"type": "user", "role": "writer", "emailAddress": account}
        request = self._client.api.permissions.create(
            fileId=self._folders.root, body=body, sendNotificationEmail=letter, supportsAllDrives=True, fields="id"
        )
        self._ask(Kind.WRITE, request, call)
        return True

    def withdraw(self, account: str, call: Call) -> bool:
        """See `Sharing`."""
        found = [row for row in self._rows(call) if _name_of(row).casefold() == account.casefold()]
        for row in found:
            one = _access_of(row)
            if one.owner:
                raise Denied(
                    f"The folder belongs to {account}: nobody can withdraw that.",
                    "Move the vault to a folder of another account.",
                )
            if one.inherited:
                raise Denied(
                    f"{account} has access by a folder above, or as a member of the shared drive.",
                    "Withdraw it there, in Google Drive.",
                )
        if found and account.casefold() == self._client.about(call)[0].casefold():
            raise Denied("This device uses that account itself.", "Another administrator's device can withdraw it.")
        for row in found:
            request = self._client.api.permissions.delete(
                fileId=self._folders.root, permissionId=str(row.get("id", "")), supportsAllDrives=True
            )
            try:
                self._ask(Kind.WRITE, request, call)
            except NotFound:  # withdrawn meanwhile, or the first answer was lost
                continue
        return bool(found)

    def senders(self, folder: str, call: Call) -> dict[str, str]:
        """See `Sharing`. Of several files of one name the oldest counts: others are copies that somebody took over."""
        oldest: dict[str, tuple[str, str]] = {}
        for parent in self._folders.of(folder, call):
            for row in self._files(parent, self._folders.drive(call), call):
                key, sender = f"{folder}/{row.get('name', '')}", _sender_of(row)
                made = (str(row.get("createdTime", "")), sender)
                if sender and made < oldest.get(key, ("~", "")):
                    oldest[key] = made
        return {key: sender for key, (_, sender) in oldest.items()}

    # ---- one call ----------------------------------------------------------------------------------------------------

    def _rows(self, call: Call) -> list[Mapping[str, Any]]:
        """The permissions of the folder as Google tells them."""
        found: list[Mapping[str, Any]] = []
        more: dict[str, str] = {}
        while True:
            request = self._client.api.permissions.list(
                fileId=self._folders.root, pageSize=_PERMISSIONS_PAGE, supportsAllDrives=True,
                fields=f"nextPageToken,permissions({_SHOWN})", **more,
            )  # fmt: skip
            try:
                answer = self._ask(Kind.LISTING, request, call)
            except NotFound as error:
                raise self._folders.gone() from error
            found += answer.get("permissions", [])
            if not answer.get("nextPageToken"):
                return found
            more = {"pageToken": answer["nextPageToken"]}

    def _files(self, parent: str, drive: str, call: Call) -> Iterator[Mapping[str, Any]]:
        more = {"corpora": "drive", "driveId": drive} if drive else {}
        while True:
            request = self._client.api.files.list(
                q=f"'{parent}' in parents and trashed = false", pageSize=_PAGE, supportsAllDrives=True,
                includeItemsFromAllDrives=True, fields=f"nextPageToken,files({_SENT})", **more,
            )  # fmt: skip
            answer = self._ask(Kind.LISTING, request, call)
            yield from answer.get("files", [])
            if not answer.get("nextPageToken"):
                return
            more["pageToken"] = answer["nextPageToken"]

    def _ask(self, kind: Kind, request: Any, call: Call) -> Any:
        return self._client.run(kind, lambda http: request.execute(http=http, num_retries=0), call)


def _access_of(row: Mapping[str, Any]) -> Access:
    details = row.get("permissionDetails") or []
    return Access(
        _name_of(row),
        writes=row.get("role") in _WRITES,
        owner=row.get("role") == "owner",
        inherited=bool(details) and all(one.get("inherited") for one in details),
        person=row.get("type") == "user",
    )


def _name_of(row: Mapping[str, Any]) -> str:
    """As people know it. A link or a domain has no address."""
    if row.get("type") == "anyone":
        return "anyone with the link"
    if row.get("type") == "domain":
        return f"everybody at {row.get('domain', '?')}"
    return str(row.get("emailAddress", "?"))


def _sender_of(row: Mapping[str, Any]) -> str:
    """Owner on My Drive; on a shared drive, which owns everything, who wrote it: files are written once."""
    owners = row.get("owners") or [row.get("lastModifyingUser") or {}]
    return str(owners[0].get("emailAddress", ""))
