"""What the kernel's mount table says of our mounts, and which of them are dead."""

import errno
import re
from pathlib import Path
from typing import Final, NamedTuple

__all__ = ["Mounted", "dead_mounts", "our_mounts"]

_TABLE: Final = Path("/proc/self/mountinfo")
_SOURCE: Final = "cryptfs:"
"""The mount source is `cryptfs:NAME`."""


class Mounted(NamedTuple):
    """One line of the table: which vault, and where."""

    vault: str
    point: Path


def our_mounts() -> list[Mounted]:
    """All mounts of vaults, in the order they were mounted (proc(5), "mountinfo")."""
    found = []
    for line in _TABLE.read_text(errors="surrogateescape").splitlines():
        left, _, right = line.partition(" - ")
        source = _unescaped(right.split(" ")[1])
        if source.startswith(_SOURCE):
            found.append(Mounted(source.removeprefix(_SOURCE), Path(_unescaped(left.split(" ")[4]))))
    return found


def dead_mounts(vault: str) -> list[Path]:
    """Where a process that ended without unmounting has left the vault called `vault`.

    A living mount of that name may belong to another CRYPTFS_HOME, so it is not counted: only its process can tell.
    """
    return [mount.point for mount in our_mounts() if mount.vault == vault and _is_dead(mount.point)]


def _is_dead(point: Path) -> bool:
    try:
        point.stat()
    except OSError as err:
        return err.errno == errno.ENOTCONN
    return False


def _unescaped(field: str) -> str:
    """The kernel writes space, tab, newline and backslash as octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), field)
