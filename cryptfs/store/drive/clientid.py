"""The client id under which a team's devices ask Google, as its console gives it and an invitation carries it.

Each team has its own (docs/google-drive.md, "A client id of your own"). What Google calls the secret of a desktop
client is none: it is in every copy of a program, and here in every invitation.
"""

import json
import re
import urllib.parse
from dataclasses import dataclass, field
from typing import Any, Final, Self

from cryptfs.errors import ConfigError
from cryptfs.store.drive.access import GOOGLE_TOKENS, DriveAccess, check_address

__all__ = ["DriveClient", "split_locator", "with_client"]

_GOOGLE_PAGE: Final = "https://accounts.google.com/o/oauth2/auth"
_ID: Final = re.compile(r"[0-9a-z-]{1,120}\.apps\.googleusercontent\.com")
_SECRET: Final = re.compile(r"[A-Za-z0-9_-]{1,120}")
_HOW: Final = 'Make one of the type "Desktop app" (docs/google-drive.md) and download its file.'


@dataclass(frozen=True, slots=True)
class DriveClient:
    """A program as Google knows it. `page` asks people, `tokens` gives tokens, `endpoint` is as in `DriveAccess`."""

    id: str
    secret: str = field(repr=False)
    page: str = _GOOGLE_PAGE
    tokens: str = GOOGLE_TOKENS
    endpoint: str = ""

    def __post_init__(self) -> None:
        """Raises ConfigError for what cannot be a client id, and for addresses that would give a login away."""
        if not _ID.fullmatch(self.id) or not _SECRET.fullmatch(self.secret):
            raise ConfigError("That is no client id of Google.", _HOW)
        for address in filter(None, (self.page, self.tokens, self.endpoint)):
            check_address(address)

    @classmethod
    def from_console(cls, data: bytes) -> Self:
        """The file that Google's console offers for download. Raises ConfigError.

        An emulated Drive adds `api_endpoint` and gives its own addresses.
        """
        try:
            document: Any = json.loads(data)
            kind, table = next(iter(document.items()))
            values = [table[name] for name in ("client_id", "client_secret", "auth_uri", "token_uri")]
            values.append(table.get("api_endpoint", ""))
        except (ValueError, KeyError, TypeError, AttributeError, StopIteration) as error:
            raise ConfigError("That is no file of a client id as Google's console gives it.", _HOW) from error
        if kind != "installed" or not all(isinstance(value, str) for value in values):
            raise ConfigError(f'That client id is of the type "{kind}", which does not work here.', _HOW)
        return cls(*values)

    @classmethod
    def of(cls, access: DriveAccess) -> Self:
        """The one a login was made with."""
        google = access.token_uri == GOOGLE_TOKENS
        page = _GOOGLE_PAGE if google else access.token_uri.removesuffix("/token") + "/o/oauth2/auth"
        return cls(access.client_id, access.client_secret, page, access.token_uri, access.endpoint)


def with_client(url: str, access: DriveAccess) -> str:
    """`url` as an invitation carries it: whoever joins needs the client id before the folder can be read.

    A login elsewhere than at Google is left out: a token must not send anybody to another place.
    """
    if access.token_uri != GOOGLE_TOKENS or access.endpoint:
        return url
    return f"{url}?{urllib.parse.urlencode({'client': access.client_id, 'secret': access.client_secret})}"


def split_locator(text: str) -> tuple[str, DriveClient | None]:
    """The address in an invitation, and the client id that came along. Raises ConfigError for one that is none."""
    url, mark, more = text.partition("?")
    if not text.startswith("gdrive:") or not mark:
        return text, None
    given = dict(urllib.parse.parse_qsl(more))
    return url, DriveClient(given.get("client", ""), given.get("secret", ""))
