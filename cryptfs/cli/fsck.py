"""`cryptfs fsck`: whether a vault is whole, and putting back what is missing."""

import sys
from pathlib import Path
from typing import Final

import click
import trio

from cryptfs.cli.arguments import json_option, passphrase_option, vault_argument
from cryptfs.cli.asking import yes_option
from cryptfs.cli.control import Answer, Daemon
from cryptfs.cli.opening import open_with
from cryptfs.cli.output import counted, document, line, note, safe, size
from cryptfs.cli.salvaging import salvage as salvage_into
from cryptfs.cli.unlocking import unlock
from cryptfs.errors import HostileStore, UsageError
from cryptfs.vault.checking import Problem, Report, check
from cryptfs.vault.home import VaultHome

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
    "--apply",
    "replace",
    is_flag=True,
    help="As --heal, and replace what is damaged in the store.",
)
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
    *, name: str, read_data: float, heal: bool, replace: bool, salvage: Path | None, yes: bool, as_json: bool,
    passphrase_file: Path | None,
) -> int:  # fmt: skip
    """Check that the vault NAME keeps its rules, and that its store has everything, as it was written and signed.

    Nobody has to run this after a crash: start-up repairs what a crash leaves. Mounted or not; without --heal, --apply
    and --salvage it changes nothing. The exit code is 65 when something is wrong, or cannot be put back; files that are
    not named are unharmed.
    """
    home = VaultHome.of(name)
    home.require()
    if salvage is not None:
        if heal or replace or read_data:
            raise UsageError("--salvage goes with no other check.", "It reads packs and writes files, nothing else.")
        return salvage_into(home, salvage, passphrase_file, yes=yes, as_json=as_json)
    daemon = Daemon.find(home)
    if daemon is None:
        report, healed = trio.run(_check, home, passphrase_file, read_data, heal, replace)
    else:
        with daemon:
            report, healed = _ask(daemon, read_data, heal=heal, replace=replace)
    return _end(name, report, healed, as_json=as_json)


def _ask(daemon: Daemon, percent: float, *, heal: bool, replace: bool) -> tuple[Report, Answer | None]:
    """What the process of the mount finds."""
    problems: list[Problem] = []

    def told(answer: Answer) -> None:
        if "problem" in answer:
            one = answer["problem"]
            problems.append(Problem(one["subject"], one["text"], tuple(one["paths"]), one["object"]))
        else:
            _show(str(answer["progress"].get("text", "")))

    done = daemon.ask("check", on_progress=told, patience=None, percent=percent, heal=heal, apply=replace)
    return Report(**done["report"], problems=problems), done["healed"]


def _show(text: str) -> None:
    """Progress, for who watches."""
    if sys.stderr.isatty():
        note(safe(text))


async def _check(
    home: VaultHome, passphrase_file: Path | None, percent: float, heal: bool, replace: bool
) -> tuple[Report, Answer | None]:
    async with open_with(home, unlock(home, passphrase_file), read_only=True) as vault:
        report, healed = await check(vault, percent, _show, heal=heal, replace=replace)
    return report, healed.as_json() if healed is not None else None


def _end(name: str, report: Report, healed: Answer | None, *, as_json: bool) -> int:
    if as_json:
        document({"name": name} | report.as_json() | ({"healed": healed} if healed is not None else {}))
    else:
        if healed is not None:
            _print_healed(healed)
        _print_report(report)
    bad = report.problems or (healed is not None and (healed["left"] or healed["refused"]))
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
    line(
        f"{counted(report.statements, 'object')} of the group, {counted(report.packs, 'pack')} and "
        f"{counted(report.checkpoints, 'checkpoint')} looked at."
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
