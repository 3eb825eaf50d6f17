"""The place in the file system: what the kernel's table says of it, whether it will do, how it is freed.

The table is asked, never the mount: a dead daemon answers ENOTCONN, a stuck one not at all.
"""

import contextlib
import os
import re
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Final, NamedTuple

from cryptfs.errors import ConfigError, InUse, NotAllowed, UsageError

__all__ = ["Mounted", "mount_at", "prepare", "raise_read_ahead", "unmount"]

_TABLE: Final = Path("/proc/self/mountinfo")
_DEVICE: Final = Path("/dev/fuse")
_READ_AHEAD_KIB: Final = 1024
_ANSWER_SECONDS: Final = 5.0
_UNMOUNT_SECONDS: Final = 60.0


class Mounted(NamedTuple):
    """One line of the table (proc(5), "mountinfo"): `device` is MAJOR:MINOR, `source` is `cryptfs:NAME` for ours."""

    number: int
    device: str
    point: Path
    kind: str
    source: str


def mount_at(point: Path) -> Mounted | None:
    """The topmost mount at exactly this place, None if there is none. `point` without symbolic links."""
    found = None
    for line in _TABLE.read_text(errors="surrogateescape").splitlines():
        left, _, right = line.partition(" - ")
        fields, (kind, source, *_) = left.split(" "), right.split(" ")
        if _unescaped(fields[4]) == str(point):
            found = Mounted(int(fields[0]), fields[2], point, kind, _unescaped(source))
    return found


def _unescaped(field: str) -> str:
    """The kernel writes space, tab, newline and backslash as octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), field)


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
    if there is not None and there.source == f"cryptfs:{name}":
        if not _is_dead(point):
            raise InUse(f"'{name}' is mounted at {point} already.", f"Use it, or `cryptfs umount {name}` first.")
        unmount(point, lazy=True)
    elif there is not None and there.kind.startswith("fuse") and _is_dead(point):
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


def _is_dead(point: Path) -> bool:
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
