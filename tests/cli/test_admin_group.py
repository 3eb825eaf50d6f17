"""A group on the command line: each person with a CRYPTFS_HOME of their own, on one folder."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from cryptfs.format.join import LINE_PREFIX
from tests.cli.people import Person
from tests.cli.transcripts import two_lines


@pytest.fixture
def words(tmp_path: Path) -> Path:
    return tmp_path / "words"


@pytest.fixture
def anna(person: Callable[[str], Person], store_dir: Path, words: Path) -> Person:
    """The owner of the vault `team`."""
    anna = person("anna")
    made = anna.user("init", "team", store_dir, "--display-name", "Anna", "--no-passphrase", "--recovery-file", words)
    assert made.code == 0, made.err
    return anna


def invite(anna: Person, *more: object) -> str:
    token = anna.must("invite", "team", "--role", "writer", *more).strip()
    assert token.startswith(LINE_PREFIX)
    return token


@pytest.fixture
def bob(anna: Person, person: Callable[[str], Person]) -> Person:
    """A writer."""
    bob = person("bob")
    bob.join(invite(anna, "--name", "Bob"))
    anna.must("approve", "team", "--all", "--yes")
    return bob


def put(who: Person, tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / "piece").write_text(text)
    done = who.user("put", "team", tmp_path / "piece", f"/{name}")
    assert done.code == 0, done.err
    assert who.user("sync", "team").code == 0


def cat(who: Person, name: str) -> str:
    return who.user("cat", "team", name).out


# ---- coming in -------------------------------------------------------------------------------------------------------


def test_invite_join_approve_and_both_read_what_the_other_wrote(
    anna: Person, person: Callable[[str], Person], tmp_path: Path
) -> None:
    put(anna, tmp_path, "hers", "from Anna")
    bob = person("bob")
    asked = bob.join(invite(anna), "--display-name", "Bob")
    assert (
        asked.out == "The request is in the folder. Once it is approved, mount the vault with `cryptfs mount team`.\n"
    )
    shown = re.search(r"The words of this device: ((?:\w+ ?){9})\n", asked.err)
    assert shown
    (request,) = anna.json("requests", "team")["requests"]  # type: ignore[call-overload]
    assert (request["words"], request["role"], request["doubts"]) == (shown[1], "writer", [])
    assert bob.user("ls", "team").code == 77
    assert anna.must("approve", "team", request["id"], "--yes") == "Bob (device) is in: writer.\n"
    assert bob.user("join", invite(anna), "team", "--wait").out.startswith("This device is in.")
    assert cat(bob, "hers") == "from Anna"
    put(bob, tmp_path, "his", "from Bob")
    assert cat(anna, "his") == "from Bob"


def test_the_name_of_the_vault_is_taken_over(anna: Person, person: Callable[[str], Person]) -> None:
    bob = person("bob")
    assert bob.user("join", invite(anna), "--no-passphrase", "--no-wait").code == 0
    assert bob.user("list", "--json").out.startswith('[{"name": "team"')


def test_joining_again_waits_on_and_posts_nothing_new(
    anna: Person, person: Callable[[str], Person], store_dir: Path
) -> None:
    bob, token = person("bob"), invite(anna)
    first = bob.join(token)
    posted = list((store_dir / "j").iterdir())
    assert bob.join(token).err == first.err
    assert list((store_dir / "j").iterdir()) == posted
    anna.must("approve", "team", "--all", "--yes")
    assert not list((store_dir / "j").iterdir())
    assert bob.user("join", token, "team", "--no-wait").code == 0
    done = bob.user("join", token, "team", "--no-wait")
    assert (done.code, two_lines(done)[0]) == (64, "cryptfs: This device is in the vault 'team' already.")


@pytest.mark.parametrize("token", ["", "hello", "cfs1-", "cfs1-AAAA", "cfs1-" + "A" * 3000])
def test_what_is_no_invitation_is_refused_with_advice(person: Callable[[str], Person], token: str) -> None:
    done = person("bob").user("join", token, "team", "--no-passphrase")
    assert done.code == 65
    assert "invitation" in two_lines(done)[0]


def test_an_invitation_cut_short_is_refused(anna: Person, person: Callable[[str], Person]) -> None:
    done = person("bob").user("join", invite(anna)[:-3], "team", "--no-passphrase")
    assert (done.code, two_lines(done)[0]) == (65, "cryptfs: The invitation is not complete.")


def test_a_folder_elsewhere_is_named_with_store(
    anna: Person, person: Callable[[str], Person], store_dir: Path, tmp_path: Path
) -> None:
    token, moved = invite(anna), tmp_path / "moved"
    store_dir.rename(moved)
    bob = person("bob")
    done = bob.user("join", token, "team", "--no-passphrase")
    assert (done.code, two_lines(done)[1]) == (78, "Say where it is on this machine: --store FOLDER.")
    assert not bob.home.exists() or not list(bob.home.rglob("keys.cfs"))
    bob.join(token, "--store", moved)


def test_another_vault_in_the_folder_is_not_joined(
    anna: Person, person: Callable[[str], Person], store_dir: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    assert anna.user("init", "other", other, "--no-passphrase", "--no-recovery").code == 0
    done = person("bob").user("join", invite(anna), "team", "--no-passphrase", "--store", other)
    assert done.code in {65, 78}
    assert not list(tmp_path.glob("bob/**/keys.cfs"))


def test_words_let_in_who_has_no_invitation_of_this_device(anna: Person, person: Callable[[str], Person]) -> None:
    bob = person("bob")
    bob.join(invite(anna, "--words"), "--display-name", "Bob")
    (request,) = anna.json("requests", "team")["requests"]  # type: ignore[call-overload]
    assert anna.admin("approve", "team", "--all", "--yes").code == 77
    assert anna.admin("approve", "team", "Bob", "--yes").err.splitlines()[-1] == "Give --role."
    assert (
        anna.admin("approve", "team", "Bob", "--role", "writer", "--yes").code == 64
    )  # words cannot be asked for here
    wrong = anna.admin("approve", "team", "Bob", "--role", "writer", "--words", "one two three", "--yes")
    assert wrong.code == 77
    assert "not the words" in wrong.err
    anna.must("approve", "team", "Bob", "--role", "writer", "--words", request["words"], "--yes")


def test_a_dangerous_command_without_a_terminal_needs_yes(anna: Person, bob: Person) -> None:
    for command in (("remove", "team", "Bob"), ("role", "team", "Bob", "admin"), ("policy", "team", "crl", "warn")):
        done = anna.admin(*command)
        assert done.code == 64
        assert done.err.splitlines()[-1] == "Say --yes if you are sure."
    assert bob.user("leave", "team").code == 64
    assert len(anna.json("members", "team")) == 2  # type: ignore[arg-type]


def test_an_invitation_may_expire_at_a_time_or_a_day(anna: Person) -> None:
    made = anna.json("invite", "team", "--role", "reader", "--expires", "2999-12-31")
    assert made["expires"].startswith("2999-12-31") or made["expires"].startswith("3000-01-01")  # type: ignore[call-overload]
    for nonsense in ("2001-01-01", "soon", "7", "99999999d"):
        assert anna.admin("invite", "team", "--role", "reader", "--expires", nonsense).code == 64


def test_qr_shows_the_invitation_as_a_picture_beside_it(anna: Person) -> None:
    made = anna.admin("invite", "team", "--role", "reader", "--qr")
    assert made.out.count("\n") == 1
    assert "▄" in made.err


def test_a_name_that_two_requests_bear_approves_neither(anna: Person, person: Callable[[str], Person]) -> None:
    for name in ("bob", "eve"):
        person(name).join(invite(anna), "--display-name", "Bob")
    done = anna.admin("approve", "team", "Bob", "--yes")
    assert (done.code, two_lines(done)[0]) == (64, "cryptfs-admin: There are 2 requests 'Bob'.")


def test_a_reader_leaves_too(anna: Person, person: Callable[[str], Person]) -> None:
    carol = person("carol")
    carol.join(anna.must("invite", "team", "--role", "reader").strip())
    anna.must("approve", "team", "--all", "--yes")
    assert carol.user("ls", "team").code == 0
    assert carol.user("leave", "team", "--yes").code == 0
    assert not list(carol.home.rglob("*.cfs"))


def test_who_asked_can_forget_that_and_ask_with_a_certificate(
    anna: Person, person: Callable[[str], Person], tmp_path: Path
) -> None:
    eve, token = person("eve"), invite(anna)
    eve.join(token, "--display-name", "Eve")
    pair = ("--cert", tmp_path / "cert.pem", "--key", tmp_path / "key.pem")
    subprocess.run(
        (
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 100 -subj /CN=eve "
            f"-keyout {pair[3]} -out {pair[1]} -addext basicConstraints=critical,CA:FALSE"
        ).split(),
        check=True,
        capture_output=True,
    )
    again = eve.user("join", token, "team", "--no-passphrase", "--no-wait", *pair)
    assert (again.code, two_lines(again)[0]) == (
        64,
        "cryptfs: This device has asked already, with another certificate.",
    )
    assert eve.user("leave", "team", "--yes").code == 0
    assert not list(eve.home.rglob("*.cfs"))
    eve.join(invite(anna), *pair)


def test_deny_turns_a_request_down(anna: Person, person: Callable[[str], Person]) -> None:
    person("eve").join(invite(anna), "--display-name", "Eve")
    assert anna.must("deny", "team", "Eve") == "The request of Eve is turned down.\n"
    assert anna.admin("requests", "team").err == "Nobody is asking.\n"
    # Whoever was invited under a name is called by it, whatever the request says.
    person("dan").join(anna.must("invite", "team", "--role", "reader", "--name", "Dan").strip(), "--display-name", "X")
    assert anna.must("deny", "team", "Dan") == "The request of Dan is turned down.\n"


def test_noise_among_the_requests_is_counted_and_named(anna: Person, store_dir: Path) -> None:
    (store_dir / "j").mkdir()
    for name in ("0" * 32, "f" * 32):
        (store_dir / "j" / name).write_bytes(b"noise")
    shown = anna.admin("requests", "team")
    assert shown.code == 0
    assert shown.err.startswith("Ignored 2 in the folder: ")
    assert f"j/{'0' * 32}" in shown.err


def test_by_certificate_alone_two_commands_are_enough(
    anna: Person, person: Callable[[str], Person], tmp_path: Path
) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        (
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 100 -subj /CN=dora "
            f"-keyout {key} -out {cert} "
            "-addext basicConstraints=critical,CA:FALSE -addext keyUsage=critical,keyAgreement"
        ).split(),
        check=True,
        capture_output=True,
    )
    line = anna.must("add", "team", "--cert", cert, "--role", "writer", "--name", "Dora", "--yes").strip()
    dora = person("dora")
    joined = dora.join(line, "--cert", cert, "--key", key)
    assert joined.out.startswith("This device is in.")
    put(dora, tmp_path, "hers", "from Dora")
    assert "made the signing key of this device, and may have kept it (Dora (device))" in anna.must("audit", "team")


# ---- knowing each other ----------------------------------------------------------------------------------------------


def test_equal_words_on_both_sides_and_of_the_whole_state(anna: Person, bob: Person, tmp_path: Path) -> None:
    put(bob, tmp_path, "f", "x")
    assert bob.must("verify", "team") == anna.must("verify", "team")
    one = anna.json("verify", "team", "Bob")
    assert len(one["words"]) == 1  # type: ignore[call-overload]
    put(bob, tmp_path, "f", "y")
    assert anna.json("verify", "team")["state"] != one["state"]  # type: ignore[call-overload]


def test_members_tells_since_when_and_when_last_seen(anna: Person, bob: Person, tmp_path: Path) -> None:
    before = anna.json("members", "team")
    assert [row["last_seen"] is None for row in before] == [False, True]  # type: ignore[attr-defined]
    put(bob, tmp_path, "f", "x")
    (hers, his) = anna.json("members", "team")  # type: ignore[misc]
    assert his["last_seen"] >= hers["since"]
    assert (his["member"], his["added_by"], his["own"]) == ("Bob", "Anna (first device)", False)


def test_audit_tells_who_did_what_in_order(anna: Person, bob: Person) -> None:
    anna.must("rotate", "team")
    anna.must("remove", "team", "Bob", "--yes")
    acts = anna.json("audit", "team")["acts"]  # type: ignore[call-overload]
    assert [re.sub(r" \([0-9a-f]{8}\)", "", act["act"]) for act in acts] == [
        "founded the vault 'team', with a recovery key",
        "changed the key",
        "let in Bob (device) as writer, by invitation",
        "changed the key",
        "removed Bob (device) and changed the key",
    ]
    assert {act["author"] for act in acts} == {"Anna (first device)"}
    assert not any(act["void"] for act in acts)


# ---- going out -------------------------------------------------------------------------------------------------------


def test_who_was_removed_reads_nothing_new_and_writes_nothing(anna: Person, bob: Person, tmp_path: Path) -> None:
    put(bob, tmp_path, "old", "stays")
    said = anna.admin("remove", "team", "Bob", "--yes")
    assert said.out == "Bob (device) is out, and the key is changed.\n"
    assert "What they wrote stays." in said.err
    put(anna, tmp_path, "new", "secret")
    assert cat(anna, "old") == "stays"
    assert (cat(bob, "old"), cat(bob, "new")) == ("stays", "")
    assert bob.user("put", "team", tmp_path / "piece", "/x").code != 0


def test_the_last_owner_is_not_removed_lowered_or_gone(anna: Person, bob: Person, words: Path) -> None:
    for command in (("remove", "team", "Anna", "--yes"), ("role", "team", "Anna", "admin", "--yes")):
        done = anna.admin(*command)
        assert (done.code, "last owner" in done.err) == (77, True)
    left = anna.user("leave", "team", "--yes")
    assert (left.code, "last owner" in left.err) == (77, True)
    assert anna.user("list", "--json").out.startswith('[{"name": "team"')
    assert anna.user("leave", "team", "--yes", "--recovery-file", words).code == 0
    assert not list(anna.home.rglob("*.cfs"))


def test_who_leaves_keeps_nothing_and_is_marked(anna: Person, bob: Person, tmp_path: Path) -> None:
    put(bob, tmp_path, "his", "stays")
    assert bob.user("leave", "team", "--yes").out == "This device has left 'team'.\n"
    assert not [path for path in bob.home.rglob("*") if path.is_file() and path.suffix != ".sock"]
    assert "has left: remove it" in anna.must("members", "team")
    assert cat(anna, "his") == "stays"


def test_a_change_of_role_changes_what_one_may_do(anna: Person, bob: Person, tmp_path: Path) -> None:
    put(bob, tmp_path, "f", "as writer")
    assert bob.admin("rotate", "team").code == 77
    anna.must("role", "team", "Bob", "admin", "--yes")
    bob.must("rotate", "team")
    put(bob, tmp_path, "g", "as admin")
    anna.must("role", "team", "Bob", "reader", "--yes")
    assert bob.user("put", "team", tmp_path / "piece", "/h").code != 0
    assert (cat(anna, "f"), cat(anna, "g")) == ("as writer", "as admin")


def test_only_administrators_let_history_go_and_the_others_are_told_whom_to_ask(bob: Person) -> None:
    done = bob.admin("collect", "team", "--history", "--yes")
    assert done.code == 77
    assert "Only administrators may let old versions go. Nothing was deleted." in done.err
    assert "`cryptfs-admin members team`" in done.err.splitlines()[-1]


def test_settings_are_shown_and_set(anna: Person, bob: Person) -> None:
    anna.must("policy", "team", "roster_age_days", "3", "--yes")
    assert bob.json("policy", "team")["roster_age_days"] == 3  # type: ignore[call-overload]
    assert bob.admin("policy", "team", "roster_age_days", "4", "--yes").code == 77
    assert anna.admin("policy", "team", "roster_age_days", "0", "--yes").code == 64
    for wrong in (("nosuch", "3"), ("roster_age_days", "0")):
        done = anna.admin("policy", "team", *wrong)  # said before anybody is asked to confirm it
        assert done.code == 64
        assert "for every member" not in done.err


# ---- the recovery words ----------------------------------------------------------------------------------------------


def test_recovery_from_two_of_three_shares_on_a_new_machine_removes_the_lost_owner(  # noqa: PLR0917  # fixtures
    anna: Person, bob: Person, person: Callable[[str], Person], words: Path, tmp_path: Path, store_dir: Path
) -> None:
    put(bob, tmp_path, "f", "kept")
    shares = tmp_path / "shares"
    anna.must("recovery", "split", "team", "2-of-3", "--recovery-file", words, "--into", shares)
    first, second, third = sorted(shares.iterdir())
    one = anna.admin("recovery", "check", "team", "--recovery-file", first)
    assert (one.code, one.err.splitlines()[0]) == (64, "cryptfs-admin: 1 of the 2 phrases that are needed")
    anna.must("recovery", "check", "team", "--recovery-file", first, "--recovery-file", third)
    carol = person("carol")
    given = ("--recovery-file", third, "--recovery-file", second, "--no-passphrase", "--display-name", "Carol", "--yes")
    carol.must("recover", "team", "--store", store_dir, *given, "--remove", "Anna")
    assert [(row["member"], row["role"]) for row in carol.json("members", "team")] == [  # type: ignore[attr-defined]
        ("Carol", "owner"),
        ("Bob", "writer"),
    ]
    put(carol, tmp_path, "g", "new")
    assert (cat(bob, "g"), cat(carol, "f"), cat(anna, "g")) == ("new", "kept", "")


def test_recovery_with_the_words_of_another_vault_does_nothing(
    anna: Person, words: Path, tmp_path: Path, store_dir: Path
) -> None:
    other = tmp_path / "other-words"
    assert anna.user("init", "other", tmp_path / "o", "--no-passphrase", "--recovery-file", other).code == 0
    before = sorted(store_dir.rglob("*"))
    done = anna.admin("recover", "team", "--recovery-file", other, "--yes")
    assert (done.code, "do not belong to this vault" in done.err) == (77, True)
    other.write_text(words.read_text().replace(" ", " x", 1))
    assert anna.admin("recover", "team", "--recovery-file", other, "--yes").code == 64
    assert sorted(store_dir.rglob("*")) == before


def test_a_member_of_lower_rank_becomes_owner_by_the_words(
    anna: Person, bob: Person, words: Path, tmp_path: Path
) -> None:
    put(bob, tmp_path, "f", "x")
    bob.must("recover", "team", "--recovery-file", words, "--yes")
    assert {(row["member"], row["role"]) for row in bob.json("members", "team")} == {  # type: ignore[attr-defined]
        ("Anna", "owner"),
        ("Bob", "owner"),
    }
    put(bob, tmp_path, "g", "y")
    assert (cat(anna, "f"), cat(anna, "g")) == ("x", "y")


# ---- while it is mounted ---------------------------------------------------------------------------------------------


@pytest.mark.fuse
def test_a_mounted_vault_is_administered_through_its_process(
    anna: Person, person: Callable[[str], Person], tmp_path: Path
) -> None:
    point = tmp_path / "mnt"
    point.mkdir()
    mounted = anna.user("mount", "team", point)
    assert mounted.code == 0, mounted.err
    try:
        (point / "hers").write_text("from Anna")
        assert anna.user("sync", "team").code == 0
        bob = person("bob")
        bob.join(invite(anna, "--name", "Bob"))
        anna.must("approve", "team", "--all", "--yes")
        assert cat(bob, "hers") == "from Anna"
        assert [row["member"] for row in anna.json("members", "team")] == ["Anna", "Bob"]  # type: ignore[attr-defined]
        refused = anna.admin("remove", "team", "Anna", "--yes")
        assert (refused.code, "last owner" in refused.err) == (77, True)
        anna.must("remove", "team", "Bob", "--yes")
        assert anna.user("leave", "team", "--yes").code == 75
        (point / "new").write_text("secret")
        assert anna.user("sync", "team").code == 0
        assert cat(bob, "new") == ""
    finally:
        assert anna.user("umount", "team").code == 0


def test_an_invitation_that_was_withdrawn_lets_nobody_in(anna: Person, person: Callable[[str], Person]) -> None:
    token = invite(anna, "--name", "Bob")
    invite(anna, "--name", "Eve")
    (one,) = [each["invitation"] for each in anna.json("uninvite", "team") if each["name"] == "Bob"]
    assert [each["name"] for each in anna.json("uninvite", "team", one)] == ["Eve"]
    bob = person("bob")
    bob.join(token)
    assert two_lines(anna.admin("uninvite", "team", one))[0] == (
        f"cryptfs-admin: There is no open invitation '{one}' of this device."
    )
    assert anna.admin("approve", "team", "--all", "--yes").code != 0
    assert len(anna.json("members", "team")) == 1
