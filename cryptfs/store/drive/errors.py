"""What Google's answers mean in the words of the store family (docs/google-drive.md, "What can go wrong").

The library's own idea of an error is not used: its details are of several types, and its text holds addresses that are
capabilities. The body is read here; nothing of it but the reason's own word, checked to be one, reaches a message.
"""

import email.utils
import http.client
import json
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import httplib2
from google.auth.exceptions import GoogleAuthError, RefreshError, TransportError
from googleapiclient.errors import HttpError

from cryptfs.errors import Auth, Denied, Exists, Fatal, NotFound, Quota, Retry, StoreError

__all__ = [
    "IdRefused",
    "TakenForHarmful",
    "from_answer",
    "login_refused",
    "mapped",
    "reason_of",
    "retry_after",
]

_RATES: Final = frozenset(
    {"ratelimitexceeded", "userratelimitexceeded", "sharingratelimitexceeded", "resourceexhausted"}
)
_AFTER_MAX: Final = 120.0
"""Seconds: no Retry-After of Google's is longer, so a longer one is a mistake or an attack."""
_WORD: Final = re.compile(r"[A-Za-z_]{1,64}\Z")
_THROTTLED: Final = "rate limited"


class TakenForHarmful(Denied):
    """Only who may delete the file gets it, and only by saying that he knows."""


class IdRefused(Denied):
    """An id was not minted for this account, or too long ago. No file was made."""


_Maker = Callable[[], StoreError]


def _quota(message: str, advice: str, state: str = "") -> _Maker:
    return lambda: Quota(message, advice, state=state)


def _fatal(message: str, advice: str, state: str = "") -> _Maker:
    return lambda: Fatal(message, advice, state=state)


def _denied(message: str, advice: str, state: str = "") -> _Maker:
    return lambda: Denied(message, advice, state=state)


_FULL: Final = _quota(
    "The Google account has no storage left.",
    "Free space in its Drive (empty the trash too) or buy some; what waits is sent by itself then.",
)
_DEEP: Final = _fatal(
    "The folder lies too deep in Google Drive (100 levels).", "Move the vault's folder up; its address stays the same."
)
_DISABLED: Final = _fatal(
    "The Google Drive API is not enabled in the Cloud project of this client id.",
    "Enable it: console.cloud.google.com, APIs & Services, Library, Google Drive API. It takes a few minutes.",
    "api not enabled",
)
_NO_RIGHT: Final = _denied(
    "Google Drive does not let this account do that in the vault's folder.",
    "Ask the owner of the folder to share it with this account as an editor.",
)
_SCOPE: Final = _denied(
    "The login does not cover this file.",
    "Run `cryptfs login NAME` again and grant access to all of Google Drive.",
)
_NOT_SHARED: Final = _denied(
    "Google Drive does not share the folder with that account: a domain's administrators forbid it.",
    "Use an account they allow, or ask them; a shared drive has a setting of its own for people from outside.",
)
_SHARED_ABOVE: Final = _denied(
    "Google Drive does not let this account withdraw that access.",
    "The owner of the folder, or a manager of the shared drive, can.",
)
_DAILY: Final = _quota(
    "The daily limit of the Cloud project of this client id is used up.",
    "Nothing need be done: it begins anew at midnight Pacific time, and what waits is sent then.",
    "daily limit",
)

_REASONS: Final[Mapping[str, _Maker]] = {
    "storageQuotaExceeded": _FULL,
    "quotaExceeded": _FULL,
    "dailyLimitExceeded": _DAILY,
    "teamDriveFileLimitExceeded": _fatal(
        "The shared drive holds as many items as it can (500,000).",
        "Empty its trash, or have collected what the vault does not need: `cryptfs-admin collect NAME`.",
    ),
    "numChildrenInNonRootLimitExceeded": _fatal(
        "A folder of the vault holds as many items as it can (500,000).",
        "Remove what does not belong there; `cryptfs-admin collect NAME` removes what the vault does not need.",
    ),
    "activeItemCreationLimitExceeded": _fatal(
        "The Google account has made as many items as it can (500 million).", "Use another account for the vault."
    ),
    "teamDriveHierarchyTooDeep": _DEEP,
    "myDriveHierarchyDepthLimitExceeded": _DEEP,
    "accessNotConfigured": _DISABLED,
    "SERVICE_DISABLED": _DISABLED,
    "insufficientFilePermissions": _NO_RIGHT,
    "insufficientParentPermissions": _NO_RIGHT,
    "insufficientPermissions": _SCOPE,
    "ACCESS_TOKEN_SCOPE_INSUFFICIENT": _SCOPE,
    "appNotAuthorizedToFile": _SCOPE,
    "domainPolicy": _denied(
        "The administrators of the Google domain do not allow this program.",
        "Ask them to allow the client id, or use an account outside the domain.",
    ),
    "invalidSharingRequest": _denied(
        "Google Drive does not share the folder with that address.",
        "Is it right? One without a Google account needs a letter of Google's, if it can be let in at all: --letter.",
    ),
    "shareOutNotPermitted": _NOT_SHARED,
    "shareInNotPermitted": _NOT_SHARED,
    "teamDriveDomainUsersOnlyRestriction": _NOT_SHARED,
    "teamDriveTeamMembersOnlyRestriction": _NOT_SHARED,
    "cannotDeletePermission": _SHARED_ABOVE,
    "cannotModifyInheritedPermission": _SHARED_ABOVE,
    "fileIdNotUsable": lambda: IdRefused(
        "Google Drive does not take the id that it gave for a new file.", "It is tried again with another one."
    ),
    "downloadQuotaExceeded": _denied(
        "Google Drive gives this object to nobody for a while: it was read too often.", "It is back within a day."
    ),
    "cannotCopyFile": _denied(
        "The owner of this file has forbidden that it is copied.", "Have its owner allow it, in the sharing settings."
    ),
    "cannotDownloadAbusiveFile": lambda: TakenForHarmful(
        "Google Drive takes this object for harmful and does not give it out.",
        "Its owner can read it; let a device of the owner heal it: `cryptfs fsck NAME --heal`.",
    ),
}
"""By Google's word as the documentation spells it."""


