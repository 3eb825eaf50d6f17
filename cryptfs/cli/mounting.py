"""`cryptfs mount` and `umount`: a vault's way into the file system and out of it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from cryptfs.cli import background
from cryptfs.cli.arguments import json_option, passphrase_option, vault_argument
from cryptfs.cli.cards import find_pin, pin_is_elsewhere
from cryptfs.cli.control import Answer, Daemon
from cryptfs.cli.deadmount import dead_mount, remember_mount
from cryptfs.cli.options import gather_options
from cryptfs.cli.output import document, line, note, size
from cryptfs.cli.unlocking import find_passphrase, unlock
from cryptfs.crypto.keyfile import decode, is_on_token, is_protected
from cryptfs.errors import InUse, NoSuchVault, UsageError
from cryptfs.mount.mountpoint import unmount
from cryptfs.mount.mounttable import our_mounts
from cryptfs.vault.home import VaultHome, known_vaults
from cryptfs.vault.tokenuri import parse_token_uri

__all__ = ["mount", "umount"]

_END_SECONDS: Final = 90.0
"""The mount process has written everything by then (systemd, TimeoutStopSec, gives it as long)."""

_OPTIONS_HELP: Final = """\b
Options for -o, which may also stand in NAME.toml, or in the environment as CRYPTFS_OPTION:
  ro            read only
  allow_other   other users may use it, as far as the modes of the files let them
  noatime       and relatime, strictatime, nodiratime
  noxattr       no extended attributes, which makes writing faster
  fsync=remote  fsync(2) waits for the store
  cache_size=N  bytes of local cache (K, M, G, T)
  spool_size=N  bytes that may wait for the store
  history_days=N   days that old versions and the trash are kept (administrators)
  collect_hours=N  hours between everybody's word that a pack is unused and its end
  log_days=N       days that log objects stay which two checkpoints stand for; as long as history in any case
  custodian     take over packs that others hold, once they are a day old (administrators)
  nonempty      on a directory that is not empty, whose files are then hidden
  real_owner    show owners as they are stored, not as you
  log_level=L   error, warning, info, debug
  debug         log every request
