"""All that people read: lines, tables, JSON, progress, and errors as two lines with an exit code.

Results go to standard output, everything else to standard error. Colour and progress appear on a terminal only, and
never when NO_COLOR is set. JSON has one document a command (with `--watch`, one a line); its fields are a promise.
File names in JSON are text with the bytes that are no UTF-8 as lone surrogates, as `os.fsdecode` makes them.
"""

import contextlib
import datetime as dt
import errno
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

import click

from cryptfs.errors import CryptfsError, LocalDisk, LocalDiskFull, NotAllowed, UsageError

__all__ = [
    "NoInput",
    "age",
    "cell",
    "document",
    "execute",
    "fields",
    "line",
    "local_time",
    "moment",
    "note",
    "progress",
    "safe",
    "size",
    "table",
]

_INTERRUPTED: Final = 130
"""Exit code after Ctrl-C, as shells have it (128 + SIGINT)."""

_UNIT: Final = 1024
_UNITS: Final = ("KiB", "MiB", "GiB", "TiB", "PiB")
_FOUR_FIGURES: Final = 999.5
"""From here on three figures round to 1000, which the next larger unit says better."""

_SECONDS_A: Final = (("d", 86_400), ("h", 3_600), ("min", 60))


def line(text: str = "") -> None:
    """One line of result."""
    click.echo(text)


def note(text: str) -> None:
    """One line for the person, which is no result: standard error."""
    click.echo(text, err=True)


def document(value: object) -> None:
    """One JSON document on one line if it is piped on, indented on a terminal."""
    click.echo(json.dumps(value, indent=2 if sys.stdout.isatty() else None))


def table(titles: Sequence[str], rows: Sequence[Sequence[str]], right: frozenset[int] = frozenset()) -> None:
    """Aligned columns under their titles; columns whose number is in `right` stand at their right edge."""
    shown = [[safe(text) for text in row] for row in rows]
    widths = [max(len(row[i]) for row in [list(titles), *shown]) for i in range(len(titles))]

    def aligned(row: Sequence[str]) -> str:
        cells = (
            text.rjust(w) if i in right else text.ljust(w) for i, (text, w) in enumerate(zip(row, widths, strict=True))
        )
        return "  ".join(cells).rstrip()

    click.echo(_bold(aligned(titles)))
    for row in shown:
        click.echo(aligned(row))


def cell(value: object) -> str:
    """`value` as it stands in a table: "-" for nothing, yes or no for a truth value."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def safe(text: str) -> str:
    """`text` without control characters: a file name must not be able to steer the terminal."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def size(count: int) -> str:
    """`count` bytes in three figures and a binary unit."""
    if count < _UNIT:
        return f"{count} B"
    amount, unit = float(count), "B"
    for unit in _UNITS:  # noqa: B007  # the one the loop stops at is used below
        amount /= _UNIT
        if amount < _FOUR_FIGURES:
            break
    return f"{amount:.3g} {unit}"


def counted(count: int, thing: str) -> str:
    """The count with its thing, `1 pack` or `3 packs`; the plural must be regular."""
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


def age(seconds: float) -> str:
    """A span of time in its largest unit."""
    for unit, length in _SECONDS_A:
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def local_time(time: str | None) -> str:
    """An instant that another part wrote as text with its zone, to the second in local time; "?" if unknown."""
    if not time or time == "?":
        return "?"
    return dt.datetime.fromisoformat(time).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def moment(ns: int) -> str:
    """A point in time, given as nanoseconds since 1970, to the minute in local time."""
    try:
        return dt.datetime.fromtimestamp(ns // 10**9).astimezone().strftime("%Y-%m-%d %H:%M")
    except (OverflowError, ValueError, OSError):
        return "?"  # a file may carry a time that no calendar knows


@contextlib.contextmanager
def progress(label: str, total: int | None, unit: str = "B") -> Iterator[Callable[[int], None]]:
    """Yields a function that is told how much more is done; draws a bar on a terminal and nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda _more: None
        return
    from rich import progress as bars  # noqa: PLC0415  # 42 ms that only a terminal pays
    from rich.console import Console  # noqa: PLC0415

    amount = bars.DownloadColumn(binary_units=True) if unit == "B" else bars.MofNCompleteColumn()
    columns = (bars.TextColumn("{task.description}"), bars.BarColumn(), amount, bars.TimeRemainingColumn())
    with bars.Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=total)
        yield lambda more: bar.advance(task, more)


def execute(group: click.Group, program: str, arguments: Sequence[str] | None = None) -> int:
    """Run one command line; returns its exit code. Errors become two lines: what happened, what to do.

    A bug of ours passes through with its traceback: it is not the person's to mend.
    """
    try:
        code = group.main(arguments, program, standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output has seen enough. Python would complain once more when it closes standard output.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (click.Abort, KeyboardInterrupt):
        note("")
        return _INTERRUPTED
    except (CryptfsError, click.ClickException, OSError) as err:
        return _report(program, _as_ours(err))
    except BaseExceptionGroup as err:
        # trio wraps what happens in tasks; the person wants the cause.
        cause = _first_of_ours(err)
        if cause is None:
            raise
        return _report(program, cause)
    return code if isinstance(code, int) else 0


def _report(program: str, err: CryptfsError) -> int:
    note(f"{program}: {_one_line(str(err))}")
    note(_one_line(err.advice))
    return err.exit_code


def _as_ours(err: Exception) -> CryptfsError:
    """The border where errors of click and of the operating system become ours."""
    if isinstance(err, CryptfsError):
        return err
    if isinstance(err, click.UsageError):
        path = err.ctx.command_path if err.ctx else "cryptfs"
        return UsageError(err.format_message(), f"See `{path} --help`.")
    if isinstance(err, click.ClickException):
        return UsageError(err.format_message())
    if isinstance(err, OSError):
        return _from_system(err)
    raise err


def _from_system(err: OSError) -> CryptfsError:
    reason = err.strerror or str(err)
    what = f"{os.fsdecode(err.filename)}: {reason}" if isinstance(err.filename, (str, bytes)) else reason
    if err.errno in {errno.ENOSPC, errno.EDQUOT}:
        return LocalDiskFull(what)
    if err.errno in {errno.EACCES, errno.EPERM}:
        return NotAllowed(what, "Check the permissions.")
    if err.errno in {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY}:
        return NoInput(what)
    return LocalDisk(what)


class NoInput(CryptfsError):
    """A file the command line names cannot be used."""

    errno = errno.ENOENT
    exit_code = 66
    default_advice = "Check the path."


def _first_of_ours(group: BaseExceptionGroup[BaseException]) -> CryptfsError | None:
    """The first leaf, if every leaf is an expected error: a bug among them must not be hidden."""
    leaves: list[BaseException] = []
    pending: list[BaseException] = [group]
    while pending:
        err = pending.pop()
        if isinstance(err, BaseExceptionGroup):
            pending.extend(reversed(err.exceptions))
        else:
            leaves.append(err)
    expected = [err for err in leaves if isinstance(err, CryptfsError)]
    return expected[0] if len(expected) == len(leaves) else None


def _one_line(text: str) -> str:
    return safe(" ".join(text.split()))


def _bold(text: str) -> str:
    if os.environ.get("NO_COLOR") or not sys.stdout.isatty():
        return text
    return click.style(text, bold=True)


def fields(pairs: Mapping[str, object]) -> None:
    """One value a line, names aligned."""
    width = max(map(len, pairs), default=0)
    for name, value in pairs.items():
        click.echo(f"{name.ljust(width)}  {safe(cell(value))}")
