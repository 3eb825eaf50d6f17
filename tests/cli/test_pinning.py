"""`cryptfs pin` and `unpin` as a person meets them, without a mount."""

import json
from pathlib import Path

import pytest

from tests.cli.transcripts import Run


@pytest.fixture
def filled(run: Run, vault: str, tmp_path: Path) -> str:
    """A vault with a folder `papers` that holds one file, whose contents are in the store alone."""
    papers = tmp_path / "papers"
    papers.mkdir()
    (papers / "plan").write_bytes(bytes(range(256)) * 4096)
    assert run("put", vault, papers).code == 0
    assert run("sync", vault).code == 0
    for path in tmp_path.rglob("cache/team/packs/*"):
        path.unlink()
    return vault


def test_pinning_listing_and_unpinning(run: Run, filled: str) -> None:
    assert run("pin", filled).err == "Nothing of 'team' is pinned.\n"
    pinned = run("pin", filled, "papers")
    assert pinned.code == 0
    assert pinned.out.splitlines()[1].split()[:3] == ["/papers", "folder", "1"]
    assert "It is fetched while 'team' is mounted; --wait fetches it now." in pinned.err
    waited = json.loads(run("pin", filled, "papers", "--wait", "--json").out)
    assert (waited["state"], waited["problems"], len(waited["pins"])) == ("all here", [], 1)
    assert waited["pins"][0]["bytes_here"] == waited["pins"][0]["bytes"] > 1 << 20
    assert run("unpin", filled, "/papers/").err == "Nothing of 'team' is pinned.\n"


def test_what_cannot_be_pinned_is_said_with_advice(run: Run, filled: str) -> None:
    missing = run("pin", filled, "wrok")
    assert (missing.code, missing.err.splitlines()[0]) == (66, "cryptfs: There is no '/wrok'.")
    assert run("unpin", filled, "papers").err.splitlines() == [
        "cryptfs: '/papers' is not pinned.", "`cryptfs pin NAME` lists what is.",
    ]  # fmt: skip
    assert run("pin", filled, "--wait").code == 64
