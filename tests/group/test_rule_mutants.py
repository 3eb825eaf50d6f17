"""Each rule is switched off once, and some test must notice. A mutant that survives is a rule nobody tests."""

from itertools import product

import pytest
import test_key_gate
import test_log_ends
import test_resolution
from histories import INVARIANTS, History, check_alone
from membership_world import mutant_group

STRONG_REMOVAL = ("roster", "elif any(not node.bit & removal.ancestors for removal in named + alike):", "elif False:")
STATIC_RANK = ("authority", "above.tier > below.tier", "above.tier >= below.tier")
REMOVAL_ROTATES = ("authority", "isinstance(op, Remove | Rotate)", "isinstance(op, Rotate)")
ALL_MAXIMAL = ("roster", "key=lambda one: (one.eid, one.statement)))", "key=lambda one: (one.eid, one.statement)))[:1]")
VOID_EPOCHS = ("roster", "_epochs(graph, valid.values())", "_epochs(graph, graph.nodes(graph.everything))")

MUTANTS = {
    "strong removal": STRONG_REMOVAL,
    "static rank": STATIC_RANK,
    "removal rotates": REMOVAL_ROTATES,
    "all maximal epochs": ALL_MAXIMAL,
    "void epochs do not count": VOID_EPOCHS,
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
    "key gate": ("gate", "if not all(leaks) and leaks:", "if leaks:"),
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
    "end: the chain to the segment named": ("ends", "path = self.back_from(end.last) if end.last else {}", "path = {}"),
    "end: void openers": ("ends", "if opener is None or opener.id not in now.valid:", "if opener is None:"),
}


def every_case(module):
    """The tests of a module as calls that want a group only."""
    for name, test in vars(module).items():
        if name.startswith("test_"):
            marks = [mark for mark in getattr(test, "pytestmark", []) if mark.name == "parametrize"]
            for values in product(*(mark.args[1] for mark in marks)):
                yield test, {mark.args[0]: value for mark, value in zip(marks, values, strict=True)}


FIRST = {"gate": test_key_gate, "ends": test_log_ends}


def survives(group, room) -> bool:
    modules = [test_resolution, test_key_gate, test_log_ends]
    modules.sort(key=lambda module: module is not FIRST.get(room, test_resolution))
    for module in modules:
        for test, arguments in every_case(module):
            try:
                test(group, **arguments)
            except pytest.skip.Exception:
                continue
            except Exception:
                return False
            except pytest.fail.Exception:
                return False
    return True


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_every_rule_is_missed_when_it_is_gone(mutant):
    assert not survives(mutant_group(*MUTANTS[mutant]), MUTANTS[mutant][0])


@pytest.mark.parametrize(
    "mutant",
    [STRONG_REMOVAL, STATIC_RANK, REMOVAL_ROTATES, ALL_MAXIMAL, VOID_EPOCHS, MUTANTS["key gate"]],
    ids=["strong removal", "static rank", "removal rotates", "all maximal epochs", "void epochs", "key gate"],
)
def test_random_histories_notice_too(mutant):
    group = mutant_group(*mutant)
    for seed in range(200):
        history = History(group, seed)
        try:
            for check in (*INVARIANTS[1:4], check_alone, *INVARIANTS[4:]):
                check(history)
        except AssertionError:
            print("noticed by", check.__name__, "with seed", seed)
            return
    pytest.fail("two hundred histories did not notice")
