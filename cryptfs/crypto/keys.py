"""The key tree: every label, context and derivation of docs/format.md, "Ids and keys", stands here once.

    epoch secrets -> write secret W(KS) -> K_fk, K_meta, K_pack, K_log -> file keys -> chunks

Each use of a key is bound to its place by a context, each signature to its label and vault; every part of variable
length carries its length, so that no two uses can share one byte string. Nothing outside this module spells the label
of a key, a context or a signature, and nothing outside it asks the operating system for randomness.

Signatures are Ed25519 (RFC 8032, pure). Libraries accept public keys of small order, for which one constant signature
verifies on every message; those and every second spelling of a key are refused here before anything is verified.
"""

import hashlib
import os
import random
import struct
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Final, NewType

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from cryptfs.errors import AuthError, Invalid

__all__ = [
    "EID_LEN",
    "KEY_SET_MAX",
    "SIGNATURE_LEN",
    "EpochSecret",
    "FileKey",
    "KeyLabel",
    "LocalSecret",
    "PurposeKey",
    "SignLabel",
    "WriteSecret",
    "chance",
    "checkpoint_block_ctx",
    "checkpoint_ctx",
    "chunk_ctx",
    "derive",
    "eid",
    "enrol_info",
    "epoch_commit",
    "file_key_ctx",
    "fingerprint_digest",
    "heads_digest",
    "history_ctx",
    "history_key",
    "invite_id",
    "join_ctx",
    "join_key",
    "key_set",
    "keystore_ctx",
    "local_ctx",
    "local_key",
    "lp",
    "manifest_ctx",
    "new_epoch_secret",
    "new_file_key",
    "new_sign_seed",
    "pack_ctx",
    "random_bytes",
    "recovery_fingerprint",
    "recovery_kem_seed",
    "recovery_sign_seed",
    "refuse_weak_ed25519",
    "segment_ctx",
    "sign",
    "sign_public",
    "verify",
    "verify_once",
    "wrap_info",
    "write_secret",
]

EpochSecret = NewType("EpochSecret", bytes)
"""ES: 32 random bytes; with it one computes every key of its epoch."""
WriteSecret = NewType("WriteSecret", bytes)
"""W(KS): 32 bytes; the secret of a key set, one epoch or several merged."""
PurposeKey = NewType("PurposeKey", bytes)
"""K_x: 32 bytes; seals one kind of thing under one key set, or one kind of local state."""
FileKey = NewType("FileKey", bytes)
"""FK: 32 random bytes; opens the chunks of one content in one key version."""
LocalSecret = NewType("LocalSecret", bytes)
"""32 random bytes that never leave this device; root of the keys of journal, replica and cache."""

EID_LEN: Final = 16
KEY_SET_MAX: Final = 16
"""Epochs in one key set."""

_PREFIX: Final = b"cryptfs/v1 "


class KeyLabel(Enum):
    """What a key derived from a write secret seals."""

    FK = b"fk"
    META = b"meta"
    PACK = b"pack"
    LOG = b"log"


def random_bytes(n: int) -> bytes:
    """`n` bytes from the operating system. The one source of randomness of cryptfs."""
    return os.urandom(n)


def chance() -> random.Random:
    """Numbers from the same source for choosing and waiting: samples, jitter. Keys come from `random_bytes`."""
    return random.SystemRandom()


def lp(part: bytes) -> bytes:
    """LP(x): u32 length, then the bytes."""
    return len(part).to_bytes(4, "big") + part


def _expand(secret: bytes, info: bytes, length: int = 32) -> bytes:
    """HKDF-Expand with SHA-512 (RFC 5869)."""
    return HKDFExpand(SHA512(), length, info).derive(secret)


# ---- epochs --------------------------------------------------------------------------------------------------------


def new_epoch_secret() -> EpochSecret:
    """A fresh epoch secret."""
    return EpochSecret(random_bytes(32))


def new_file_key() -> FileKey:
    """A fresh file key."""
    return FileKey(random_bytes(32))


