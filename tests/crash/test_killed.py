"""SIGKILL at every numbered step of the real daemon, a new start, and the acknowledged state is there (M4).

By default the first and the last occurrence of every step's name is tried, and some in between; with
CRYPTFS_TEST_EVERY_STEP=1 every step of the workload (an hour).
"""

import contextlib
import itertools
import os
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path

import pytest
from acknowledged import Play
from mounting import NAME, Mount, watchdog

from tests.patience import SECONDS, until

SEED = int(os.environ.get("CRYPTFS_TEST_SEED", "5"))
CALLS = 70
SYNC_AT = (30, 55)
PARTS = 4
"""The steps are dealt out among as many tests, so that they can run side by side."""
EVERY = bool(os.environ.get("CRYPTFS_TEST_EVERY_STEP"))
HANG = 180.0

pytestmark = pytest.mark.slow


class Theatre:
    """One prepared vault, brought back to its first state before every run."""

    def __init__(self, stage) -> None:
        self.stage, self.vault = stage, stage.vault
        self.saved = stage.vault.base / "saved"
        for part in ("home", "store"):
            shutil.copytree(stage.vault.base / part, self.saved / part, symlinks=True)

    def reset(self) -> None:
        for part in ("home", "store"):
            shutil.rmtree(self.vault.base / part)
            shutil.copytree(self.saved / part, self.vault.base / part, symlinks=True)

    def play(self, mount: Mount, seed: int = SEED) -> Play:
        """Run the workload until its end or the daemon's."""
        model = Path(tempfile.mkdtemp(prefix="model-", dir=self.vault.base))
        top = self.vault.point / "top"
        top.mkdir(exist_ok=True)
        play = Play(top, model, seed)
        with watchdog(mount, HANG):
            for number in range(CALLS):
                if not play.step():
                    break
                if number in SYNC_AT and not self.sync(play, mount):
                    break
            play.end()
        return play

    def sync(self, play: Play, mount: Mount) -> bool:
        """`cryptfs sync` of a living daemon promises everything; of a dead one, only what its journal holds."""
        done = self.vault.run("sync", NAME, check=False, seconds=HANG)
        if done.returncode == 0 and mount.alive():
            play.acknowledge(None)
        return done.returncode == 0

    def judge(self, play: Play) -> None:
        """Remount without faults and judge; then once more from the store alone."""
        mount = self.stage.mount()
        with watchdog(mount, HANG):
            if (self.vault.point / "top").exists() or play.acknowledged:
                play.judge(self.vault.point / "top")
                (self.vault.point / "writable again").write_bytes(b"yes")
            self.vault.sync()
            mount.stop()
            self.vault.forget_local()
            mount = self.stage.mount()
            if (self.vault.point / "top").exists() or play.acknowledged:
                play.judge(self.vault.point / "top")
            mount.stop()
        play.release()


@pytest.fixture
def theatre(stage) -> Theatre:
    return Theatre(stage)


def keep(theatre: Theatre, name: str) -> None:
    """For whoever looks for the reason: CRYPTFS_TEST_KEEP=DIR receives store and local state as the kill left them."""
    if "CRYPTFS_TEST_KEEP" in os.environ:
        target = Path(os.environ["CRYPTFS_TEST_KEEP"]) / name
        target.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-aT", theatre.vault.base / "home", target / "home"], check=True)
        subprocess.run(["cp", "-aT", theatre.vault.base / "store", target / "store"], check=True)


