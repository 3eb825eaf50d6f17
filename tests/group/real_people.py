"""Devices with real certificates, and a folder of membership objects that everybody sees."""

from datetime import UTC, datetime

from cryptfs.crypto.certificate import public_key_of
from cryptfs.crypto.keyfile import DeviceKeys
from cryptfs.crypto.keys import LocalSecret, new_sign_seed, random_bytes, sign_public
from cryptfs.crypto.recovery import RecoverySecret, new_recovery_seed
from cryptfs.crypto.selfsigned import make_certificate
from cryptfs.format.segment_body import LogHead
from cryptfs.format.statement import HOW_WORDS, Cut, Device, prove_possession
from cryptfs.group.decisions import Decision, Desk, Newcomer
from cryptfs.group.founding import found
from cryptfs.group.membership import Membership, open_membership

READER, WRITER, ADMIN, OWNER = range(4)
NOW = datetime(2026, 5, 12, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)
ANCHOR = LogHead(bytes(16), 0, bytes(32))


class Someone:
    """A device that may be in the vault of a folder."""

    def __init__(self, name: str, vault: bytes = bytes(32)) -> None:
        self.name = name
        self.member = random_bytes(16)
        self.key, self.cert = make_certificate(name, NOW)
        self.seed = new_sign_seed()
        self.local = LocalSecret(random_bytes(32))
        self.entry = bytes(32)
        self.vault = vault

    @property
    def device(self) -> Device:
        return Device(self.cert, sign_public(self.seed), b"", "laptop")

    @property
    def keys(self) -> DeviceKeys:
        return DeviceKeys(self.vault, self.entry, self.key, self.cert, self.seed, self.local)

    def as_newcomer(self, role: int) -> Newcomer:
        pop = prove_possession(self.vault, self.cert, sign_public(self.seed), self.seed)
        return Newcomer(self.member, self.name, role, self.device, pop, HOW_WORDS)


class Folder:
    """The membership objects of one vault, founded by Anna."""

    def __init__(self, *, recovery: bool = True) -> None:
        self.recovery = RecoverySecret(new_recovery_seed()) if recovery else None
        self.anna = Someone("Anna")
        founding = found(
            name="vault",
            display="Anna",
            label="laptop",
            cert_der=self.anna.cert,
            sign_seed=self.anna.seed,
            recovery=self.recovery,
            now_ms=NOW_MS,
        )
        self.vault = self.anna.vault = founding.vault
        self.anna.entry = founding.entry
        self.founding = founding
        self.objects = list(founding.objects)

    def someone(self, name: str) -> Someone:
        return Someone(name, self.vault)

    def seen_by(self, who: Someone | RecoverySecret) -> Membership:
        return open_membership(self.objects, self.vault, who if isinstance(who, RecoverySecret) else who.keys)

    def desk(self, who: Someone | RecoverySecret, seen: Membership | None = None) -> Desk:
        return Desk(seen or self.seen_by(who), public_key_of, NOW_MS)

    def upload(self, *decisions: Decision) -> None:
        for decision in decisions:
            self.objects += decision.objects

    def admit(self, name: str, role: int, by: Someone | None = None) -> Someone:
        who = self.someone(name)
        decision = self.desk(by or self.anna).admit(who.as_newcomer(role))
        self.upload(decision)
        assert decision.statement is not None
        who.entry = decision.statement.id
        return who

    def remove(self, *out: Someone, by: Someone | None = None, ends: dict[bytes, Cut] | None = None) -> None:
        self.upload(self.desk(by or self.anna).remove([one.entry for one in out], (), ends))
