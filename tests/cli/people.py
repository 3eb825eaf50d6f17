"""Several people on one machine, each with a CRYPTFS_HOME of their own, on one folder."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cryptfs.cli.admin import cryptfs_admin
from cryptfs.cli.main import cryptfs
from cryptfs.cli.output import execute
from tests.cli.transcripts import Result


class Person:
    """Runs commands as one of several people on this machine."""

    def __init__(self, home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        self.home = home
        self._monkeypatch = monkeypatch
        self._capfd = capfd

    def _run(self, program: str, *args: object) -> Result:
        self._monkeypatch.setenv("CRYPTFS_HOME", str(self.home))
        self._capfd.readouterr()
        group = cryptfs if program == "cryptfs" else cryptfs_admin
        code = execute(group, program, [str(arg) for arg in args])
        return Result(code, *self._capfd.readouterr())

    def start(self, program: str, *args: object) -> subprocess.Popen[str]:
        """The same in a process of its own that goes on beside this one."""
        return subprocess.Popen(
            [sys.executable, "-m", program, *map(str, args)], env=os.environ | {"CRYPTFS_HOME": str(self.home)},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def user(self, *args: object) -> Result:
        return self._run("cryptfs", *args)

    def admin(self, *args: object) -> Result:
        return self._run("cryptfs-admin", *args)

    def must(self, *args: object) -> str:
        """Run `cryptfs-admin`, which has to succeed."""
        done = self.admin(*args)
        assert done.code == 0, done.err
        return done.out

    def json(self, *args: object) -> object:
        return json.loads(self.must(*args, "--json"))

    def join(self, token: str, *more: object, name: str = "team") -> Result:
        done = self.user("join", token, name, "--no-passphrase", "--no-wait", *more)
        assert done.code == 0, done.err
        return done
