"""`cryptfs fsck`: whether a vault is whole, and putting back what is missing."""

import dataclasses
from pathlib import Path
from typing import Any, Final

import click
import trio

from cryptfs.cli.arguments import json_option, passphrase_option, vault_argument
from cryptfs.cli.asking import yes_option
from cryptfs.cli.checking import Report, check_vault
from cryptfs.cli.control import Answer, Daemon
from cryptfs.cli.opening import open_with
from cryptfs.cli.output import counted, document, line, note, progress, safe, size
from cryptfs.cli.salvaging import salvage as salvage_into
from cryptfs.cli.unlocking import unlock
from cryptfs.errors import HostileStore, UsageError
from cryptfs.vault.home import VaultHome
from cryptfs.vault.stores import store_beside

__all__ = ["fsck"]

_ALL: Final = 100.0


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
@click.option("--heal", is_flag=True, help="First put back what is missing in the store and lies on this machine.")
@click.option(
    "--salvage",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Write what packs alone tell into a new directory.",
)
@yes_option()
@json_option()
@passphrase_option()
def fsck(
    *, name: str, read_data: float, heal: bool, salvage: Path | None, yes: bool, as_json: bool,
    passphrase_file: Path | None,
) -> int:  # fmt: skip
    """Check that the store of the vault NAME has everything, signed by members and as it was written.

    Nobody has to run this after a crash: start-up repairs what a crash leaves. Without --heal it changes nothing. The
    vault must not be mounted; only --heal also works on a mounted one, and then nothing else is checked. The exit code
    is 65 when something is wrong, or cannot be put back; files that are not named are unharmed.
    """
    home = VaultHome.of(name)
    home.require()
    if salvage is not None:
        if heal or read_data:
            raise UsageError("--salvage goes with no other check.", "It reads packs and writes files, nothing else.")
        return salvage_into(home, salvage, passphrase_file, yes=yes, as_json=as_json)
    daemon = Daemon.find(home) if heal else None
    if daemon is not None:
        with daemon:
            healed: Answer = daemon.ask("heal", on_progress=_show, patience=None)
        healed.pop("ok")
        return _end(name, None, healed, as_json=as_json)
    report, done = trio.run(_check, home, passphrase_file, read_data, heal)
    return _end(name, report, done, as_json=as_json)


def _show(answer: Answer) -> None:
    note(str(answer["progress"].get("text", "")))


async def _check(
    home: VaultHome, passphrase_file: Path | None, percent: float, heal: bool
) -> tuple[Report, Answer | None]:
    keys = unlock(home, passphrase_file)
    async with open_with(home, keys, read_only=True) as vault:
        healed = (await vault.healer.heal(note)).as_json() if heal else None
        store = store_beside(home.read_settings().store, home, keys)
        try:
            with progress("Checking", None) as advance:
                return await check_vault(vault, store, percent, advance), healed
        finally:
            store.close()


def _end(name: str, report: Report | None, healed: Answer | None, *, as_json: bool) -> int:
    if as_json:
        told: dict[str, Any] = {"name": name}
        if report is not None:
            told |= dataclasses.asdict(report)
        document(told | ({"healed": healed} if healed is not None else {}))
    else:
        if healed is not None:
            _print_healed(healed)
        if report is not None:
            _print_report(report)
    bad = bool(report.problems) if report is not None else bool(healed and (healed["left"] or healed["refused"]))
    return HostileStore.exit_code if bad else 0


def _print_healed(healed: Answer) -> None:
    if healed["restored"]:
        line(f"{counted(len(healed['restored']), 'object')} put back, {size(healed['restored_bytes'])}.")
    elif not healed["left"] and not healed["refused"]:
        line("Nothing is missing.")
    for one in healed["left"]:
        who = ", ".join(one["devices"]) or "who wrote it"
        line(f"MISSING  {safe(one['object'])}: not on this machine; it may be on {safe(who)}")
        for path in one["paths"]:
            line(f"         harms {safe(path)}")
    for key, why in healed["refused"].items():
        line(f"PROBLEM  {safe(key)}: could not be put back: {safe(why)}")


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
