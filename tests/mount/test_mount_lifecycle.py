"""A real mount of a vault in memory: how it starts, what the kernel sees, how it ends. Both loops where it matters."""

import contextlib
import errno
import json
import mmap
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pyfuse3
import pytest
import trio

from cryptfs.mount import daemon
from cryptfs.mount.mounttable import mount_at
from tests.patience import SECONDS, until

pytestmark = pytest.mark.fuse

SCRIPT = Path(__file__).with_name("memory_daemon.py")


class Served:
    def __init__(self, base, *options, environ=None):
        self.point, self.socket, self.log = base / "mnt", base / "v.sock", base / "log"
        self.settled = base / "settled"
        if not os.path.lexists(base / "notify"):
            self.point.mkdir()
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.settimeout(SECONDS)
        address = base / "notify"
        address.unlink(missing_ok=True)
        self.notify.bind(str(address))
        command = [sys.executable, str(SCRIPT), str(self.point), str(self.socket), f"settle={self.settled}", *options]
        root = str(Path(__file__).parents[2])
        env = os.environ | {"NOTIFY_SOCKET": str(address), "PYTHONPATH": root} | (environ or {})
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=out, env=env)

    def until_ready(self):
        said = self.notify.recv(1000)
        assert b"READY=1" in said, self.log.read_text()
        return self

    def ask(self, command, **arguments):
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(SECONDS)
            client.connect(str(self.socket))
            client.sendall(json.dumps({"cmd": command, **arguments}).encode() + b"\n")
            return json.loads(client.makefile().readline())

    def unmount(self):
        subprocess.run(["fusermount3", "-u", str(self.point)], check=True)
        assert self.process.wait(SECONDS) == 0, self.log.read_text()
        assert "ERROR" not in self.log.read_text(), self.log.read_text()

    def end(self):
        self.notify.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        while mount_at(self.point) is not None:
            subprocess.run(["fusermount3", "-uz", str(self.point)], check=False)


@contextlib.contextmanager
def served(base, *options, environ=None):
    mount = Served(base, *options, environ=environ)
    try:
        yield mount.until_ready()
    finally:
        mount.end()


@pytest.fixture(params=["polling", "stock"])
def mount(request, tmp_path):
    with served(tmp_path, f"loop={request.param}") as mount:
        yield mount
        if mount.process.poll() is None:
            mount.unmount()


@pytest.fixture
def quick(tmp_path):
    with served(tmp_path) as mount:
        yield mount


def test_files_work_through_the_kernel(mount):
    path = mount.point / "f"
    path.write_bytes(b"x" * 300_000)
    assert path.read_bytes() == b"x" * 300_000
    (mount.point / "d").mkdir()
    path.rename(mount.point / "d" / "g")
    assert os.listdir(mount.point / "d") == ["g"]
    (mount.point / "d" / "g").write_bytes(b"ab")
    assert (mount.point / "d" / "g").read_bytes() == b"ab"


def test_many_callers_at_once_are_all_answered(mount):
    failures = []

    def work(number):
        try:
            for index in range(30):
                path = mount.point / f"{number}-{index}"
                path.write_bytes(bytes([number]) * 1000)
                assert path.read_bytes() == bytes([number]) * 1000
                path.unlink()
        except Exception as err:
            failures.append(err)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert os.listdir(mount.point) == []


def test_attributes_are_cached_and_requests_counted(mount):
    path = mount.point / "f"
    path.touch()
    before = mount.ask("status")["requests"]
    for _ in range(1000):
        path.stat()
    after = mount.ask("status")["requests"]
    assert sum(after.values()) - sum(before.values()) <= 4


def test_pages_are_kept_while_nothing_changed(quick):
    path = quick.point / "f"
    path.write_bytes(b"x" * 100_000)
    path.read_bytes()
    path.read_bytes()
    before = quick.ask("status")["requests"]["read"]
    for _ in range(10):
        path.read_bytes()
    assert quick.ask("status")["requests"]["read"] == before


