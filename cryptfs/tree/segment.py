"""A verified segment as the tree takes it in."""

from collections.abc import Mapping

import msgspec

from cryptfs.format.operation import Op
from cryptfs.format.segment_body import PackRef

__all__ = ["IntegratedSegment", "Position"]

Position = tuple[int, bytes]
"""Place of a segment in the order of all: stamp, then log. Operations follow by their index."""


class IntegratedSegment(msgspec.Struct, array_like=True, frozen=True):
    """What the rules need of a segment whose validity (S1 to S8) is established.

    `log` 16 bytes; `seq` from 0; `digest` D, 32 bytes; `stamp` L; `wall_ms` the author's clock; `label` of the author's
    device, `role` as in `format/operation_rules.py`; `first_op` number of the first of `ops` in the log; `packs` first
    named here; `body2` its length in bytes. `own`: written by this device, then `ids` maps local numbers k to numbers
    in the log, as far as known. `checked`: its operations have passed `check_op`, as all have that were opened.
    `inherits`: logs whose containers its author may take over, whatever its role; only where an operation asks for it.
    """

    log: bytes
    seq: int
    digest: bytes
    stamp: int
    wall_ms: int
    label: str
    role: int
    first_op: int
    ops: tuple[Op, ...]
    packs: tuple[PackRef, ...] = ()
    body2: int = 0
    own: bool = False
    ids: Mapping[int, int] = {}
    checked: bool = False
    inherits: tuple[bytes, ...] = ()

    @property
    def position(self) -> Position:
        """Place in the order."""
        return self.stamp, self.log
