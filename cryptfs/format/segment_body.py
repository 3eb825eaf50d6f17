"""B, the plaintext of a log segment: what its author had seen, and what it did (docs/format.md, "Segments")."""

from typing import Final

import msgspec

from cryptfs.errors import Invalid, NeedsUpdate
from cryptfs.format.codec import Ext, Wire, decode_top, leading_uint, probe
from cryptfs.format.limits import SEGMENT_MAX
from cryptfs.format.operation import Op

__all__ = ["PACK_SHARED", "PACK_SOLO", "Attest", "LogHead", "PackRef", "SegmentBody", "decode_body"]

PACK_SHARED: Final = 1
"""Many small files in one pack."""
PACK_SOLO: Final = 2
"""One content only, so that deleting a large file frees whole objects."""


class LogHead(Wire, frozen=True):
    """A place in a log: `log` 16 bytes, `digest` D of segment `seq`."""

    log: bytes
    seq: int
    digest: bytes


class PackRef(Wire, frozen=True):
    """A pack: `id` 32 bytes, `size` of the object in bytes, `kind` PACK_*."""

    id: bytes
    size: int
    kind: int


class Attest(Wire, frozen=True):
    """This replica computed `root` for the state at stamp `stamp`."""

    stamp: int
    root: bytes


class SegmentBody(Wire, frozen=True):
    """What a segment says.

    `prev` D of the segment before (zeros at 0); `stamp` its Lamport stamp L; `mheads` the membership frontier; `vec`
    the heads of other logs that moved since; `wall_ms` the author's clock, only ever shown; `rules` number of the merge
    rules; `client` for people; `first_op` number of operations in the log before; `packs` those named for the first
    time.
    """

    fmt: int
    prev: bytes
    stamp: int
    mheads: tuple[bytes, ...]
    vec: tuple[LogHead, ...]
    wall_ms: int
    rules: int
    client: str
    first_op: int
    packs: tuple[PackRef, ...]
    attest: tuple[Attest, ...]
    ops: tuple[Op, ...]
    ext: tuple[Ext, ...]


_TAGS: Final = frozenset({*range(1, 13), *range(20, 25), 30})


class _Ops(msgspec.Struct, array_like=True):
    """Only the operations, undecoded, of anything shaped like B."""

    fmt: msgspec.Raw
    prev: msgspec.Raw
    stamp: msgspec.Raw
    mheads: msgspec.Raw
    vec: msgspec.Raw
    wall_ms: msgspec.Raw
    rules: msgspec.Raw
    client: msgspec.Raw
    first_op: msgspec.Raw
    packs: msgspec.Raw
    attest: msgspec.Raw
    ops: tuple[msgspec.Raw, ...]


def decode_body(data: bytes) -> SegmentBody:
    """Decode B; ranges are not checked yet.

    Raises Invalid, or NeedsUpdate when the reason is a later format or an operation that this version does not know:
    its log then waits for an update, it is not condemned.
    """
    try:
        return decode_top(SegmentBody, data, SEGMENT_MAX)
    except Invalid:
        if any(tag not in _TAGS for tag in _tags(data)):
            raise NeedsUpdate("a log segment has an operation that this version does not know") from None
        raise


def _tags(data: bytes) -> list[int]:
    """The leading integers of whatever stands where the operations should be; empty if nothing can be told."""
    try:
        ops = probe(_Ops, data).ops
    except Invalid:
        return []
    return [tag for tag in (leading_uint(memoryview(op)) for op in ops) if tag is not None]
