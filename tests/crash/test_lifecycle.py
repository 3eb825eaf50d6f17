"""Start and end of the daemon: signals, refusals, dead mounts, aborted connections; never a hang, never a loss."""

import contextlib
import os
import signal
import subprocess
import threading
from pathlib import Path

import pytest
from mounting import NAME, LoosedDaemon, is_mounted

from tests.patience import SECONDS


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_end_it_cleanly_and_keep_everything(stage, sign: signal.Signals) -> None:
    mount = stage.mount()
    (stage.point / "f").write_bytes(b"x" * 200_000)
    fd = os.open(stage.point / "g", os.O_RDWR | os.O_CREAT)
    os.write(fd, b"dirty and open")
    assert mount.terminate(sign) == 0, mount.said()
    assert "Traceback" not in mount.said()
    with contextlib.suppress(OSError):
        os.close(fd)
    mount = stage.mount()
    assert (stage.point / "f").read_bytes() == b"x" * 200_000
    assert (stage.point / "g").read_bytes() == b"dirty and open"
    mount.stop()


def test_stopped_and_continued(stage) -> None:
    mount = stage.mount()
    (stage.point / "f").write_bytes(b"before")
    mount.daemon.send_signal(signal.SIGSTOP)
    timer = threading.Timer(2.0, mount.daemon.send_signal, [signal.SIGCONT])
    timer.start()
    (stage.point / "g").write_bytes(b"during")
    timer.join()
    assert (stage.point / "g").read_bytes() == b"during"
    stage.vault.sync()
    mount.stop()


def test_second_daemon_is_refused_and_names_the_first(stage) -> None:
    mount = stage.mount()
    second = stage.vault.base / "second"
    second.mkdir()
    done = stage.vault.run("mount", NAME, str(second), "--foreground", check=False)
    assert done.returncode == 75, done.stderr
    assert str(mount.daemon.pid) in done.stderr
    assert not is_mounted(second)
    (stage.point / "f").write_bytes(b"the first goes on")
    mount.stop()


def test_mount_point_that_is_not_empty_is_refused(stage) -> None:
    (stage.point / "hidden").write_bytes(b"x")
    done = stage.vault.run("mount", NAME, str(stage.point), "--foreground", check=False)
    assert done.returncode != 0
    assert "empty" in done.stderr
    assert not is_mounted(stage.point)


def test_connection_abort_ends_the_daemon_with_an_error(stage, connections: Path) -> None:
    mount = stage.mount()
    (stage.point / "f").write_bytes(b"kept")
    fd = os.open(stage.point / "f", os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
    device = os.minor(os.stat(stage.point).st_dev)
    (connections / str(device) / "abort").write_text("1")
    assert mount.daemon.wait(SECONDS) != 0
    mount = stage.mount()
    assert (stage.point / "f").read_bytes() == b"kept"
    mount.stop()


def test_lazy_unmount_with_open_files_ends_after_the_last_close(stage) -> None:
    mount = stage.mount()
    fd = os.open(stage.point / "f", os.O_RDWR | os.O_CREAT)
    os.write(fd, b"one ")
    busy = subprocess.run(["fusermount3", "-u", str(stage.point)], capture_output=True, check=False)
    assert busy.returncode != 0
    subprocess.run(["fusermount3", "-uz", str(stage.point)], check=True)
    os.write(fd, b"two")
    os.close(fd)
    assert mount.daemon.wait(SECONDS) == 0, mount.said()
    mount = stage.mount()
    assert (stage.point / "f").read_bytes() == b"one two"
    mount.stop()


def test_coredump_the_daemon_writes_none(stage) -> None:
    mount = stage.mount()
    limits = Path(f"/proc/{mount.daemon.pid}/limits").read_text()
    core = next(line for line in limits.splitlines() if line.startswith("Max core file size"))
    assert core.split()[4] == "0"
    mount.stop()


def test_refused_unmount_is_an_error_not_a_hang(stage) -> None:
    mount = stage.mount()
    fd = os.open(stage.point / "f", os.O_RDWR | os.O_CREAT)
    with pytest.raises(LoosedDaemon, match="refused"):
        mount.stop()
    done = stage.vault.run("umount", NAME, check=False)
    assert done.returncode != 0
    os.write(fd, b"still works")
    os.close(fd)
    stage.vault.run("umount", NAME)
    assert mount.daemon.wait(SECONDS) == 0


def test_everything_is_there_after_the_umount_command(stage) -> None:
    mount = stage.mount()
    (stage.point / "f").write_bytes(b"x" * 100_000)
    stage.vault.run("umount", NAME)
    assert mount.daemon.wait(SECONDS) == 0
    assert not is_mounted(stage.point)
    mount = stage.mount()
    assert (stage.point / "f").read_bytes() == b"x" * 100_000
    mount.stop()


def test_dead_mount_is_cleaned_by_the_next_start(stage) -> None:
    mount = stage.mount()
    (stage.point / "f").write_bytes(b"x")
    mount.leave_dead()
    assert is_mounted(stage.point)
    with pytest.raises(OSError):
        os.listdir(stage.point)
    again = stage.mount()
    assert os.listdir(stage.point) in (["f"], [])
    again.stop()
