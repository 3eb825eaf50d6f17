"""`cryptfs login` and `logout`: the account at Google Drive under which this device keeps a vault."""

import datetime as dt
import os
import sys
import webbrowser
from pathlib import Path
from typing import Final

import click

from cryptfs.cli.arguments import json_option, passphrase_option
from cryptfs.cli.output import document, line, note, safe
from cryptfs.cli.unlocking import unlock
from cryptfs.crypto.keyfile import DeviceKeys
from cryptfs.errors import Auth, ConfigError, UsageError
from cryptfs.format.join import LINE_PREFIX, decode_token
from cryptfs.store import Call
from cryptfs.store.drive.access import DriveAccess
from cryptfs.store.drive.clientid import DriveClient, split_locator
from cryptfs.vault.home import VaultHome
from cryptfs.vault.logins import (
    forget_pending,
    keep_login,
    keep_pending,
    last_login,
    login_of,
    pending_login,
    withdraw_login,
)

__all__ = ["ask_google", "keys_of_login", "login", "logout", "need_login"]

_SCHEME: Final = "gdrive:"
_PATIENCE: Final = 300.0
"""Seconds for a person to find the password, the second factor and the boxes to tick."""
_CALL_SECONDS: Final = 60.0
_CLIENT_MAX: Final = 1 << 16
_NO_CLIENT: Final = "Give the file of your team's client id: --client-secret FILE (docs/google-drive.md)."


@click.command(short_help="Log in at Google Drive.")
@click.argument("where", metavar="gdrive:|NAME|TOKEN")
@click.option(
    "--client-secret",
    "client_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="The client id of your team, as Google's console gives it.",
)
@click.option("--headless", is_flag=True, help="The browser is on another machine: paste an address.")
@click.option("--port", type=click.IntRange(1024, 65535), help="Await the browser at this port, for one forwarded.")
@json_option()
@passphrase_option()
def login(
    *,
    where: str,
    client_file: Path | None,
    headless: bool,
    port: int | None,
    as_json: bool,
    passphrase_file: Path | None,
) -> None:
    """Log in at Google Drive, in a browser.

    With gdrive:, or an invitation's TOKEN, it is for the next vault that is made or joined; with NAME for that vault,
    anew. A browser opens, or its address is shown. A mount whose login has died goes on by itself afterwards. The login
    is kept sealed under the keys of this device; one that waits for a vault lies in a file that only you can read.
    """
    if headless and port is not None:
        raise UsageError("--headless and --port contradict each other.", "Give one of them.")
    client = DriveClient.from_console(_read(client_file)) if client_file is not None else None
    if where == _SCHEME or where.startswith(LINE_PREFIX):
        if client is None and where != _SCHEME:
            client = split_locator(decode_token(where).locator)[1]
        access = ask_google(client or _client_of_pending(), headless=headless, port=port)
        keep_pending(access)
        told = "The next vault that is made or joined on this device takes it."
    else:
        home, keys = _on_drive(where, passphrase_file)
        access = ask_google(client or _client_of(home, keys), headless=headless, port=port)
        _note_change(home, keys, access)
        keep_login(home, keys, access)
        told = f"It is the login of '{where}'."
    if as_json:
        document({"account": access.account, "since": access.since, "until": access.until})
        return
    line(safe(f"Logged in as {access.account}. {told}"))


@click.command(short_help="Withdraw a login at Google Drive.")
@click.argument("where", metavar="gdrive:|NAME")
@passphrase_option()
def logout(*, where: str, passphrase_file: Path | None) -> None:
    """Withdraw the login of the vault NAME, or the one that waits for a vault (gdrive:), at Google and here.

    The vault and its keys stay; changes are kept on this machine until `cryptfs login`. When Google cannot be reached
    the login is kept, so that it can be withdrawn later.
    """
    from cryptfs.store.drive.tokens import log_out  # noqa: PLC0415  # Google's library: 0.3 s, 40 MiB

    if where == _SCHEME:
        access = pending_login()
        known = log_out(access)
        forget_pending()
    else:
        home, keys = _on_drive(where, passphrase_file)
        access = login_of(home, keys)
        known = log_out(access)
        withdraw_login(home, keys)
    line(safe(f"{access.account or 'The account'} is logged out." + ("" if known else " Google knew of no login.")))


