"""`cryptfs restore --undo-device` and `cryptfs conflicts`: two people, each with a home, on one folder."""

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from tests.cli.people import Person
from tests.cli.transcripts import two_lines

COPY = "plan (Bob (device)'s conflicted copy 2026-11-25).txt"


def put(who: Person, base: Path, name: str, text: str) -> None:
    (base / "piece").write_text(text)
    assert who.user("put", "team", base / "piece", f"/{name}").code == 0
    assert who.user("sync", "team").code == 0


@pytest.fixture
def anna(person: Callable[[str], Person], store_dir: Path) -> Person:
    """The owner of the vault `team`."""
    anna = person("anna")
    made = anna.user("init", "team", store_dir, "--display-name", "Anna", "--no-passphrase", "--no-recovery")
    assert made.code == 0, made.err
    return anna


@pytest.fixture
def bob(anna: Person, person: Callable[[str], Person]) -> Person:
    """A writer."""
    bob = person("bob")
    bob.join(anna.must("invite", "team", "--role", "writer", "--name", "Bob").strip())
    anna.must("approve", "team", "--all", "--yes")
    return bob


def test_what_a_device_did_is_shown_asked_about_and_undone(anna: Person, bob: Person, tmp_path: Path) -> None:
    put(anna, tmp_path, "plan", "the plan")
    since = datetime.now().astimezone().isoformat()
    put(bob, tmp_path, "plan", "PAY")
    put(bob, tmp_path, "note", "pay here")
    line = ("restore", "team", "--undo-device", "Bob", "--since", since)

    shown = anna.user(*line, "--dry-run")
    titles, row = shown.out.splitlines()
    assert (shown.code, titles.split(), row.split()[-1]) == (0, ["What", "Version", "Path"], "/plan")
    assert shown.err == "1 that the device itself made since then stay.\n"
    unasked = anna.user(*line)
    assert unasked.code == 64
    assert "there is no terminal to ask" in unasked.err
    assert anna.user("cat", "team", "plan").out == "PAY"

    done = anna.user(*line, "--yes")
    assert (done.code, done.out.splitlines()[-1]) == (0, "1 change is undone.")
    assert anna.user("cat", "team", "plan").out == "the plan"
    again = anna.user(*line, "--yes")
    assert (again.code, again.err.splitlines()[-1]) == (0, "There is nothing to undo.")
    assert json.loads(anna.user(*line, "--json").out)["repairs"] == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (("--undo-device", "Bob"), "Undoing needs --undo-device and --since, and nothing else."),
        (
            ("--undo-device", "Bob", "--since", "1h", "plan"),
            "Undoing needs --undo-device and --since, and nothing else.",
        ),
        (("--undo-device", "Eve", "--since", "1h"), "There was never anybody called 'Eve'."),
        ((), "What is to be brought back?"),
    ],
)
def test_what_cannot_be_undone_is_said(anna: Person, line: tuple[str, ...], said: str) -> None:
    result = anna.user("restore", "team", *line)
    assert (result.code, two_lines(result)[0]) == (64, f"cryptfs: {said}")


def test_a_conflict_is_listed_and_settled(anna: Person, tmp_path: Path) -> None:
    assert anna.user("conflicts", "team").err == "There are no conflicted copies.\n"
    put(anna, tmp_path, "plan.txt", "mine")
    put(anna, tmp_path, COPY, "the other")
    titles, original, copy = anna.user("conflicts", "team").out.splitlines()
    assert titles.split() == ["Changed", "By", "Size", "Path"]
    assert original.endswith("/plan.txt")
    assert copy.endswith(f"/{COPY}")
    (row,) = json.loads(anna.user("conflicts", "team", "--json").out)
    assert (row["original"]["size"], row["copy"]["size"], row["copy"]["by"]) == (4, 9, "Anna (first device)")

    for line, said in (((), "That is `conflicts NAME`"), (("keep", COPY), "Which one is to stay?")):
        wrong = anna.user("conflicts", "team", *line, *([] if line else ["--this"]))
        assert (wrong.code, said in two_lines(wrong)[0]) == (64, True)

    done = anna.user("conflicts", "team", "keep", COPY, "--this")
    assert done == (0, "kept: /plan.txt\nin the trash: /plan.txt\n", "")
    assert anna.user("cat", "team", "plan.txt").out == "the other"
    assert anna.user("restore", "team", "plan.txt").code == 0
    assert anna.user("cat", "team", "plan.txt").out == "mine"
