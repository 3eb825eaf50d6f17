"""How a vault's place at Google Drive is: what `cryptfs doctor` asks Google, one question at a time."""

import email.utils
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import httplib2

from cryptfs.errors import NotFound, Retry
from cryptfs.store.base import Call, Space, is_folder
from cryptfs.store.drive.access import DriveAccess
from cryptfs.store.drive.client import Client
from cryptfs.store.drive.errors import mapped
from cryptfs.store.drive.tokens import granted_scopes

__all__ = ["Examination", "FolderState", "Items"]

_GOOGLE: Final = "https://www.googleapis.com"
_TIMEOUT: Final = 10.0


@dataclass(frozen=True, slots=True)
class FolderState:
    """The vault's folder as this account sees it. `own`: it is this account's; on a shared drive nobody's."""

    may_add: bool
    trashed: bool
    shared_drive: bool
    own: bool


@dataclass(slots=True)
class Items:
    """How many files and folders the vault has, and its fullest folder. `complete`: all were counted in time."""

    total: int = 0
    fullest: int = 0
    complete: bool = True


class Examination:
    """Questions to Google as the account of `access`; each raises the store family. Close it."""

    def __init__(self, access: DriveAccess, folder: str, wall: Callable[[], float] = time.time) -> None:
        self._access, self._folder, self._wall = access, folder, wall
        self._client = Client(access)
        self._drive = ""

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def account(self, call: Call) -> tuple[str, Space | None]:
        """Address and room of the account. Needs the API to be enabled, the login to live, the scope to be granted."""
        return self._client.about(call)

    def folder(self, call: Call) -> FolderState | None:
        """The folder; None if Google shows this account none of that id."""
        try:
            file = self._client.file(self._folder, call)
        except NotFound:
            return None
        self._drive = file.drive
        return FolderState(file.may_add is not False, file.trashed, bool(file.drive), file.mine is True)

    def scopes(self) -> frozenset[str]:
        """What the person agreed to at the login."""
        return granted_scopes(self._access)

    def items(self, call: Call) -> Items:
        """Count, after `folder`; what lies in the trash is left out. A call that runs late ends the count."""
        found, folders = Items(), [self._folder]
        try:
            while folders:
                here = 0
                for file in self._client.listing(folders.pop(), self._drive, call):
                    here, found.total = here + 1, found.total + 1
                    found.fullest = max(found.fullest, here)
                    if file.folder and is_folder(file.name):
                        folders.append(file.id)
        except Retry:
            if call.remaining() > 0:
                raise
            found.complete = False
        return found

    def clock_error(self) -> float | None:
        """Seconds by which this machine's clock is ahead of Google's; None if the answer has no date."""
        transport = httplib2.Http(timeout=_TIMEOUT)
        try:
            with mapped():
                # Refused, for want of a login, but dated.
                head, _ = transport.request(f"{self._access.endpoint.rstrip('/') or _GOOGLE}/drive/v3/about")
                dated = head.get("date")
                return self._wall() - email.utils.parsedate_to_datetime(dated).timestamp() if dated else None
        finally:
            transport.close()
