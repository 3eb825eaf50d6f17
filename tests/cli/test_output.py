"""What people read, and what an error becomes."""

import errno
import json

import click
import pytest

from cryptfs.cli import output
from cryptfs.errors import CryptfsError, Damaged, LocalDiskFull, NoSuchVault

Capture = pytest.CaptureFixture[str]


def failing(error: BaseException) -> click.Group:
    group = click.Group("cryptfs")

    @group.command()
    def fail() -> None:
        raise error

    return group


def run_failing(error: BaseException) -> int:
    return output.execute(failing(error), "cryptfs", ["fail"])


def test_an_error_is_two_lines_on_standard_error(capsys: Capture) -> None:
    assert run_failing(NoSuchVault("No vault.", "Make one.")) == 66
    assert capsys.readouterr() == ("", "cryptfs: No vault.\nMake one.\n")


def test_an_error_stays_two_lines_whatever_its_text_holds(capsys: Capture) -> None:
    run_failing(Damaged("one\ntwo\x1b[2J", "three\r\nfour"))
    assert capsys.readouterr().err == "cryptfs: one two\N{REPLACEMENT CHARACTER}[2J\nthree four\n"


@pytest.mark.parametrize(
    ("number", "code"),
    [(errno.ENOENT, 66), (errno.EACCES, 77), (errno.ENOSPC, 74), (errno.EDQUOT, 74), (errno.EIO, 74)],
)
def test_errors_of_the_operating_system_have_the_code_of_their_kind(number: int, code: int, capsys: Capture) -> None:
    assert run_failing(OSError(number, "reason", "/some/file")) == code
    assert capsys.readouterr().err.startswith("cryptfs: /some/file: reason\n")


def test_a_full_disk_says_what_to_do(capsys: Capture) -> None:
    assert run_failing(LocalDiskFull("No space left.")) == 74
    assert "Free space" in capsys.readouterr().err


def test_a_wrong_command_line_is_a_usage_error(capsys: Capture) -> None:
    assert output.execute(failing(OSError()), "cryptfs", ["fail", "--nonsense"]) == 64
    assert capsys.readouterr().err == "cryptfs: No such option '--nonsense'.\nSee `cryptfs fail --help`.\n"


def test_the_cause_inside_an_exception_group_is_what_the_person_sees(capsys: Capture) -> None:
    nested = BaseExceptionGroup("tasks", [ExceptionGroup("more", [NoSuchVault("No vault.")])])
    assert run_failing(nested) == 66
    assert capsys.readouterr().err.startswith("cryptfs: No vault.\n")


def test_a_bug_in_an_exception_group_is_not_hidden_by_an_expected_error() -> None:
    with pytest.raises(ExceptionGroup):
        run_failing(ExceptionGroup("tasks", [NoSuchVault("No vault."), ZeroDivisionError()]))


def test_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        run_failing(ZeroDivisionError())


def test_ctrl_c_is_130(capsys: Capture) -> None:
    assert run_failing(KeyboardInterrupt()) == 130


def test_every_error_class_has_advice_and_a_code_of_sysexits() -> None:
    pending = [CryptfsError]
    while pending:
        kind = pending.pop()
        pending += kind.__subclasses__()
        assert kind.default_advice
        assert 64 <= kind.exit_code <= 78


def test_terminal_a_file_name_cannot_steer_it(capsys: Capture) -> None:
    output.table(("Name",), [["evil\x1b[31m\nname"]])
    assert capsys.readouterr().out == "Name\nevil\N{REPLACEMENT CHARACTER}[31m\N{REPLACEMENT CHARACTER}name\n"


def test_columns_are_aligned(capsys: Capture) -> None:
    output.table(("A", "Size"), [["long name", "1"], ["b", "100"]], right=frozenset({1}))
    assert capsys.readouterr().out == "A          Size\nlong name     1\nb           100\n"


def test_json_keeps_names_that_are_no_text(capsys: Capture) -> None:
    output.document({"name": b"caf\xe9".decode(errors="surrogateescape")})
    name = json.loads(capsys.readouterr().out)["name"]
    assert name.encode(errors="surrogateescape") == b"caf\xe9"


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1 KiB"), (1536, "1.5 KiB"), (1 << 20, "1 MiB"), (1000 << 10, "0.977 MiB")],
)
def test_sizes_read_well(count: int, text: str) -> None:
    assert output.size(count) == text


@pytest.mark.parametrize(("seconds", "text"), [(5, "5 s"), (90, "2 min"), (7200, "2 h"), (200_000, "2 d")])
def test_ages_read_well(seconds: float, text: str) -> None:
    assert output.age(seconds) == text


@pytest.mark.parametrize("ns", [-(1 << 62), 1 << 62, 1 << 70])
def test_a_time_no_calendar_knows_is_no_error(ns: int) -> None:
    assert output.moment(ns)


def test_progress_is_silent_in_a_pipe(capsys: Capture) -> None:
    with output.progress("Working", 10) as advance:
        advance(10)
    assert capsys.readouterr() == ("", "")


def test_one_thing_and_several() -> None:
    assert [output.counted(count, "pack") for count in (0, 1, 2)] == ["0 packs", "1 pack", "2 packs"]
