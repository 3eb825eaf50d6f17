"""Opening the store of a vault with what this device keeps for it: logins, and a sealed table of what lies where."""

from cryptfs.crypto.keyfile import DeviceKeys
from cryptfs.crypto.keys import local_key
from cryptfs.store import Store, open_store, settled_url
from cryptfs.store.local import LocalFiles
from cryptfs.vault.home import VaultHome
from cryptfs.vault.logins import login_of, pending_login

__all__ = ["settle_address", "store_at", "store_beside", "store_of_newcomer"]


def store_at(url: str, home: VaultHome, keys: DeviceKeys) -> Store:
    """The store at `url`, for who holds the vault: what the store remembers outlives the process. No network yet.

    Raises UsageError, and Auth where a login is needed and there is none.
    """
    home.create_dirs()
    return open_store(
        url, LocalFiles(lambda: login_of(home, keys), home.store_file, local_key(keys.local_secret, "store"))
    )


def store_beside(url: str, home: VaultHome, keys: DeviceKeys) -> Store:
    """As `store_at`, for a command beside whoever holds the vault."""
    return open_store(url, LocalFiles(lambda: login_of(home, keys)))


def store_of_newcomer(url: str) -> Store:
    """The same before this device has the vault, with the login that waits for it."""
    return open_store(url, LocalFiles(pending_login))


def settle_address(text: str, *, make: bool = False) -> str:
    """The address that a person typed, as it is kept: a Drive folder by its id. `make`: a new folder may be made.

    Raises UsageError, ConfigError, and for Google Drive what a call to it raises.
    """
    return settled_url(text, LocalFiles(pending_login), make=make)
