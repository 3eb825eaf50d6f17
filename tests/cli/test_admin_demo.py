"""The demonstration of a group (docs/membership.md, "A group in ten minutes") runs to its end, with three mounts."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A directory whose sockets have names that fit: longer ones would lie in a directory beside it."""
    with tempfile.TemporaryDirectory(prefix="cfs-") as name:
        yield Path(name)


@pytest.mark.slow
@pytest.mark.fuse
@pytest.mark.timeout(600)
def test_the_group_demonstration_works_from_its_first_line_to_its_last(short_path: Path) -> None:
    for program, module in (("cryptfs", "main"), ("cryptfs-admin", "admin")):
        script = short_path / program
        script.write_text(
            f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\n"
            f"from cryptfs.cli.{module} import run\nrun()\n"
        )
        script.chmod(0o755)
    environ = os.environ | {"CRYPTFS_BIN": str(short_path), "TMPDIR": str(short_path), "NO_COLOR": "1"}
    done = subprocess.run(
        [ROOT / "contrib/demo_group.sh"], env=environ, capture_output=True, text=True, timeout=540, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "No name and no word of the files above" in done.stdout
    assert sorted(path.name for path in short_path.iterdir()) == ["cryptfs", "cryptfs-admin"]
