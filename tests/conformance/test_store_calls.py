"""Names and attributes are here: who looks through a mount makes no call to the store, also on a device that is new."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from mounting import Vault, scratch

pytestmark = pytest.mark.fuse

LAUNCHER = (str(Path(__file__).with_name("counted_daemon.py")),)
LOOKS = {"list", "changes"}
"""What the background asks the store by the clock, every half minute, whether anybody uses the mount or not."""

WAYS = {
    "find with every attribute": "find . -ls",
    "find by size, time and links": "find . -size +1k -newermt 2001-01-01 -links -9 -not -name nothing",
    "ls with attributes": "ls -lR .",
    "du": "du -a .",
    "tests of names that are not there": "for d in */; do test ! -e $d/nothing; done",
}


def build(top: Path) -> None:
    """Some four hundred entries, of every kind, among them files whose manifests lie in the store."""
    for number in range(20):
        folder = top / f"d{number}/sub"
        folder.mkdir(parents=True)
        for one in range(15):
            (folder / f"f{one}").write_bytes(b"%d" % number * (one * 300))
        os.setxattr(folder, "user.note", b"kept in the tree")
    os.link(top / "d0/sub/f1", top / "twin")
    (top / "link").symlink_to("d1/sub/f2")
    os.mkfifo(top / "fifo")
    with (top / "sparse").open("wb") as file:
        for island in range(150):
            file.seek(island << 20)
            file.write(os.urandom(100))
    (top / "large").write_bytes(os.urandom(9 << 20))


class Counted:
    """A mounted vault whose store notes its calls."""

    def __init__(self, vault: Vault, notes: Path) -> None:
        self.vault, self._notes = vault, notes

    def during(self, command: str) -> list[str]:
        """Calls to the store that began while a command of the shell, which has to succeed, ran on the mount."""
        before = self.so_far()
        done = subprocess.run(["sh", "-ec", command], cwd=self.vault.point, capture_output=True, check=True)
        assert done.stderr == b""
        return self.so_far()[len(before) :]

    def so_far(self) -> list[str]:
        return self._notes.read_text().splitlines()


@pytest.fixture(scope="module")
def counted() -> Iterator[Counted]:
    """On a device that has nothing yet but what it needed to mount."""
    with scratch() as base:
        vault = Vault(base)
        vault.init()
        mount = vault.mount()
        try:
            build(vault.point)
            vault.sync()
            mount.stop()
            vault.forget_local()
            notes = base / "calls"
            mount = vault.mount(launcher=LAUNCHER, environ={"COUNTED_CALLS": str(notes)})
            vault.sync()  # it has everything that there is now
            yield Counted(vault, notes)
            mount.stop()
        finally:
            mount.close()


@pytest.mark.parametrize("command", WAYS.values(), ids=WAYS)
def test_looking_through_a_mount_makes_no_call_to_the_store(counted: Counted, command: str) -> None:
    calls = counted.during(command)
    assert [call for call in calls if call.split()[0] not in LOOKS] == []
    for _ in range(3):
        if not calls:
            return
        calls = counted.during(command)  # a look of the background may have come in between, but not every time
    assert calls == []


def test_reading_does_and_is_noticed(counted: Counted) -> None:
    assert any(call.startswith("get p/") for call in counted.during("cat large"))
