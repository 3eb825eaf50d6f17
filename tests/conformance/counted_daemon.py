"""Runs a cryptfs command on a directory store that notes every call: `counted_daemon.py mount NAME DIR --foreground`.

COUNTED_CALLS=FILE   a line is appended to FILE when a call begins: its verb and the key or prefix it is about

The store itself is told to note, so that no call can be missed, whoever makes it.
"""

import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from cryptfs.cli.main import run
from cryptfs.store import DirectoryStore

_VERBS = ("put", "put_file", "get", "stat", "list", "delete", "changes", "space")


def noting(verb: str, fd: int) -> Callable[..., Any]:
    """The method of that name, and a line in the file before it."""
    call = getattr(DirectoryStore, verb)

    @functools.wraps(call)
    def noted(self: DirectoryStore, *given: Any, **more: Any) -> Any:
        about = given[0] if given and isinstance(given[0], str) else ""
        os.write(fd, f"{verb} {about}\n".encode())  # one write: lines of several threads do not mix
        return call(self, *given, **more)

    return noted


def main() -> None:
    """Note, then do what the command line says."""
    fd = os.open(os.environ["COUNTED_CALLS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for verb in _VERBS:
        setattr(DirectoryStore, verb, noting(verb, fd))
    run()


if __name__ == "__main__":
    main()
