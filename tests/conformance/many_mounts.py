"""Random work on several real mounts of one folder, with kills and devices that are cut off, until the time is up.

    python -m tests.conformance.many_mounts --minutes 5 [--seed 1] [--devices 3] [--base DIR]

In every round all devices do random things at the same time, in a folder that they share and in one of their own; now
and then one is killed and started again, or does not reach the store for the round, or is unmounted and loses its
cache. Then everything is exchanged, and compared: all trees are equal (names, kinds, modes, sizes, times, links,
xattrs, SHA-256), and each device's own folder is what a plain directory became under the same calls, so that nothing of
it was lost. Exits with 1 at the first difference and names the round; the work follows from the seed, its timing does
not.
"""

import argparse
import contextlib
import os
import random
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from tests.conformance.devices import Device, Fleet, comparable
from tests.conformance.snapshot import differences, snapshot

_NAMES = [f"n{number}" for number in range(8)]
_SHARED = "shared"
_EXPECTED = (FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError)
"""What others' work makes of ours."""


class Hand:
    """Does random things below some tops, the same in each. Only names are drawn, so all tops have the same outcome."""

    def __init__(self, rng: random.Random, tops: list[Path], word: str) -> None:
        self.rng = rng
        self.tops = tops
        self.word = word
        self._number = 0

    def act(self) -> None:
        """One thing; errors that come of others' work, or of names drawn badly, are fine."""
        acts: list[Callable[[], Callable[[Path], None]]] = [
            self._write, self._write, self._append, self._overwrite, self._mkdir, self._move, self._move,
            self._remove, self._link, self._symlink, self._chmod, self._xattr, self._truncate,
        ]  # fmt: skip
        do = self.rng.choice(acts)()
        outcomes = {self._outcome(do, top) for top in self.tops}
        if len(outcomes) > 1:
            raise AssertionError(f"the mount and a plain directory differ: {outcomes}")

    def _outcome(self, do: Callable[[Path], None], top: Path) -> str:
        try:
            do(top)
        except OSError as err:
            if not isinstance(err, _EXPECTED) and err.errno not in {16, 18, 22, 39, 40}:  # busy, exdev, inval, notempty
                raise
            return type(err).__name__ if isinstance(err, _EXPECTED) else "refused"
        return ""

    def _path(self) -> str:
        return "/".join(self.rng.choice(_NAMES) for _ in range(self.rng.choice((1, 1, 2, 2, 3))))

    def _data(self) -> bytes:
        self._number += 1
        head = f"{self.word} {self._number} ".encode()
        size = self.rng.choice((0, 10, 1_000, 70_000, 300_000))
        return head + self.rng.randbytes(size)

    def _write(self) -> Callable[[Path], None]:
        path, data = self._path(), self._data()
        return lambda top: _ignore((top / path).write_bytes(data))

    def _append(self) -> Callable[[Path], None]:
        path, data = self._path(), self._data()

        def do(top: Path) -> None:
            with (top / path).open("ab") as file:
                file.write(data)

        return do

    def _overwrite(self) -> Callable[[Path], None]:
        path, data, at = self._path(), self._data(), self.rng.randrange(100_000)

        def do(top: Path) -> None:
            with (top / path).open("r+b") as file:
                file.seek(at)
                file.write(data)

        return do

    def _truncate(self) -> Callable[[Path], None]:
        path, size = self._path(), self.rng.randrange(100_000)
        return lambda top: os.truncate(top / path, size)

    def _mkdir(self) -> Callable[[Path], None]:
        path = self._path()
        return lambda top: (top / path).mkdir()

    def _move(self) -> Callable[[Path], None]:
        old, new = self._path(), self._path()
        return lambda top: _ignore((top / old).rename(top / new))

    def _remove(self) -> Callable[[Path], None]:
        path = self._path()

        def do(top: Path) -> None:
            if (top / path).is_dir() and not (top / path).is_symlink():
                (top / path).rmdir()
            else:
                (top / path).unlink()

        return do

    def _link(self) -> Callable[[Path], None]:
        old, new = self._path(), self._path()

        def do(top: Path) -> None:
            if (top / old).is_file() and not (top / old).is_symlink():
                os.link(top / old, top / new)

        return do

    def _symlink(self) -> Callable[[Path], None]:
        path, target = self._path(), self._path()
        return lambda top: (top / path).symlink_to(f"nowhere/{target}")

    def _chmod(self) -> Callable[[Path], None]:
        path, mode = self._path(), self.rng.choice((0o600, 0o640, 0o755))

        def do(top: Path) -> None:
            if not (top / path).is_symlink():
                (top / path).chmod(mode | (0o700 if (top / path).is_dir() else 0))

        return do

    def _xattr(self) -> Callable[[Path], None]:
        path, value = self._path(), self.rng.randbytes(20)

        def do(top: Path) -> None:
            if not (top / path).is_symlink():
                os.setxattr(top / path, "user.soak", value)

        return do


