"""`cryptfs join` and `leave`: a device comes in, or goes for good."""

import re
import shutil
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click
import trio

from cryptfs.cli.arguments import json_option, passphrase_option, vault_argument
from cryptfs.cli.asking import agree, yes_option
from cryptfs.cli.control import require_unmounted
from cryptfs.cli.inviting import NAMELESS
from cryptfs.cli.loggingin import need_login
from cryptfs.cli.mounting import mount_apart, place_for
from cryptfs.cli.opening import open_here
from cryptfs.cli.output import document, line, note, safe
from cryptfs.cli.ownpair import pair_options, read_pair
from cryptfs.cli.paperwords import read_phrases
from cryptfs.cli.unlocking import ask_new_passphrase, find_passphrase, unlock
from cryptfs.crypto import keyfile
from cryptfs.crypto.certificate import judge_pinned
from cryptfs.crypto.keyfile import DeviceKeys, KeyPair, is_protected
from cryptfs.crypto.keys import LocalSecret, new_sign_seed, random_bytes
from cryptfs.crypto.selfsigned import make_certificate
from cryptfs.errors import ConfigError, NotAllowed, NotFound, NotLetIn, StoreError, UsageError
from cryptfs.faults import Faults
from cryptfs.format.join import Token, decode_token
from cryptfs.group.membership import Membership
from cryptfs.store.drive.clientid import split_locator
from cryptfs.vault.disk import local_disk
from cryptfs.vault.home import VaultHome, known_vaults
from cryptfs.vault.joining import Joining, look, words_of
from cryptfs.vault.leaving import leave_vault
from cryptfs.vault.logins import adopt_login
from cryptfs.vault.recovering import check_recovery
from cryptfs.vault.sealedfile import write_durably
from cryptfs.vault.stores import settle_address, store_beside, store_of_newcomer
from cryptfs.vault.upload import Sender

__all__ = ["at_store", "join", "leave", "make_keys", "settle"]

_DISPLAY_MAX: Final = 64
_LOOK_SECONDS: Final = (1.0, 15.0)
"""First and longest pause between two looks for the approval."""


