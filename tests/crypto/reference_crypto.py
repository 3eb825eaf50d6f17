"""SEAL, key tree and wraps a second time, written from docs/format.md, sharing no code with cryptfs.

It stands on `hmac`, AES-GCM and raw ECDH/RSA arithmetic only, is slow on purpose, and takes as arguments what must be
random in life (salts, ephemeral keys, OAEP seeds), so that it can make fixed vectors.
"""

import hashlib
import hmac
import struct

from cryptography.hazmat.primitives.asymmetric import ec, x25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

SUITE_LABEL = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM"


def stream(seed: str, length: int) -> bytes:
    """`length` fixed bytes that look random, different for every `seed`."""
    return hashlib.shake_256(seed.encode()).digest(length)


def hkdf_extract(hash_name: str, salt: bytes, ikm: bytes) -> bytes:
    return hmac.digest(salt or bytes(hashlib.new(hash_name).digest_size), ikm, hash_name)


def hkdf_expand(hash_name: str, prk: bytes, info: bytes, length: int) -> bytes:
    out, block, counter = b"", b"", 1
    while len(out) < length:
        block = hmac.digest(prk, block + info + bytes([counter]), hash_name)
        out, counter = out + block, counter + 1
    return out[:length]


# ---- SEAL ----------------------------------------------------------------------------------------------------------


def message_keys(key: bytes, ctx: bytes, salt: bytes) -> tuple[bytes, bytes, bytes]:
    """AES key, first nonce, commitment."""
    okm = hkdf_expand("sha512", key, SUITE_LABEL + b"\0" + salt + ctx, 76)
    return okm[:32], okm[32:44], okm[44:]


def segment_nonce(iv: bytes, number: int) -> bytes:
    return (int.from_bytes(iv, "big") ^ number).to_bytes(12, "big")


def seal(key: bytes, ctx: bytes, pt: bytes, salt: bytes) -> bytes:
    aes, iv, commitment = message_keys(key, ctx, salt)
    segments = [pt[at : at + 16384] for at in range(0, len(pt) + 1, 16384)]
    gcm = AESGCM(aes)
    return salt + commitment + b"".join(gcm.encrypt(segment_nonce(iv, i), s, None) for i, s in enumerate(segments))


def open_sealed(key: bytes, ctx: bytes, sealed: bytes) -> bytes | None:
    """The plaintext, or None."""
    if len(sealed) < 72 or (len(sealed) - 56) % 16400 < 16:
        return None
    aes, iv, commitment = message_keys(key, ctx, sealed[:24])
    if not hmac.compare_digest(commitment, sealed[24:56]):
        return None
    gcm, out = AESGCM(aes), []
    for i, at in enumerate(range(56, len(sealed), 16400)):
        try:
            out.append(gcm.decrypt(segment_nonce(iv, i), sealed[at : at + 16400], None))
        except Exception:
            return None
    return b"".join(out)


# ---- key tree ------------------------------------------------------------------------------------------------------


def lp(part: bytes) -> bytes:
    return struct.pack(">I", len(part)) + part


def expand(secret: bytes, label: str, *parts: bytes) -> bytes:
    return hkdf_expand("sha512", secret, label.encode() + b"\0" + b"".join(map(lp, parts)), 32)


def write_secret(vault: bytes, epochs: dict[bytes, bytes]) -> bytes:
    if len(epochs) == 1:
        return next(iter(epochs.values()))
    ikm = b"".join(eid + epochs[eid] for eid in sorted(epochs))
    return hkdf_extract("sha512", b"cryptfs/v1 merge" + vault, ikm)[:32]


# ---- HPKE base mode, single shot, AES-256-GCM (RFC 9180) -------------------------------------------------------------

# curve name: KEM id, hash of the KEM, KDF id, hash of the KDF
HPKE = {
    "x25519": (0x0020, "sha256", 0x0001, "sha256"),
    "secp256r1": (0x0010, "sha256", 0x0001, "sha256"),
    "secp384r1": (0x0011, "sha384", 0x0002, "sha384"),
    "secp521r1": (0x0012, "sha512", 0x0003, "sha512"),
}


def curve_of(key: object) -> str:
    return "x25519" if isinstance(key, x25519.X25519PrivateKey | x25519.X25519PublicKey) else key.curve.name


