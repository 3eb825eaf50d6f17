"""The one serialisation: MessagePack in its only accepted spelling (docs/format.md, "Structured parts").

Structured parts are arrays of fixed shape. A decoder for an exact type accepts several spellings of one value
(over-long integers, over-long array headers); comparing the re-encoded value with the input leaves exactly one. Callers
verify signature or hash *before* they decode, so what fails here is the author's doing: Invalid, or NeedsUpdate when a
newer cryptfs wrote it.
"""

from typing import Final, TypeVar, cast

import msgspec

from cryptfs.errors import Invalid, NeedsUpdate

__all__ = ["FMT", "Ext", "Wire", "check_ext", "check_fmt", "decode", "decode_top", "encode", "leading_uint", "probe"]

FMT: Final = 1
"""First field of every top-level structure of this version."""


class Wire(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True, gc=False):
    """Base of everything that is encoded: an array of all fields in order, no defaults.

    Outside the garbage collector's watch: the values are immutable and hold no references back, and a segment has
    thousands of them.
    """


class Ext(Wire, frozen=True):
    """An extension of a later version: who does not know `id` may ignore it unless it is `critical`."""

    id: int
    critical: bool
    value: bytes


_ENCODER: Final = msgspec.msgpack.Encoder()
T = TypeVar("T")


_DECODERS: Final[dict[type[object], msgspec.msgpack.Decoder[object]]] = {}


def _decode(kind: type[T], data: bytes | memoryview) -> T:
    """Decode with the one decoder kept for `kind`; every way in which that can fail becomes Invalid."""
    decoder = _DECODERS.get(kind)
    if decoder is None:
        decoder = _DECODERS[kind] = msgspec.msgpack.Decoder(kind)
    try:
        value = decoder.decode(data)
    except (ValueError, RecursionError) as err:  # MsgspecError and UnicodeDecodeError are ValueErrors
        raise Invalid(f"{kind.__name__} is not what the format says ({type(err).__name__})") from err
    return cast("T", value)  # the decoder was made for exactly this type


def encode(value: object) -> bytes:
    """The canonical bytes of a wire struct, or of tuples, bytes, str, int and None."""
    return _ENCODER.encode(value)


def decode(kind: type[T], data: bytes | memoryview, cap: int) -> T:
    """Decode `data`, at most `cap` bytes, as exactly `kind` in canonical spelling.

    Raises Invalid for everything else. Only the shape is checked here; ranges are the business of the rules of form.
    """
    if len(data) > cap:
        raise Invalid(f"{kind.__name__} is longer than {cap} bytes")
    value = _decode(kind, data)
    if _ENCODER.encode(value) != data:
        raise Invalid(f"{kind.__name__} is not in canonical form")
    return value


def decode_top(kind: type[T], data: bytes | memoryview, cap: int) -> T:
    """Decode a top-level structure, one that starts with its format number.

    Raises Invalid as `decode`, but NeedsUpdate if the reason is a format number that this version does not know.
    """
    try:
        return decode(kind, data, cap)
    except Invalid:
        first = leading_uint(data)
        if first is not None and first > FMT:
            raise NeedsUpdate(f"{kind.__name__} is written in a newer format") from None
        raise


def probe(kind: type[T], data: bytes | memoryview) -> T:
    """Decode leniently, to find out *why* `decode` refused; nothing from it may be used as data. Raises Invalid."""
    return _decode(kind, data)


class _Leading(msgspec.Struct, array_like=True):
    """Any array that starts with an integer."""

    first: int


def leading_uint(data: bytes | memoryview) -> int | None:
    """The integer at the head of an array, None if there is none. For error paths."""
    try:
        return probe(_Leading, data).first
    except Invalid:
        return None


def check_fmt(fmt: int) -> None:
    """Raise NeedsUpdate for a later format number, Invalid for none."""
    if fmt > FMT:
        raise NeedsUpdate("written in a newer format")
    if fmt != FMT:
        raise Invalid("format number out of range")


def check_ext(ext: tuple[Ext, ...]) -> None:
    """Raise Invalid unless sorted by id; NeedsUpdate for a critical extension. This version knows none."""
    last = -1
    for one in ext:
        if not last < one.id:
            raise Invalid("extensions are not sorted")
        last = one.id
    if any(one.critical for one in ext):
        raise NeedsUpdate("an extension that this version does not know must be understood to read this")
