"""The name under which the later of two things that want one name appears (docs/replication.md, "Conflict names").

Names are bytes; they are compared and cut as bytes, never normalised. Everything here is a function of its arguments,
so that every device finds the same name.
"""

import hashlib
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, NamedTuple

from cryptfs.format.limits import NAME_MAX

__all__ = ["MARK", "Copied", "conflict_name", "copied_from", "date_of", "label_of", "marked_name"]

MARK: Final = b"'s conflicted copy "
_MARKED: Final = re.compile(
    rb"(.+)'s conflicted copy (\d{4}-\d\d-\d\d)\)(?: (?:\d{1,3}|[0-9a-f]{8,64}))?(\..*)?", re.DOTALL
)

_LABEL_MAX: Final = 40
_COUNT_MAX: Final = 999
_YEAR_10000_MS: Final = 253_402_300_800_000
# Embedding, override and isolate characters would let a label turn the rest of a name around on the screen.
_BIDI: Final = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


class Copied(NamedTuple):
    """What the name of a conflicted copy says: the name that was meant (cut, if it was very long), and whose it is."""

    name: bytes
    stem: bytes
    ext: bytes
    label: bytes
    date: bytes


def copied_from(name: bytes) -> Copied | None:
    """Read a conflict name; None if it is none. A copy of a copy is one of the inner name.

    Names and labels may have brackets of their own: the label is the shortest text in which brackets are balanced.
    """
    found = _MARKED.fullmatch(name)
    if found is None:
        return None
    before, date, ext = found[1], found[2], found[3] or b""
    at = before.rfind(b" (")
    while at > 0 and before.count(b"(", at + 2) != before.count(b")", at + 2):
        at = before.rfind(b" (", 0, at)
    if at <= 0 or at + 2 == len(before):
        return None
    stem, label = before[:at], before[at + 2 :]
    return Copied(stem + ext, stem, ext, label, date)


def label_of(label: str) -> bytes:
    """A device's label for names: at most 40 bytes without "/", control and bidirectional characters."""
    kept = "".join(c for c in label if c not in _BIDI and c != "/" and (" " <= c < "\x7f" or c > "\x9f"))
    return _cut(kept.encode("utf-8", "ignore"), _LABEL_MAX) or b"a device"


def date_of(wall_ms: int) -> bytes:
    """The UTC date of a segment as YYYY-MM-DD, 1970-01-01 outside the years 1970 to 9999."""
    if not 0 <= wall_ms < _YEAR_10000_MS:
        return b"1970-01-01"
    return datetime.fromtimestamp(wall_ms // 1000, UTC).strftime("%Y-%m-%d").encode()


def conflict_name(name: bytes, label: bytes, date: bytes, op: bytes, taken: Callable[[bytes], bool]) -> bytes:
    """The first free one of `STEM (LABEL's conflicted copy DATE)EXT` and its numbered siblings.

    ` 2` to ` 999` follow the bracket, after them digits of the hash of the operation `op` (24 bytes). At most 255
    bytes; `taken` says whether a name is in use.
    """
    stem, ext = _parts(name)
    mark = b" (" + label + MARK + date + b")"
    for count in range(1, _COUNT_MAX + 1):
        found = _join(stem, mark if count == 1 else mark + b" %d" % count, ext)
        if not taken(found):
            return found
    digest = hashlib.sha256(op).hexdigest().encode()
    for digits in range(8, len(digest) + 1):
        found = _join(stem, mark + b" " + digest[:digits], ext)
        if not taken(found):
            break
    return found


def marked_name(name: bytes, mark: bytes) -> bytes:
    """`STEM` + `mark` + `EXT` of a name, at most 255 bytes."""
    stem, ext = _parts(name)
    return _join(stem, mark, ext)


def _parts(name: bytes) -> tuple[bytes, bytes]:
    """Stem and extension: from the last dot on, `.tar.*` kept together, a leading dot starts none."""
    dot = name.rfind(b".")
    if dot <= 0:
        return name, b""
    if name[:dot].endswith(b".tar") and dot > len(b".tar"):
        dot -= len(b".tar")
    return name[:dot], name[dot:]


def _join(stem: bytes, mark: bytes, ext: bytes) -> bytes:
    room = NAME_MAX - len(mark) - len(ext)
    if room < 1:  # an extension that fills the name is none worth keeping
        stem, ext, room = stem + ext, b"", NAME_MAX - len(mark)
    return _cut(stem, room) + mark + ext


def _cut(text: bytes, length: int) -> bytes:
    """At most `length` bytes, not ending within a UTF-8 character."""
    if len(text) <= length:
        return text
    end = length
    while end > 0 and length - end < 4 and text[end] & 0xC0 == 0x80:
        end -= 1
    # Four continuation bytes in a row are no UTF-8: such names are cut anywhere.
    return text[: end if text[end] & 0xC0 != 0x80 else length]
