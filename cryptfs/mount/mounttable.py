"""What the kernel's mount table says: which mounts there are, which of them are ours, whether one is dead.

The table is asked, never the mount: a dead daemon answers ENOTCONN, a stuck one not at all.
"""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

__all__ = ["Mounted", "is_dead", "mount_at", "our_mounts", "source_of"]

_TABLE: Final = Path("/proc/self/mountinfo")
_SOURCE: Final = "cryptfs:"
_ANSWER_SECONDS: Final = 5.0


class Mounted(NamedTuple):
    """One line of the table (proc(5), "mountinfo"): `device` is MAJOR:MINOR, `source` is `cryptfs:NAME` for ours."""

    number: int
    device: str
    point: Path
    kind: str
    source: str

    @property
    def vault(self) -> str:
        """The name of the vault that is mounted there, empty if it is not one of ours."""
        return self.source.removeprefix(_SOURCE) if self.source.startswith(_SOURCE) else ""


def source_of(vault: str) -> str:
    """What the table shows as the source of a mounted vault."""
    return f"{_SOURCE}{vault}"


def our_mounts() -> list[Mounted]:
    """All mounts of vaults, also other people's, in the order they were mounted."""
    return [mounted for mounted in _mounts() if mounted.vault]


def mount_at(point: Path) -> Mounted | None:
    """The topmost mount at exactly this place, None if there is none. `point` without symbolic links."""
    found = None
    for mounted in _mounts():
        if mounted.point == point:
            found = mounted
    return found


def is_dead(point: Path) -> bool:
    """Whether nobody serves the mount. Asked by a child with a time limit: a stuck mount would hold us for ever."""
    try:
        asked = subprocess.run(
            ["stat", "-t", "--", str(point)],
            capture_output=True,
            timeout=_ANSWER_SECONDS,
            check=False,
            env=os.environ | {"LC_ALL": "C"},
        )
    except subprocess.TimeoutExpired:
        return False
    return b"not connected" in asked.stderr


def _mounts() -> Iterator[Mounted]:
    for line in _TABLE.read_text(errors="surrogateescape").splitlines():
        left, _, right = line.partition(" - ")
        fields, (kind, source, *_) = left.split(" "), right.split(" ")
        yield Mounted(int(fields[0]), fields[2], Path(_unescaped(fields[4])), kind, _unescaped(source))


def _unescaped(field: str) -> str:
    """The kernel writes space, tab, newline and backslash as octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), field)
