"""Secrets and digests as words that people write down or read to each other: the 1024 words of SLIP-39.

Fingerprints are 9 words over 90 bits. A recovery seed is one or more SLIP-39 shares of 33 words, each with a check sum.
The shares are made and read offline only: the field arithmetic of the library is not constant in time.
"""

from collections.abc import Sequence
from typing import Final

from shamir_mnemonic import MnemonicError, decode_mnemonics, generate_mnemonics, recover_ems
from shamir_mnemonic.wordlist import WORD_INDEX_MAP, WORDLIST

from cryptfs.errors import UsageError

__all__ = ["FINGERPRINT_WORDS", "SHARES_MAX", "SHARE_WORDS", "fingerprint_words", "recovery_seed", "recovery_shares"]

FINGERPRINT_WORDS: Final = 9
SHARE_WORDS: Final = 33
SHARES_MAX: Final = 16

_BITS: Final = 10


def fingerprint_words(digest: bytes) -> tuple[str, ...]:
    """The first 90 bits of a 32-byte digest as 9 words, 10 bits each, high bits first."""
    number = int.from_bytes(digest, "big") >> (8 * len(digest) - _BITS * FINGERPRINT_WORDS)
    places = range(_BITS * (FINGERPRINT_WORDS - 1), -1, -_BITS)
    return tuple(str(WORDLIST[number >> place & (1 << _BITS) - 1]) for place in places)


def recovery_shares(seed: bytes, threshold: int = 1, shares: int = 1) -> list[str]:
    """`shares` phrases of 33 words, any `threshold` of which give back `seed` (32 bytes).

    Raises UsageError unless 1-of-1 or 2 <= threshold <= shares <= 16.
    """
    if (threshold, shares) != (1, 1) and not 2 <= threshold <= shares <= SHARES_MAX:
        raise UsageError(f"recovery words cannot be split into {threshold} of {shares}", "Use 1/1 or, say, 2/3.")
    # The seed is random, so stretching it (iteration exponent) would add time and no strength.
    return [str(share) for share in generate_mnemonics(1, [(threshold, shares)], seed, iteration_exponent=0)[0]]


def recovery_seed(phrases: Sequence[str]) -> bytes:
    """The 32-byte seed from enough phrases, in any order. Raises UsageError, never naming a word: words are secret.

    A seed that comes out may still be another vault's; `recovery_keys` finds out.
    """
    for number, phrase in enumerate(phrases, 1):
        _check_phrase(phrase, f"phrase {number}, " if len(phrases) > 1 else "")
    try:
        groups = decode_mnemonics([phrase.lower() for phrase in phrases])
        for group in groups.values():
            if not group.is_complete():
                raise UsageError(f"{len(group)} of the {group.member_threshold()} phrases that are needed")
        # The library refuses spare phrases; a person who found all of them should not have to choose.
        secret = recover_ems({number: group.get_minimal_group() for number, group in groups.items()})
        return bytes(secret.decrypt(b""))
    except MnemonicError:  # not chained: its text quotes the words
        raise UsageError(
            "these phrases do not belong together, or one is wrong", "Check them with the paper."
        ) from None


def _check_phrase(phrase: str, where: str) -> None:
    words = phrase.lower().split()
    for place, word in enumerate(words, 1):
        if word not in WORD_INDEX_MAP:
            raise UsageError(f"{where}word {place} is not in the list of recovery words", "Check its spelling.")
    if len(words) != SHARE_WORDS:
        raise UsageError(f"{where}{len(words)} words instead of {SHARE_WORDS}", "Type all words of the phrase.")
