"""`cryptfs-admin policy`, `crl`: the settings that hold for every member, and the lists of revoked certificates."""

import base64
from pathlib import Path
from typing import Final

import click

from cryptfs.cli.acting import act
from cryptfs.cli.arguments import json_option, passphrase_option, vault_argument
from cryptfs.cli.asking import agree, yes_option
from cryptfs.cli.output import document, fields, line, note, safe
from cryptfs.crypto.importing import import_certificate, import_revocation_list
from cryptfs.errors import UsageError
from cryptfs.vault.home import VaultHome

__all__ = ["crl", "policy"]

_ABOUT_CERTIFICATES: Final = ("trust", "ca", "eku", "crl")


@click.command(short_help="Show or change the settings of a vault.")
@vault_argument()
@click.argument("key", required=False)
@click.argument("value", required=False)
@yes_option()
@json_option()
@passphrase_option()
def policy(
    *, name: str, key: str | None, value: str | None, yes: bool, as_json: bool, passphrase_file: Path | None
) -> None:
    """Show the settings of the vault NAME, or set KEY to VALUE (owners).

    roster_age_days: days without news of an administrator before devices warn. on_stale: warn, or stop sending.
    trust: pinned, or org-ca for certificates of an authority; ca: adds the certificate file of one; eku, and
    crl (off, warn, block): what is asked of such certificates.
    """
    if (key is None) != (value is None):
        raise UsageError("A setting needs a value.", f"Give one, or see `cryptfs-admin policy {name}`.")
    home = VaultHome.of(name)
    arguments: dict[str, object] = {}
    if key is not None and value is not None:
        said = base64.b64encode(import_certificate(Path(value).read_bytes())).decode() if key == "ca" else value
        arguments = {"key": key, "value": said}
        told = [f"This sets {key} to {value} for every member of '{name}'."]
        # Asked of every setting: nobody is to confirm what turns out to be no setting, or no value of it.
        refused = act(home, passphrase_file, "policy", preview=True, **arguments)["refused"]
        if key in _ABOUT_CERTIFICATES:
            told += [safe(f"Would get no new keys then: {one}.") for one in refused]
        agree(told, "Change it?", yes=yes)
    values = act(home, passphrase_file, "policy", **arguments)["policy"]
    if as_json:
        document(values)
    else:
        fields({one: ", ".join(said) if isinstance(said, list) else said for one, said in values.items()})


@click.command(short_help="Publish a certificate revocation list.")
@vault_argument()
@click.argument("file", type=click.Path(path_type=Path))
@json_option()
@passphrase_option()
def crl(*, name: str, file: Path, as_json: bool, passphrase_file: Path | None) -> None:
    """Bring the revocation list in FILE (PEM or DER), which an authority of the vault NAME signed, to every member.

    From then on nobody gives new keys to the certificates in it; `cryptfs-admin members` shows who that is. What they
    could read they can still read, and they stay in the group until they are removed.
    """
    said = base64.b64encode(import_revocation_list(file.read_bytes())).decode()
    answer = act(VaultHome.of(name), passphrase_file, "crl", crl=said)
    if as_json:
        document({key: answer[key] for key in ("number", "made", "until", "remarks")})
        return
    until = f", good until {answer['until']}" if answer["until"] else ""
    line(f"The list of {answer['made']} (number {answer['number']}{until}) is in the folder.")
    for remark in answer["remarks"]:
        note(safe(remark))