def public_bytes(public: object) -> bytes:
    if isinstance(public, x25519.X25519PublicKey):
        return public.public_bytes_raw()
    return public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def _dh(private: object, public: object) -> bytes:
    return (
        private.exchange(public)
        if isinstance(private, x25519.X25519PrivateKey)
        else private.exchange(ec.ECDH(), public)
    )


def _labeled_extract(hash_name: str, suite: bytes, salt: bytes, label: bytes, ikm: bytes) -> bytes:
    return hkdf_extract(hash_name, salt, b"HPKE-v1" + suite + label + ikm)


def _labeled_expand(  # noqa: PLR0917  # as in the RFC
    hash_name: str, suite: bytes, prk: bytes, label: bytes, info: bytes, length: int
) -> bytes:
    return hkdf_expand(hash_name, prk, struct.pack(">H", length) + b"HPKE-v1" + suite + label + info, length)


def _hpke_aead(curve: str, dh: bytes, enc: bytes, recipient: bytes, info: bytes) -> tuple[AESGCM, bytes]:
    kem_id, kem_hash, kdf_id, kdf_hash = HPKE[curve]
    suite = b"KEM" + struct.pack(">H", kem_id)
    prk = _labeled_extract(kem_hash, suite, b"", b"eae_prk", dh)
    size = hashlib.new(kem_hash).digest_size
    shared = _labeled_expand(kem_hash, suite, prk, b"shared_secret", enc + recipient, size)
    suite = b"HPKE" + struct.pack(">HHH", kem_id, kdf_id, 0x0002)
    context = b"\0" + _labeled_extract(kdf_hash, suite, b"", b"psk_id_hash", b"")
    context += _labeled_extract(kdf_hash, suite, b"", b"info_hash", info)
    secret = _labeled_extract(kdf_hash, suite, shared, b"secret", b"")
    key = _labeled_expand(kdf_hash, suite, secret, b"key", context, 32)
    return AESGCM(key), _labeled_expand(kdf_hash, suite, secret, b"base_nonce", context, 12)


def hpke_seal(recipient: object, ephemeral: object, info: bytes, pt: bytes) -> bytes:
    enc = public_bytes(ephemeral.public_key())
    gcm, nonce = _hpke_aead(curve_of(recipient), _dh(ephemeral, recipient), enc, public_bytes(recipient), info)
    return enc + gcm.encrypt(nonce, pt, b"")


def hpke_open(private: object, info: bytes, blob: bytes) -> bytes:
    recipient = public_bytes(private.public_key())
    enc, ct = blob[: len(recipient)], blob[len(recipient) :]
    if isinstance(private, x25519.X25519PrivateKey):
        sender = x25519.X25519PublicKey.from_public_bytes(enc)
    else:
        sender = ec.EllipticCurvePublicKey.from_encoded_point(private.curve, enc)
    gcm, nonce = _hpke_aead(curve_of(private), _dh(private, sender), enc, recipient, info)
    return gcm.decrypt(nonce, ct, b"")


# ---- RSA-OAEP with SHA-256 and MGF1-SHA256 (RFC 8017, 7.1) -----------------------------------------------------------


def _mgf1(seed: bytes, length: int) -> bytes:
    blocks = -(-length // 32)
    return b"".join(hashlib.sha256(seed + struct.pack(">I", i)).digest() for i in range(blocks))[:length]


def _xor(a: bytes, b: bytes) -> bytes:
    return bytes(x ^ y for x, y in zip(a, b, strict=True))


def oaep_encrypt(n: int, e: int, label: bytes, pt: bytes, seed: bytes) -> bytes:
    k = (n.bit_length() + 7) // 8
    block = hashlib.sha256(label).digest() + bytes(k - len(pt) - 66) + b"\1" + pt
    masked = _xor(block, _mgf1(seed, k - 33))
    em = b"\0" + _xor(seed, _mgf1(masked, 32)) + masked
    return pow(int.from_bytes(em, "big"), e, n).to_bytes(k, "big")


def oaep_decrypt(n: int, d: int, label: bytes, ct: bytes) -> bytes:
    k = (n.bit_length() + 7) // 8
    em = pow(int.from_bytes(ct, "big"), d, n).to_bytes(k, "big")
    masked = em[33:]
    seed = _xor(em[1:33], _mgf1(masked, 32))
    block = _xor(masked, _mgf1(seed, k - 33))
    assert em[0] == 0
    assert block[:32] == hashlib.sha256(label).digest()
    return block[32:].lstrip(b"\0")[1:]
