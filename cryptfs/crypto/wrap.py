"""A secret of 32 bytes to the holder of a certificate, and back (docs/format.md, "Wraps").

    alg 1   HPKE base mode (RFC 9180), single shot, AES-256-GCM, KEM by the type of the key; blob = enc ‖ ciphertext
    alg 2   RSA-OAEP (RFC 8017) with SHA-256 throughout, label SHA-256(info)

`info` binds a wrap to vault, purpose and recipient. Anybody can make a wrap for anybody: a wrap proves nothing about
who made it, and what it holds is accepted only if it fits the signed commit. Whatever goes wrong on the way back gives
the one AuthError, so that a client cannot be asked which of its checks failed.
"""

import hashlib
from collections.abc import Callable
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, x25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cryptfs.crypto.certificate import WrapPrivateKey, WrapPublicKey, check_key
from cryptfs.crypto.held import HeldKey
from cryptfs.crypto.hpke import SUITES, open_single
from cryptfs.crypto.keys import enrol_info, wrap_info
from cryptfs.errors import AuthError

__all__ = [
    "ALG_HPKE",
    "ALG_RSA_OAEP",
    "SECRET_LEN",
    "enrol_info",
    "unwrap",
    "unwrap_held",
    "unwrap_x25519",
    "wrap",
    "wrap_info",
    "wrap_to_x25519",
]

ALG_HPKE: Final = 1
ALG_RSA_OAEP: Final = 2
SECRET_LEN: Final = 32

_X25519: Final = (Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM), 80)
_CURVES: Final = {
    "secp256r1": (Suite(KEM.P256, KDF.HKDF_SHA256, AEAD.AES_256_GCM), 113),
    "secp384r1": (Suite(KEM.P384, KDF.HKDF_SHA384, AEAD.AES_256_GCM), 145),
    "secp521r1": (Suite(KEM.P521, KDF.HKDF_SHA512, AEAD.AES_256_GCM), 181),
}
"""Curve: suite, and the length of its blobs: an uncompressed point, 32 bytes, a tag of 16."""


def _hpke(key: x25519.X25519PublicKey | ec.EllipticCurvePublicKey) -> tuple[Suite, int]:
    return _X25519 if isinstance(key, x25519.X25519PublicKey) else _CURVES[key.curve.name]


def _oaep(info: bytes) -> padding.OAEP:
    return padding.OAEP(padding.MGF1(SHA256()), SHA256(), hashlib.sha256(info).digest())


def wrap(public_key: WrapPublicKey, secret: bytes, info: bytes) -> tuple[int, bytes]:
    """Seal `secret` (32 bytes) to `public_key`, bound to `info`; the result is (alg, blob).

    Raises Refused for a key that certificates may not have, ValueError for a secret of another length.
    """
    if len(secret) != SECRET_LEN:
        raise ValueError("only secrets of 32 bytes are wrapped")
    public_key = check_key(public_key)
    if isinstance(public_key, rsa.RSAPublicKey):
        return ALG_RSA_OAEP, public_key.encrypt(secret, _oaep(info))
    suite, _ = _hpke(public_key)
    return ALG_HPKE, suite.encrypt(secret, public_key, info)


def unwrap(private_key: WrapPrivateKey, alg: int, blob: bytes, info: bytes) -> bytes:
    """The 32 bytes in a wrap made for the public half of `private_key`. Raises AuthError, one for every cause."""
    return _checked(lambda: _unwrap(private_key, alg, blob, info))


def unwrap_held(held: HeldKey, public_key: WrapPublicKey, alg: int, blob: bytes, info: bytes) -> bytes:
    """As `unwrap`, with a key on a token whose public half is `public_key`.

    Raises what the token raises when it is gone; that says nothing about the wrap.
    """
    return _checked(lambda: _unwrap_held(held, public_key, alg, blob, info))


def _checked(opening: Callable[[], bytes]) -> bytes:
    try:
        secret = opening()
    except (InvalidTag, ValueError):
        # ValueError: OAEP, a point that is not on the curve, an X25519 point of low order.
        secret = b""
    if len(secret) != SECRET_LEN:
        raise AuthError("a wrapped key does not open")
    return secret


def _unwrap(private_key: WrapPrivateKey, alg: int, blob: bytes, info: bytes) -> bytes:
    if isinstance(private_key, rsa.RSAPrivateKey):
        return private_key.decrypt(blob, _oaep(info)) if alg == ALG_RSA_OAEP else b""
    if isinstance(private_key, ec.EllipticCurvePrivateKey) and private_key.curve.name not in _CURVES:
        return b""
    suite, length = _hpke(private_key.public_key())
    return suite.decrypt(blob, private_key, info) if alg == ALG_HPKE and len(blob) == length else b""


def _unwrap_held(held: HeldKey, public_key: WrapPublicKey, alg: int, blob: bytes, info: bytes) -> bytes:
    if isinstance(public_key, rsa.RSAPublicKey):
        fits = alg == ALG_RSA_OAEP and len(blob) == (public_key.key_size + 7) // 8
        return held.decrypt_oaep(blob, hashlib.sha256(info).digest()) if fits else b""
    if isinstance(public_key, x25519.X25519PublicKey) or alg != ALG_HPKE:
        return b""
    suite, (_, length) = SUITES[public_key.curve.name], _hpke(public_key)
    if len(blob) != length:
        return b""
    enc = blob[: suite.point_len]
    # A token may not look whether the point lies on its curve, and one off it would tell bits of the key.
    ec.EllipticCurvePublicKey.from_encoded_point(public_key.curve, enc)
    own = public_key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return open_single(suite, held.exchange(enc), blob, own, info)


def wrap_to_x25519(public: bytes, secret: bytes, info: bytes) -> tuple[int, bytes]:
    """As `wrap`, to a bare X25519 key of 32 bytes: the recovery key has no certificate."""
    return wrap(x25519.X25519PublicKey.from_public_bytes(public), secret, info)


def unwrap_x25519(private: bytes, alg: int, blob: bytes, info: bytes) -> bytes:
    """As `unwrap`, with a bare X25519 private key of 32 bytes."""
    return unwrap(x25519.X25519PrivateKey.from_private_bytes(private), alg, blob, info)
