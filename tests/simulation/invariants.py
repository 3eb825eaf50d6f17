"""What must hold after a simulated history, each by its number in docs/replication.md ("Invariants").

`Verdict` looks at the devices when faults have ended and nothing moves any more, and at the folder itself, read without
them. Some invariants are watched while the history runs: 18 and 20 in `moves_of_people.py`, 32 in `vault_group.py`.
"""

import shutil
from functools import partial
from typing import TYPE_CHECKING, Any

from cryptfs.format.content import WHERE_BODY2, WHERE_PACK
from cryptfs.format.names import PackName, RollupName, SegmentName, pack_name, parse_name, segment_name
from cryptfs.format.operation import KIND_DIR, Create, Expire, Op, OpId, Put, Rename, Restore, Unlink, Ver
from cryptfs.format.rollup import parse_rollup
from cryptfs.format.segment import parse_segment
from cryptfs.group.authority import Tier
from cryptfs.vault.vault import Vault
from tests.simulation.judging import Evidence, difference, places_of
from tests.simulation.machine import Machine, vault_of
from tests.simulation.person import is_mark
from tests.simulation.tree_device import check_tree
from tests.vault.random_hand import Shown, shown
from tests.vault.vault_faults import state_of

if TYPE_CHECKING:
    from tests.simulation.vault_group import Simulation

__all__ = ["Verdict"]

State = dict[str, list[tuple[object, ...]]]


