"""What the kernel's mount table says of our mounts; the mounts themselves are never asked: a dead one does not answer."""

import re
from pathlib import Path
from typing import Final, NamedTuple

__all__ = ["Mounted", "mounted_at", "our_mounts"]

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


def mounted_at(vault: str) -> Path | None:
    """Where the vault called `vault` is mounted, dead or alive."""
    return next((mount.point for mount in reversed(our_mounts()) if mount.vault == vault), None)


def _unescaped(field: str) -> str:
    """The kernel writes space, tab, newline and backslash as octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), field)
