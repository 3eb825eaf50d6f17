"""Opening the store of a vault with what this device keeps for it: logins, and a sealed table of what lies where."""

from cryptfs.crypto.keyfile import DeviceKeys
from cryptfs.crypto.keys import local_key
from cryptfs.store import Store, open_store, settled_url
from cryptfs.store.local import LocalFiles
from cryptfs.vault.home import VaultHome, logins_dir

__all__ = ["settle_address", "store_at"]


def store_at(url: str, home: VaultHome | None = None, keys: DeviceKeys | None = None) -> Store:
    """The store at `url`; no network yet. Raises UsageError, and Auth where a login is needed and there is none.

    With `home` and `keys`, for who holds the vault: what the store remembers outlives the process.
    """
    if home is None or keys is None:
        return open_store(url, LocalFiles(logins_dir()))
    home.create_dirs()
    return open_store(url, LocalFiles(logins_dir(), home.store_file, local_key(keys.local_secret, "store")))


def settle_address(text: str, *, make: bool = False) -> str:
    """The address that a person typed, as it is kept: a Drive folder by its id. `make`: a new folder may be made.

    Raises UsageError, ConfigError, and for Google Drive what a call to it raises.
    """
    return settled_url(text, LocalFiles(logins_dir()), make=make)
