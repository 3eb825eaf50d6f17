"""The place in the file system where a vault is mounted: whether it will do, and how it is freed."""

import contextlib
import os
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Final

from cryptfs.errors import ConfigError, InUse, NotAllowed, UsageError
from cryptfs.mount.mounttable import Mounted, is_dead, mount_at

__all__ = ["prepare", "raise_read_ahead", "unmount"]

_DEVICE: Final = Path("/dev/fuse")
_READ_AHEAD_KIB: Final = 1024
_UNMOUNT_SECONDS: Final = 60.0


def prepare(point: Path, name: str, *, nonempty: bool) -> Path:
    """Make sure the vault `name` can be mounted at `point`; returns it without symbolic links.

    Clears a dead mount of this vault. Raises ConfigError, InUse, NotAllowed, UsageError, each with advice.
    """
    _require_device()
    point = Path(os.path.realpath(point.parent)) / point.name
    there = mount_at(point)
    if there is None:
        point = Path(os.path.realpath(point))
        there = mount_at(point)
    if there is not None and there.vault == name:
        if not is_dead(point):
            raise InUse(f"'{name}' is mounted at {point} already.", f"Use it, or `cryptfs umount {name}` first.")
        unmount(point, lazy=True)
    elif there is not None and there.kind.startswith("fuse") and is_dead(point):
        raise InUse(f"{point} holds a dead mount of {there.source}.", f"Clear it: `fusermount3 -uz {point}`.")
    try:
        kind = point.stat().st_mode
        with os.scandir(point) as entries:
            empty = nonempty or next(entries, None) is None
    except FileNotFoundError as err:
        raise UsageError(f"There is no directory {point}.", f"Make it: `mkdir -p {point}`.") from err
    except PermissionError as err:
        raise NotAllowed(f"{point} cannot be read.", "Choose a directory of your own.") from err
    except NotADirectoryError as err:
        raise UsageError(f"{point} is not a directory.", "Choose an empty directory.") from err
    if not stat.S_ISDIR(kind):
        raise UsageError(f"{point} is not a directory.", "Choose an empty directory.")
    if not empty:
        raise UsageError(
            f"{point} is not empty; what is in it would be hidden.", "Choose an empty directory, or -o nonempty."
        )
    return point


def _require_device() -> None:
    if not _DEVICE.exists():
        raise ConfigError(
            "This machine has no /dev/fuse.", "Load the module (`sudo modprobe fuse`); a container needs --device."
        )
    if not os.access(_DEVICE, os.R_OK | os.W_OK):
        raise NotAllowed("/dev/fuse may not be opened by you.", "Ask the administrator for access to /dev/fuse.")


def unmount(point: Path, *, lazy: bool = False) -> None:
    """Unmount what is at `point`. Waits for the kernel, so never on the thread that serves the mount.

    Raises InUse if files there are open and it is not `lazy`, ConfigError without the program for it.
    """
    program = shutil.which("fusermount3")
    if program is not None:
        command = [program, "-uz" if lazy else "-u", str(point)]
    elif os.geteuid() == 0:
        command = ["umount", "-l" if lazy else "--", str(point)]
    else:
        raise ConfigError("There is no program fusermount3.", "Install the package fuse3.")
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_UNMOUNT_SECONDS, check=False)
    except subprocess.TimeoutExpired as err:
        raise InUse(f"{point} does not let itself be unmounted.", f"Try `fusermount3 -uz {point}`.") from err
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise InUse(
            f"{point} cannot be unmounted: {reason[0]}",
            f"Close what uses it (`fuser -vm {point}` shows it), or use --lazy.",
        )


def raise_read_ahead(mounted: Mounted) -> None:
    """Let the kernel read 1 MiB ahead: cold sequential reads gain a quarter. Silently nothing for ordinary users."""
    with contextlib.suppress(OSError):
        Path(f"/sys/class/bdi/{mounted.device}/read_ahead_kb").write_text(str(_READ_AHEAD_KIB))
