"""`cryptfs doctor` and `cryptfs fsck`: whether this machine is fit, and whether a vault is whole."""

import dataclasses
from pathlib import Path
from typing import Final

import click
import trio

from cryptfs.cli.arguments import json_option, passphrase_option, vault_argument
from cryptfs.cli.checking import Report, check_vault
from cryptfs.cli.doctor import Finding, examine_machine, examine_vault
from cryptfs.cli.opening import open_here
from cryptfs.cli.output import counted, document, line, note, progress, safe, size
from cryptfs.errors import ConfigError, HostileStore
from cryptfs.store import open_store
from cryptfs.vault.home import VaultHome, known_vaults

__all__ = ["doctor", "fsck"]

_ALL: Final = 100.0
_SIGN: Final = {"ok": "ok  ", "warn": "note", "fail": "FAIL"}


@click.command(short_help="Check this machine, and how it reaches a vault.")
@vault_argument(required=False)
@json_option()
def doctor(*, name: str | None, as_json: bool) -> int:
    """Check whether this machine can mount vaults, and whether the vault NAME (or each one) can be reached.

    Needs no passphrase and changes nothing. The exit code is 78 when something is wrong.
    """
    findings: dict[str, list[Finding]] = {"this machine": list(examine_machine())}
    for vault in [name] if name else known_vaults():
        findings[vault] = list(examine_vault(VaultHome.of(vault)))
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


class Percent(click.ParamType[float]):
    """A share, with or without its sign: 5% or 5."""

    name = "P%"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            share = float(str(value).removesuffix("%"))
        except ValueError:
            share = -1.0
        if not 0 <= share <= _ALL:
            self.fail(f"{value!r} is no share between 0% and 100%.", param, ctx)
        return share


@click.command(short_help="Check a vault against its store.")
@vault_argument()
@click.option("--read-data", type=Percent(), default=0.0, help="Also read this share of all packs: 100% reads all.")
@json_option()
@passphrase_option()
def fsck(*, name: str, read_data: float, as_json: bool, passphrase_file: Path | None) -> int:
    """Check that the store of the vault NAME has everything, signed by members and as it was written.

    Nobody has to run this after a crash: start-up repairs what a crash leaves. It changes nothing, and the vault must
    not be mounted. The exit code is 65 when something is wrong; files that are not named are unharmed.
    """
    home = VaultHome.of(name)
    report = trio.run(_check, home, passphrase_file, read_data)
    if as_json:
        document({"name": name} | dataclasses.asdict(report))
    else:
        _print_report(report)
    return HostileStore.exit_code if report.problems else 0


async def _check(home: VaultHome, passphrase_file: Path | None, percent: float) -> Report:
    async with open_here(home, passphrase_file, read_only=True) as vault:
        store = open_store(home.read_settings().store)
        try:
            with progress("Checking", None) as advance:
                return await check_vault(vault, store, percent, advance)
        finally:
            store.close()


def _print_report(report: Report) -> None:
    line(
        f"{counted(report.segments, 'segment')} signed, {counted(report.files, 'file')} in "
        f"{counted(report.objects, 'object')}."
    )
    if report.objects_read:
        line(f"{report.objects_read} packs read to the last byte.")
    if report.unsent:
        note(f"{report.unsent} files have changes that are only on this machine so far; `cryptfs sync` sends them.")
    for why, (count, amount) in sorted(report.unused.items()):
        line(f"Packs that no present file needs: {count}, {size(amount)}; {why}.")
    for problem in report.problems:
        line(f"PROBLEM  {safe(problem.subject)}: {safe(problem.text)}")
        for path in problem.paths:
            line(f"         harms {safe(path)}")
