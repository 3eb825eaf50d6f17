"""As whom, and where, Google Drive is asked: what `cryptfs login` leaves behind and every store begins with.

One login a `CRYPTFS_HOME`: the file `google-drive.json` in its configuration directory, readable by its owner alone.

    {"version": 1, "client_id": …, "client_secret": …, "refresh_token": …, "token_uri": …,
     "account": "anna@example.org", "endpoint": ""}

`endpoint` is where the API lies; empty for Google's own. It is how one tries cryptfs with a Drive of one's own, such as
`python -m tests.drive_emulator` (docs/google-drive.md, "Trying it without Google"). The file is a capability: with it
one is that account.
"""

import json
import os
import urllib.parse
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Final, Self

from cryptfs.errors import Auth, ConfigError, LocalDisk

__all__ = ["LOGIN_FILE", "SCOPE", "DriveAccess", "load_access", "save_access"]

LOGIN_FILE: Final = "google-drive.json"
SCOPE: Final = "https://www.googleapis.com/auth/drive"
"""The one scope by which several accounts can share a folder: `drive.file` is a grant to one user and one file."""
_TOKEN_URI: Final = "https://oauth2.googleapis.com/token"  # noqa: S105 - an address
_VERSION: Final = 1
_FILE_MAX: Final = 64 << 10
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})


@dataclass(frozen=True, slots=True)
class DriveAccess:
    """A login. Secrets do not show in its repr. Raises ConfigError for an address that would give them away."""

    client_id: str
    client_secret: str = field(repr=False)
    refresh_token: str = field(repr=False)
    token_uri: str = _TOKEN_URI
    account: str = ""  # e-mail address, for people
    endpoint: str = ""

    def __post_init__(self) -> None:
        for address in filter(None, (self.token_uri, self.endpoint)):
            parts = urllib.parse.urlsplit(address)
            if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
                raise ConfigError(
                    f"The login of Google Drive would go to {address}, where others can read it.",
                    "Use an https: address; http: only on this machine itself.",
                )

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """What `to_json` made. Raises ConfigError."""
        try:
            table = json.loads(data)
            version = table.pop("version")
            values = {one.name: table[one.name] for one in fields(cls) if one.name in table}
            if version != _VERSION or not all(isinstance(value, str) for value in values.values()):
                raise ValueError  # noqa: TRY301 - one answer for all that is wrong
            return cls(**values)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(
                "The file of the Google Drive login cannot be understood.", "Run `cryptfs login gdrive:` again."
            ) from error

    def to_json(self) -> bytes:
        """The bytes of a login file."""
        return json.dumps({"version": _VERSION, **asdict(self)}, indent=1).encode() + b"\n"


def load_access(logins: Path) -> DriveAccess:
    """The login in the directory `logins`. Raises Auth if there is none, ConfigError, LocalDisk."""
    try:
        with (logins / LOGIN_FILE).open("rb") as stream:
            data = stream.read(_FILE_MAX)
    except FileNotFoundError as error:
        raise Auth("Nobody is logged in at Google Drive on this device.", "Run `cryptfs login gdrive:`.") from error
    except OSError as error:
        raise LocalDisk(f"The Google Drive login cannot be read: {error.strerror}") from error
    return DriveAccess.from_json(data)


def save_access(logins: Path, access: DriveAccess) -> None:
    """Replace the login in the directory `logins`, mode 0600. Raises LocalDisk."""
    path, temporary = logins / LOGIN_FILE, logins / f".{LOGIN_FILE}.new"
    try:
        logins.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            os.fchmod(descriptor, 0o600)
            stream.write(access.to_json())
            stream.flush()
            os.fsync(descriptor)
        temporary.replace(path)
    except OSError as error:
        raise LocalDisk(f"The Google Drive login cannot be written: {error.strerror}") from error
