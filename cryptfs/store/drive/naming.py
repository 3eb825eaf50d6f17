"""Which folder of Google Drive a person means: an id as it stands in the folder's address, or a name in My Drive.

A name is looked up once, when a vault is made or joined; from then on the vault's address holds the id, which survives
renaming and moving.
"""

import re
from typing import Final

from cryptfs.errors import ConfigError, Exists, NotFound, UsageError
from cryptfs.store.base import Call
from cryptfs.store.drive.access import DriveAccess
from cryptfs.store.drive.client import Client

__all__ = ["folder_id"]

_ID: Final = re.compile(r"[A-Za-z0-9_-]{19,64}")
"""Ids have 28 to 44 of these, those of shared drives 19. No folder is likely to be called like that."""


def folder_id(access: DriveAccess, place: str, *, make: bool) -> str:
    """The id of the folder that `place` means; with `make`, a name nobody bears yet becomes a new folder.

    Raises UsageError for a name that several folders bear, or none; ConfigError for an id that is no folder this
    account sees; the store family.
    """
    client = Client(access)
    try:
        call = Call.within(60)
        return _by_id(client, place, call) if _ID.fullmatch(place) else _by_name(client, place, call, make=make)
    finally:
        client.close()


def _by_id(client: Client, place: str, call: Call) -> str:
    try:
        file = client.file(place, call)
    except NotFound as error:
        raise ConfigError(
            f"Google Drive shows this account no folder {place}.",
            "Check the id (the end of the folder's address in a browser), and that it is shared with this account.",
        ) from error
    if not file.folder or file.trashed:
        raise ConfigError(f"{place} is no folder of Google Drive, or lies in the trash.", "Name a folder.")
    return file.id


def _by_name(client: Client, name: str, call: Call, *, make: bool) -> str:
    found = [one for one in client.listing("root", "", call, name=name, folders=True) if one.name == name]
    if len(found) > 1:
        raise UsageError(
            f"{len(found)} folders in My Drive are called {name}.", "Give the id: the end of the folder's address."
        )
    if found:
        return found[0].id
    if not make:
        raise UsageError(f"There is no folder called {name} in My Drive.", "Give its name as it is, or its id.")
    (new,) = client.new_ids(1, call)
    try:
        return client.create_folder(new, name, "root", call).id
    except Exists:  # the answer to the first request was lost, and the connection sent it again by itself
        return new
