"""Each rule weakened in turn, and whether a simulation notices: `python -m tests.simulation.mutants [--runs 400]`.

Prints a table: the rule, the seed that fails first among histories of the flavours in which it can matter, how many it
took, and what was noticed. Merge rules are looked for in histories of trees alone (`tree_group.py`) first: those are
cheap. A mutant that nothing notices is a rule that no simulation tests. Exit code 1 if one survives.
"""

import argparse
import itertools
import logging
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

from tests.simulation.mutation import Edit, weakened
from tests.simulation.plans import FLAVOURS, Plan, plan
from tests.simulation.shrinking import cause_of, failure_of
from tests.simulation.tree_group import check_convergence, check_no_lost_update, run

__all__ = ["MUTANTS", "Catch", "Mutant", "failure_of_trees", "hunt"]

TURNS = 40
TREES = "trees"
TREES_MAX = 300
"""Histories of trees that are tried for a mutant before whole vaults are."""


@dataclass(frozen=True)
class Mutant:
    """What is weakened, in words, by which edits; in which flavours of histories it can matter."""

    rule: str
    edits: tuple[Edit, ...]
    flavours: tuple[str, ...] = tuple(FLAVOURS)
    """`TREES` among them: histories of trees alone come first."""

    def __str__(self) -> str:
        return self.rule


_CROWDS = ("crowd", "daily")


def _one(rule: str, place: str, old: str, new: str, *flavours: str) -> Mutant:
    return Mutant(rule, (Edit(place, old, new),), flavours or tuple(FLAVOURS))


def _merge(rule: str, place: str, old: str, new: str) -> Mutant:
    return _one(rule, place, old, new, TREES, *_CROWDS)


_SEALING = (
    _one("seal on a view that may be old", "vault.sealer:Sealer.seal",
         "await vault.exchange.pull()  # nothing", "pass  # nothing", "copies", "folder"),
    Mutant("seal without looking at what is retired", (
        Edit("vault.rescue:Rescue.needed", "if not self._vault.replica.uses.any_retired():", "if True:"),
        Edit("vault.rescue:Rescue.bring_out", "if not self._vault.replica.uses.any_retired():", "if True:"),
    ), ("collection",)),
    _one("no second look at a draft", "vault.draft:still_holds", "return not", "return True or not"),
    _one("sign what readers would refuse", "vault.pull:LogReader.check_own",
         "before = self._logs", "return\n    before = self._logs"),
    _one("a file with something pending is sealed as it is", "vault.contents:Contents.hand_over_pending",
         "in self.contents()", "in []"),
    _one("the vector leaves out what was seen", "vault.standing:Standing.vec",
         "return self.logs.news_for(self.log_id)", "return ()"),
    _one("a stamp above the own log only", "vault.standing:Standing.next_stamp",
         "self.logs.stamp_after(self.log_id, vec)", "self.logs.stamp_after(self.log_id, ())"),
    _one("sent before the journal has it", "vault.sealer:Sealer._decide", "await journal.commit()", "pass"),
    _one("a signed segment is forgotten at the next start", "vault.found:Found.unsent",
         "if one.seq not in self.sent", "if False"),
    _one("the own log is not compared with the folder", "vault.exchange:Exchange._why_over",
         "if standing.copied:", "if False:", "copies"),
    _one("a closed log is written on", "vault.exchange:Exchange._why_over",
         "if end is None or end.count is None:", "if True:", "group", "all"),
    _one("an older folder is no reason to stop", "vault.trust:Trust.check_may_seal", "if self.stops:", "if False:",
         "folder"),
    _one("what is missing is never an alarm", "vault.trust:Trust._decide", "if now -", "if False and now -", "folder"),
)  # fmt: skip

_MERGING = (
    _merge("a put need not have seen what it replaces", "tree.merge_content:_become",
         "if _shares(state, node, base):", "if True:"),
    _merge("the conflicted copy is dropped", "tree.merge_content:_become",
         "_copy(state, step, node, new)  # 10, 11", "pass"),
    _merge("changes do not follow a content to where it landed", "tree.merge_content:_candidates",
         "(state.rows.landing(op) for op in base)", "()"),
    _merge("an edited file stays in the trash", "tree.merge_content:_become",
         "_relink(state, step, changed)  # 8", "pass"),
    _merge("a removal need not have seen the content", "tree.merge:_unlink", "elif len(links) > 1 or", "elif True or"),
    _merge("a rename replaces what it has not seen", "tree.merge:_replaced",
         "if external(held.lver) != external_of(op.replaced.lver) or", "if False and"),
    _merge("a folder moves below itself", "tree.merge:_rename",
         "if node.kind == KIND_DIR and node.st in state.above(home):", "if False:"),
    _merge("a folder with something in it is removed", "tree.merge:_rmdir",
         "elif state.rows.has_entries(node.st):", "elif False:"),
    _merge("old contents are not kept", "tree.merge_content:_keep", "external = state.ids.external",
         "return\n    external = state.ids.external"),
    _merge("the content of a file made twice alike is not kept", "tree.merge:_joins",
         "if op.content is not None:", "if False:"),
    _merge("folders made twice become two", "tree.merge:_joins", "if op.kind == KIND_DIR:  # 2", "if False:  # 2"),
    _merge("a removed folder does not come back for what is made in it", "tree.state:State.home",
         "if node.gone_l is None:", "if True:"),
    _merge("segments apply as they arrive", "tree.integrate:_redo", "sorted(kept + new, key=lambda seg: seg.position)",
         "kept + new"),
    _merge("too little is undone", "tree.integrate:integrate", "core.undo.undo_from(tail[0].u)",
         "core.undo.undo_from(tail[-1].u)"),
    _merge("unsent changes are not applied again", "tree.integrate:integrate", "core.reapply(pending)", "pass"),
    _merge("who makes a conflicted copy is told from one's own side", "tree.integrate:_apply_segment",
         "label_of(seg.label)", "label_of('me' if seg.own else seg.label)"),
    _merge("times are those of the reader's clock", "tree.integrate:_apply_segment", "wall_ns_of(seg.wall_ms)",
         "wall_ns_of(__import__('time').time_ns() // 1_000_000)"),
)  # fmt: skip

