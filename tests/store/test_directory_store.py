"""The directory store: durability, crashes, full disks, hostile and foreign neighbours (docs/faults.md, 7 to 14)."""

import errno
import os
import pickle
import shutil
import signal
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cryptfs.errors import Denied, Exists, Fatal, LocalDisk, NotFound, Quota, Retry, StoreError, StoreGone
from cryptfs.faults import Faults
from cryptfs.store import Abort, Call, Cap, DirectoryStore, Stat, _copying
from cryptfs.store._os_errors import store_error

CALL = Call()
BODY = b"the body of a pack" * 1000

VERBS: dict[str, Callable[[DirectoryStore], object]] = {
    "put": lambda store: store.put("p/bb", BODY, CALL),
    "get": lambda store: store.get("p/aa", CALL),
    "stat": lambda store: store.stat("p/aa", CALL),
    "delete": lambda store: store.delete("p/aa", CALL),
    "list": lambda store: list(store.list("", CALL)),
    "list folder": lambda store: list(store.list("p/", CALL)),
    "changes": lambda store: store.changes("", CALL),
    "space": lambda store: store.space(CALL),
}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    place = tmp_path / "store"
    place.mkdir()
    return place


def names(place: Path) -> list[str]:
    return sorted(str(path.relative_to(place)) for path in place.rglob("*") if not path.is_dir())


def in_child(work: Callable[[], object], *, user: int | None = None) -> object:
    """What `work` returns or raises in a forked child, perhaps as another user; minus the signal if it was killed."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            if user is not None and os.geteuid() == 0:
                os.setgroups([])
                os.setgid(user)
                os.setuid(user)
            outcome: object = work()
        except BaseException as error:  # the parent looks at it
            outcome = (type(error), str(error))
        os.write(writing, pickle.dumps(outcome))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        data = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return pickle.loads(data) if data else status


# ---- the directory is away, or something else ------------------------------------------------------------------------


@pytest.mark.parametrize("verb", VERBS)
def test_a_missing_directory_is_a_store_that_is_away_and_is_not_made(tmp_path: Path, verb: str) -> None:
    store = DirectoryStore(tmp_path / "gone")
    with pytest.raises(StoreGone, match="gone is not there") as caught:
        VERBS[verb](store)
    assert caught.value.advice
    assert not (tmp_path / "gone").exists()


@pytest.mark.parametrize("verb", VERBS)
def test_a_file_in_place_of_the_directory_is_fatal(tmp_path: Path, verb: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Fatal, match="not a folder") as caught:
        VERBS[verb](DirectoryStore(tmp_path / "file"))
    assert caught.value.advice != StoreError.default_advice


def test_work_goes_on_when_the_directory_is_back(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "place")
    with pytest.raises(StoreGone):
        store.put("p/aa", BODY, CALL)
    (tmp_path / "place").mkdir()
    store.put("p/aa", BODY, CALL)
    assert store.get("p/aa", CALL) == BODY


def test_nothing_is_written_below_a_mount_point_whose_disk_is_away(place: Path) -> None:
    store = DirectoryStore(place)
    store.put("genesis", b"g", CALL)
    place.rename(place.with_name("the disk"))
    place.mkdir()  # what an unmounted mount point looks like
    for verb in VERBS.values():
        with pytest.raises(StoreGone, match="mounted"):
            verb(store)
    assert names(place) == []
    place.rmdir()
    place.with_name("the disk").rename(place)
    assert store.get("genesis", CALL) == b"g"


def test_a_directory_that_came_back_as_another_device_is_taken_if_it_holds_a_vault(place: Path) -> None:
    store = DirectoryStore(place)
    store.put("genesis", b"g", CALL)
    shutil.copytree(place, place.with_name("copy"))
    shutil.rmtree(place)
    place.with_name("copy").rename(place)
    assert store.get("genesis", CALL) == b"g"


@pytest.mark.parametrize("verb", ["put", "delete"])
def test_a_directory_one_may_only_read_is_denied_with_advice(tmp_path: Path, verb: str) -> None:
    place = open_to_all(tmp_path)
    DirectoryStore(place).put("p/aa", BODY, CALL)
    for path in (place, place / "p"):
        path.chmod(0o555)
    outcome = in_child(lambda: VERBS[verb](DirectoryStore(place)), user=65534)
    assert outcome == (Denied, f"{place}: Permission denied")
    assert in_child(lambda: VERBS["get"](DirectoryStore(place)), user=65534) == BODY


@pytest.mark.parametrize("verb", VERBS)
def test_a_directory_one_may_not_enter_is_denied(tmp_path: Path, verb: str) -> None:
    place = open_to_all(tmp_path)
    DirectoryStore(place).put("p/aa", BODY, CALL)
    if os.geteuid() != 0:
        pytest.skip("the owner would have to become somebody else")
    place.chmod(0o000)
    assert in_child(lambda: VERBS[verb](DirectoryStore(place)), user=65534) == (Denied, f"{place}: Permission denied")


def open_to_all(tmp_path: Path) -> Path:
    """A directory other users can reach, which pytest's own are not."""
    for path in tmp_path.parents:
        if path.stat().st_uid == os.geteuid() and path.name.startswith(("pytest-", "popen-")):
            path.chmod(0o755)
    tmp_path.chmod(0o755)
    place = tmp_path / "store"
    place.mkdir(mode=0o755)
    return place


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (errno.EACCES, Denied), (errno.EPERM, Denied), (errno.EROFS, Denied), (errno.ENOSPC, Quota),
        (errno.EDQUOT, Quota), (errno.ENOTCONN, StoreGone), (errno.ESTALE, StoreGone), (errno.EHOSTDOWN, StoreGone),
        (errno.EIO, Retry), (errno.EMFILE, Retry), (errno.ENOENT, Retry), (errno.EFBIG, Fatal), (errno.EINVAL, Fatal),
        (errno.ENOTDIR, Fatal), (errno.ELOOP, Fatal), (12345, Retry),
    ],
)  # fmt: skip
def test_every_error_of_the_system_has_one_meaning_and_advice(code: int, kind: type[StoreError]) -> None:
    error = store_error(OSError(code, os.strerror(code)), "/some/where")
    assert type(error) is kind
    assert "/some/where" in str(error)
    assert error.advice


