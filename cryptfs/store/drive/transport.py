"""Authorised connections to Google, one a call in flight, that another thread can sever.

httplib2 sends a request again by itself when a connection drops, so a socket that is merely closed from outside comes
back to life: a `Line` that was severed refuses to connect. A request that was under way then has an unknown outcome,
which is for the caller to resolve; with pre-generated ids it can (docs/google-drive.md, "An upload").
"""

import contextlib
import logging
import math
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final

import google.oauth2.credentials
import httplib2
from google_auth_httplib2 import AuthorizedHttp

from cryptfs.errors import Auth, CryptfsError, Retry
from cryptfs.store.base import Call
from cryptfs.store.drive.access import SCOPE, DriveAccess
from cryptfs.store.drive.errors import mapped

__all__ = ["Credentials", "Lines", "NewLogin"]

_TIMEOUT: Final = 30.0
"""Seconds between two bytes of an answer. The deadline of a call is kept by severing its line."""
_CONNECT_TIMEOUT: Final = 10.0
"""Seconds for a connection to come about: while TLS is being agreed on it cannot be severed."""
_IDLE_MAX: Final = 16


class Credentials(google.oauth2.credentials.Credentials):  # type: ignore[misc, unused-ignore]
    """A login that threads share: of those who find the token expired, or refused, one renews it; the others wait."""

    def __init__(self, access: DriveAccess) -> None:
        super().__init__(  # type: ignore[no-untyped-call, unused-ignore]
            token=None, refresh_token=access.refresh_token, token_uri=access.token_uri,
            client_id=access.client_id, client_secret=access.client_secret, scopes=[SCOPE],
        )  # fmt: skip
        self._renewing = threading.Lock()
        self._used = threading.local()

    def apply(self, headers: Any, token: str | None = None) -> None:
        """Put the token into a request, and remember which one it was."""
        self._used.token = token or self.token
        super().apply(headers, self._used.token)  # type: ignore[no-untyped-call, unused-ignore]

    def refresh(self, request: Any) -> None:
        """Renew the access token, unless another thread has done so since this one used it."""
        with self._renewing:
            if self.valid and self.token != getattr(self._used, "token", None):
                return
            super().refresh(request)  # type: ignore[no-untyped-call, unused-ignore]


class Line:
    """One authorised transport. One thread at a time; `sever` from any."""

    def __init__(self, credentials: Credentials) -> None:
        self._connections: list[Any] = []
        self._severed = False
        self._lock = threading.Lock()
        transport = httplib2.Http(timeout=_TIMEOUT)
        transport.redirect_codes = transport.redirect_codes - {308}  # the answer to a chunk of an upload
        transport.connections = _Watched(self._add)
        self.http = AuthorizedHttp(credentials, http=transport)

    def _add(self, connection: Any) -> None:
        connect = connection.connect

        def connect_unless_severed() -> None:
            self._refuse_if_severed()
            connection.timeout = _CONNECT_TIMEOUT
            connect()
            connection.sock.settimeout(_TIMEOUT)
            with self._lock:
                severed = self._severed
            if severed:  # meanwhile
                connection.close()
                self._refuse_if_severed()

        connection.connect = connect_unless_severed
        with self._lock:
            self._connections.append(connection)

    def _refuse_if_severed(self) -> None:
        if self._severed:
            raise ConnectionAbortedError

    @property
    def severed(self) -> bool:
        """Whether it was given up."""
        return self._severed

    def sever(self) -> None:
        """End the call under way now, without its being sent again. The line is of no further use."""
        with self._lock:
            self._severed = True
            connections = list(self._connections)
        for connection in connections:
            sock = connection.sock
            if sock is not None:
                with contextlib.suppress(OSError):  # not connected yet, or closed meanwhile
                    # Not the method of a TLS socket, which would touch what its own thread is using.
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def close(self) -> None:
        """Close its sockets."""
        self.http.close()


class _Watched(dict[str, Any]):
    """The connections of a transport; whoever is put in is shown to `add` first, before it has connected."""

    def __init__(self, add: Callable[[Any], None]) -> None:
        super().__init__()
        self._add = add

    def __setitem__(self, key: str, connection: Any) -> None:
        self._add(connection)
        super().__setitem__(key, connection)


