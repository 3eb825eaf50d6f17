"""Several people, each with a home and keys of their own, on one folder; nothing is mounted."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from cryptfs.crypto.keyfile import DeviceKeys
from cryptfs.crypto.keys import LocalSecret, new_sign_seed, random_bytes
from cryptfs.crypto.recovery import RecoverySecret, new_recovery_seed
from cryptfs.crypto.selfsigned import make_certificate
from cryptfs.faults import Faults
from cryptfs.format.join import Token
from cryptfs.format.statement import Policy
from cryptfs.group.authority import Tier
from cryptfs.group.founding import DEFAULT_POLICY, found
from cryptfs.store import Call, DirectoryStore, Store
from cryptfs.vault.administration import Welcome, approve, find_request, make_invitation
from cryptfs.vault.home import VaultHome
from cryptfs.vault.joining import Joining
from cryptfs.vault.opening import open_vault
from cryptfs.vault.upload import Sender
from cryptfs.vault.vault import Vault, VaultOptions

WEEK_MS = 7 * 86_400_000


def cause(err: BaseException) -> BaseException:
    """The only error in a group of groups, or the group."""
    while isinstance(err, BaseExceptionGroup) and len(err.exceptions) == 1:
        err = err.exceptions[0]
    return err


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass
class Device:
    """One device: its home, its keys, the folder it sees."""

    name: str
    base: Path
    folder: Path
    keys: DeviceKeys

    def store(self) -> Store:
        return DirectoryStore(self.folder)

    @property
    def home(self) -> VaultHome:
        top = self.base / self.keys.local_secret.hex()[:12]  # two people may have one name
        home = VaultHome("v", top / "config", top / "data" / "v", top / "cache" / "v", top / "run")
        if not home.settings_file.exists():
            home.create_dirs()
            home.write_settings(f"file://{self.folder}")
        return home

    @asynccontextmanager
    async def open(self, options: VaultOptions | None = None) -> AsyncIterator[Vault]:
        try:
            async with open_vault(self.home, self.keys, self.store(), options) as vault:
                yield vault
        except BaseExceptionGroup as group:
            raise cause(group) from None  # trio wraps what a test expects

    @asynccontextmanager
    async def sender(self) -> AsyncIterator[Sender]:
        sender = Sender(self.store(), Faults())
        yield sender
        sender.give_up()
        sender.store.close()

    async def ask(self, token: Token) -> Joining:
        """Post a request."""
        joining = Joining(self.home, self.keys)
        joining.prepare(token, self.name, "laptop", now_ms())
        async with self.sender() as sender:
            await joining.post(sender)
        return joining


@dataclass
class World:
    """The folder, and Anna who founded the vault in it."""

    base: Path
    seed: bytes = field(default_factory=new_recovery_seed)
    policy: Policy = DEFAULT_POLICY
    pair: tuple[bytes, bytes] | None = None
    """Anna's private key (PKCS#8 DER) and certificate; None: she makes her own."""

    def __post_init__(self) -> None:
        self.folder = self.base / "store"
        self.folder.mkdir()
        key, cert = self.pair or make_certificate("Anna", datetime.now(UTC))
        seed = new_sign_seed()
        founding = found(
            name="v", display="Anna", label="desk", cert_der=cert, sign_seed=seed, recovery=RecoverySecret(self.seed),
            now_ms=now_ms(), policy=self.policy,
        )  # fmt: skip
        self.vault = founding.vault
        store = DirectoryStore(self.folder)
        for name, data in founding.objects:
            store.put(name, data, Call())
        store.close()
        keys = DeviceKeys(founding.vault, founding.entry, key, cert, seed, LocalSecret(random_bytes(32)))
        self.anna = Device("Anna", self.base, self.folder, keys)

    def device(self, name: str) -> Device:
        """A device with new keys that nobody knows."""
        key, cert = make_certificate(name, datetime.now(UTC))
        local = LocalSecret(random_bytes(32))
        return Device(
            name, self.base, self.folder, DeviceKeys(self.vault, bytes(32), key, cert, new_sign_seed(), local)
        )

    async def invite(self, role: Tier, *, name: str = "", member: bytes = b"", expires_ms: int = 0) -> Token:
        async with self.anna.open() as vault:
            return await make_invitation(
                vault, role=role, expires_ms=expires_ms or now_ms() + WEEK_MS, name=name, member=member
            )

    async def approve(self, name: str, **how: str) -> Welcome:
        async with self.anna.open() as vault:
            return await approve(vault, await find_request(vault, name), **how)  # type: ignore[arg-type]

    async def admit(self, name: str, role: Tier, member: bytes = b"") -> Device:
        """Somebody invited, who asked, and was approved."""
        who = self.device(name)
        await who.ask(await self.invite(role, member=member))
        async with self.anna.open() as vault:
            await approve(vault, await find_request(vault, name))
        return who