def test_shared_mappings_written_after_close_and_unlink(mount):
    path = mount.point / "f"
    path.write_bytes(b"\0" * 8192)
    fd = os.open(path, os.O_RDWR)
    view = mmap.mmap(fd, 8192)
    os.close(fd)
    view[0:4] = b"late"
    view.flush()
    assert path.read_bytes()[:4] == b"late"
    path.unlink()
    view[0:4] = b"gone"
    view.flush()
    view.close()


def test_noxattr_asks_once(tmp_path):
    with served(tmp_path, "noxattr=yes") as mount:
        for index in range(20):
            (mount.point / f"f{index}").write_bytes(b"x")
        with pytest.raises(OSError) as caught:
            os.setxattr(mount.point / "f0", "user.a", b"1")
        assert caught.value.errno == errno.ENOTSUP
        assert mount.ask("status")["requests"]["getxattr"] == 1
        mount.unmount()


def test_a_waiting_read_stops_neither_the_others_nor_the_end(tmp_path):
    flag = tmp_path / "slow"
    with served(tmp_path, f"slow={flag}") as mount:
        path = mount.point / "f"
        path.write_bytes(b"x" * 5000)
        fd = os.open(path, os.O_RDONLY)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        flag.touch()
        answers = []

        def read():
            try:
                answers.append(os.pread(fd, 10, 0))
            except OSError as err:
                answers.append(err.errno)

        thread = threading.Thread(target=read)
        thread.start()
        (mount.point / "other").write_bytes(b"y")
        assert (mount.point / "other").stat().st_size == 1
        assert not answers
        flag.unlink()
        thread.join()
        assert answers == [b"x" * 10]
        os.close(fd)
        flag.touch()
        fd = os.open(mount.point / "other", os.O_RDONLY)
        thread = threading.Thread(target=read)
        thread.start()
        mount.process.send_signal(signal.SIGTERM)
        assert mount.process.wait(SECONDS) == 0
        thread.join()
        assert answers[1:] != [errno.ETIMEDOUT]  # that would have been the read's own deadline
        with contextlib.suppress(OSError):
            os.close(fd)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it_in_peace_with_everything_handed_over(mount, number):
    fd = os.open(mount.point / "open", os.O_CREAT | os.O_WRONLY)
    os.write(fd, b"never closed")
    mount.process.send_signal(number)
    assert mount.process.wait(SECONDS) == 0, mount.log.read_text()
    assert mount_at(mount.point) is None
    assert mount.settled.read_text() == "dirty 0 ops 2\n"
    assert not mount.socket.exists()
    with contextlib.suppress(OSError):
        os.close(fd)


def test_umount_by_command_hands_over_answers_and_ends(quick):
    (quick.point / "f").write_bytes(b"x")
    fd = os.open(quick.point / "f", os.O_RDONLY)
    refused = quick.ask("umount")
    assert refused["ok"] is False
    assert "busy" in refused["error"]
    os.close(fd)
    assert quick.ask("umount") == {"ok": True, "pending_bytes": 0}
    assert quick.process.wait(SECONDS) == 0, quick.log.read_text()
    assert mount_at(quick.point) is None


def test_umount_by_command_answers_while_the_store_is_silent(tmp_path):
    with served(tmp_path, "deaf=yes") as mount:
        (mount.point / "f").write_bytes(b"not sent yet")
        assert mount.ask("umount") == {"ok": True, "pending_bytes": 0}
        assert mount.process.wait(SECONDS) == 0, mount.log.read_text()


def test_a_lazy_umount_ends_after_the_last_close(quick):
    fd = os.open(quick.point / "f", os.O_CREAT | os.O_RDWR)
    assert quick.ask("umount", lazy=True)["ok"]
    assert mount_at(quick.point) is None
    os.write(fd, b"still served")
    assert os.pread(fd, 5, 0) == b"still"
    assert quick.process.poll() is None
    os.close(fd)
    assert quick.process.wait(SECONDS) == 0, quick.log.read_text()


