"""The file systems that are compared: made new below a directory, mounted, made cold, ended.

Nothing here imports cryptfs; each is driven by its commands, with the options its users get by default.
"""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "conformance"))

from mounting import Mount, Vault, is_mounted, wait_until

__all__ = ["FILE_SYSTEMS", "Bare", "FileSystem", "drop_caches"]

PASSWORD = "benchmark"  # protects nothing: the files are random and deleted afterwards


def drop_caches() -> bool:
    """Empty the kernel's page, entry and inode caches; False when that is not allowed."""
    os.sync()
    try:
        Path("/proc/sys/vm/drop_caches").write_text("3")
    except OSError:
        return False
    return True


class FileSystem:
    """One of the compared. `top` is where files are written once `start` has returned."""

    name = ""
    programs: tuple[str, ...] = ()

    def __init__(self, base: Path) -> None:
        self.base, self.point, self.cipher = base, base / "mnt", base / "cipher"
        for path in (self.point, self.cipher):
            path.mkdir(parents=True)

    @classmethod
    def missing(cls) -> list[str]:
        """Programs that must be installed first."""
        return [program for program in cls.programs if shutil.which(program) is None]

    @property
    def top(self) -> Path:
        return self.point

    def start(self) -> None:
        """Make it and mount it."""
        self.create()
        self.mount()

    def create(self) -> None:
        raise NotImplementedError

    def mount(self) -> None:
        raise NotImplementedError

    def unmount(self) -> None:
        os.chdir("/")
        program = "fusermount3" if shutil.which("fusermount3") else "fusermount"
        for _ in range(50):
            if subprocess.run([program, "-u", str(self.point)], check=False, capture_output=True).returncode == 0:
                break
            os.sync()
        else:
            raise RuntimeError(f"{self.name} cannot be unmounted")
        wait_until(lambda: not is_mounted(self.point), seconds=30)

    def make_cold(self) -> None:
        """A new process with empty caches, and empty kernel caches where allowed."""
        self.unmount()
        drop_caches()
        self.mount()

    def stop(self) -> None:
        """End it whatever its state; its files are deleted by whoever owns `base`."""
        os.chdir("/")
        if is_mounted(self.point):
            subprocess.run(["fusermount3", "-uz", str(self.point)], check=False, capture_output=True)

    def pid(self) -> int:
        """Of the daemon, 0 if there is none."""
        return 0

    def figures(self) -> dict[str, float]:
        """CPU seconds and largest resident MiB of the daemon so far."""
        with contextlib.suppress(OSError, ValueError):
            fields = Path(f"/proc/{self.pid()}/stat").read_text().rsplit(") ", 1)[1].split()
            status = Path(f"/proc/{self.pid()}/status").read_text()
            peak = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
            ticks = os.sysconf("SC_CLK_TCK")
            return {"cpu_s": (int(fields[11]) + int(fields[12])) / ticks, "rss_mib": int(peak) / 1024}
        return {}

    def _run(self, *command: str | Path, text: str = "") -> None:
        subprocess.run(list(map(str, command)), input=text, text=True, check=True, capture_output=True)

    def _find(self, word: str) -> int:
        """The process whose command line holds our mount point and `word`."""
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                command = (process / "cmdline").read_bytes()
                if os.fsencode(self.point) in command and word.encode() in command:
                    return int(process.name)
        return 0


class Bare(FileSystem):
    """The directory below, without anything: what the machine can do."""

    name = "bare"

    @property
    def top(self) -> Path:
        return self.cipher

    def start(self) -> None:
        pass

    def make_cold(self) -> None:
        drop_caches()

    def stop(self) -> None:
        pass


class Gocryptfs(FileSystem):
    """gocryptfs with its defaults (AES-256-GCM, 4 KiB blocks, names encrypted)."""

    name = "gocryptfs"
    programs = ("gocryptfs",)

    def create(self) -> None:
        (self.base / "pass").write_text(PASSWORD)
        self._run("gocryptfs", "-q", "-init", "-scryptn", "10", "-passfile", self.base / "pass", self.cipher)

    def mount(self) -> None:
        # Its output is inherited by the daemon: a pipe would never close.
        command = ["gocryptfs", "-q", "-passfile", str(self.base / "pass"), str(self.cipher), str(self.point)]
        with (self.base / "log").open("ab") as log:
            subprocess.run(command, check=True, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def pid(self) -> int:
        return self._find("gocryptfs")


class Encfs(FileSystem):
    """encfs in its standard mode."""

    name = "encfs"
    programs = ("encfs",)

    def create(self) -> None:
        pass

    def mount(self) -> None:
        command = ["encfs", "--standard", "--stdinpass", str(self.cipher), str(self.point)]
        with (self.base / "log").open("ab") as log:
            subprocess.run(command, input=PASSWORD.encode(), check=True, stdout=log, stderr=log)

    def pid(self) -> int:
        return self._find("encfs")


class Securefs(FileSystem):
    """securefs in its default (lite) format."""

    name = "securefs"
    programs = ("securefs",)

    def create(self) -> None:
        self._run("securefs", "create", "--pass", PASSWORD, "-r", "1", self.cipher)

    def mount(self) -> None:
        command = ["securefs", "mount", "-b", "--pass", PASSWORD, "--log", str(self.base / "log")]
        with (self.base / "out").open("ab") as out:
            subprocess.run([*command, str(self.cipher), str(self.point)], check=True, stdout=out, stderr=out)
        wait_until(lambda: is_mounted(self.point), seconds=20)

    def pid(self) -> int:
        return self._find("securefs")


class Cryptfs(FileSystem):
    """cryptfs on a directory store beside its local state."""

    name = "cryptfs"
    options: tuple[str, ...] = ()

    def __init__(self, base: Path) -> None:
        super().__init__(base)
        self.vault = Vault(base, store=self.cipher)
        self.running: Mount | None = None

    def create(self) -> None:
        self.vault.init()

    def mount(self) -> None:
        self.running = self.vault.mount(*self.options)

    def unmount(self) -> None:
        os.chdir("/")
        if self.running is not None:
            self.running.stop()

    def stop(self) -> None:
        if self.running is not None:
            self.running.close()

    def pid(self) -> int:
        return self.running.daemon.pid if self.running is not None else 0


class CryptfsNoXattr(Cryptfs):
    """The same without extended attributes: no request for `security.capability` at each write."""

    name = "cryptfs-noxattr"
    options = ("noxattr",)


FILE_SYSTEMS: dict[str, Callable[[Path], FileSystem]] = {
    kind.name: kind for kind in (Cryptfs, CryptfsNoXattr, Gocryptfs, Encfs, Securefs, Bare)
}
