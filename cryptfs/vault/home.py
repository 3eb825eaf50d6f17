"""Where one vault's state lies on this device: XDG directories, or all below `CRYPTFS_HOME`.

| path                      | holds                                              | who may delete it            |
|---------------------------|----------------------------------------------------|------------------------------|
| `config/NAME.toml`        | the store's address and options, no secrets        | loses the address            |
| `config/google-drive.json` | a login at Google Drive that waits for a vault      | means logging in again       |
| `data/NAME/keys.cfs`      | this device's keys, sealed                         | nobody: precious             |
| `data/NAME/journal-*`     | accepted changes that the store does not have yet  | nobody: precious             |
| `data/NAME/packs/`        | sealed records not confirmed by the store yet      | nobody: precious             |
| `data/NAME/invitations.cfs` | open invitations of this device, sealed         | makes them worthless         |
| `data/NAME/joining.cfs`   | the token, until the first opening has checked it  | weakens that check           |
| `data/NAME/pins.cfs`      | what is kept here for use without the store, sealed | unpins it                   |
| `data/NAME/trust.cfs`     | what this device has seen (rollback detection)     | weakens rollback detection   |
| `data/NAME/login.cfs`     | the login at a provider, sealed                    | means logging in again       |
| `data/NAME/store.db`      | what lies where at a provider, begun uploads, sealed | makes uploads begin anew  |
| `cache/NAME/`             | replica and confirmed packs                        | anybody, while not mounted   |
| `run/NAME.sock`           | control socket of the running mount                | -                            |
"""

import hashlib
import os
import re
import stat
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import platformdirs

from cryptfs.errors import ConfigError, NoSuchVault, UsageError

__all__ = ["VaultHome", "VaultSettings", "known_vaults", "logins_dir"]

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_SOCKET_PATH_MAX: Final = 100
"""Bytes; the kernel's `sun_path` holds 108."""

_CACHE_TAG: Final = "Signature: 8a477f597d28d172789f06886806bc55\n# This directory holds disposable data of cryptfs.\n"


@dataclass(frozen=True, slots=True)
class VaultSettings:
    """What `NAME.toml` says: the store's address, and option values as strings."""

    store: str
    options: dict[str, str]


