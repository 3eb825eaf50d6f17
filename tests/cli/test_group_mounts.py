"""A group with its vault mounted on three devices at once: real mounts, one folder, a CRYPTFS_HOME each."""

import errno
import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.people import Person
from tests.patience import SECONDS, until

pytestmark = [pytest.mark.fuse, pytest.mark.slow]


class Group:
    """Anna, who founded the vault and has it mounted, and whoever she lets in."""

    def __init__(self, tmp_path: Path, person: Callable[[str], Person]) -> None:
        self.store = tmp_path / "store"
        self.tmp_path = tmp_path
        self._person = person
        self.people: dict[str, Person] = {}
        self.store.mkdir()
        anna = self.people["anna"] = person("anna")
        anna.home.mkdir()
        made = anna.user(
            "init", "team", self.store, "--no-passphrase", "--no-recovery", "--display-name", "Anna",
            "--device-label", "desk",
        )  # fmt: skip
        assert made.code == 0, made.err
        self.mount("anna")

    def mount(self, name: str) -> None:
        self.point(name).mkdir(exist_ok=True)
        done = self.people[name].user("mount", "team", self.point(name))
        assert done.code == 0, done.err

    def let_in(self, name: str, role: str) -> None:
        """Invite, ask, approve, mount."""
        token = self.people["anna"].must("invite", "team", "--role", role, "--name", name.title()).strip()
        who = self.people[name] = self._person(name)
        who.home.mkdir()
        who.join(token)
        self.people["anna"].must("approve", "team", name.title(), "--yes")
        self.mount(name)

    def point(self, name: str) -> Path:
        return self.tmp_path / f"mnt-{name}"

    def status(self, name: str) -> dict:
        return json.loads(self.people[name].user("status", "team", "--json").out)

    def log_of(self, name: str) -> str:
        (path,) = self.people[name].home.rglob("mount.log")
        return path.read_text()

    def sync(self, name: str) -> None:
        done = self.people[name].user("sync", "team")
        assert done.code == 0, done.err

    def write(self, name: str, file: str, text: str) -> None:
        (self.point(name) / file).write_text(text)
        self.sync(name)

    def sees(self, name: str, file: str, text: str) -> None:
        """Wait until the mount of `name` shows it; its process learns of it by itself."""
        path = self.point(name) / file
        until(lambda: path.exists() and path.read_text() == text)

    def end(self) -> None:
        for who in self.people.values():
            who.user("umount", "team")


@pytest.fixture
def group(tmp_path: Path, person: Callable[[str], Person]) -> Iterator[Group]:
    made = Group(tmp_path, person)
    yield made
    made.end()


def test_three_mounts_share_a_folder_and_everybody_is_told_who_comes_and_goes(group: Group) -> None:
    """T-notify, T-exmember as a person meets it: in turn, then one is made a reader, and one removed."""
    group.let_in("bob", "writer")
    group.let_in("carol", "writer")
    for turn, name in enumerate(group.people):
        group.write(name, f"by-{name}", f"turn {turn}")
        group.write(name, "shared", f"{name} was here")
        for other in group.people:
            group.sees(other, f"by-{name}", f"turn {turn}")
            group.sees(other, "shared", f"{name} was here")

    for name in group.people:
        assert [one for one in group.status(name)["group_news"] if "Carol" in one] or name == "carol"
    group.people["anna"].must("role", "team", "Carol", "reader", "--yes")
    carol = group.people["carol"]
    until(lambda: "now a reader" in group.status("carol")["objection"])
    carol.user("umount", "team")
    group.mount("carol")
    group.sees("carol", "shared", "carol was here")
    with pytest.raises(OSError, match=os.strerror(errno.EROFS)):
        (group.point("carol") / "no").write_text("no")

    group.people["anna"].must("remove", "team", "Bob", "--yes")
    until(lambda: "removed by Anna" in group.status("bob")["objection"])
    with pytest.raises(OSError, match=os.strerror(errno.EROFS)):
        (group.point("bob") / "no").write_text("no")
    group.write("anna", "after", "not for Bob")
    group.sees("carol", "after", "not for Bob")
    assert (group.point("bob") / "by-bob").read_text() == "turn 1"
    assert not (group.point("bob") / "after").exists()
    for name in ("anna", "bob", "carol"):
        until(lambda name=name: any("Anna (desk) removed Bob" in one for one in group.status(name)["group_news"]))
        assert "Anna (desk) removed Bob" in group.log_of(name)


def test_who_was_away_is_told_at_the_next_mount(group: Group) -> None:
    """T-notify."""
    group.let_in("bob", "writer")
    group.people["bob"].user("umount", "team")
    group.let_in("carol", "reader")
    group.people["anna"].must("remove", "team", "Carol", "--yes")
    group.mount("bob")
    until(lambda: group.status("bob")["pending_operations"] == 0)
    assert group.status("bob")["group_news"] == []  # came and went: nothing is different from before
    group.people["bob"].user("umount", "team")
    group.people["anna"].must("role", "team", "Bob", "admin", "--yes")
    group.mount("bob")
    assert [one.split(" (")[0] for one in group.status("bob")["group_news"]] == ["Anna", "Anna"]