def _plain(reason: str) -> str:
    """The word without what differs between both shapes of an error: `dailyLimitExceeded`, `DAILY_LIMIT_EXCEEDED`."""
    return reason.replace("_", "").lower()


_BY_REASON: Final = {_plain(reason): make for reason, make in _REASONS.items()}


def reason_of(content: bytes) -> str:
    """Google's own word for an error, from the body of the answer; empty if it holds none (an HTML page)."""
    try:
        error = json.loads(content)["error"]
    except (ValueError, KeyError, TypeError):
        return ""
    if not isinstance(error, dict):
        return error if isinstance(error, str) and _WORD.match(error) else ""
    found = [*_reasons(error.get("errors")), *_reasons(error.get("details")), error.get("status")]
    return next((word for word in found if isinstance(word, str) and _WORD.match(word)), "")


def _reasons(rows: Any) -> list[Any]:
    return [row.get("reason") for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def retry_after(headers: Mapping[str, str], now_s: float) -> float:
    """Seconds to stay away, from a Retry-After of either form; 0 without one. `now_s`: seconds since 1970."""
    text = headers.get("retry-after", "").strip()
    if not text:
        return 0.0
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(text).timestamp() - now_s
        except ValueError:
            return 0.0
    return min(max(0.0, seconds), _AFTER_MAX) if seconds == seconds else 0.0  # noqa: PLR0124 - not for NaN


def from_answer(status: int, content: bytes, headers: Mapping[str, str], now_s: float) -> StoreError:
    """The error that an answer with this HTTP status and body means. Pure."""
    reason = reason_of(content)
    told = f"{status} {reason}".strip()
    word = _plain(reason)
    if status == 429 or (status == 403 and word in _RATES):
        after = retry_after(headers, now_s)
        return Retry(
            f"Google Drive asks to slow down ({told}).", "Nothing need be done: it goes on, more slowly.", after,
            state=_THROTTLED,
        )  # fmt: skip
    if status in {408, 416} or status >= 500:
        return Retry(
            f"Google Drive has a problem ({told}).",
            "Nothing need be done: it is tried again.",
            retry_after(headers, now_s),
        )
    if status == 401:
        return Auth("Google does not accept the login any more.", _LOGIN_AGAIN)
    if status in {404, 410}:
        return NotFound("Google Drive has no such object, or does not show it to this account.")
    if status == 409:
        return Exists("Google Drive has a file of that id already.")
    if status in {400, 403} and word in _BY_REASON:
        return _BY_REASON[word]()
    return Fatal(f"Google Drive refuses ({told}).", "If it goes on, run `cryptfs doctor NAME` and report this answer.")


_LOGIN_AGAIN: Final = "Run `cryptfs login NAME`; your changes are kept on this machine until then."
_NETWORK: Final = "Check the network; your changes are kept here and sent when it is back."


@contextmanager
def mapped() -> Iterator[None]:
    """Turns whatever Google's libraries raise inside into errors of the store family."""
    try:
        yield
    except HttpError as error:
        raise from_answer(int(error.resp.status), error.content, error.resp, time.time()) from None  # its text: a URL
    except RefreshError as error:
        raise _refresh_failed(error) from None  # its text holds what the token host said
    except (TransportError, httplib2.ServerNotFoundError, socket.gaierror) as error:
        raise Retry("Google cannot be reached.", _NETWORK) from error
    except ssl.SSLCertVerificationError as error:
        raise Retry(
            "Whoever answers is not Google: its certificate does not verify.",
            "Check the clock, and whether this network wants a login of its own.",
        ) from error
    except (http.client.HTTPException, httplib2.HttpLib2Error, OSError) as error:
        # IncompleteRead, BadStatusLine, resets, timeouts: `type` alone, their text may hold an address.
        raise Retry(f"The connection to Google Drive broke ({type(error).__name__}).", _NETWORK) from error
    except (ValueError, LookupError) as error:
        # A portal that answers 200 with a page of its own: what should be JSON is none.
        raise Retry("Something else than Google Drive answered.", _NETWORK) from error
    except GoogleAuthError as error:
        raise Auth("Google does not accept the login.", _LOGIN_AGAIN) from error


def _refresh_failed(error: RefreshError) -> StoreError:
    if error.retryable:
        return Retry("Google's login service has a problem.", "Nothing need be done: it is tried again.")
    details = error.args[1] if len(error.args) > 1 and isinstance(error.args[1], dict) else {}
    return login_refused(str(details.get("error", "")))


def login_refused(reason: str) -> Auth:
    """What the token service means by not giving a token, in its own word for it."""
    if reason in {"invalid_client", "unauthorized_client", "deleted_client"}:
        return Auth(
            "Google does not know the client id of this login any more.",
            "Make a new one (docs/google-drive.md) and run `cryptfs login NAME --client-secret FILE`.",
        )
    return Auth("The login at Google has expired or was revoked.", _LOGIN_AGAIN)
