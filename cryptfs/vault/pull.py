"""Reads the logs in the store: lists, fetches, verifies, judges, and hands what is ready to the replica.

Nothing is believed because of its name or its place: a segment counts when its signature is that of the log's owner,
when it continues the chain, and when every rule of docs/format.md ("Log segments") holds. What waits for something that
is not here waits; what breaks a rule freezes its log there and is reported.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from cryptfs.crypto.keys import KeyLabel
from cryptfs.errors import CryptfsError, HostileStore, Invalid, NotAllowed, NotFound
from cryptfs.format.names import SegmentName, parse_name
from cryptfs.format.segment import RawSegment, SegmentBody, open_segment, parse_segment, verify_segment
from cryptfs.format.segment_body import LogHead
from cryptfs.group.membership import Membership
from cryptfs.group.validity import Claim, Missing, Placed, given_up, judge_segment
from cryptfs.tree.integrate import integrate
from cryptfs.tree.replica import Replica
from cryptfs.tree.segment import IntegratedSegment
from cryptfs.vault.cache import SegmentNames
from cryptfs.vault.upload import Sender

__all__ = ["LogReader", "ReadLog"]

log = logging.getLogger(__name__)

_BATCH: Final = 64
"""Segments integrated in one transaction."""


@dataclass(slots=True)
class ReadLog:
    """What has been read of one log: the last segment, its stamp and closure, operations so far."""

    next_seq: int = 0
    digest: bytes = bytes(32)
    next_n: int = 0
    placed: Placed | None = None
    seen: dict[bytes, int] = field(default_factory=dict)


class LogReader:
    """Reads the logs of one vault into its replica.

    `logs` says how far each log was read in this run; a replica that is ahead of it (from an earlier run) is given only
    what it lacks.
    """

    def __init__(
        self, membership: Membership, sender: Sender, replica: Replica, names: SegmentNames, own_ids: Mapping[int, int]
    ) -> None:
        self._membership = membership
        self._sender = sender
        self._replica = replica
        self._names = names
        self._own_ids = own_ids  # local number k -> number n, of what this device sealed
        self._placed: dict[LogHead, Placed] = {}
        self.logs: dict[bytes, ReadLog] = {}
        self.problems: dict[str, str] = {}
        """Objects that were refused, and why."""

    async def read_all(self) -> None:
        """Read every log as far as it goes, and integrate what the replica lacks. Raises StoreError."""
        waiting = self._by_log(await self._sender.list("l/"))
        progress = True
        while progress:
            progress = False
            for log_id in sorted(waiting):
                ready = await self._read_log(log_id, waiting[log_id])
                progress = progress or ready

    def _by_log(self, keys: list[str]) -> dict[bytes, dict[int, list[str]]]:
        found: dict[bytes, dict[int, list[str]]] = {}
        for key in keys:
            name = parse_name(key)
            if isinstance(name, SegmentName):
                found.setdefault(name.log_id, {}).setdefault(name.seq, []).append(key)
        return found

    async def _read_log(self, log_id: bytes, names: Mapping[int, list[str]]) -> bool:
        """Read on in one log; returns whether anything was read."""
        state = self.logs.setdefault(log_id, ReadLog())
        head = self._replica.heads().get(log_id)
        have = head.seq if head is not None else -1
        batch: list[IntegratedSegment] = []
        moved = False
        while state.next_seq in names:
            read = await self._read_segment(log_id, state, names[state.next_seq])
            if read is None:
                break
            raw, body = read
            moved = True
            if raw.seq > have:
                batch.append(self._integrated(raw, body))
            if len(batch) >= _BATCH:
                self._integrate(batch)
                batch = []
        if batch:
            self._integrate(batch)
        return moved

    async def _read_segment(
        self, log_id: bytes, state: ReadLog, names: list[str]
    ) -> tuple[RawSegment, SegmentBody] | None:
        """The next segment of a log from whichever object verifies; None if none does, or it has to wait."""
        for name in sorted(names):
            try:
                raw = parse_segment(await self._sender.get(name), self._membership.vault)
                body = self._open(raw, log_id, state)
                placed = self._judge(raw, body, state)
            except NotFound:
                continue
            except (HostileStore, NotAllowed) as err:
                self._refuse(name, err)
                continue
            if placed is None:
                return None
            self._names.learn(raw.digest, name)
            self._advance(raw, body, state, placed)
            return raw, body
        return None

    def _open(self, raw: RawSegment, log_id: bytes, state: ReadLog) -> SegmentBody:
        owner = self._membership.graph.log_owner(log_id)
        if raw.log_id != log_id or raw.seq != state.next_seq or owner is None:
            raise Invalid("a segment stands under a name that is not its own")
        verify_segment(raw, owner.sign_pub)
        body = open_segment(raw, self._membership.keyring.key(KeyLabel.LOG, raw.ks))
        if body.prev != state.digest or body.first_op != state.next_n:
            raise Invalid("a segment does not continue its log")
        return body

    def _judge(self, raw: RawSegment, body: SegmentBody, state: ReadLog) -> Placed | None:
        graph, resolved = self._membership.graph, self._membership.resolved
        claim = Claim(raw.log_id, raw.seq, raw.ks, body, state.placed, state.seen)
        verdict = judge_segment(claim, self._membership.resolver, self._placed.get, given_up(graph, resolved))
        return None if isinstance(verdict, Missing) else verdict

    def _advance(self, raw: RawSegment, body: SegmentBody, state: ReadLog, placed: Placed) -> None:
        state.next_seq, state.digest, state.placed = raw.seq + 1, raw.digest, placed
        state.next_n = body.first_op + len(body.ops)
        for head in body.vec:
            state.seen[head.log] = head.seq
        self._placed[LogHead(raw.log_id, raw.seq, raw.digest)] = placed

    def _integrated(self, raw: RawSegment, body: SegmentBody) -> IntegratedSegment:
        owner = self._membership.graph.log_owner(raw.log_id)
        label = self._membership.name_of(owner.entry) if owner is not None else ""
        own = self._membership.entry is not None and owner is not None and owner.entry in self._membership.own
        return IntegratedSegment(
            log=raw.log_id, seq=raw.seq, digest=raw.digest, stamp=body.stamp, wall_ms=body.wall_ms, label=label,
            role=int(owner.tier) if owner is not None else 0, first_op=body.first_op, ops=body.ops, packs=body.packs,
            body2=len(raw.body2), own=own, ids=self._own_ids if own else {},
        )  # fmt: skip

    def _integrate(self, batch: list[IntegratedSegment]) -> None:
        """Into the replica. While this device is the only one that writes, nothing can come before what is here."""
        alone = len(self.logs) <= 1
        integrate(self._replica, batch, stable=max(seg.stamp for seg in batch) if alone else 0)

    def _refuse(self, name: str, err: CryptfsError) -> None:
        if name not in self.problems:
            log.warning("a log object is ignored: %s", err)
        self.problems[name] = str(err)

    def take_own(self, data: bytes, name: str, state: ReadLog, *, integrate: bool) -> None:
        """Move `state` behind a segment of this device that the journal holds; `integrate` it if the replica lacks it.

        Raises HostileStore.
        """
        raw = parse_segment(data, self._membership.vault)
        body = self._open(raw, raw.log_id, state)
        if integrate:
            self._integrate([self._integrated(raw, body)])
        self._names.learn(raw.digest, name)
        state.next_seq, state.digest = raw.seq + 1, raw.digest
        state.next_n = body.first_op + len(body.ops)
