"""How far every log has been read, and where each segment stands: kept with the replica, in the same transactions.

A start reads only what is new, and a rule that names an old segment (docs/format.md, "Segments", S3 to S6) finds
its stamp and what it had seen without fetching it again.

A log is a chain. Where two segments were signed for one place it forks: the chain that was read first goes on as the
log, segments off it are its *branches*. What was read is one thing, what counts another (`group/ends.py`): the tree
holds the first `taken` segments of the chain, and the rest is late work.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import msgspec

from cryptfs.format.operation import Op, Rekey, Retire
from cryptfs.format.segment_body import Attest, LogHead
from cryptfs.group.ends import HeldSegment
from cryptfs.group.graph import StatementGraph, View
from cryptfs.group.validity import Placed, next_stamp

__all__ = ["LogState", "Logs", "Shelf", "Told"]

_ZERO: Final = bytes(32)


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
    digest: bytes = _ZERO
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


class _KeptPlace(msgspec.Struct, array_like=True, frozen=True):
    digest: bytes
    stamp: int
    mheads: tuple[bytes, ...]
    prev: bytes
    vec: tuple[tuple[bytes, int], ...]
    told: Told


_encode: Final = msgspec.msgpack.Encoder().encode
_decode_log: Final = msgspec.msgpack.Decoder(_Kept).decode
_decode_place: Final = msgspec.msgpack.Decoder(_KeptPlace).decode
_decode_index: Final = msgspec.msgpack.Decoder(tuple[bytes, ...]).decode
_INDEX: Final = "logs"
_decode_branches: Final = msgspec.msgpack.Decoder(tuple[tuple[int, bytes], ...]).decode


class Shelf(Protocol):
    """Where it is kept: the replica, or a stand-in while one is rebuilt."""

    def meta_get(self, key: str) -> bytes | None:
        """A value, or None."""

    def meta_set(self, key: str, value: bytes) -> None:
        """Keep a value."""


class Logs:
    """The logs of one vault. `graph` is replaced when statements arrive; closures are computed anew then."""

    def __init__(self, shelf: Shelf, graph: StatementGraph) -> None:
        self._shelf = shelf
        self._graph = graph
        self._states: dict[bytes, LogState] = {}
        self._places: dict[LogHead, Placed | None] = {}
        self._unsaved: dict[str, tuple[LogHead, _KeptPlace]] = {}
        self._branches: dict[bytes, dict[bytes, int]] = {}
        """Segments off the chain, by log: digest to number."""
        self._saved: set[bytes] = set()
        self.reload()

    def reload(self) -> None:
        """Take everything from the shelf, as it is now."""
        shelf = self._shelf
        for kept_here in (self._states, self._places, self._unsaved, self._branches):
            kept_here.clear()
        index = shelf.meta_get(_INDEX)
        self._saved = set(_decode_index(index) if index is not None else ())
        for log_id in self._saved:
            kept = shelf.meta_get(f"log/{log_id.hex()}")
            if kept is not None:
                one = _decode_log(kept)
                self._states[log_id] = LogState(
                    one.next_seq, one.digest, one.next_n, one.stamp, one.mheads, dict(one.seen), one.telling,
                    one.asking, one.wall_ms, one.taken, one.begun,
                    {stamp: (seq, root) for stamp, seq, root in one.attested},
                )  # fmt: skip
                if one.begun < 0 and (first := self._on_chain(log_id, 0)) is not None:
                    self._states[log_id].begun = first.stamp  # written before that was kept
            branches = shelf.meta_get(f"branches/{log_id.hex()}")
            if branches is not None:
                self._branches[log_id] = {digest: seq for seq, digest in _decode_branches(branches)}

    def use_graph(self, graph: StatementGraph) -> None:
        """New statements are here."""
        self._graph = graph
        unsaved = {head for head, _ in self._unsaved.values()}
        self._places = {head: place for head, place in self._places.items() if head in unsaved}

    # ---- asking ---------------------------------------------------------------------------------------------------

    def ids(self) -> list[bytes]:
        """Ids of the logs something was read of, sorted."""
        return sorted(log_id for log_id, state in self._states.items() if state.next_seq)

    def state(self, log_id: bytes) -> LogState:
        """How far a log was read."""
        return self._states.setdefault(log_id, LogState())

    def place(self, head: LogHead) -> Placed | None:
        """Stamp and closure of a segment that was judged before, also off the chain; None if it is not known."""
        if head not in self._places:
            found = self._kept(head.log, head.seq, head.digest)
            self._places[head] = Placed(found.stamp, self._graph.view(found.mheads)) if found else None
        return self._places[head]

    def _kept(self, log_id: bytes, seq: int, digest: bytes) -> _KeptPlace | None:
        found = self._on_chain(log_id, seq)
        if found is not None and found.digest == digest:
            return found
        if self._branches.get(log_id, {}).get(digest) != seq:
            return None
        return self._read(_branch_key(log_id, digest))

    def _on_chain(self, log_id: bytes, seq: int) -> _KeptPlace | None:
        return self._read(_chain_key(log_id, seq))

    def _read(self, key: str) -> _KeptPlace | None:
        if key in self._unsaved:
            return self._unsaved[key][1]
        kept = self._shelf.meta_get(key)
        return _decode_place(kept) if kept is not None else None

    def digest_at(self, log_id: bytes, seq: int) -> bytes | None:
        """D of a segment of the chain, 32 bytes; None if it is not known."""
        state = self.state(log_id)
        if seq == state.next_seq - 1:
            return state.digest
        found = self._on_chain(log_id, seq) if seq < state.next_seq else None
        return found.digest if found is not None else None

    def knows(self, log_id: bytes, seq: int, h16: bytes) -> bool:
        """Whether the segment whose digest begins with these 8 bytes was read."""
        known = self.digest_at(log_id, seq)
        if known is not None and known[:8] == h16:
            return True
        return any(at == seq and digest[:8] == h16 for digest, at in self._branches.get(log_id, {}).items())

    def state_after(self, log_id: bytes, seq: int, digest: bytes) -> LogState | None:
        """How the log stood after segment `seq` with that digest; None if it is not known. -1: before the first."""
        if seq < 0:
            return LogState() if digest == _ZERO else None
        state = self.state(log_id)
        if (seq, digest) == (state.next_seq - 1, state.digest):
            return state
        last = self._kept(log_id, seq, digest)
        if last is None:
            return None
        found = LogState(seq + 1, digest, last.told.next_n, last.stamp, last.mheads, wall_ms=last.told.wall_ms)
        for at, one in zip(range(seq, -1, -1), self._back(log_id, seq, digest), strict=False):
            for other, number in one.vec:
                found.seen.setdefault(other, number)
            found.telling = max(found.telling, at if one.told.tells else -1)
            found.asking = max(found.asking, at if one.told.asks else -1)
            found.attested.update((said.stamp, (at, said.root)) for said in one.told.attest)  # the first is met last
            found.begun = one.stamp
        return found

    def _back(self, log_id: bytes, seq: int, digest: bytes) -> Iterator[_KeptPlace]:
        while seq >= 0 and (one := self._kept(log_id, seq, digest)) is not None:
            yield one
            seq, digest = seq - 1, one.prev

    def held(self, log_id: bytes) -> list[HeldSegment]:
        """Every segment of a log that was read, branches and all."""
        found = []
        for seq in range(self.state(log_id).next_seq):
            one = self._on_chain(log_id, seq)
            if one is not None:
                found.append(HeldSegment(seq, one.digest, one.prev))
        for digest, seq in self._branches.get(log_id, {}).items():
            one = self._read(_branch_key(log_id, digest))
            if one is not None:
                found.append(HeldSegment(seq, digest, one.prev))
        return found

    def forked(self) -> set[bytes]:
        """Logs with two segments for one place."""
        return {log_id for log_id, branches in self._branches.items() if branches}

    def moment(self, log_id: bytes, seq: int) -> tuple[int, int] | None:
        """(stamp, author's clock in ms) of a segment that was read or made; None if it is not known."""
        place = self._on_chain(log_id, seq)
        return None if place is None else (place.stamp, place.told.wall_ms)

    def named_by(self, log_id: bytes, seq: int) -> dict[bytes, int]:
        """What a segment of the chain names in its vector: numbers by log; empty if it is not known."""
        place = self._on_chain(log_id, seq)
        return {} if place is None else dict(place.vec)

    def operations_at(self, log_id: bytes, seq: int) -> int:
        """Operations of a log up to and including a segment that was read or made; 0 if that is not known."""
        place = self._on_chain(log_id, seq)
        return place.told.next_n if place is not None else 0

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

    # ---- going on -------------------------------------------------------------------------------------------------

    def advance(
        self, head: LogHead, stamp: int, mheads: tuple[bytes, ...], vec: tuple[LogHead, ...], told: Told, *, prev: bytes
    ) -> bool:
        """A segment was read or made; returns whether it continues the chain, else it is on a branch.

        `prev`: digest of the one before. `save` remembers it, in the transaction that brings it into the replica.
        """
        state = self.state(head.log)
        named = tuple((other.log, other.seq) for other in vec)
        kept = _KeptPlace(head.digest, stamp, mheads, prev, named, told)
        self._places[head] = Placed(stamp, self._graph.view(mheads))
        if (head.seq, prev) != (state.next_seq, state.digest):
            self._branches.setdefault(head.log, {})[head.digest] = head.seq
            self._unsaved[_branch_key(head.log, head.digest)] = head, kept
            return False
        state.next_seq, state.digest = head.seq + 1, head.digest
        state.stamp, state.mheads, state.next_n = stamp, mheads, told.next_n
        state.wall_ms = told.wall_ms
        state.telling = head.seq if told.tells else state.telling
        state.asking = head.seq if told.asks else state.asking
        state.begun = state.begun if head.seq else stamp
        for said in told.attest:
            state.attested.setdefault(said.stamp, (head.seq, said.root))
        state.seen.update(named)
        self._unsaved[_chain_key(head.log, head.seq)] = head, kept
        return True

    def cut_back(self, log_id: bytes, count: int) -> None:
        """Forget the segments of the chain from number `count` on: the store never got them."""
        if self.state(log_id).next_seq <= count:
            return
        last = self.digest_at(log_id, count - 1) if count else _ZERO
        kept = self.state_after(log_id, count - 1, last) if last is not None else None
        self._states[log_id] = kept or LogState()
        self._states[log_id].taken = self._states[log_id].next_seq
        self.save_state(log_id)

    def save(self) -> None:
        """Write what `advance` was told, and how much of each log is taken, to the shelf."""
        for key, (_, place) in self._unsaved.items():
            self._shelf.meta_set(key, _encode(place))
        for log_id in sorted({head.log for head, _ in self._unsaved.values()}):
            self.save_state(log_id)
            if log_id in self._branches:
                branches = sorted((seq, digest) for digest, seq in self._branches[log_id].items())
                self._shelf.meta_set(f"branches/{log_id.hex()}", _encode(branches))
        self._unsaved.clear()

    def save_state(self, log_id: bytes) -> None:
        """Write how one log stands."""
        one = self.state(log_id)
        kept = _Kept(
            one.next_seq, one.digest, one.next_n, one.stamp, one.mheads, tuple(one.seen.items()), one.taken,
            one.telling, one.asking, one.wall_ms, one.begun,
            tuple((stamp, seq, root) for stamp, (seq, root) in one.attested.items()),
        )  # fmt: skip
        self._shelf.meta_set(f"log/{log_id.hex()}", _encode(kept))
        if log_id not in self._saved:
            self._saved.add(log_id)
            self._shelf.meta_set(_INDEX, _encode(sorted(self._saved)))

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


def _chain_key(log_id: bytes, seq: int) -> str:
    return f"placed/{log_id.hex()}/{seq}"


def _branch_key(log_id: bytes, digest: bytes) -> str:
    return f"branch/{log_id.hex()}/{digest.hex()}"
