"""What `cryptfs doctor` looks at: each check is one function that says what it found and what to do about it."""

import os
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Literal, NamedTuple

from cryptfs import VERSION
from cryptfs.cli.control import Daemon
from cryptfs.cli.deadmount import dead_mount
from cryptfs.cli.options import gather_options
from cryptfs.cli.output import size
from cryptfs.crypto.keyfile import is_protected
from cryptfs.errors import CryptfsError
from cryptfs.format.statement import genesis_vault
from cryptfs.store import Call
from cryptfs.vault.home import VaultHome
from cryptfs.vault.stores import store_at

__all__ = ["Finding", "examine_machine", "examine_vault"]

Verdict = Literal["ok", "warn", "fail"]

_STORE_SECONDS: Final = 20.0
_DISK_LOW: Final = 1 << 30
"""Bytes. A single large file may need as much for its unsent packs."""


class Finding(NamedTuple):
    """One answer. `advice` is empty when all is well."""

    subject: str
    verdict: Verdict
    text: str
    advice: str = ""


def examine_machine() -> Iterator[Finding]:
    """Whether vaults can be mounted here at all."""
    yield Finding("cryptfs", "ok", f"{VERSION}, Python {sys.version.split()[0]}, Linux {os.uname().release}")
    yield _fuse_device()
    yield _fusermount()
    yield _privileges()
    yield _other_users()


def examine_vault(home: VaultHome) -> Iterator[Finding]:
    """Whether the vault `home` can be opened here, without its passphrase."""
    home.require()
    for subject, check in _VAULT_CHECKS.items():
        try:
            yield check(subject, home)
        except (CryptfsError, OSError) as err:
            advice = err.advice if isinstance(err, CryptfsError) else "Check that file."
            yield Finding(subject, "fail", str(err), advice)


def _fuse_device() -> Finding:
    device = Path("/dev/fuse")
    if not device.exists():
        return Finding(
            "/dev/fuse",
            "fail",
            "missing",
            "Load the module (`sudo modprobe fuse`); in a container: --device /dev/fuse.",
        )
    if not os.access(device, os.R_OK | os.W_OK):
        return Finding("/dev/fuse", "fail", "not open to this user", "Its mode should be 0666.")
    return Finding("/dev/fuse", "ok", "there, and open to this user")


def _fusermount() -> Finding:
    program = shutil.which("fusermount3")
    if program is None:
        return Finding("fusermount3", "fail", "missing", "Install the package fuse3.")
    if os.getuid() != 0 and not Path(program).stat().st_mode & stat.S_ISUID:
        return Finding("fusermount3", "fail", f"{program} is not setuid root", "Install the package fuse3 again.")
    return Finding("fusermount3", "ok", program)


def _privileges() -> Finding:
    """With no_new_privs set, setuid programs stay what they are: fusermount3 cannot mount (prctl(2))."""
    confined = "NoNewPrivs:\t1" in Path("/proc/self/status").read_text()
    if confined and os.getuid() != 0:
        return Finding("privileges", "fail", "this process may gain none", "Mount outside of the sandbox you are in.")
    return Finding("privileges", "ok", "fusermount3 may gain the privilege to mount")


def _other_users() -> Finding:
    allowed = os.getuid() == 0 or _fuse_conf_allows_others()
    return Finding(
        "allow_other", "ok", "permitted" if allowed else "not permitted (user_allow_other in /etc/fuse.conf)"
    )


def _fuse_conf_allows_others() -> bool:
    try:
        lines = Path("/etc/fuse.conf").read_text().splitlines()
    except OSError:
        return False
    return any(line.strip() == "user_allow_other" for line in lines)


def _keys(subject: str, home: VaultHome) -> Finding:
    mode = stat.S_IMODE(home.keys_file.stat().st_mode)
    if mode & 0o077:
        return Finding(subject, "warn", f"{home.keys_file} is open to others", f"`chmod 600 {home.keys_file}`")
    protected = is_protected(home.keys_file.read_bytes())
    return Finding(subject, "ok", "protected by a passphrase" if protected else "protected by file permissions alone")


def _options(subject: str, home: VaultHome) -> Finding:
    options = gather_options([], settings=home.read_settings().options)
    return Finding(subject, "ok", ", ".join(f"{name}={value}" for name, value in options.items()) or "defaults")


def _mount(subject: str, home: VaultHome) -> Finding:
    daemon = Daemon.find(home)
    if daemon is not None:
        with daemon:
            return Finding(subject, "ok", f"at {daemon.ask('ping').get('mountpoint')} (pid {daemon.pid})")
    if dead := dead_mount(home):
        return Finding(subject, "warn", f"a killed process left one at {dead}", f"`cryptfs umount {home.name}`")
    return Finding(subject, "ok", "not mounted")


def _disk(subject: str, home: VaultHome) -> Finding:
    free = shutil.disk_usage(home.data_dir).free
    if free < _DISK_LOW:
        return Finding(subject, "warn", f"{size(free)} left for unsent changes", "Free some space there.")
    return Finding(subject, "ok", f"{size(free)} left in {home.data_dir}")


def _store(subject: str, home: VaultHome) -> Finding:
    settings = home.read_settings()
    store = store_at(settings.store)
    try:
        call = Call.within(_STORE_SECONDS)
        vault = genesis_vault(store.get("genesis", call))
        space = store.space(call)
    finally:
        store.close()
    room = f", {size(space.free)} left" if space else ""
    return Finding(subject, "ok", f"{settings.store} answers (vault {vault.hex()[:16]}{room})")


_VAULT_CHECKS: Final[dict[str, Callable[[str, VaultHome], Finding]]] = {
    "keys": _keys,
    "options": _options,
    "mount": _mount,
    "local disk": _disk,
    "store": _store,
}
