import os
import socket
from pathlib import Path

import pytest

from cryptfs.errors import InUse, NotAllowed, UsageError
from cryptfs.mount import mountpoint, mounttable
from cryptfs.mount.mountoptions import MountOptions
from cryptfs.mount.mountpoint import prepare
from cryptfs.mount.mounttable import mount_at
from cryptfs.mount.process import Notifier

TABLE = (
    "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n"
    "40 22 0:40 / {point}\\040x rw,nosuid,nodev - fuse.cryptfs cryptfs:work rw,user_id=0\n"
    "41 22 0:41 / {point}\\040x rw - fuse.other cryptfs:second rw\n"
)


@pytest.fixture
def table(tmp_path, monkeypatch):
    path = tmp_path / "mountinfo"
    path.write_text(TABLE.format(point=tmp_path))
    monkeypatch.setattr(mounttable, "_TABLE", path)
    monkeypatch.setattr(mountpoint, "_DEVICE", Path("/dev/null"))
    return tmp_path


def test_the_table_is_read_with_its_escapes_and_the_topmost_mount_wins(table):
    found = mount_at(table / "x")
    assert found is None
    found = mount_at(Path(f"{table} x"))
    assert (found.number, found.device, found.kind, found.source) == (41, "0:41", "fuse.other", "cryptfs:second")


def test_a_place_that_will_do_is_returned_without_links(table):
    (table / "real").mkdir()
    (table / "link").symlink_to("real")
    assert prepare(table / "link", "work", nonempty=False) == table / "real"


def test_places_that_will_not_do_are_refused_with_advice(table):
    (table / "full").mkdir()
    (table / "full" / "file").touch()
    for place in (table / "missing", table / "full", table / "full" / "file"):
        with pytest.raises(UsageError) as caught:
            prepare(place, "work", nonempty=False)
        assert caught.value.advice
    assert prepare(table / "full", "work", nonempty=True) == table / "full"


def test_a_living_mount_of_ours_is_in_use(table, monkeypatch):
    point = Path(f"{table} x")
    mounttable._TABLE.write_text(TABLE.format(point=table).replace("cryptfs:second", "cryptfs:work"))
    monkeypatch.setattr(mountpoint, "is_dead", lambda point: False)
    with pytest.raises(InUse):
        prepare(point, "work", nonempty=False)


def test_a_dead_mount_is_cleared_if_it_is_ours_and_named_if_it_is_not(table, monkeypatch):
    point = Path(f"{table} x")
    point.mkdir()
    cleared = []
    monkeypatch.setattr(mountpoint, "is_dead", lambda point: True)
    monkeypatch.setattr(mountpoint, "unmount", lambda point, lazy: cleared.append((point, lazy)))
    with pytest.raises(InUse, match="cryptfs:second"):
        prepare(point, "work", nonempty=False)
    assert cleared == []
    prepare(point, "second", nonempty=False)
    assert cleared == [(point, True)]


def test_a_missing_or_closed_device_is_named(table, monkeypatch):
    monkeypatch.setattr(mountpoint, "_DEVICE", table / "fuse")
    with pytest.raises(Exception, match="no /dev/fuse"):
        prepare(table, "work", nonempty=True)
    monkeypatch.setattr(mountpoint, "_DEVICE", Path("/dev/null"))
    monkeypatch.setattr(mountpoint.os, "access", lambda path, mode: False)
    with pytest.raises(NotAllowed):
        prepare(table, "work", nonempty=True)


def test_options_of_the_mount_call():
    plain = MountOptions.of({}).for_kernel("work")
    assert plain == {"default_permissions", "fsname=cryptfs:work", "subtype=cryptfs", "nosuid", "nodev"}
    asked = MountOptions.of({"ro": "yes", "allow_other": "yes", "debug": "yes", "atime": "noatime", "noxattr": "yes"})
    assert asked.for_kernel("work") - plain == {"ro", "allow_other", "debug"}
    assert (asked.xattrs, asked.rules().atime) == (False, "noatime")
    assert MountOptions.of({"fsync": "remote"}).rules().fsync_remote
    assert MountOptions.of({"atime": "nodiratime"}).rules().nodiratime
    with pytest.raises(UsageError):
        MountOptions.of({"atime": "never"})


def test_owners_are_shown_as_stored_to_root_and_as_the_user_to_users(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert MountOptions.of({}).rules().owner is None
    monkeypatch.setattr(os, "geteuid", lambda: 5)
    assert MountOptions.of({}).rules().owner == (os.getuid(), os.getgid())
    assert MountOptions.of({"real_owner": "yes"}).rules().owner is None


def test_whoever_started_us_hears_it(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "30000000"})
        notifier.say("READY=1", "STATUS=x")
        assert listener.recv(100) == b"READY=1\nSTATUS=x"
        assert notifier.watchdog_seconds == 15
    notifier.say("nobody listens any more")
    Notifier({}).say("to nobody")
    assert Notifier({"WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"}).watchdog_seconds is None


def test_an_abstract_address_is_understood():
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"\0cryptfs-test-{os.getpid()}")
        Notifier({"NOTIFY_SOCKET": f"@cryptfs-test-{os.getpid()}"}).say("READY=1")
        assert listener.recv(100) == b"READY=1"


@pytest.mark.parametrize(
    ("said", "kind", "advice"),
    [
        ("fusermount3: option allow_other only allowed if 'user_allow_other' is set in /etc/fuse.conf", 77,
         "user_allow_other"),
        ("fuse: failed to exec fusermount3: No such file or directory", 78, "fuse3"),
        ("fusermount3: user has no write access to mountpoint /x", 77, "directory of your own"),
        ("fuse: device not found, try 'modprobe fuse' first", 78, "modprobe"),
        ("fuse: unknown option(s): `-o max_read'", 78, "Given were"),
        ("", 78, "log"),
    ],
)  # fmt: skip
def test_what_libfuse_said_becomes_advice(said, kind, advice):
    from cryptfs.mount.daemon import _refusal

    error = _refusal(said, MountOptions())
    assert error.exit_code == kind
    assert advice in error.advice


def test_what_c_code_says_is_caught_and_nothing_else():
    from cryptfs.mount.daemon import _StandardError

    captured = _StandardError()
    with captured:
        os.write(2, b"from below\n")
    assert captured.text == "from below"
    assert os.fstat(2) is not None