@dataclass(frozen=True, slots=True)
class VaultHome:
    """All paths of the vault called `name` on this device."""

    name: str
    config_dir: Path
    data_dir: Path
    cache_dir: Path
    runtime_dir: Path

    @classmethod
    def of(cls, name: str) -> "VaultHome":
        """Paths for `name`. Raises UsageError for a name that could not be a file name everywhere."""
        if not _NAME.match(name):
            raise UsageError(
                f"'{name}' cannot be the name of a vault.", "Use 1 to 64 letters, digits, dots, dashes and underscores."
            )
        config, data, cache, runtime = _roots()
        return cls(name, config, data / name, cache / name, runtime)

    @property
    def settings_file(self) -> Path:
        return self.config_dir / f"{self.name}.toml"

    @property
    def keys_file(self) -> Path:
        return self.data_dir / "keys.cfs"

    @property
    def trust_file(self) -> Path:
        return self.data_dir / "trust.cfs"

    @property
    def store_file(self) -> Path:
        return self.data_dir / "store.db"

    @property
    def revocation_dir(self) -> Path:
        return self.data_dir / "revocation"

    @property
    def lock_file(self) -> Path:
        return self.data_dir / "lock"

    @property
    def packs_dir(self) -> Path:
        return self.data_dir / "packs"

    @property
    def replica_file(self) -> Path:
        return self.cache_dir / "replica.db"

    @property
    def cached_packs_dir(self) -> Path:
        return self.cache_dir / "packs"

    @property
    def log_file(self) -> Path:
        return self.cache_dir / "mount.log"

    @property
    def control_socket(self) -> Path:
        """The socket of the running mount; moved to a short path where the natural one is too long for the kernel."""
        natural = self.runtime_dir / f"{self.name}.sock"
        if len(os.fsencode(natural)) <= _SOCKET_PATH_MAX:
            return natural
        digest = hashlib.sha256(os.fsencode(natural)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"cryptfs-{os.getuid()}" / f"{digest}.sock"

    @property
    def default_mount_point(self) -> Path:
        return Path.home() / "Cryptfs" / self.name

    def exists(self) -> bool:
        """Whether this device has keys for the vault."""
        return self.keys_file.exists()

    def require(self) -> None:
        """Raises NoSuchVault unless this device has keys for the vault."""
        if not self.exists():
            raise NoSuchVault(f"There is no vault called '{self.name}' on this device.")

    def create_dirs(self) -> None:
        """Make every directory, readable by the owner alone. Raises ConfigError if another user made the sockets'."""
        directories = (self.config_dir, self.data_dir, self.packs_dir, self.cache_dir, self.cached_packs_dir)
        for directory in (*directories, self.runtime_dir, self.control_socket.parent):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for directory in {self.runtime_dir, self.control_socket.parent}:
            _check_private(directory)
        tag = self.cache_dir / "CACHEDIR.TAG"
        if not tag.exists():
            tag.write_text(_CACHE_TAG)

    def read_settings(self) -> VaultSettings:
        """Raises NoSuchVault without a settings file, ConfigError if it cannot be understood."""
        try:
            table = tomllib.loads(self.settings_file.read_text())
        except FileNotFoundError as err:
            raise NoSuchVault(f"There is no vault called '{self.name}' on this device.") from err
        except (OSError, ValueError) as err:
            raise ConfigError(f"{self.settings_file} cannot be read: {err}", "Correct or restore that file.") from err
        store = table.pop("store", None)
        if not isinstance(store, str) or not store:
            raise ConfigError(f"{self.settings_file} names no store.", 'It needs a line like store = "file:///dir".')
        return VaultSettings(store, {key: _option(value) for key, value in table.items()})

    def write_settings(self, store: str) -> None:
        """Write `NAME.toml`, mode 0600."""
        self.config_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        quoted = store.replace("\\", "\\\\").replace('"', '\\"')
        temporary = self.settings_file.with_suffix(".tmp")
        temporary.write_text(
            f"# Settings of the vault {self.name}; options of `cryptfs mount -o` may stand here too.\n"
            f'store = "{quoted}"\n'
        )
        temporary.chmod(0o600)
        temporary.replace(self.settings_file)


def _check_private(directory: Path) -> None:
    """In a shared /tmp somebody else may have made the directory first, to put sockets of his own there."""
    status = directory.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid not in {0, os.getuid()} or status.st_mode & 0o022:
        raise ConfigError(
            f"Other users may write to {directory}.", "Remove it, or set XDG_RUNTIME_DIR to a directory of your own."
        )


def logins_dir() -> Path:
    """Where a login at a provider waits for a vault to take it."""
    return _roots()[0]


def known_vaults() -> list[str]:
    """Names of all vaults this device has keys for, sorted."""
    data = _roots()[1]
    if not data.is_dir():
        return []
    return sorted(entry.name for entry in data.iterdir() if _NAME.match(entry.name) and (entry / "keys.cfs").exists())


def _option(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _roots() -> tuple[Path, Path, Path, Path]:
    home = os.environ.get("CRYPTFS_HOME")
    if home:
        base = Path(home).expanduser().absolute()
        return base / "config", base / "data", base / "cache", base / "run"
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return (
        Path(platformdirs.user_config_dir("cryptfs")),
        Path(platformdirs.user_data_dir("cryptfs")),
        Path(platformdirs.user_cache_dir("cryptfs")),
        Path(runtime) / "cryptfs" if runtime else Path(tempfile.gettempdir()) / f"cryptfs-{os.getuid()}",
    )
