"""What is settled here: the stable stamp S, and the floor F below which nothing is revised any more.

S is kept with the replica, since it never falls; F is computed from what the logs have attested, and follows from the
same segments and statements everywhere (docs/replication.md, "Stability", "Floor").
"""

import struct
from collections.abc import Iterable
from typing import Final, Protocol

from cryptfs.format.segment_body import LogHead
from cryptfs.group.ends import LogEnd, log_ends
from cryptfs.group.floor import NO_FLOOR, Attestation, Floor, LogWord, floors, said_of, unsaid
from cryptfs.group.graph import View
from cryptfs.group.membership import Membership
from cryptfs.group.validity import begins_anywhere
from cryptfs.vault.logs import Logs, LogState
from cryptfs.vault.stability import sight_of, stable_stamp
from cryptfs.vault.standing import Standing

__all__ = ["Horizon", "words_of"]

_STABLE: Final = "stable"
_I64: Final = struct.Struct(">q")


class Kept(Protocol):
    """What remembers values: the replica."""

    def meta_get(self, key: str) -> bytes | None:
        """A value, or None."""

    def meta_set(self, key: str, value: bytes) -> None:
        """Keep a value."""


class Horizon:
    """Answers for one vault. What was read and waits for the replica counts as applied: `flush` the reader before."""

    def __init__(self, standing: Standing, kept: Kept) -> None:
        self._standing = standing
        self._kept = kept

    def stable(self) -> int:
        """S as of now: at or below this stamp no segment can appear any more; -1 while nothing is known to be so."""
        standing = self._standing
        value = self._kept.meta_get(_STABLE)
        before = -1 if value is None else int(_I64.unpack(value)[0])
        now = stable_stamp(before, sight_of(standing.membership, standing.logs, standing.log_id))
        if now > before:
            self._kept.meta_set(_STABLE, _I64.pack(now))
        return now

    def floors(self) -> list[Floor]:
        """States that everybody concerned has vouched for, newest first: F, the floor before it, and so on."""
        return floors(self._words())

    def floor(self) -> Floor:
        """F; NO_FLOOR while there is none."""
        return next(iter(self.floors()), NO_FLOOR)

    def said_of(self, stamp: int) -> dict[bytes, list[bytes]]:
        """What is attested for a stamp: the logs by the root that they say."""
        return said_of(self._words(), stamp)

    def unsaid(self, stamp: int) -> list[bytes]:
        """The logs that have to attest the state at a stamp before it can be the floor, and have not."""
        return unsaid(self._words(), stamp)

    def _words(self) -> list[LogWord]:
        return words_of(self._standing.membership, self._standing.logs)


def words_of(membership: Membership, logs: Logs) -> list[LogWord]:
    """What every log that a statement opens has attested, as far as its segments count here."""
    graph = membership.graph
    ends = log_ends(graph, membership.resolved, {one: logs.held(one) for one in logs.forked()})
    return [_word(membership, logs, log_id, ends[log_id]) for log_id in sorted(ends)]


def _word(membership: Membership, logs: Logs, log_id: bytes, end: LogEnd) -> LogWord:
    graph, state = membership.graph, logs.state(log_id)
    opener, owner = graph.log_opener(log_id), graph.log_owner(log_id)
    exempt = opener is not None and owner is not None and begins_anywhere(graph, opener, owner)
    return LogWord(
        log=log_id,
        begun=state.begun if state.taken else None,
        ended=end.count is not None,
        opener=opener.bit if opener is not None else 0,
        exempt=exempt,
        attested=dict(_attested(logs, log_id, state)),
    )


def _attested(logs: Logs, log_id: bytes, state: LogState) -> Iterable[tuple[int, Attestation]]:
    for stamp, (seq, root) in state.attested.items():
        if seq < state.taken:
            digest = logs.digest_at(log_id, seq)
            placed = logs.place(LogHead(log_id, seq, digest)) if digest is not None else None
            yield stamp, Attestation(root, placed.view if placed is not None else View(0))
