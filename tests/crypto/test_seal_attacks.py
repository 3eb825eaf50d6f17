"""What somebody who owns the ciphertext may try on a SEAL.

T-flip, T-splice, T-partial, T-noleak, T-salamander, T-oracle of docs/threat-model.md.
"""

import itertools
import random
import traceback

import pytest
import reference_crypto as ref
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from cryptfs.crypto.seal import open_into, open_sealed, plain_len, seal, sealed_len
from cryptfs.errors import AuthError

KEY = ref.stream("attack key", 32)
CTX = b"attack context"
SEED = 7


def refused(sealed: bytes, key: bytes = KEY, ctx: bytes = CTX) -> bool:
    """Both doors refuse, and neither lets a byte out."""
    with pytest.raises(AuthError):
        open_sealed(key, ctx, sealed)
    try:
        out = bytearray(b"\xaa" * plain_len(len(sealed)))
    except AuthError:
        return True
    with pytest.raises(AuthError):
        open_into(key, ctx, sealed, memoryview(out))
    return not any(out)


def pieces(sealed: bytes) -> tuple[bytes, list[bytes]]:
    """Header and segments."""
    return sealed[:56], [sealed[at : at + 16400] for at in range(56, len(sealed), 16400)]


def test_flip_of_any_byte_of_a_small_message() -> None:
    sealed = seal(KEY, CTX, b"twenty bytes of text")
    for at in range(len(sealed)):
        for bit in (1, 0x80):
            assert refused(sealed[:at] + bytes([sealed[at] ^ bit]) + sealed[at + 1 :])


def test_flip_of_bytes_in_every_region_of_a_long_message() -> None:
    sealed = seal(KEY, CTX, ref.stream("long", 50000))
    starts = range(56, len(sealed), 16400)
    places = [0, 23, 24, 55, *starts, *(s + 8000 for s in starts[:-1]), *(s - 1 for s in starts[1:]), len(sealed) - 1]
    for at in places:
        assert refused(sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :])


def test_partial_message_cut_at_every_segment_border_gives_nothing() -> None:
    for size in (16384, 50000, 65536):
        sealed = seal(KEY, CTX, ref.stream("cut", size))
        for border in range(56, len(sealed), 16400):
            for cut in {border, border + 1, border + 15, border + 16, border + 17}:
                assert cut >= len(sealed) or refused(sealed[:cut])


def test_message_cut_or_extended_by_any_length() -> None:
    sealed = seal(KEY, CTX, bytes(300))
    for cut in range(len(sealed)):
        assert refused(sealed[:cut])
    for more in (1, 15, 16, 17, 16400):
        assert refused(sealed + bytes(more))
        assert refused(sealed + sealed[-more:])


def test_segment_appended_from_another_message_of_the_same_key() -> None:
    first, second = seal(KEY, CTX, bytes(16384)), seal(KEY, CTX, bytes(100))
    assert refused(first + second[56:])
    assert refused(first[:-16] + second[56:])


def test_splice_of_segments_within_and_between_messages() -> None:
    """3,150 arrangements: own segments swapped, dropped, doubled; segments and headers of other messages."""
    rng = random.Random(SEED)
    messages = [seal(KEY, CTX, ref.stream(f"splice {i}", 16384 * 3 + 40)) for i in range(3)]
    split = [pieces(m) for m in messages]
    pool = [(m, i) for m in range(3) for i in range(4)]
    honest = {(m, tuple((m, i) for i in range(4))) for m in range(3)}
    tried = set()
    for header in range(3):
        own = [(header, i) for i in range(4)]
        for r in range(5):
            tried |= {(header, order) for order in itertools.permutations(own, r)}
        for at, other in itertools.product(range(4), pool):
            tried.add((header, tuple(other if i == at else own[i] for i in range(4))))
    while len(tried) < 3150 + len(honest):
        tried.add((rng.randrange(3), tuple(rng.choices(pool, k=rng.randrange(1, 6)))))
    opened = set()
    for header, order in tried:
        try:
            open_sealed(KEY, CTX, split[header][0] + b"".join(split[m][1][i] for m, i in order))
            opened.add((header, order))
        except AuthError:
            pass
    assert opened == honest, f"seed {SEED}"


@pytest.mark.parametrize("size", [0, 100, 16384, 65536])
def test_wrong_key_or_context_is_refused(size: int) -> None:
    sealed = seal(KEY, CTX, bytes(size))
    for bit in (0, 100, 255):
        assert refused(sealed, key=(int.from_bytes(KEY, "big") ^ 1 << bit).to_bytes(32, "big"))
    for ctx in (b"", CTX[:-1], CTX + b"\0", b"\0" + CTX, CTX.upper()):
        assert refused(sealed, ctx=ctx)