# ---- full ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    mounted: list[Path] = []

    def mount(options: str) -> Path:
        path = tmp_path / "disk"
        path.mkdir()
        if os.geteuid() != 0:
            pytest.skip("mounting a small tmpfs needs root")
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", path], capture_output=True, check=False)
        if done.returncode:
            pytest.skip(f"no tmpfs here: {done.stderr.decode().strip()}")
        mounted.append(path)
        return path

    yield mount
    for path in mounted:
        subprocess.run(["umount", path], check=True)


def test_a_full_disk_is_a_quota_and_leaves_no_part_behind(small_disk: Callable[[str], Path], tmp_path: Path) -> None:
    place = small_disk("size=1m")
    store = DirectoryStore(place)
    store.put("p/aa", bytes(600_000), CALL)
    (tmp_path / "big").write_bytes(bytes(800_000))
    for put in (
        lambda: store.put("p/bb", bytes(800_000), CALL),
        lambda: store.put_file("p/bb", tmp_path / "big", CALL),
    ):
        with pytest.raises(Quota, match="No space left") as caught:
            put()
        assert str(place) in caught.value.advice
    assert names(place) == ["p/aa"]
    store.delete("p/aa", CALL)
    assert store.put("p/bb", bytes(800_000), CALL).size == 800_000


def test_a_disk_without_inodes_is_a_quota(small_disk: Callable[[str], Path]) -> None:
    store = DirectoryStore(small_disk("size=1m,nr_inodes=4"))
    store.put("p/aa", b"", CALL)
    with pytest.raises(Quota):
        store.put("p/bb", b"", CALL)


