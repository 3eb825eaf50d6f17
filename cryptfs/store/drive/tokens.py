"""What is asked of Google's token service beside new tokens: what a login still covers, and that it ends."""

import json
import urllib.parse
from typing import Any, Final

import httplib2

from cryptfs.errors import Retry
from cryptfs.store.drive.access import DriveAccess
from cryptfs.store.drive.errors import login_refused, mapped

__all__ = ["granted_scopes", "log_out"]

_TIMEOUT: Final = 30.0


def granted_scopes(access: DriveAccess) -> frozenset[str]:
    """What the person has agreed to. Raises Auth for a login or client id that Google does not know any more, Retry."""
    form = {
        "grant_type": "refresh_token",
        "client_id": access.client_id,
        "client_secret": access.client_secret,
        "refresh_token": access.refresh_token,
    }
    status, answer = _post(access.token_uri, form)
    if status >= 500:
        raise Retry("Google's login service has a problem.", "Try again later.")
    if status != 200:
        raise login_refused(str(answer.get("error", "")))
    return frozenset(str(answer.get("scope", "")).split())


def log_out(access: DriveAccess) -> bool:
    """Withdraw the login at Google; whether Google still knew it. Raises Retry when Google cannot be reached."""
    status, _ = _post(access.token_uri.removesuffix("/token") + "/revoke", {"token": access.refresh_token})
    if status >= 500:
        raise Retry("Google's login service has a problem.", "Try again later.")
    return status == 200


def _post(address: str, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
    """Status, and the JSON object of the answer ({} if it is none). Raises Retry without an answer."""
    transport = httplib2.Http(timeout=_TIMEOUT)
    transport.follow_redirects = False
    try:
        with mapped():
            head, body = transport.request(
                address, "POST", urllib.parse.urlencode(form), {"content-type": "application/x-www-form-urlencoded"}
            )
    finally:
        transport.close()
    try:
        answer = json.loads(body)
    except ValueError:
        answer = {}
    return int(head.status), answer if isinstance(answer, dict) else {}
