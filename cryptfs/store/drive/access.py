"""As whom, and where, Google Drive is asked: what a login leaves behind and every store begins with.

    {"version": 1, "client_id": …, "client_secret": …, "refresh_token": …, "token_uri": …,
     "account": "anna@example.org", "endpoint": "", "since": "2026-11-25", "until": ""}

`endpoint` is where the API lies; empty for Google's own. It is how one tries cryptfs with a Drive of one's own, such as
`python -m tests.drive_emulator` (docs/google-drive.md, "Trying it without Google"). These bytes are a capability: with
them one is that account. Where they are kept: `vault/logins.py`.
"""

import json
import urllib.parse
from dataclasses import asdict, dataclass, field, fields
from typing import Final, Self

from cryptfs.errors import ConfigError

__all__ = ["GOOGLE_TOKENS", "SCOPE", "DriveAccess", "check_address"]

SCOPE: Final = "https://www.googleapis.com/auth/drive"
"""The one scope by which several accounts can share a folder: `drive.file` is a grant to one user and one file."""
GOOGLE_TOKENS: Final = "https://oauth2.googleapis.com/token"  # an address
_VERSION: Final = 1
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})


def check_address(address: str) -> None:
    """Raises ConfigError for an address to which a login would travel in clear."""
    parts = urllib.parse.urlsplit(address)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise ConfigError(
            f"The login of Google Drive would go to {address}, where others can read it.",
            "Use an https: address; http: only on this machine itself.",
        )


@dataclass(frozen=True, slots=True)
class DriveAccess:
    """A login. Secrets do not show in its repr. Raises ConfigError for an address that would give them away.

    `since`, `until`: days, as 2026-11-25; `until` is empty unless Google has announced the login's end.
    """

    client_id: str
    client_secret: str = field(repr=False)
    refresh_token: str = field(repr=False)
    token_uri: str = GOOGLE_TOKENS
    account: str = ""  # e-mail address
    endpoint: str = ""
    since: str = ""
    until: str = ""

    def __post_init__(self) -> None:
        for address in filter(None, (self.token_uri, self.endpoint)):
            check_address(address)

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
            raise ConfigError("The login of Google Drive cannot be understood.", "Run `cryptfs login`.") from error

    def to_json(self) -> bytes:
        """These bytes."""
        return json.dumps({"version": _VERSION, **asdict(self)}, indent=1).encode() + b"\n"
