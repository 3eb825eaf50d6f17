"""Conflict names: the same on every device, whole characters, never longer than a name may be."""

import hashlib

import pytest

from cryptfs.tree.conflict_name import conflict_name, date_of, label_of

OP = b"A" * 24
DATE = b"2024-02-29"
MARK = b" (Bob's conflicted copy 2024-02-29)"


def named(name: bytes, label: bytes = b"Bob", taken: set[bytes] | None = None) -> bytes:
    return conflict_name(name, label, DATE, OP, lambda found: found in (taken or set()))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (b"report.odt", b"report" + MARK + b".odt"),
        (b"report", b"report" + MARK),
        (b".bashrc", b".bashrc" + MARK),
        (b"a.b.c", b"a.b" + MARK + b".c"),
        (b"source.tar.gz", b"source" + MARK + b".tar.gz"),
        (b".tar.gz", b".tar" + MARK + b".gz"),
        (b"dot.", b"dot" + MARK + b"."),
        (b"\xff\xfe.x", b"\xff\xfe" + MARK + b".x"),
    ],
)
def test_the_mark_stands_before_the_extension(name: bytes, expected: bytes) -> None:
    assert named(name) == expected


def test_taken_names_are_numbered_up_to_999_then_hashed() -> None:
    taken = {b"a" + MARK}
    assert named(b"a", taken=taken) == b"a" + MARK + b" 2"
    taken |= {b"a" + MARK + b" %d" % n for n in range(2, 1000)}
    digest = hashlib.sha256(OP).hexdigest().encode()
    assert named(b"a", taken=taken) == b"a" + MARK + b" " + digest[:8]
    taken.add(b"a" + MARK + b" " + digest[:8])
    assert named(b"a", taken=taken) == b"a" + MARK + b" " + digest[:9]


@pytest.mark.parametrize("name", [b"x" * 255, "ü".encode() * 127, "€".encode() * 85, b"x" * 250 + b".tar.gz"[:5]])
def test_long_names_are_cut_between_characters(name: bytes) -> None:
    found = named(name)
    assert len(found) <= 255
    assert MARK in found
    if name[0] > 0x7F:
        found.decode()


def test_bytes_that_are_no_characters_are_cut_anywhere() -> None:
    assert len(named(b"\x80" * 255)) == 255


def test_an_extension_that_fills_the_name_is_part_of_the_stem() -> None:
    found = named(b"a." + b"x" * 253)
    assert len(found) == 255
    assert found.endswith(MARK)


def test_labels_lose_what_would_deceive_in_a_name() -> None:
    assert label_of("An\u202ena/\n\x00's \u2067phone") == b"Anna's phone"
    assert label_of("") == label_of("\u202e/") == b"a device"
    assert label_of("ü" * 40) == "ü".encode() * 20


@pytest.mark.parametrize(
    ("wall_ms", "date"),
    [
        (0, b"1970-01-01"),
        (-1, b"1970-01-01"),
        (1_700_000_000_000, b"2023-11-14"),
        (253_402_300_799_999, b"9999-12-31"),
        (253_402_300_800_000, b"1970-01-01"),
        (2**62, b"1970-01-01"),
    ],
)
def test_dates_outside_the_calendar_are_the_first_day(wall_ms: int, date: bytes) -> None:
    assert date_of(wall_ms) == date
