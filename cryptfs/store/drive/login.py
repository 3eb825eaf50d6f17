"""Logging in at Google: a person agrees in a browser, and this program gets a token of its own.

OAuth 2.0 for desktop programs (RFC 8252) with PKCE (RFC 7636), by Google's library: the address, its secrets, and the
exchange of the answer for tokens (`Flow`). Not by its `InstalledAppFlow`, which takes the first request for the answer,
whoever sends it: where the browser runs on this machine, Google sends it back to a port of ours (`Doorstep`); where it
does not, to an address at which nothing listens, and the person pastes that address.
"""

import contextlib
import datetime as dt
import hmac
import http.server
import json
import logging
import os
import queue
import threading
import time
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

from google_auth_oauthlib.flow import Flow

from cryptfs.errors import Auth, Denied, Retry, UsageError
from cryptfs.store.base import Call
from cryptfs.store.drive.access import SCOPE, DriveAccess
from cryptfs.store.drive.client import Client
from cryptfs.store.drive.clientid import DriveClient
from cryptfs.store.drive.errors import mapped

__all__ = ["NOWHERE", "Doorstep", "Question"]

NOWHERE: Final = "http://127.0.0.1:1/"
"""Where a browser on another machine ends up: nothing listens there, and its address line shows the answer."""
_TIMEOUT: Final = 30.0
_AGAIN: Final = "Run `cryptfs login` again."
_PLAIN: Final = "OAUTHLIB_INSECURE_TRANSPORT"
_PAGE: Final = b"""<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>cryptfs</title>
<p>Thank you. You may close this window; the terminal says how it went.</p></html>
"""


for _chatty in ("oauthlib", "requests_oauthlib"):  # which log codes and tokens for developers
    logging.getLogger(_chatty).setLevel(logging.WARNING)


class Question:
    """One login under way. `redirect`: where Google sends the browser with the answer."""

    def __init__(self, client: DriveClient, redirect: str) -> None:
        self._client = client
        known = {"client_id": client.id, "client_secret": client.secret, "auth_uri": client.page}
        self._flow = Flow.from_client_config(
            {"installed": known | {"token_uri": client.tokens}},
            [SCOPE],
            redirect_uri=redirect,
            autogenerate_code_verifier=True,
        )
        self._flow.oauth2session.register_compliance_hook("access_token_response", _judge)
        with _transport_of(client):
            # Offline: else no token outlives the hour; consent: else only an account's first login gets one.
            self.address, self._state = self._flow.authorization_url(access_type="offline", prompt="consent")
            """The page to be opened in a browser, and what its answer bears."""

    def is_answer(self, address: str) -> bool:
        """Whether the browser was sent there by Google because of this very question."""
        return hmac.compare_digest(_given(address).get("state", "").encode(), self._state.encode())

    def finish(self, address: str, call: Call, today: dt.date) -> DriveAccess:
        """The login, from the address the browser was sent to.

        Raises UsageError for another address, Denied when the person refused, Auth, the store family.
        """
        if not self.is_answer(address):
            raise UsageError("That address is not the answer to this login.", "Paste all of the address line.")
        given = _given(address)
        if "code" not in given:
            raise Denied("The login was refused in the browser.", _AGAIN)
        told = self._exchange(given["code"])
        refresh, days = told.get("refresh_token"), _days(told.get("refresh_token_expires_in"))
        if SCOPE not in _scopes(told.get("scope")):
            raise Denied(
                "Access to Google Drive was not granted.", f"Tick its box on Google's page when it asks. {_AGAIN}"
            )
        if not isinstance(refresh, str):
            raise Auth("Google gave no lasting login.", _AGAIN)
        until = (today + dt.timedelta(days=days)).isoformat() if days else ""
        access = DriveAccess(
            self._client.id,
            self._client.secret,
            refresh,
            self._client.tokens,
            endpoint=self._client.endpoint,
            since=today.isoformat(),
            until=until,
        )
        return _named(access, call)

    def _exchange(self, code: str) -> dict[str, Any]:
        """What the token service gives for the code. Raises what `_judge` raises, Retry without an answer."""
        with _transport_of(self._client), mapped():
            try:
                return dict(self._flow.fetch_token(code=code, timeout=_TIMEOUT))
            except Warning as told:  # other scopes than asked for: a box that was not ticked, or more than we want
                return dict(getattr(told, "token", {}))


