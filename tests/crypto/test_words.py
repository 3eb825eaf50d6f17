"""Words for fingerprints and recovery: vectors, M of N, T-recovery as far as words go."""

import itertools

import pytest
import reference_crypto as ref
from crypto_vectors import load, unhex
from hypothesis import given, settings
from hypothesis import strategies as st
from shamir_mnemonic.wordlist import WORDLIST

from cryptfs.crypto.keys import fingerprint_digest, heads_digest
from cryptfs.crypto.recovery import RecoveryPublic, RecoverySecret, new_recovery_seed, recovery_keys
from cryptfs.crypto.words import SHARE_WORDS, fingerprint_words, recovery_seed, recovery_shares
from cryptfs.crypto.wrap import unwrap_x25519, wrap_to_x25519
from cryptfs.errors import NotAllowed, UsageError

VECTORS = load("crypto_words")
V, SEED, SIGN_PUBLIC, KEM_PUBLIC = (unhex(VECTORS[name]) for name in ("vault", "seed", "sign_public", "kem_public"))
EXPECTED = RecoveryPublic(SIGN_PUBLIC, KEM_PUBLIC)


def test_vector_of_fingerprint_words() -> None:
    digest = fingerprint_digest(V, unhex(VECTORS["cert"]), SIGN_PUBLIC)
    assert digest == unhex(VECTORS["fingerprint_digest"])
    assert [WORDLIST.index(word) for word in fingerprint_words(digest)] == VECTORS["fingerprint_word_numbers"]


def test_fingerprint_covers_90_bits_and_no_more() -> None:
    digest = ref.stream("digest", 32)
    flipped = [(int.from_bytes(digest, "big") ^ 1 << 255 - bit).to_bytes(32, "big") for bit in range(256)]
    changed = [fingerprint_words(other) != fingerprint_words(digest) for other in flipped]
    assert changed == [True] * 90 + [False] * 166


def test_vector_of_heads_digest_in_any_order() -> None:
    head = (unhex(VECTORS["head"]["log"]), VECTORS["head"]["seq"], unhex(VECTORS["head"]["digest"]))
    frontier = [unhex(s) for s in VECTORS["frontier"]]
    assert heads_digest(V, frontier[::-1], [head]) == unhex(VECTORS["heads_digest"])
    other = (bytes(16), 1, bytes(32))
    assert heads_digest(V, [], [head, other]) == heads_digest(V, [], [other, head])


def test_vector_of_recovery_keys() -> None:
    secret = recovery_keys(SEED, EXPECTED)
    assert secret.public == EXPECTED
    assert secret.public.fingerprint == unhex(VECTORS["recovery_fingerprint"])
    alg, blob = wrap_to_x25519(EXPECTED.kem_public, bytes(32), b"info")
    assert unwrap_x25519(secret.kem_private, alg, blob, b"info") == bytes(32)


def test_recovery_words_of_another_vault_are_refused() -> None:
    for other in (RecoveryPublic(SIGN_PUBLIC, SIGN_PUBLIC), RecoveryPublic(KEM_PUBLIC, KEM_PUBLIC)):
        with pytest.raises(NotAllowed):
            recovery_keys(SEED, other)
    with pytest.raises(NotAllowed):
        recovery_keys(new_recovery_seed(), EXPECTED)


def test_repr_of_recovery_keys_shows_nothing() -> None:
    secret = RecoverySecret(SEED)
    assert "sign_seed" not in repr(secret)
    assert repr(secret.sign_seed)[2:10] not in repr(secret)


@settings(max_examples=20)
@given(st.binary(min_size=32, max_size=32))
def test_one_share_gives_the_seed_back(seed: bytes) -> None:
    (phrase,) = recovery_shares(seed)
    assert len(phrase.split()) == SHARE_WORDS
    assert recovery_seed([phrase]) == seed
    assert recovery_seed(["  " + phrase.upper().replace(" ", "\n") + " "]) == seed


def test_any_m_of_n_shares_give_the_seed_back_and_fewer_do_not() -> None:
    shares = recovery_shares(SEED, 2, 3)
    for chosen in itertools.permutations(shares, 2):
        assert recovery_seed(chosen) == SEED
    assert recovery_seed(shares) == SEED  # spare ones do no harm
    assert recovery_seed([shares[0], shares[0], shares[1]]) == SEED
    for share in shares:
        for few in ([share], [share, share]):
            with pytest.raises(UsageError, match="1 of the 2"):
                recovery_seed(few)


@pytest.mark.parametrize("split", [(1, 2), (0, 0), (0, 1), (3, 2), (2, 17), (17, 17), (-1, 3)])
def test_impossible_splits_are_refused(split: tuple[int, int]) -> None:
    with pytest.raises(UsageError):
        recovery_shares(SEED, *split)


def test_shares_of_two_sets_do_not_mix() -> None:
    mixed = [recovery_shares(SEED, 2, 3)[0], recovery_shares(SEED, 2, 3)[1]]
    with pytest.raises(UsageError, match="do not belong together"):
        recovery_seed(mixed)


def test_one_wrong_word_anywhere_is_noticed() -> None:
    words = recovery_shares(SEED)[0].split()
    for place in range(SHARE_WORDS):
        other = WORDLIST[(WORDLIST.index(words[place]) + 1) % 1024]
        with pytest.raises(UsageError):
            recovery_seed([" ".join([*words[:place], other, *words[place + 1 :]])])


def refusals(words: list[str]) -> list[tuple[str, str]]:
    """What is said about wrong versions of one phrase."""
    typo = [*words[:6], "xyz", *words[7:]]
    other = WORDLIST[(WORDLIST.index(words[9]) + 1) % 1024]
    said = []
    for attempt in (typo, words[:-1], [*words, words[0]], [*words[:9], other, *words[10:]], []):
        with pytest.raises(UsageError) as caught:
            recovery_seed([" ".join(attempt)])
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__ or caught.value.__context__ is None
        said.append((str(caught.value), caught.value.advice))
    return said


def test_errors_about_words_name_places_and_never_words() -> None:
    said = refusals(recovery_shares(SEED)[0].split())
    assert said[0][0].startswith("word 7 is not")
    assert said == refusals(recovery_shares(bytes(32))[0].split())  # so they hold nothing of the phrase
    with pytest.raises(UsageError):
        recovery_seed([])


def test_shorter_slip39_secret_is_not_one_of_ours() -> None:
    from shamir_mnemonic import generate_mnemonics

    with pytest.raises(UsageError):
        recovery_seed(generate_mnemonics(1, [(1, 1)], bytes(16))[0])