def test_a_disk_mounted_read_only_meanwhile_is_denied(small_disk: Callable[[str], Path]) -> None:
    place = small_disk("size=1m")
    store = DirectoryStore(place)
    store.put("p/aa", b"x", CALL)
    subprocess.run(["mount", "-o", "remount,ro", place], check=True)
    with pytest.raises(Denied, match="Read-only"):
        store.put("p/bb", b"", CALL)
    assert store.get("p/aa", CALL) == b"x"


def test_the_space_of_the_file_system_is_told(small_disk: Callable[[str], Path]) -> None:
    space = DirectoryStore(small_disk("size=1m")).space(CALL)
    assert space is not None
    assert space.total == 1 << 20
    assert 0 < space.free <= space.total


# ---- failures and crashes at every step ------------------------------------------------------------------------------

PUT_STEPS = [
    "store.put.make-folder", "store.put.sync-root", "store.put.create", "store.put.write", "store.put.sync",
    "store.put.link", "store.put.discard", "store.put.sync-folder",
]  # fmt: skip
EVERY_STEP = range(1, len(PUT_STEPS) + 1)


def put_once(place: Path, faults: Faults) -> object:
    return DirectoryStore(place, faults).put("p/aa", BODY, CALL)


def test_a_put_passes_these_steps_in_this_order(place: Path) -> None:
    passed: list[str] = []
    put_once(place, Faults(1, passed.append, sticky=True))
    assert passed == PUT_STEPS


def test_an_equal_put_writes_nothing(place: Path) -> None:
    put_once(place, Faults())
    passed: list[str] = []
    put_once(place, Faults(1, passed.append, sticky=True))
    assert passed == ["store.put.sync-root", "store.put.sync-found", "store.put.sync-folder"]


@pytest.mark.parametrize("step", EVERY_STEP)
def test_a_put_killed_at_any_step_leaves_the_whole_object_or_none(place: Path, step: int) -> None:
    faults = Faults(step, lambda _: os.kill(os.getpid(), signal.SIGKILL))
    assert in_child(lambda: put_once(place, faults)) == -signal.SIGKILL
    found = [path for path in names(place) if ".tmp-" not in path]
    assert found == (["p/aa"] if step > PUT_STEPS.index("store.put.link") + 1 else [])
    store = DirectoryStore(place)
    assert [store.get(stat.key, CALL) for stat in store.list("", CALL)] == [BODY] * len(found)
    assert store.put("p/aa", BODY, CALL).size == len(BODY)
    assert [stat.key for stat in store.list("", CALL)] == ["p/aa"]


@pytest.mark.parametrize("sticky", [False, True])
@pytest.mark.parametrize(("code", "kind"), [(errno.EIO, Retry), (errno.ENOSPC, Quota), (errno.EDQUOT, Quota)])
@pytest.mark.parametrize("step", EVERY_STEP)
def test_a_put_failing_at_any_step_can_be_repeated(
    place: Path, step: int, code: int, kind: type[StoreError], sticky: bool
) -> None:
    def fail(name: str) -> None:
        raise OSError(code, f"planted at {name}")

    faults = Faults(step, fail, sticky=sticky)
    discard = PUT_STEPS[step - 1] == "store.put.discard" and not sticky
    if discard:
        put_once(place, faults)  # a temporary file too many harms nobody
    else:
        with pytest.raises(kind, match="planted"):
            put_once(place, faults)
    assert sticky or discard or not [path for path in names(place) if ".tmp-" in path]
    store = DirectoryStore(place)
    assert [store.get(stat.key, CALL) for stat in store.list("", CALL)] in ([], [BODY])
    store.put("p/aa", BODY, CALL)
    assert store.get("p/aa", CALL) == BODY


