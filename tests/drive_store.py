"""The Drive store of an account of an emulated Drive, as tests want it."""

from collections.abc import Callable
from pathlib import Path

from cryptfs.faults import Faults
from cryptfs.store.drive.access import DriveAccess
from cryptfs.store.drive.quota import Limits
from cryptfs.store.drive.store import DriveStore
from tests.drive_emulator import Emulator

QUICK = Limits(rate=10_000, rate_max=10_000, rate_min=5_000, burst=10_000, minute_units=10**9)
"""A pace that no test notices."""


def access(emulator: Emulator, email: str) -> DriveAccess:
    """A login of that account, which is made if need be."""
    login = emulator.credentials(email)
    return DriveAccess(
        login["client_id"], login["client_secret"], login["refresh_token"], login["token_uri"], email, emulator.url
    )


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