def epoch_commit(vault: bytes, es: EpochSecret) -> bytes:
    """The 32 public bytes that fix `es`; signed in a statement, so nobody can hand out another secret for the epoch."""
    return _expand(es, b"cryptfs/v1 epoch-commit\0" + lp(vault))


def eid(commit: bytes) -> bytes:
    """Epoch id: the first 16 bytes of the commit. Derived, so two epochs cannot share an id with different secrets."""
    return commit[:EID_LEN]


def key_set(eids: Sequence[bytes]) -> bytes:
    """KS: the ids of 1 to 16 distinct epochs, ascending, as one string. Raises ValueError for anything else."""
    ascending = sorted(set(eids))
    if not 1 <= len(ascending) <= KEY_SET_MAX or len(ascending) != len(eids):
        raise ValueError("a key set has 1 to 16 distinct epochs")
    if any(len(one) != EID_LEN for one in ascending):
        raise ValueError("an epoch id has 16 bytes")
    return b"".join(ascending)


def write_secret(vault: bytes, epochs: Sequence[tuple[bytes, EpochSecret]]) -> WriteSecret:
    """W(KS) of the (eid, secret) pairs, in any order; whoever lacks one of several secrets cannot compute it.

    Raises ValueError unless they are 1 to 16 distinct epochs.
    """
    key_set([epoch for epoch, _ in epochs])
    if len(epochs) == 1:
        return WriteSecret(epochs[0][1])
    material = b"".join(epoch + es for epoch, es in sorted(epochs))
    return WriteSecret(HKDF.extract(SHA512(), b"cryptfs/v1 merge" + vault, material)[:32])


def derive(secret: WriteSecret, label: KeyLabel, vault: bytes, ks: bytes) -> PurposeKey:
    """K_x(KS): the 32-byte key for one purpose under the key set `ks` (16·n bytes)."""
    return PurposeKey(_expand(secret, _PREFIX + label.value + b"\0" + lp(vault) + lp(ks)))


def history_key(vault: bytes, epoch: bytes, es: EpochSecret) -> PurposeKey:
    """K_hist(e): seals, in the statement that starts epoch `epoch` (16 bytes), the secrets of the epochs before it."""
    return PurposeKey(_expand(es, b"cryptfs/v1 hist\0" + lp(vault) + lp(epoch)))


# ---- contexts ------------------------------------------------------------------------------------------------------

_CHUNK_TAIL: Final = struct.Struct(">IQIB")
_MANIFEST_TAIL: Final = struct.Struct(">BQ")
_BLOCK_TAIL: Final = struct.Struct(">HI")


def chunk_ctx(vault: bytes, fid: bytes, fkv: int, index: int, plain_len: int, codec: int) -> bytes:  # noqa: PLR0917  # as in the format
    """Context of a chunk, 82 bytes: `vault` 32, `fid` 16 bytes; `plain_len` in bytes."""
    return b"cryptfs/v1 chunk\0" + vault + fid + _CHUNK_TAIL.pack(fkv, index, plain_len, codec)


def file_key_ctx(vault: bytes, ks: bytes, fid: bytes, fkv: int) -> bytes:
    """Context of a file key box, under K_fk(KS)."""
    return b"cryptfs/v1 fk\0" + vault + lp(ks) + fid + fkv.to_bytes(4, "big")


def history_ctx(vault: bytes, epoch: bytes) -> bytes:
    """Context of a history box, under K_hist of `epoch` (16 bytes)."""
    return b"cryptfs/v1 hist\0" + vault + epoch


def segment_ctx(header: bytes) -> bytes:
    """Context of body1 of a log segment with this header, under K_log(KS)."""
    return b"cryptfs/v1 segment\0" + hashlib.sha256(header).digest()


def pack_ctx(header: bytes) -> bytes:
    """Context of the index of a pack with this header, under K_pack(KS)."""
    return b"cryptfs/v1 pack\0" + hashlib.sha256(header).digest()


