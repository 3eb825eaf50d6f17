"""Several devices with one vault mounted at once: real daemons, one store directory, a CRYPTFS_HOME and a mount each.

Every device reaches the store by a path of its own (a symbolic link), so that it can be cut off from it while others go
on. Waiting is by the question that `cryptfs sync` asks the mount: it is answered when what was written is in the store,
what the store has is here, and the kernel was told of it.
"""

import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.conformance.mounting import NAME, LoosedDaemon, Mount, Vault
from tests.conformance.snapshot import Entry, differences, snapshot

__all__ = ["Device", "Fleet", "comparable"]

_ANSWER_SECONDS = 240.0
_ADMIN = Path(sys.executable).with_name("cryptfs-admin")


class Device(Vault):
    """One device. `via` is its own way to the store; `mount` is what runs now."""

    def __init__(self, base: Path, name: str, store: Path) -> None:
        base.mkdir()
        self.name = name
        self.via = base / "via"
        self.via.symlink_to(store)
        super().__init__(base, store=self.via)
        self.home.mkdir()
        self.point.mkdir()
        self.running: Mount | None = None

    def admin(self, *args: str) -> str:
        """Run `cryptfs-admin ARGS`, which has to succeed; returns what it printed."""
        done = subprocess.run(
            [str(_ADMIN), *args], env=self.environ, capture_output=True, text=True, timeout=240, check=False
        )
        if done.returncode:
            raise LoosedDaemon(f"cryptfs-admin {' '.join(args)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def ask(self, command: str) -> dict[str, Any]:
        """Say one line to the control socket, as the commands do; returns the last answer."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(_ANSWER_SECONDS)
            client.connect(str(next(self.home.rglob(f"{NAME}.sock"))))
            client.sendall(json.dumps({"cmd": command}).encode() + b"\n")
            with client.makefile() as lines:
                for line in lines:
                    answer: dict[str, Any] = json.loads(line)
                    if "progress" not in answer:
                        return answer
        raise LoosedDaemon(f"{self.name}: no answer to {command}")

    def sync(self) -> None:
        """What `cryptfs sync` does, without the start of a program."""
        answer = self.ask("sync")
        if not answer["ok"]:
            raise LoosedDaemon(f"{self.name} cannot sync: {answer['error']}")

    def start(self) -> None:
        """Mount, also after a crash."""
        self.running = self.mount()

    def stop(self) -> None:
        """Unmount; what was said at level ERROR fails here."""
        if self.running is not None:
            running, self.running = self.running, None
            running.stop()

    def crash(self) -> None:
        """SIGKILL; the dead mount is left for the next start to clear."""
        assert self.running is not None
        self.running.leave_dead()

    def close(self) -> None:
        """End whatever runs."""
        if self.running is not None:
            self.running.close()

    @contextmanager
    def cut_off(self) -> Iterator[None]:
        """Inside, this device does not reach the store."""
        target = self.via.readlink()
        self.via.unlink()
        try:
            yield
        finally:
            self.via.symlink_to(target)

    def path(self, relative: str) -> Path:
        """A path on its mount."""
        return self.point / relative

    def tree(self) -> dict[bytes, Entry]:
        """Everything on its mount, as far as devices have to agree about it."""
        return comparable(snapshot(self.point))


class Fleet:
    """Devices of one group. The first founds the vault and lets the others in."""

    def __init__(self, base: Path, names: tuple[str, ...]) -> None:
        self.base = base
        store = base / "store"
        store.mkdir()
        self.devices = {name: Device(base / name, name, store) for name in names}
        self.store = store
        first, *others = self.devices.values()
        first.run("init", NAME, f"file://{first.via}", "--no-passphrase", "--no-recovery", "--device-label", first.name)
        first.start()
        for one in others:
            self._let_in(first, one)

    def _let_in(self, first: Device, one: Device) -> None:
        person = one.name.title()
        token = first.admin("invite", NAME, "--role", "writer", "--name", person).strip()
        one.run("join", token, NAME, "--no-passphrase", "--no-wait", "--store", f"file://{one.via}")
        first.admin("approve", NAME, person, "--yes")
        one.start()

    def __getitem__(self, name: str) -> Device:
        return self.devices[name]

    def exchange(self) -> None:
        """Have every device send what it has, then take in what the others sent.

        Twice: a change that meets another's may make its device say something more (a file that was conflicted).
        """
        for _ in range(2):
            for one in self.devices.values():
                one.sync()
        for one in self.devices.values():
            one.sync()

    def settle(self) -> dict[bytes, Entry]:
        """The one tree that all agree on once everything was exchanged. No file may be open."""
        self.exchange()
        return self.agreed()

    def agreed(self) -> dict[bytes, Entry]:
        """The tree of all; AssertionError with what differs."""
        first, *others = self.devices.values()
        tree = first.tree()
        for one in others:
            found = differences(tree, one.tree())
            assert not found, f"{first.name} and {one.name} do not agree:\n" + "\n".join(found)
        return tree

    def close(self) -> None:
        """End all, judged."""
        try:
            for one in self.devices.values():
                one.stop()
        finally:
            for one in self.devices.values():
                one.close()


def comparable(tree: dict[bytes, Entry]) -> dict[bytes, Entry]:
    """Times of directories are each device's own (docs/mount.md, "POSIX notes"); all else has to agree."""
    return {path: one._replace(mtime_ns=0) if one.kind == "d" else one for path, one in tree.items()}


def copies_of(tree: dict[bytes, Entry], name: str) -> list[bytes]:
    """Conflicted copies of a file, by path."""
    stem, dot, ending = name.rpartition(".")
    if not dot:
        stem, ending = ending, ""
    pattern = re.escape(stem) + r" \(.* conflicted copy .*\)" + re.escape(dot + ending)
    return [path for path in tree if re.fullmatch(pattern.encode(), path)]
