"""Each rule is switched off once, and some test must notice. A mutant that survives is a rule nobody tests."""

import inspect
from itertools import product

import pytest
import test_key_gate
import test_log_ends
import test_memory
import test_resolution
import test_segment_validity
from membership_world import mutant_group, real_group
from test_random_histories import THE_SIX

MUTANTS = {
    **THE_SIX,
    "an admission that is void gives no authority": ("roster", "if place.id not in valid:", "if False:"),
    "removed entries leave the roster": ("roster", "if not any(hit_by[entry])}", "}"),
    "contested entries are out": ("roster", "for node in dict.fromkeys(alike)", "for node in ()"),
    "contested needs a superior": (
        "roster",
        "            and superior(node.author, entry)\n        ]",
        "        ]",
    ),
    "contested only if concurrent": ("roster", "and not node.bit & place.ancestors", ""),
    "policy of the nearest": ("roster", "deciding = min(", "deciding = max("),
    "owners above owners": ("authority", "return below.under(above)", "return True"),
    "sound chain of adders": ("authority", "sound = adder.sound and _may_add(adder.tier, tier)", "sound = True"),
    "who may add whom": ("authority", "if not _may_add(author.tier, Tier(op.role)):", "if False:"),
    "role of the author": ("authority", "if not lowest <= author.tier <= highest:", "if False:"),
    "author admitted before": ("authority", "not past.holds(author.entry)", "False"),
    "old commits": ("authority", "past.commit_used(epoch.commit)", "False"),
    "superior of every target": ("authority", "if not all(superior(author, one) for one in known):", "if False:"),
    "targets are known": ("authority", "if not known or len(known) < len(targets):", "if False:"),
    "members have a device removed": (
        "authority",
        "if not set(op.members) <= {one.member for one in known}:",
        "if False:",
    ),
    "no target gets the key": ("authority", "if set(op.targets) & set(op.epoch.to):", "if False:"),
    "cuts list the logs": ("authority", "if {cut.log_id for cut in op.cuts} != logs:", "if False:"),
    "own logs only": (
        "authority",
        "if not {cut.log_id for cut in op.closes} <= past.logs_of(author.entry):",
        "if False:",
    ),
    "logs of subordinates only": (
        "authority",
        "if not (superior(author, owner) or (itself and owner.entry == author.entry)):",
        "if False:",
    ),
    "proof of possession": ("authority", "check_possession(vault, cert, sign_pub, pop)", "pass"),
    "signature": ("graph", "statement.verify(self._key_of(author, statement))", "pass"),
    "several copies": (
        "graph",
        "self._waiting.setdefault(one.id, {})[one.signature] = one",
        "self._waiting[one.id] = {b'': one}",
    ),
    "void statements are not cited": ("graph", "view = View(self.view(valid) | carried)", "view = self.everything"),
    "the frontier is bounded": ("graph", "top = top[:FRONTIER_MAX]", "pass"),
    "gate: issuer and recipients": ("gate", "direct = _bits(entries, (node.author.entry, *epoch.to))", "direct = 0"),
    "gate: handovers": ("gate", "direct | handed.get(eid(epoch.commit), 0)", "direct"),
    "gate: handovers of administrators only": ("gate", "if role is not None and role >= Tier.ADMIN:", "if True:"),
    "gate: history boxes": ("gate", "while _open_boxes(starts, entries, knowing):", "while False:"),
    "gate: boxes of the recovery key and of those who know": (
        "gate",
        "able = node.author.entry == RECOVERY_AUTHOR or author & knowing[earlier.id]",
        "able = True",
    ),
    "end: fork proof": ("ends", "if chain.fork is not None:", "if False:"),
    "end: removals that do not list a log": ("ends", "Cut(log_id, 0, _ZERO))", "Cut(log_id, 1 << 40, _ZERO))"),
    "end: the lowest cut": ("ends", "return min(bounds, key", "return max(bounds, key"),
    "end: accepts": ("ends", "if raised is None or", "if True or"),
    "end: accepts of different branches": ("ends", "shared &= set(branch.items())", "pass"),
    "end: the chain to the segment named": ("ends", "path = self.back_from(end.last or self._firm)", "path = {}"),
    "end: void openers": ("ends", "if opener is None or opener.id not in now.valid:", "if opener is None:"),
}


