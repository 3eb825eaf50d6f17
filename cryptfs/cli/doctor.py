"""What `cryptfs doctor` looks at: each check is one function that says what it found and what to do about it."""

import os
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from cryptfs import VERSION
from cryptfs.cli.control import Daemon
from cryptfs.cli.deadmount import dead_mount
from cryptfs.cli.drivedoctor import examine_drive
from cryptfs.cli.finding import Finding
from cryptfs.cli.options import gather_options
from cryptfs.cli.output import counted, size
from cryptfs.cli.sharing import access_from_store
from cryptfs.cli.unlocking import unlock
from cryptfs.crypto.keyfile import DeviceKeys, is_protected
from cryptfs.errors import CryptfsError, Denied
from cryptfs.format.statement import genesis_vault
from cryptfs.store import Call, Store, parse_store_url
from cryptfs.vault.home import VaultHome
from cryptfs.vault.logins import login_of
from cryptfs.vault.stores import store_beside, store_of_newcomer

__all__ = ["Finding", "examine_machine", "examine_vault"]

_STORE_SECONDS: Final = 20.0
_DISK_LOW: Final = 1 << 30
"""Bytes. A single large file may need as much for its unsent packs."""


def examine_machine() -> Iterator[Finding]:
    """Whether vaults can be mounted here at all."""
    yield Finding("cryptfs", "ok", f"{VERSION}, Python {sys.version.split()[0]}, Linux {os.uname().release}")
    yield _fuse_device()
    yield _fusermount()
    yield _privileges()
    yield _other_users()


def examine_vault(home: VaultHome, passphrase_file: Path | None) -> Iterator[Finding]:
    """Whether the vault `home` can be opened here. Nobody is asked for a passphrase."""
    home.require()
    for subject, check in _VAULT_CHECKS.items():
        try:
            yield check(subject, home)
        except (CryptfsError, OSError) as err:
            yield _failed(subject, err)
    try:
        yield from _place(home, passphrase_file)
    except (CryptfsError, OSError) as err:
        yield _failed("store", err)


def _failed(subject: str, err: CryptfsError | OSError) -> Finding:
    return Finding(subject, "fail", str(err), err.advice if isinstance(err, CryptfsError) else "Check that file.")


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


def _place(home: VaultHome, passphrase_file: Path | None) -> Iterator[Finding]:
    """The store. A login at a provider is sealed under the keys: it takes them to ask there."""
    address = home.read_settings().store
    url = parse_store_url(address)
    if url.scheme != "gdrive":
        yield _store(address, store_of_newcomer(address))
        return
    if passphrase_file is None and is_protected(home.keys_file.read_bytes()):
        yield Finding("store", "ok", f"{address}; {_as_mounted(home)}")
        return
    keys = unlock(home, passphrase_file)
    found = list(examine_drive(login_of(home, keys), url.place))
    yield from found
    if all(one.verdict != "fail" for one in found):
        yield _store(address, store_beside(address, home, keys))
        yield _access(home, keys)


def _access(home: VaultHome, keys: DeviceKeys) -> Finding:
    """Whom the provider lets in, against who is in."""
    subject, see = "Drive access", f"See `cryptfs-admin members {home.name} --access`."
    try:
        seen = access_from_store(home, keys)
    except Denied:
        return Finding(subject, "ok", "shown to accounts that may write alone")
    if seen.outsiders:
        return Finding(
            subject,
            "warn",
            f"{', '.join(one.account for one in seen.outsiders)}: nobody in the group has sent anything by it",
            f"Withdraw it in Google Drive if it is of nobody you know. {see}",
        )
    if seen.shut_out:
        return Finding(subject, "warn", f"none for the account known of {', '.join(seen.shut_out)}", see)
    return Finding(subject, "ok", f"{counted(len(seen.access), 'account')}, each of somebody in the group")


def _as_mounted(home: VaultHome) -> str:
    daemon = Daemon.find(home)
    if daemon is None:
        return "not asked: its login is sealed under the passphrase (--passphrase-file)"
    with daemon:
        return f"the mount says of it: {daemon.ask('status').get('store')}"


def _store(address: str, store: Store) -> Finding:
    try:
        call = Call.within(_STORE_SECONDS)
        vault = genesis_vault(store.get("genesis", call))
        space = store.space(call)
    finally:
        store.close()
    room = f", {size(space.free)} left" if space else ""
    return Finding("store", "ok", f"{address} answers (vault {vault.hex()[:16]}{room})")


_VAULT_CHECKS: Final[dict[str, Callable[[str, VaultHome], Finding]]] = {
    "keys": _keys,
    "options": _options,
    "mount": _mount,
    "local disk": _disk,
}
