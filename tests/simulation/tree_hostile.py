"""A member who signs whatever comes to mind: every field from the live tree, from elsewhere, or invented."""

import random

from cryptfs.format.names import copy_inode_of, inode_of
from cryptfs.format.operation import (
    Adopted,
    Create,
    DelXattr,
    Expire,
    Link,
    Op,
    OpId,
    Put,
    Range,
    Rekey,
    Relocate,
    Rename,
    Replaced,
    Restore,
    Retire,
    Rmdir,
    Rules,
    SetAttr,
    SetXattr,
    Undelete,
    Unlink,
    Unretire,
    Ver,
    Where,
)
from cryptfs.format.segment_body import PackRef
from cryptfs.tree import IntegratedSegment
from tests.simulation.tree_device import NAMES, VAULT, content_of
from tests.simulation.tree_group import Device, Network, Sent

ODD_NAMES = [b"", b".", b"..", b"a/b", b"nul\0", b"x" * 255, b"x" * 256, b"lost+found", b"\xff\xfe", b"." * 254 + b"x"]


class Hostile(Device):
    """Never applies anything tentatively; `act` only collects operations for the next segment."""

    def __init__(self, number: int, network: Network, rng: random.Random) -> None:
        super().__init__(number, network, rng)
        self.ops: list[Op] = []

    def act(self) -> None:
        self.ops.append(self._op())

    def send(self, *, everything: bool = True) -> None:
        needs = dict(self.seen)
        self.stamp += 1
        # Numbers used twice would be refused with the segment (S2); operations that carry content keep theirs, since
        # a content is found by its number.
        again = self.rng.random() < 0.3 and not any(getattr(op, "content", None) for op in self.ops)
        first = max(0, self.first_op - 3) if again else self.first_op
        packs = (PackRef(bytes([self.rng.randrange(4)]) * 32, 100, 1),) if self.rng.random() < 0.3 else ()
        digest = self.rng.randbytes(32)
        wall = self.rng.choice([0, 10**12, 2**62, -(2**62), 1_700_000_000_000])
        label = self.rng.choice(["\u202eevil/\0\n", "x" * 500, "", "phone"])
        seg = IntegratedSegment(
            self.log, self.seq, digest, self.stamp, wall, label, 1, first, tuple(self.ops), packs, self.rng.randrange(2)
        )
        self.first_op = first + len(self.ops)
        self.ops = []
        self.seq += 1
        self.network.sent[seg.log, seg.seq] = Sent(seg, needs)
        self.seen[self.log] = seg.seq
        self.replica.integrate([seg])

    # ---- fields

    def _ino(self) -> bytes:
        rng = self.rng
        nodes = self.replica.all_rows("node")
        own = OpId(self.log, self.first_op + rng.randrange(-3, 8) if self.first_op > 3 else rng.randrange(8))
        match rng.randrange(10):
            case 0:
                return rng.choice([inode_of(VAULT, own), copy_inode_of(VAULT, own)])
            case 1:
                return rng.choice([self.replica.ids.root_ino, self.replica.ids.lost_ino])
            case 2:
                return rng.randbytes(16)
            case 3 if self.replica.rows.aliases:
                return self.replica.ino_of(rng.choice(list(self.replica.rows.aliases)))
            case _:
                return self.replica.ino_of(rng.choice(nodes)[0])

    def _ver(self) -> Ver:
        rng = self.rng
        pool = [row[9] for row in self.replica.all_rows("node")] + [row[4] for row in self.replica.all_rows("dirent")]
        if rng.random() < 0.7:
            return self.replica.extern_ver(rng.choice(pool)) or (OpId(b"Z" * 16, 1),)
        ids = {op for blob in rng.choices(pool, k=rng.randrange(1, 12)) for op in self.replica.extern_ver(blob)}
        ids.add(OpId(self.log, rng.randrange(20)))
        return tuple(sorted(ids))[: rng.choice([1, 3, 8, 12])]

    def _named(self) -> tuple[bytes, Ver]:
        entries = self.replica.all_rows("dirent")
        if entries and self.rng.random() < 0.7:
            entry = self.rng.choice(entries)
            return self.replica.ino_of(entry[2]), self.replica.extern_ver(entry[4])
        return self._ino(), self._ver()

    def _name(self) -> bytes:
        held = [row[1] for row in self.replica.all_rows("dirent")]
        return self.rng.choice(NAMES + self.rng.sample(ODD_NAMES, 1) + held[:3])

    def _containers(self) -> tuple[Where, ...]:
        ids = sorted({self.rng.randrange(4) for _ in range(2)})
        return tuple(Where(self.rng.choice([1, 1, 2, 3]), bytes([one]) * 32) for one in ids)

    def _number(self) -> int:
        return self.rng.choice([0, 1, 0o644, 0o10000, 2**31, 2**32, 2**63, -1])

    def _op(self) -> Op:
        rng = self.rng
        content = content_of(b"text %d" % rng.randrange(6), known=rng.random() < 0.8)
        i, lver = self._named()
        match rng.randrange(18):
            case 0 | 1:
                kind = rng.choice([0, 0, 1, 1, 2, 3, 7])
                target = b"there" if kind == 2 else rng.choice([b"", b"", b"odd"])
                size = rng.choice([None, content]) if kind == 0 else None
                number = rng.choice([0o644, self._number()])
                return Create(self._ino(), self._name(), kind, number, 0, 0, 0, 5, target, size)
            case 2 | 3:
                return Put(i, self._ver(), content, rng.choice([5, 2**63 - 1, 2**63, -(2**63)]))
            case 4:
                return Link(i, self._ino(), self._name())
            case 5:
                return Unlink(i, lver, self._ver())
            case 6:
                return Rmdir(i, lver)
            case 7 | 8 | 9:
                two, lver2 = self._named()
                replaced = Replaced(two, lver2, self._ver()) if rng.random() < 0.6 else None
                return Rename(i, lver, self._ino(), self._name(), replaced, rng.choice([0, 0, 1, 2, 3]))
            case 10:
                return SetAttr(i, rng.choice([1, 2, 4, 8, 15, 16, 0]), self._number(), 0, 0, self._number())
            case 11:
                return rng.choice([SetXattr(i, self._name(), b"v"), DelXattr(i, b"user.a")])
            case 12:
                return Undelete(i, self._ino(), self._name())
            case 13:
                return Restore(i, self._ver(), self._ver())
            case 14:
                return Rekey(i, self._ver(), content)
            case 15:
                return rng.choice([Retire, Unretire, Adopted])(self._containers())
            case 16:
                one, two = (*self._containers(), *self._containers())[:2]
                return Relocate(one.where, one.id, two.where, two.id, (Range(rng.randrange(9), 0, 1),))
            case _:
                return rng.choice([Expire(self._number()), Rules(1)])
