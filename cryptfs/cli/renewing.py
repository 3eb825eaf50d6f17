"""`cryptfs-admin renew`: the certificate of this device is replaced."""

import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import click
import trio

from cryptfs.cli.arguments import json_option, passphrase_option, vault_argument
from cryptfs.cli.control import require_unmounted
from cryptfs.cli.opening import open_with
from cryptfs.cli.output import document, line, note
from cryptfs.cli.ownpair import pair_options, read_pair
from cryptfs.cli.unlocking import unlock_to_change
from cryptfs.crypto import keyfile
from cryptfs.crypto.keyfile import DeviceKeys, KeyPair
from cryptfs.crypto.selfsigned import make_certificate
from cryptfs.errors import NotAllowed, UsageError
from cryptfs.vault.home import VaultHome
from cryptfs.vault.renewing import check_new, is_announced
from cryptfs.vault.renewing import renew as announce
from cryptfs.vault.sealedfile import write_durably
from cryptfs.vault.vault import Vault

__all__ = ["renew"]

Done = tuple[str, bool]
"""The last day of the certificate in force, and whether it has the present key."""


@click.command(short_help="Replace the certificate of this device.")
@vault_argument()
@pair_options()
@json_option()
@passphrase_option()
def renew(*, name: str, cert: Path | None, key: str | None, as_json: bool, passphrase_file: Path | None) -> None:
    """Replace the certificate of this device in the vault NAME by a new one, or by the one in --cert.

    Nobody has to agree. The signing key stays, so the device keeps its name, role and place. What was sealed for the
    old certificate stays readable here. A renewal that was interrupted is finished by running the command again.
    """
    home = VaultHome.of(name)
    home.require()
    require_unmounted(home)  # a mount holds the old keys, and has no passphrase to write the new ones with
    brought = read_pair(cert, key)
    keys, passphrase = unlock_to_change(home, passphrase_file)
    until, complete = trio.run(_renew, home, keys, passphrase, brought)
    if as_json:
        document({"name": name, "until": until, "complete": complete})
        return
    line(f"The certificate of this device is replaced; the new one is good until {until}.")
    if not complete:
        note("The next administrator's device that is mounted hands the key to it.")


async def _renew(home: VaultHome, keys: DeviceKeys, passphrase: bytes | None, brought: KeyPair | None) -> Done:
    async with open_with(home, keys) as vault:
        await vault.exchange.pull()
        if brought is None and not is_announced(vault, keys):
            pair = keys.pair  # left over from an interrupted attempt
        else:
            pair = brought or _new_pair(vault)
            if pair.cert_der == keys.cert_der and is_announced(vault, keys):
                raise UsageError("This device has that certificate already.", "Give another, or none for a new one.")
        judged = check_new(vault, pair.cert_der)
        if pair.cert_der != keys.cert_der:
            later = keys.renewed(pair)
            # An entry by certificate alone gets its signing key through the old certificate: from now on it is here.
            later = replace(later, sign_seed=vault.membership.sign_seed)
            write_durably(home.keys_file, keyfile.encode(later, passphrase))
        return judged.expires.strftime("%Y-%m-%d"), await announce(vault, pair.cert_der)


def _new_pair(vault: Vault) -> KeyPair:
    """A certificate that this device makes itself. Raises UsageError where only an authority's do."""
    entry = vault.membership.entry
    if entry is None:
        raise NotAllowed("This device is not in the group any more.", "Ask for a new invitation.")
    if vault.membership.resolved.policy.trust:
        raise UsageError("Certificates of this vault come from an authority.", "Give --cert and --key.")
    now = datetime.fromtimestamp(time.time(), UTC)
    return KeyPair(*make_certificate(entry.display[:64] or "member", now))
