"""Wraps opened by a key that only answers ECDH and OAEP, against RFC 9180's own numbers and the library's sender."""

import hashlib
import os

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, x25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cryptfs.crypto.held import HeldKey
from cryptfs.crypto.hpke import SUITES, key_schedule, open_single
from cryptfs.crypto.wrap import ALG_HPKE, ALG_RSA_OAEP, unwrap_held, wrap
from cryptfs.errors import AuthError

SECRET, INFO = bytes(range(32)), b"cryptfs/v1 wrap for a test"


class Software(HeldKey):
    """Answers as a token would, with a key in memory; counts what it was asked."""

    def __init__(self, key: object) -> None:
        self.key = key
        self.asked = 0

    def exchange(self, point: bytes) -> bytes:
        self.asked += 1
        return self.key.exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(self.key.curve, point))

    def decrypt_oaep(self, blob: bytes, label: bytes) -> bytes:
        self.asked += 1
        return self.key.decrypt(blob, padding.OAEP(padding.MGF1(SHA256()), SHA256(), label))


CURVES = {curve.name: ec.generate_private_key(curve) for curve in (ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1())}
RSA = rsa.generate_private_key(65537, 3072)


@pytest.mark.parametrize("curve", CURVES)
def test_what_the_librarys_sender_wraps_opens_with_a_raw_ecdh_result(curve: str) -> None:
    key = CURVES[curve]
    for _ in range(20):
        alg, blob = wrap(key.public_key(), SECRET, INFO)
        assert unwrap_held(Software(key), key.public_key(), alg, blob, INFO) == SECRET


def test_rsa_opens_with_oaep_and_its_label() -> None:
    alg, blob = wrap(RSA.public_key(), SECRET, INFO)
    assert unwrap_held(Software(RSA), RSA.public_key(), alg, blob, INFO) == SECRET


@pytest.mark.parametrize("key", [*CURVES.values(), RSA], ids=[*CURVES, "rsa"])
def test_oracle_every_failure_with_a_token_says_the_same(key: object) -> None:
    """T-oracle."""
    held, public = Software(key), key.public_key()
    alg, blob = wrap(public, SECRET, INFO)
    other = ALG_HPKE if alg == ALG_RSA_OAEP else ALG_RSA_OAEP
    bad = [
        (alg, blob[:-1], INFO),
        (alg, blob + b"\0", INFO),
        (alg, b"", INFO),
        (alg, blob, b"another"),
        (other, blob, INFO),
    ]
    bad += [(alg, blob[:at] + bytes([blob[at] ^ 1]) + blob[at + 1 :], INFO) for at in (0, 1, 40, len(blob) - 1)]
    for one in bad:
        with pytest.raises(AuthError, match=r"\Aa wrapped key does not open\Z"):
            unwrap_held(held, public, *one)


@pytest.mark.parametrize("curve", CURVES)
def test_invalid_point_never_reaches_the_token(curve: str) -> None:
    """A token that does not check the point would give away its key, a few bits a time."""
    held, key = Software(CURVES[curve]), CURVES[curve]
    alg, blob = wrap(key.public_key(), SECRET, INFO)
    length = SUITES[curve].point_len
    for point in (
        b"\4" + bytes(length - 1),
        b"\4" + os.urandom(length - 1),
        blob[: length - 1] + bytes([blob[length - 1] ^ 1]),
    ):
        with pytest.raises(AuthError):
            unwrap_held(held, key.public_key(), alg, point + blob[length:], INFO)
    assert held.asked == 0


def test_a_key_on_x25519_is_no_key_of_a_token() -> None:
    key = x25519.X25519PrivateKey.generate()
    with pytest.raises(AuthError):
        unwrap_held(Software(key), key.public_key(), *wrap(key.public_key(), SECRET, INFO), INFO)


# RFC 9180, appendix A.6.1: DHKEM(P-521, HKDF-SHA512), HKDF-SHA512, AES-256-GCM, base mode: our suite for P-521.
ENC = bytes.fromhex(
    "040138b385ca16bb0d5fa0c0665fbbd7e69e3ee29f63991d3e9b5fa740aab8900aaeed46ed73a49055758425a0ce36507c54b29cc5b85a5cee6b"
    "ae0cf1c21f2731ece2013dc3fb7c8d21654bb161b463962ca19e8c654ff24c94dd2898de12051f1ed0692237fb02b2f8d1dc1c73e9b366b529eb"
    "436e98a996ee522aef863dd5739d2f29b0"
)
RECIPIENT = bytes.fromhex(
    "0401b45498c1714e2dce167d3caf162e45e0642afc7ed435df7902ccae0e84ba0f7d373f646b7738bbbdca11ed91bdeae3cdcba3301f2457be45"
    "2f271fa6837580e661012af49583a62e48d44bed350c7118c0d8dc861c238c72a2bda17f64704f464b57338e7f40b60959480c0e58e6559b190d"
    "81663ed816e523b6b6a418f66d2451ec64"
)
PRIVATE = int(
    "01462680369ae375e4b3791070a7458ed527842f6a98a79ff5e0d4cbde83c27196a3916956655523a6a2556a7af62c5cadabe2ef9da3760bb21e"
    "005202f7b2462847",
    16,
)
RFC_INFO = b"Ode on a Grecian Urn"
KEY = bytes.fromhex("751e346ce8f0ddb2305c8a2a85c70d5cf559c53093656be636b9406d4d7d1b70")
NONCE = bytes.fromhex("55ff7a7d739c69f44b25447b")
CIPHERTEXT = bytes.fromhex("170f8beddfe949b75ef9c387e201baf4132fa7374593dfafa90768788b7b2b200aafcc6d80ea4c795a7c5b841a")


def test_key_and_nonce_are_those_of_rfc_9180() -> None:
    suite = SUITES["secp521r1"]
    private = ec.derive_private_key(PRIVATE, ec.SECP521R1())
    assert private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint) == RECIPIENT
    dh = private.exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP521R1(), ENC))
    key, nonce = key_schedule(suite, dh, ENC, RECIPIENT, RFC_INFO)
    assert (key, nonce) == (KEY, NONCE)
    assert AESGCM(key).decrypt(nonce, CIPHERTEXT, b"Count-0") == b"Beauty is truth, truth beauty"


def test_values_of_another_length_are_refused_before_anything_is_derived() -> None:
    suite = SUITES["secp256r1"]
    point = bytes(65)
    for dh, enc, recipient in (
        (bytes(31), point, point),
        (bytes(32), point[:-1], point),
        (bytes(32), point, point[:-1]),
    ):
        with pytest.raises(ValueError, match="length of its curve"):
            key_schedule(suite, dh, enc, recipient, b"")
        with pytest.raises(ValueError, match="length of its curve"):
            open_single(suite, dh, enc, recipient, b"")


def test_label_of_oaep_is_the_hash_of_the_info() -> None:
    """docs/format.md, "Wraps": what a token is asked must be what everybody else computes."""
    seen = []

    class Noting(Software):
        def decrypt_oaep(self, blob: bytes, label: bytes) -> bytes:
            seen.append(label)
            return super().decrypt_oaep(blob, label)

    unwrap_held(Noting(RSA), RSA.public_key(), *wrap(RSA.public_key(), SECRET, INFO), INFO)
    assert seen == [hashlib.sha256(INFO).digest()]
