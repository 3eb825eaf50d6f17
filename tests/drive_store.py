"""The Drive store of an account of an emulated Drive, as tests want it."""

import os
from collections.abc import Callable
from pathlib import Path
from unittest import mock

from cryptfs.crypto import keyfile
from cryptfs.faults import Faults
from cryptfs.store.drive.access import DriveAccess
from cryptfs.store.drive.quota import Limits
from cryptfs.store.drive.store import DriveStore
from cryptfs.vault.home import VaultHome
from cryptfs.vault.logins import keep_login, keep_pending
from tests.drive_emulator import Emulator

QUICK = Limits(rate=10_000, rate_max=10_000, rate_min=5_000, burst=10_000, minute_units=10**9)
"""A pace that no test notices."""


def access(emulator: Emulator, email: str) -> DriveAccess:
    """A login of that account, which is made if need be."""
    login = emulator.credentials(email)
    return DriveAccess(
        login["client_id"], login["client_secret"], login["refresh_token"], login["token_uri"], email, emulator.url
    )


def log_in(home: Path, login: DriveAccess, vault: str | None = None) -> None:
    """What `cryptfs login` leaves in CRYPTFS_HOME `home`: for the next vault, or `vault`, which has no passphrase."""
    with mock.patch.dict(os.environ, CRYPTFS_HOME=str(home)):
        if vault is None:
            keep_pending(login)
        else:
            place = VaultHome.of(vault)
            keep_login(place, keyfile.decode(place.keys_file.read_bytes(), None), login)


def drive_store(
    emulator: Emulator,
    email: str,
    folder: str,
    table: Path | None = None,
    *,
    faults: Faults | None = None,
    reload: Callable[[], DriveAccess] | None = None,
) -> DriveStore:
    """A store on a folder of that Drive."""
    key = bytes(range(32)) if table is not None else None
    return DriveStore(access(emulator, email), folder, table, key=key, limits=QUICK, faults=faults, reload=reload)
