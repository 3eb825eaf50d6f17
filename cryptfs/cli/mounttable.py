"""What the kernel's mount table says of our mounts, and which of them are dead."""

import errno
import re
from pathlib import Path
from typing import Final, NamedTuple

from cryptfs.vault.home import VaultHome

__all__ = ["Mounted", "dead_mount", "our_mounts", "remember_mount"]

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


def remember_mount(home: VaultHome, point: Path) -> None:
    """Note where the vault is about to be mounted, so that a killed process can be cleaned up after."""
    _note_of(home).write_text(str(point.resolve()))


def dead_mount(home: VaultHome) -> Path | None:
    """Where a process that ended without unmounting has left the vault, None if it has not.

    The table alone cannot tell: a vault of the same name may belong to another CRYPTFS_HOME, or to another user.
    """
    try:
        point = Path(_note_of(home).read_text())
    except FileNotFoundError:
        return None
    there = [mount for mount in our_mounts() if mount.point == point]
    return point if there and there[-1].vault == home.name and _is_dead(point) else None


def _note_of(home: VaultHome) -> Path:
    return home.runtime_dir / f"{home.name}.mountpoint"


def _is_dead(point: Path) -> bool:
    try:
        point.stat()
    except OSError as err:
        return err.errno == errno.ENOTCONN
    return False


def _unescaped(field: str) -> str:
    """The kernel writes space, tab, newline and backslash as octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), field)
