"""The key file of a device, `keys.cfs`: its own secrets under a passphrase.

    file   = hdr ‖ SEAL(Argon2id(passphrase, salt, m, t, p; 32 bytes), "cryptfs/v1 keystore" ‖ 00 ‖ H(hdr), keys)
    hdr    = "CFSKEYS1" ‖ u32 m_KiB ‖ u32 t ‖ u32 p ‖ u32 protection ‖ salt[16]
    keys   = MessagePack [1, V, entry, PKCS#8 DER, certificate DER, Ed25519 seed, local secret,
                          [[invite_id, secret, role, expires_ms]...]]
           | [2, … the same …, token, [[PKCS#8 DER, certificate DER, token]...]]

Argon2id is RFC 9106. `protection` is 1 if there is a passphrase, plus 2 if the certificate's key is on a token (then
its PKCS#8 is empty, and `token` its address). Without a passphrase the same file is made with the empty one and the
least parameters: then only the permissions of the file protect it. The second form is written where a certificate was
renewed, whose key still opens what was wrapped to it, or where there is a token.
"""

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias, TypeVar

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from cryptfs.crypto.certificate import Refusal, Refused, fingerprint, matching_private_key, public_key_of
from cryptfs.crypto.held import HeldKey
from cryptfs.crypto.keys import LocalSecret, keystore_ctx, random_bytes, sign_public
from cryptfs.crypto.seal import SEAL_OVERHEAD_MIN, open_sealed, plain_len, seal
from cryptfs.crypto.wrap import unwrap, unwrap_held
from cryptfs.errors import AuthError, ConfigError, Damaged, UsageError, WrongPassphrase

__all__ = [
    "FORMER_MAX",
    "KDF_DEFAULT",
    "KDF_FLOOR",
    "DeviceKeys",
    "Invitation",
    "KdfParams",
    "KeyPair",
    "Unwrap",
    "decode",
    "encode",
    "is_on_token",
    "is_protected",
]

Unwrap: TypeAlias = Callable[[int, bytes, bytes], bytes]
"""(alg, blob, info) of a wrap to the secret in it; raises AuthError."""

_HEADER: Final = struct.Struct(">8sIIII16s")
_MAGIC: Final = b"CFSKEYS1"
_FORMAT: Final = 1
_FORMAT_MORE: Final = 2
_PASSPHRASE: Final = 1
_TOKEN: Final = 2
FORMER_MAX: Final = 16
"""Certificates before the present one whose keys are kept."""
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
class KeyPair:
    """A certificate (DER) and its private key: unencrypted PKCS#8 DER, or the address of a token that holds it."""

    pkcs8: bytes = field(repr=False)  # empty if the key is on a token
    cert_der: bytes = field(repr=False)
    token: str = ""  # PKCS#11 URI (RFC 7512)
    held: HeldKey | None = field(default=None, repr=False, compare=False)  # the token's key, if it is at hand

    @property
    def at_hand(self) -> tuple[tuple[bytes, HeldKey], ...]:
        """As `DeviceKeys.held` has it."""
        return () if self.held is None else ((fingerprint(self.cert_der), self.held),)


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
    token: str = ""  # address of the token that holds the certificate's key; empty if this file does
    former: tuple[KeyPair, ...] = field(default=(), repr=False)  # before the last renewal, oldest first
    held: tuple[tuple[bytes, HeldKey], ...] = field(default=(), repr=False, compare=False)
    """Keys on tokens that are at hand now, by the fingerprint of their certificate; never stored."""

    def __post_init__(self) -> None:
        if len(self.former) > FORMER_MAX:
            raise Damaged("the key file has too many former certificates")
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

    @property
    def pair(self) -> KeyPair:
        """The certificate in use, and its key."""
        return KeyPair(self.cert_key_pkcs8, self.cert_der, self.token)

    def renewed(self, pair: KeyPair) -> "DeviceKeys":
        """These keys with another certificate; that of now is kept to open what was wrapped to it."""
        former = (*(one for one in self.former if one.cert_der != pair.cert_der), self.pair)
        return replace(
            self,
            cert_key_pkcs8=pair.pkcs8,
            cert_der=pair.cert_der,
            token=pair.token,
            former=former[-FORMER_MAX:],
            held=(*self.held, *pair.at_hand),
        )

    def check_pair(self) -> None:
        """Raise Refused unless the certificate's private key belongs to it, or its token is at hand."""
        _opener(self.pair, dict(self.held))

    def openers(self) -> dict[bytes, Unwrap]:
        """What opens wraps, by the fingerprint of the certificate they were made for.

        A former key that is on a token which is not here is left out. Raises Refused if the key in use is not at hand
        or not the certificate's.
        """
        held = dict(self.held)
        found = {}
        for one in self.former:
            if not one.token or fingerprint(one.cert_der) in held:
                found[fingerprint(one.cert_der)] = _opener(one, held)
        found[fingerprint(self.cert_der)] = _opener(self.pair, held)
        return found

    def check_entry(self, cert_der: bytes, sign_public: bytes) -> None:
        """Raise Refused unless these keys are the ones that the roster has for this device's entry."""
        self.check_pair()
        if self.cert_der != cert_der or self.sign_public != sign_public:
            raise Refused(Refusal.MISMATCH)


