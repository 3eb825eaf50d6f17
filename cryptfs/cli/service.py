"""`cryptfs enable` and `cryptfs disable`: a vault as a systemd user service, mounted from login on."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import click

import cryptfs
from cryptfs.cli.arguments import passphrase_option, vault_argument
from cryptfs.cli.output import line
from cryptfs.crypto.keyfile import is_protected
from cryptfs.errors import ConfigError, CryptfsError, UsageError
from cryptfs.vault.home import VaultHome

__all__ = ["disable", "enable"]

_UNIT: Final = "cryptfs@.service"
_PACKAGED_COMMAND: Final = "%h/.local/bin/cryptfs"
"""How the packaged unit spells the program; `enable` writes where it really is."""


@click.command(short_help="Mount a vault at every login.")
@vault_argument()
@passphrase_option()
def enable(name: str, passphrase_file: Path | None) -> None:
    """Mount the vault NAME at ~/Cryptfs/NAME now and at every login, as a systemd user service.

    A service has nobody to ask: keys under a passphrase need --passphrase-file, which is then read at every start.
    """
    home = VaultHome.of(name)
    home.require()
    if is_protected(home.keys_file.read_bytes()) and passphrase_file is None:
        raise UsageError(
            f"The keys of '{name}' need a passphrase, and a service cannot ask for it.",
            "Name a file only you can read: --passphrase-file FILE.",
        )
    units = _units()
    units.mkdir(parents=True, exist_ok=True)
    (units / _UNIT).write_text(_unit_text())
    _write_environment(units / f"cryptfs@{name}.service.d", passphrase_file)
    _systemctl("daemon-reload")
    _systemctl("enable", "--now", f"cryptfs@{name}.service")
    line(f"'{name}' is mounted at {home.default_mount_point}, now and at every login.")


@click.command(short_help="Stop mounting a vault at login.")
@vault_argument()
def disable(name: str) -> None:
    """Unmount the vault NAME, and do not mount it at login any more."""
    VaultHome.of(name).require()
    _systemctl("disable", "--now", f"cryptfs@{name}.service")
    shutil.rmtree(_units() / f"cryptfs@{name}.service.d", ignore_errors=True)
    _systemctl("daemon-reload")
    line(f"'{name}' is no longer mounted at login.")


def _units() -> Path:
    """Where systemd looks for the user's own units (systemd.unit(5))."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "systemd" / "user"


def _unit_text() -> str:
    """The packaged unit, with the path of this very program."""
    for base in (Path(sys.prefix, "share/cryptfs/systemd"), Path(cryptfs.__file__).parent.parent / "contrib/systemd"):
        if (base / _UNIT).exists():
            program = " ".join(map(_quoted, _program()))
            return (base / _UNIT).read_text().replace(_PACKAGED_COMMAND, program)
    raise ConfigError("The unit file of cryptfs is missing from this installation.", "Install cryptfs again.")


def _program() -> list[str]:
    script = Path(sys.argv[0])
    if script.name == "cryptfs" and script.exists():
        return [str(script.absolute())]
    return [sys.executable, "-m", "cryptfs"]


def _quoted(word: str) -> str:
    """One word of ExecStart=, in which systemd expands % and $."""
    word = word.replace("%", "%%").replace("$", "$$")
    return f'"{word}"' if shlex.quote(word) != word else word


def _write_environment(drop_in: Path, passphrase_file: Path | None) -> None:
    """What this vault's instance needs beyond the unit: another home, the passphrase file."""
    variables = {"CRYPTFS_HOME": os.environ.get("CRYPTFS_HOME"), "CRYPTFS_PASSPHRASE_FILE": passphrase_file}
    paths = {name: str(Path(value).absolute()).replace("%", "%%") for name, value in variables.items() if value}
    lines = [f'Environment="{name}={path}"' for name, path in paths.items()]
    shutil.rmtree(drop_in, ignore_errors=True)
    if lines:
        drop_in.mkdir(parents=True)
        (drop_in / "cryptfs.conf").write_text("\n".join(["[Service]", *lines, ""]))


def _systemctl(*arguments: str) -> None:
    """Run `systemctl --user`. Raises ConfigError where there is no systemd for users, CryptfsError if it refuses."""
    if shutil.which("systemctl") is None:
        raise ConfigError(
            "There is no systemd on this machine.", "Start `cryptfs mount NAME` from your session instead."
        )
    done = subprocess.run(["systemctl", "--user", *arguments], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return
    reason = done.stderr.strip().splitlines()[:1] or [f"exit code {done.returncode}"]
    if "bus" in reason[0]:
        raise ConfigError(f"systemd does not serve this user: {reason[0]}", "Start `cryptfs mount NAME` yourself.")
    raise CryptfsError(f"systemctl --user {arguments[0]}: {reason[0]}", "See `journalctl --user -u 'cryptfs@*'`.")