def test_a_connection_that_ends_while_a_request_is_read_ends_the_mount_in_peace(monkeypatch):
    """As the kernel does now and then at the last close after a lazy unmount."""

    async def aborted() -> None:
        raise ExceptionGroup("workers", [ConnectionAbortedError(errno.ECONNABORTED, "while a request was read")])

    monkeypatch.setattr(pyfuse3, "main", aborted)
    trio.run(daemon._answer_requests)


def test_ping_status_sync_and_info(quick):
    (quick.point / "f").write_bytes(b"x")
    assert quick.ask("ping") == {"ok": True, "mountpoint": str(quick.point), "pid": quick.process.pid}
    assert quick.ask("status")["mountpoint"] == str(quick.point)
    assert "progress" in quick.ask("sync")
    assert quick.ask("info", path="f")["state"] == "pending"
    assert quick.ask("info", path="/no/such")["error"] == "No such file or directory"


def test_a_killed_process_leaves_a_dead_mount_that_the_next_start_clears(tmp_path):
    with served(tmp_path) as first:
        first.process.kill()
        first.process.wait()
        assert mount_at(first.point) is not None
        with pytest.raises(OSError) as caught:
            first.point.stat()
        assert caught.value.errno == errno.ENOTCONN
        with served(tmp_path) as second:
            (second.point / "f").write_bytes(b"x")
            second.unmount()


def test_an_aborted_connection_ends_as_a_crash_but_leaves_no_dead_mount(quick, connections):
    minor = mount_at(quick.point).device.split(":")[1]
    (connections / minor / "abort").write_text("1")
    assert quick.process.wait(SECONDS) == 75
    assert mount_at(quick.point) is None
    assert "cut the connection" in quick.log.read_text()


def test_a_second_mount_at_the_same_place_is_refused(quick, tmp_path):
    second = Served(tmp_path)
    try:
        assert second.process.wait(SECONDS) == 75
        assert "mounted" in second.log.read_text()
    finally:
        second.notify.close()
        quick.unmount()


def test_what_the_process_hides_and_needs(quick):
    proc = Path(f"/proc/{quick.process.pid}")
    limits = (proc / "limits").read_text()
    core = next(line for line in limits.splitlines() if line.startswith("Max core file size"))
    assert core.split()[4:6] == ["0", "0"]
    files = next(line.split() for line in limits.splitlines() if line.startswith("Max open files"))
    assert files[3] == files[4]
    if os.geteuid() == 0:
        assert mount_at(quick.point) is not None
        device = mount_at(quick.point).device
        assert Path(f"/sys/class/bdi/{device}/read_ahead_kb").read_text().strip() == "1024"
    quick.unmount()


def test_statfs_and_mount_options(quick):
    status = os.statvfs(quick.point)
    assert (status.f_bsize, status.f_frsize, status.f_namemax) == (4096, 4096, 255)
    assert status.f_bavail * status.f_frsize == 1 << 39
    mounted = mount_at(quick.point)
    assert (mounted.kind, mounted.source) == ("fuse.cryptfs", "cryptfs:memory")
    assert status.f_flag & os.ST_NOSUID
    quick.unmount()


@pytest.mark.parametrize("reading", [False, True])
def test_a_pulled_change_is_seen_at_once_also_during_a_read(tmp_path, reading):
    flag = tmp_path / "slow"
    with served(tmp_path, f"slow={flag}") as mount:
        (mount.point / "a").touch()
        (mount.point / "f").write_bytes(b"\0" * 4096)
        (mount.point / "g").write_bytes(b"\0" * 200_000)
        assert (mount.point / "f").read_bytes() == b"\0" * 4096
        thread = threading.Thread(target=(mount.point / "g").read_bytes)
        if reading:
            flag.touch()
            thread.start()
            until(lambda: mount.ask("status")["requests"]["read"] >= 2)
        mount.process.send_signal(signal.SIGUSR1)
        until(lambda: not (mount.point / "a").exists())
        assert (mount.point / "b").exists()
        if reading:
            flag.unlink()
            thread.join()
        until(lambda: (mount.point / "f").read_bytes() == b"\1" * 4096)
        mount.unmount()