def manifest_ctx(vault: bytes, ks: bytes, fid: bytes, level: int, first_chunk: int) -> bytes:
    """Context of a manifest record, under K_meta(KS): `level` 1 for a root (`first_chunk` 0), 0 for a page."""
    return b"cryptfs/v1 manifest\0" + vault + lp(ks) + fid + _MANIFEST_TAIL.pack(level, first_chunk)


def checkpoint_ctx(header: bytes) -> bytes:
    """Context of the head of a checkpoint with this header, under K_meta(KS)."""
    return b"cryptfs/v1 ckpt\0" + hashlib.sha256(header).digest()


def checkpoint_block_ctx(header: bytes, table: int, block_no: int) -> bytes:
    """Context of one block of one table of a checkpoint with this header, under K_meta(KS)."""
    return b"cryptfs/v1 ckpt-block\0" + hashlib.sha256(header).digest() + _BLOCK_TAIL.pack(table, block_no)


def join_ctx(header: bytes) -> bytes:
    """Context of the body of a join request with this header, under K_join."""
    return b"cryptfs/v1 join\0" + hashlib.sha256(header).digest()


def keystore_ctx(header: bytes) -> bytes:
    """Context of a device's key file with this header, under the key from the passphrase."""
    return b"cryptfs/v1 keystore\0" + hashlib.sha256(header).digest()


# ---- signatures ----------------------------------------------------------------------------------------------------

SIGNATURE_LEN: Final = 64

_P: Final = 2**255 - 19
_ORDER_8: Final = (
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
    bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
)
# y of the points of order 1 and 4 (1 and 0), 2 (p - 1), 8 (two values). The sign bit doubles them.
_WEAK_Y: Final = frozenset({0, 1, _P - 1, *(int.from_bytes(y, "little") for y in _ORDER_8)})


class SignLabel(Enum):
    """What a signature is for; one made for one label never verifies for another."""

    MEMBERSHIP = b"membership"
    POP = b"pop"
    WRAPS = b"wraps"
    JOIN = b"join"
    SEGMENT = b"segment"
    CHECKPOINT = b"checkpoint"


def new_sign_seed() -> bytes:
    """A fresh Ed25519 seed, 32 bytes."""
    return random_bytes(32)


def sign_public(seed: bytes) -> bytes:
    """The public key, 32 bytes, of a 32-byte seed."""
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


def refuse_weak_ed25519(public: bytes) -> None:
    """Raise Invalid for a public key that is not 32 bytes, not the one spelling of its point, or of small order."""
    if len(public) != 32:
        raise Invalid("a signing key has 32 bytes")
    y = int.from_bytes(public, "little") & (2**255 - 1)
    if y >= _P or y in _WEAK_Y:
        raise Invalid("a weak signing key is refused")


def _message(label: SignLabel, vault: bytes, data: bytes) -> bytes:
    return _PREFIX + label.value + b"\0" + lp(vault) + lp(data)


def sign(key: bytes | Ed25519PrivateKey, label: SignLabel, vault: bytes, data: bytes) -> bytes:
    """SIG(label, data), 64 bytes, by a 32-byte seed or a key made of one (worth keeping when signing often)."""
    if isinstance(key, bytes):
        key = Ed25519PrivateKey.from_private_bytes(key)
    return key.sign(_message(label, vault, data))


def verify(public: bytes, label: SignLabel, vault: bytes, data: bytes, signature: bytes) -> None:
    """Return if `signature` is SIG(label, data) by `public`, 64 and 32 bytes; else raise AuthError, one for all."""
    try:
        refuse_weak_ed25519(public)
        Ed25519PublicKey.from_public_bytes(public).verify(signature, _message(label, vault, data))
    except (Invalid, InvalidSignature, ValueError):
        # ValueError: OpenSSL refuses some 32-byte strings as keys. One answer for all.
        raise AuthError("a signature does not verify") from None


def verify_once(public: bytes, label: SignLabel, vault: bytes, data: bytes, signature: bytes) -> None:
    """As `verify`, but the latest few thousand signatures that verified are remembered, by hash.

    For membership: a device that learns one statement more reads all of them again, and without this the signatures
    would be nearly all of what that costs.
    """
    seen = hashlib.sha256(lp(public) + lp(signature) + _message(label, vault, data)).digest()
    if seen in _verified:
        return
    verify(public, label, vault, data, signature)
    _verified[seen] = None
    if len(_verified) > _VERIFIED_MAX:
        _verified.popitem(last=False)


