"""The client of the control socket: how a command talks to the process that has the vault mounted."""

import contextlib
import json
import os
import select
import socket
import struct
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Final, Self

from cryptfs.errors import CryptfsError, InUse, NotAllowed, Retry
from cryptfs.vault.home import VaultHome

__all__ = ["Answer", "Daemon", "RemoteError", "require_unmounted"]

Answer = dict[str, Any]

_ANSWER_MAX: Final = 1 << 20
"""Bytes in one line of an answer; the longest, `info` of a huge file, stays far below."""

_PATIENCE: Final = 30.0
"""Seconds for an answer to a question that needs no work; a process that takes longer is stuck."""

_CREDENTIALS: Final = struct.Struct("3i")
"""`struct ucred` of unix(7): pid, uid, gid."""


class RemoteError(CryptfsError):
    """What the mount process could not do; message, advice and exit code are its own."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(str(answer.get("error", "The mount process refused.")), str(answer.get("advice", "")))
        self.exit_code = int(answer.get("exit_code", CryptfsError.exit_code))  # type: ignore[misc]  # belongs to the answer


class Daemon:
    """One connection to the mount process of a vault. Closed by `with`."""

    def __init__(self, connection: socket.socket) -> None:
        """`connection` to the control socket; raises NotAllowed if another user answers there."""
        self._socket = connection
        self._lines = connection.makefile("rb")
        self.pid, uid, _gid = _CREDENTIALS.unpack(
            connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        )
        if uid not in {os.getuid(), 0}:
            self.close()
            raise NotAllowed("Another user answers on the control socket of this vault.", "Remove that socket file.")

    @classmethod
    def find(cls, home: VaultHome) -> "Daemon | None":
        """The process that has the vault mounted, or None."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(_PATIENCE)
            connection.connect(str(home.control_socket))
        except (FileNotFoundError, ConnectionRefusedError):
            # Refused: the socket file of a process that was killed.
            connection.close()
            return None
        except OSError:
            connection.close()
            raise
        return cls(connection)

    def ask(
        self,
        command: str,
        on_progress: Callable[[Answer], None] | None = None,
        patience: float | None = _PATIENCE,
        **arguments: object,
    ) -> Answer:
        """Send one request and return its final answer.

        `patience` in seconds for each line, None for ever. Raises RemoteError for a refusal, Retry for silence.
        """
        self._socket.settimeout(patience)
        try:
            self._socket.sendall(json.dumps({"cmd": command, **arguments}).encode() + b"\n")
            for answer in self._answers():
                if "ok" in answer:
                    break
                if on_progress is not None:
                    on_progress(answer)
            else:
                raise Retry("The mount process ended before it answered.", "See `cryptfs status`.")
        except TimeoutError as err:
            raise Retry("The mount process does not answer.", f"Look at it (pid {self.pid}), or try again.") from err
        except (BrokenPipeError, ConnectionResetError) as err:
            raise Retry("The mount process ended before it answered.", "See `cryptfs status`.") from err
        if not answer["ok"]:
            raise RemoteError(answer)
        return answer

    def wait_for_end(self, seconds: float) -> None:
        """Return when the process has ended. Raises InUse if it has not after `seconds`."""
        with contextlib.suppress(ProcessLookupError):
            descriptor = os.pidfd_open(self.pid)
            try:
                if not select.select([descriptor], [], [], seconds)[0]:
                    raise InUse(
                        f"The mount process (pid {self.pid}) is still at work.", "Wait, or see `cryptfs status`."
                    )
            finally:
                os.close(descriptor)

    def close(self) -> None:
        self._lines.close()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _answers(self) -> Iterator[Answer]:
        while text := self._lines.readline(_ANSWER_MAX):
            try:
                answer = json.loads(text)
            except ValueError as err:
                raise Retry("The mount process gave an answer that is no JSON.", "Are both of one version?") from err
            if isinstance(answer, dict):
                yield answer


def require_unmounted(home: VaultHome) -> None:
    """Raise InUse if a process has the vault mounted; before questions and passphrases, which would be for nothing."""
    daemon = Daemon.find(home)
    if daemon is not None:
        daemon.close()
        raise InUse(f"'{home.name}' is mounted.", f"Unmount it first: `cryptfs umount {home.name}`.")
