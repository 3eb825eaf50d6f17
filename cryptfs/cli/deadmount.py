"""Mounts that a killed process has left behind: noted when made, found again by the note and the kernel's table."""

from pathlib import Path

from cryptfs.mount.mounttable import is_dead, our_mounts
from cryptfs.vault.home import VaultHome

__all__ = ["dead_mount", "remember_mount"]


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
    return point if there and there[-1].vault == home.name and is_dead(point) else None


def _note_of(home: VaultHome) -> Path:
    return home.runtime_dir / f"{home.name}.mountpoint"
