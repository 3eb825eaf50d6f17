"""`cryptfs init` as a person at a terminal meets it."""

import os
import pty
import re
import select
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cryptfs.crypto import keyfile
from cryptfs.crypto.recovery import RecoverySecret
from cryptfs.crypto.words import recovery_seed
from tests.patience import SECONDS


class Terminal:
    """A command on a terminal of its own; `screen` is all that was shown so far."""

    def __init__(self, *args: object) -> None:
        self._master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "cryptfs", *map(str, args)], stdin=slave, stdout=slave, stderr=slave
        )
        os.close(slave)
        self.screen = ""

    def wait_for(self, pattern: str) -> re.Match[str]:
        """The first match behind what was matched before."""
        while not (found := re.search(pattern, self.screen)):
            self._read()
        self.screen = self.screen[found.end() :]
        return found

    def type(self, text: str) -> None:
        os.write(self._master, text.encode() + b"\n")

    def finish(self) -> str:
        """What was shown until the end."""
        while self._read():
            pass
        assert self.process.wait(SECONDS) == 0, self.screen
        return self.screen

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)

    def _read(self) -> bool:
        ready = select.select([self._master], [], [], SECONDS)[0]
        assert ready, f"nothing more came after: {self.screen}"
        try:
            self.screen += os.read(self._master, 4096).decode()
        except OSError:  # how Linux tells that the other end is closed
            return False
        return True


@pytest.fixture
def terminal(home: Path) -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def start(*args: object) -> Terminal:
        opened.append(Terminal(*args))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


def test_init_asks_for_a_passphrase_twice_and_shows_the_words_once(
    terminal: Callable[..., Terminal], store_dir: Path, home: Path
) -> None:
    at = terminal("init", "team", store_dir)
    at.wait_for("New passphrase: ")
    at.type("correct horse")
    at.wait_for("Once more: ")
    at.type("correct hose")
    at.wait_for("Those were not the same, or empty. Again, please.")
    for prompt in ("New passphrase: ", "Once more: "):
        at.wait_for(prompt)
        at.type("correct horse")
    shown = at.wait_for(r"(?s)once\.(.*)Now type three of them")[1]
    words = re.findall(r"\d+\. ([a-z]+)", shown)
    assert len(words) == 33
    for turn in range(3):
        place = int(at.wait_for(r"Word (\d+): ")[1])
        if turn == 0:
            at.type("wrong")
            at.wait_for("another word")
            at.wait_for(f"Word {place}: ")
        at.type(words[place - 1])
    ended = at.finish()
    assert "The vault 'team' is ready" in ended
    assert "\x1b[2J" in ended  # the words are wiped off the screen
    assert keyfile.decode((home / "data/team/keys.cfs").read_bytes(), b"correct horse")
    public = RecoverySecret(recovery_seed([" ".join(words)])).public
    assert public.sign_public in (store_dir / "genesis").read_bytes()


def test_giving_up_the_recovery_key_needs_a_yes(terminal: Callable[..., Terminal], store_dir: Path) -> None:
    at = terminal("init", "team", store_dir, "--no-passphrase", "--no-recovery")
    at.wait_for(r"Go on\? \[y/N\]: ")
    at.type("n")
    at.wait_for("Nothing was made.")
    assert at.process.wait(SECONDS) == 64
    assert list(store_dir.iterdir()) == []


def test_a_passphrase_is_not_echoed(terminal: Callable[..., Terminal], store_dir: Path, tmp_path: Path) -> None:
    at = terminal("init", "team", store_dir, "--recovery-file", tmp_path / "words")
    for prompt in ("New passphrase: ", "Once more: "):
        at.wait_for(prompt)
        at.type("correct horse")
    assert "correct horse" not in at.finish()
