"""`cryptfs doctor`: whether this machine is fit to mount vaults, and how it reaches them."""

from pathlib import Path
from typing import Final

import click

from cryptfs.cli.arguments import json_option, passphrase_option, vault_argument
from cryptfs.cli.doctor import examine_machine, examine_vault
from cryptfs.cli.finding import Finding
from cryptfs.cli.output import document, line, safe
from cryptfs.errors import ConfigError
from cryptfs.vault.home import VaultHome, known_vaults

__all__ = ["doctor"]

_SIGN: Final = {"ok": "ok  ", "warn": "note", "fail": "FAIL"}


@click.command(short_help="Check this machine, and how it reaches a vault.")
@vault_argument(required=False)
@json_option()
@passphrase_option()
def doctor(*, name: str | None, as_json: bool, passphrase_file: Path | None) -> int:
    """Check whether this machine can mount vaults, and whether the vault NAME (or each one) can be reached.

    Asks for no passphrase and changes nothing; with --passphrase-file it also asks at Google Drive about a vault that
    lies there. The exit code is 78 when something is wrong.
    """
    findings: dict[str, list[Finding]] = {"this machine": list(examine_machine())}
    for vault in [name] if name else known_vaults():
        findings[vault] = list(examine_vault(VaultHome.of(vault), passphrase_file))
    if as_json:
        document({of: [finding._asdict() for finding in found] for of, found in findings.items()})
    else:
        for of, found in findings.items():
            line(f"{of}:")
            for finding in found:
                line(f"  {_SIGN[finding.verdict]} {finding.subject}: {safe(finding.text)}")
                if finding.advice:
                    line(f"       {safe(finding.advice)}")
    failed = any(finding.verdict == "fail" for found in findings.values() for finding in found)
    return ConfigError.exit_code if failed else 0
