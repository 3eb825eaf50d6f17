"""SEAL and OPEN: interoperation with the reference, lengths, buffers."""

import hashlib

import pytest
import reference_crypto as ref
from crypto_vectors import load, unhex
from hypothesis import given, settings
from hypothesis import strategies as st

from cryptfs.crypto.seal import SEAL_OVERHEAD_MIN, open_into, open_sealed, plain_len, seal, seal_into, sealed_len
from cryptfs.errors import AuthError

KEY = ref.stream("test key", 32)
CTX = b"test context"
VECTORS = load("crypto_seal")
BORDERS = [0, 1, 16383, 16384, 16385, 32767, 32768, 32769, 65536, 131072]


def sealed_into(pt: bytes) -> bytes:
    out = bytearray(sealed_len(len(pt)))
    assert seal_into(KEY, CTX, pt, memoryview(out)) == len(out)
    return bytes(out)


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda c: str(c["plain"]["length"]))
def test_vector_of_the_reference_opens(case: dict) -> None:
    plain = ref.stream(case["plain"]["stream"], case["plain"]["length"])
    sealed = ref.seal(unhex(case["key"]), unhex(case["ctx"]), plain, unhex(case["salt"]))
    if "sealed" in case:
        assert sealed == unhex(case["sealed"])
    else:
        assert hashlib.sha256(sealed).hexdigest() == case["sealed_sha256"]
    assert len(sealed) == case["sealed_length"] == sealed_len(len(plain))
    assert open_sealed(unhex(case["key"]), unhex(case["ctx"]), sealed) == plain


@pytest.mark.parametrize("name", VECTORS["refused"])
def test_refused_vector_does_not_open(name: str) -> None:
    with pytest.raises(AuthError):
        open_sealed(bytes(32), b"", unhex(VECTORS["refused"][name]))


@pytest.mark.parametrize("size", BORDERS)
def test_both_implementations_open_each_other(size: int) -> None:
    pt = ref.stream("interop", size)
    assert ref.open_sealed(KEY, CTX, seal(KEY, CTX, pt)) == pt
    assert ref.open_sealed(KEY, CTX, sealed_into(pt)) == pt
    assert open_sealed(KEY, CTX, ref.seal(KEY, CTX, pt, ref.stream("salt", 24))) == pt


@settings(max_examples=50)
@given(key=st.binary(min_size=32, max_size=32), ctx=st.binary(max_size=200), pt=st.binary(max_size=40000))
def test_round_trip_through_both_doors(key: bytes, ctx: bytes, pt: bytes) -> None:
    sealed = seal(key, ctx, pt)
    assert len(sealed) == sealed_len(len(pt))
    assert open_sealed(key, ctx, sealed) == pt
    out = bytearray(len(pt))
    assert open_into(key, ctx, memoryview(sealed), memoryview(out)) == len(pt)
    assert out == pt


@given(st.integers(0, 1 << 40))
def test_plain_len_undoes_sealed_len(p: int) -> None:
    assert plain_len(sealed_len(p)) == p


def test_every_length_is_one_plaintext_length_or_refused() -> None:
    possible = {sealed_len(p) for p in range(40000)}
    for c in range(40000):
        if c in possible:
            assert sealed_len(plain_len(c)) == c
        else:
            with pytest.raises(AuthError):
                plain_len(c)


def test_lengths_of_the_format_document() -> None:
    overheads = {0: 72, 1 << 16: 136, 1 << 18: 328, 1 << 20: 1096, 4 << 20: 4168}
    assert {p: sealed_len(p) - p for p in overheads} == overheads
    assert sealed_len(0) == SEAL_OVERHEAD_MIN


# T-sizes
@pytest.mark.parametrize("wrong", [-16400, -17, -16, -1, 1, 16, 16400])
@pytest.mark.parametrize("size", [100, 16384, 65536])
def test_sizes_output_buffer_of_any_other_length_is_refused(size: int, wrong: int) -> None:
    pt = bytes(size)
    out = bytearray(max(0, sealed_len(size) + wrong))
    with pytest.raises(ValueError, match="exactly"):
        seal_into(KEY, CTX, pt, memoryview(out))
    assert not any(out)
    back = bytearray(b"\xaa" * max(0, size + wrong))
    with pytest.raises(AuthError):
        open_into(KEY, CTX, sealed_into(pt), memoryview(back))
    assert not any(back)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_every_kind_of_buffer_is_taken(kind: type) -> None:
    pt = kind(ref.stream("kinds", 20000))
    assert open_sealed(KEY, CTX, kind(seal(KEY, CTX, pt))) == bytes(pt)


# T-overlap
@pytest.mark.parametrize("size", [10, 5000, 40000])
def test_overlap_of_buffers_never_gives_wrong_ciphertext(size: int) -> None:
    pt, base = ref.stream("overlap", size), 1000
    for offset in [*range(-100, 101), size, -size, sealed_len(size)]:
        room = memoryview(bytearray(2 * sealed_len(size) + 2 * base))
        start = base if offset >= -base else base + size
        room[start : start + size] = pt
        at = start + offset
        out = room[at : at + sealed_len(size)]
        seal_into(KEY, CTX, room[start : start + size], out)
        assert open_sealed(KEY, CTX, out) == pt


def test_overlap_of_buffers_never_gives_wrong_plaintext() -> None:
    pt = ref.stream("overlap", 40000)
    sealed = seal(KEY, CTX, pt)
    for offset in range(-100, 101):
        room = memoryview(bytearray(len(sealed) + 2000))
        room[1000 : 1000 + len(sealed)] = sealed
        out = room[1000 + offset : 1000 + offset + len(pt)]
        open_into(KEY, CTX, room[1000 : 1000 + len(sealed)], out)
        assert out == pt


# T-nonce-unique, T-determinism at this level
def test_same_plaintext_twice_gives_unrelated_bytes() -> None:
    sealed = [seal(KEY, CTX, bytes(200)) for _ in range(500)] + [sealed_into(bytes(200)) for _ in range(500)]
    assert len({s[:24] for s in sealed}) == 1000
    assert len({s[56:72] for s in sealed}) == 1000
