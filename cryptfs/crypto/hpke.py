"""The receiving half of HPKE (RFC 9180, base mode) from a raw ECDH result, for keys that never leave a token.

The library's HPKE wants the private key itself. A token gives only what its ECDH yields; all that follows is HKDF and
AES-256-GCM, taken from the library as they are:

    shared secret   ExtractAndExpand(dh, enc ‖ pkR)                                  section 4.1
    key, nonce      KeySchedule(mode_base, shared secret, info, "", "")              section 5.1
    plaintext       Open(key, nonce, aad = "", ciphertext), the first message        section 5.2
"""

import struct
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512, HashAlgorithm
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

__all__ = ["SUITES", "HpkeSuite", "key_schedule", "open_single"]

_VERSION: Final = b"HPKE-v1"
_MODE_BASE: Final = b"\0"
_AES_256_GCM: Final = 2
_KEY_LEN: Final = 32
_NONCE_LEN: Final = 12


@dataclass(frozen=True, slots=True)
class HpkeSuite:
    """A DHKEM over a NIST curve with its HKDF, and AES-256-GCM. Numbers are those of RFC 9180, section 7."""

    kem: int
    kdf: int
    digest: HashAlgorithm  # of KEM and key schedule alike
    point_len: int  # bytes of an uncompressed point
    field_len: int  # bytes of an ECDH result

    @property
    def kem_id(self) -> bytes:
        return b"KEM" + struct.pack(">H", self.kem)

    @property
    def suite_id(self) -> bytes:
        return b"HPKE" + struct.pack(">HHH", self.kem, self.kdf, _AES_256_GCM)

    def extract(self, suite_id: bytes, salt: bytes, label: bytes, ikm: bytes) -> bytes:
        """LabeledExtract."""
        return HKDF.extract(self.digest, salt or None, _VERSION + suite_id + label + ikm)

    def expand(self, suite_id: bytes, prk: bytes, label: bytes, info: bytes, length: int) -> bytes:
        """LabeledExpand."""
        labelled = struct.pack(">H", length) + _VERSION + suite_id + label + info
        return HKDFExpand(self.digest, length, labelled).derive(prk)


SUITES: Final = {
    "secp256r1": HpkeSuite(0x0010, 1, SHA256(), 65, 32),
    "secp384r1": HpkeSuite(0x0011, 2, SHA384(), 97, 48),
    "secp521r1": HpkeSuite(0x0012, 3, SHA512(), 133, 66),
}
"""By the curve of the certificate's key."""


def key_schedule(suite: HpkeSuite, dh: bytes, enc: bytes, recipient: bytes, info: bytes) -> tuple[bytes, bytes]:
    """(key of 32 bytes, base nonce of 12) for what was sealed to `recipient` under the sender's `enc`.

    `dh`: x coordinate of the shared point, `suite.field_len` bytes; `enc`, `recipient`: uncompressed points. Raises
    ValueError for other lengths.
    """
    if len(dh) != suite.field_len or {len(enc), len(recipient)} != {suite.point_len}:
        raise ValueError("a value has not the length of its curve")
    prk = suite.extract(suite.kem_id, b"", b"eae_prk", dh)
    secret_len = suite.digest.digest_size
    shared = suite.expand(suite.kem_id, prk, b"shared_secret", enc + recipient, secret_len)
    one = suite.suite_id
    context = _MODE_BASE + suite.extract(one, b"", b"psk_id_hash", b"") + suite.extract(one, b"", b"info_hash", info)
    secret = suite.extract(one, shared, b"secret", b"")
    key = suite.expand(one, secret, b"key", context, _KEY_LEN)
    return key, suite.expand(one, secret, b"base_nonce", context, _NONCE_LEN)


def open_single(suite: HpkeSuite, dh: bytes, blob: bytes, recipient: bytes, info: bytes) -> bytes:
    """The plaintext of a single-shot message without additional data: `blob` is `enc ‖ ciphertext`.

    Other arguments as in `key_schedule`. Raises ValueError, or InvalidTag for what does not verify.
    """
    enc, ciphertext = blob[: suite.point_len], blob[suite.point_len :]
    key, nonce = key_schedule(suite, dh, enc, recipient, info)
    return AESGCM(key).decrypt(nonce, ciphertext, b"")
