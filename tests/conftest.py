"""What all tests share: a home and a store of their own, and the promise that no mount and no daemon outlives them."""

import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

MARK = "CRYPTFS_TEST_SESSION"
"""In the environment of every process the tests start, with the session's pid: so its daemons can be told apart."""

FOR_TESTS = ("CRYPTFS_TEST", "CRYPTFS_CONFORMANCE", "CRYPTFS_BENCH", "CRYPTFS_LIVE")
"""Beginnings of variables that speak to the tests and not to cryptfs."""


def is_mounted(point: Path) -> bool:
    """Ask the kernel's table, never the mount: a dead daemon answers ENOTCONN, a stuck one not at all."""
    return str(point) in mount_points()


def mount_points() -> list[str]:
    """All mount points of FUSE file systems of ours, as the kernel lists them (spaces undone)."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        if right.split()[0] in {"fuse.cryptfs", "fuse"} and right.split()[1].startswith("cryptfs"):
            found.append(left.split()[4].encode().decode("unicode_escape"))
    return found


def daemons_of_this_session() -> list[str]:
    """Command lines of processes that this session started and that still run."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        if process.name == str(os.getpid()):
            continue
        try:
            environment = (process / "environ").read_bytes().split(b"\0")
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # ended meanwhile, or of another user
        if command and f"{MARK}={os.getpid()}".encode() in environment:
            found.append(f"{process.name}: {command}")
    return found


def fuse_is_here() -> bool:
    try:
        return stat.S_ISCHR(os.stat("/dev/fuse").st_mode) and os.access("/dev/fuse", os.R_OK | os.W_OK)
    except FileNotFoundError:
        return False


def pytest_configure(config: pytest.Config) -> None:
    os.environ[MARK] = str(os.getpid())
    # What the person running the tests has set for herself must not steer them.
    for name in list(os.environ):
        if name.startswith("CRYPTFS_") and not name.startswith(FOR_TESTS):
            del os.environ[name]


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("fuse") and not fuse_is_here():
        reason = "needs /dev/fuse, which is missing or closed here"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)  # a mount test that is skipped there would prove nothing, silently
        pytest.skip(reason)


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left_behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Fails the session if a mount or a daemon of its tests is still there at the end.

    Another session may run beside this one: mounts count below our own temporary directory, daemons by their mark.
    """
    yield
    below = tmp_path_factory.getbasetemp()
    left = [point for point in mount_points() if Path(point).is_relative_to(below)] + daemons_of_this_session()
    assert not left, f"left behind by the tests: {left}"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """CRYPTFS_HOME for this test, so that nothing of the person's own vaults is seen or touched."""
    directory = tmp_path / "home"
    directory.mkdir(mode=0o700)
    monkeypatch.setenv("CRYPTFS_HOME", str(directory))
    return directory


@pytest.fixture
def connections(tmp_path: Path) -> Iterator[Path]:
    """The control file system of FUSE, at a place of its own: it is nobody else's to unmount."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to mount the control file system of FUSE")
    place = tmp_path / "connections"
    place.mkdir()
    subprocess.run(["mount", "-t", "fusectl", "fusectl", place], check=True)
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.fixture
def store_dir(tmp_path: Path) -> Path:
    """An empty directory to be a store."""
    directory = tmp_path / "store"
    directory.mkdir()
    return directory