def _judge(answer: Any) -> Any:
    """The answer of the token service, before the library reads it: it knows one kind of error for everything."""
    if answer.status_code >= 500:
        raise Retry("Google's login service has a problem.", _AGAIN)
    try:
        told = json.loads(answer.text)
    except ValueError as error:
        raise Retry("Something else than Google answered.", _AGAIN) from error
    if answer.status_code != 200 or not isinstance(told, dict) or not isinstance(told.get("access_token"), str):
        if isinstance(told, dict) and told.get("error") == "invalid_client":
            raise Auth("Google does not know this client id.", "Check the file given to --client-secret.")
        raise Auth("Google did not take the answer of the browser.", f"It is good once, for a few minutes. {_AGAIN}")
    return answer


@contextlib.contextmanager
def _transport_of(client: DriveClient) -> Iterator[None]:
    """The library refuses plain HTTP, also to this machine, where an emulated Drive may be: see `check_address`."""
    before = os.environ.get(_PLAIN)
    if not (client.page.startswith("https:") and client.tokens.startswith("https:")):
        os.environ[_PLAIN] = "1"
    try:
        yield
    finally:
        os.environ.pop(_PLAIN, None)
        if before is not None:
            os.environ[_PLAIN] = before


def _scopes(given: Any) -> list[str]:
    return given.split() if isinstance(given, str) else list(given or ())


def _named(access: DriveAccess, call: Call) -> DriveAccess:
    """With the account's address, which Google is asked for: so it is known that the login works."""
    client = Client(access)
    try:
        account, _ = client.about(call)
    finally:
        client.close()
    table = json.loads(access.to_json()) | {"account": account}
    return DriveAccess.from_json(json.dumps(table).encode())


def _given(address: str) -> dict[str, str]:
    try:
        return dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(address.strip()).query))
    except ValueError:
        return {}


def _days(seconds: Any) -> int:
    return int(seconds) // 86_400 if isinstance(seconds, int) else 0


# ---- where the browser comes back to ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Visit:
    address: str


class Doorstep:
    """A port of this machine at which a browser is awaited, while inside `with`. `port` 0 takes a free one.

    Browsers open connections in advance and ask for icons, and any program here may knock: each gets a thread, and only
    the answer to the question counts.
    """

    def __init__(self, port: int = 0) -> None:
        """Raises UsageError for a port that is taken."""
        self._visits: queue.SimpleQueue[_Visit] = queue.SimpleQueue()
        try:
            self._server = _Server(("127.0.0.1", port), _Handler)
        except OSError as error:
            raise UsageError(f"The port {port} is not free: {error.strerror}", "Choose another one.") from error
        self._server.visits = self._visits
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True)

    @property
    def redirect(self) -> str:
        """The address for `Question`."""
        return f"http://127.0.0.1:{self._server.server_port}/"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def wait(self, question: Question, seconds: float) -> str:
        """The address with the answer. Raises Auth when nobody came in time."""
        end = time.monotonic() + seconds
        while True:
            try:
                visit = self._visits.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                raise Auth(
                    "Nobody has answered in the browser.", f"{_AGAIN} On a machine without a browser: --headless."
                ) from None
            if question.is_answer(visit.address):
                return visit.address


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    visits: "queue.SimpleQueue[_Visit]"


class _Handler(http.server.BaseHTTPRequestHandler):
    timeout = 10.0
    server: _Server

    def do_GET(self) -> None:
        """Show a page, and hand on what was asked for."""
        wanted = "state=" in self.path
        page = _PAGE if wanted else b""
        self.send_response(200 if wanted else 404)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(page)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(page)
        if wanted:
            self.server.visits.put(_Visit(self.path))

    def log_message(self, *_: Any) -> None:
        """The path is a capability: it is logged nowhere."""
