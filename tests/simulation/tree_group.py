"""Several devices that exchange segments in random order, in one process: no store, no keys, no clock.

Every device applies a segment only after its predecessor and all that its author had applied (causal delivery). What a
device has not pulled yet is as if it were offline.
"""

import random
from dataclasses import dataclass, field

from msgspec.structs import replace

from cryptfs.format.operation import KIND_FILE, Create, Expire, OpId, Put, Rekey, Rename, Restore, Undelete, Unlink
from cryptfs.tree import IntegratedSegment, Replica
from tests.simulation.tree_device import LocalUser, check_tree, content_of, open_replica, state_of

Key = tuple[bytes, int]


@dataclass
class Sent:
    """A segment on its way, and the heads its author had applied."""

    seg: IntegratedSegment
    needs: dict[bytes, int]


@dataclass
class Network:
    """All segments ever sealed, by log and number."""

    sent: dict[Key, Sent] = field(default_factory=dict)


class Device(LocalUser):
    """A user with peers. `seen` is the head of every log it has applied, `stamp` the highest L among them."""

    def __init__(self, number: int, network: Network, rng: random.Random) -> None:
        super().__init__(open_replica(), rng, bytes([65 + number]) * 16)
        self.network = network
        self.label = f"laptop {number}"
        self.seen: dict[bytes, int] = {}
        self.stamp = 0
        self.role = 2

    # ---- more to do than in a single history

    def act(self) -> None:
        if self.rng.random() < 0.9:
            super().act()
        else:
            self.rng.choice([self.undelete, self.restore, self.rekey])()

    def undelete(self) -> None:
        gone = [row[0] for row in self.replica.all_rows("node") if row[14] is not None]
        free = self._free()
        if gone and free is not None:
            ino = self.replica.ino_of(self.rng.choice(gone))
            self.submit(Undelete(ino, self.replica.ino_of(free[0]), free[1]))

    def restore(self) -> None:
        kept = self.replica.all_rows("history")
        if kept:
            st, cver, *_ = self.rng.choice(kept)
            node = self.replica.node(st)
            assert node is not None
            base, old = self.replica.extern_ver(node.cver), self.replica.extern_ver(cver)
            self.submit(Restore(self.replica.ino_of(st), base, old))

    def rekey(self) -> None:
        """Of the present content or of an old version; now and then with other bytes, which must come to nothing."""
        kept = [(st, cver, carrier) for st, cver, carrier, *_ in self.replica.all_rows("history") if carrier]
        entry = self._entry(0)
        if kept and self.rng.random() < 0.5:
            st, cver, carrier = self.rng.choice(kept)
        elif entry is not None:
            row = self.replica.rows.node(entry.st)
            assert row is not None
            st, cver, carrier = row.st, row.cver, self.replica.ids.external(row.content or b"")
        else:
            return
        content = self.replica.facts.content(carrier)
        if content is None or self.rng.random() < 0.2:
            content = content_of(self._text())
        self.submit(Rekey(self.replica.ino_of(st), self.replica.extern_ver(cver), content))

    def expire(self) -> None:
        """Sealed at once, as only the floor decides what may go."""
        self.submit(Expire(self.rng.randrange(max(self.stamp, 1))))

    # ---- exchange

    def send(self, *, everything: bool = False) -> None:
        """Seal what is pending, or its first half, as when operations arrive while packs are on their way."""
        needs = dict(self.seen)
        self.stamp += 1
        upto = None if everything else self.rng.choice([None, len(self.pending) // 2])
        seg, vanished, last = self.seal(self.stamp, upto=upto)
        self.network.sent[seg.log, seg.seq] = Sent(seg, needs)
        self.seen[self.log] = seg.seq
        if not self.replica.mark_sealed(seg, last, vanished):
            self._integrate([seg])

    def ready(self) -> list[IntegratedSegment]:
        """Segments that could be applied now."""
        found = []
        for (log, seq), sent in self.network.sent.items():
            if seq == self.seen.get(log, -1) + 1 and all(self.seen.get(a, -1) >= n for a, n in sent.needs.items()):
                found.append(sent.seg)
        return sorted(found, key=lambda seg: seg.log)

    def pull(self, most: int = 1 << 30) -> None:
        """Take in up to `most` segments that are ready, in random order, as one batch."""
        batch: list[IntegratedSegment] = []
        while len(batch) < most:
            ready = self.ready()
            if not ready:
                break
            seg = self.rng.choice(ready)
            batch.append(seg)
            self.seen[seg.log] = seg.seq
            self.stamp = max(self.stamp, seg.stamp)
        if batch:
            self._integrate([as_foreign(seg) for seg in batch])

    def _integrate(self, batch: list[IntegratedSegment]) -> None:
        mine = own_edits(self.replica)
        self.replica.integrate(batch, [(one.k, one.op) for one in self.pending])
        left = {one.k for one in self.pending if isinstance(one.op, Create | Put)}
        lost = (mine & left) - own_edits(self.replica) - self._deleted()
        assert not lost, f"own unsealed edits {lost} are not visible any more"

    def _deleted(self) -> set[int]:
        """Own edits that the user himself has deleted or replaced; a conflict may show them again for a while."""
        found: set[int] = set()
        for one in self.pending:
            if isinstance(one.op, Unlink):
                found |= {op.n for op in one.op.cver}
            elif isinstance(one.op, Rename) and one.op.replaced is not None:
                found |= {op.n for op in one.op.replaced.cver}
        return found


def as_foreign(seg: IntegratedSegment) -> IntegratedSegment:
    """The segment as another device gets it."""
    return replace(seg, own=False, ids={})


def own_edits(replica: Replica) -> set[int]:
    """Local operations whose content, not sealed yet, lies in a file that is linked and not empty.

    (Empty files of one name become one file, and what is written to it next replaces nothing of value.)
    """
    found = set()
    for row in replica.all_rows("node"):
        if row[1] == KIND_FILE and row[6] > 0 and row[14] is None:
            found |= {op.n for op in replica.extern_ver(row[9]) if op.log == b"\xff" * 16}
    return found


def versions_kept(replica: Replica) -> set[OpId]:
    """All versions that are in a node (linked or in the trash) or in the history."""
    found: set[OpId] = set()
    for row in replica.all_rows("node"):
        found.update(replica.extern_ver(row[9]))
    for row in replica.all_rows("history"):
        found.update(replica.extern_ver(row[1]))
    return found


def check_no_lost_update(network: Network, replica: Replica) -> None:
    """Invariants 16 and 17: nothing written is gone, and nothing was deleted by somebody who had not seen it."""
    kept = versions_kept(replica)
    seen_by_deleters = set()
    for sent in network.sent.values():
        for n, op in enumerate(sent.seg.ops, sent.seg.first_op):
            if isinstance(op, Put) or (isinstance(op, Create) and op.content is not None):
                assert OpId(sent.seg.log, n) in kept, f"the content of {op} is lost"
            if isinstance(op, Unlink):
                seen_by_deleters.add(op.cver)
            if isinstance(op, Rename) and op.replaced is not None:
                seen_by_deleters.add(op.replaced.cver)
    for row in replica.all_rows("node"):
        if row[1] == 0 and row[14] is not None:
            assert replica.extern_ver(row[9]) in seen_by_deleters, "deleted without having been seen"


def run(seed: int, *, devices: int, rounds: int, expire: bool = False) -> tuple[Network, list[Device]]:
    """A random history; afterwards everybody has everything."""
    rng = random.Random(seed)
    network = Network()
    group = [Device(number, network, rng) for number in range(devices)]
    offline = {rng.randrange(devices)} if rng.random() < 0.5 else set()
    for turn in range(rounds):
        device = rng.choice(group)
        for _ in range(rng.choice([1, 4, 12])):
            device.act()
        if device not in [group[i] for i in offline] or turn % 11 == 10:
            if rng.random() < 0.6:
                device.pull(rng.choice([1, 3, 1000]))
            if rng.random() < 0.5:
                if expire and rng.random() < 0.3:
                    device.expire()
                device.send()
        check_tree(device.replica)
    settle(group)
    return network, group


def settle(group: list[Device]) -> None:
    """Everybody sends what is left, everybody gets everything."""
    for device in group:
        device.pull()
        device.send(everything=True)
    for device in group:
        device.pull()
        check_tree(device.replica)


def replayed(network: Network, cut: set[Key]) -> Replica:
    """A replica that gets all segments but those in `cut` at once, in order."""
    replica = open_replica()
    valid = [as_foreign(sent.seg) for key, sent in network.sent.items() if key not in cut]
    replica.integrate(valid, stable=1 << 40)
    return replica


def check_convergence(network: Network, group: list[Device], cut: set[Key] | None = None) -> None:
    """Equal sets of segments, equal State, whatever the order of arrival; and equal to a replay from nothing."""
    expected = state_of(replayed(network, cut or set()))
    for device in group:
        found = state_of(device.replica)
        for table, rows in expected.items():
            assert found[table] == rows, f"{table} of {device.label}"
