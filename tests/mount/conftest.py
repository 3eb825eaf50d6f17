"""A file system on a vault in memory."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from memory_vault import MemoryVault, new_replica
from mount_kernel import Kernel


@pytest.fixture
def vault(tmp_path) -> Iterator[MemoryVault]:
    replica = new_replica(tmp_path / "replica.db")
    yield MemoryVault(replica)
    replica.close()


@pytest.fixture
def kernel(vault) -> Kernel:
    return Kernel(vault)