def _ignore(_: object) -> None:
    """For calls whose result says nothing."""


class Soak:
    """Rounds of work on one fleet."""

    def __init__(self, base: Path, seed: int, devices: int) -> None:
        self.rng = random.Random(seed)
        self.base = base
        names = tuple(["anna", "bob", "carol", "dave", "eve"][:devices])
        self.fleet = Fleet(base, names)
        first = self.fleet[names[0]]
        first.path(_SHARED).mkdir()
        for name in names:
            first.path(f"of-{name}").mkdir()
            (base / f"mirror-{name}").mkdir()
        self.fleet.settle()

    def round(self) -> str:
        """Work, disturb, exchange, compare; returns what happened in a word or two for each device."""
        words: list[str] = []
        with contextlib.ExitStack() as away:
            workers = []
            for device in self.fleet.devices.values():
                event = self.rng.choice(("", "", "cut off", "killed", "remounted", "forgetful"))
                words.append(f"{device.name} {event}".strip())
                if event == "cut off":
                    away.enter_context(device.cut_off())
                seed = self.rng.getrandbits(64)
                workers.append(_Worker(device, self.base / f"mirror-{device.name}", seed, event))
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
            for worker in workers:
                if worker.failure is not None:
                    raise worker.failure
        self._compare()
        return ", ".join(words)

    def _compare(self) -> None:
        self.fleet.settle()
        for device in self.fleet.devices.values():
            mirror = comparable(snapshot(self.base / f"mirror-{device.name}", times=False))
            for other in self.fleet.devices.values():
                found = differences(mirror, comparable(snapshot(other.path(f"of-{device.name}"), times=False)))
                if found:
                    raise AssertionError(f"what {device.name} made is not what {other.name} has: " + "; ".join(found))


class _Worker(threading.Thread):
    """One device's part of a round. `failure`: what went wrong in it."""

    def __init__(self, device: Device, mirror: Path, seed: int, event: str) -> None:
        super().__init__(daemon=True)
        self.device, self.mirror, self.event = device, mirror, event
        self.rng = random.Random(seed)
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            self._work()
        except BaseException as err:
            self.failure = err

    def _work(self) -> None:
        device = self.device
        own = Hand(self.rng, [device.path(f"of-{device.name}"), self.mirror], device.name)
        shared = Hand(self.rng, [device.path(_SHARED)], device.name)
        for _ in range(self.rng.randrange(5, 60)):
            self.rng.choice((own, shared)).act()
            if self.rng.random() < 0.02:
                time.sleep(self.rng.random() * 4)  # lets the others' work come, and ours go, by itself
        if self.event == "killed":
            with open_folder(device.point) as folder:
                os.fsync(folder)  # closed files and names are durable here from now on
            shared.act()  # not so this
            device.crash()
            device.start()
        elif self.event == "remounted":
            device.stop()
            device.start()
        elif self.event == "forgetful":
            device.sync()
            device.stop()
            device.forget_local()
            device.start()


@contextlib.contextmanager
def open_folder(path: Path):
    """A directory's descriptor."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield folder
    finally:
        os.close(folder)


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--devices", type=int, default=3, choices=range(2, 6))
    parser.add_argument(
        "--base", type=Path, help="where to work; kept. Default: a temporary directory, kept on failure"
    )
    given = parser.parse_args()
    base = given.base or Path(tempfile.mkdtemp(prefix="cryptfs-many-"))
    base.mkdir(exist_ok=True)
    print(f"seed {given.seed}, {given.devices} devices, in {base}", flush=True)
    soak = Soak(base, given.seed, given.devices)
    end, rounds = time.monotonic() + 60 * given.minutes, 0
    try:
        while time.monotonic() < end:
            rounds += 1
            print(f"round {rounds}: {soak.round()}", flush=True)
        files = len(soak.fleet.agreed())
        soak.fleet.close()
    except AssertionError as err:
        print(f"round {rounds} of seed {given.seed}: {err}", file=sys.stderr)
        return 1
    finally:
        for device in soak.fleet.devices.values():
            device.close()
    print(f"{rounds} rounds, {files} files and folders in the end: all devices agree, nothing was lost")
    if given.base is None:
        shutil.rmtree(base)
    return 0


if __name__ == "__main__":
    sys.exit(main())
