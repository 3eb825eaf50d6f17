"""The header that every object starts with (docs/format.md, "Header").

    magic 8 ‖ suite 1 ‖ n 1 ‖ zero 2 ‖ u32 len ‖ V 32 ‖ KS 16·n ‖ fixed

`len` and `fixed` mean what the class says. The header is inside whatever the object's hash, signature or context
covers.
"""

import struct
from dataclasses import dataclass
from enum import Enum
from typing import Final

from cryptfs.errors import Damaged, Invalid, NeedsUpdate
from cryptfs.format.form import key_set
from cryptfs.format.limits import KEY_SET_MAX, U32_MAX

__all__ = ["PREFIX_LEN", "SUITE", "Header", "ObjectClass", "header_len", "object_class", "pack_header", "parse_header"]

SUITE: Final = 1
PREFIX_LEN: Final = 48

_PREFIX: Final = struct.Struct(">8sBBHI32s")


class ObjectClass(Enum):
    """The magic of each class; its last character is the version of the layout."""

    STATEMENT = b"CFSSTMT1"
    CRL = b"CFSCREV1"
    WRAPS = b"CFSWRAP1"
    JOIN = b"CFSJOIN1"
    SEGMENT = b"CFSSEGM1"
    ROLLUP = b"CFSROLL1"
    PACK = b"CFSPACK1"
    CHECKPOINT = b"CFSCHKP1"


@dataclass(frozen=True, slots=True)
class _Shape:
    """`fixed`: bytes after the key set; `sealed`: whether a key set stands there at all."""

    fixed: int
    sealed: bool


_SHAPES: Final = {
    ObjectClass.STATEMENT: _Shape(32, sealed=False),
    ObjectClass.CRL: _Shape(0, sealed=False),
    ObjectClass.WRAPS: _Shape(48, sealed=False),
    ObjectClass.JOIN: _Shape(48, sealed=False),
    ObjectClass.SEGMENT: _Shape(32, sealed=True),
    ObjectClass.ROLLUP: _Shape(32, sealed=False),
    ObjectClass.PACK: _Shape(0, sealed=True),
    ObjectClass.CHECKPOINT: _Shape(40, sealed=True),
}


@dataclass(frozen=True, slots=True)
class Header:
    """`ks` 16·n bytes, empty where nothing is sealed under an epoch; `length` the u32; `raw` the header itself."""

    kind: ObjectClass
    vault: bytes
    ks: bytes
    length: int
    fixed: bytes
    raw: bytes


def object_class(data: bytes | memoryview) -> ObjectClass | None:
    """The class of an object by its magic; None: not ours, or of a later layout, in any case to be ignored."""
    try:
        return ObjectClass(bytes(data[:8]))
    except ValueError:
        return None


def header_len(kind: ObjectClass, epochs: int) -> int:
    """Bytes of the header of a `kind` with `epochs` epoch ids."""
    return PREFIX_LEN + 16 * epochs + _SHAPES[kind].fixed


def pack_header(kind: ObjectClass, vault: bytes, ks: bytes, length: int, fixed: bytes) -> bytes:
    """The bytes of a header. Raises ValueError for parts of the wrong size: our own mistake, not the store's."""
    shape = _SHAPES[kind]
    if len(vault) != 32 or len(fixed) != shape.fixed or bool(ks) != shape.sealed or not 0 <= length <= U32_MAX:
        raise ValueError(f"the parts make no header of a {kind.name}")
    if ks:
        key_set(ks)
    return _PREFIX.pack(kind.value, SUITE, len(ks) // 16, 0, length, vault) + ks + fixed


def parse_header(kind: ObjectClass, data: bytes | memoryview, vault: bytes) -> Header:
    """The header at the start of `data`, which must be a `kind` of this `vault`.

    Raises Damaged, or NeedsUpdate for a suite this version does not know. Lengths are those the header claims; callers
    compare them with what is really there before they allocate.
    """
    shape = _SHAPES[kind]
    if len(data) < PREFIX_LEN:
        raise Damaged("shorter than a header")
    magic, suite, epochs, zero, length, owner = _PREFIX.unpack_from(data)
    if magic != kind.value:
        raise Damaged(f"no {kind.name.lower()}")
    if suite != SUITE:
        raise NeedsUpdate("made with a newer set of ciphers")
    if owner != vault:
        raise Damaged("belongs to another vault")
    if zero or epochs > KEY_SET_MAX or bool(epochs) != shape.sealed:
        raise Damaged("header out of range")
    end = header_len(kind, epochs)
    if len(data) < end:
        raise Damaged("shorter than its header")
    raw = bytes(data[:end])
    ks = raw[PREFIX_LEN : PREFIX_LEN + 16 * epochs]
    if ks:
        try:
            key_set(ks)
        except Invalid as err:
            raise Damaged("header out of range") from err
    return Header(kind, vault, ks, length, raw[PREFIX_LEN + 16 * epochs :], raw)
