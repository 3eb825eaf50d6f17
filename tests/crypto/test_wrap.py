"""Wraps for every key type: vectors, interoperation, T-hpke, T-oracle, T-badkeys for recipients."""

import pytest
import reference_crypto as ref
from crypto_vectors import load, maker, unhex
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import load_der_private_key

from cryptfs.crypto.certificate import Refusal, Refused
from cryptfs.crypto.wrap import enrol_info, unwrap, unwrap_x25519, wrap, wrap_info, wrap_to_x25519
from cryptfs.errors import AuthError

VECTORS = load("crypto_wraps")
V, EID, FP, INFO, SECRET = (unhex(VECTORS[name]) for name in ("vault", "eid", "cert_fp", "info", "secret"))
CASES = {case["key"]: case for case in VECTORS["cases"]}
KEYS = {name: load_der_private_key(unhex(case["private"]), None) for name, case in CASES.items()}
BLOBS = {name: unhex(case["blob"]) for name, case in CASES.items()}
LENGTHS = {"x25519": 80, "secp256r1": 113, "secp384r1": 145, "secp521r1": 181, "rsa3072": 384}
HPKE_KEYS = sorted(set(KEYS) - {"rsa3072"})


def said(private: object, alg: int, blob: bytes, info: bytes = INFO) -> tuple:
    with pytest.raises(AuthError) as caught:
        unwrap(private, alg, blob, info)
    error = caught.value
    return type(error), str(error), error.advice, error.__cause__


ONE_ANSWER = (AuthError, "a wrapped key does not open", AuthError.default_advice, None)


@pytest.mark.parametrize("name", sorted(KEYS))
def test_vector_of_the_reference_opens(name: str) -> None:
    assert wrap_info(V, EID, FP) == INFO
    assert len(BLOBS[name]) == LENGTHS[name]
    assert unwrap(KEYS[name], CASES[name]["alg"], BLOBS[name], INFO) == SECRET


@pytest.mark.parametrize("name", sorted(KEYS))
def test_round_trip_has_the_length_of_the_format(name: str) -> None:
    alg, blob = wrap(KEYS[name].public_key(), SECRET, INFO)
    assert (alg, len(blob)) == (CASES[name]["alg"], LENGTHS[name])
    assert unwrap(KEYS[name], alg, blob, INFO) == SECRET
    assert blob != wrap(KEYS[name].public_key(), SECRET, INFO)[1]


@pytest.mark.parametrize("name", HPKE_KEYS)
def test_hpke_wrap_opens_by_the_reference(name: str) -> None:
    assert ref.hpke_open(KEYS[name], INFO, wrap(KEYS[name].public_key(), SECRET, INFO)[1]) == SECRET


def test_oaep_wrap_opens_by_the_reference() -> None:
    numbers = KEYS["rsa3072"].private_numbers()
    blob = wrap(KEYS["rsa3072"].public_key(), SECRET, INFO)[1]
    assert ref.oaep_decrypt(numbers.public_numbers.n, numbers.d, ref.hashlib.sha256(INFO).digest(), blob) == SECRET


@pytest.mark.parametrize("name", sorted(KEYS))
def test_flip_of_any_byte_of_a_wrap(name: str) -> None:
    blob, alg = BLOBS[name], CASES[name]["alg"]
    for at in range(0, len(blob), 1 if alg == 1 else 24):
        for bit in (1, 0x80):
            assert said(KEYS[name], alg, blob[:at] + bytes([blob[at] ^ bit]) + blob[at + 1 :]) == ONE_ANSWER


@pytest.mark.parametrize("name", sorted(KEYS))
def test_hpke_context_of_another_use_is_refused(name: str) -> None:
    infos = [b"", INFO[:-1], INFO + b"\0", wrap_info(bytes(32), EID, FP), wrap_info(V, bytes(16), FP)]
    infos += [wrap_info(V, EID, bytes(32)), enrol_info(V, FP, FP)]
    for info in infos:
        assert said(KEYS[name], CASES[name]["alg"], BLOBS[name], info) == ONE_ANSWER


@pytest.mark.parametrize("name", sorted(KEYS))
def test_oracle_every_failure_of_an_unwrap_is_the_same(name: str) -> None:
    blob, alg = BLOBS[name], CASES[name]["alg"]
    for wrong in (b"", blob[:-1], blob + b"\0", bytes(len(blob)), b"\xff" * len(blob), blob[:1] + bytes(len(blob) - 1)):
        assert said(KEYS[name], alg, wrong) == ONE_ANSWER
    for other_alg in (0, 3 - alg, 3, 255):
        assert said(KEYS[name], other_alg, blob) == ONE_ANSWER
    for other, key in KEYS.items():
        if other != name:
            assert said(key, alg, blob) == ONE_ANSWER
            assert said(key, CASES[other]["alg"], blob) == ONE_ANSWER