_COLLECTING = (
    Mutant("packs are deleted after a while, whoever has not seen it", (
        Edit("vault.collect:Collector._hear", "and not owing(sights, one.seq)", ""),
        Edit("vault.collect:Collector._decide", "and not owing(sights, one.seq)", ""),
    ), ("collection", "all")),
    _one("no second look before deleting", "vault.collect:Collector._decide",
         "set(found.ranges) | self._holding.pinned()", "set()", "collection", "all"),
    _one("what is open or unsent here counts as unused", "vault.holding:Holding.pinned",
         "moves = self._vault.replica.uses.moves()", "return set()", "collection", "all"),
    _one("old versions use nothing", "tree.uses:Uses._in_force", "(_NODES, _OLD)", "(_NODES,)", "collection", "all"),
    _one("what may come back with a late segment uses nothing", "tree.uses:Uses.in_use",
         " | self._above(asked.union(unread), stable)", "", "collection", "all"),
    _one("everybody collects what others hold", "tree.uses:Uses.held",
         "holder = ? AND place", "holder <> ? AND place", "collection", "all"),
    _one("nobody looks where records were copied to", "vault.cache:Cache.follow", "self._moves = moves", "return",
         "collection", "all"),
    _one("an acknowledgement claims more than was applied", "vault.stability:owing",
         "if one.unfinished and one.seen < seq", "if one.unfinished and one.seen < seq - 1", "collection", "all"),
    _one("logs that have not begun do not hold S", "vault.stability:stable_stamp",
         "one.last if one.last is not None else one.carried for one in sights if one.unfinished",
         "one.last for one in sights if one.unfinished", "collection", "all", "group"),
    _one("the log that lags does not hold S", "vault.stability:stable_stamp", "max(before, min(known))",
         "max(before, *known)", "daily", "collection"),
)  # fmt: skip

_CRASHING = (
    _one("unsent changes are not taken from the journal", "vault.replay:Replay._apply",
         "self._vault.replica.apply_local", "return\n    self._vault.replica.apply_local"),
    _one("bytes made durable are not written again", "vault.replay:Replay._write_again",
         "self._found.wrote.values()", "()"),
    _one("bytes of a removed file are written again", "vault.found:Found.take",
         "case Dropped():\n            self.wrote.pop(entry.st, None)", "case Dropped():\n            pass"),
    _one("changes found again lie on the present version", "vault.replay:Replay._changed",
         "content.start_from(base)", "pass"),
    _one("records ride nowhere", "vault.riding:Riding.before_write",
         "records = [record for pack in packs if (record := pack.riding_record()) is not None]", "records = []"),
    _one("numbers of vanished changes are given again", "vault.found:Found.next_k",
         "made = (*self.pending, *self.names, *(sealed.upto_k for sealed in self.sealed))", "made = (*self.pending,)"),
    _one("nobody waits for what unsent changes were made to", "vault.replay:Replay._look_for_bases",
         "if any(", "if False and any("),
)  # fmt: skip

_GROUPING = (
    _one("a removal cuts no log", "group.ends:log_ends",
         "removed = [_removal_cut(graph, one, log_id) for one in now.removals.get(admission.entry, ())]",
         "removed = []", "group", "all"),
    _one("what lies beyond a closed log is not sent again", "vault.newlog:GoingOn._excluded",
         "excluded: list[_Excluded] = []", "return []", "copies", "group", "all"),
    _one("a fork goes unnoticed", "vault.logs:Logs.forked", "return ", "return set() or ", "copies", "all"),
    _one("one segment under two names is two", "vault.pull:LogReader._read_segment",
         "if name != segment_name(log_id, seq, raw.digest):", "if False:", "folder"),
    _one("a file of holes alone keeps the lineage it has not", "vault.manifest:_content",
         "snap.file.fid or random_bytes(16)", "snap.file.fid", "copies", "group", "all"),
    _one("nothing can be written while the key is unknown", "vault.vault:Vault._expected_keyset",
         "if self.keyring.may_seal else bytes(EID_LEN)", "if True else b''", "group"),
    _one("an administrator decides though his log is over", "vault.administration:_decide",
         "vault.standing.check_may_send()", "pass", "group", "all"),
)  # fmt: skip

