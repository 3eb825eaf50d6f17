"""How far every log has been read, and where each segment stands: kept with the replica, in the same transactions.

A start reads only what is new, and a rule that names an old segment (docs/format.md, "Segments", S3 to S6) finds
its stamp and what it had seen without fetching it again.

A log is a chain. Where two segments were signed for one place it forks: the chain that was read first goes on as the
log, segments off it are its *branches*. What was read is one thing, what counts another (`group/ends.py`): the tree
holds the first `taken` segments of the chain, and the rest is late work.

Who starts from a checkpoint has not read the segments up to it. Each log has a *base* then: its last segment within the
checkpoint, and how the log stood there. Below it only those places are known that the checkpoint tells of.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final, Protocol

import msgspec

from cryptfs.format.segment_body import LogHead
from cryptfs.group.ends import HeldSegment
from cryptfs.group.graph import StatementGraph, View
from cryptfs.group.validity import Placed, next_stamp
from cryptfs.vault.logstate import ZERO, KeptPlace, LogState, Told, decode_state, encode_state

__all__ = ["BASES", "LogState", "Logs", "Shelf", "Told"]

_encode: Final = msgspec.msgpack.Encoder().encode
_decode_place: Final = msgspec.msgpack.Decoder(KeptPlace).decode
_decode_index: Final = msgspec.msgpack.Decoder(tuple[bytes, ...]).decode
_INDEX: Final = "logs"
BASES: Final = "bases"
"""Key of the bases of all logs, empty if there are none."""
_decode_bases: Final = msgspec.msgpack.Decoder(tuple[tuple[bytes, bytes], ...]).decode
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
        self._unsaved: dict[str, tuple[LogHead, KeptPlace]] = {}
        self._branches: dict[bytes, dict[bytes, int]] = {}
        """Segments off the chain, by log: digest to number."""
        self._bases: dict[bytes, LogState] = {}
        self._saved: set[bytes] = set()
        self.reload()

    def reload(self) -> None:
        """Take everything from the shelf, as it is now."""
        shelf = self._shelf
        for kept_here in (self._states, self._places, self._unsaved, self._branches):
            kept_here.clear()
        bases = shelf.meta_get(BASES)
        self._bases = {log_id: decode_state(one) for log_id, one in (_decode_bases(bases) if bases else ())}
        index = shelf.meta_get(_INDEX)
        self._saved = set(_decode_index(index) if index is not None else ())
        for log_id in self._saved:
            kept = shelf.meta_get(f"log/{log_id.hex()}")
            if kept is not None:
                one = self._states[log_id] = decode_state(kept)
                if one.begun < 0 and (first := self._on_chain(log_id, 0)) is not None:
                    one.begun = first.stamp  # written before that was kept
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

    def _kept(self, log_id: bytes, seq: int, digest: bytes) -> KeptPlace | None:
        found = self._on_chain(log_id, seq)
        if found is not None and found.digest == digest:
            return found
        if self._branches.get(log_id, {}).get(digest) != seq:
            return None
        return self._read(_branch_key(log_id, digest))

    def _on_chain(self, log_id: bytes, seq: int) -> KeptPlace | None:
        return self._read(_chain_key(log_id, seq))

    def kept(self, log_id: bytes, seq: int) -> KeptPlace | None:
        """What is known of a segment of the chain; None if nothing is."""
        return self._on_chain(log_id, seq) if seq < self.state(log_id).next_seq else None

    def _read(self, key: str) -> KeptPlace | None:
        if key in self._unsaved:
            return self._unsaved[key][1]
        kept = self._shelf.meta_get(key)
        return _decode_place(kept) if kept is not None else None

    def base(self, log_id: bytes) -> int:
        """Number of the first segment that is known as more than a place: 0, or that of the log's base."""
        base = self._bases.get(log_id)
        return base.next_seq - 1 if base is not None else 0

    def digest_at(self, log_id: bytes, seq: int) -> bytes | None:
        """D of a segment of the chain, 32 bytes; None if it is not known."""
        state = self.state(log_id)
        if seq == state.next_seq - 1:
            return state.digest
        found = self._on_chain(log_id, seq) if seq < state.next_seq else None
        return found.digest if found is not None else None

    def knows(self, log_id: bytes, seq: int, h16: bytes) -> bool:
        """Whether the segment whose digest begins with these 8 bytes was read, or need not be."""
        if seq < self.base(log_id):
            return True
        known = self.digest_at(log_id, seq)
        if known is not None and known[:8] == h16:
            return True
        return any(at == seq and digest[:8] == h16 for digest, at in self._branches.get(log_id, {}).items())

    def state_after(self, log_id: bytes, seq: int, digest: bytes) -> LogState | None:
        """How the log stood after segment `seq` with that digest; None if it is not known. -1: before the first."""
        if seq < 0:
            return LogState() if digest == ZERO else None
        state = self.state(log_id)
        if (seq, digest) == (state.next_seq - 1, state.digest):
            return state
        last = self._kept(log_id, seq, digest)
        if last is None or seq < self.base(log_id):
            return None
        found = LogState(seq + 1, digest, last.told.next_n, last.stamp, last.mheads, wall_ms=last.told.wall_ms)
        for at, one in zip(range(seq, -1, -1), self._back(log_id, seq, digest), strict=False):
            for other, number in one.vec:
                found.seen.setdefault(other, number)
            found.telling = max(found.telling, at if one.told.tells else -1)
            found.asking = max(found.asking, at if one.told.asks else -1)
            found.attested.update((said.stamp, (at, said.root)) for said in one.told.attest)  # the first is met last
            found.begun = one.stamp
        base = self._bases.get(log_id)
        if base is not None:  # nothing but the base itself was read of what is below
            found.seen = base.seen | found.seen
            found.telling, found.asking = max(found.telling, base.telling), max(found.asking, base.asking)
            found.attested, found.begun = found.attested | base.attested, base.begun
        return found

    def _back(self, log_id: bytes, seq: int, digest: bytes) -> Iterator[KeptPlace]:
        while seq >= 0 and (one := self._kept(log_id, seq, digest)) is not None:
            yield one
            seq, digest = seq - 1, one.prev

    def held(self, log_id: bytes) -> list[HeldSegment]:
        """Every segment of a log that was read, branches and all; of one with a base from there on."""
        found = []
        for seq in range(self.base(log_id), self.state(log_id).next_seq):
            one = self._on_chain(log_id, seq)
            if one is not None:
                found.append(HeldSegment(seq, one.digest, one.prev, one.stamp))
        for digest, seq in self._branches.get(log_id, {}).items():
            one = self._read(_branch_key(log_id, digest))
            if one is not None:
                found.append(HeldSegment(seq, digest, one.prev, one.stamp))
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
        kept = KeptPlace(head.digest, stamp, mheads, prev, named, told)
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

    def begin_at(self, past: Iterable[tuple[LogHead, LogState, Iterable[tuple[int, KeptPlace]]]]) -> None:
        """Nothing was read yet: take these logs to have been read up to their heads, without having been.

        With every head comes how its log stood there, and what is known of earlier segments, by number.
        """
        for head, state, places in past:
            told = Told(state.next_n, state.wall_ms, False, False)
            own = KeptPlace(head.digest, state.stamp, state.mheads, b"", (), told)
            for seq, place in (*places, (head.seq, own)):
                self._shelf.meta_set(_chain_key(head.log, seq), _encode(place))
            self._bases[head.log], self._states[head.log] = state, replace(state, taken=state.next_seq)
            self.save_state(head.log)
        self._shelf.meta_set(BASES, _encode([(log, encode_state(one)) for log, one in sorted(self._bases.items())]))
        self.reload()

    def cut_back(self, log_id: bytes, count: int) -> None:
        """Forget the segments of the chain from number `count` on: the store never got them."""
        if self.state(log_id).next_seq <= count:
            return
        last = self.digest_at(log_id, count - 1) if count else ZERO
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
        self._shelf.meta_set(f"log/{log_id.hex()}", encode_state(self.state(log_id)))
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