def chosen(trace: list[str]) -> list[int]:
    """Which steps to die at: all, or for each name the first, the last and one between."""
    if "CRYPTFS_TEST_STEPS" in os.environ:  # 78,78,79: to look for the reason of a failure
        return [int(number) for number in os.environ["CRYPTFS_TEST_STEPS"].split(",")]
    if EVERY:
        return list(range(1, len(trace) + 1))
    picks: set[int] = set()
    for name in sorted(set(trace)):
        at = [number + 1 for number, other in enumerate(trace) if other == name]
        picks |= {at[0], at[len(at) // 2], at[-1]} if len(at) > 3 else {at[0], at[-1]}
    return sorted(picks)


@pytest.mark.timeout(3600 if EVERY else 900)
@pytest.mark.parametrize("part", range(PARTS))
def test_kill_at_every_step(theatre: Theatre, part: int) -> None:
    trace_file = theatre.vault.base / "trace"
    mount = theatre.stage.mount(trace=trace_file)
    play = theatre.play(mount)
    mount.stop()
    theatre.judge(play)
    trace = trace_file.read_text().split()
    assert len(set(trace)) >= 5, f"only {set(trace)}: the fault points are gone"
    reached = 0
    numbers = chosen(trace)[part::PARTS]
    for number in numbers:
        theatre.reset()
        mount = theatre.stage.mount(at=number, must=False)
        if not mount.alive():
            play = None  # died while mounting: nothing was promised
        else:
            play = theatre.play(mount)
            if mount.alive():
                theatre.vault.run("sync", NAME, check=False, seconds=HANG)
        mount.leave_dead()
        keep(theatre, f"step{number}")
        reached += "dies at step" in mount.said()
        try:
            if play is None:
                theatre.stage.mount().stop()
            else:
                theatre.judge(play)
        except (AssertionError, OSError) as err:
            where = mount.said().split("dies at step")[-1].strip()
            said = theatre.stage.last.said()[-3000:]
            raise AssertionError(f"seed {SEED}, killed at step {number} ({where[:80]}): {err}\n{said}") from err
    assert reached > len(numbers) // 4, "most steps were not reached again: the workload is not the same twice"


@pytest.mark.timeout(600)
@pytest.mark.parametrize("second", [1, 2, 4, 8])
def test_kill_in_the_recovery_too(theatre: Theatre, second: int) -> None:
    mount = theatre.stage.mount()
    play = theatre.play(mount)
    mount.leave_dead()
    for number in (second, second + 1):
        again = theatre.stage.mount(at=number, must=False)
        if again.alive():
            os.sync()
        again.leave_dead()
    theatre.judge(play)


@pytest.mark.timeout(300)
def test_kill_between_calls_many_times_on_one_vault(theatre: Theatre) -> None:
    """Generations of journals: each life adds to what the lives before it left."""
    plays: list[tuple[Path, Play]] = []
    for life in range(4):
        mount = theatre.stage.mount()
        with watchdog(mount, HANG):
            for top, play in plays:
                play.judge(top)
            top = theatre.vault.point / f"life{life}"
            top.mkdir()
            model = theatre.vault.base / f"model{life}"
            model.mkdir()
            play = Play(top, model, seed=100 + life)
            for _ in range(40):
                assert play.step()
            fd = os.open(top, os.O_RDONLY)
            os.fsync(fd)
            play.acknowledge(fd)
            os.close(fd)
            play.end()
            plays.append((top, play))
        mount.leave_dead()
    mount = theatre.stage.mount()
    for top, play in plays:
        play.judge(top)
        play.release()
    mount.stop()


def test_kill_with_big_dirty_files(stage) -> None:
    """Megabytes that were never synced may be lost; those that were may not, and nothing is mixed."""
    mount = stage.mount()
    size = 3 << 20
    (stage.point / "synced").write_bytes(b"A" * size)
    fd = os.open(stage.point / "synced", os.O_RDWR)
    os.fsync(fd)
    other = os.open(stage.point / "loose", os.O_RDWR | os.O_CREAT)
    for number in range(100):
        os.pwrite(other, b"%c" % (48 + number % 10) * 65_536, number * 65_536)
    os.pwrite(fd, b"B" * 65_536, 0)
    mount.leave_dead()
    for handle in (fd, other):
        with contextlib.suppress(OSError):
            os.close(handle)
    mount = stage.mount()
    data = (stage.point / "synced").read_bytes()
    assert data in (b"A" * size, b"B" * 65_536 + b"A" * (size - 65_536))
    loose = stage.point / "loose"
    if loose.exists():
        data = loose.read_bytes()
        for at in range(0, len(data), 65_536):
            assert data[at : at + 65_536] == b"%c" % (48 + at // 65_536 % 10) * 65_536
    mount.stop()


def test_write_into_a_file_that_was_sealed_empty(stage) -> None:
    """A truncate had made the file's key, the sealed empty content needed none; then the write needed it (seed 6)."""
    mount = stage.mount()
    fd = os.open(stage.point / "f", os.O_RDWR | os.O_CREAT)
    os.ftruncate(fd, 5)
    os.ftruncate(fd, 0)
    os.fsync(fd)
    stage.vault.sync()
    os.pwrite(fd, b"data", 65_537)
    os.fsync(fd)
    mount.leave_dead()
    mount = stage.mount()
    assert (stage.point / "f").read_bytes() == bytes(65_537) + b"data"
    mount.stop()


def acknowledge_numbers(path: Path, safe: list[int]) -> None:
    """Append numbers, each followed by fsync, until the daemon is gone; those whose fsync came back go into `safe`."""
    with contextlib.suppress(OSError):
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for number in itertools.count():
            os.write(fd, b"%d\n" % number)
            os.fsync(fd)
            safe.append(number)


@pytest.mark.parametrize("run", [0, 1, 2])
def test_every_number_whose_fsync_came_back_is_there_once(stage, run: int) -> None:
    """M6: several writers, and a kill at a moment nobody chose."""
    mount = stage.mount()
    noted: dict[int, list[int]] = {who: [] for who in range(3)}

    def writer(who: int) -> None:
        acknowledge_numbers(stage.point / f"log{who}", noted[who])

    threads = [threading.Thread(target=writer, args=(who,)) for who in range(3)]
    for thread in threads:
        thread.start()
    until(lambda: all(noted.values()))
    threads[0].join(0.5 + 0.37 * run)
    mount.leave_dead()
    for thread in threads:
        thread.join(SECONDS)
        assert not thread.is_alive(), "a call hangs although the daemon is dead"
    mount = stage.mount()
    for who, numbers in noted.items():
        found = (stage.point / f"log{who}").read_text().split("\n")
        assert found[-1] == ""
        assert [int(line) for line in found[:-1]] == list(range(len(found) - 1)), "lost in the middle, or twice"
        assert len(found) - 1 >= len(numbers), f"{len(numbers)} acknowledged, {len(found) - 1} there"
    stage.vault.sync()
    mount.stop()
