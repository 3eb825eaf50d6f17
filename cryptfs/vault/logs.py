"""How far every log has been read, and where each segment stands: kept with the replica, in the same transactions.

A start reads only what is new, and a rule that names an old segment (docs/format.md, "Segments", S3 to S6) finds
its stamp and what it had seen without fetching it again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from cryptfs.format.operation import Op, Retire
from cryptfs.format.segment_body import LogHead
from cryptfs.group.graph import StatementGraph, View
from cryptfs.group.validity import Placed, next_stamp
from cryptfs.tree.replica import Replica

__all__ = ["LogState", "Logs", "Told"]

_ZERO: Final = bytes(32)


@dataclass(slots=True)
class LogState:
    """One log as read: `next_seq`, digest and stamp of the last segment, operations so far, what it cited and saw.

    `seen`: highest segment of each other log that its segments have named. `telling`: its last segment with operations
    or attestations; `asking`: its last one that retires something, and so waits for everybody's word. `wall_ms`: when
    its author says that the last segment was made.
    """

    next_seq: int = 0
    digest: bytes = _ZERO
    next_n: int = 0
    stamp: int = 0
    mheads: tuple[bytes, ...] = ()
    seen: dict[bytes, int] = field(default_factory=dict)
    telling: int = -1
    asking: int = -1
    wall_ms: int = 0

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
    telling: int = -1
    asking: int = -1
    wall_ms: int = 0


class _KeptPlace(msgspec.Struct, array_like=True, frozen=True):
    digest: bytes
    stamp: int
    mheads: tuple[bytes, ...]
    wall_ms: int = 0
    next_n: int = 0


@dataclass(frozen=True, slots=True)
class Told:
    """What a segment says besides its place: number after its last operation, whether it `tells` anything, or `asks`.

    See `LogState`.
    """

    next_n: int
    wall_ms: int
    tells: bool
    asks: bool

    @classmethod
    def by(cls, first_op: int, ops: Sequence[Op], wall_ms: int, *, attests: bool = False) -> "Told":
        """What a segment with these operations says."""
        asks = any(isinstance(op, Retire) for op in ops)
        return cls(first_op + len(ops), wall_ms, bool(ops) or attests, asks)


_encode: Final = msgspec.msgpack.Encoder().encode
_decode_log: Final = msgspec.msgpack.Decoder(_Kept).decode
_decode_place: Final = msgspec.msgpack.Decoder(_KeptPlace).decode


class Logs:
    """The logs of one vault. `graph` is replaced when statements arrive; closures are computed anew then."""

    def __init__(self, replica: Replica, graph: StatementGraph) -> None:
        self._replica = replica
        self._graph = graph
        self._states: dict[bytes, LogState] = {}
        self._places: dict[LogHead, Placed | None] = {}
        self._unsaved: list[tuple[LogHead, _KeptPlace]] = []
        for log_id in replica.heads():
            kept = replica.meta_get(f"log/{log_id.hex()}")
            if kept is not None:
                one = _decode_log(kept)
                self._states[log_id] = LogState(
                    one.next_seq, one.digest, one.next_n, one.stamp, one.mheads, dict(one.seen),
                    one.telling, one.asking, one.wall_ms,
                )  # fmt: skip

    def use_graph(self, graph: StatementGraph) -> None:
        """New statements are here."""
        self._graph = graph
        unsaved = {head for head, _ in self._unsaved}
        self._places = {head: place for head, place in self._places.items() if head in unsaved}

    def ids(self) -> list[bytes]:
        """Ids of the logs something was read of, sorted."""
        return sorted(log_id for log_id, state in self._states.items() if state.next_seq)

    def state(self, log_id: bytes) -> LogState:
        """How far a log was read."""
        return self._states.setdefault(log_id, LogState())

    def place(self, head: LogHead) -> Placed | None:
        """Stamp and closure of a segment that was judged before; None if it is not known."""
        if head not in self._places:
            kept = self._replica.meta_get(f"placed/{head.log.hex()}/{head.seq}")
            found = _decode_place(kept) if kept is not None else None
            known = found is not None and found.digest == head.digest
            self._places[head] = Placed(found.stamp, self._graph.view(found.mheads)) if known and found else None
        return self._places[head]

    def digest_at(self, log_id: bytes, seq: int) -> bytes | None:
        """D of a segment that was read or made, 32 bytes; None if it is not known."""
        state = self.state(log_id)
        if seq == state.next_seq - 1:
            return state.digest
        kept = self._replica.meta_get(f"placed/{log_id.hex()}/{seq}") if seq < state.next_seq else None
        return _decode_place(kept).digest if kept is not None else None

    def moment(self, log_id: bytes, seq: int) -> tuple[int, int] | None:
        """(stamp, author's clock in ms) of a segment that was read or made; None if it is not known."""
        kept = self._replica.meta_get(f"placed/{log_id.hex()}/{seq}")
        if kept is None:
            return None
        place = _decode_place(kept)
        return place.stamp, place.wall_ms

    def operations_at(self, log_id: bytes, seq: int) -> int:
        """Operations of a log up to and including a segment that was read or made; 0 if that is not known."""
        kept = self._replica.meta_get(f"placed/{log_id.hex()}/{seq}")
        return _decode_place(kept).next_n if kept is not None else 0

    def last_placed(self, log_id: bytes) -> Placed | None:
        """Where the last segment of a log stands; None before the first."""
        head = self.state(log_id).head(log_id)
        return self.place(head) if head is not None else None

    def carried(self) -> View:
        """The closure of what all segments here cite: what a new segment must cite at least."""
        view = View(0)
        for log_id in self.ids():
            placed = self.last_placed(log_id)
            if placed is not None:
                view = View(view | placed.view)
        return view

    def advance(
        self, head: LogHead, stamp: int, mheads: tuple[bytes, ...], vec: tuple[LogHead, ...], told: Told
    ) -> None:
        """A segment was read or made. `save` remembers it, in the transaction that brings it into the replica."""
        state = self.state(head.log)
        state.next_seq, state.digest = head.seq + 1, head.digest
        state.stamp, state.mheads, state.next_n = stamp, mheads, told.next_n
        state.wall_ms = told.wall_ms
        state.telling = head.seq if told.tells else state.telling
        state.asking = head.seq if told.asks else state.asking
        state.seen.update((other.log, other.seq) for other in vec)
        self._places[head] = Placed(stamp, self._graph.view(mheads))
        self._unsaved.append((head, _KeptPlace(head.digest, stamp, mheads, told.wall_ms, told.next_n)))

    def save(self) -> None:
        """Write what `advance` was told to the replica."""
        for head, place in self._unsaved:
            self._replica.meta_set(f"placed/{head.log.hex()}/{head.seq}", _encode(place))
        for log_id in sorted({head.log for head, _ in self._unsaved}):
            one = self.state(log_id)
            kept = _Kept(
                one.next_seq, one.digest, one.next_n, one.stamp, one.mheads, tuple(one.seen.items()),
                one.telling, one.asking, one.wall_ms,
            )  # fmt: skip
            self._replica.meta_set(f"log/{log_id.hex()}", _encode(kept))
        self._unsaved.clear()

    def news_for(self, log_id: bytes) -> tuple[LogHead, ...]:
        """Heads of the other logs that moved since the last segment of `log_id`: its next vector, sorted."""
        seen = self.state(log_id).seen
        heads = []
        for other in self.ids():
            head = self.state(other).head(other)
            if other != log_id and head is not None and head.seq > seen.get(other, -1):
                heads.append(head)
        return tuple(heads)

    def stamp_after(self, log_id: bytes, vec: tuple[LogHead, ...]) -> int:
        """L of the next segment of `log_id` with this vector (S3)."""
        places = [place for head in vec if (place := self.place(head)) is not None]
        return next_stamp(self.last_placed(log_id), places)
