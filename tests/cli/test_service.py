"""`cryptfs enable` and `disable`, with a systemctl that only writes down what it is told."""

import stat
import sys
from pathlib import Path

import pytest

from tests.cli.transcripts import Run, two_lines


@pytest.fixture
def systemctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the calls of systemctl are written to."""
    tools, calls = tmp_path / "bin", tmp_path / "calls"
    tools.mkdir()
    script = tools / "systemctl"
    script.write_text(f'#!/bin/sh\necho "$*" >>{calls}\n')
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tools), prepend=":")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return calls


def test_enable_installs_starts_and_keeps_the_home(
    run: Run, vault: str, systemctl: Path, home: Path, tmp_path: Path
) -> None:
    result = run("enable", vault)
    assert result.code == 0, result.err
    units = tmp_path / "config/systemd/user"
    unit = (units / "cryptfs@.service").read_text()
    assert f"ExecStart={sys.executable} -m cryptfs mount --foreground %i\n" in unit
    assert "%h/.local/bin" not in unit
    drop_in = (units / "cryptfs@team.service.d/cryptfs.conf").read_text()
    assert drop_in == f'[Service]\nEnvironment="CRYPTFS_HOME={home}"\n'
    assert systemctl.read_text().splitlines() == [
        "--user daemon-reload",
        "--user enable --now cryptfs@team.service",
    ]


def test_disable_takes_back_what_enable_did(run: Run, vault: str, systemctl: Path, tmp_path: Path) -> None:
    run("enable", vault)
    assert run("disable", vault).code == 0
    assert not (tmp_path / "config/systemd/user/cryptfs@team.service.d").exists()
    assert "--user disable --now cryptfs@team.service" in systemctl.read_text()


def test_a_service_has_nobody_to_ask_for_a_passphrase(
    run: Run, store_dir: Path, systemctl: Path, tmp_path: Path
) -> None:
    secret = tmp_path / "passphrase"
    secret.write_text("secret")
    assert run("init", "team", store_dir, "--passphrase-file", secret, "--no-recovery").code == 0
    result = run("enable", "team")
    assert (result.code, two_lines(result)[1]) == (64, "Name a file only you can read: --passphrase-file FILE.")
    assert run("enable", "team", "--passphrase-file", secret).code == 0
    drop_in = tmp_path / "config/systemd/user/cryptfs@team.service.d/cryptfs.conf"
    assert f'Environment="CRYPTFS_PASSPHRASE_FILE={secret}"' in drop_in.read_text()


def test_without_systemd_the_advice_is_another_way(run: Run, vault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    result = run("enable", vault)
    assert (result.code, two_lines(result)[0]) == (78, "cryptfs: There is no systemd on this machine.")
