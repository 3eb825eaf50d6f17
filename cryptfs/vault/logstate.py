"""What is kept of logs and of their segments: how a log stood, where a segment stands, what it says besides."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from cryptfs.format.operation import Op, Rekey, Retire
from cryptfs.format.segment_body import Attest, LogHead

__all__ = ["ZERO", "KeptPlace", "LogState", "Told", "decode_state", "encode_state"]

ZERO: Final = bytes(32)
"""Digest before the first segment of a log."""


@dataclass(slots=True)
class LogState:
    """One log as read: `next_seq`, digest and stamp of the last segment, operations so far, what it cited and saw.

    `seen`: highest segment of each other log that its segments have named. `telling`: its last segment with operations
    or attestations; `asking`: its last one that retires something, and so waits for everybody's word. `wall_ms`: when
    its author says that the last segment was made. `taken`: how many segments are in the tree. `begun`: stamp of the
    first segment, -1 before. `attested`: what its segments say of states, by stamp S: number of the first that says
    anything about it, and the root.
    """

    next_seq: int = 0
    digest: bytes = ZERO
    next_n: int = 0
    stamp: int = 0
    mheads: tuple[bytes, ...] = ()
    seen: dict[bytes, int] = field(default_factory=dict)
    telling: int = -1
    asking: int = -1
    wall_ms: int = 0
    taken: int = 0
    begun: int = -1
    attested: dict[int, tuple[int, bytes]] = field(default_factory=dict)

    def head(self, log_id: bytes) -> LogHead | None:
        """The last segment; None before the first."""
        return LogHead(log_id, self.next_seq - 1, self.digest) if self.next_seq else None


class _Kept(msgspec.Struct, array_like=True, frozen=True):
    next_seq: int
    digest: bytes
    next_n: int
    stamp: int
    mheads: tuple[bytes, ...]
    seen: tuple[tuple[bytes, int], ...]
    taken: int
    telling: int
    asking: int
    wall_ms: int
    begun: int = -1
    attested: tuple[tuple[int, int, bytes], ...] = ()


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(_Kept).decode


def encode_state(one: LogState) -> bytes:
    """As it is kept here, not as on the wire."""
    return _encode(
        _Kept(
            one.next_seq, one.digest, one.next_n, one.stamp, one.mheads, tuple(one.seen.items()), one.taken,
            one.telling, one.asking, one.wall_ms, one.begun,
            tuple((stamp, seq, root) for stamp, (seq, root) in one.attested.items()),
        )
    )  # fmt: skip


def decode_state(data: bytes) -> LogState:
    """The log that `encode_state` encoded."""
    one = _decode(data)
    return LogState(
        one.next_seq, one.digest, one.next_n, one.stamp, one.mheads, dict(one.seen), one.telling, one.asking,
        one.wall_ms, one.taken, one.begun, {stamp: (seq, root) for stamp, seq, root in one.attested},
    )  # fmt: skip


class Told(msgspec.Struct, array_like=True, frozen=True):
    """What a segment says besides its place: number after its last operation, whether it `tells` anything, or `asks`.

    See `LogState`. `attest`: stamps and roots of states.
    """

    next_n: int
    wall_ms: int
    tells: bool
    asks: bool
    attest: tuple[Attest, ...] = ()

    @classmethod
    def by(cls, first_op: int, ops: Sequence[Op], wall_ms: int, attest: tuple[Attest, ...] = ()) -> "Told":
        """What a segment with these operations says."""
        asks = any(isinstance(op, Retire | Rekey) for op in ops)  # what was there before waits for an answer
        return cls(first_op + len(ops), wall_ms, bool(ops or attest), asks, attest)


class KeptPlace(msgspec.Struct, array_like=True, frozen=True):
    """A segment: D, L, what it cites, D of the one before (empty: not known), whom it names, and what it says."""

    digest: bytes
    stamp: int
    mheads: tuple[bytes, ...]
    prev: bytes
    vec: tuple[tuple[bytes, int], ...]
    told: Told
