"""Starting the mount process behind the terminal, and staying until it is ready or has said why not.

The child is the same program in the foreground. It announces itself as to systemd (sd_notify(3)), so there is one
way to be ready; the passphrase goes through a pipe, where neither arguments nor environment show it.
"""

import os
import select
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cryptfs.cli.cards import PIN_VARIABLE
from cryptfs.errors import CryptfsError
from cryptfs.vault.home import VaultHome

__all__ = ["StartFailed", "start"]

_MESSAGE_MAX: Final = 4096
_PREFIX: Final = "cryptfs: "
"""How the first line of an error begins (`output.execute`)."""


class StartFailed(CryptfsError):
    """The mount process ended before it was ready; text, advice and exit code are its own."""

    def __init__(self, said: str, code: int, log: Path) -> None:
        lines = said.splitlines()
        errors = [number for number, text in enumerate(lines) if text.startswith(_PREFIX)]
        if errors:
            message = lines[errors[-1]].removeprefix(_PREFIX)
            advice = " ".join(lines[errors[-1] + 1 :])
        else:
            message, advice = f"The mount process ended with code {code}.", f"See {log}."
        super().__init__(message, advice)
        self.exit_code = code if code > 0 else CryptfsError.exit_code  # type: ignore[misc]  # belongs to this failure


def start(home: VaultHome, arguments: Sequence[str], passphrase: bytes | None, pin: bytes | None = None) -> None:
    """Run `cryptfs mount --foreground ARGUMENTS…` in a session of its own; return when it is ready.

    `passphrase` of the key file and `pin` of a token, where the child cannot find them itself.
    Raises StartFailed. Interrupted, it takes the child down with it.
    """
    log = home.log_file
    if log.exists():
        log.replace(log.with_suffix(".log.1"))
    directory = tempfile.mkdtemp(prefix="cryptfs-")
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready, log.open("wb") as output:
            ready.bind(f"{directory}/ready")
            child = _spawn(home, arguments, (passphrase, pin), f"{directory}/ready", output.fileno())
            try:
                _wait(child, ready, log)
            except KeyboardInterrupt:
                child.terminate()
                child.wait()
                raise
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _spawn(
    home: VaultHome, arguments: Sequence[str], secrets: tuple[bytes | None, bytes | None], ready: str, output: int
) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "cryptfs", "mount", "--foreground", *arguments]
    environment = os.environ | {"NOTIFY_SOCKET": ready}
    if "CRYPTFS_HOME" in environment:
        environment["CRYPTFS_HOME"] = str(home.data_dir.parent.parent)  # absolute: the child works in another directory
    if PIN_VARIABLE in environment:
        environment[PIN_VARIABLE] = str(Path(environment[PIN_VARIABLE]).absolute())
    passphrase, pin = secrets
    passed: list[int] = []
    if pin is not None:
        passed.append(_pipe_with(pin))
        environment[PIN_VARIABLE] = f"/dev/fd/{passed[-1]}"
    if passphrase is not None:
        passed.append(_pipe_with(passphrase))
        command += ["--passphrase-file", f"/dev/fd/{passed[-1]}"]
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            cwd="/",
            pass_fds=passed,
            start_new_session=True,
        )
    finally:
        for descriptor in passed:
            os.close(descriptor)


def _pipe_with(secret: bytes) -> int:
    """The reading end of a pipe that holds `secret`; it is far shorter than a pipe's buffer."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb") as stream:
        stream.write(secret + b"\n")
    return reading


def _wait(child: "subprocess.Popen[bytes]", ready: socket.socket, log: Path) -> None:
    ended = os.pidfd_open(child.pid)
    try:
        while True:  # until the child is ready or has ended; a big vault on a slow store may take its time
            woken = select.select([ready.fileno(), ended], [], [])[0]
            if ready.fileno() in woken and b"READY=1" in ready.recv(_MESSAGE_MAX).split(b"\n"):
                child.returncode = 0  # it lives on without us; Popen would warn that nobody waited for it
                return
            if ended in woken:
                raise StartFailed(log.read_text(errors="replace"), child.wait(), log)
    finally:
        os.close(ended)
