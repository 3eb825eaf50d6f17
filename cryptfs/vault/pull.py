"""Reads the logs in the store: lists, fetches, verifies, judges, and hands what is ready to the replica.

Nothing is believed because of its name or its place: a segment counts when its signature is that of the log's owner,
when it continues the chain, and when every rule of docs/format.md ("Segments") holds. What waits for something that
is not here waits; what breaks a rule freezes its log there and is reported.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from cryptfs.crypto.keys import KeyLabel, chance
from cryptfs.errors import CryptfsError, HostileStore, Invalid, NeedsUpdate, NotAllowed, NotFound
from cryptfs.format.limits import SEGMENT_MAX
from cryptfs.format.names import SegmentName, parse_name
from cryptfs.format.segment import RawSegment, SegmentBody, open_segment, parse_segment, verify_segment
from cryptfs.format.segment_body import LogHead
from cryptfs.group.ends import LogEnd, log_ends
from cryptfs.group.membership import Membership
from cryptfs.group.validity import Claim, Missing, counts, given_up, judge_segment
from cryptfs.tree.segment import IntegratedSegment
from cryptfs.vault.cache import SegmentNames
from cryptfs.vault.logs import Logs, Told
from cryptfs.vault.upload import Sender

__all__ = ["LogReader", "Take"]

log = logging.getLogger(__name__)

_BATCH: Final = 256
"""Segments handed over at once."""
_READ_AGAIN: Final = 8
"""Refused objects under one number of a log that a pull reads once more."""

Take = Callable[[list[IntegratedSegment]], None]
"""Puts segments into the replica; called between two awaits, so no local operation slips in between."""


@dataclass(frozen=True, slots=True)
class _Rules:
    """What the present membership says about logs, computed once."""

    membership: Membership
    lost: Callable[[LogHead], bool]
    ends: Mapping[bytes, LogEnd]


class LogReader:
    """Reads the logs of one vault. `use` says under which membership; `take` receives what is ready."""

    def __init__(self, membership: Membership, sender: Sender, logs: Logs, names: SegmentNames, take: Take) -> None:
        self._sender = sender
        self._logs = logs
        self._names = names
        self._take = take
        self._ready: list[IntegratedSegment] = []
        self.own_ids: Mapping[int, int] = {}
        """Local number k to number n of what this device sealed, for a replica that is rebuilt."""
        self.listed: list[str] = []
        """Names in `l/` as listed last."""
        self.problems: dict[str, str] = {}
        """Objects that were refused, and why."""
        self.late: dict[bytes, int] = {}
        """Segments beyond the end of each log: kept, without effect."""
        self._rules: _Rules
        self.use(membership)

    def use(self, membership: Membership) -> None:
        """Judge under this membership from now on."""
        graph, resolved = membership.graph, membership.resolved
        self._rules = _Rules(membership, given_up(graph, resolved), log_ends(graph, resolved, {}))
        self._logs.use_graph(graph)

    def ended(self) -> list[tuple[bytes, int]]:
        """(log, seq) of segments in the replica that no longer count, because their log ends before them now."""
        gone: list[tuple[bytes, int]] = []
        for log_id in self._logs.ids():
            end = self._rules.ends.get(log_id)
            if end is not None and end.count is not None:
                gone.extend((log_id, seq) for seq in range(end.count, self._logs.state(log_id).next_seq))
        return gone

    async def read_all(self) -> bool:
        """Read every log as far as it goes; returns whether anything was new. Raises StoreError."""
        self.listed = await self._sender.list("l/")
        waiting = self._by_log(self.listed)
        anything, progress = False, True
        try:
            while progress:
                progress = False
                for log_id in sorted(waiting):
                    progress = await self._read_log(log_id, waiting[log_id]) or progress
                anything = anything or progress
        finally:
            self.flush()
        return anything

    def flush(self) -> None:
        """Hand over what is ready; from then on the replica remembers that it was read. No waiting."""
        if self._ready:
            self._take(self._ready)
            self._ready = []  # not before: what could not be taken is taken by the next flush
        self._logs.save()

    def _by_log(self, keys: list[str]) -> dict[bytes, dict[int, list[str]]]:
        """Names that are news, by log and number."""
        found: dict[bytes, dict[int, list[str]]] = {}
        for key in keys:
            name = parse_name(key)
            if isinstance(name, SegmentName) and name.seq >= self._logs.state(name.log_id).next_seq:
                found.setdefault(name.log_id, {}).setdefault(name.seq, []).append(key)
        return found

    async def _read_log(self, log_id: bytes, names: Mapping[int, list[str]]) -> bool:
        """Read on in one log; returns whether anything was read."""
        moved = False
        while (seq := self._logs.state(log_id).next_seq) in names:
            if not counts(log_id, seq, self._rules.ends):
                self.late[log_id] = sum(1 for one in names if one >= seq)
                break
            read = await self._read_segment(log_id, names[seq])
            if read is None:
                break
            moved = True
            self._ready.append(read)
            if len(self._ready) >= _BATCH:
                self.flush()
        return moved

    async def _read_segment(self, log_id: bytes, names: list[str]) -> IntegratedSegment | None:
        """The next segment of a log from whichever object verifies; None if none does, or it has to wait."""
        refused = [name for name in names if name in self.problems]
        # Some again: a tool that synchronises the folder may have shown half of one, or its key has come since.
        again = chance().sample(refused, min(len(refused), _READ_AGAIN))
        for name in (*sorted(set(names).difference(refused)), *again):
            try:
                data = await self._sender.get(name, 0, SEGMENT_MAX + 1)
            except NotFound:
                continue
            try:
                raw = parse_segment(data, self._rules.membership.vault)
                body = self._open(raw, log_id)
                waits = self._judge(raw, body)
            except (HostileStore, NotAllowed, NeedsUpdate) as err:  # a newer log waits for an update, and no other does
                self._refuse(name, err)
                continue
            if waits:
                return None
            self.problems.pop(name, None)
            return self._accept(raw, body, name)
        return None

    def _open(self, raw: RawSegment, log_id: bytes) -> SegmentBody:
        membership, state = self._rules.membership, self._logs.state(log_id)
        owner = membership.graph.log_owner(log_id)
        if raw.log_id != log_id or raw.seq != state.next_seq or owner is None:
            raise Invalid("a segment stands under a name that is not its own")
        verify_segment(raw, owner.sign_pub)
        body = open_segment(raw, membership.keyring.key(KeyLabel.LOG, raw.ks))
        if body.prev != state.digest or body.first_op != state.next_n:
            raise Invalid("a segment does not continue its log")
        return body

    def _judge(self, raw: RawSegment, body: SegmentBody) -> bool:
        """Whether the segment has to wait for something. Raises Invalid for a broken rule."""
        logs, rules = self._logs, self._rules
        claim = Claim(
            raw.log_id, raw.seq, raw.ks, body, logs.last_placed(raw.log_id), dict(logs.state(raw.log_id).seen)
        )
        verdict = judge_segment(claim, rules.membership.resolver, logs.place, rules.lost)
        return isinstance(verdict, Missing)

    def _accept(self, raw: RawSegment, body: SegmentBody, name: str) -> IntegratedSegment:
        membership = self._rules.membership
        owner = membership.graph.log_owner(raw.log_id)
        if raw.body2:
            self._names.learn(raw.digest, name)
        head = LogHead(raw.log_id, raw.seq, raw.digest)
        told = Told.by(body.first_op, body.ops, body.wall_ms, attests=bool(body.attest))
        self._logs.advance(head, body.stamp, body.mheads, body.vec, told)
        own = owner is not None and owner.entry in membership.own
        return IntegratedSegment(
            log=raw.log_id, seq=raw.seq, digest=raw.digest, stamp=body.stamp, wall_ms=body.wall_ms,
            label=membership.name_of(owner.entry) if owner is not None else "",
            role=int(owner.tier) if owner is not None else 0, first_op=body.first_op, ops=body.ops, packs=body.packs,
            body2=len(raw.body2), own=own, ids=self.own_ids if own else {},
        )  # fmt: skip

    def _refuse(self, name: str, err: CryptfsError) -> None:
        if name not in self.problems:
            log.warning("a log object is ignored: %s", err)
        self.problems[name] = str(err)

    def take_own(self, data: bytes, name: str) -> None:
        """Take a segment of this device, which the journal holds, unless it is in the replica already.

        Raises HostileStore if it does not continue the log.
        """
        raw = parse_segment(data, self._rules.membership.vault)
        if raw.seq < self._logs.state(raw.log_id).next_seq:
            return
        body = self._open(raw, raw.log_id)
        self._ready.append(self._accept(raw, body, name))
        self.flush()
