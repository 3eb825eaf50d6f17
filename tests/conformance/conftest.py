"""Where the conformance tests run: on a cryptfs mount of their own, or on the directory CRYPTFS_CONFORMANCE_DIR.

The second way proves the tests right: they must pass on ext4 and tmpfs, apart from what `known` names.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from mounting import Mount, Vault, fstype_of, scratch, watchdog  # noqa: E402

HANG_SECONDS = 200.0
ELSEWHERE = os.environ.get("CRYPTFS_CONFORMANCE_DIR", "")
REQUIRED = bool(os.environ.get("CI"))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "known(**fstype): this file system is known to differ, with the reason")
    config.addinivalue_line("markers", "needs_root: acts as several users, or makes device nodes")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents and "target" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.fuse)


class Place:
    """The file system under test: a vault that can be remounted, or a plain directory where that does nothing."""

    def __init__(self, root: Path, vault: Vault | None = None, mount: Mount | None = None) -> None:
        self.root, self.vault, self.mount = root, vault, mount
        self.fstype = fstype_of(root)

    def remount(self, *, forget: bool = False, options: tuple[str, ...] = ()) -> None:
        """Unmount and mount again; with `forget` cache and replica are deleted in between."""
        if self.vault is None or self.mount is None:
            return
        if forget:
            self.vault.sync()
        self.mount.stop()
        if forget:
            self.vault.forget_local()
        self.mount = self.vault.mount(*options)


def require_fuse() -> None:
    """Skip on a contributor's machine, fail where mounts are required: never silently."""
    missing = [tool for tool in ("/dev/fuse",) if not os.access(tool, os.R_OK | os.W_OK)]
    missing += [tool for tool in ("fusermount3",) if shutil.which(tool) is None]
    if missing and REQUIRED:
        pytest.fail(f"mount tests must run here, but {' and '.join(missing)} is not usable")
    if missing:
        pytest.skip(f"needs {' and '.join(missing)}")


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    if ELSEWHERE:
        root = Path(tempfile.mkdtemp(prefix="conformance-", dir=ELSEWHERE))
        root.chmod(0o755)
        yield Place(root)
        shutil.rmtree(root, ignore_errors=True)
        return
    require_fuse()
    with scratch() as base:
        vault = Vault(base)
        vault.init()
        place = Place(base, vault, vault.mount())
        place.root, place.fstype = vault.point, "cryptfs"
        try:
            yield place
            assert place.mount is not None
            place.mount.stop()
        finally:
            if place.mount is not None:
                place.mount.close()


@pytest.fixture
def target(place: Place, request: pytest.FixtureRequest) -> Iterator[Path]:
    """An empty directory of the file system under test, this test's own; everybody may pass through it."""
    root = request.getfixturevalue("place").root
    path = Path(tempfile.mkdtemp(prefix="t-", dir=root))
    path.chmod(0o755)
    old_umask, old_place = os.umask(0o022), Path.cwd()
    try:
        with watchdog(place.mount, HANG_SECONDS):
            yield path
    finally:
        os.umask(old_umask)
        os.chdir(old_place)
    assert place.mount is None or place.mount.alive(), f"the daemon ended:\n{place.mount.said()[-6000:]}"


@pytest.fixture(autouse=True)
def _known_differences(request: pytest.FixtureRequest) -> None:
    mark = request.node.get_closest_marker("known")
    if mark is not None and "target" in request.fixturenames:
        reason = mark.kwargs.get(request.getfixturevalue("place").fstype)
        if reason:
            request.applymarker(pytest.mark.xfail(reason=reason, strict=False))
    if request.node.get_closest_marker("needs_root") and os.geteuid() != 0:
        if REQUIRED:
            pytest.fail("must run as root here")
        pytest.skip("needs root")


@pytest.fixture
def remount(place: Place) -> Callable[..., None]:
    return place.remount
