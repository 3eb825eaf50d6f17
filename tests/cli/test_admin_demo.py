"""The demonstration of a group (docs/membership.md, "A group in ten minutes") runs to its end, with three mounts."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.fuse
def test_the_group_demonstration_works_from_its_first_line_to_its_last(tmp_path: Path) -> None:
    for program, module in (("cryptfs", "main"), ("cryptfs-admin", "admin")):
        script = tmp_path / program
        script.write_text(
            f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\n"
            f"from cryptfs.cli.{module} import run\nrun()\n"
        )
        script.chmod(0o755)
    environ = os.environ | {"CRYPTFS_BIN": str(tmp_path), "TMPDIR": str(tmp_path), "NO_COLOR": "1"}
    done = subprocess.run(
        [ROOT / "contrib/demo_group.sh"], env=environ, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "No name and no word of the files above" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cryptfs", "cryptfs-admin"]
