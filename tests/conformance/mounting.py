"""A vault in a directory of its own, mounted by the real daemon: what every test on a mount needs.

Also used by tests/crash and tests/benchmarks. Nothing here imports cryptfs: the product is driven by its commands.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

__all__ = ["NAME", "LoosedDaemon", "Mount", "Vault", "fstype_of", "is_mounted", "scratch", "wait_until"]

NAME = "drive"
START_SECONDS = 120.0
STOP_SECONDS = 120.0
# The kernel drops requests nobody waits for when it unmounts; the library calls its late answer an error.
_HARMLESS = re.compile(r"fuse_(release|releasedir|forget)\(\): fuse_reply_\* failed with No such file or directory")
_UNESCAPE = {"\\040": " ", "\\011": "\t", "\\012": "\n", "\\134": "\\"}


class LoosedDaemon(AssertionError):
    """The daemon did not start, did not end, or said ERROR in its log."""


def _mount_table() -> Iterator[tuple[str, str]]:
    """(mount point, file system type) of every mount, later mounts last."""
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        left, _, right = line.partition(" - ")
        point = left.split()[4]
        for code, char in _UNESCAPE.items():
            point = point.replace(code, char)
        yield point, right.split()[0]


def is_mounted(point: Path) -> bool:
    """Ask the kernel's table, never the mount: a dead daemon answers ENOTCONN, a stuck one not at all."""
    return any(there == str(point) for there, _ in _mount_table())


def fstype_of(path: Path) -> str:
    """Type of the file system that holds `path`, without the `fuse.` in front: ext4, tmpfs, gocryptfs, cryptfs."""
    real = path.resolve()
    best = max(
        (entry for entry in enumerate(_mount_table()) if real.is_relative_to(entry[1][0])),
        key=lambda entry: (len(entry[1][0]), entry[0]),
    )
    return best[1][1].removeprefix("fuse.")


