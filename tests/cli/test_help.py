"""`cryptfs --help`, and that asking for it stays cheap."""

import subprocess
import sys

import click
import pytest

from cryptfs.cli.admin import cryptfs_admin
from cryptfs.cli.main import LazyGroup, cryptfs
from tests.cli.transcripts import Run


def test_help_names_every_command(run: Run) -> None:
    shown = run("--help")
    assert shown.code == 0
    for name in cryptfs.list_commands(None):  # type: ignore[arg-type]  # the context is not used
        assert f"\n  {name} " in shown.out


@pytest.mark.parametrize("group", [cryptfs, cryptfs_admin], ids=["cryptfs", "cryptfs-admin"])
def test_every_command_that_is_listed_exists_and_explains_itself(group: LazyGroup) -> None:
    for name in group.list_commands(None):  # type: ignore[arg-type]
        command = group.get_command(None, name)  # type: ignore[arg-type]
        assert command is not None
        assert command.name == name
        assert command.help
        for option in command.params:
            assert not isinstance(option, click.Option) or option.help, f"{name} {option.name}"


def test_unmount_is_umount() -> None:
    assert cryptfs.get_command(None, "unmount") is cryptfs.get_command(None, "umount")  # type: ignore[arg-type]


def test_an_unknown_command_is_a_usage_error(run: Run) -> None:
    result = run("explode")
    assert (result.code, result.err) == (64, "cryptfs: No such command 'explode'.\nSee `cryptfs --help`.\n")


def test_help_imports_nothing_heavy() -> None:
    heavy = ["trio", "pyfuse3", "apsw", "rich", "cryptography", "googleapiclient"]
    code = f"""if True:
        import sys
        from cryptfs.cli.main import cryptfs
        from cryptfs.cli.output import execute
        execute(cryptfs, "cryptfs", ["--help"])
        print(*[name for name in {heavy!r} if name in sys.modules], file=sys.stderr)"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "\n"


def test_the_completions_offer_commands_and_vaults(vault: str, run_apart: Run) -> None:
    commands = run_apart(_CRYPTFS_COMPLETE="bash_complete", COMP_WORDS="cryptfs unm", COMP_CWORD="1")
    assert commands.out.strip() == ""  # aliases are not offered twice
    commands = run_apart(_CRYPTFS_COMPLETE="bash_complete", COMP_WORDS="cryptfs um", COMP_CWORD="1")
    assert commands.out == "plain,umount\n"
    vaults = run_apart(_CRYPTFS_COMPLETE="bash_complete", COMP_WORDS="cryptfs status t", COMP_CWORD="2")
    assert vaults.out == "plain,team\n"