DIRECT = {
    "S3: stamp": ("validity", "stamp < expected if waived else stamp != expected", "False"),
    "S3: exact stamp": ("validity", "stamp < expected if waived else stamp != expected", "stamp < expected"),
    "S3: limit": ("validity", "stamp > _STAMP_LIMIT or", ""),
    "S3: vector": ("validity", "if head.seq < claim.seen.get(head.log, -1):", "if False:"),
    "S3: waived heads": ("validity", "for head in body.vec if not lost(head)", "for head in body.vec"),
    "S3: lost only": ("validity", "isinstance(op, Close) and op.reason == CLOSE_LOST", "isinstance(op, Close)"),
    "S4: opener": ("validity", "if not opener.bit & view:", "if False:"),
    "S4: monotone": ("validity", "if placed.view & ~view:", "if False:"),
    "S4: heads": (
        "validity", "[*heads, *([claim.before] if claim.before else [])]", "[one for one in [claim.before] if one]",
    ),
    "S4: own previous": ("validity", "[*heads, *([claim.before] if claim.before else [])]", "heads"),
    "S5": ("validity", 'if claim.ks != b"".join(resolver(view).eids):', "if False:"),
    "S5: exactly": ("validity", 'claim.ks != b"".join(', 'claim.ks not in b"".join('),
    "S6: introduction": ("validity", "not any(opener.bit & placed.view for placed in heads)", "False"),
    "S6: exempt": ("validity", "return owner.adder is None or owner.adder.tier is Tier.RECOVERY", "return False"),
    "S6: later logs": ("validity", "if any(cut.count > 0 and", "if False and any(cut.count > 0 and"),
    "S6: later logs exempt": ("validity", "return _closed_by_another(graph, opener, owner)", "return False"),
    "S6: closed by another": ("validity", " and node.author.entry != owner.entry", ""),
    "S7: end": ("validity", "(end.count is None or seq < end.count)", "True"),
    "S8: rules": ("validity", "if tier < Tier.OWNER and", "if False and"),
    "S8: expire": ("validity", "if tier < Tier.ADMIN and", "if False and"),
    "memory: statements": ("memory", "if not sight.has_statement(one)", "if False"),
    "memory: forks": ("memory", "if shown is not None and shown != head.digest:", "if False:"),
    "memory: logs": ("memory", "elif shown is None and not _covers", "elif False and not _covers"),
    "memory: checkpoints cover": ("memory", "checkpoint.seq > head.seq or checkpoint == head", "checkpoint == head"),
    "memory: checkpoint digest": ("memory", "(checkpoint.seq > head.seq or checkpoint == head)", "True"),
    "memory: clones": ("memory", "if own is not None and", "if False and"),
    "memory: roots": ("memory", "sight.stamp == memory.stamp and sight.root != memory.root", "False"),
    "memory: same stamp": ("memory", "sight.stamp == memory.stamp and sight.root", "sight.root"),
    "memory: least format": ("memory", "if sight.min_format < memory.min_format:", "if False:"),
    "memory: least format stays": ("memory", "max(memory.min_format, sight.min_format)", "sight.min_format"),
    "memory: heads never go back": ("memory", "if known is None or head.seq > known.seq:", "if True:"),
    "memory: stamp never goes back": ("memory", "sight.root and sight.stamp > memory.stamp", "sight.root"),
    "memory: clock": ("memory", "return max(own_ms, memory.clock_ms, *others_ms)", "return own_ms"),
    "memory: context": ("memory", 'local_ctx("memory", vault), data', 'local_ctx("memory", bytes(range(32))), data'),
    "memory: form": ("memory", "        _check(memory)\n", ""),
}  # fmt: skip


def every_case(module):
    """The tests of a module with their parameters, and the fixtures they want, as pytest would call them."""
    for name, test in vars(module).items():
        if not name.startswith("test_"):
            continue
        marks = [mark for mark in getattr(test, "pytestmark", []) if mark.name == "parametrize"]
        for values in product(*(mark.args[1] for mark in marks)):
            given = {}
            for mark, value in zip(marks, values, strict=True):
                names = [mark.args[0]] if isinstance(mark.args[0], str) else mark.args[0]
                given |= zip(names, [value] if isinstance(mark.args[0], str) else value, strict=True)
            wanted = [one for one in inspect.signature(test).parameters if one not in given]
            yield test, given, wanted


def fixtures(wanted, group):
    made = {"group": group}
    if "scene" in wanted:
        made["scene"] = test_segment_validity.Scene(group)
    if {"store", "memory"} & set(wanted):
        made["store"] = test_memory.new_store()
        made["memory"] = test_memory.first_memory(made["store"])
    return {one: made[one] for one in wanted}


TESTS_OF = {
    "gate": (test_key_gate,),
    "ends": (test_log_ends,),
    "validity": (test_segment_validity,),
    "memory": (test_memory,),
}


def survives(group, room) -> bool:
    """Whether all tests of a room pass."""
    for module in TESTS_OF.get(room, (test_resolution, test_key_gate, test_log_ends)):
        for test, given, wanted in every_case(module):
            try:
                test(**given, **fixtures(wanted, group))
            except pytest.skip.Exception:
                continue
            except (Exception, pytest.fail.Exception):
                return False
    return True


@pytest.mark.parametrize("mutant", DIRECT, ids=str)
def test_every_rule_of_segments_and_memory_is_missed_when_it_is_gone(mutant, monkeypatch):
    room, old, new = DIRECT[mutant]
    module = mutant_group(room, old, new)
    for name in getattr(module, room).__all__:
        monkeypatch.setattr(TESTS_OF[room][0], name, getattr(getattr(module, room), name), raising=False)
    assert not survives(module, room)


@pytest.mark.parametrize("room", TESTS_OF)
def test_the_tests_pass_when_no_rule_is_gone(room):
    assert survives(real_group(), room)


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_every_rule_is_missed_when_it_is_gone(mutant):
    assert not survives(mutant_group(*MUTANTS[mutant]), MUTANTS[mutant][0])
