"""Reads the logs in the store: lists, fetches, verifies, judges, and hands what counts to the replica.

Nothing is believed because of its name or its place: a segment is read when its signature is that of the log's owner,
when it continues the chain, and when every rule of docs/format.md ("Segments") holds. What waits for something that
is not here waits; what breaks a rule freezes its log there and is reported.

What was read counts as far as its log goes (`group/ends.py`). Beyond the end it is late work: known, so that what
others built on it need not wait, but without effect. Ends move when statements or forks appear; then segments leave
the tree, or come back into it (`settle`).
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from cryptfs.errors import CryptfsError, HostileStore, Invalid, NeedsUpdate, NotAllowed, NotFound, StoreGone
from cryptfs.format.names import RollupName, log_prefix, parse_name, segment_name
from cryptfs.format.segment import RawSegment, SegmentBody, parse_segment
from cryptfs.format.segment_body import LogHead
from cryptfs.group.ends import NOTHING_SETTLED, HeldSegment, LogEnd, Settled, log_ends, surviving
from cryptfs.group.membership import Membership
from cryptfs.group.validity import Claim, Missing, counts, given_up, judge_segment
from cryptfs.tree.integrate import NeedsRebuild
from cryptfs.tree.segment import IntegratedSegment
from cryptfs.vault.cache import SegmentNames
from cryptfs.vault.logobjects import LogObjects
from cryptfs.vault.logrules import LogRules
from cryptfs.vault.logs import Logs, Told
from cryptfs.vault.lookout import Following
from cryptfs.vault.readrollups import Budget, RollupReader
from cryptfs.vault.waiting import Waiting

__all__ = ["LogReader", "Take"]

log = logging.getLogger(__name__)

_BATCH: Final = 256
"""Segments handed over at once."""

Take = Callable[[list[IntegratedSegment], list[tuple[bytes, int]]], None]
"""Puts segments into the replica and takes others, by log and number, out of it; called between two awaits, so no
local operation slips in between. Raises NeedsRebuild, and then has changed nothing."""


_LATER: Final = "It is tried again; changes are kept on this machine."


class LogReader:
    """Reads the logs of one vault. `use` says under which membership; `take` receives what counts.

    `preferred`: which of several segments for one place to read first, by log and number; `keep` is told the name and
    the bytes of each segment that was read.
    """

    def __init__(
        self,
        membership: Membership,
        objects: LogObjects,
        logs: Logs,
        names: SegmentNames,
        take: Take,
        *,
        preferred: Mapping[tuple[bytes, int], bytes] | None = None,
        keep: Callable[[str, bytes], None] | None = None,
    ) -> None:
        self._objects = objects
        self._logs = logs
        self._names = names
        self._take = take
        self._preferred = preferred or {}
        self._keep = keep or (lambda _name, _data: None)
        self._ready: list[IntegratedSegment] = []
        self._moved = False
        """Something was read of a log that is cut or forked: its end may have moved."""
        self.waiting = Waiting(logs.knows)
        """Names that were told and are not read yet."""
        self.own_ids: Mapping[int, int] = {}
        """Local number k to number n of what this device sealed in `own_log`, for a replica that is rebuilt."""
        self.own_log = b""
        self.problems = self.waiting.problems
        """Objects that were refused, and why."""
        self._rollups = RollupReader(objects, logs, self, self.problems)
        self._missing: set[LogHead] = set()
        self._gone = False
        """Something that was told was not there: it may lie in a rollup by now."""
        self.late: dict[bytes, list[HeldSegment]] = {}
        """Segments of each log that do not count: kept, without effect."""
        self.settled = NOTHING_SETTLED
        """The floor that is held to."""
        self._rules: LogRules
        self.use(membership)

    def use(self, membership: Membership) -> None:
        """Judge under this membership from now on."""
        graph, resolved = membership.graph, membership.resolved
        stated = log_ends(graph, resolved, {}, self.settled)
        self._rules = LogRules(membership, given_up(graph, resolved), stated, stated)
        self._logs.use_graph(graph)
        self._look_at_ends()
        self._moved = True
        self._something_came()

    def _something_came(self) -> None:
        self.waiting.something_came()
        self._rollups.something_came()

    def settle_at(self, settled: Settled) -> None:
        """At or below this floor nothing is revised any more: no end moves below it, and nothing is added there."""
        if settled != self.settled:
            self.settled = settled
            self.use(self._rules.membership)

    # ---- ends -----------------------------------------------------------------------------------------------------

    def end(self, log_id: bytes) -> LogEnd | None:
        """Where a log ends, on what is known here; None for one that no statement opens."""
        return self._rules.ends.get(log_id)

    def ends(self) -> Mapping[bytes, LogEnd]:
        """Where every log ends that a statement opens, on what is known here."""
        return self._rules.ends

    def counting(self, log_id: bytes) -> list[HeldSegment]:
        """The segments of a log that count, on what is known here."""
        end = self.end(log_id)
        firm = self.settled.heads.get(log_id)
        return surviving(end, self._logs.held(log_id), firm) if end is not None else []

    def open_forks(self) -> list[bytes]:
        """Logs that fork, and that no statement has closed since."""
        stated = self._rules.stated
        return sorted(one for one in self._logs.forked() if one in stated and stated[one].count is None)

    def _cut(self) -> list[bytes]:
        """Logs whose end depends on what is here."""
        stated = {log_id for log_id, end in self._rules.stated.items() if end.count is not None}
        known = {log_id: self._logs.state(log_id) for log_id in self._logs.ids()}
        beyond = {log_id for log_id, state in known.items() if state.taken < state.next_seq}
        return sorted(stated | beyond | self._logs.forked())

    def _look_at_ends(self) -> None:
        rules, cut = self._rules, self._cut()
        if cut:
            held = {log_id: self._logs.held(log_id) for log_id in cut}
            ends = log_ends(rules.membership.graph, rules.membership.resolved, held, self.settled)
            self._rules = replace(rules, ends=ends)

    async def settle(self) -> bool:
        """Have in the tree what counts, after ends may have moved; returns whether anything changed.

        Raises NeedsRebuild if the tree has to be made anew for that, StoreError if something is not to be had.
        """
        if not self._moved:
            return False
        self._look_at_ends()
        out: list[tuple[bytes, int]] = []
        back: list[IntegratedSegment] = []
        taken: dict[bytes, int] = {}
        late: dict[bytes, list[HeldSegment]] = {}
        for log_id in self._cut():
            held = self._logs.held(log_id)
            chain = self.counting(log_id)
            late[log_id] = sorted(set(held).difference(chain), key=lambda one: (one.seq, one.digest))
            state = self._logs.state(log_id)
            if any(self._logs.digest_at(log_id, one.seq) != one.digest for one in chain):
                raise NeedsRebuild("a branch of a log counts now")
            count = chain[-1].seq + 1 if chain else 0
            out += [(log_id, seq) for seq in range(count, state.taken)]
            back += [await self.fetch(log_id, one) for one in chain if one.seq >= state.taken]
            if count != state.taken:
                taken[log_id] = count
        if taken:
            self._take(back, out)
            for log_id, count in taken.items():
                self._logs.state(log_id).taken = count
                self._logs.save_state(log_id)
        self.late = {log_id: segments for log_id, segments in late.items() if segments}
        self._moved = False
        return bool(taken)

    async def fetch(self, log_id: bytes, one: HeldSegment) -> IntegratedSegment:
        """A segment that was read before. Raises StoreError, HostileStore."""
        raw = await self._objects.find(log_id, one.seq, one.digest)
        return self._rules.integrated(raw, self._rules.open(raw, log_id), self._ids_of(raw))

    async def open_again(self, log_id: bytes, seq: int, digest: bytes) -> SegmentBody:
        """What a segment says that was read before. Raises StoreError, HostileStore."""
        return self._rules.open(await self._objects.find(log_id, seq, digest), log_id)

    def preferences(self) -> dict[tuple[bytes, int], bytes]:
        """Which segment counts at each place of the logs that are cut or forked: `preferred` of a new reader."""
        return {(log_id, one.seq): one.digest for log_id in self._cut() for one in self.counting(log_id)}

    # ---- reading --------------------------------------------------------------------------------------------------

    async def read_all(self) -> bool:
        """List every log and read it as far as it goes; returns whether anything was new. Raises as `settle`."""
        return await self.read_on(await self._objects.look(), whole=True)

    async def read_on(self, names: list[str], *, whole: bool) -> bool:
        """Read every log as far as it goes, now that the store has told of `names`; returns whether anything was new.

        `whole`: these are all names there are. Raises as `settle`.
        """
        self._told(names, whole=whole)
        try:
            anything = await self._read_told()
            if self._gone or self._rollups.gone:  # who rolls up deletes the small objects: listed once more
                self._told(await self._objects.look(), whole=True)
                anything = await self._read_told() or anything
        finally:
            self._objects.forget_bytes()
            self.flush()
        return await self.settle() or anything

    def _told(self, names: list[str], *, whole: bool) -> None:
        if whole:
            self._objects.all_told(names)
            self.waiting.all_told()
        else:
            self._objects.told(names)
        self.waiting.told(names)
        self._gone = self._rollups.gone = False

    async def _read_told(self) -> bool:
        async with self._objects.ahead(self._in_turn()):
            return await self._read_on()

    def _in_turn(self) -> list[list[str]]:
        """The objects that are read now if all goes well, log by log: rollups, then the segments after them.

        Not those that were refused before: anybody can put many of them there, and few are read once more.
        """
        turns = []
        for log_id in sorted({*self.waiting.logs(), *self._rollups.logs()}):
            rollups = self._rollups.unread_of(log_id)
            upto = max((name.last for key in rollups if isinstance(name := parse_name(key), RollupName)), default=-1)
            later = [seq for seq in self.waiting.numbers(log_id) if seq > upto]
            names = [*rollups, *(key for seq in later for key in self.waiting.names(log_id, seq))]
            turns.append([key for key in names if key not in self.problems])
        return turns

    async def _read_on(self) -> bool:
        anything, progress = False, True
        while progress:
            progress, self._missing = False, set()
            for log_id in sorted({*self.waiting.logs(), *self._rollups.logs()}):
                progress = await self._read_log(log_id) or progress
            progress = progress or await self._rollups.look_for(self._missing)
            anything = anything or progress
        return anything

    def unread(self) -> list[str]:
        """Names of objects that were told, and not all of which is taken in."""
        return [*self.waiting, *self._rollups.unread()]

    @property
    def held_up(self) -> bool:
        """Whether something that verifies waits for what is not here."""
        return self.waiting.held_up or bool(self._rollups.waits)

    @property
    def waits(self) -> dict[bytes, frozenset[bytes]]:
        """Logs that cannot be read on, and the logs whose segments they wait for: others, or their own. A statement
        that is not here leaves the set empty.
        """  # noqa: D205 - two sentences
        found = dict(self._rollups.waits)
        for log_id in self.waiting.logs():
            if self._rules.membership.graph.log_owner(log_id) is None:
                continue
            for_ = self.waiting.for_what(log_id)
            if for_ is not None:
                found[log_id] = found.get(log_id, frozenset()) | for_
            elif not all(self._reaches(log_id, seq) for seq in self.waiting.numbers(log_id)):
                found[log_id] = frozenset({log_id})
        return found

    def gaps(self) -> dict[bytes, int]:
        """Logs of which the store shows later segments and not the next one, with the number of that one."""
        found = {}
        for log_id in {*self.waiting.logs(), *self._rollups.logs()}:
            end, after = self.end(log_id), self._logs.state(log_id).next_seq
            if end is None or (end.count is not None and end.count <= after):
                continue
            shown = self._objects.rollups(log_id, after, after)
            if not shown and not any(self._reaches(log_id, seq) for seq in self.waiting.numbers(log_id)):
                found[log_id] = after
        return found

    def following(self) -> list[Following]:
        """The logs that may go on, and how far each was read."""
        found = []
        for log_id, end in sorted(self._rules.ends.items()):
            state = self._logs.state(log_id)
            if end.count is None or state.next_seq < end.count:
                last = segment_name(log_id, state.next_seq - 1, state.digest) if state.next_seq else ""
                found.append(Following(log_prefix(log_id), last))
        return found

    def take_over(self, other: "LogReader") -> None:
        """Go on with what another reader of the same logs has found."""
        self.late = other.late
        self.waiting.all_told()
        self.waiting.told(other.waiting)

    def flush(self) -> None:
        """Hand over what is ready; from then on the replica remembers that it was read. No waiting."""
        if self._ready:
            self._take(self._ready, [])
            self._ready = []  # not before: what could not be taken is taken by the next flush
        self._logs.save()

    async def _read_log(self, log_id: bytes) -> bool:
        """Read on in one log and its branches; returns whether anything was read."""
        if self._rules.membership.graph.log_owner(log_id) is None:
            return False
        budget = Budget()
        moved = await self._rollups.read_on(log_id, budget)
        for seq in self.waiting.numbers(log_id):
            if not self._reaches(log_id, seq):
                break
            for name in self.waiting.candidates(log_id, seq, self._preferred.get((log_id, seq), b"")):
                if budget.late <= 0:
                    return moved
                if await self._read_segment(log_id, seq, name, budget):
                    self.waiting.taken(name)
                    moved = True
        return moved

    def _reaches(self, log_id: bytes, seq: int) -> bool:
        """Whether a segment with the number before is here."""
        return seq <= self._logs.state(log_id).next_seq or any(one.seq == seq - 1 for one in self._off_chain(log_id))

    def _off_chain(self, log_id: bytes) -> list[HeldSegment]:
        return self._logs.held(log_id) if log_id in self._logs.forked() else []

    async def _read_segment(self, log_id: bytes, seq: int, name: str, budget: Budget) -> bool:
        """Read one object; False if it does not verify, or has to wait. Raises StoreError."""
        try:
            (raw,) = await self._objects.segments(name)
            if name != segment_name(log_id, seq, raw.digest):  # the folder could show one segment as two, a fork
                raise Invalid("a segment stands under a name that is not its own")
        except NotFound:
            self.waiting.in_vain(name)
            self._gone = True
            return False
        except (HostileStore, NeedsUpdate) as err:
            self.refuse(name, err)
            return False
        waits = self.take_in(log_id, seq, raw, name, budget)
        if isinstance(waits, frozenset):
            self.waiting.in_vain(name, waits)
        return waits is True

    def is_news(self, log_id: bytes, raw: RawSegment) -> bool:
        """See `readrollups.Judge`. One that does not count here waits for the one that does."""
        first = self._preferred.get((log_id, raw.seq), raw.digest)
        late = first != raw.digest and not self._logs.knows(log_id, raw.seq, first[:8])
        return not late and not self._logs.knows(log_id, raw.seq, raw.digest[:8]) and self._reaches(log_id, raw.seq)

    def take_in(self, log_id: bytes, seq: int, raw: RawSegment, name: str, budget: Budget) -> bool | frozenset[bytes]:
        """See `readrollups.Judge`."""
        try:
            body = self._rules.open(raw, log_id)
            before = self._logs.state_after(log_id, seq - 1, body.prev)
            if before is None:  # or it continues a branch that a rollup has
                self._missing.add(LogHead(log_id, seq - 1, body.prev))
            if raw.seq != seq or before is None or body.first_op != before.next_n:
                raise Invalid("a segment does not continue its log")
            waits = self._rules.judge(self._logs, raw, body, before)
        except (HostileStore, NotAllowed, NeedsUpdate) as err:  # a newer log waits for an update, and no other does
            self.refuse(name, err)
            return False
        if isinstance(waits, Missing):
            self._missing |= waits.heads
            return frozenset(head.log for head in waits.heads)
        own_name = segment_name(log_id, seq, raw.digest)
        self._accept(raw, body, own_name)
        self._keep(own_name, raw.data)
        budget.late -= self._logs.state(log_id).taken <= seq
        return True

    def _accept(self, raw: RawSegment, body: SegmentBody, name: str) -> None:
        """The segment was read; if it counts it is ready for the tree."""
        if raw.body2:
            self._names.learn(raw.digest, name)
        head = LogHead(raw.log_id, raw.seq, raw.digest)
        told = Told.by(body.first_op, body.ops, body.wall_ms, body.attest)
        self._something_came()
        on_chain = self._logs.advance(head, body.stamp, body.mheads, body.vec, told, prev=body.prev)
        state, ends = self._logs.state(raw.log_id), self._rules.ends
        late = body.stamp <= self.settled.stamp and raw.seq >= self._settled_count(raw.log_id)
        if on_chain and state.taken == raw.seq and counts(raw.log_id, raw.seq, ends) and not late:
            state.taken += 1
            self._ready.append(self._rules.integrated(raw, body, self._ids_of(raw)))
            if len(self._ready) >= _BATCH:
                self.flush()
        self._moved = self._moved or not on_chain or late or ends[raw.log_id].count is not None

    def _settled_count(self, log_id: bytes) -> int:
        firm = self.settled.heads.get(log_id)
        return firm.count if firm is not None else 0

    def _ids_of(self, raw: RawSegment) -> Mapping[int, int]:
        return self.own_ids if raw.log_id == self.own_log else {}

    def refuse(self, name: str, err: CryptfsError) -> None:
        """See `readrollups.Judge`."""
        if name not in self.problems:
            log.warning("a log object is ignored: %s", err)
        self.problems[name] = str(err)
        self.waiting.in_vain(name)

    def check_own(self, log_id: bytes, seq: int, ks: bytes, body: SegmentBody) -> None:
        """Raise StoreGone if others would refuse this segment: nothing is signed on a view that lacks something.

        A log whose first segment has not seen who let its author in, say, would never be read by anybody.
        """
        before = self._logs.state(log_id)
        last = before.head(log_id)
        claim = Claim(log_id, seq, ks, body, self._logs.place(last) if last else None, dict(before.seen))
        try:
            verdict = judge_segment(claim, self._rules.membership.resolver, self._logs.place, self._rules.lost)
        except Invalid as err:
            raise StoreGone(f"Nothing can be sealed on what the folder shows now: {err}.", _LATER) from err
        if isinstance(verdict, Missing):
            raise StoreGone("The folder does not show yet what changes of this device build on.", _LATER)

    def take_own(self, data: bytes, name: str) -> None:
        """Take a segment of this device, which the journal holds, unless it was read already.

        Raises HostileStore if it does not continue the log, StoreGone while the folder does not show what it built on:
        decisions and segments of others that were here before the cache was lost.
        """
        raw = parse_segment(data, self._rules.membership.vault)
        if self._logs.knows(raw.log_id, raw.seq, raw.digest[:8]):
            return
        body = self._rules.open(raw, raw.log_id)
        before = self._logs.state_after(raw.log_id, raw.seq - 1, body.prev)
        if before is None or body.first_op != before.next_n:
            raise Invalid("a segment does not continue its log")
        graph, knows = self._rules.membership.graph, self._logs.knows
        if not all(one in graph for one in body.mheads) or not all(
            knows(one.log, one.seq, one.digest[:8]) for one in body.vec
        ):
            raise StoreGone("The folder does not show yet what the last changes of this device built on.", _LATER)
        self._accept(raw, body, name)
        self.flush()
