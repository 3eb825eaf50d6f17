"""Two and three real daemons on one folder: nobody's work is lost, and all see one tree in the end."""

import mmap
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conformance.devices import Device, Fleet, copies_of
from tests.conformance.mounting import NAME
from tests.patience import SECONDS

pytestmark = [pytest.mark.fuse, pytest.mark.slow]

GIT = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "gc.auto=0", "-c", "core.fsync=none"]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    made = Fleet(tmp_path_factory.mktemp("fleet"), ("anna", "bob", "carol"))
    yield made
    made.close()


@pytest.fixture
def place(fleet: Fleet, request: pytest.FixtureRequest) -> Iterator[str]:
    """A new folder that all of them see."""
    name = request.node.name
    fleet["anna"].path(name).mkdir()
    fleet.settle()
    yield name
    for one in fleet.devices.values():
        assert one.running is not None
        assert one.running.alive(), one.running.said()[-3000:]


def both(*work: Callable[[], None]) -> None:
    """Do these at the same time; what one of them raises is raised."""
    failures: list[BaseException] = []

    def run(one: Callable[[], None]) -> None:
        try:
            one()
        except BaseException as err:
            failures.append(err)

    threads = [threading.Thread(target=run, args=(one,)) for one in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def git(where: Path, *args: str) -> str:
    done = subprocess.run([*GIT, "-C", str(where), *args], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"git {args}: {done.stdout}{done.stderr}"
    return done.stdout


def inside(tree: dict[bytes, object], place: str) -> dict[bytes, object]:
    head = place.encode() + b"/"
    return {path[len(head) :]: one for path, one in tree.items() if path.startswith(head)}


def contents(device: Device, place: str) -> list[bytes]:
    """All files of a folder, wherever in it they lie, sorted."""
    return sorted(path.read_bytes() for path in device.path(place).rglob("*") if path.is_file())


def test_git_work_in_separate_clones_at_the_same_time(fleet: Fleet, place: str) -> None:
    anna, bob = fleet["anna"], fleet["bob"]
    origin = anna.path(place) / "origin"
    git(anna.path(place), "init", "-q", "-b", "main", "origin")
    (origin / "README").write_text("begun")
    git(origin, "add", "-A")
    git(origin, "commit", "-q", "-m", "first")
    fleet.settle()

    def work(device: Device, name: str) -> None:
        top = device.path(place)
        git(top, "clone", "-q", "origin", name)
        for number in range(4):
            (top / name / f"{name}-{number}").write_text(name * 100)
            git(top / name, "add", "-A")
            git(top / name, "commit", "-q", "-m", f"{name} {number}")

    both(lambda: work(anna, "one"), lambda: work(bob, "two"))
    fleet.settle()
    for device in fleet.devices.values():
        for clone in ("one", "two"):
            there = device.path(place) / clone
            git(there, "fsck", "--full")
            assert git(there, "status", "--porcelain") == ""
            assert len(git(there, "log", "--format=%s").splitlines()) == 5
    carol = fleet["carol"].path(place) / "one"
    git(carol, "pull", "-q", "--no-rebase", "--no-edit", "../two", "main")
    assert len(git(carol, "ls-files").splitlines()) == 9
    fleet.settle()
    git(anna.path(place) / "one", "fsck", "--full")


def test_both_edit_one_file_and_both_texts_are_kept(fleet: Fleet, place: str) -> None:
    anna, bob = fleet["anna"], fleet["bob"]
    anna.path(f"{place}/text.txt").write_text("begun")
    fleet.settle()
    with anna.cut_off(), bob.cut_off():
        anna.path(f"{place}/text.txt").write_text("by Anna")
        bob.path(f"{place}/text.txt").write_text("by Bob")
    tree = inside(fleet.settle(), place)
    assert len(tree) == 2
    assert len(copies_of(tree, "text.txt")) == 1
    for device in fleet.devices.values():
        assert contents(device, place) == [b"by Anna", b"by Bob"]


def test_folders_that_are_moved_into_each_other_keep_everything(fleet: Fleet, place: str) -> None:
    anna, bob = fleet["anna"], fleet["bob"]
    for name in ("a", "b"):
        anna.path(f"{place}/{name}").mkdir()
        anna.path(f"{place}/{name}/of-{name}").write_text(name)
    fleet.settle()
    with anna.cut_off(), bob.cut_off():
        subprocess.run(["mv", anna.path(f"{place}/a"), anna.path(f"{place}/b/")], check=True)
        subprocess.run(["mv", bob.path(f"{place}/b"), bob.path(f"{place}/a/")], check=True)
    tree = inside(fleet.settle(), place)
    assert set(tree) in (
        {b"b", b"b/a", b"b/of-b", b"b/a/of-a"},
        {b"a", b"a/b", b"a/of-a", b"a/b/of-b"},
    )


def test_what_was_synced_to_disk_survives_a_kill_and_reaches_the_others(fleet: Fleet, place: str) -> None:
    bob = fleet["bob"]
    done: list[int] = []

    def work() -> None:
        for number in range(10_000):
            try:
                with bob.path(f"{place}/{number}").open("wb", buffering=0) as file:
                    file.write(b"%d" % number * 1000)
                    os.fsync(file.fileno())
            except OSError:
                return  # killed
            done.append(number)
            if len(done) == 25:
                halfway.set()

    halfway = threading.Event()
    worker = threading.Thread(target=work)
    worker.start()
    assert halfway.wait(SECONDS)
    bob.crash()
    worker.join()
    bob.start()
    tree = inside(fleet.settle(), place)
    assert {b"%d" % number for number in done} <= set(tree)
    for device in fleet.devices.values():
        for number in done:
            assert device.path(f"{place}/{number}").read_bytes() == b"%d" % number * 1000


def test_who_is_cut_off_works_on_and_catches_up(fleet: Fleet, place: str) -> None:
    anna, bob, carol = fleet.devices.values()
    anna.path(f"{place}/shared").write_text("before")
    fleet.settle()
    with bob.cut_off():
        bob.path(f"{place}/by-bob").write_text("alone")
        bob.path(f"{place}/shared").rename(bob.path(f"{place}/moved"))
        anna.path(f"{place}/by-anna").write_text("meanwhile")
        carol.path(f"{place}/shared").write_text("changed under a new name")
        anna.sync()
        carol.sync()
        anna.sync()
        assert anna.path(f"{place}/shared").read_text() == "changed under a new name"
        assert not bob.ask("sync")["ok"]
        assert bob.path(f"{place}/moved").read_text() == "before"  # what is here is read, store or not
        assert bob.ask("status")["store"] == "unreachable"
    tree = inside(fleet.settle(), place)
    assert set(tree) == {b"by-bob", b"by-anna", b"moved"}
    for device in fleet.devices.values():
        assert device.path(f"{place}/moved").read_text() == "changed under a new name"


# ---- what programs on the other device see, without a remount --------------------------------------------------------


def test_a_shell_sees_new_changed_and_removed_files(fleet: Fleet, place: str) -> None:
    anna, bob = fleet["anna"].path(place), fleet["bob"].path(place)
    (anna / "changed").write_text("old")
    (anna / "removed").write_text("old")
    fleet.settle()
    assert sorted(os.listdir(bob)) == ["changed", "removed"]
    assert (bob / "changed").read_text() == "old"  # names, attributes and pages lie in the kernel's caches now
    assert not (bob / "new").exists()
    (anna / "new").write_text("new")
    (anna / "changed").write_text("of another size")
    (anna / "removed").unlink()
    (anna / "folder").mkdir(mode=0o750)
    fleet.settle()
    assert sorted(os.listdir(bob)) == ["changed", "folder", "new"]
    assert (bob / "new").read_text() == "new"
    assert (bob / "changed").stat().st_size == len("of another size")
    assert (bob / "changed").read_text() == "of another size"
    assert not (bob / "removed").exists()
    assert (bob / "folder").stat().st_mode & 0o777 == 0o750


def test_after_cryptfs_sync_on_both_a_change_is_there_at_once(fleet: Fleet, place: str) -> None:
    """One command on each side and no waiting, whatever the reader's kernel had in its caches."""
    writer, reader = fleet["anna"], fleet["bob"]
    for turn in range(3):
        here, there = writer.path(place), reader.path(place)
        (here / f"new-{turn}").write_text(f"{turn}" * 70_000)
        (here / "changed").write_text("changed" * (turn + 1))
        if turn:
            (here / f"new-{turn - 1}").unlink()
        writer.run("sync", NAME)
        reader.run("sync", NAME)
        assert (there / "changed").stat().st_size == len("changed" * (turn + 1))
        assert (there / "changed").read_text() == "changed" * (turn + 1)
        assert not (there / f"new-{turn - 1}").exists()
        assert (there / f"new-{turn}").read_text() == f"{turn}" * 70_000
        assert not (there / f"new-{turn + 1}").exists()
        assert sorted(os.listdir(there)) == ["changed", f"new-{turn}"]  # only now: it brings attributes with it
        writer, reader = reader, writer
        reader.path(f"{place}/changed").read_text()
        reader.path(f"{place}/changed").stat()  # after reading, or the kernel would ask for the time of access


def test_an_editor_that_saves_by_renaming_shows_the_new_text_and_readers_keep_the_old(fleet: Fleet, place: str) -> None:
    anna, bob = fleet["anna"].path(place), fleet["bob"].path(place)
    (anna / "text").write_text("first")
    fleet.settle()
    with (bob / "text").open() as reading:
        assert reading.read(2) == "fi"
        (anna / ".text.new").write_text("second")
        (anna / ".text.new").rename(anna / "text")
        fleet.settle()
        assert (bob / "text").read_text() == "second"
        assert os.listdir(bob) == ["text"]
        assert os.pread(reading.fileno(), 10, 0) == b"first"


def test_a_mapping_shows_one_version_and_the_next_one_the_new(fleet: Fleet, place: str) -> None:
    anna, bob = fleet["anna"].path(place), fleet["bob"].path(place)
    old, new = b"o" * 300_000, b"n" * 300_000
    (anna / "f").write_bytes(old)
    fleet.settle()
    with (bob / "f").open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert mapped[:5] == b"ooooo"
        with (anna / "f").open("r+b") as writing:
            writing.write(new)
        fleet.exchange()
        assert mapped[:] == old  # pages that were never touched come from the version it has open, too
    fleet.settle()
    with (bob / "f").open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert mapped[:] == new


def test_a_folder_that_is_being_listed_may_be_emptied(fleet: Fleet, place: str) -> None:
    anna, bob = fleet["anna"].path(place), fleet["bob"].path(place)
    for number in range(300):
        (anna / f"{number:03}").touch()
    fleet.settle()
    with os.scandir(bob) as entries:
        seen = {next(entries).name for _ in range(3)}
        for number in range(300):
            (anna / f"{number:03}").unlink()
        fleet.settle()
        seen |= {entry.name for entry in entries}
    assert seen <= {f"{number:03}" for number in range(300)}
    assert os.listdir(bob) == []
    anna.rmdir()
    fleet.settle()
    assert not bob.exists()
