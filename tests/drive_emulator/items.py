"""What an emulated Drive holds: accounts, shared drives, files and folders, and who may use them."""

import datetime as dt
import hashlib
from dataclasses import dataclass, field

from tests.drive_emulator.settings import GiB

FOLDER = "application/vnd.google-apps.folder"
ROLES = ("reader", "commenter", "writer", "fileOrganizer", "organizer", "owner")
"""From the least to the most. On My Drive there are no organizers, on a shared drive no owners."""


def at_least(role: str | None, least: str) -> bool:
    """Whether `role` may do what `least` may."""
    return role is not None and ROLES.index(role) >= ROLES.index(least)


@dataclass(slots=True)
class User:
    """An account. `storage` in bytes, None without bound, 0 as service accounts have it."""

    email: str
    name: str
    permission_id: str  # the id all permissions of this account bear
    root: str
    storage: int | None = 15 * GiB
    gone: bool = False  # the account was deleted


@dataclass(slots=True)
class Permission:
    """One grant on one item or shared drive."""

    email: str
    role: str
    id: str
    type: str = "user"


@dataclass(slots=True)
class SharedDrive:
    """A drive that owns its files. Its id is that of its topmost folder, too."""

    id: str
    name: str
    members: dict[str, Permission] = field(default_factory=dict)  # by permission id


@dataclass(slots=True)
class Blob:
    """Bytes with their checksums."""

    data: bytes = field(repr=False)
    md5: str
    sha1: str
    sha256: str

    @classmethod
    def of(cls, data: bytes) -> "Blob":
        return cls(
            data,
            hashlib.md5(data, usedforsecurity=False).hexdigest(),
            hashlib.sha1(data, usedforsecurity=False).hexdigest(),
            hashlib.sha256(data).hexdigest(),
        )


@dataclass(slots=True)
class Item:
    """A file or folder. Fields are replaced under the lock of `World` alone; listings keep copies of older states."""

    id: str
    name: str
    mime: str
    owner: str | None  # e-mail; None on a shared drive
    drive: str | None  # shared drive's id
    parent: str | None
    created: float
    modified: float
    blob: Blob | None = None  # None for folders
    version: int = 1
    trashed: bool = False  # put into the trash itself, not merely inside a folder that was
    trashed_at: float = 0.0
    changed_by: str = ""
    grants: dict[str, Permission] = field(default_factory=dict)  # own ones, by permission id
    blocked: set[str] = field(default_factory=set)  # permission ids whose inherited access was taken away here
    extra: dict[str, object] = field(default_factory=dict)  # description, properties, ... as they were sent
    revisions: list[Blob] = field(default_factory=list)  # contents before the present one
    checksums: bool = True  # are sha1 and sha256 known?

    @property
    def is_folder(self) -> bool:
        return self.mime == FOLDER

    @property
    def size(self) -> int:
        return len(self.blob.data) if self.blob else 0


def stamp(seconds: float) -> str:
    """A time as Drive writes it: RFC 3339, milliseconds, UTC."""
    moment = dt.datetime.fromtimestamp(int(seconds * 1000) / 1000, dt.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def moment(text: str) -> float:
    """Seconds since 1970 of what `stamp` and its relatives write. Raises ValueError."""
    found = dt.datetime.fromisoformat(text)
    if found.tzinfo is None:
        found = found.replace(tzinfo=dt.UTC)
    return found.timestamp()