def test_context_and_salt_do_not_run_into_each_other() -> None:
    # The salt has a fixed length; were it not so, moving a byte from one to the other would go unnoticed.
    sealed = ref.seal(KEY, b"ab", b"text", bytes(24))
    assert refused(sealed, ctx=b"\0ab")


def test_noleak_flipped_bit_leaves_no_plaintext_in_the_callers_buffer() -> None:
    sealed = bytearray(seal(KEY, CTX, b"A" * 50000))
    sealed[-1] ^= 1  # the first three segments verify and are decrypted before this is seen
    out = bytearray(50000)
    with pytest.raises(AuthError) as caught:
        open_into(KEY, CTX, sealed, memoryview(out))
    assert not any(out)
    assert "AAAA" not in "".join(traceback.format_exception(caught.value))


def test_oracle_every_failure_says_the_same() -> None:
    sealed = seal(KEY, CTX, ref.stream("oracle", 20000))
    attempts = [b"", sealed[:60], sealed[:16456], sealed[:-1], sealed + b"\0", bytes(len(sealed))]
    attempts += [sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :] for at in (0, 30, 60, len(sealed) - 1)]
    said = set()
    for attempt in attempts:
        with pytest.raises(AuthError) as caught:
            open_sealed(KEY, CTX, attempt)
        said.add((type(caught.value), str(caught.value), caught.value.advice, caught.value.__cause__))
        with pytest.raises(AuthError) as caught:
            open_into(KEY, CTX, attempt, memoryview(bytearray(20000)))
        said.add((type(caught.value), str(caught.value), caught.value.advice, caught.value.__cause__))
    assert len(said) == 1


# ---- T-salamander: one GCM ciphertext that verifies under two keys (Dodis et al., "Fast Message Franking", 2018) ----


def gf_mul(x: int, y: int) -> int:
    """Product in GF(2^128) with GCM's reflected bits."""
    z = 0
    for i in range(127, -1, -1):
        if y >> i & 1:
            z ^= x
        x = x >> 1 ^ (0xE1 << 120 if x & 1 else 0)
    return z


def gf_inverse(x: int) -> int:
    result, power = 1 << 127, x
    for _ in range(127):  # x^(2^128 - 2)
        power = gf_mul(power, power)
        result = gf_mul(result, power)
    return result


def aes_block(key: bytes, block: bytes) -> int:
    return int.from_bytes(Cipher(algorithms.AES(key), modes.ECB()).encryptor().update(block), "big")


def salamander(first: tuple[bytes, bytes], second: tuple[bytes, bytes]) -> bytes:
    """Ciphertext of one block and tag that AES-GCM accepts under both (key, nonce) pairs, without associated data."""
    h = [aes_block(key, bytes(16)) for key, _ in (first, second)]
    mask = [aes_block(key, nonce + b"\0\0\0\1") for key, nonce in (first, second)]
    length = 128
    # tag = mask ^ (c·H ^ length)·H must be equal for both; solve for c.
    squares = [gf_mul(x, x) for x in h]
    constant = mask[0] ^ mask[1] ^ gf_mul(length, h[0]) ^ gf_mul(length, h[1])
    c = gf_mul(constant, gf_inverse(squares[0] ^ squares[1]))
    tag = mask[0] ^ gf_mul(c, squares[0]) ^ gf_mul(length, h[0])
    return c.to_bytes(16, "big") + tag.to_bytes(16, "big")


def test_salamander_that_two_keys_accept_opens_under_none_but_the_committed() -> None:
    salt = bytes(24)
    keys = [ref.stream("salamander 0", 32), ref.stream("salamander 1", 32)]
    derived = [ref.message_keys(key, CTX, salt) for key in keys]
    segment = salamander(*((aes, iv) for aes, iv, _ in derived))
    plains = [AESGCM(aes).decrypt(iv, segment, None) for aes, iv, _ in derived]  # GCM alone accepts both
    assert plains[0] != plains[1]
    for committed in (0, 1):
        sealed = salt + derived[committed][2] + segment
        assert open_sealed(keys[committed], CTX, sealed) == plains[committed]
        assert refused(sealed, key=keys[1 - committed])


def test_salamander_with_a_foreign_commitment_is_refused_before_any_decryption() -> None:
    pt = ref.stream("committed", sealed_len(0) * 1000)
    sealed = seal(KEY, CTX, pt)
    other = ref.message_keys(ref.stream("other", 32), CTX, sealed[:24])[2]
    assert refused(sealed[:24] + other + sealed[56:])
