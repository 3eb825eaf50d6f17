"""A vault on Google Drive by commands: logging in, founding, inviting, joining, logging out."""

import io
import json
import os
import re
import stat
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import httplib2
import msgspec
import pytest

from cryptfs.format.join import decode_token, encode_token
from cryptfs.store.drive import DriveAccess
from cryptfs.store.drive.clientid import with_client
from cryptfs.vault.home import VaultHome
from cryptfs.vault.logins import keep_pending
from tests.cli.people import Person
from tests.drive_emulator import Emulator
from tests.drive_store import access
from tests.patience import SECONDS

ANNA, BOB = "anna@example.org", "bob@example.org"
ALONE = ("--no-passphrase", "--no-recovery")


@pytest.fixture
def drive() -> Iterator[Emulator]:
    with Emulator() as emulator:
        emulator.user(ANNA)
        emulator.user(BOB)
        yield emulator


@pytest.fixture
def anna(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Person:
    return Person(tmp_path / "anna", monkeypatch, capfd)


@pytest.fixture
def bob(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Person:
    return Person(tmp_path / "bob", monkeypatch, capfd)


@pytest.fixture
def secret(drive: Emulator, tmp_path: Path) -> Path:
    file = tmp_path / "client_secret.json"
    file.write_text(json.dumps(drive.client_config()))
    return file


def waiting(person: Person, login: DriveAccess, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A login of that person that waits for a vault."""
    monkeypatch.setenv("CRYPTFS_HOME", str(person.home))
    keep_pending(login)
    return person.home / "config" / "google-drive.json"


@pytest.fixture
def team(drive: Emulator, anna: Person, monkeypatch: pytest.MonkeyPatch) -> str:
    """Anna's vault, in a folder shared with Bob; its id."""
    waiting(anna, access(drive, ANNA), monkeypatch)
    made = anna.user("init", "team", "gdrive:Our vault", *ALONE)
    assert made.code == 0, made.err
    (folder,) = drive.named("Our vault")
    drive.share(folder.id, BOB, "writer")
    return folder.id


def address_in(process: subprocess.Popen[str]) -> str:
    """The address that the command asks to be opened."""
    assert process.stderr is not None
    for text in process.stderr:
        if found := re.search(r"http\S+/o/oauth2/auth\S+", text):
            return found[0]
    raise AssertionError(process.wait())


def test_a_browser_on_this_machine(drive: Emulator, anna: Person, secret: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "cryptfs", "login", "gdrive:", "--client-secret", str(secret)],
        env=os.environ | {"CRYPTFS_HOME": str(anna.home), "DISPLAY": "", "WAYLAND_DISPLAY": ""},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with urllib.request.urlopen(address_in(process) + "&as=" + BOB, timeout=SECONDS) as page:
        assert b"close this window" in page.read()
    out, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, err
    assert out == f"Logged in as {BOB}. The next vault that is made or joined on this device takes it.\n"
    kept = anna.home / "config" / "google-drive.json"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


def test_a_browser_elsewhere(drive: Emulator, anna: Person, secret: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "cryptfs", "login", "gdrive:", "--headless", "--json", "--client-secret", str(secret)],
        env=os.environ | {"CRYPTFS_HOME": str(anna.home)},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    http = httplib2.Http()
    http.follow_redirects = False
    pasted = http.request(address_in(process) + "&as=" + ANNA)[0]["location"]
    http.close()
    out, err = process.communicate(pasted + "\n", timeout=SECONDS)
    assert process.returncode == 0, err
    assert json.loads(out)["account"] == ANNA


def test_without_a_login_one_is_told_how_to_get_it(anna: Person, secret: Path) -> None:
    made = anna.user("init", "team", "gdrive:Our vault", *ALONE)
    assert (made.code, "cryptfs login gdrive:" in made.err) == (77, True)
    asked = anna.user("login", "gdrive:")
    assert (asked.code, "--client-secret FILE" in asked.err) == (64, True)


def test_a_new_vault_takes_the_login_and_seals_it(
    drive: Emulator, anna: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    login = access(drive, ANNA)
    clear = waiting(anna, login, monkeypatch)
    assert anna.user("init", "team", "gdrive:Our vault", *ALONE).code == 0
    assert not clear.exists()
    everything = b"".join(file.read_bytes() for file in anna.home.rglob("*") if file.is_file())
    assert login.refresh_token.encode() not in everything
    assert VaultHome.of("team").read_settings().store == f"gdrive:{drive.named('Our vault')[0].id}"
    assert "Anna" not in anna.must("members", "team")  # it is read through the sealed login
    again = anna.user("init", "other", "gdrive:Another", *ALONE)
    assert again.code == 77  # one login a vault


def test_files_go_there_and_come_back(anna: Person, drive: Emulator, team: str, tmp_path: Path) -> None:
    (tmp_path / "letter").write_bytes(b"dear Bob" * 1000)
    assert anna.user("put", "team", tmp_path / "letter", "/").code == 0
    assert anna.user("sync", "team").code == 0
    back = anna.user("cat", "team", "/letter")
    assert back.out == "dear Bob" * 1000
    assert {item.name for item in drive.items(team)} >= {"genesis", "README.txt", "m", "w", "l"}
    assert not [item for item in drive.items() if item.blob and b"dear Bob" in item.blob.data]


def test_somebody_with_an_account_of_his_own_joins(
    anna: Person, bob: Person, drive: Emulator, team: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = anna.must("invite", "team", "--role", "writer", "--name", "Bob").strip()
    unknown = bob.user("join", token, "team", "--no-passphrase", "--no-wait")
    assert (unknown.code, "cryptfs login" in unknown.err) == (77, True)
    waiting(bob, access(drive, BOB), monkeypatch)
    bob.join(token)
    assert {item.owner for item in drive.items() if item.blob is not None} == {ANNA, BOB}
    anna.must("approve", "team", "--all", "--yes")
    assert "You are in as writer" in bob.join(token).err
    assert bob.user("ls", "team").code == 0


def test_an_invitation_is_enough_to_log_in_with(
    anna: Person, bob: Person, team: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticket = decode_token(anna.must("invite", "team", "--role", "writer").strip())
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    client = "1234567890-abc.apps.googleusercontent.com"
    google = DriveAccess(client, "GOCSPX-x", "1//0")
    line = encode_token(msgspec.structs.replace(ticket, locator=with_client(ticket.locator, google)))
    asked = bob.user("login", line, "--headless")
    address = re.search(r"https://accounts\.google\.com/o/oauth2/auth\?\S+", asked.err)
    assert address is not None
    assert urllib.parse.parse_qs(urllib.parse.urlsplit(address[0]).query)["client_id"] == [client]
    assert "not the answer to this login" in asked.err
    unknown = bob.user("join", line, "team", "--no-passphrase", "--no-wait")
    assert f"cryptfs login {line}" in unknown.err


def test_the_same_without_a_name_and_asked_again(
    anna: Person, bob: Person, drive: Emulator, team: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = anna.must("invite", "team", "--role", "writer").strip()
    waiting(bob, access(drive, BOB), monkeypatch)
    for _ in range(2):  # the login is sealed the second time
        asked = bob.user("join", token, "--no-passphrase", "--no-wait")
        assert asked.code == 0, asked.err


def test_a_login_that_died_is_renewed_by_name(
    anna: Person, drive: Emulator, team: str, secret: Path, tmp_path: Path
) -> None:
    drive.revoke(ANNA)
    gone = anna.user("doctor", "team")
    assert (gone.code, "cryptfs login NAME" in gone.out) == (78, True)
    process = subprocess.Popen(
        [sys.executable, "-m", "cryptfs", "login", "team", "--headless"],  # the client id is known
        env=os.environ | {"CRYPTFS_HOME": str(anna.home)},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    http = httplib2.Http()
    http.follow_redirects = False
    pasted = http.request(address_in(process) + "&as=" + ANNA)[0]["location"]
    http.close()
    out, err = process.communicate(pasted + "\n", timeout=SECONDS)
    assert (process.returncode, out) == (0, f"Logged in as {ANNA}. It is the login of 'team'.\n"), err
    assert anna.user("ls", "team").code == 0


def test_doctor_asks_google(anna: Person, drive: Emulator, team: str) -> None:
    told = anna.user("doctor", "team")
    assert told.code == 0, told.out
    for said in (f"Google account: {ANNA}", "this account's own, on My Drive", "15 GiB of 15 GiB left", "agrees"):
        assert said in told.out
    drive.vanish(team)
    assert "no such folder" in anna.user("doctor", "team").out


def test_logging_out_withdraws_the_login_and_keeps_the_vault(anna: Person, drive: Emulator, team: str) -> None:
    assert anna.user("logout", "team").out == f"{ANNA} is logged out.\n"
    assert all(grant.dead for grant in drive.service.oauth.grants.values() if grant.email == ANNA)
    asked = anna.user("logout", "team")
    assert (asked.code, "cryptfs login team" in asked.err) == (77, True)
    assert (anna.home / "data" / "team" / "keys.cfs").exists()


def test_after_a_logout_the_client_id_is_still_known(anna: Person, team: str) -> None:
    assert anna.user("logout", "team").code == 0
    process = subprocess.Popen(
        [sys.executable, "-m", "cryptfs", "login", "team"],
        env=os.environ | {"CRYPTFS_HOME": str(anna.home), "DISPLAY": "", "WAYLAND_DISPLAY": ""},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with urllib.request.urlopen(address_in(process) + "&as=" + ANNA, timeout=SECONDS):
        out, err = process.communicate(timeout=SECONDS)
    assert (process.returncode, out) == (0, f"Logged in as {ANNA}. It is the login of 'team'.\n"), err
    assert anna.user("ls", "team").code == 0


def test_a_vault_elsewhere_needs_no_login(anna: Person, tmp_path: Path) -> None:
    assert anna.user("init", "team", tmp_path / "folder", *ALONE).code == 0
    for command in ("login", "logout"):
        assert "needs no login" in anna.user(command, "team").err
