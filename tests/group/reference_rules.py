"""The rules of resolution once more, straight from their definition: recursive, with sets, slow, and without ranks.

Written to disagree with `cryptfs/group/` wherever that one is clever. A cycle in the recursion is an error.
"""

from dataclasses import dataclass, field

from cryptfs.format.statement import RECOVERY_AUTHOR, Add, Genesis, Remove, Rotate, SetPolicy, Statement


@dataclass
class Rules:
    """`flawed` are statements that can never have effect by themselves (the conditions of the table of statements)."""

    vault: bytes
    statements: dict[bytes, Statement]
    flawed: set[bytes]
    _valid: dict[bytes, bool] = field(default_factory=dict)
    _busy: set[bytes] = field(default_factory=set)
    _anc: dict[bytes, frozenset[bytes]] = field(default_factory=dict)

    def op(self, one: bytes):
        return self.statements[one].payload.op

    def author(self, one: bytes) -> bytes:
        return self.vault if one == self.vault else self.statements[one].payload.author

    def anc(self, one: bytes) -> frozenset[bytes]:
        if one not in self._anc:
            prev = self.statements[one].payload.prev
            self._anc[one] = frozenset(prev).union(*(self.anc(earlier) for earlier in prev))
        return self._anc[one]

    def tier(self, entry: bytes) -> int:
        if entry == RECOVERY_AUTHOR:
            return 4
        return 3 if entry == self.vault else self.op(entry).role

    def adder(self, entry: bytes) -> bytes:
        return RECOVERY_AUTHOR if entry == self.vault else self.author(entry)

    def above(self, entry: bytes) -> list[bytes]:
        found = []
        while entry != RECOVERY_AUTHOR:
            entry = self.adder(entry)
            found.append(entry)
        return found

    def chain_ok(self, entry: bytes) -> bool:
        while entry != RECOVERY_AUTHOR:
            adder = self.adder(entry)
            if not (self.tier(adder) >= 3 or (self.tier(adder) == 2 and self.tier(entry) <= 1)):
                return False
            entry = adder
        return True

    def superior(self, i: bytes, j: bytes) -> bool:
        if i == RECOVERY_AUTHOR:
            return True
        both_owners = self.tier(i) == 3 and self.tier(j) == 3
        return (self.tier(i) >= 2 and self.tier(i) > self.tier(j)) or (both_owners and i in self.above(j))

    def member(self, entry: bytes) -> bytes:
        return self.op(entry).member

    def key(self, entry: bytes) -> bytes:
        return self.op(entry).device.sign_pub

    def hits(self, removal: bytes, entry: bytes) -> bool:
        op = self.op(removal)
        author = self.author(removal)
        if not isinstance(op, Remove) or not self.chain_ok(author) or not self.superior(author, entry):
            return False
        if entry in op.targets:
            return True
        concurrent = entry not in self.anc(removal) and removal not in self.anc(entry)
        same = self.member(entry) in op.members or any(self.key(entry) == self.key(t) for t in op.targets)
        return concurrent and same

    def valid(self, one: bytes) -> bool:
        if one not in self._valid:
            assert one not in self._busy, "the definition of validity runs in a circle"
            self._busy.add(one)
            self._valid[one] = self._is_valid(one)
            self._busy.discard(one)
        return self._valid[one]

    def _is_valid(self, one: bytes) -> bool:
        if one == self.vault:
            return True
        if one in self.flawed:
            return False
        author = self.author(one)
        if author == RECOVERY_AUTHOR:
            return True
        if author not in self.anc(one) or not self.chain_ok(author) or not self.valid(author):
            return False
        return not any(
            self.hits(removal, author) and one not in self.anc(removal) and removal != one and self.valid(removal)
            for removal in self.statements
            if isinstance(self.op(removal), Remove)
        )

    def roster(self) -> set[bytes]:
        removals = [one for one in self.statements if isinstance(self.op(one), Remove) and self.valid(one)]
        entries = [one for one in self.statements if isinstance(self.op(one), Add | Genesis) and self.valid(one)]
        return {one for one in entries if not any(self.hits(removal, one) for removal in removals)}

    def maximal(self, kind) -> set[bytes]:
        found = [one for one in self.statements if isinstance(self.op(one), kind) and self.valid(one)]
        return {one for one in found if not any(one in self.anc(other) for other in found)}

    def epochs(self) -> set[bytes]:
        return self.maximal(Remove | Rotate)

    def policy(self) -> bytes:
        found = self.maximal(SetPolicy) or {self.vault}
        return min(found, key=lambda one: (len(self.above(self.author(one))), one))

    def possible(self) -> dict[bytes, set[bytes]]:
        """knows(x, e) of the key gate, without wraps: epoch statement -> entries."""
        starts = [one for one in self.statements if isinstance(self.op(one), Remove | Rotate)]
        entries = {one for one in self.statements if isinstance(self.op(one), Add | Genesis)}
        knows = {one: ({self.author(one), *self.op(one).epoch.to} & entries) for one in starts}
        while True:
            before = {one: len(who) for one, who in knows.items()}
            for later in starts:
                for one in starts:
                    author = self.author(later)
                    if one in self.anc(later) and (author == RECOVERY_AUTHOR or author in knows[one]):
                        knows[one] |= knows[later]
            if before == {one: len(who) for one, who in knows.items()}:
                return knows

    def gate_open(self) -> bool:
        knows, roster = self.possible(), self.roster()
        return any(knows[one] <= roster for one in self.epochs())
