"""Running commands as a person does: a line in, text and an exit code out."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cryptfs.cli.admin import cryptfs_admin
from cryptfs.cli.main import cryptfs
from cryptfs.cli.output import execute
from tests.cli.people import Person
from tests.cli.transcripts import Result, Run
from tests.patience import SECONDS


@pytest.fixture
def run(home: Path, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run `cryptfs ARGS…` in this process, with a CRYPTFS_HOME of its own."""

    def command(*args: object) -> Result:
        capfd.readouterr()
        code = execute(cryptfs, "cryptfs", [str(arg) for arg in args])
        return Result(code, *capfd.readouterr())

    return command


@pytest.fixture
def run_admin(home: Path, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run `cryptfs-admin ARGS…` in this process."""

    def command(*args: object) -> Result:
        capfd.readouterr()
        code = execute(cryptfs_admin, "cryptfs-admin", [str(arg) for arg in args])
        return Result(code, *capfd.readouterr())

    return command


@pytest.fixture
def run_apart(home: Path) -> Run:
    """Run `cryptfs ARGS…` in a process of its own, without a terminal."""

    def command(*args: object, stdin: bytes = b"", **environ: str) -> Result:
        line = [sys.executable, "-m", "cryptfs", *map(str, args)]
        done = subprocess.run(
            line, input=stdin, env=os.environ | environ, capture_output=True, timeout=SECONDS, check=False
        )
        return Result(done.returncode, done.stdout.decode(), done.stderr.decode())

    return command


@pytest.fixture
def vault(run: Run, store_dir: Path) -> str:
    """The name of a new vault without passphrase, in `store_dir`."""
    made = run("init", "team", store_dir, "--no-passphrase", "--no-recovery")
    assert made.code == 0, made.err
    return "team"


@pytest.fixture
def person(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[[str], Person]:
    return lambda name: Person(tmp_path / name, monkeypatch, capfd)
