"""What the crash tests share: vaults with a daemon that can be killed, helpers of the conformance tests."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "conformance"))
sys.path.insert(0, str(HERE))

from mounting import Mount, Vault, scratch  # noqa: E402

LAUNCHER = (str(HERE / "faulty_daemon.py"),)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.fuse)


@pytest.fixture(autouse=True)
def _tools() -> None:
    if os.environ.get("CI") and shutil.which("fusermount3") is None:
        pytest.fail("install fuse3: these tests mount")
    if shutil.which("fusermount3") is None:
        pytest.skip("needs fusermount3")


class Stage:
    """A vault and every daemon started on it; all are gone at the end, whatever happened."""

    def __init__(self, vault: Vault) -> None:
        self.vault, self._mounts = vault, list[Mount]()

    @property
    def point(self) -> Path:
        return self.vault.point

    @property
    def last(self) -> Mount:
        """The mount started last."""
        return self._mounts[-1]

    def mount(self, *options: str, must: bool = True, **faults: object) -> Mount:
        """Mount; with `at=`, `act=`, `sticky=`, `trace=` the daemon is the one with faults."""
        environ = {f"FAULT_{key.upper()}": str(value) for key, value in faults.items()}
        if environ:
            mount = self.vault.mount(*options, launcher=LAUNCHER, environ=environ, must=must)
        else:
            mount = self.vault.mount(*options, must=must)
        self._mounts.append(mount)
        return mount

    def close(self) -> None:
        for mount in self._mounts:
            mount.close()


@pytest.fixture
def stage() -> Iterator[Stage]:
    """A new vault, not mounted."""
    with scratch() as base:
        vault = Vault(base)
        vault.init()
        stage = Stage(vault)
        try:
            yield stage
        finally:
            stage.close()


@pytest.fixture
def make_stage() -> Iterator[Callable[..., Stage]]:
    """Vaults at places of the test's choice."""
    stages: list[Stage] = []

    def make(base: Path, **kwargs: object) -> Stage:
        vault = Vault(base, **kwargs)
        vault.init()
        stages.append(Stage(vault))
        return stages[-1]

    yield make
    for stage in stages:
        stage.close()