def ask_google(client: DriveClient, *, headless: bool = False, port: int | None = None) -> DriveAccess:
    """Have a person agree in a browser. Raises what `store/drive/login.py` raises, UsageError without a terminal."""
    from cryptfs.store.drive.login import NOWHERE, Doorstep, Question  # noqa: PLC0415  # as above

    today = dt.datetime.now(dt.UTC).date()
    if headless:
        question = Question(client, NOWHERE)
        note(f"Open this address in a browser, on any machine, and agree:\n\n  {question.address}\n")
        note(f"The browser then says that it cannot reach {NOWHERE}… Paste that whole address here.")
        access = question.finish(_pasted(), Call.within(_CALL_SECONDS), today)
    else:
        with Doorstep(port or 0) as doorstep:
            question = Question(client, doorstep.redirect)
            note(f"Open this address in a browser and agree:\n\n  {question.address}\n")
            if os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
                webbrowser.open(question.address)
            access = question.finish(doorstep.wait(question, _PATIENCE), Call.within(_CALL_SECONDS), today)
    if access.until:
        note(
            f'This login ends on {access.until}: the consent screen of the client id is in "Testing". '
            "Publish it in Google's console (docs/google-drive.md) and log in again."
        )
    return access


def _pasted() -> str:
    if sys.stdin.isatty():
        typed: str = click.prompt("Address", err=True)
        return typed
    return sys.stdin.readline(8192)


def _read(file: Path) -> bytes:
    with file.open("rb") as stream:
        return stream.read(_CLIENT_MAX)


def _on_drive(name: str, passphrase_file: Path | None) -> tuple[VaultHome, DeviceKeys]:
    """A vault of this device that lies on Google Drive. Raises NoSuchVault, UsageError."""
    home = VaultHome.of(name)
    home.require()
    if not home.read_settings().store.startswith(_SCHEME):
        raise UsageError(f"'{name}' does not lie on Google Drive: it needs no login.", "See `cryptfs list`.")
    return home, unlock(home, passphrase_file)


def keys_of_login(home: VaultHome, passphrase_file: Path | None) -> DeviceKeys | None:
    """The keys under which the vault's login is sealed; None where its store needs none. Raises as `unlock`."""
    return unlock(home, passphrase_file) if home.read_settings().store.startswith(_SCHEME) else None


def _client_of(home: VaultHome, keys: DeviceKeys) -> DriveClient:
    """The client id that the vault's login was made with."""
    last = _last(home, keys)
    if last is None:
        raise UsageError(f"The client id of '{home.name}' is not known here any more.", _NO_CLIENT)
    return DriveClient.of(last)


def _last(home: VaultHome, keys: DeviceKeys) -> DriveAccess | None:
    """The vault's login, also one that was withdrawn; None where nothing can be told of it."""
    try:
        return last_login(home, keys)
    except ConfigError:
        return None


def _client_of_pending() -> DriveClient:
    try:
        return DriveClient.of(pending_login())
    except (Auth, ConfigError) as err:
        raise UsageError("Google wants to know which program asks.", _NO_CLIENT) from err


def _note_change(home: VaultHome, keys: DeviceKeys, access: DriveAccess) -> None:
    """Another account is allowed, and worth a word: it needs the folder, and does not own what the first one sent."""
    last = _last(home, keys)
    before = last.account if last is not None else ""
    if before and before != access.account:
        note(
            safe(f"'{home.name}' was kept as {before} until now. What that account has sent, it alone can delete;")
            + " mount the vault anew."
        )


def need_login(place: str, client: DriveClient | None, token: str) -> None:
    """Before a vault on Google Drive can be looked at: a login, asked for here where there is somebody to ask.

    `client` came with the invitation `token`. Raises Auth where there is none, and what `ask_google` raises.
    """
    if not place.startswith(_SCHEME):
        return
    try:
        pending_login()
    except Auth as err:
        if client is None or not sys.stderr.isatty() or not sys.stdin.isatty():
            what = token if client is not None else "gdrive: --client-secret FILE"
            raise Auth(
                "The vault lies on Google Drive, and nobody is logged in there.", f"Run `cryptfs login {what}`."
            ) from err
        note("The vault lies on Google Drive. First log in there, with the account that its folder is shared with.")
        keep_pending(ask_google(client))
