"""The key file of a device, `keys.cfs`: its own secrets under a passphrase.

    file   = hdr ‖ SEAL(Argon2id(passphrase, salt, m, t, p; 32 bytes), "cryptfs/v1 keystore" ‖ 00 ‖ H(hdr), keys)
    hdr    = "CFSKEYS1" ‖ u32 m_KiB ‖ u32 t ‖ u32 p ‖ u32 protection (0 none, 1 passphrase) ‖ salt[16]
    keys   = MessagePack [1, V, entry, PKCS#8 DER, certificate DER, Ed25519 seed, local secret,
                          [[invite_id, secret, role, expires_ms]...]]

Argon2id is RFC 9106. Without a passphrase the same file is made with the empty one and the least parameters, and says
so in its header: then only the permissions of the file protect it.
"""

import struct
from dataclasses import dataclass, field
from typing import Final

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from cryptfs.crypto.certificate import Refusal, Refused, WrapPrivateKey, matching_private_key
from cryptfs.crypto.keys import LocalSecret, keystore_ctx, random_bytes, sign_public
from cryptfs.crypto.seal import SEAL_OVERHEAD_MIN, open_sealed, plain_len, seal
from cryptfs.errors import AuthError, ConfigError, Damaged, UsageError, WrongPassphrase

__all__ = ["KDF_DEFAULT", "KDF_FLOOR", "DeviceKeys", "Invitation", "KdfParams", "decode", "encode", "is_protected"]

_HEADER: Final = struct.Struct(">8sIIII16s")
_MAGIC: Final = b"CFSKEYS1"
_FORMAT: Final = 1
_FILE_MAX: Final = 1 << 20

# Bounds on what a file may ask for. Below, a planted file could make a passphrase cheap to guess; above, it could take
# the machine's memory or time.
_MEMORY_KIB: Final = range(64 * 1024, 4 * 1024 * 1024 + 1)
_PASSES: Final = range(1, 16 + 1)
_LANES: Final = range(1, 16 + 1)


@dataclass(frozen=True, slots=True)
class KdfParams:
    """Cost of Argon2id: memory in KiB, passes, lanes. Raises Damaged outside 64 MiB..4 GiB, 1..16, 1..16."""

    memory_kib: int
    passes: int
    lanes: int

    def __post_init__(self) -> None:
        if self.memory_kib not in _MEMORY_KIB or self.passes not in _PASSES or self.lanes not in _LANES:
            raise Damaged("the key file asks for a passphrase cost out of bounds")


KDF_DEFAULT: Final = KdfParams(256 * 1024, 3, 4)
KDF_FLOOR: Final = KdfParams(64 * 1024, 1, 1)


@dataclass(frozen=True, slots=True)
class Invitation:
    """An open invitation of this device: id and secret 16 bytes each, the role offered, expiry in ms since 1970."""

    invite_id: bytes
    secret: bytes = field(repr=False)
    role: int
    expires_ms: int

    def __post_init__(self) -> None:
        if len(self.invite_id) != 16 or len(self.secret) != 16 or self.role not in range(4):
            raise Damaged("an invitation in the key file is out of range")


@dataclass(frozen=True, slots=True)
class DeviceKeys:
    """Everything secret that one device owns. Its repr shows none of it. Raises Damaged when a length is wrong."""

    vault: bytes
    entry: bytes  # 32 bytes; zeros until the device has found its `add`
    cert_key_pkcs8: bytes = field(repr=False)  # unencrypted PKCS#8 DER; empty if the key is on a token
    cert_der: bytes = field(repr=False)
    sign_seed: bytes = field(repr=False)  # 32 bytes; empty until the `enrol` record of an entry by certificate is open
    local_secret: LocalSecret = field(repr=False)  # 32 bytes
    invitations: tuple[Invitation, ...] = ()

    def __post_init__(self) -> None:
        if (len(self.vault), len(self.entry), len(self.local_secret)) != (32, 32, 32):
            raise Damaged("a value in the key file has a wrong length")
        if len(self.sign_seed) not in {0, 32}:
            raise Damaged("the signing key in the key file has a wrong length")

    @property
    def sign_public(self) -> bytes:
        """Public half of the signing key, 32 bytes. Raises Refused if the device has none yet."""
        if not self.sign_seed:
            raise Refused(Refusal.MISMATCH)
        return sign_public(self.sign_seed)

    def cert_private_key(self) -> WrapPrivateKey:
        """The certificate's private key. Raises Refused if it does not belong to the certificate."""
        return matching_private_key(self.cert_key_pkcs8, self.cert_der)

    def check_entry(self, cert_der: bytes, sign_public: bytes) -> None:
        """Raise Refused unless these keys are the ones that the roster has for this device's entry."""
        self.cert_private_key()
        if self.cert_der != cert_der or self.sign_public != sign_public:
            raise Refused(Refusal.MISMATCH)


