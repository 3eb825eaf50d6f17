"""`cryptfs doctor`."""

import json
import shutil
from pathlib import Path

from tests.cli.transcripts import Run


def findings(run: Run, vault: str) -> tuple[int, dict[str, dict[str, str]]]:
    result = run("doctor", vault, "--json")
    return result.code, {finding["subject"]: finding for finding in json.loads(result.out)[vault]}


def test_a_healthy_vault_has_nothing_to_advise(run: Run, vault: str, store_dir: Path) -> None:
    _, found = findings(run, vault)
    assert {subject: finding["verdict"] for subject, finding in found.items()} == dict.fromkeys(
        ("keys", "options", "mount", "local disk", "store"), "ok"
    )
    assert found["store"]["text"].startswith(f"file://{store_dir} answers (vault ")


def test_a_store_that_is_gone_fails_and_is_named(run: Run, vault: str, store_dir: Path) -> None:
    shutil.rmtree(store_dir)
    code, found = findings(run, vault)
    assert (code, found["store"]["verdict"]) == (78, "fail")
    assert found["store"]["advice"]


def test_keys_open_to_others_are_noticed(run: Run, vault: str, home: Path) -> None:
    (home / "data/team/keys.cfs").chmod(0o644)
    _, found = findings(run, vault)
    assert found["keys"]["verdict"] == "warn"
    assert found["keys"]["advice"].startswith("`chmod 600 ")


def test_an_option_nobody_knows_fails(run: Run, vault: str, home: Path) -> None:
    with (home / "config/team.toml").open("a") as settings:
        settings.write("explode = true\n")
    _, found = findings(run, vault)
    assert found["options"]["verdict"] == "fail"
    assert found["store"]["verdict"] == "ok"


def test_the_text_names_machine_and_vault(run: Run, vault: str) -> None:
    shown = run("doctor").out
    assert shown.startswith("this machine:\n  ok   cryptfs: ")
    assert "\nteam:\n  ok   keys: protected by file permissions alone\n" in shown