def wait_until(
    condition: Callable[[], bool], *, seconds: float, daemon: "subprocess.Popen[bytes] | None" = None
) -> bool:
    """Poll until `condition` holds; False when the time is over or `daemon` has ended."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline or (daemon is not None and daemon.poll() is not None):
            return condition()
        time.sleep(0.01)
    return True


@contextlib.contextmanager
def scratch(parent: Path | None = None) -> Iterator[Path]:
    """A directory that other users can pass through (pytest's own are 0700), removed afterwards."""
    path = Path(tempfile.mkdtemp(prefix="cryptfs-test-", dir=parent))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


class Mount:
    """A running daemon and its mount point. `stop` is the judged way out, `close` the sure one."""

    def __init__(self, point: Path, daemon: "subprocess.Popen[bytes]", log: Path) -> None:
        self.point, self.daemon, self.log = point, daemon, log

    def alive(self) -> bool:
        """Whether the daemon runs."""
        return self.daemon.poll() is None

    def said(self) -> str:
        """What the daemon wrote so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def kill(self) -> None:
        """SIGKILL, and a cleared mount point: what a crash leaves for the next start to find is `leave_dead`."""
        self.leave_dead()
        self._detach()

    def leave_dead(self) -> None:
        """SIGKILL and nothing else: the dead mount stays in the table."""
        if self.alive():
            self.daemon.kill()
        self.daemon.wait()

    def _detach(self) -> None:
        if is_mounted(self.point):
            subprocess.run(["fusermount3", "-uz", str(self.point)], check=False, capture_output=True)

    def stop(self, quiet: bool = True) -> None:
        """Unmount as a user does (a leaked descriptor fails here), wait, judge exit code and log."""
        done = subprocess.run(["fusermount3", "-u", str(self.point)], capture_output=True, text=True, check=False)
        if done.returncode:
            raise LoosedDaemon(f"unmount refused: {done.stderr.strip()}\n{self.said()[-3000:]}")
        try:
            code = self.daemon.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired as err:
            self.daemon.kill()
            raise LoosedDaemon(f"daemon did not end within {STOP_SECONDS} s\n{self.said()[-3000:]}") from err
        log = "\n".join(line for line in self.said().splitlines() if not _HARMLESS.search(line))
        if code != 0 or (quiet and ("ERROR" in log or "Traceback" in log)):
            raise LoosedDaemon(f"daemon ended with {code}\n{log[-6000:]}")

    def terminate(self, sign: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait; returns the exit code."""
        self.daemon.send_signal(sign)
        code = self.daemon.wait(STOP_SECONDS)
        self._detach()
        return code

    def close(self) -> None:
        """End it whatever its state."""
        self.kill()


class Vault:
    """One vault on a directory store below `base`, with a CRYPTFS_HOME of its own. Made by `init`."""

    def __init__(self, base: Path, *, store: Path | None = None, environ: Mapping[str, str] | None = None) -> None:
        self.base, self.home, self.store = base, base / "home", store or base / "store"
        self.point = base / "mnt"
        self.environ = {**os.environ, "CRYPTFS_HOME": str(self.home), **(environ or {})}
        self._mounts = 0

    def command(self, *args: str, launcher: Sequence[str] = ("-m", "cryptfs")) -> list[str]:
        """The command line of `cryptfs ARGS`."""
        return [sys.executable, *launcher, *args]

    def run(self, *args: str, check: bool = True, seconds: float = 240.0) -> "subprocess.CompletedProcess[str]":
        """Run a cryptfs command to its end; with `check` a failure shows what it said."""
        done = subprocess.run(
            self.command(*args), env=self.environ, capture_output=True, text=True, timeout=seconds, check=False
        )
        if check and done.returncode:
            raise LoosedDaemon(f"cryptfs {' '.join(args)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def init(self) -> None:
        """Make store, home and vault."""
        self.store.mkdir(parents=True, exist_ok=True)
        self.home.mkdir(parents=True, exist_ok=True)
        self.point.mkdir(exist_ok=True)
        self.run("init", NAME, f"file://{self.store}", "--no-passphrase", "--no-recovery")

    def mount(
        self,
        *options: str,
        launcher: Sequence[str] = ("-m", "cryptfs"),
        environ: Mapping[str, str] | None = None,
        must: bool = True,
    ) -> Mount:
        """Start the daemon in the foreground and wait for the mount; `must=False` lets it die on the way."""
        self._mounts += 1
        log = self.base / f"daemon-{self._mounts}.log"
        extra: list[str] = []
        if os.geteuid() == 0:
            extra = ["-o", "allow_other"]
        for option in options:
            extra += ["-o", option]
        command = self.command("mount", NAME, str(self.point), "--foreground", *extra, launcher=launcher)
        with log.open("wb") as out:
            daemon = subprocess.Popen(command, env={**self.environ, **(environ or {})}, stdout=out, stderr=out)
        mount = Mount(self.point, daemon, log)
        ready = wait_until(lambda: self._answers(daemon), seconds=START_SECONDS, daemon=daemon)
        if must and not ready:
            mount.close()
            raise LoosedDaemon(f"no mount after {START_SECONDS} s\n{mount.said()[-6000:]}")
        return mount

    def _answers(self, daemon: "subprocess.Popen[bytes]") -> bool:
        """Mounted, and alive: the dead mount of a killed daemon may still be there, or be cleared just now."""
        if not is_mounted(self.point) or daemon.poll() is not None:
            return False
        try:
            os.statvfs(self.point)  # never answered from a cache, as stat may be for a dead mount
            return self.point.stat().st_dev != self.base.stat().st_dev
        except OSError:
            return False

    def sync(self) -> None:
        """Wait until everything is at the store."""
        self.run("sync", NAME)

    def forget_local(self) -> None:
        """Delete cache and replica (`cache/` of cryptfs/vault/home.py): then only the store is left."""
        cache = self.home / "cache"
        if not any(cache.rglob("*")):
            raise LoosedDaemon(f"no local state found under {cache}")
        shutil.rmtree(cache)


@contextlib.contextmanager
def watchdog(mount: Mount | None, seconds: float) -> Iterator[None]:
    """End a hang: a killed daemon turns waiting calls into errors, which no signal to the waiting test could do."""
    if mount is None:
        yield
        return
    timer = threading.Timer(seconds, mount.daemon.kill)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
