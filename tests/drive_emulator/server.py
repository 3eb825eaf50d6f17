"""HTTP/1.1 over sockets: keep-alive, one buffered write a reply, a link of bounded speed, and connections that fail."""

import contextlib
import socket
import ssl
import sys
import threading
import urllib.parse
from email.message import Message
from http.client import parse_headers
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.drive_emulator import faults, routes
from tests.drive_emulator.answers import Reply, Request
from tests.drive_emulator.clock import Clock
from tests.drive_emulator.faults import Fault
from tests.drive_emulator.service import Record, Service

_PIECE = 64 * 1024
_TAKEN = "X-HTTP-Method-Override"


class Link:
    """One direction of the line, shared by all connections."""

    def __init__(self, clock: Clock) -> None:
        self._clock, self._lock, self._free = clock, threading.Lock(), 0.0

    def delay(self, count: int, mbit: float) -> float:
        """Seconds until `count` more bytes are through."""
        if mbit <= 0:
            return 0.0
        with self._lock:
            now = self._clock.now()
            self._free = max(now, self._free) + count * 8 / (mbit * 1e6)
            return self._free - now


class BrokenOff(Exception):
    """The connection is to be cut now."""


class Server(ThreadingHTTPServer):
    """Listens; cuts all connections and waits for their threads when it is closed."""

    daemon_threads = True  # one that is never closed keeps no program from ending
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], service: Service, context: ssl.SSLContext | None) -> None:
        self.service, self.context = service, context
        self.up, self.down = Link(service.clock), Link(service.clock)
        self.over = threading.Event()
        self._open: set[socket.socket] = set()
        self._changed = threading.Condition()
        super().__init__(address, Handler)

    def server_bind(self) -> None:
        """Without the look-up of the machine's own name that the base class makes."""
        socket_server_bind(self)

    def opened(self, connection: socket.socket) -> None:
        with self._changed:
            self._open.add(connection)

    def closed(self, connection: socket.socket) -> None:
        with self._changed:
            self._open.discard(connection)
            self._changed.notify_all()

    def sever(self) -> None:
        """Cut every connection."""
        with self._changed:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(connection, socket.SHUT_RDWR)

    def end(self) -> None:
        """Listen no more, cut every connection, wait until all are gone."""
        self.over.set()
        self.shutdown()
        self.server_close()
        self.sever()
        with self._changed:
            self._changed.wait_for(lambda: not self._open, timeout=10)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is nothing to speak of; anything else is a fault of the emulator and is shown."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


