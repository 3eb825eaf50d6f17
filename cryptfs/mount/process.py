"""The process around a mount: what it hides, what it needs, how it talks to whoever started it."""

import ctypes
import os
import resource
import socket
from collections.abc import Mapping
from typing import Final

__all__ = ["Notifier", "harden"]

_PR_SET_DUMPABLE: Final = 4


def harden() -> None:
    """No core dump and no debugger sees the keys (prctl(2), PR_SET_DUMPABLE); descriptors up to the hard limit."""
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Notifier:
    """Tells the one who started us how we are, as systemd wants it (sd_notify(3)); silent if nobody listens.

    `watchdog_seconds`: how often `WATCHDOG=1` has to be said, None if nobody waits for it.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        # A leading @ is an abstract address: a NUL byte on the wire.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        interval = int(environment.get("WATCHDOG_USEC", "0") or 0)
        meant_for = environment.get("WATCHDOG_PID", "")
        ours = not meant_for or meant_for == str(os.getpid())
        self.watchdog_seconds = interval / 2_000_000 if interval and ours else None

    def say(self, *lines: str) -> None:
        """Send `NAME=value` lines; whether anybody listens is not our trouble."""
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            try:
                sender.sendto("\n".join(lines).encode(), self._address)
            except OSError:
                self._address = ""