class NewLogin(Retry):
    """The call was refused for its login, and by now there is another one: make it again."""


class Lines:
    """A pool: who calls takes the line used last, which is the one most likely to be connected still. Thread-safe."""

    def __init__(self, access: DriveAccess, reload: Callable[[], DriveAccess] | None = None) -> None:
        """`reload` reads the login again: somebody may have logged in anew while this one was refused."""
        self._access = access
        self._reload = reload
        self._credentials = Credentials(access)
        self._idle: list[Line] = []
        self._closed = False
        self._lock = threading.Lock()
        self._reaper = _Reaper()

    def run(self, action: Callable[[AuthorizedHttp], Any], call: Call) -> Any:
        """`action` with a transport of its own, severed when the call is given up or late. Raises the store family.

        After any exception the line is closed: nobody knows what is still on its way through it.
        """
        call.check()
        line = self._take()
        try:
            with contextlib.ExitStack() as stack:
                stack.enter_context(self._reaper.watching(call, line.sever))
                if call.abort is not None:
                    stack.enter_context(call.abort.waking(line.sever))
                with mapped():
                    answer = action(line.http)
        except BaseException as error:
            line.close()
            if line.severed and isinstance(error, Exception):
                call.check()
                raise Retry("the call was given up") from error
            if isinstance(error, Auth) and self._renewed(line):
                raise NewLogin("There is a new login at Google.", passing=True) from error
            raise
        if line.severed:  # at the very end: the answer is whole, the line is not
            line.close()
        else:
            self._give_back(line)
        return answer

    def _renewed(self, refused: Line) -> bool:
        """Whether there is another login of the same account than the one refused; from now on it is used."""
        if refused.http.credentials is not self._credentials:
            return True  # another thread has found it
        if self._reload is None:
            return False
        try:
            found = self._reload()
        except CryptfsError:
            return False  # nobody has logged in
        with self._lock:
            if found == self._access or found.account != self._access.account:
                return False
            self._access, self._credentials = found, Credentials(found)
            idle, self._idle = self._idle, []
        for line in idle:
            line.close()
        return True

    def _take(self) -> Line:
        with self._lock:
            return self._idle.pop() if self._idle else Line(self._credentials)

    def _give_back(self, line: Line) -> None:
        with self._lock:
            if not self._closed and len(self._idle) < _IDLE_MAX:
                self._idle.append(line)
                return
        line.close()

    def close(self) -> None:
        """Close what is idle; what is in use closes itself."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for line in idle:
            line.close()
        self._reaper.close()


class _Reaper:
    """Severs the lines of calls that are late: a thread of its own, there only while there are such calls."""

    _PATIENCE: Final = 1.0  # seconds between two looks; clocks of calls may be of another kind than a condition's

    def __init__(self) -> None:
        self._calls: dict[int, tuple[Call, Callable[[], None]]] = {}
        self._next = 0
        self._thread: threading.Thread | None = None
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def watching(self, call: Call, sever: Callable[[], None]) -> Iterator[None]:
        """While inside, `sever` is called once the time of `call` is up."""
        if math.isinf(call.deadline):
            yield
            return
        with self._changed:
            number = self._next = self._next + 1
            self._calls[number] = (call, sever)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="drive-deadlines", daemon=True)
                self._thread.start()
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._calls.pop(number, None)

    def _run(self) -> None:
        with self._changed:
            while self._calls:
                for number, (call, sever) in list(self._calls.items()):
                    if call.remaining() <= 0:
                        del self._calls[number]
                        sever()
                left = [call.remaining() for call, _ in self._calls.values()]
                self._changed.wait(min([self._PATIENCE, *left]))
            self._thread = None

    def close(self) -> None:
        """Return when the thread has ended. No call may be running."""
        with self._changed:
            thread = self._thread
            self._changed.notify_all()
        if thread is not None:
            thread.join()


# Both libraries log addresses and whole bodies as warnings; addresses of uploads are capabilities.
for _name in ("googleapiclient.http", "google_auth_httplib2", "google.auth", "google.oauth2"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)
