"""Vaults on Google Drive as their people use them: the commands, real mounts, an emulated Drive over HTTP."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.people import Person
from tests.drive_emulator import Emulator
from tests.drive_store import access, log_in
from tests.patience import until

pytestmark = [pytest.mark.fuse, pytest.mark.slow]

MAIL = {"anna": "anna@example.org", "ben": "ben@example.org"}
BYTES = os.urandom(300_000)


class Team:
    """Anna, who founded the vault in her Drive and mounted it, and whoever she lets in."""

    def __init__(self, tmp_path: Path, person: Callable[[str], Person], emulator: Emulator) -> None:
        self.emulator = emulator
        self._tmp_path, self._person = tmp_path, person
        self.people: dict[str, Person] = {}
        anna = self._with_login("anna")
        made = anna.user(
            "init", "team", "gdrive:Our vault", "--no-passphrase", "--no-recovery", "--display-name", "Anna",
            "--device-label", "desk",
        )  # fmt: skip
        assert made.code == 0, made.err
        (folder,) = emulator.named("Our vault")
        self.folder = folder.id
        assert f"gdrive:{folder.id}" in made.out
        self.mount("anna")

    def _with_login(self, name: str) -> Person:
        who = self.people[name] = self._person(name)
        log_in(who.home, access(self.emulator, MAIL[name]))
        return who

    def let_in(self, name: str) -> None:
        self.emulator.share(self.folder, MAIL[name], "writer")
        token = self.people["anna"].must("invite", "team", "--role", "writer", "--name", name.title()).strip()
        self._with_login(name).join(token)
        self.people["anna"].must("approve", "team", name.title(), "--yes")
        self.mount(name)

    def mount(self, name: str) -> None:
        self.point(name).mkdir(exist_ok=True)
        done = self.people[name].user("mount", "team", self.point(name))
        assert done.code == 0, done.err

    def point(self, name: str) -> Path:
        return self._tmp_path / f"mnt-{name}"

    def sync(self, name: str = "anna") -> None:
        done = self.people[name].user("sync", "team")
        assert done.code == 0, done.err

    def status(self, name: str = "anna") -> dict[str, str]:
        told: dict[str, str] = json.loads(self.people[name].user("status", "team", "--json").out)
        return told

    def end(self) -> None:
        for who in self.people.values():
            who.user("umount", "team")


@pytest.fixture
def team(tmp_path: Path, person: Callable[[str], Person]) -> Iterator[Team]:
    with Emulator() as emulator:
        made = Team(tmp_path, person, emulator)
        yield made
        made.end()


def test_two_accounts_share_a_vault_and_see_each_others_changes(team: Team) -> None:
    team.let_in("ben")
    anna, ben = team.point("anna"), team.point("ben")
    (anna / "big").write_bytes(BYTES * 8)  # travels in a pack
    (anna / "note").write_text("from Anna")
    team.sync("anna")
    until(lambda: (ben / "big").exists() and (ben / "big").read_bytes() == BYTES * 8)
    (ben / "note").write_text("from Ben")
    team.sync("ben")
    until(lambda: (anna / "note").read_text() == "from Ben")
    owners = {item.owner for item in team.emulator.items() if item.blob is not None}
    assert owners == set(MAIL.values())
    plain = [item for item in team.emulator.items() if item.blob and (b"from Anna" in item.blob.data)]
    assert plain == []

    team.people["anna"].user("umount", "team")  # and again, with what lies on this device and nothing else
    team.emulator.close()
    team.mount("anna")
    assert (anna / "big").read_bytes() == BYTES * 8
    assert team.status("anna")["store_state"] == "unreachable"


def test_a_mount_outlives_its_login_and_goes_on_with_the_next(team: Team) -> None:
    point = team.point("anna")
    (point / "file").write_bytes(BYTES)
    team.sync()
    team.emulator.revoke(MAIL["anna"])
    (point / "kept").write_bytes(BYTES)
    until(lambda: team.status()["store_state"] == "login needed")
    assert "cryptfs login" in team.status()["advice"]
    assert (point / "file").read_bytes() == (point / "kept").read_bytes() == BYTES
    assert int(team.status()["pending_bytes"]) > 0
    log_in(team.people["anna"].home, access(team.emulator, MAIL["anna"]), "team")
    team.sync()
    assert team.status()["store_state"] == "ok"
    assert int(team.status()["pending_bytes"]) == 0


def test_a_name_that_several_folders_bear_is_no_place_and_a_folder_unseen_is_told(
    tmp_path: Path, person: Callable[[str], Person]
) -> None:
    with Emulator() as emulator:
        who = person("anna")
        made = who.user("init", "team", "gdrive:twice", "--no-passphrase", "--no-recovery")
        assert made.code == 77
        assert "cryptfs login gdrive:" in made.err
        log_in(who.home, access(emulator, MAIL["anna"]))
        for _ in range(2):
            emulator.folder(MAIL["anna"], "twice")
        told = who.user("init", "team", "gdrive:twice", "--no-passphrase", "--no-recovery")
        assert (told.code, "Give the id" in told.err) == (64, True)
        told = who.user("init", "team", "gdrive:1AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "--no-passphrase", "--no-recovery")
        assert (told.code, "shared with this account" in told.err) == (78, True)
        assert not (who.home / "data" / "team").exists()
        once = emulator.folder(MAIL["anna"], "once")
        assert who.user("init", "team", f"gdrive:{once}", "--no-passphrase", "--no-recovery").code == 0
        log_in(who.home, access(emulator, MAIL["anna"]))  # the first vault has taken the one before
        told = who.user("init", "again", "gdrive:once", "--no-passphrase", "--no-recovery")
        assert (told.code, "There is a vault" in told.err) == (64, True)
