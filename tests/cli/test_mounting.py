"""`cryptfs mount` and `umount` on real mounts."""

import json
import os
import pwd
import select
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cryptfs.cli.background import StartFailed
from tests.cli.transcripts import Result, Run, two_lines
from tests.patience import SECONDS

on_a_mount = pytest.mark.fuse


@pytest.fixture
def point(tmp_path: Path) -> Path:
    """An empty directory to mount at."""
    directory = tmp_path / "mnt"
    directory.mkdir()
    return directory


@pytest.fixture
def mounted(run: Run, vault: str, point: Path) -> Iterator[Path]:
    """The mount point of a vault, mounted in the background."""
    result = run("mount", vault, point)
    assert result == (0, f"'team' is mounted at {point}.\n", "")
    yield point
    run("umount", vault)


@on_a_mount
def test_files_written_on_the_mount_are_seen_by_every_command(run: Run, vault: str, mounted: Path) -> None:
    (mounted / "d").mkdir()
    (mounted / "d/file").write_text("text")
    assert run("ls", vault).out == "d\n"
    assert run("cat", vault, "d/file").out == "text"
    assert run("put", vault, mounted / "d/file", "/copy").code == 0
    assert (mounted / "copy").read_text() == "text"
    assert run("sync", vault) == (0, "", "")
    assert json.loads(run("info", vault, "d/file", "--json").out)["size"] == 4
    assert (mounted / "d/file").read_text() == "text"


@on_a_mount
def test_a_mount_shows_in_status_and_list(run: Run, vault: str, mounted: Path) -> None:
    state = json.loads(run("status", vault, "--json").out)
    assert (state["mounted"], state["mountpoint"], state["state"]) == (True, str(mounted), "mounted")
    assert json.loads(run("list", "--json").out)[0]["mountpoint"] == str(mounted)


@on_a_mount
def test_umount_by_name_ends_the_process(run: Run, vault: str, mounted: Path) -> None:
    pid = json.loads(run("status", vault, "--json").out)["pid"]
    assert run("umount", vault).code == 0
    assert not Path(f"/proc/{pid}/cwd").exists()
    assert not mounted.is_mount()


@on_a_mount
def test_umount_by_mount_point(run: Run, mounted: Path) -> None:
    assert run("umount", mounted) == (0, "'team' is unmounted.\n", "")


@on_a_mount
def test_a_busy_mount_is_not_torn_away(run: Run, vault: str, mounted: Path) -> None:
    with (mounted / "open").open("w"):
        result = run("umount", vault)
        assert result.code == 75
        assert "--lazy" in two_lines(result)[1]
        assert mounted.is_mount()


@on_a_mount
def test_what_was_written_is_there_at_the_next_mount(run: Run, vault: str, mounted: Path) -> None:
    (mounted / "file").write_text("text")
    assert run("umount", vault).code == 0
    assert run("mount", vault, mounted).code == 0
    assert (mounted / "file").read_text() == "text"