class _Invitation(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    invite_id: bytes
    secret: bytes
    role: int
    expires_ms: int


class _Keys(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    fmt: int
    vault: bytes
    entry: bytes
    cert_key_pkcs8: bytes
    cert_der: bytes
    sign_seed: bytes
    local_secret: bytes
    invitations: tuple[_Invitation, ...]


def _passphrase_key(passphrase: bytes, salt: bytes, params: KdfParams) -> bytes:
    try:
        return Argon2id(
            salt=salt, length=32, iterations=params.passes, lanes=params.lanes, memory_cost=params.memory_kib
        ).derive(passphrase)
    except (UnsupportedAlgorithm, MemoryError) as err:
        raise ConfigError(f"no Argon2id with {params.memory_kib // 1024} MiB of memory on this machine") from err


def encode(keys: DeviceKeys, passphrase: bytes | None, params: KdfParams = KDF_DEFAULT) -> bytes:
    """The key file. `passphrase` None: unprotected, `params` then do not matter. Raises UsageError for an empty one."""
    if passphrase == b"":
        raise UsageError("an empty passphrase protects nothing", "Give a passphrase, or use --no-passphrase.")
    if passphrase is None:
        params = KDF_FLOOR
    salt = random_bytes(16)
    protection = int(passphrase is not None)
    header = _HEADER.pack(_MAGIC, params.memory_kib, params.passes, params.lanes, protection, salt)
    plain = msgspec.msgpack.encode(
        _Keys(
            _FORMAT,
            keys.vault,
            keys.entry,
            keys.cert_key_pkcs8,
            keys.cert_der,
            keys.sign_seed,
            keys.local_secret,
            tuple(_Invitation(i.invite_id, i.secret, i.role, i.expires_ms) for i in keys.invitations),
        )
    )
    return header + seal(_passphrase_key(passphrase or b"", salt, params), keystore_ctx(header), plain)


def _split(data: bytes) -> tuple[bytes, KdfParams, bool, bytes]:
    """Header, cost, whether a passphrase is needed, salt. Raises Damaged."""
    if not _HEADER.size + SEAL_OVERHEAD_MIN <= len(data) <= _FILE_MAX:
        raise Damaged("the key file has a wrong length")
    header = data[: _HEADER.size]
    magic, memory_kib, passes, lanes, protection, salt = _HEADER.unpack(header)
    if magic != _MAGIC or protection not in {0, 1}:
        raise Damaged("this is not a key file of this version")
    return header, KdfParams(memory_kib, passes, lanes), protection == 1, salt


def is_protected(data: bytes) -> bool:
    """Whether the key file needs a passphrase, without trying one. Raises Damaged."""
    return _split(data)[2]


def decode(data: bytes, passphrase: bytes | None) -> DeviceKeys:
    """The keys in a key file. An unprotected file opens with any `passphrase`.

    Raises Damaged if it is not a key file, WrongPassphrase if it does not open.
    """
    header, params, protected, salt = _split(data)
    try:
        plain_len(len(data) - len(header))
    except AuthError:
        raise Damaged("the key file has a wrong length") from None
    if protected and not passphrase:
        raise WrongPassphrase("the key file needs a passphrase")
    key = _passphrase_key(passphrase or b"" if protected else b"", salt, params)
    try:
        plain = open_sealed(key, keystore_ctx(header), data[len(header) :])
    except AuthError:
        raise WrongPassphrase("the key file does not open: wrong passphrase, or the file is damaged") from None
    return _parse(plain)


def _parse(plain: bytes) -> DeviceKeys:
    try:
        stored = msgspec.msgpack.decode(plain, type=_Keys)
    except msgspec.DecodeError:  # not chained: it might quote what it read
        raise Damaged("the key file opens but cannot be read") from None
    if stored.fmt != _FORMAT or msgspec.msgpack.encode(stored) != plain:
        raise Damaged("the key file opens but is not of this version")
    return DeviceKeys(
        stored.vault,
        stored.entry,
        stored.cert_key_pkcs8,
        stored.cert_der,
        stored.sign_seed,
        LocalSecret(stored.local_secret),
        tuple(Invitation(i.invite_id, i.secret, i.role, i.expires_ms) for i in stored.invitations),
    )
