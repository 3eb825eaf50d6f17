"""`cryptfs-admin trust`: what is remembered, and a person's word about the clock."""

from pathlib import Path

import pytest

from cryptfs.cli import trusting
from cryptfs.crypto.keyfile import decode
from cryptfs.crypto.keys import local_key
from cryptfs.group.memory import recall
from tests.cli.people import Person
from tests.cli.test_admin_group import anna, put, words
from tests.cli.transcripts import two_lines

__all__ = ["anna", "words"]  # fixtures


def clock_of(who: Person) -> int:
    data = who.home / "data" / "team"
    keys = decode((data / "keys.cfs").read_bytes(), None)
    return recall((data / "trust.cfs").read_bytes(), local_key(keys.local_secret, "memory"), keys.vault).clock_ms


def test_a_clock_that_ran_ahead_is_reset(anna: Person, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """T-clock."""
    assert "remembers nothing yet" in two_lines(anna.admin("trust", "show", "team"))[0]
    put(anna, tmp_path, "first", "x")
    real = clock_of(anna)
    assert anna.json("trust", "show", "team")["segments"] == 1
    with monkeypatch.context() as patch:
        patch.setattr(trusting.time, "time_ns", lambda: (real + 10**10) * 10**6)
        assert anna.admin("trust", "reset-clock", "team", "--yes").code == 0
    assert clock_of(anna) == real + 10**10
    assert anna.admin("trust", "reset-clock", "team", "--yes").code == 0
    assert real <= clock_of(anna) < real + 10**9
