"""`cryptfs-admin policy`: the settings that hold for every member."""

import base64
from pathlib import Path

import click

from cryptfs.cli.acting import act
from cryptfs.cli.arguments import json_option, passphrase_option, vault_argument
from cryptfs.cli.asking import agree, yes_option
from cryptfs.cli.output import document, fields
from cryptfs.crypto.importing import import_certificate
from cryptfs.errors import UsageError
from cryptfs.vault.home import VaultHome

__all__ = ["policy"]


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
    arguments: dict[str, object] = {}
    if key is not None and value is not None:
        said = base64.b64encode(import_certificate(Path(value).read_bytes())).decode() if key == "ca" else value
        arguments = {"key": key, "value": said}
        agree([f"This sets {key} to {value} for every member of '{name}'."], "Change it?", yes=yes)
    values = act(VaultHome.of(name), passphrase_file, "policy", **arguments)["policy"]
    if as_json:
        document(values)
    else:
        fields({one: ", ".join(said) if isinstance(said, list) else said for one, said in values.items()})
