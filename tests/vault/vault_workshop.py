"""A vault in process: real keys, real journal, real replica; the store is a directory or a misbehaving one."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cryptfs.crypto.keyfile import DeviceKeys
from cryptfs.crypto.keys import LocalSecret, random_bytes
from cryptfs.crypto.selfsigned import make_certificate
from cryptfs.faults import Faults
from cryptfs.format.names import root_inode
from cryptfs.format.operation import KIND_FILE, Create, Unlink, provisional_ino
from cryptfs.group.founding import found
from cryptfs.store import Call, DirectoryStore, Store
from cryptfs.vault.content import FileContent
from cryptfs.vault.home import VaultHome
from cryptfs.vault.opening import open_vault
from cryptfs.vault.vault import Vault, VaultOptions


@dataclass
class Workshop:
    """One member's device and a store directory; opens the vault as often as a test likes."""

    base: Path
    keys: DeviceKeys
    make_store: Callable[[], Store]
    faults: Faults = field(default_factory=Faults)
    options: VaultOptions = field(default_factory=VaultOptions)

    @property
    def home(self) -> VaultHome:
        top = self.base / "home"
        return VaultHome("v", top / "config", top / "data" / "v", top / "cache" / "v", top / "run")

    def open(self) -> AbstractAsyncContextManager[Vault]:
        return self._open()

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[Vault]:
        async with open_vault(self.home, self.keys, self.make_store(), self.options, self.faults) as vault:
            yield vault


def new_keys(objects: list[tuple[str, bytes]]) -> DeviceKeys:
    """Found a vault; its objects are appended to `objects`."""
    key, certificate = make_certificate("tester", datetime.now(tz=UTC))
    seed = random_bytes(32)
    founding = found(
        name="v", display="tester", label="bench", cert_der=certificate, sign_seed=seed, recovery=None, now_ms=0
    )
    objects.extend(founding.objects)
    return DeviceKeys(founding.vault, founding.entry, key, certificate, seed, LocalSecret(random_bytes(32)))


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    """A new vault on a directory store."""
    folder = tmp_path / "store"
    folder.mkdir()
    objects: list[tuple[str, bytes]] = []
    keys = new_keys(objects)
    store = DirectoryStore(folder)
    for name, data in objects:
        store.put(name, data, Call())
    store.close()
    return Workshop(tmp_path, keys, lambda: DirectoryStore(folder))


def make_file(vault: Vault, name: bytes, parent: bytes | None = None, mode: int = 0o644) -> int:
    """Create an empty file; returns its st."""
    ino = parent if parent is not None else root_inode(vault.vault_id)
    k = vault.submit(Create(ino, name, KIND_FILE, mode, 1000, 1000, 0, 1, b"", None))
    st = vault.replica.st_of(provisional_ino(k))
    assert st is not None
    return st


async def write_file(vault: Vault, name: bytes, data: bytes, offset: int = 0) -> int:
    """Create a file with these bytes, or write into the one that has the name; returns its st."""
    entry = vault.replica.lookup(1, name)
    st = entry.st if entry is not None else make_file(vault, name)
    content = vault.open_file(st)
    await content.write(offset, data, 1_000)
    vault.release_file(content)
    return st


async def read_file(vault: Vault, name: bytes) -> bytes:
    """All bytes of a file."""
    entry = vault.replica.lookup(1, name)
    assert entry is not None
    content: FileContent = vault.open_file(entry.st)
    out = bytearray()
    while len(out) < content.size:
        out += await content.read(len(out), 128 << 10)
    vault.release_file(content)
    return bytes(out)


def remove_file(vault: Vault, name: bytes) -> None:
    entry = vault.replica.lookup(1, name)
    assert entry is not None
    node = vault.replica.node(entry.st)
    assert node is not None
    replica = vault.replica
    vault.submit(Unlink(replica.ino_of(entry.st), replica.extern_ver(entry.lver), replica.extern_ver(node.cver)))