def socket_server_bind(server: ThreadingHTTPServer) -> None:
    """Bind, and take the port that was given."""
    server.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.socket.bind(server.server_address)
    server.server_address = server.socket.getsockname()
    server.server_name, server.server_port = server.server_address[0], server.server_address[1]


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "EmulatedDrive", ""
    disable_nagle_algorithm = True
    server: Server

    def setup(self) -> None:
        if self.server.context is not None:
            self.request = self.server.context.wrap_socket(self.request, server_side=True)
        self.server.opened(self.request)
        super().setup()

    def finish(self) -> None:
        with contextlib.suppress(OSError):
            super().finish()
        self.server.closed(self.request)
        if self.server.context is not None:
            with contextlib.suppress(OSError):
                self.request.close()  # the base class closes the socket beneath

    def handle(self) -> None:
        try:
            super().handle()
        except (BrokenOff, OSError):
            with contextlib.suppress(OSError):
                socket.socket.shutdown(self.request, socket.SHUT_RDWR)

    def log_message(self, *_: object) -> None:
        """The log is `Service.log`."""

    def serve(self) -> None:
        """Read, answer, write."""
        began = self.server.service.stopwatch()
        request, length = self._head()
        record, met = self.server.service.admit(request, max(0, length))
        try:
            self._receive(request, length, met)
            record.received = len(request.body)
            self._unfold(request)
            record.query = dict(request.query)
            self._wait(self.server.service.delay(request))
            if any(isinstance(fault, faults.DropBefore) for fault in met):
                raise BrokenOff
            reply = self.server.service.answer(request, met)
            record.email = request.email or record.email
            for fault in met:
                if isinstance(fault, faults.Stall):
                    self._wait_really(fault.seconds)
                if isinstance(fault, faults.DropAfter | faults.LoseTail):
                    raise BrokenOff
            self._send(request, reply, met, record)
        finally:
            record.seconds = self.server.service.stopwatch() - began

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = serve  # noqa: N815  # names the base class looks for

    # ---- reading ---------------------------------------------------------------------------------------------------

    def _head(self) -> tuple[Request, int]:
        """The request without its body, and the body's length: -1 for chunks."""
        parts = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(parts.query, keep_blank_values=True))
        method = self.headers.get(_TAKEN, self.command) if self.command == "POST" else self.command
        scheme = "https" if self.server.context is not None else "http"
        host = self.headers.get("Host") or f"{self.server.server_address[0]}:{self.server.server_port}"
        request = Request(method, scheme, host, parts.path, query, self.headers, b"")
        request.call, request.ids = routes.find(method, parts.path, query, self.headers.get("Content-Range"))
        chunked = self.headers.get("Transfer-Encoding", "").lower() == "chunked"
        return request, -1 if chunked else int(self.headers.get("Content-Length") or 0)

    def _receive(self, request: Request, length: int, met: list[Fault]) -> None:
        stop = min(
            (f.after_bytes for f in met if isinstance(f, faults.DropBefore) and f.after_bytes is not None), default=None
        )
        if stop is not None and 0 <= stop < length:
            request.body = self._read(stop)
            if request.call == "upload.chunk":
                with self.server.service.world.lock:
                    self.server.service.uploads.keep_part(request, request.body)
            raise BrokenOff
        request.body = self._read_chunks() if length < 0 else self._read(length)

    def _unfold(self, request: Request) -> None:
        """A GET too long for its address comes as a POST with a form."""
        if self.headers.get(_TAKEN) and self.headers.get_content_type() == "application/x-www-form-urlencoded":
            form = urllib.parse.parse_qsl(request.body.decode(errors="replace"), keep_blank_values=True)
            request.query.update(form)
            request.body = b""
            request.call, request.ids = routes.find(request.method, request.path, request.query, None)

    def _read(self, count: int) -> bytes:
        mbit = self.server.service.settings.network.up_mbit
        if not mbit:
            data = self.rfile.read(count)
        else:
            pieces: list[bytes] = []
            left = count
            while left and (piece := self.rfile.read(min(left, _PIECE))):
                pieces.append(piece)
                left -= len(piece)
                self._wait(self.server.up.delay(len(piece), mbit))
            data = b"".join(pieces)
        if len(data) < count:
            raise BrokenOff  # the client went away within its own request
        return data

    def _read_chunks(self) -> bytes:
        pieces = []
        while True:
            size = int(self.rfile.readline(100).partition(b";")[0], 16)
            if size == 0:
                parse_headers(self.rfile, _class=Message)
                return b"".join(pieces)
            pieces.append(self._read(size))
            self.rfile.readline(2)

    # ---- writing ---------------------------------------------------------------------------------------------------

    def _wait(self, seconds: float) -> None:
        self.server.service.clock.sleep(seconds, self.server.over)
        if self.server.over.is_set():
            raise BrokenOff

    def _wait_really(self, seconds: float) -> None:
        """Faults take the time of the machine, since the patience of clients does."""
        if self.server.over.wait(seconds):
            raise BrokenOff

    def _send(self, request: Request, reply: Reply, met: list[Fault], record: Record) -> None:
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        bodiless = reply.status in (204, 304) or request.method == "HEAD"
        if reply.status != 204:
            self.send_header("Content-Length", str(len(reply.body)))
        if reply.status >= 500 and not reply.headers.get("Content-Type", "").startswith("application/json"):
            self.send_header("Connection", "close")
        head = b"".join(self._headers_buffer) + b"\r\n"
        self._headers_buffer = []
        body = b"" if bodiless else reply.body
        record.status = reply.status
        for fault in met:
            if isinstance(fault, faults.Truncate):
                self.wfile.write(head + body[: fault.keep])
                record.sent = len(body[: fault.keep])
                raise BrokenOff
            if isinstance(fault, faults.Drip):
                self.wfile.write(head)
                for at in range(0, len(body), fault.piece):
                    self.wfile.write(body[at : at + fault.piece])
                    record.sent += fault.piece
                    self._wait_really(fault.pause)
                return
        record.sent = len(body)
        self._write(head, body)

    def _write(self, head: bytes, body: bytes) -> None:
        mbit = self.server.service.settings.network.down_mbit
        if mbit:
            self.wfile.write(head)
            for at in range(0, len(body), _PIECE):
                piece = body[at : at + _PIECE]
                self._wait(self.server.down.delay(len(piece), mbit))
                self.wfile.write(piece)
        elif len(body) <= _PIECE:
            self.wfile.write(head + body)  # one packet where it fits
        else:
            self.wfile.write(head)
            self.wfile.write(body)