class Verdict:
    """Judges one history in its end. `settled`: the devices that are in the group and have sent everything."""

    def __init__(self, sim: "Simulation", settled: list[Machine]) -> None:
        self.sim = sim
        self.settled = settled
        self.first = settled[0]
        self.state = state_of(vault_of(self.first))
        self.evidence = Evidence(sim.folder.ever, vault_of(self.first), junk=sim.junk)

    async def all(self, *, thorough: bool) -> None:
        """Everything; what takes long only if `thorough`."""
        for machine in self.settled:
            check_tree(vault_of(machine).replica)  # invariants 11 to 15
            assert not vault_of(machine).trust.words, f"{machine.name}: {vault_of(machine).trust.words}"
        self.all_states_are_equal()
        seen = await self.all_see_the_same()
        self.marks_are_there(seen)
        self.stamps_are_recomputed()
        self.one_journal_never_makes_two_segments_of_one_number()
        self.applied_is_causally_closed()
        self.no_version_is_lost()
        self.nobody_replaced_what_he_had_not_seen()
        self.nobody_conflicts_with_himself()
        self.nobody_removed_what_he_had_not_seen()
        self.nobody_cites_what_he_cannot_know()
        self.nothing_beyond_an_end_counts()
        self.who_exists_once_goes_on_in_his_log()
        self.copies_do_not_go_on_in_one_log()
        self.nothing_in_use_is_deleted()
        self.only_holders_delete()
        self.nothing_late_below_s()
        self.all_compute_the_same_roots()
        self.all_stand_on_one_floor()
        self.what_is_kept_lies_in_the_folder()
        self.rollups_are_their_segments()
        if thorough:
            await self.a_second_round_uploads_nothing()
            await self.rebuilt_from_the_folder_alone(seen)

    # ---- order ------------------------------------------------------------------------------------------------------

    def all_states_are_equal(self) -> None:
        """1, 8: the same valid sets give the same State, whatever the order of arrival, crashes and clocks."""
        for machine in self.settled[1:]:
            self._same_state(machine, state_of(vault_of(machine)), f"that of {self.first.name}")

    def _same_state(self, machine: Machine, state: State, other: str) -> None:
        for table, rows in self.state.items():
            if state[table] != rows:
                here = [row for row in state[table] if row not in rows][:3]
                there = [row for row in rows if row not in state[table]][:3]
                raise AssertionError(f"{table} of {machine.name} differs from {other}:\n{here}\n{there}")

    def stamps_are_recomputed(self) -> None:
        """6: each L is one more than those of what the segment follows."""
        stamps = {said.digest: said.body.stamp for said in self.evidence.segments.values()}
        for said in self.evidence.segments.values():
            before = [stamps[one.digest] for one in said.body.vec if one.digest in stamps]
            if said.seq:
                before.append(stamps.get(said.body.prev, 0))
            assert said.body.stamp > max(before, default=0), "a stamp that is not above what its segment has seen"

    def one_journal_never_makes_two_segments_of_one_number(self) -> None:
        """7: unless a device was copied, each of its numbers has one segment."""
        copied = {
            log
            for one in self.sim.machines
            if one.forked_by_hand
            for log in self.sim.logs_of(one, vault_of(self.first))
        }
        made: dict[tuple[bytes, int], bytes] = {}
        for said in self.evidence.segments.values():
            other = made.setdefault((said.log, said.seq), said.digest)
            assert other == said.digest or said.log in copied, f"segment {said.seq} was sealed twice"

    def applied_is_causally_closed(self) -> None:
        """5, 34: whoever has applied a segment has applied what it had seen."""
        for machine in self.settled:
            logs = vault_of(machine).standing.logs
            for said in (said for chain in self.evidence.counting.values() for said in chain):
                for head in said.body.vec:
                    assert logs.knows(head.log, head.seq, head.digest[:8]), "a segment counts without what it had seen"

    # ---- data -------------------------------------------------------------------------------------------------------

    async def all_see_the_same(self) -> Shown:
        """19: after quiescence everybody reads the same bytes: those of the version, since records are signed for."""
        seen = await shown(vault_of(self.first))
        for machine in self.settled[1:]:
            one = await shown(vault_of(machine))
            assert one == seen, f"{machine.name}: {difference(seen, one)}"
        return seen

    def marks_are_there(self, seen: Shown) -> None:
        """16, 20, 33: what was durable is in the tree; of devices that are out, with themselves or as late work."""
        late = self._late_names()
        for mark in self.sim.marks:
            found = [row for path, row in seen.items() if path.lstrip(b"/").startswith(mark.name)]
            if any(row[-1] == mark.data for row in found):
                continue
            owner = next(one for one in self.sim.machines if one.name == mark.by)
            assert owner not in self.settled or mark.name in late, f"{mark.name.decode()} by {mark.by} is lost"
            assert mark.name in late or self._has_it_still(owner, mark.name), (
                f"{mark.name.decode()} of who is out is lost"
            )

    def _late_names(self) -> set[bytes]:
        """Marks in segments that were sent and do not count: an administrator can accept them."""
        return {
            op.name
            for said in self.evidence.segments.values()
            for op in said.body.ops
            if isinstance(op, Create) and is_mark(op.name)
        }

    def _has_it_still(self, owner: Machine, name: bytes) -> bool:
        return owner.vault is None or owner.vault.replica.lookup(1, name) is not None

    def no_version_is_lost(self) -> None:
        """16: each content that counts is in a file, in the trash or in the history, but for what was let expire."""
        expired = max((op.stamp for _, op, said in self.evidence.operations if isinstance(op, Expire)), default=-1)
        kept = self._kept()
        for op in self.evidence.contents:
            if op not in kept and self.evidence.made_by[op].body.stamp > expired:
                raise AssertionError(f"version {op} is neither in the tree nor in the history")

    def _kept(self) -> set[OpId]:
        nodes = (op for row in self.state["node"] for op in _ver(row[9]))
        return {*nodes, *(op for row in self.state["history"] for op in _ver(row[1]))}

    def nobody_replaced_what_he_had_not_seen(self) -> None:
        """16: what is an old version now was replaced by an operation that knew it, or is the same by content."""
        for row in self.state["history"]:
            ino, ver, stamp = row[0], _ver(row[1]), row[5]
            changes = [one for one in self.evidence.at(stamp) if isinstance(one[1], Put | Restore | Create)]
            meant = [one for one in changes if not isinstance(one[1], Create) and one[1].i == ino]
            assert any(
                isinstance(what, Create) or not {op, *what.base}.isdisjoint(ver) for op, what, _ in meant or changes
            ), f"version {ver} was replaced by somebody who had not seen it"

    def nobody_conflicts_with_himself(self) -> None:
        """16: a change of a version, wherever that came to lie, takes its place: it is nobody's present content."""
        present = {op for row in self.state["node"] for op in _ver(row[9])}
        for op, what, _ in self.evidence.operations:
            if isinstance(what, Put) and len(what.base) == 1:
                assert what.base[0] not in present, f"{op} did not take the place of what it changed"

    def nobody_removed_what_he_had_not_seen(self) -> None:
        """17: what is in the trash was removed, or replaced, by an operation that names every writer of it."""
        for row in self.state["node"]:
            gone, ver = row[14], set(_ver(row[9]))
            if gone is None or not ver or row[1] == KIND_DIR:
                continue
            named = [seen for _, what, _ in self.evidence.at(gone) if (seen := _removed_version(what)) is not None]
            assert ver in named, f"version {ver} was removed by somebody who had not seen it"

    def nobody_cites_what_he_cannot_know(self) -> None:
        """5: the versions that operations are based on were applied by their authors, or made by them before."""
        for op, what, said in self.evidence.operations:
            for one in what.base if isinstance(what, Put | Restore) else _removed_version(what) or ():
                if one in self.evidence.made_by:
                    assert self.evidence.had_seen(said, one), f"{op} is based on {one}, which its author had not seen"

    def what_is_kept_lies_in_the_folder(self) -> None:
        """26: records that files, the trash and the history name are there, unless they were copied elsewhere."""
        there = self._containers_there()
        replica = vault_of(self.first).replica
        for op in self._kept() & self.evidence.contents.keys():
            own = self.evidence.made_by[op].digest
            for place in places_of(self.evidence.contents[op], own):
                row = replica.rows.container(*place)
                copied = row is not None and row.moved != b""
                assert place in there or copied, f"records that {op} uses are gone"

    def _containers_there(self) -> set[tuple[int, bytes]]:
        found: set[tuple[int, bytes]] = set()
        judge = vault_of(self.first)
        for key, data in self.sim.folder.snapshot().items():
            name = parse_name(key)
            if isinstance(name, PackName):
                found.add((WHERE_PACK, name.id))
            elif isinstance(name, SegmentName):
                found.add((WHERE_BODY2, parse_segment(data, judge.vault_id).digest))
            elif isinstance(name, RollupName):
                found.update((WHERE_BODY2, one.digest) for one in parse_rollup(data, judge.vault_id).segments)
        return found

    def rollups_are_their_segments(self) -> None:
        """29: byte for byte."""
        for key, data in self.sim.folder.ever.items():
            if isinstance(parse_name(key), RollupName):
                for one in parse_rollup(data, vault_of(self.first).vault_id).segments:
                    single = self.sim.folder.ever.get(segment_name(one.log_id, one.seq, one.digest))
                    assert single == bytes(one.data), f"{key} holds other bytes than the segments had"

    # ---- collection -------------------------------------------------------------------------------------------------

    def nothing_in_use_is_deleted(self) -> None:
        """26: no file that somebody has open or has not sent refers to what was deleted."""
        gone = {key for _, key in self.sim.folder.deleted} - self.sim.folder.snapshot().keys()
        for machine in self.settled:
            vault = vault_of(machine)
            for place in vault.collector._holding.pinned():
                assert place.where != 1 or pack_name(place.id) not in gone, "an open file refers to a deleted pack"

    def only_holders_delete(self) -> None:
        """27: packs are deleted by a device whose log named them first, log objects by the log's own until it ends."""
        judge = vault_of(self.first)
        for name, key in self.sim.folder.deleted:
            parsed = parse_name(key)
            if isinstance(parsed, PackName):
                holder = self.evidence.holders.get(parsed.id)
            else:
                holder = parsed.log_id if isinstance(parsed, SegmentName | RollupName) else None
                end = judge.reader.end(holder) if holder is not None else None
                holder = holder if end is None or end.count is None else None
            machine = next(one for one in self.sim.machines if one.name == name)
            assert holder is None or holder in self.sim.logs_of(machine, judge), f"{name} deleted another's {key}"

    def nothing_late_below_s(self) -> None:
        """22: no segment that counts has a stamp at or below an S that was computed before it was known."""
        if self.sim.revised:
            return  # who is let in anew, closed or accepted may start below: docs/replication.md, "Stability"
        for machine in self.settled:
            assert not machine.below_s, f"{machine.name} had computed S {machine.below_s}"

    def all_compute_the_same_roots(self) -> None:
        """24: whoever says what root the state at a stamp has says the same, as long as the same segments count."""
        if self.sim.revised:
            return
        said: dict[int, bytes] = {}
        for one in (one for chain in self.evidence.counting.values() for seg in chain for one in seg.body.attest):
            assert said.setdefault(one.stamp, one.root) == one.root, f"two roots of the state at {one.stamp}"

    def all_stand_on_one_floor(self) -> None:
        """25: F follows from segments and statements, and nobody takes back what is settled."""
        floors = {machine.name: vault_of(machine).horizon.floor() for machine in self.settled}
        assert len(set(floors.values())) == 1, f"floors are { ({one: floor.stamp for one, floor in floors.items()}) }"

    # ---- membership -------------------------------------------------------------------------------------------------

    def nothing_beyond_an_end_counts(self) -> None:
        """30: every version in the tree is of a segment that counts, and none of a reader's."""
        for op in self._kept():
            assert op in self.evidence.made_by, f"{op} is in the tree and beyond the end of its log"

    def who_exists_once_goes_on_in_his_log(self) -> None:
        """33: new logs are for copies, for who was set back, and for whose log was closed."""
        judge = vault_of(self.first)
        for machine in self.settled:
            if not (machine.forked_by_hand or machine.closed_by_hand):
                for entry in self.sim.entries_of(machine, judge):
                    assert len(judge.membership.graph.logs_of(entry)) <= 1, f"{machine.name} took itself for a copy"

    def copies_do_not_go_on_in_one_log(self) -> None:
        """33: once a copy has written into a log, the other goes on elsewhere."""
        for log_id, chain in self.evidence.counting.items():
            makers = [self.sim.folder.put_by.get(segment_name(log_id, said.seq, said.digest)) for said in chain]
            turns = [maker for at, maker in enumerate(makers) if maker is not None and makers[at - 1 : at] != [maker]]
            assert len(turns) == len(set(turns)), f"{' and '.join(turns)} write one log in turns"

    # ---- liveness, rebuilding ---------------------------------------------------------------------------------------

    async def a_second_round_uploads_nothing(self) -> None:
        """38: when all have what there is, nobody sends anything, and everybody's word lets S catch up."""
        for _ in range(3):
            await self._all_speak()
        before = self.sim.folder.snapshot().keys()
        await self._all_speak()
        new = self.sim.folder.snapshot().keys() - before
        assert not new, f"a second round uploads {sorted(new)[:3]}"
        self._s_has_caught_up()

    def _s_has_caught_up(self) -> None:
        """When everybody who may write is here and has spoken, unless a log was opened by a device that is no more."""
        if any(machine.forked_by_hand for machine in self.sim.machines):
            return  # who is set back a second time leaves a log in which nothing was ever written: it holds S
        judge = vault_of(self.first)
        here = {entry for machine in self.settled for entry in self.sim.entries_of(machine, judge)}
        writers = {entry for entry, who in judge.membership.resolved.roster.items() if who.role >= Tier.WRITER}
        last = max((said.body.stamp for _, _, said in self.evidence.operations), default=-1)
        if writers <= here:
            for machine in self.settled:
                stable = vault_of(machine).horizon.stable()
                assert stable >= last, f"S of {machine.name} stays at {stable}, the last change is at {last}"

    async def _all_speak(self) -> None:
        for machine in self.settled:
            await machine.attempt(partial(_speak, vault_of(machine)))

    async def rebuilt_from_the_folder_alone(self, seen: Shown) -> None:
        """1, 2, 36: a device that has nothing but its keys gets the same State from the folder, and the same bytes."""
        checkpoints = [name for name in self.sim.folder.snapshot() if name.startswith("c/")]
        await self._rebuilt(seen)
        if checkpoints:  # 23
            for name in checkpoints:
                self.sim.folder.lose(name)
            await self._rebuilt(seen)

    async def _rebuilt(self, seen: Shown) -> None:
        fresh = self.settled[-1]
        await fresh.stop(kill=False)
        shutil.rmtree(fresh.base)
        await fresh.start(self.sim.nursery)
        assert fresh.vault is not None, f"{fresh.name} does not open anew: {fresh.trouble}"
        self.state = state_of(vault_of(self.first))
        self._same_state(fresh, state_of(fresh.vault), "what the folder says")
        again = await shown(fresh.vault)
        assert again == seen, difference(seen, again)


async def _speak(vault: Vault) -> None:
    await vault.exchange.pull()
    if (vault.standing.role or Tier.READER) >= Tier.WRITER:
        await vault.acknowledging.now()


def _removed_version(what: Op) -> set[OpId] | None:
    """The content that an operation removes, as its author saw it; None if it removes none."""
    if isinstance(what, Unlink):
        return set(what.cver)
    return set(what.replaced.cver) if isinstance(what, Rename) and what.replaced is not None else None


def _ver(value: Any) -> Ver:
    return tuple(value)
