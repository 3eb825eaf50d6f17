"""Disks that fill up, under the local state or under the store: ENOSPC to writers, nothing acknowledged is lost."""

import errno
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mounting import NAME, scratch, wait_until, watchdog

from tests.patience import SECONDS

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small tmpfs, as root")]
MIB = 1 << 20
HANG = 240.0


@pytest.fixture
def small_disk() -> Iterator[Callable[[Path, int], None]]:
    """Makes a directory a tmpfs of so many bytes."""
    made: list[Path] = []

    def make(path: Path, size: int) -> None:
        path.mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=0755", "tmpfs", str(path)], check=True)
        made.append(path)

    yield make
    for path in made:
        subprocess.run(["umount", "-l", str(path)], check=False)


@pytest.fixture
def base() -> Iterator[Path]:
    with scratch() as path:
        yield path


def fill(top: Path, limit: int) -> tuple[dict[Path, bytes], int]:
    """Write files of 64 KiB, each synced, until one fails. Returns those that were acknowledged, and the errno."""
    safe: dict[Path, bytes] = {}
    for number in range(limit):
        path = top / f"file{number:04}"
        data = os.urandom(65_536)
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT)
        except OSError as err:
            return safe, err.errno or 0
        try:
            os.write(fd, data)
            os.fsync(fd)
            safe[path] = data
        except OSError as err:
            return safe, err.errno or 0
        finally:
            try:
                os.close(fd)
            except OSError as err:
                if err.errno != errno.ENOSPC:
                    raise
    return safe, 0


def state(stage) -> dict:
    return json.loads(stage.vault.run("status", NAME, "--json").stdout)


def test_full_local_disk_is_enospc_and_heals_without_a_remount(make_stage, small_disk, base: Path) -> None:
    small_disk(base / "home", 24 * MIB)
    stage = make_stage(base)
    # The store takes nothing, so that everything stays in the local state.
    ballast = base / "home/ballast"
    ballast.write_bytes(bytes(10 * MIB))
    mount = stage.mount()
    aside = stage.vault.store.with_name("away")
    stage.vault.store.rename(aside)
    with watchdog(mount, HANG):
        safe, code = fill(stage.point, 500)
        assert code == errno.ENOSPC, f"expected ENOSPC, got {errno.errorcode.get(code, code)} after {len(safe)} files"
        assert safe
        for path, data in safe.items():
            assert path.read_bytes() == data
        assert len(os.listdir(stage.point)) >= len(safe)
        ballast.unlink()
        (stage.point / "after").write_bytes(b"works again")
        fd = os.open(stage.point / "after", os.O_RDWR)
        os.fsync(fd)
        os.close(fd)
        aside.rename(stage.vault.store)
        stage.vault.sync()
        for path, data in safe.items():
            assert path.read_bytes() == data
        mount.stop(quiet=False)
        stage.vault.forget_local()
        mount = stage.mount()
        assert (stage.point / "after").read_bytes() == b"works again"
        for path, data in safe.items():
            assert path.read_bytes() == data
        mount.stop()


def test_full_local_disk_and_then_killed(make_stage, small_disk, base: Path) -> None:
    small_disk(base / "home", 24 * MIB)
    stage = make_stage(base)
    ballast = base / "home/ballast"
    ballast.write_bytes(bytes(12 * MIB))
    mount = stage.mount()
    aside = stage.vault.store.with_name("away")
    stage.vault.store.rename(aside)
    with watchdog(mount, HANG):
        safe, code = fill(stage.point, 500)
    assert code == errno.ENOSPC
    mount.leave_dead()
    aside.rename(stage.vault.store)
    ballast.unlink()
    mount = stage.mount()
    for path, data in safe.items():
        assert path.read_bytes() == data
    stage.vault.sync()
    mount.stop()