@on_a_mount
def test_a_mount_with_a_passphrase(run: Run, store_dir: Path, point: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("correct horse\n")
    secret = ("--passphrase-file", tmp_path / "secret")
    assert run("init", "team", store_dir, "--no-recovery", *secret).code == 0
    assert run("mount", "team", point, *secret).code == 0
    assert run("umount", "team").code == 0


@on_a_mount
def test_a_wrong_passphrase_is_told_by_the_starter(run: Run, store_dir: Path, point: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("correct horse\n")
    (tmp_path / "wrong").write_text("battery staple\n")
    assert run("init", "team", store_dir, "--no-recovery", "--passphrase-file", tmp_path / "secret").code == 0
    result = run("mount", "team", point, "--passphrase-file", tmp_path / "wrong")
    assert (result.code, two_lines(result)[0][:40]) == (77, "cryptfs: the key file does not open: wro")


@on_a_mount
def test_mount_point_not_empty(run: Run, vault: str, point: Path) -> None:
    (point / "file").touch()
    result = run("mount", vault, point)
    assert (result.code, two_lines(result)[0]) == (
        64,
        f"cryptfs: {point} is not empty; what is in it would be hidden.",
    )


@on_a_mount
def test_mount_point_missing(run: Run, vault: str, tmp_path: Path) -> None:
    result = run("mount", vault, tmp_path / "nowhere")
    assert (result.code, two_lines(result)[1]) == (64, f"Make it: `mkdir -p {tmp_path}/nowhere`.")


@on_a_mount
def test_mount_point_busy(run: Run, vault: str, mounted: Path, tmp_path: Path) -> None:
    result = run("mount", vault, mounted)
    assert result.code == 75
    assert two_lines(result)[0].startswith(f"cryptfs: 'team' is mounted at {mounted} already")
    assert run("init", "other", tmp_path / "other", "--no-passphrase", "--no-recovery").code == 0
    taken = run("mount", "other", mounted)
    assert (taken.code, two_lines(taken)[0]) == (75, f"cryptfs: 'team' is mounted at {mounted}.")


@on_a_mount
def test_a_dead_mount_is_cleared_by_umount(run: Run, vault: str, mounted: Path) -> None:
    daemon = json.loads(run("status", vault, "--json").out)["pid"]
    ended = os.pidfd_open(daemon)
    os.kill(daemon, 9)
    assert select.select([ended], [], [], SECONDS)[0]
    os.close(ended)
    assert json.loads(run("status", vault, "--json").out)["state"] == "dead mount"
    assert run("umount", vault) == (0, "'team' is unmounted.\n", "")
    assert not any(line.split()[4] == str(mounted) for line in Path("/proc/self/mountinfo").read_text().splitlines())


def test_no_dev_fuse(run: Run, vault: str, point: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("cryptfs.mount.mountpoint._DEVICE", tmp_path / "missing")
    result = run("mount", vault, point, "--foreground")
    assert (result.code, two_lines(result)[0]) == (78, "cryptfs: This machine has no /dev/fuse.")


@pytest.fixture
def ordinary_user(tmp_path: Path) -> Callable[..., Result]:
    """Runs commands as somebody who is not root: as we are, or as `nobody`, in `tmp_path/theirs`."""
    theirs = tmp_path / "theirs"
    for directory in (theirs, theirs / "mnt", theirs / "store"):
        directory.mkdir()
    become: dict[str, Any] = {}
    if os.getuid() == 0:
        nobody = pwd.getpwnam("nobody")
        become = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        for directory in (theirs, theirs / "mnt", theirs / "store"):
            os.chown(directory, nobody.pw_uid, nobody.pw_gid)
        for parent in tmp_path.parents[:3]:
            parent.chmod(parent.stat().st_mode | 0o011)
        tmp_path.chmod(0o711)

    def command(*args: object) -> Result:
        line = [sys.executable, "-m", "cryptfs", *map(str, args)]
        environ = os.environ | {"CRYPTFS_HOME": str(theirs / "home"), "HOME": str(theirs)}
        done = subprocess.run(line, env=environ, capture_output=True, text=True, check=False, **become)
        return Result(done.returncode, done.stdout, done.stderr)

    try:
        works = command("--version").code == 0
    except PermissionError:
        works = False
    if not works:
        pytest.skip("an ordinary user cannot run this checkout's Python")
    return command


@on_a_mount
def test_allow_other_not_permitted(ordinary_user: Callable[..., Result], tmp_path: Path) -> None:
    if "\nuser_allow_other" in Path("/etc/fuse.conf").read_text():
        pytest.skip("this machine permits it to everybody")
    theirs = tmp_path / "theirs"
    assert ordinary_user("init", "team", theirs / "store", "--no-passphrase", "--no-recovery").code == 0
    result = ordinary_user("mount", "team", theirs / "mnt", "--foreground", "-o", "allow_other")
    if "/dev/fuse" in result.err:
        pytest.skip("an ordinary user cannot open /dev/fuse here")
    what, advice = result.err.splitlines()[-2:]
    assert (result.code, what) == (77, "cryptfs: Mounting with allow_other is not permitted to you on this machine.")
    assert "user_allow_other" in advice


def test_the_starter_tells_the_last_error_of_the_log(tmp_path: Path) -> None:
    said = "2026 INFO opening\ncryptfs: first\nadvice one\ncryptfs: second\nadvice two\n"
    failed = StartFailed(said, 77, tmp_path / "log")
    assert (str(failed), failed.advice, failed.exit_code) == ("second", "advice two", 77)


def test_the_starter_names_the_log_if_it_holds_no_error(tmp_path: Path) -> None:
    failed = StartFailed("Segmentation fault\n", -11, tmp_path / "log")
    assert (str(failed), failed.advice) == ("The mount process ended with code -11.", f"See {tmp_path}/log.")
    assert failed.exit_code == 70