_VOUCHING = (
    _one("what came after S goes into a checkpoint", "tree.snapshot:StateAt._look_back",
         "if first is None:", "if True:", "checkpoints"),
    _one("a checkpoint of what is not stable yet", "vault.checkpointing:Checkpointing.make",
         "stable = vault.horizon.stable()", "stable = vault.standing.log.stamp", "checkpoints"),
    _one("a checkpoint may hold what lies beyond the end of a log", "vault.checkpoints:contradiction",
         "if end.count is not None and end.count <= head.seq:", "if False:", "checkpoints"),
    _one("a checkpoint may know more of the own log than the journal", "vault.starting:_beyond",
         "if head.seq > own_head.seq or", "if False and", "checkpoints"),
    _one("old versions stay behind when a device begins from a checkpoint", "tree.loading:Loader._history",
         'self._db.many("INSERT', '(lambda *_: None)("INSERT', "checkpoints"),
    _one("where contents landed stays behind", "tree.loading:Loader._landings",
         'self._db.many("INSERT', '(lambda *_: None)("INSERT', "checkpoints"),
    _one("places that later segments name are not told", "vault.logpast:_told", "max(least, last - PLACES_MAX, 0)",
         "last", "checkpoints"),
    _one("a device begins where its logs do not stand", "vault.logpast:begin_logs", "head.seq + 1, head.digest",
         "head.seq, head.digest", "checkpoints"),
    _one("the floor rises with the first who vouches", "group.floor:_agreed", "if everybody and",
         "if", "checkpoints"),
    _one("what comes too late below the floor counts", "vault.pull:LogReader._accept",
         "raw.seq >= self._settled_count(raw.log_id)", "False", "checkpoints"),
    _one("a log can end below the floor", "group.ends:_settled",
         "if end.count is not None and end.count < count else end", "if False else end", "checkpoints"),
    _one("a rollup leaves its last segment out", "vault.rollups:Rollups._make",
         "range(chosen.first, chosen.last + 1)", "range(chosen.first, chosen.last)", "collection", "all"),
    _one("single segments are deleted, whatever their rollup holds", "vault.rollups:Rollups._inside",
         "name.first <= seq <= name.last", "True", "collection", "all"),
)  # fmt: skip

MUTANTS = (*_SEALING, *_MERGING, *_COLLECTING, *_VOUCHING, *_CRASHING, *_GROUPING)


@dataclass(frozen=True)
class Catch:
    """A history that notices a mutant: its seed, whether it is one of trees, and what is noticed."""

    seed: int
    of_trees: bool
    failure: BaseException

    def __str__(self) -> str:
        return f"{self.seed}, trees" if self.of_trees else str(self.seed)


def histories(mutant: Mutant, *, turns: int = TURNS) -> Iterator[Plan]:
    """Those of whole vaults in which it can matter, by rising seed."""
    plans = (plan(seed, turns) for seed in itertools.count())
    return (one for one in plans if one.flavour in mutant.flavours)


def hunt(mutant: Mutant, runs: int, *, turns: int = TURNS) -> tuple[Catch | None, int]:
    """Who notices it first, None if none of so many does; and how many histories that took."""
    number = 0
    with weakened(*mutant.edits):
        for seed in range(TREES_MAX if TREES in mutant.flavours else 0):
            number += 1
            failure = failure_of_trees(seed)
            if failure is not None:
                return Catch(seed, True, failure), number
        for one in itertools.islice(histories(mutant, turns=turns), runs):
            number += 1
            failure = failure_of(one)
            if failure is not None:
                return Catch(one.seed, False, failure), number
    return None, number


def failure_of_trees(seed: int) -> BaseException | None:
    """What goes wrong in the history of trees with this seed."""
    try:
        network, group = run(seed, devices=2 + seed % 3, rounds=25)
        check_convergence(network, group)
        check_no_lost_update(network, group[0].replica)
    except Exception as err:
        return err
    return None


def main() -> int:
    """Hunt them all, or those whose rule has a word."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=400)
    parser.add_argument("--turns", type=int, default=TURNS)
    parser.add_argument("--only", default="")
    given = parser.parse_args()
    logging.disable()
    survivors = 0
    print("| rule that is weakened | seed | histories | what is noticed |\n|---|---|---|---|")
    began = time.monotonic()
    for mutant in MUTANTS:
        if given.only not in mutant.rule:
            continue
        found, runs = hunt(mutant, given.runs, turns=given.turns)
        survivors += found is None
        told = f"{found} | {runs} | {cause_of(found.failure)}" if found is not None else f"- | {runs} | **nothing**"
        print(f"| {mutant.rule} | {told} |", flush=True)
    print(f"\n{survivors} survive, {time.monotonic() - began:.0f} s")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
