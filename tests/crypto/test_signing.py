"""Signatures: for one label, one vault, one message; T-badkeys for signing keys."""

import itertools

import pytest
import reference_crypto as ref
from crypto_vectors import load, unhex
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from cryptfs.crypto.keys import SignLabel, new_sign_seed, refuse_weak_ed25519, sign, sign_public, verify, verify_once
from cryptfs.errors import AuthError, Invalid

VECTORS = load("crypto_signatures")
V, SEED, PUBLIC, DATA = (unhex(VECTORS[name]) for name in ("vault", "seed", "public", "data"))


@pytest.mark.parametrize("label", SignLabel)
def test_vector_of_every_label(label: SignLabel) -> None:
    expected = unhex(VECTORS["made"][label.value.decode()])
    assert sign_public(SEED) == PUBLIC
    assert sign(SEED, label, V, DATA) == expected
    assert sign(Ed25519PrivateKey.from_private_bytes(SEED), label, V, DATA) == expected
    verify(PUBLIC, label, V, DATA, expected)


def test_signature_of_one_label_does_not_verify_for_another() -> None:
    for made, asked in itertools.permutations(SignLabel, 2):
        with pytest.raises(AuthError):
            verify(PUBLIC, asked, V, DATA, sign(SEED, made, V, DATA))


def test_ghost_signature_from_another_vault_is_refused() -> None:
    with pytest.raises(AuthError):
        verify(PUBLIC, SignLabel.MEMBERSHIP, bytes(32), DATA, sign(SEED, SignLabel.MEMBERSHIP, V, DATA))


def test_a_signature_that_verified_once_vouches_for_nothing_else() -> None:
    """What is remembered is the whole question: key, label, vault, message and signature."""
    right = sign(SEED, SignLabel.MEMBERSHIP, V, DATA)
    other_key = sign_public(new_sign_seed())
    for _ in range(2):
        verify_once(PUBLIC, SignLabel.MEMBERSHIP, V, DATA, right)
        for wrong in (
            (other_key, SignLabel.MEMBERSHIP, V, DATA, right),
            (PUBLIC, SignLabel.POP, V, DATA, right),
            (PUBLIC, SignLabel.MEMBERSHIP, bytes(32), DATA, right),
            (PUBLIC, SignLabel.MEMBERSHIP, V, DATA + b"!", right),
            (PUBLIC, SignLabel.MEMBERSHIP, V, DATA, right[:-1] + bytes([right[-1] ^ 1])),
        ):
            with pytest.raises(AuthError):
                verify_once(*wrong)


def test_flip_of_any_byte_of_the_signature_is_refused() -> None:
    signature = sign(SEED, SignLabel.SEGMENT, V, DATA)
    changed = [signature[:i] + bytes([signature[i] ^ 1]) + signature[i + 1 :] for i in range(64)]
    for wrong in [*changed, b"", signature[:-1], signature + b"\0", bytes(64)]:
        with pytest.raises(AuthError):
            verify(PUBLIC, SignLabel.SEGMENT, V, DATA, wrong)


def test_second_spelling_of_a_signature_is_refused() -> None:
    signature = sign(SEED, SignLabel.SEGMENT, V, DATA)
    order = 2**252 + 27742317777372353535851937790883648493
    s = int.from_bytes(signature[32:], "little") + order
    with pytest.raises(AuthError):
        verify(PUBLIC, SignLabel.SEGMENT, V, DATA, signature[:32] + s.to_bytes(32, "little"))


@given(st.binary(max_size=100), st.binary(max_size=100))
def test_signature_is_for_one_message(data: bytes, other: bytes) -> None:
    signature = sign(SEED, SignLabel.WRAPS, V, data)
    verify(PUBLIC, SignLabel.WRAPS, V, data, signature)
    if data != other:
        with pytest.raises(AuthError):
            verify(PUBLIC, SignLabel.WRAPS, V, other, signature)


@pytest.mark.parametrize("weak", VECTORS["weak"])
def test_badkeys_weak_or_twice_spelt_signing_key_is_refused(weak: str) -> None:
    with pytest.raises(Invalid):
        refuse_weak_ed25519(unhex(weak))
    with pytest.raises(AuthError):
        verify(unhex(weak), SignLabel.SEGMENT, V, DATA, unhex(weak) + bytes(32))


def test_badkeys_the_library_alone_would_accept_one_signature_for_every_message() -> None:
    """Why the refusal list exists; if this fails some day, the library has learnt it too."""
    identity = b"\1" + bytes(31)
    constant = identity + bytes(32)
    accepted = 0
    for message in (b"any", b"message", b"at all"):
        try:
            Ed25519PublicKey.from_public_bytes(identity).verify(constant, message)
            accepted += 1
        except InvalidSignature:
            pass
    assert accepted == 3


def test_badkeys_all_points_of_small_order_are_on_the_list() -> None:
    """The list against arithmetic: exactly the refused y below p are those with 8·P = 0."""
    p, d = 2**255 - 19, -121665 * pow(121666, -1, 2**255 - 19) % (2**255 - 19)

    def double(x: int, y: int) -> tuple[int, int]:
        t = d * x * x * y * y % p
        return 2 * x * y * pow(1 + t, -1, p) % p, (y * y + x * x) * pow(1 - t, -1, p) % p

    def eight_times(y: int) -> tuple[int, int]:
        square = (y * y - 1) * pow(d * y * y + 1, -1, p) % p
        x = pow(square, (p + 3) // 8, p)
        x = x if x * x % p == square else x * pow(2, (p - 1) // 4, p) % p
        assert x * x % p == square
        for _ in range(3):
            x, y = double(x, y)
        return x, y

    small = {int.from_bytes(unhex(w), "little") & 2**255 - 1 for w in VECTORS["weak"]}
    assert {eight_times(y) for y in small if y < p} == {(0, 1)}
    assert len({y for y in small if y < p}) == 5  # y of 8 points: 1 and -1 with x = 0, 0 and two of order 8 twice each


def test_badkeys_wrong_lengths_are_refused() -> None:
    for length in (0, 31, 33, 64):
        with pytest.raises(Invalid):
            refuse_weak_ed25519(ref.stream("key", length))
        with pytest.raises(AuthError):
            verify(ref.stream("key", length), SignLabel.JOIN, V, DATA, bytes(64))


def test_honest_keys_pass() -> None:
    for _ in range(100):
        refuse_weak_ed25519(sign_public(new_sign_seed()))