@click.command(short_help="Ask to be let into a vault.")
@click.argument("token")
@click.argument("name", required=False)
@click.option("--display-name", default="", help="What other members, and the provider, see of you.")
@click.option("--device-label", default="device", show_default=True, help="What they see of this device.")
@click.option("--store", "address", help="Where the folder is on this machine, if not where the inviter has it.")
@click.option("--wait/--no-wait", default=None, help="Wait until somebody approves. Default: on a terminal.")
@click.option("--mount", is_flag=True, help="Wait, and mount it then, at ~/Cryptfs/NAME.")
@click.option("--mountpoint", type=click.Path(path_type=Path), help="Wait, and mount it there then.")
@click.option("--no-passphrase", is_flag=True, help="Protect the keys of this device by file permissions alone.")
@pair_options()
@json_option()
@passphrase_option()
def join(
    *,
    token: str,
    name: str | None,
    display_name: str,
    device_label: str,
    address: str | None,
    wait: bool | None,
    mount: bool,
    mountpoint: Path | None,
    no_passphrase: bool,
    cert: Path | None,
    key: str | None,
    as_json: bool,
    passphrase_file: Path | None,
) -> None:
    """Ask to be let into the vault that TOKEN leads to, and call it NAME on this device.

    Makes keys for this device, posts a request, and shows nine words by which an administrator can know it. A second
    device of a member joins in the same way. Run it again to go on waiting.
    """
    ticket = decode_token(token)
    brought = read_pair(cert, key)
    place, client = split_locator(address or ticket.locator)
    name = name or _waiting_at(place)
    if name is not None and place.startswith("gdrive:") and VaultHome.of(name).exists():
        url = VaultHome.of(name).read_settings().store  # asked for already, and its login is sealed
    else:
        need_login(place, client, token)
        url = settle_address(place)
    name = name or trio.run(_name_in, ticket, url)
    home = VaultHome.of(name)
    point = place_for(home, mountpoint) if mount or mountpoint is not None else None
    passphrase = None
    if home.exists():
        keys = _known_keys(home, ticket, brought, passphrase_file)
    else:
        display = display_name or _ask_display(cert)
        keys = make_keys(ticket.vault, display, brought, by_certificate=brought is not None and not ticket.secret)
        trio.run(_look_first, url, keys)
        passphrase = None if no_passphrase else ask_new_passphrase(passphrase_file)
        settle(home, url, keys, passphrase)
        Joining(home, keys).prepare(ticket, display, device_label, time.time_ns() // 1_000_000)
    waiting = (sys.stderr.isatty() or point is not None) if wait is None else wait
    inside = trio.run(_ask, home, url, keys, waiting)
    if inside and point is not None:
        if passphrase is None and is_protected(home.keys_file.read_bytes()):
            passphrase = find_passphrase(passphrase_file, name)
        mount_apart(home, point, (), passphrase)
    if as_json:
        words = " ".join(words_of(keys)) if keys.sign_seed else ""
        document({"name": name, "state": "in" if inside else "waiting", "words": words})
    elif inside:
        where = f"'{name}' is mounted at {point}." if point else f"Mount the vault with `cryptfs mount {name}`."
        line(f"This device is in. {where}")
    else:
        line(f"The request is in the folder. Once it is approved, mount the vault with `cryptfs mount {name}`.")


def _waiting_at(place: str) -> str | None:
    """The vault of this device that lies at `place` on Google Drive, from an earlier attempt."""
    if not place.startswith("gdrive:"):
        return None
    return next((name for name in known_vaults() if VaultHome.of(name).read_settings().store == place), None)


def _known_keys(home: VaultHome, ticket: Token, brought: KeyPair | None, passphrase_file: Path | None) -> DeviceKeys:
    """The keys of an earlier attempt.

    Raises UsageError if they are another vault's or not the ones `brought`, or this device is in already.
    """
    keys = unlock(home, passphrase_file)
    if keys.vault != ticket.vault:
        raise UsageError(f"There is another vault called '{home.name}' on this device.", "Give this one another NAME.")
    if Joining(home, keys).token is None:
        raise UsageError(f"This device is in the vault '{home.name}' already.", f"Use `cryptfs mount {home.name}`.")
    if brought is not None and brought.cert_der != keys.cert_der:
        raise UsageError(
            "This device has asked already, with another certificate.",
            f"`cryptfs leave {home.name}` forgets that; then join by a new invitation.",
        )
    return keys


def _ask_display(cert: Path | None) -> str:
    if cert is not None or not sys.stdin.isatty():
        return NAMELESS
    typed: str = click.prompt("What shall the others call you", err=True)
    return typed


def make_keys(
    vault: bytes, display: str, brought: KeyPair | None = None, *, by_certificate: bool = False
) -> DeviceKeys:
    """Keys for a device that is not in yet.

    `brought`: its certificate, by default a new one; `by_certificate`: its signing key comes with its
    admission. Raises UsageError for a name that no certificate takes.
    """
    if not 1 <= len(display) <= _DISPLAY_MAX or not display.isprintable():
        raise UsageError(f"A display name has 1 to {_DISPLAY_MAX} characters.", "Choose another one.")
    now = datetime.now(UTC)
    pair = brought or KeyPair(*make_certificate(display, now))
    judge_pinned(pair.cert_der, now)
    seed = b"" if by_certificate else new_sign_seed()
    local = LocalSecret(random_bytes(32))
    return DeviceKeys(vault, bytes(32), pair.pkcs8, pair.cert_der, seed, local, token=pair.token, held=pair.at_hand)


def settle(home: VaultHome, url: str, keys: DeviceKeys, passphrase: bytes | None) -> None:
    """Keys, settings and login of the new vault on this disk, before anything is asked for with them."""
    home.create_dirs()
    home.write_settings(url)
    adopt_login(home, keys, url)
    write_durably(home.keys_file, keyfile.encode(keys, passphrase))


# ---- at the store ----------------------------------------------------------------------------------------------------


@asynccontextmanager
async def at_store(url: str, home: VaultHome | None = None, keys: DeviceKeys | None = None) -> AsyncIterator[Sender]:
    """The store at `url`, for commands that have no vault open. Without `home` and `keys`: of a vault to come."""
    sender = Sender(store_of_newcomer(url) if home is None or keys is None else store_beside(url, home, keys), Faults())
    try:
        yield sender
    finally:
        sender.give_up()
        sender.store.close()


async def _name_in(ticket: Token, url: str) -> str:
    """What the vault calls itself, as a name that every file system takes."""
    membership = await _look_first(url, make_keys(ticket.vault, "nobody"))
    genesis = membership.graph.genesis
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", genesis.name if genesis is not None else "").strip("-._")[:64]
    if not name:
        raise UsageError("The vault has no name that could be used here.", "Give it one: `cryptfs join TOKEN NAME`.")
    return name


async def _look_first(url: str, keys: DeviceKeys) -> Membership:
    """What is in the folder. Raises ConfigError if it is not the vault of the token."""
    async with at_store(url) as sender:
        try:
            membership = await look(sender, keys)
        except NotFound as err:
            raise _elsewhere(url) from err
        except StoreError as err:
            raise ConfigError(f"The folder of the vault cannot be reached: {err}", _SAY_WHERE) from err
    if membership.graph.genesis is None:
        raise _elsewhere(url)
    return membership


_SAY_WHERE: Final = "Say where it is on this machine: --store FOLDER."


def _elsewhere(url: str) -> ConfigError:
    return ConfigError(f"The vault of this invitation is not in {url}.", _SAY_WHERE)


async def _ask(home: VaultHome, url: str, keys: DeviceKeys, wait: bool) -> bool:
    """Post the request, show the words, wait if wanted; whether this device is in."""
    joining = Joining(home, keys)
    async with at_store(url, home, keys) as sender:
        membership = await look(sender, keys)
        if membership.entry is None:
            await joining.post(sender)
            if keys.sign_seed:
                note(f"The words of this device: {' '.join(words_of(keys))}")
            note("An administrator lets it in with `cryptfs-admin approve`.")
        if wait and membership.entry is None:
            note("Waiting. You may stop this with Ctrl-C; nothing is lost.")
        pause = _LOOK_SECONDS[0]
        while wait and membership.entry is None:
            await trio.sleep(pause)
            pause = min(pause * 1.3, _LOOK_SECONDS[1])
            try:
                membership = await look(sender, keys)
            except StoreError as err:
                note(safe(f"{err} Still waiting."))
        if membership.entry is None:
            return False
        await joining.check(sender, membership)
        listed = membership.name_of(membership.entry.id)
        note(safe(f"You are in as {membership.entry.role.name.lower()}, listed as {listed}."))
        return True


# ---- leaving ---------------------------------------------------------------------------------------------------------


@click.command(short_help="Leave a vault for good, with this device.")
@vault_argument()
@yes_option()
@click.option("--recovery-file", type=click.Path(path_type=Path), help="The last owner proves that the words are safe.")
@passphrase_option()
def leave(*, name: str, yes: bool, recovery_file: Path | None, passphrase_file: Path | None) -> None:
    """Send what is not sent yet, close this device's log, and delete its keys and everything local of the vault NAME.

    The place in the group stays until an administrator removes it: `cryptfs-admin members` shows who has left. A device
    that is not in yet forgets that it asked.
    """
    home = VaultHome.of(name)
    home.require()
    require_unmounted(home)
    agree(
        [
            f"This device leaves the vault '{name}'. Its keys are deleted: coming back takes a new invitation.",
            "The files stay in the folder, for the others. An administrator still has to remove this device.",
        ],
        f"Leave '{name}' for good?",
        yes=yes,
    )
    try:
        trio.run(_leave, home, recovery_file, passphrase_file)
        advice = "Tell an administrator to remove it: `cryptfs-admin remove`."
    except NotLetIn:  # so it has written nothing, and holds no key of the vault
        advice = "It had not come in. An administrator turns a request that is left down: `cryptfs-admin deny`."
    _wipe(home)
    line(f"This device has left '{name}'.")
    note(advice)


async def _leave(home: VaultHome, recovery_file: Path | None, passphrase_file: Path | None) -> None:
    async with open_here(home, passphrase_file) as vault:
        owners = vault.membership.resolved.owners()
        if vault.membership.entry is not None and [one.id for one in owners] == [vault.membership.entry.id]:
            if recovery_file is None:
                raise NotAllowed(
                    "This is the last owner: nobody could let an administrator in any more.",
                    "Make somebody else an owner first, or show that the recovery words are safe: --recovery-file.",
                )
            check_recovery(vault.membership.graph.genesis, read_phrases([recovery_file]))
        await leave_vault(vault)


def _wipe(home: VaultHome) -> None:
    """Delete the keys first: what is left after an interruption is worth nothing without them."""
    with local_disk("deleting the vault's local state"):
        home.keys_file.unlink(missing_ok=True)
        for directory in (home.data_dir, home.cache_dir):
            shutil.rmtree(directory, ignore_errors=True)
        home.settings_file.unlink(missing_ok=True)
