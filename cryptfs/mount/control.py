"""The control socket: commands for a running mount, one JSON object a line, for the same user and root alone.

| request                       | answer (besides `ok`)                                                             |
|-------------------------------|-----------------------------------------------------------------------------------|
| `ping`                        | `mountpoint`, `pid`                                                               |
| `status`                      | what `Vault.status` says, `mountpoint`, `pid`, `uptime_seconds`, `requests` by kind |
| `sync`                        | lines `{"progress": {"pending_bytes": n}}`, then the answer when all is in the store |
| `info` with `path`            | the objects that hold a file                                                      |
| `admin` with `act`, `arguments` | what that act of `vault/acts.py` answers                                       |
| `reencrypt` with `path`       | lines `{"progress": {"bytes": n}}`, then what `vault/revoking.py` says             |
| `past` with `act`, `arguments` | lines `{"rows": [...]}` of long answers, then what `vault/past_acts.py` answers |
| `pin` with `act`, `arguments` | lines `{"progress": {"bytes": n, "of": n}}`, then what `vault/pin_acts.py` answers |
| `collect` with `now`, `history` | lines `{"progress": {"text": ...}}`, then what the run did                     |
| `check` with `percent`, `heal`, `apply` | the same, lines `{"problem": {...}}`, then `report`, `healed`   |
| `umount`, perhaps with `lazy` | `pending_bytes` still to be sent; the process ends afterwards                     |

A refusal is `{"ok": false, "error": ..., "advice": ..., "exit_code": n}`.
"""

import contextlib
import errno
import json
import logging
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import trio

from cryptfs.errors import CryptfsError, FsError, InUse, UsageError

__all__ = ["Answer", "Command", "ControlServer", "Say"]

Answer = dict[str, object]
Say = Callable[[Answer], Awaitable[None]]
"""Sends a line before the answer, as of progress."""
Command = Callable[[Answer, Say], Awaitable[Answer]]
"""Gets the request; returns the answer, without `ok`."""

_LINE_MAX: Final = 1 << 16
_CONNECTIONS_MAX: Final = 32
_IDLE_SECONDS: Final = 60.0
"""A client says something within that time, or is no client."""
_PEER: Final = struct.Struct("3i")
"""`struct ucred` of unix(7): pid, uid, gid."""

_log = logging.getLogger(__name__)


class ControlServer:
    """Serves the commands of one table until `close`. Each command runs in the connection's own task."""

    def __init__(self, path: Path, commands: dict[str, Command]) -> None:
        self._path = path
        self._commands = commands
        self._listener: trio.socket.SocketType | None = None
        self._busy = 0
        self._idle = trio.Event()
        self._slots = trio.CapacityLimiter(_CONNECTIONS_MAX)

    async def listen(self) -> None:
        """Open the socket, mode 0600. A file left by a process that was killed is replaced.

        The caller holds the vault's lock, so nobody else serves this path.
        """
        listener = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
        before = os.umask(0o177)
        try:
            await listener.bind(str(self._path))
        except OSError as err:
            listener.close()
            raise InUse(f"The control socket {self._path} cannot be made: {err.strerror}.") from err
        finally:
            os.umask(before)
        listener.listen(_CONNECTIONS_MAX)
        self._listener = listener

    async def run(self) -> None:
        """Accept until cancelled or closed."""
        if self._listener is None:
            raise RuntimeError("listen first")
        async with trio.open_nursery() as nursery:
            while True:
                try:
                    connection, _ = await self._listener.accept()
                except trio.ClosedResourceError:
                    nursery.cancel_scope.cancel()
                    return
                except OSError as err:
                    if err.errno not in (errno.EMFILE, errno.ENFILE, errno.ECONNABORTED):
                        raise
                    await trio.sleep(0.1)
                    continue
                nursery.start_soon(self._serve, connection)

    async def drain(self, seconds: float) -> None:
        """Let commands under way give their answers, for at most that long."""
        with trio.move_on_after(seconds):
            while self._busy:
                self._idle = trio.Event()
                await self._idle.wait()

    def close(self) -> None:
        """Close the socket and remove its file."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
            with contextlib.suppress(FileNotFoundError):
                self._path.unlink()

    async def _serve(self, connection: trio.socket.SocketType) -> None:
        with connection:
            if not _may_ask(connection):
                return
            try:
                async with self._slots:
                    await self._converse(trio.SocketStream(connection))
            except* trio.BrokenResourceError:
                pass  # the client is gone, and nobody is left to tell

    async def _converse(self, stream: trio.SocketStream) -> None:
        buffer = bytearray()
        while (line := await _read_line(stream, buffer)) is not None:
            self._busy += 1
            try:
                await self._answer(stream, line)
            finally:
                self._busy -= 1
                self._idle.set()

    async def _answer(self, stream: trio.SocketStream, line: bytes) -> None:
        async def say(answer: Answer) -> None:
            await stream.send_all(json.dumps(answer).encode() + b"\n")

        try:
            request = _parse(line)
            command = self._commands.get(str(request.get("cmd")))
            if command is None:
                raise UsageError("The mount process does not know this command.", "Are both of one version?")
            answer = {"ok": True} | await _run(command, request, say)
        except CryptfsError as err:
            answer = _refusal(err)
        except BaseExceptionGroup as group:
            # A command with tasks of its own: the person wants the cause, and cancellation goes its way.
            ours, rest = group.split(CryptfsError)
            if rest is not None or ours is None:
                raise
            answer = _refusal(_first(ours))
        await say(answer)


async def _run(command: Command, request: Answer, say: Say) -> Answer:
    """A bug in a command shall not end the mount."""
    try:
        return await command(request, say)
    except (CryptfsError, trio.BrokenResourceError):
        raise
    except Exception as err:
        if isinstance(err, ExceptionGroup) and err.split((CryptfsError, trio.BrokenResourceError))[1] is None:
            raise
        _log.exception("a command failed")
        raise CryptfsError(f"Internal error: {type(err).__name__}", "The log of the mount says more.") from err


def _refusal(err: CryptfsError) -> Answer:
    text = os.strerror(err.errno) if isinstance(err, FsError) else str(err)
    return {"ok": False, "error": text, "advice": err.advice, "exit_code": err.exit_code}


def _first(group: BaseExceptionGroup[CryptfsError]) -> CryptfsError:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


def _may_ask(connection: trio.socket.SocketType) -> bool:
    _, uid, _ = _PEER.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
    return uid in (0, os.geteuid())


def _parse(line: bytes) -> Answer:
    try:
        request = json.loads(line)
    except (ValueError, RecursionError) as err:
        raise UsageError("That is no JSON.") from err
    if not isinstance(request, dict):
        raise UsageError("A request is a JSON object.")
    return request


async def _read_line(stream: trio.SocketStream, buffer: bytearray) -> bytes | None:
    """The next line; None at the end, after silence, or for a line longer than any request."""
    with trio.move_on_after(_IDLE_SECONDS):
        while (end := buffer.find(b"\n")) < 0:
            if len(buffer) > _LINE_MAX:
                return None
            piece = await stream.receive_some(4096)
            if not piece:
                return None
            buffer += piece
        line = bytes(buffer[:end])
        del buffer[: end + 1]
        return line
    return None
