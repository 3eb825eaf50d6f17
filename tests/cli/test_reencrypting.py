"""`cryptfs-admin reencrypt` and `remove --reencrypt` as a person uses them."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.people import Person
from tests.cli.transcripts import two_lines


@pytest.fixture
def anna(tmp_path: Path, person: Callable[[str], Person]) -> Person:
    """Anna, with two files in a vault of her own."""
    store = tmp_path / "store"
    store.mkdir()
    anna = person("anna")
    made = anna.user("init", "team", store, "--display-name", "Anna", "--no-passphrase", "--no-recovery")
    assert made.code == 0, made.err
    for name in ("plan.txt", "draft.txt"):
        (tmp_path / name).write_text(f"the {name}" * 100)
        put = anna.user("put", "team", tmp_path / name, "/")
        assert put.code == 0, put.err
    assert anna.user("sync", "team").code == 0
    return anna


def test_it_says_what_it_will_do_and_asks_first(anna: Person) -> None:
    anna.must("rotate", "team")
    refused = anna.admin("reencrypt", "team")
    assert refused.code == 64
    assert "2 files lie under older keys: up to 2.44 KiB are read, sealed and sent again." in refused.err
    assert "logs stay as they are" in refused.err
    assert "Say --yes" in refused.err
    assert anna.json("reencrypt", "team", "plan.txt", "--yes")["versions"] == 1  # type: ignore[call-overload, index]
    done = anna.admin("reencrypt", "team", "--yes")
    assert done.code == 0
    assert done.out.startswith("Sealed anew: 1 file, 1 version, 1.27 KiB in ")
    assert anna.must("reencrypt", "team").startswith("Nothing lies under older keys.\n"), "and does not ask"
    assert anna.user("cat", "team", "plan.txt").out == "the plan.txt" * 100


def test_json_has_every_field(anna: Person) -> None:
    anna.must("rotate", "team")
    answer = anna.json("reencrypt", "team", "--yes")
    assert isinstance(answer, dict)
    assert answer.pop("seconds") >= 0
    assert answer.pop("objects") == {
        "deleted": 0, "deleted_bytes": 0, "held_back": "", "unused_packs": [], "unused_in_logs": 2, "waiting_for": [],
    }  # fmt: skip
    assert answer == {
        "path": "", "complete": True, "files": 2, "versions": 2, "bytes": 2500, "segments": 1, "failed": [], "busy": [],
    }  # fmt: skip


def test_a_file_that_cannot_be_read_is_named_and_the_others_go_on(anna: Person, tmp_path: Path) -> None:
    for home in anna.home.rglob("*.body2"):
        home.unlink()
    first = sorted((tmp_path / "store" / "l").iterdir(), key=lambda path: path.name)[1]
    data = bytearray(first.read_bytes())
    data[-100] ^= 1  # in a record that travels in the segment
    first.write_bytes(data)
    anna.must("rotate", "team")
    done = anna.admin("reencrypt", "team", "--yes")
    assert done.code == 65, done.err
    assert "Still under older keys: draft.txt: a part of a file is damaged in the store" in done.err
    assert "Sealed anew: 1 file" in done.out
    again = anna.admin("reencrypt", "team", "--resume", "--yes", "--json")
    assert again.code == 65
    assert json.loads(again.out)["failed"] == [
        {"path": "draft.txt", "reason": "a part of a file is damaged in the store"}
    ]


def test_what_makes_no_sense_is_refused_with_advice(anna: Person) -> None:
    nothing, nowhere = anna.admin("reencrypt", "team", "--resume"), anna.admin("reencrypt", "team", "no such file")
    assert (nothing.code, nowhere.code) == (64, 66)
    assert two_lines(nothing)[1] == "Leave out --resume."
    assert "There is no 'no such file' in the vault." in two_lines(nowhere)[0]


def test_removing_somebody_can_seal_anew_what_they_could_read(anna: Person, person: Callable[[str], Person]) -> None:
    bob = person("bob")
    bob.join(anna.must("invite", "team", "--role", "writer", "--name", "Bob").split("\n")[0])
    anna.must("approve", "team", "--all", "--yes")
    refused = bob.admin("reencrypt", "team", "--yes")
    assert refused.code == 77
    removed = anna.json("remove", "team", "Bob", "--reencrypt", "--yes")
    assert isinstance(removed, dict)
    assert removed["reencrypted"]["versions"] == 2
    assert anna.must("reencrypt", "team").startswith("Nothing lies under older keys.\n")