_verified: Final[OrderedDict[bytes, None]] = OrderedDict()
_VERIFIED_MAX: Final = 8192
"""A megabyte of hashes."""


# ---- wraps ---------------------------------------------------------------------------------------------------------


def wrap_info(vault: bytes, epoch: bytes, cert_fp: bytes) -> bytes:
    """Binds a wrapped epoch secret to vault, epoch (16 bytes) and recipient certificate (fingerprint, 32 bytes)."""
    return b"cryptfs/v1 wrap\0" + lp(vault) + lp(epoch) + lp(cert_fp)


def enrol_info(vault: bytes, entry: bytes, cert_fp: bytes) -> bytes:
    """Binds a wrapped signing seed to vault, entry (32 bytes) and recipient certificate (fingerprint, 32 bytes)."""
    return b"cryptfs/v1 enrol\0" + lp(vault) + lp(entry) + lp(cert_fp)


def recovery_fingerprint(sign_public: bytes, kem_public: bytes) -> bytes:
    """Stands in a wrap for the certificate fingerprint when the recipient is the recovery key. 32 bytes."""
    return hashlib.sha256(b"cryptfs/v1 recovery\0" + sign_public + kem_public).digest()


# ---- invitations and recovery --------------------------------------------------------------------------------------


def join_key(vault: bytes, secret: bytes) -> PurposeKey:
    """K_join: seals a join request under the 16-byte secret of a token."""
    return PurposeKey(HKDF(SHA512(), 32, vault, b"cryptfs/v1 join-key\0").derive(secret))


def invite_id(vault: bytes, secret: bytes) -> bytes:
    """The 16 public bytes by which a token's secret is found again."""
    return HKDF(SHA512(), 16, vault, b"cryptfs/v1 invite-id\0").derive(secret)


def recovery_sign_seed(seed: bytes) -> bytes:
    """Ed25519 seed (32 bytes) of the recovery key made from the 32 bytes on paper."""
    return _expand(seed, b"cryptfs/v1 recovery sign\0")


def recovery_kem_seed(seed: bytes) -> bytes:
    """X25519 private key (32 bytes) of the recovery key made from the 32 bytes on paper."""
    return _expand(seed, b"cryptfs/v1 recovery kem\0")


# ---- what people compare as words ----------------------------------------------------------------------------------


def fingerprint_digest(vault: bytes, cert: bytes, sign_public: bytes) -> bytes:
    """What the words of a device are made of: its certificate (DER) and signing key, for one vault. 32 bytes."""
    return hashlib.sha256(b"cryptfs/v1 fp\0" + lp(vault) + lp(cert) + lp(sign_public)).digest()


def heads_digest(vault: bytes, frontier: Iterable[bytes], heads: Iterable[tuple[bytes, int, bytes]]) -> bytes:
    """What the words of a view are made of: ids of the frontier, and (log id, seq, digest) of every log. 32 bytes."""
    parts = sorted(log + seq.to_bytes(8, "big") + digest for log, seq, digest in heads)
    return hashlib.sha256(b"cryptfs/v1 heads\0" + vault + b"".join(sorted(frontier)) + b"".join(parts)).digest()


# ---- this device ---------------------------------------------------------------------------------------------------


def local_key(secret: LocalSecret, purpose: str) -> PurposeKey:
    """The key of one kind of local state ("journal", "replica", "cache", ...) from this device's local secret."""
    return PurposeKey(_expand(secret, b"cryptfs/v1 local\0" + lp(purpose.encode())))


def local_ctx(purpose: str, *parts: bytes) -> bytes:
    """Context of sealed local state: its purpose and whatever fixes its place, each with its length."""
    return b"cryptfs/v1 local\0" + lp(purpose.encode()) + b"".join(map(lp, parts))