def test_a_delete_whose_sync_failed_is_made_durable_by_the_next(place: Path, synced: list[str]) -> None:
    DirectoryStore(place).put("p/aa", BODY, CALL)

    def fail(name: str) -> None:
        if name == "store.delete.sync":
            raise OSError(errno.EIO, "planted")

    with pytest.raises(Retry):
        DirectoryStore(place, Faults(1, fail, sticky=True)).delete("p/aa", CALL)
    synced.clear()
    DirectoryStore(place).delete("p/aa", CALL)
    assert synced == [f"fsync {place}/p"]


# ---- durability ------------------------------------------------------------------------------------------------------


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The order in which things were made durable and named."""
    done: list[str] = []
    fsync, link, mkdir = os.fsync, os.link, os.mkdir

    def note_fsync(fd: int) -> None:
        path = os.readlink(f"/proc/self/fd/{fd}")
        done.append("fsync temporary" if ".tmp-" in path else f"fsync {path}")
        fsync(fd)

    def note_link(source: str, target: str, **rest: object) -> None:
        done.append(f"link {target}")
        link(source, target, **rest)  # type: ignore[arg-type]

    def note_mkdir(path: str, mode: int, **rest: object) -> None:
        done.append(f"mkdir {path}")
        mkdir(path, mode, **rest)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "link", note_link)
    monkeypatch.setattr(os, "mkdir", note_mkdir)
    return done


def test_bytes_are_durable_before_their_name_and_the_name_before_the_answer(place: Path, synced: list[str]) -> None:
    store = DirectoryStore(place)
    store.put("p/aa", BODY, CALL)
    assert synced == ["mkdir p", f"fsync {place}", "fsync temporary", "link aa", f"fsync {place}/p"]
    synced.clear()
    store.put("p/bb", BODY, CALL)
    assert synced == ["fsync temporary", "link bb", f"fsync {place}/p"]


def test_a_folder_made_by_somebody_who_died_is_made_durable_too(place: Path, synced: list[str]) -> None:
    (place / "p").mkdir()
    synced.clear()
    DirectoryStore(place).put("p/aa", BODY, CALL)
    assert synced[0] == f"fsync {place}"


def test_an_equal_object_found_is_made_durable_before_the_answer(place: Path, synced: list[str]) -> None:
    (place / "p").mkdir()
    (place / "p/aa").write_bytes(BODY)
    DirectoryStore(place).put("p/aa", BODY, CALL)
    assert synced[-2:] == [f"fsync {place}/p/aa", f"fsync {place}/p"]


def test_after_a_failed_fsync_the_bytes_are_written_anew(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[int] = []
    fsync = os.fsync

    def fail_first(fd: int) -> None:
        if stat.S_ISREG(os.fstat(fd).st_mode):
            written.append(os.fstat(fd).st_size)
            if len(written) == 1:
                raise OSError(errno.EIO, "planted")
        fsync(fd)

    monkeypatch.setattr(os, "fsync", fail_first)
    store = DirectoryStore(place)
    with pytest.raises(Retry):
        store.put("p/aa", BODY, CALL)
    assert names(place) == []
    store.put("p/aa", BODY, CALL)
    assert written == [len(BODY), len(BODY)]


# ---- neighbours ------------------------------------------------------------------------------------------------------

FOREIGN = [
    ".tmp-" + "0" * 32, ".stfolder", "p/.syncthing.aa.tmp", "p/aa (conflicted copy 2026-01-01)", "p/aa (1)",
    "p/aa.sync-conflict-20260101-120000-ABCDEFG", "p/aa_conflict-20260101-120000", "p/aa-DESKTOP-ABC", "p/AA", "p/aa~",
    "p/.aa.swp", "p/aa.part", "p/Thumbs.db", "p/desktop.ini", "holiday.jpg", "Genesis", "genesis (2)", "x/aa.txt",
    "P/aa", "p/sub/aa", "pp/aa", "lost+found/aa", "l/aa (SFConflict me@example.org 2026)", "l/aa.rclonepartial",
]  # fmt: skip


def test_foreign_files_and_conflict_copies_are_ignored(place: Path) -> None:
    store = DirectoryStore(place)
    store.put("p/aa", BODY, CALL)
    for name in FOREIGN:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(b"foreign")
    before = names(place)
    assert [stat.key for stat in store.list("", CALL)] == ["p/aa"]
    assert [stat.key for stat in store.list("l/", CALL)] == []
    assert store.changes("", CALL)[0] == []
    store.put("l/aa", BODY, CALL)
    assert names(place) == sorted([*before, "l/aa"])


@pytest.mark.parametrize("prefix", ["../", "./", "/", "p/../", "x/", "p/../../"])
def test_a_prefix_never_leads_out_of_the_directory(place: Path, prefix: str) -> None:
    (place.parent / "aa").write_bytes(b"outside")
    (place / "x").mkdir()
    assert list(DirectoryStore(place).list(prefix, CALL)) == []


def test_only_old_temporary_files_of_ours_are_swept_away(place: Path) -> None:
    (place / "p").mkdir()
    (place / "other").mkdir()
    old, young = f".tmp-{'a' * 32}", f".tmp-{'b' * 32}"
    for name in (old, young, f"p/{old}", f"p/{young}", "p/.tmp-short", f"other/{old}", "p/.syncthing.x.tmp"):
        (place / name).write_bytes(b"")
        if young not in name:
            os.utime(place / name, (0, 0))
    store = DirectoryStore(place)
    list(store.list("", CALL))
    assert len(names(place)) == 7  # looking changes nothing
    store.put("p/aa", BODY, CALL)
    assert names(place) == sorted([young, f"p/{young}", "p/.tmp-short", f"other/{old}", "p/.syncthing.x.tmp", "p/aa"])


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a file away needs root")
def test_temporary_files_of_other_users_are_left_alone(place: Path) -> None:
    path = place / f".tmp-{'a' * 32}"
    path.write_bytes(b"")
    os.utime(path, (0, 0))
    os.chown(path, 65534, 65534)
    DirectoryStore(place).put("p/aa", BODY, CALL)
    assert path.exists()


def plant_link(path: Path) -> None:
    path.with_name("00").write_bytes(b"other")
    path.symlink_to("00")


PLANTED: dict[str, Callable[[Path], object]] = {
    "link": plant_link,
    "dangling link": lambda path: path.symlink_to("nowhere"),
    "link to a secret": lambda path: path.symlink_to("/etc/passwd"),
    "endless": lambda path: path.symlink_to("/dev/zero"),
    "fifo": os.mkfifo,
    "folder": Path.mkdir,
    "socket": lambda path: os.mknod(path, stat.S_IFSOCK | 0o600),
}


@pytest.mark.parametrize("kind", PLANTED)
def test_something_planted_under_an_objects_name_is_never_followed(place: Path, kind: str) -> None:
    (place / "p").mkdir()
    PLANTED[kind](place / "p/aa")
    store = DirectoryStore(place)
    with pytest.raises(NotFound):
        store.get("p/aa", CALL)
    assert store.stat("p/aa", CALL) is None
    assert "p/aa" not in [stat.key for stat in store.list("", CALL)]
    with pytest.raises(Exists, match="not a file"):
        store.put("p/aa", BODY, CALL)
    store.delete("p/aa", CALL)
    assert os.path.lexists(place / "p/aa")


@pytest.mark.parametrize("verb", ["put", "get", "stat", "delete", "list folder"])
def test_a_folder_replaced_by_a_link_is_never_entered(place: Path, tmp_path: Path, verb: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/aa").write_bytes(b"theirs")
    (place / "p").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Fatal):
        VERBS[verb](DirectoryStore(place))
    assert names(tmp_path / "elsewhere") == ["aa"]
    assert list(DirectoryStore(place).list("", CALL)) == []


def test_an_object_still_growing_is_listed_with_the_size_it_has(place: Path) -> None:
    store = DirectoryStore(place)
    (place / "l").mkdir()
    (place / "l/aa").write_bytes(b"half")
    _, cursor = store.changes("", CALL)
    (place / "l/aa").write_bytes(b"half and half")
    changes, _ = store.changes(cursor, CALL)
    assert [(change.key, change.stat and change.stat.size) for change in changes] == [("l/aa", 13)]


def test_changes_do_not_tell_of_packs(place: Path) -> None:
    store = DirectoryStore(place)
    for key in ("genesis", "l/aa", "m/aa", "w/aa", "j/aa", "c/aa", "p/aa", "p0/aa"):
        store.put(key, b"", CALL)
    assert {change.key for change in store.changes("", CALL)[0]} == {"genesis", "l/aa", "m/aa", "w/aa", "j/aa", "c/aa"}


@pytest.mark.parametrize(("mode", "file_mode"), [(0o700, 0o600), (0o755, 0o644), (0o2770, 0o660), (0o777, 0o666)])
def test_what_the_directory_allows_is_allowed_below_it(place: Path, mode: int, file_mode: int) -> None:
    place.chmod(mode)
    umask = os.umask(0o077)
    try:
        DirectoryStore(place).put("p/aa", BODY, CALL)
    finally:
        os.umask(umask)
    assert stat.S_IMODE((place / "p").stat().st_mode) == mode
    assert stat.S_IMODE((place / "p/aa").stat().st_mode) == file_mode


# ---- poorer file systems ---------------------------------------------------------------------------------------------


def refuse_links(*_: object, **__: object) -> None:
    raise OSError(errno.EPERM, "no hard links here")


def test_without_hard_links_objects_are_renamed_into_place(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", refuse_links)
    store = DirectoryStore(place)
    assert Cap.IF_ABSENT in store.caps
    store.put("p/aa", BODY, CALL)
    assert Cap.IF_ABSENT not in store.caps
    assert store.put("p/aa", BODY, CALL).size == len(BODY)
    with pytest.raises(Exists):
        store.put("p/aa", b"other", CALL)
    assert names(place) == ["p/aa"]


def refuse_ranges(*_: object) -> int:
    raise OSError(errno.EXDEV, "not across file systems")


@pytest.mark.parametrize("copy", [refuse_ranges, lambda *_: 0], ids=["refused", "claims the end"])
def test_without_copy_file_range_a_file_is_sent_through_the_kernel(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, copy: Callable[..., int]
) -> None:
    monkeypatch.setattr(os, "copy_file_range", copy)
    monkeypatch.setattr(_copying, "PIECE", 1000)
    (tmp_path / "pack").write_bytes(BODY)
    store = DirectoryStore(place)
    store.put_file("p/aa", tmp_path / "pack", CALL)
    assert store.get("p/aa", CALL) == BODY


def test_a_copy_begun_in_one_way_is_finished_in_the_other(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy, moved = os.copy_file_range, []

    def copy_once(source: int, target: int, count: int, *offsets: int) -> int:
        if moved:
            return 0
        moved.append(copy(source, target, 1500, *offsets))
        return moved[0]

    monkeypatch.setattr(os, "copy_file_range", copy_once)
    (tmp_path / "pack").write_bytes(BODY)
    store = DirectoryStore(place)
    store.put_file("p/aa", tmp_path / "pack", CALL)
    assert moved == [1500]
    assert store.get("p/aa", CALL) == BODY


def test_a_file_of_another_file_system_is_copied(place: Path, small_disk: Callable[[str], Path]) -> None:
    path = small_disk("size=1m") / "pack"
    path.write_bytes(BODY)
    store = DirectoryStore(place)
    store.put_file("p/aa", path, CALL)
    assert store.get("p/aa", CALL) == BODY


@pytest.mark.parametrize("make", [lambda path: None, Path.mkdir, os.mkfifo], ids=["missing", "folder", "fifo"])
def test_a_local_file_that_cannot_be_read_is_our_disks_fault(
    place: Path, tmp_path: Path, make: Callable[[Path], object]
) -> None:
    make(tmp_path / "pack")
    with pytest.raises(LocalDisk):
        DirectoryStore(place).put_file("p/aa", tmp_path / "pack", CALL)
    assert names(place) == []


@pytest.mark.parametrize("size", [0, 5, 100_000])
def test_a_local_file_that_changes_while_it_is_sent_is_not_stored(place: Path, tmp_path: Path, size: int) -> None:
    path = tmp_path / "pack"
    path.write_bytes(BODY)

    def change(name: str) -> None:
        if name == "store.put.write":
            os.truncate(path, size)

    with pytest.raises(LocalDisk, match="while it was sent"):
        DirectoryStore(place, Faults(1, change, sticky=True)).put_file("p/aa", path, CALL)
    assert names(place) == []


# ---- giving up -------------------------------------------------------------------------------------------------------


class Countdown:
    """A clock that jumps past every deadline at the n-th look."""

    def __init__(self, looks: int) -> None:
        self.looks = looks

    def now(self) -> float:
        self.looks -= 1
        return 0.0 if self.looks > 0 else 100.0

    def wait(self, seconds: float, abort: Abort | None) -> None:
        raise NotImplementedError


@pytest.mark.parametrize("looks", [2, 3, 10])
def test_long_work_is_given_up_in_the_middle_and_leaves_nothing(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, looks: int
) -> None:
    monkeypatch.setattr(_copying, "PIECE", 1000)
    (tmp_path / "pack").write_bytes(BODY)
    store = DirectoryStore(place)
    with pytest.raises(Retry, match="in time"):
        store.put("p/aa", BODY, Call(1.0, clock=Countdown(looks)))
    with pytest.raises(Retry, match="in time"):
        store.put_file("p/aa", tmp_path / "pack", Call(1.0, clock=Countdown(looks)))
    assert names(place) == []
    store.put("p/aa", BODY, CALL)
    with pytest.raises(Retry, match="in time"):
        store.get("p/aa", Call(1.0, clock=Countdown(looks)))
    with pytest.raises(Retry, match="in time"):  # while comparing with what is there
        store.put_file("p/aa", tmp_path / "pack", Call(1.0, clock=Countdown(looks)))


def test_an_object_vanishing_during_a_listing_is_left_out(place: Path) -> None:
    store = DirectoryStore(place)
    for key in ("p/aa", "p/bb"):
        store.put(key, b"", CALL)

    def vanish(name: str) -> None:
        if name == "store.list.stat":
            (place / "p/aa").unlink(missing_ok=True)

    listed = list(DirectoryStore(place, Faults(1, vanish, sticky=True)).list("p/", CALL))
    assert [stat.key for stat in listed] == ["p/bb"]


def test_an_object_removed_while_it_is_put_is_put_again_by_the_next_try(place: Path) -> None:
    def remove(name: str) -> None:
        if name == "store.put.sync-folder":
            (place / "p/aa").unlink()

    with pytest.raises(Retry, match="removed"):
        put_once(place, Faults(1, remove, sticky=True))


@pytest.mark.parametrize("links", [True, False])
def test_two_puts_of_equal_bytes_racing_past_the_first_look(
    place: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    winner = DirectoryStore(place)
    first: list[Stat] = []
    if not links:
        monkeypatch.setattr(os, "link", refuse_links)

    def overtake(name: str) -> None:
        if name == "store.put.link":
            first.append(winner.put("p/aa", BODY, CALL))

    assert [put_once(place, Faults(1, overtake, sticky=True))] == first
    assert names(place) == ["p/aa"]


def test_two_puts_of_other_bytes_racing_past_the_first_look(place: Path) -> None:
    winner = DirectoryStore(place)

    def overtake(name: str) -> None:
        if name == "store.put.link":
            winner.put("p/aa", b"first", CALL)

    with pytest.raises(Exists):
        put_once(place, Faults(1, overtake, sticky=True))
    assert winner.get("p/aa", CALL) == b"first"
    assert names(place) == ["p/aa"]