def _opener(pair: KeyPair, held: Mapping[bytes, HeldKey]) -> Unwrap:
    if not pair.token:
        private_key = matching_private_key(pair.pkcs8, pair.cert_der)
        return lambda alg, blob, info: unwrap(private_key, alg, blob, info)
    on_token = held.get(fingerprint(pair.cert_der))
    if on_token is None:
        raise Refused(Refusal.NO_TOKEN)
    public_key = public_key_of(pair.cert_der)
    return lambda alg, blob, info: unwrap_held(on_token, public_key, alg, blob, info)


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


_K = TypeVar("_K", bound=_Keys)


class _Pair(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    pkcs8: bytes
    cert_der: bytes
    token: str


class _MoreKeys(_Keys, array_like=True, forbid_unknown_fields=True, frozen=True):
    token: str
    former: tuple[_Pair, ...]


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
    protection = _PASSPHRASE * (passphrase is not None) | _TOKEN * bool(keys.token)
    header = _HEADER.pack(_MAGIC, params.memory_kib, params.passes, params.lanes, protection, salt)
    plain = msgspec.msgpack.encode(_stored(keys))
    return header + seal(_passphrase_key(passphrase or b"", salt, params), keystore_ctx(header), plain)


def _stored(keys: DeviceKeys) -> _Keys:
    """The least form that holds these keys."""
    invitations = tuple(_Invitation(i.invite_id, i.secret, i.role, i.expires_ms) for i in keys.invitations)
    first = (keys.vault, keys.entry, keys.cert_key_pkcs8, keys.cert_der, keys.sign_seed, keys.local_secret, invitations)
    if not keys.token and not keys.former:
        return _Keys(_FORMAT, *first)
    former = tuple(_Pair(one.pkcs8, one.cert_der, one.token) for one in keys.former)
    return _MoreKeys(_FORMAT_MORE, *first, keys.token, former)


def _split(data: bytes) -> tuple[bytes, KdfParams, int, bytes]:
    """Header, cost, protection, salt. Raises Damaged."""
    if not _HEADER.size + SEAL_OVERHEAD_MIN <= len(data) <= _FILE_MAX:
        raise Damaged("the key file has a wrong length")
    header = data[: _HEADER.size]
    magic, memory_kib, passes, lanes, protection, salt = _HEADER.unpack(header)
    if magic != _MAGIC or protection & ~(_PASSPHRASE | _TOKEN):
        raise Damaged("this is not a key file of this version")
    return header, KdfParams(memory_kib, passes, lanes), protection, salt


def is_protected(data: bytes) -> bool:
    """Whether the key file needs a passphrase, without trying one. Raises Damaged."""
    return bool(_split(data)[2] & _PASSPHRASE)


def is_on_token(data: bytes) -> bool:
    """Whether a token with the certificate's key is needed, too. Raises Damaged."""
    return bool(_split(data)[2] & _TOKEN)


def decode(data: bytes, passphrase: bytes | None) -> DeviceKeys:
    """The keys in a key file. An unprotected file opens with any `passphrase`.

    Raises Damaged if it is not a key file, WrongPassphrase if it does not open.
    """
    header, params, protection, salt = _split(data)
    protected = bool(protection & _PASSPHRASE)
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
    stored = _read(plain, _Keys) or _read(plain, _MoreKeys)
    if stored is None:
        raise Damaged("the key file opens but cannot be read")
    more = isinstance(stored, _MoreKeys)
    if stored.fmt != (_FORMAT_MORE if more else _FORMAT) or msgspec.msgpack.encode(stored) != plain:
        raise Damaged("the key file opens but is not of this version")
    keys = DeviceKeys(
        stored.vault,
        stored.entry,
        stored.cert_key_pkcs8,
        stored.cert_der,
        stored.sign_seed,
        LocalSecret(stored.local_secret),
        tuple(Invitation(i.invite_id, i.secret, i.role, i.expires_ms) for i in stored.invitations),
    )
    if not isinstance(stored, _MoreKeys):
        return keys
    former = tuple(KeyPair(one.pkcs8, one.cert_der, one.token) for one in stored.former)
    return replace(keys, token=stored.token, former=former)


def _read(plain: bytes, form: type[_K]) -> _K | None:
    """The stored keys if they have this form. Errors are not passed on: they might quote what was read."""
    try:
        return msgspec.msgpack.decode(plain, type=form)
    except msgspec.DecodeError:
        return None