def test_full_store_says_so_loses_nothing_and_goes_on_by_itself(make_stage, small_disk, base: Path) -> None:
    small_disk(base / "store", 8 * MIB)
    stage = make_stage(base)
    mount = stage.mount()
    with watchdog(mount, HANG):
        safe, code = fill(stage.point, 320)  # 20 MiB: more than the store holds
        # Once the store has refused, writers are told; what was accepted before is kept here.
        assert code in (0, errno.ENOSPC), errno.errorcode.get(code, code)
        assert wait_until(lambda: "full" in json.dumps(state(stage)), seconds=SECONDS), state(stage)
        assert state(stage)["pending_bytes"] > 0
        # A smaller object that still found room shows the store as well for a moment.
        assert wait_until(lambda: os.statvfs(stage.point).f_bavail == 0, seconds=SECONDS)
        for path, data in safe.items():
            assert path.read_bytes() == data
        gone, _ = safe.popitem()
        gone.unlink()  # making room must be possible
        subprocess.run(["mount", "-o", f"remount,size={64 * MIB}", str(base / "store")], check=True)
        stage.vault.sync()
        (stage.point / "after").write_bytes(b"works again")
        stage.vault.sync()
        mount.stop(quiet=False)
        stage.vault.forget_local()
        mount = stage.mount()
        for path, data in safe.items():
            assert path.read_bytes() == data
        assert (stage.point / "after").read_bytes() == b"works again"
        assert not gone.exists()
        mount.stop()


def test_store_that_is_away_for_a_while(make_stage, base: Path) -> None:
    stage = make_stage(base)
    mount = stage.mount()
    (stage.point / "old").write_bytes(b"o" * 300_000)
    stage.vault.sync()
    aside = stage.vault.store.with_name("away")
    stage.vault.store.rename(aside)
    with watchdog(mount, HANG):
        assert (stage.point / "old").read_bytes() == b"o" * 300_000
        (stage.point / "new").write_bytes(b"n" * 300_000)
        fd = os.open(stage.point / "new", os.O_RDWR)
        os.fsync(fd)
        os.close(fd)
        assert sorted(os.listdir(stage.point)) == ["new", "old"]
        mount.stop(quiet=False)
        mount = stage.mount()  # starts without the store
        assert (stage.point / "new").read_bytes() == b"n" * 300_000
        aside.rename(stage.vault.store)
        stage.vault.sync()
        mount.stop(quiet=False)
        stage.vault.forget_local()
        mount = stage.mount()
        assert (stage.point / "new").read_bytes() == b"n" * 300_000
        mount.stop()


def test_uncached_reads_fail_in_time_while_the_store_is_away(make_stage, base: Path) -> None:
    stage = make_stage(base)
    mount = stage.mount()
    (stage.point / "big").write_bytes(os.urandom(3 * MIB))
    stage.vault.sync()
    mount.stop()
    packs = stage.vault.home / "cache" / NAME / "packs"
    assert packs.is_dir()
    for path in packs.rglob("*"):
        if path.is_file():
            path.unlink()
    mount = stage.mount()
    aside = stage.vault.store.with_name("away")
    stage.vault.store.rename(aside)
    with watchdog(mount, HANG):
        assert (stage.point / "big").stat().st_size == 3 * MIB  # metadata never waits
        with pytest.raises(OSError) as caught:
            (stage.point / "big").read_bytes()
        assert caught.value.errno == errno.ENETUNREACH, caught.value
        aside.rename(stage.vault.store)
        assert wait_until(lambda: readable(stage.point / "big"), seconds=SECONDS)
    mount.stop(quiet=False)


def readable(path: Path) -> bool:
    try:
        return len(path.read_bytes()) > 0
    except OSError:
        return False


def write_and_sync(path: Path) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        os.write(fd, b"x")
        os.fsync(fd)
    finally:
        os.close(fd)


def test_local_state_on_a_read_only_disk(make_stage, small_disk, base: Path) -> None:
    """The disk turns read-only under the running daemon: errors, no lies, and a clean end is possible."""
    small_disk(base / "home", 32 * MIB)
    stage = make_stage(base)
    mount = stage.mount()
    (stage.point / "f").write_bytes(b"before")
    stage.vault.sync()
    done = subprocess.run(["mount", "-o", "remount,ro", str(base / "home")], check=False, capture_output=True)
    if done.returncode:
        mount.stop()
        pytest.skip("open for writing: this kernel refuses to make it read-only")
    with watchdog(mount, HANG):
        assert (stage.point / "f").read_bytes() == b"before"
        with pytest.raises(OSError):
            write_and_sync(stage.point / "g")
    subprocess.run(["mount", "-o", "remount,rw", str(base / "home")], check=True)
    shutil.disk_usage(stage.point)
    mount.close()
