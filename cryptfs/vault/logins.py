"""Where this device keeps its logins at Google Drive.

| file                       | holds                                                        |
|----------------------------|--------------------------------------------------------------|
| `data/NAME/login.cfs`      | the login of the vault NAME, sealed under this device's keys |
| `config/google-drive.json` | one that no vault has taken yet, in clear, mode 0600         |

Before `init` and `join` there are no keys to seal it under; the first vault made or joined after a login takes it.
A login that was withdrawn leaves its client id there, which is no secret: the next one is asked for with it.

Access tokens, which are good for an hour, are never written down: a refresh token does not change when it is used, so
several processes may each renew their own.
"""

from dataclasses import replace
from pathlib import Path
from typing import Final, TypeAlias

from cryptfs.crypto.keyfile import DeviceKeys
from cryptfs.crypto.keys import local_key
from cryptfs.errors import Auth
from cryptfs.format.codec import FMT, Wire, check_fmt
from cryptfs.group.membership import Membership
from cryptfs.store.drive.access import DriveAccess
from cryptfs.vault.disk import local_disk
from cryptfs.vault.home import VaultHome, logins_dir
from cryptfs.vault.sealedfile import SealedFile, write_durably

__all__ = [
    "adopt_login",
    "forget_pending",
    "keep_login",
    "keep_pending",
    "last_login",
    "login_of",
    "pending_file",
    "pending_login",
    "withdraw_login",
]

_MAGIC: Final = b"CFSGDRV1"
_FILE: Final = "login.cfs"
_PENDING: Final = "google-drive.json"
_PENDING_MAX: Final = 64 << 10


class _Kept(Wire, frozen=True):
    fmt: int
    access: bytes

    def __repr__(self) -> str:
        return "_Kept()"


Holder: TypeAlias = DeviceKeys | Membership
"""Whoever has the keys of this device: a command that unlocked them, or a vault that is open."""


def _sealed(home: VaultHome, keys: Holder) -> SealedFile:
    key = keys.local_key("login") if isinstance(keys, Membership) else local_key(keys.local_secret, "login")
    return SealedFile(home.data_dir / _FILE, _MAGIC, "login", key, keys.vault)


def login_of(home: VaultHome, keys: Holder) -> DriveAccess:
    """The login of a vault. Raises Auth if there is none, Damaged or AuthError for a file of another, LocalDisk."""
    last = last_login(home, keys)
    if last is None or not last.refresh_token:
        raise Auth(f"'{home.name}' has no login at Google Drive.", f"Run `cryptfs login {home.name}`.")
    return last


def last_login(home: VaultHome, keys: Holder) -> DriveAccess | None:
    """The same, or what is left of one that was withdrawn: its `refresh_token` is empty. Raises as `login_of`."""
    kept = _sealed(home, keys).read(_Kept)
    if kept is None:
        return None
    check_fmt(kept.fmt)
    return DriveAccess.from_json(kept.access)


def keep_login(home: VaultHome, keys: DeviceKeys, access: DriveAccess) -> None:
    """Replace the login of a vault; durable on return. Raises LocalDisk."""
    _sealed(home, keys).write(_Kept(FMT, access.to_json()))


def withdraw_login(home: VaultHome, keys: DeviceKeys) -> None:
    """Remove what is secret of it, and keep the client id: who was invited has that from nowhere else.

    Raises as `login_of`.
    """
    keep_login(home, keys, replace(login_of(home, keys), refresh_token=""))


def pending_file() -> Path:
    """Where a login waits for a vault."""
    return logins_dir() / _PENDING


def pending_login() -> DriveAccess:
    """The login that no vault has taken yet. Raises Auth if there is none, ConfigError, LocalDisk."""
    with local_disk(f"reading {_PENDING}"):
        try:
            with pending_file().open("rb") as stream:
                data = stream.read(_PENDING_MAX)
        except FileNotFoundError as err:
            raise Auth("Nobody is logged in at Google Drive for a new vault.", "Run `cryptfs login gdrive:`.") from err
    return DriveAccess.from_json(data)


def keep_pending(access: DriveAccess) -> None:
    """Keep a login for the next vault. Raises LocalDisk."""
    write_durably(pending_file(), access.to_json())


def adopt_login(home: VaultHome, keys: DeviceKeys, url: str) -> None:
    """A new vault on Google Drive takes the login that waits; its clear copy is removed. Raises as `pending_login`."""
    if not url.startswith("gdrive:"):
        return
    keep_login(home, keys, pending_login())
    forget_pending()


def forget_pending() -> None:
    """Remove what waits; nothing there is fine. Raises LocalDisk."""
    with local_disk(f"removing {_PENDING}"):
        pending_file().unlink(missing_ok=True)
