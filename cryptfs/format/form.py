"""The judgements that all rules of form are made of: a value is in range, of the right length, sorted; else Invalid."""

import unicodedata
from collections.abc import Iterable

from cryptfs.errors import Invalid
from cryptfs.format.limits import FRONTIER_MAX, I64_MAX, I64_MIN, KEY_SET_MAX

__all__ = ["ascending", "frontier", "id16", "id32", "int64", "key_set", "need", "optional", "text", "tidy_text", "uint"]


def need(fact: bool, rule: str) -> None:
    """Raise Invalid, naming the `rule`, unless `fact`."""
    if not fact:
        raise Invalid(rule)


def id16(value: bytes, what: str) -> None:
    """16 bytes."""
    if len(value) != 16:
        raise Invalid(f"{what} has not 16 bytes")


def id32(value: bytes, what: str) -> None:
    """32 bytes."""
    if len(value) != 32:
        raise Invalid(f"{what} has not 32 bytes")


def optional(value: bytes, length: int, what: str) -> None:
    """Empty, or exactly `length` bytes."""
    if value and len(value) != length:
        raise Invalid(f"{what} is neither empty nor {length} bytes")


def uint(value: int, most: int, what: str) -> None:
    """0 <= value <= most."""
    if not 0 <= value <= most:
        raise Invalid(f"{what} is out of range")


def int64(value: int, what: str) -> None:
    """Fits signed 64 bits."""
    if not I64_MIN <= value <= I64_MAX:
        raise Invalid(f"{what} is out of range")


def text(value: str, most: int, what: str) -> None:
    """Text for display: at most `most` bytes of UTF-8, no C0 or C1 control characters.

    That it is in normal form NFC is the writer's duty: which strings are depends on the age of the reader's Unicode
    tables, and no rule may come out differently on two machines.
    """
    if len(value.encode()) > most:
        raise Invalid(f"{what} is too long")
    if any(map(_is_control, value)):
        raise Invalid(f"{what} has control characters")


def tidy_text(value: str, most: int) -> str:
    """`value` as writers put it into `text` fields: NFC, without control characters, cut to `most` bytes of UTF-8."""
    kept = "".join(char for char in unicodedata.normalize("NFC", value) if not _is_control(char))
    return kept.encode()[:most].decode(errors="ignore")


def _is_control(char: str) -> bool:
    return char < " " or "\x7f" <= char <= "\x9f"


def ascending(values: Iterable[bytes], what: str) -> None:
    """Strictly ascending bytewise, so sorted and distinct."""
    last: bytes | None = None
    for value in values:
        if last is not None and value <= last:
            raise Invalid(f"{what} are not sorted or not distinct")
        last = value


def frontier(ids: tuple[bytes, ...], what: str) -> None:
    """At most 256 statement ids, sorted."""
    if len(ids) > FRONTIER_MAX:
        raise Invalid(f"{what} are too many")
    for one in ids:
        id32(one, what)
    ascending(ids, what)


def key_set(ks: bytes, what: str = "key set") -> None:
    """KS: 1 to 16 epoch ids of 16 bytes, distinct, ascending."""
    if len(ks) == 16:
        return
    if not ks or len(ks) % 16 or len(ks) > 16 * KEY_SET_MAX:
        raise Invalid(f"{what} is no list of epoch ids")
    ascending((ks[at : at + 16] for at in range(0, len(ks), 16)), what)