def test_wrap_to_another_key_of_the_same_kind_does_not_open() -> None:
    others = [x25519.X25519PrivateKey.generate()]
    others += [ec.generate_private_key(curve()) for curve in (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)]
    for key, name in zip(others, ("x25519", "secp256r1", "secp384r1", "secp521r1"), strict=True):
        assert said(key, 1, BLOBS[name]) == ONE_ANSWER


@pytest.mark.parametrize("length", [31, 33, 0, 64])
def test_secret_of_another_length_is_neither_wrapped_nor_unwrapped(length: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        wrap(KEYS["rsa3072"].public_key(), bytes(length), INFO)
    # HPKE blobs have one length; only OAEP hides the length of what it holds.
    numbers = KEYS["rsa3072"].public_key().public_numbers()
    label = ref.hashlib.sha256(INFO).digest()
    blob = ref.oaep_encrypt(numbers.n, numbers.e, label, b"\1" * length, bytes(32))
    assert said(KEYS["rsa3072"], 2, blob) == ONE_ANSWER


def test_recovery_key_without_a_certificate() -> None:
    private = ref.stream("recovery kem", 32)
    public = x25519.X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()
    alg, blob = wrap_to_x25519(public, SECRET, INFO)
    assert (alg, len(blob)) == (1, 80)
    assert unwrap_x25519(private, alg, blob, INFO) == SECRET
    with pytest.raises(AuthError):
        unwrap_x25519(ref.stream("another", 32), alg, blob, INFO)


LOW_ORDER = [
    "00" * 32,
    "01" + "00" * 31,
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
]


@pytest.mark.parametrize("point", LOW_ORDER)
@pytest.mark.parametrize("high_bit", [0, 0x80])
def test_hpke_point_of_low_order_in_a_wrap_or_as_recipient(point: str, high_bit: int) -> None:
    raw = unhex(point)
    raw = raw[:31] + bytes([raw[31] | high_bit])
    assert said(KEYS["x25519"], 1, raw + BLOBS["x25519"][32:]) == ONE_ANSWER
    with pytest.raises(Refused) as caught:
        wrap_to_x25519(raw, SECRET, INFO)
    assert caught.value.reason is Refusal.WEAK_KEY


def _rsa(bits: int, e: int) -> rsa.RSAPublicKey:
    return rsa.RSAPublicNumbers(
        e, int.from_bytes(ref.stream("modulus", bits // 8), "big") | 1 << bits - 1 | 1
    ).public_key()


REFUSED = {
    "RSA-1024": (lambda: _rsa(1024, 65537), Refusal.RSA_SIZE),
    "RSA-2048": (lambda: _rsa(2048, 65537), Refusal.RSA_SIZE),
    "RSA-3071": (lambda: rsa.RSAPublicNumbers(65537, (1 << 3070) + 1).public_key(), Refusal.RSA_SIZE),
    "RSA-8193": (lambda: rsa.RSAPublicNumbers(65537, (1 << 8192) + 1).public_key(), Refusal.RSA_SIZE),
    "RSA e=3": (lambda: _rsa(3072, 3), Refusal.RSA_EXPONENT),
    "RSA e=17": (lambda: _rsa(4096, 17), Refusal.RSA_EXPONENT),
    "secp256k1": (lambda: ec.generate_private_key(ec.SECP256K1()).public_key(), Refusal.KEY_TYPE),
    "secp224r1": (lambda: ec.generate_private_key(ec.SECP224R1()).public_key(), Refusal.KEY_TYPE),
    "brainpoolP256r1": (lambda: ec.generate_private_key(ec.BrainpoolP256R1()).public_key(), Refusal.KEY_TYPE),
    "brainpoolP384r1": (lambda: ec.generate_private_key(ec.BrainpoolP384R1()).public_key(), Refusal.KEY_TYPE),
    "Ed25519": (lambda: ed25519.Ed25519PrivateKey.generate().public_key(), Refusal.KEY_TYPE),
    "nothing": (lambda: None, Refusal.KEY_TYPE),
}


@pytest.mark.parametrize("name", REFUSED)
def test_badkeys_recipient_is_refused_at_wrapping(name: str) -> None:
    make, reason = REFUSED[name]
    with pytest.raises(Refused) as caught:
        wrap(make(), SECRET, INFO)
    assert caught.value.reason is reason


def test_private_key_of_a_refused_curve_opens_nothing() -> None:
    assert said(ec.generate_private_key(ec.SECP256K1()), 1, BLOBS["secp256r1"]) == ONE_ANSWER


def test_the_rsa_key_of_the_vectors_is_the_one_of_the_script() -> None:
    assert maker().rsa_key().private_numbers() == KEYS["rsa3072"].private_numbers()
