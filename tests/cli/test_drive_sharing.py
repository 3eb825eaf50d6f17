"""Access to the folder given and withdrawn with the membership: two people, two accounts, an emulated Drive."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cryptfs.errors import Denied
from cryptfs.store.base import Call
from tests.cli.people import Person
from tests.drive_emulator import Emulator
from tests.drive_emulator.faults import refusal
from tests.drive_store import access, drive_store, log_in
from tests.patience import until

ANNA, BEN, EVE = "anna@example.org", "ben@example.org", "eve@example.org"
ALONE = ("--no-passphrase", "--no-recovery")


@pytest.fixture
def drive() -> Iterator[Emulator]:
    with Emulator() as emulator:
        for who in (ANNA, BEN, EVE):
            emulator.user(who)
        yield emulator


@pytest.fixture
def person(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[[str], Person]:
    return lambda name: Person(tmp_path / name, monkeypatch, capfd)


@pytest.fixture
def anna(drive: Emulator, person: Callable[[str], Person]) -> Person:
    """Who has founded the vault, in a folder of her own that nobody else sees."""
    anna = person("anna")
    log_in(anna.home, access(drive, ANNA))
    made = anna.user("init", "team", "gdrive:Our vault", *ALONE, "--display-name", "Anna")
    assert made.code == 0, made.err
    return anna


@pytest.fixture
def folder(drive: Emulator, anna: Person) -> str:
    return drive.named("Our vault")[0].id


def let_in(anna: Person, drive: Emulator, ben: Person, *invited: str, account: str = BEN) -> None:
    token = anna.must("invite", "team", "--role", "writer", "--name", "Ben", *invited).strip()
    log_in(ben.home, access(drive, account))
    ben.join(token)
    anna.must("approve", "team", "Ben", "--yes")


def write(who: Person, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(f"the {name}")
    assert who.user("put", "team", tmp_path / name, "/").code == 0
    assert who.user("sync", "team").code == 0


def sees(drive: Emulator, folder: str, account: str) -> bool:
    store = drive_store(drive, account, folder)
    try:
        store.get("genesis", Call.within(20))
    except Denied:
        return False
    finally:
        store.close()
    return True


@pytest.mark.fuse
@pytest.mark.slow
def test_from_an_invitation_by_address_to_a_removal(
    drive: Emulator, anna: Person, folder: str, person: Callable[[str], Person], tmp_path: Path
) -> None:
    ben, points = person("ben"), {"anna": tmp_path / "mnt-anna", "ben": tmp_path / "mnt-ben"}
    for point in points.values():
        point.mkdir()
    assert anna.user("mount", "team", points["anna"]).code == 0
    try:
        (points["anna"] / "plan").write_text("the plan")
        assert anna.user("sync", "team").code == 0
        assert not sees(drive, folder, BEN)
        let_in(anna, drive, ben, "--share", BEN)
        assert ben.user("mount", "team", points["ben"]).code == 0
        until((points["ben"] / "plan").exists)
        assert (points["ben"] / "plan").read_text() == "the plan"
        (points["ben"] / "answer").write_text("yes")
        assert ben.user("sync", "team").code == 0
        put_out = anna.admin("remove", "team", "Ben", "--share", "--yes")
        assert put_out.code == 0, put_out.err
        assert f"{BEN} has no access to the folder any more." in put_out.out
        assert f"withdrawn from {BEN}" in put_out.err
        assert not sees(drive, folder, BEN)
        assert sees(drive, folder, ANNA)
        assert (points["anna"] / "answer").read_text() == "yes"
    finally:
        for who in (ben, anna):
            who.user("umount", "team")


def test_the_order_of_a_removal_is_statement_then_permission(
    drive: Emulator, anna: Person, person: Callable[[str], Person], tmp_path: Path
) -> None:
    ben = person("ben")
    let_in(anna, drive, ben, "--share", BEN)
    write(ben, tmp_path, "answer")
    drive.forget_requests()
    anna.must("remove", "team", "Ben", "--share", "--yes")
    calls = [one.call for one in drive.requests() if one.email == ANNA]
    assert calls.index("permissions.delete") > max(at for at, call in enumerate(calls) if call == "files.create")


def test_a_withdrawal_that_fails_leaves_the_removal(
    drive: Emulator, anna: Person, person: Callable[[str], Person], tmp_path: Path
) -> None:
    ben = person("ben")
    let_in(anna, drive, ben, "--share", BEN)
    write(ben, tmp_path, "answer")
    drive.fail(refusal(403, "cannotDeletePermission"), "permissions.delete")
    put_out = anna.admin("remove", "team", "Ben", "--share", "--yes", "--json")
    told = json.loads(put_out.out)
    assert put_out.code == 69
    assert told["withdrawn"] == []
    assert "manager of the shared drive" in told["left"][BEN]
    assert "still has access" in put_out.err
    assert "Ben" not in anna.must("members", "team")


def test_no_invitation_is_left_where_sharing_is_forbidden(drive: Emulator, anna: Person) -> None:
    drive.fail(refusal(403, "shareOutNotPermitted"), "permissions.create")
    asked = anna.admin("invite", "team", "--role", "writer", "--share", EVE)
    assert (asked.code, asked.out) == (77, "")
    assert "administrators forbid it" in asked.err
    assert "no open invitation" in anna.admin("uninvite", "team").err


def test_an_account_that_did_not_send_anything_has_to_be_named(
    drive: Emulator, anna: Person, folder: str, person: Callable[[str], Person]
) -> None:
    let_in(anna, drive, person("ben"), "--share", BEN)
    asked = anna.admin("remove", "team", "Ben", "--share", "--yes")
    assert (asked.code, "--account E-MAIL" in asked.err) == (64, True)
    assert "Ben" in anna.must("members", "team")
    put_out = anna.admin("remove", "team", "Ben", "--share", "--account", BEN, "--account", ANNA, "--yes")
    assert (put_out.code, f"{ANNA} keeps its access" in put_out.err) == (0, True)
    assert not sees(drive, folder, BEN)
    assert sees(drive, folder, ANNA)


def test_an_account_that_others_use_keeps_its_access(
    drive: Emulator, anna: Person, folder: str, person: Callable[[str], Person], tmp_path: Path
) -> None:
    ben = person("ben")
    let_in(anna, drive, ben, account=ANNA)
    write(anna, tmp_path, "plan")
    write(ben, tmp_path, "answer")
    put_out = anna.admin("remove", "team", "Ben", "--share", "--yes")
    assert (put_out.code, "others in the group use that account" in put_out.err) == (0, True)
    assert sees(drive, folder, ANNA)


def test_members_and_doctor_show_who_has_access(
    drive: Emulator, anna: Person, folder: str, person: Callable[[str], Person], tmp_path: Path
) -> None:
    ben = person("ben")
    let_in(anna, drive, ben, "--share", BEN)
    for who in (anna, ben):
        write(who, tmp_path, "letter")
    told = anna.user("doctor", "team").out
    assert "2 accounts, each of somebody in the group" in told
    drive.share(folder, EVE, "reader")
    shown = json.loads(anna.must("members", "team", "--access", "--json"))
    rows = {one["account"]: (one["owner"], one["writes"], one["members"]) for one in shown["access"]}
    assert rows == {ANNA: (True, True, ["Anna"]), BEN: (False, True, ["Ben"]), EVE: (False, False, [])}
    assert f"{EVE}: nobody in the group" in anna.user("doctor", "team").out
    drive.share(folder, EVE, "")
    drive.share(folder, BEN, "")
    assert "Ben is in, and the account known of them has no access" in anna.admin("members", "team", "--access").err
    assert "none for the account known of Ben" in anna.user("doctor", "team").out


def test_a_folder_on_a_disk_has_no_accounts(person: Callable[[str], Person], tmp_path: Path) -> None:
    anna = person("anna")
    assert anna.user("init", "team", tmp_path / "folder", *ALONE).code == 0
    for asked in (("invite", "team", "--role", "writer", "--share", BEN), ("members", "team", "--access")):
        told = anna.admin(*asked)
        assert (told.code, "give or withdraw access to the folder where it lies" in told.err) == (64, True)
    assert "no e-mail address" in anna.admin("invite", "team", "--role", "reader", "--share", "ben").err