def test_one_command_on_each_side_and_one_approval(group: Group) -> None:
    token = group.people["anna"].must("invite", "team", "--role", "writer", "--name", "Bob").strip()
    bob = group.people["bob"] = group._person("bob")
    bob.home.mkdir()
    group.point("bob").mkdir()
    asked = threading.Event()

    def approve_once_asked() -> None:
        # in a process of its own, as on another machine: this one runs Bob's command
        until(lambda: any((group.store / "j").glob("*")) if (group.store / "j").exists() else False)
        asked.set()

    waiter = threading.Thread(target=approve_once_asked)
    waiter.start()
    joining = bob.start("cryptfs", "join", token, "team", "--no-passphrase", "--mountpoint", group.point("bob"))
    waiter.join(SECONDS)
    assert asked.is_set()
    group.people["anna"].must("approve", "team", "Bob", "--yes")
    out, err = joining.communicate(timeout=SECONDS)
    assert joining.returncode == 0, err
    assert out == f"This device is in. 'team' is mounted at {group.point('bob')}.\n"
    group.write("bob", "hello", "from Bob")
    group.sees("anna", "hello", "from Bob")


# ---- junk in the folder ----------------------------------------------------------------------------------------------


def junk_of(honest: bytes, foreign: bytes) -> dict[str, bytes]:
    """One object of each kind that is none."""
    return {
        "garbage": b"\0\1\2 nothing of ours" * 20,
        "empty": b"",
        "oversize": honest + bytes(2 << 20),
        "truncated": honest[: len(honest) // 2],
        "flipped": honest[:-1] + bytes([honest[-1] ^ 1]),
        "foreign": foreign,
        "duplicate": honest,
    }


def test_junk_of_every_kind_is_counted_and_named_once_and_stops_no_mount(
    group: Group, tmp_path: Path, person: Callable[[str], Person]
) -> None:
    group.let_in("bob", "writer")
    other = person("mallory")
    other.home.mkdir()
    (tmp_path / "elsewhere").mkdir()
    assert other.user("init", "team", tmp_path / "elsewhere", "--no-passphrase", "--no-recovery").code == 0
    asks = person("eve")
    asks.home.mkdir()
    asks.join(other.must("invite", "team", "--role", "writer", "--name", "Eve").strip())
    carol = person("carol")
    carol.home.mkdir()
    carol.join(group.people["anna"].must("invite", "team", "--role", "reader", "--name", "Carol").strip())
    put = {"m": 0, "w": 0, "j": 0}
    for folder in put:
        honest = min((group.store / folder).iterdir()).read_bytes()
        foreign = min((tmp_path / "elsewhere" / folder).iterdir()).read_bytes()
        for number, data in enumerate(junk_of(honest, foreign).values()):
            name = {"m": f"{number:064x}", "w": f"{number:032x}-{number:016x}", "j": f"{number:032x}"}[folder]
            path = group.store / folder / name
            path.with_name(f".{name}").write_bytes(data)  # appears at once, as what a tool synchronises does
            path.with_name(f".{name}").rename(path)
            put[folder] += 1

    def ignored(who: str, kind: str) -> int:
        return sum(
            one["count"] for one in group.status(who)["ignored_objects"] if one["names"][0].startswith(f"{kind}/")
        )

    for who in ("anna", "bob"):
        until(lambda who=who: ignored(who, "m") + ignored(who, "w") == put["m"] + put["w"])
    requests = json.loads(group.people["anna"].must("requests", "team", "--json"))
    assert [one["invited_as"] for one in requests["requests"]] == ["Carol"]
    assert ignored("anna", "j") == put["j"] - 1  # a second copy of Carol's request is the same request
    for one in group.status("anna")["ignored_objects"]:
        assert one["reason"]
        assert one["names"]
    shown = group.people["anna"].user("status", "team").out
    assert "its signature does not verify" in shown
    until(lambda: "ignored a request to join" in group.log_of("anna"))
    before = group.log_of("anna").count("ignored")
    group.write("bob", "still", "works")
    group.sees("anna", "still", "works")
    group.people["anna"].must("approve", "team", "Carol", "--yes")
    group.people["anna"].must("requests", "team")
    assert group.log_of("anna").count("ignored") == before
    assert not group.status("anna")["read_only"]


def test_heal_by_another_mount_of_a_pack_that_was_deleted_behind_it(group: Group) -> None:
    """T-heal on real mounts: Anna's copy is gone and her file cannot be read; Bob's mount puts it back."""
    group.let_in("bob", "writer")
    text = "precious " * 300_000
    group.write("anna", "file", text)
    group.sees("bob", "file", text)
    had = {path: path.read_bytes() for path in (group.store / "p").iterdir()}
    assert had
    for path in had:
        path.unlink()
    group.people["anna"].user("umount", "team")
    for path in (group.people["anna"].home / "cache" / "team" / "packs").iterdir():
        path.unlink()
    group.mount("anna")
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        (group.point("anna") / "file").read_text()
    (words,) = group.status("anna")["missing"]
    assert "The contents of file are missing in the folder." in words
    assert group.people["anna"].user("fsck", "team", "--heal").code == 65
    healed = group.people["bob"].user("fsck", "team", "--heal", "--json")
    assert healed.code == 0
    assert len(json.loads(healed.out)["healed"]["restored"]) == len(had)
    assert {path: path.read_bytes() for path in (group.store / "p").iterdir() if path in had} == had
    group.sees("anna", "file", text)
    assert group.status("anna")["missing"] == []
    damaged = max(had, key=lambda path: len(had[path]))
    damaged.chmod(0o600)
    damaged.write_bytes(had[damaged][:-1] + b"x")
    found = group.people["bob"].user("fsck", "team", "--read-data", "100")
    assert (found.code, f"PROBLEM  p/{damaged.name}: does not hold" in found.out, "harms /file" in found.out) == (
        65, True, True,
    )  # fmt: skip
    assert group.people["bob"].user("fsck", "team", "--read-data", "100", "--apply").code == 0
    assert damaged.read_bytes() == had[damaged]