"""


@click.command(short_help="Mount a vault.", epilog=_OPTIONS_HELP)
@vault_argument()
@click.argument("mountpoint", required=False, type=click.Path(path_type=Path))
@click.option("-f", "--foreground", is_flag=True, help="Stay in the foreground until it is unmounted.")
@click.option("-o", "texts", multiple=True, metavar="OPTION[,…]", help="Mount options, as in mount(8) and fstab.")
@click.option("--read-only", is_flag=True, help="The same as -o ro.")
@click.option("--allow-other", is_flag=True, help="The same as -o allow_other.")
@passphrase_option()
def mount(
    *,
    name: str,
    mountpoint: Path | None,
    foreground: bool,
    texts: tuple[str, ...],
    read_only: bool,
    allow_other: bool,
    passphrase_file: Path | None,
) -> None:
    """Mount the vault NAME at MOUNTPOINT (~/Cryptfs/NAME)."""
    home = VaultHome.of(name)
    home.require()
    settings = home.read_settings()
    given = [*texts, *(["ro"] if read_only else []), *(["allow_other"] if allow_other else [])]
    options = gather_options(given, settings=settings.options)
    point = place_for(home, mountpoint)
    if foreground:
        from cryptfs.mount.daemon import serve  # noqa: PLC0415  # pyfuse3, which no other command needs

        keys = unlock(home, passphrase_file)
        home.create_dirs()
        remember_mount(home, point)
        serve(home, keys, settings.store, point, options)
        return
    passphrase = None
    if is_protected(home.keys_file.read_bytes()):
        passphrase = find_passphrase(passphrase_file, name)
    mount_apart(home, point, given, passphrase)
    line(f"'{name}' is mounted at {point}.")


def place_for(home: VaultHome, mountpoint: Path | None) -> Path:
    """Where to mount. Raises InUse, UsageError if the vault is mounted already or the place is taken."""
    point = (mountpoint or home.default_mount_point).expanduser().absolute()
    if mountpoint is None:
        point.mkdir(mode=0o700, parents=True, exist_ok=True)
    _refuse_second_mount(home)
    _refuse_taken_place(point, home.name)
    return point


def mount_apart(home: VaultHome, point: Path, given: Sequence[str], passphrase: bytes | None) -> None:
    """Mount in a process of its own; `given` are texts of `-o`. Returns when it is mounted."""
    home.create_dirs()
    pin = _pin_for(home, passphrase)
    background.start(home, [home.name, str(point), *(word for text in given for word in ("-o", text))], passphrase, pin)


def _pin_for(home: VaultHome, passphrase: bytes | None) -> bytes | None:
    """The PIN of a token, typed here for the process in the background; None if it finds one itself, or needs none."""
    data = home.keys_file.read_bytes()
    if not is_on_token(data):
        return None
    where = parse_token_uri(decode(data, passphrase).token)
    return None if pin_is_elsewhere(where) else find_pin(where)


def _refuse_second_mount(home: VaultHome) -> None:
    daemon = Daemon.find(home)
    if daemon is not None:
        with daemon:
            point = daemon.ask("ping").get("mountpoint")
            raise InUse(
                f"'{home.name}' is mounted at {point} already (pid {daemon.pid}).",
                f"Use it there, or unmount it first: `cryptfs umount {home.name}`.",
            )


def _refuse_taken_place(point: Path, name: str) -> None:
    """The kernel would mount one vault over another, and hide it."""
    taken = [mounted.vault for mounted in our_mounts() if mounted.point == point and mounted.vault != name]
    if taken:
        raise InUse(f"'{taken[-1]}' is mounted at {point}.", f"Choose another directory, or `cryptfs umount {point}`.")


@click.command(short_help="Unmount a vault (also: unmount).")
@click.argument("target", metavar="NAME|MOUNTPOINT")
@click.option("--lazy", is_flag=True, help="Detach it now, even if files are open; it ends when the last is closed.")
@json_option()
def umount(*, target: str, lazy: bool, as_json: bool) -> None:
    """Unmount a vault. Its changes are safe on this machine; what is not sent yet will be at the next mount."""
    home = _vault_of(target)
    daemon = Daemon.find(home)
    if daemon is None:
        answer: Answer = {}
        _clear_dead_mount(home)
    else:
        with daemon:
            answer = daemon.ask("umount", patience=None, lazy=lazy)
            if not lazy:
                daemon.wait_for_end(_END_SECONDS)
    answer.pop("ok", None)
    if as_json:
        document({"name": home.name, **answer})
        return
    line(f"'{home.name}' is unmounted.")
    left = int(answer.get("pending_bytes", 0))
    if left:
        note(f"{size(left)} are still to be sent; `cryptfs sync {home.name}` does it.")


def _vault_of(target: str) -> VaultHome:
    """The vault that `target` names, or that is mounted there."""
    if target in known_vaults():
        return VaultHome.of(target)
    point = Path(target).expanduser().absolute()
    for mounted in reversed(our_mounts()):
        if mounted.point == point:
            return VaultHome.of(mounted.vault)
    if "/" in target:
        raise UsageError(f"Nothing of cryptfs is mounted at {target}.", "`cryptfs list` shows what is mounted where.")
    raise NoSuchVault(f"There is no vault called '{target}' on this device.")


def _clear_dead_mount(home: VaultHome) -> None:
    """Remove what a killed process has left. Raises UsageError if there is nothing of the kind."""
    dead = dead_mount(home)
    if dead is None:
        raise UsageError(f"'{home.name}' is not mounted.", "`cryptfs list` shows what is mounted where.")
    unmount(dead, lazy=True)
