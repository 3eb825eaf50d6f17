"""`cryptfs-admin members`: who is in the group."""

import time
from contextlib import closing
from pathlib import Path
from typing import Any

import click
import trio

from cryptfs.cli.arguments import json_option, passphrase_option, vault_argument
from cryptfs.cli.control import Daemon
from cryptfs.cli.evidence import read_membership
from cryptfs.cli.joining import at_store
from cryptfs.cli.output import cell, document, table
from cryptfs.cli.sharing import ACCESS_KEYS, access_from_store, tell_access
from cryptfs.cli.unlocking import unlock
from cryptfs.crypto.keyfile import DeviceKeys
from cryptfs.vault.certificates import certificates_at
from cryptfs.vault.home import VaultHome
from cryptfs.vault.lastseen import last_seen
from cryptfs.vault.people import describe
from cryptfs.vault.stores import store_beside

__all__ = ["members"]


@click.command(short_help="List who is in, with which role and devices.")
@vault_argument()
@click.option("--access", "with_access", is_flag=True, help="Also whom the provider lets into the folder.")
@json_option()
@passphrase_option()
def members(*, name: str, with_access: bool, as_json: bool, passphrase_file: Path | None) -> None:
    """List the devices in the group of the vault NAME: whose they are, their role, who let them in.

    Names are what an administrator wrote down; only the words of `cryptfs-admin verify` identify anybody.
    """
    home = VaultHome.of(name)
    home.require()
    daemon = Daemon.find(home)
    access: dict[str, Any] | None = None
    if daemon is not None:
        with daemon:
            rows = daemon.ask("admin", act="members")["members"]
            if with_access:
                access = daemon.ask("admin", act="access")
    else:
        keys = unlock(home, passphrase_file)
        rows = trio.run(_from_store, home, keys)
        if with_access:
            access = access_from_store(home, keys).as_json()
    if as_json:
        document(rows if access is None else {"members": rows} | {key: access[key] for key in ACCESS_KEYS})
        return
    titles = ("Member", "Device", "Role", "Certificate until", "Since", "Last seen", "Added by", "")
    table(titles, [_cells(row) for row in rows])
    if access is not None:
        tell_access(access)


async def _from_store(home: VaultHome, keys: DeviceKeys) -> list[dict[str, Any]]:
    """Straight from the store: works for a device that is not in any more, too."""
    url = home.read_settings().store
    with closing(store_beside(url, home, keys)) as store:
        membership = read_membership(store, keys)
    async with at_store(url, home, keys) as sender:
        certificates = await certificates_at(sender, home, membership, lambda: time.time_ns() // 1_000_000)
        return describe(membership, await last_seen(sender, membership), certificates.findings())


def _cells(row: dict[str, Any]) -> list[str]:
    day, minute = row["since"][:10], (row["last_seen"] or "")[:16].replace("T", " ")
    notes = [word for word, said in (("this device", row["own"]), ("has left: remove it", row["left"])) if said]
    if row["without_new_keys"]:
        notes.append("gets no new keys: renew its certificate, or remove it")
    elif row["certificate_remark"]:
        notes.append(str(cell(row["certificate_remark"])))
    named = [cell(row[key]) for key in ("member", "device", "role", "certificate")]
    return [*named, day, cell(minute), cell(row["added_by"]), ", ".join(notes)]
