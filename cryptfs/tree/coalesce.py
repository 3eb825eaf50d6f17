"""What need not travel: operations of one batch that undo, repeat or complete each other become fewer.

docs/replication.md, "Coalescing". Nobody can see between two operations of one segment, so only the outcome counts.
The result is a list of groups: one operation that stands for the local operations `ks`, at the place of the first.

Names are known here only for links that the batch itself placed: operations name a link by (inode, version). Wherever a
name that is not known could matter, nothing is joined.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from cryptfs.format.operation import (
    RENAME_EXCHANGE,
    SET_GID,
    SET_MODE,
    SET_MTIME,
    SET_UID,
    Create,
    DelXattr,
    Link,
    Op,
    Put,
    Rekey,
    Rename,
    Restore,
    Rmdir,
    SetAttr,
    SetXattr,
    Undelete,
    Unlink,
    Ver,
    provisional_ino,
    provisional_number,
)

__all__ = ["Coalesced", "Group", "Pending", "coalesce"]


@dataclass(frozen=True, slots=True)
class Pending:
    """Local operation number `k`, not sealed yet."""

    k: int
    op: Op


@dataclass(slots=True)
class Group:
    """One operation to be sealed, and the local operations it stands for, ascending."""

    op: Op
    ks: list[int]


@dataclass(frozen=True, slots=True)
class Coalesced:
    """`groups` in order; `vanished`: creates whose nodes never existed for anybody else."""

    groups: list[Group]
    vanished: list[int]


Place = tuple[bytes, bytes]

_PLAIN = (Put, SetAttr, SetXattr, DelXattr, Link, Unlink, Rmdir, Rename)
"""Operations whose effect on a node is known without looking at the tree; the others stop all joining."""


@dataclass(slots=True)
class _Made:
    """A node that the batch itself makes. `at`: index of its create; `slots`: indices of all operations on it."""

    at: int
    kind: int
    slots: list[int]
    links: int = 1
    fixed: bool = False  # something else depends on it: it cannot vanish
    parent_of: int = 0  # operations that name it as a parent
    moved_into: bool = False  # a rename put something into it
    takes_content: bool = True  # puts may still be absorbed by the create


@dataclass(slots=True)
class _Batch:
    slots: list[Group | None] = field(default_factory=list)
    made: dict[bytes, _Made] = field(default_factory=dict)
    places: dict[tuple[int, bytes], Place] = field(default_factory=dict)  # (k, inode) of a link placed here
    leader: dict[int, int] = field(default_factory=dict)  # k -> index of the slot it became part of
    touched: dict[Place, int] = field(default_factory=dict)
    unknown: int = -1  # index of the last operation that freed a name we do not know
    last_put: dict[bytes, int] = field(default_factory=dict)
    settings: dict[bytes, list[int]] = field(default_factory=dict)
    mentioned: dict[bytes, int] = field(default_factory=dict)  # inode -> index of the last operation that names it
    last_use: dict[bytes, int] = field(default_factory=dict)  # inode -> index of the last operation on it
    citers: dict[int, set[bytes]] = field(default_factory=dict)  # k -> inodes of the operations whose versions name it
    vanished: list[int] = field(default_factory=list)
    kept: frozenset[int] = frozenset()


def coalesce(pending: Sequence[Pending], later: Sequence[Pending] = (), kept: Collection[int] = ()) -> Coalesced:
    """Join what can be joined. `pending` in local order, each inode and version under one name only (see `settle`).

    `later`: operations that stay pending; what they depend on must not vanish. `kept`: creates (k) that must not.
    """
    batch = _Batch(kept=frozenset(kept))
    for index, one in enumerate((*pending, *later)):
        _look_ahead(batch, index, one.op)
    for index, one in enumerate(pending):
        batch.slots.append(None)
        _add(batch, index, one.k, one.op)
    return Coalesced([slot for slot in batch.slots if slot is not None], batch.vanished)


def _look_ahead(batch: _Batch, index: int, op: Op) -> None:
    """Note what must stay because a later operation depends on it."""
    cited: list[tuple[bytes, Ver]] = []
    match op:
        case Put() | Rekey():
            cited = [(op.i, op.base)]
        case Restore():
            cited = [(op.i, op.base), (op.i, op.old)]
        case Unlink():
            cited = [(op.i, op.lver), (op.i, op.cver)]
        case Rmdir() | Rename():
            cited = [(op.i, op.lver)]
        case _:
            pass
    if isinstance(op, Rename) and op.replaced is not None:
        cited += [(op.replaced.i, op.replaced.lver), (op.replaced.i, op.replaced.cver)]
    for inode, ver in cited:
        for number in map(provisional_number, ver):
            if number is not None:
                batch.citers.setdefault(number, set()).add(inode)
    batch.last_use[getattr(op, "i", b"")] = index


def _add(batch: _Batch, index: int, k: int, op: Op) -> None:
    match op:
        case Create():
            batch.made[provisional_ino(k)] = _Made(index, op.kind, [index], fixed=k in batch.kept)
            _placed(batch, index, k, provisional_ino(k), (op.p, op.name))
        case Put():
            if _join_put(batch, k, op):
                return
            batch.last_put[op.i] = index
        case Link():
            _placed(batch, index, k, op.i, (op.p, op.name))
        case Unlink() | Rmdir():
            if _vanish(batch, index, op):
                return
            _freed(batch, index, op.i, op.lver)
        case Rename():
            if _join_rename(batch, index, k, op):
                return
            _moved(batch, index, k, op)
        case SetAttr():
            if _join_setattr(batch, k, op):
                return
            batch.settings.setdefault(op.i, []).append(index)
        case SetXattr() | DelXattr():
            pass
        case _:
            batch.unknown = index
    batch.slots[index] = Group(op, [k])
    batch.leader[k] = index
    _mention(batch, index, op)


def _mention(batch: _Batch, index: int, op: Op) -> None:
    """Note which inodes the operation in this slot names."""
    inode = getattr(op, "i", None)
    if inode is not None:
        batch.mentioned[inode] = index
        made = batch.made.get(inode)
        if made is not None:
            made.slots.append(index)
        if not isinstance(op, _PLAIN):
            batch.last_put.pop(inode, None)
            if made is not None:
                made.fixed, made.takes_content = True, False
    parent = _parent(op)
    if parent is not None:
        batch.mentioned[parent] = index
        if parent in batch.made:
            batch.made[parent].parent_of += 1


def _parent(op: Op) -> bytes | None:
    match op:
        case Create() | Link() | Undelete():
            return op.p
        case Rename():
            return op.p2
        case _:
            return None


# ---- names ---------------------------------------------------------------------------------------------------------


def _placed(batch: _Batch, index: int, k: int, inode: bytes, place: Place) -> None:
    batch.places[k, inode] = place
    batch.touched[place] = index
    made = batch.made.get(inode)
    if made is not None and made.at != index:
        made.links += 1


def _freed(batch: _Batch, index: int, inode: bytes, lver: Ver) -> Place | None:
    """The link placed by `lver` goes: note which name that touches."""
    place = None
    for one in lver:
        number = provisional_number(one)
        place = place or (None if number is None else batch.places.pop((number, inode), None))
    made = batch.made.get(inode)
    if made is not None:
        made.links -= 1
    if place is None:
        batch.unknown = index
    else:
        batch.touched[place] = index
        batch.mentioned[place[0]] = index
    return place


def _moved(batch: _Batch, index: int, k: int, op: Rename) -> None:
    """A rename that stays one: whatever it meets can no longer vanish or be made elsewhere."""
    old = op.replaced
    source = _freed(batch, index, op.i, op.lver)
    target = (op.p2, op.name2)
    if old is not None:
        there = _freed(batch, index, old.i, old.lver)
        for inode in (op.i, old.i):
            if inode in batch.made:
                batch.made[inode].fixed = True
        batch.mentioned[old.i] = index
        if op.flags == RENAME_EXCHANGE:
            target = there or target
            if source is not None:
                _placed(batch, index, k, old.i, source)
            elif old.i in batch.made:
                batch.made[old.i].links += 1
    _placed(batch, index, k, op.i, target)
    for parent in (op.p2, *(place[0] for place in (source, target) if place is not None)):
        if parent in batch.made:
            batch.made[parent].moved_into = True


def _join_rename(batch: _Batch, index: int, k: int, op: Rename) -> bool:
    """Create + rename = create at the final name, if that was free all the time since and the directory was there."""
    made = batch.made.get(op.i)
    if made is None or op.replaced is not None or len(op.lver) != 1:
        return False
    number = provisional_number(op.lver[0])
    slot = batch.slots[made.at]
    if number is None or slot is None or batch.leader.get(number) != made.at or not isinstance(slot.op, Create):
        return False
    if (number, op.i) not in batch.places:
        return False
    target = (op.p2, op.name2)
    parent = batch.made.get(op.p2)
    late = parent is not None and parent.at > made.at
    if late or max(batch.touched.get(target, -1), batch.unknown) > made.at or made.moved_into:
        return False
    batch.touched[batch.places.pop((number, op.i))] = index
    batch.places[k, op.i] = target
    batch.touched[target] = index
    if slot.op.p in batch.made:
        batch.made[slot.op.p].parent_of -= 1
    if parent is not None:
        parent.parent_of += 1
    batch.mentioned[op.p2] = batch.mentioned[slot.op.p] = index
    _take(batch, made.at, slot, k)
    slot.op = replace(slot.op, p=op.p2, name=op.name2)
    return True


def _take(batch: _Batch, at: int, slot: Group, k: int) -> None:
    slot.ks.append(k)
    batch.leader[k] = at


# ---- contents and attributes ---------------------------------------------------------------------------------------


def _join_put(batch: _Batch, k: int, op: Put) -> bool:
    """Create + put, put + put: the last content at the place of the first, made from what the first was made from."""
    made = batch.made.get(op.i)
    at = batch.last_put.get(op.i)
    if at is None and made is not None and made.takes_content:
        at = made.at
    slot = None if at is None else batch.slots[at]
    if at is None or slot is None:
        return False
    numbers = [provisional_number(one) for one in op.base]
    if not any(number is not None and batch.leader.get(number) == at for number in numbers):
        return False
    if not isinstance(slot.op, Create | Put):
        return False
    slot.op = replace(slot.op, content=op.content, mtime_ns=op.mtime_ns)
    _take(batch, at, slot, k)
    _unset_mtime(batch, op.i, at)
    return True


def _unset_mtime(batch: _Batch, inode: bytes, after: int) -> None:
    """A put that moved up must still have the last word on mtime: settings it passed lose theirs."""
    kept = []
    for at in batch.settings.get(inode, ()):
        slot = batch.slots[at]
        if slot is None or not isinstance(slot.op, SetAttr):
            continue
        if at > after and slot.op.mask & SET_MTIME:
            slot.op = replace(slot.op, mask=slot.op.mask & ~SET_MTIME, mtime_ns=0)
            if slot.op.mask == 0:
                batch.slots[at] = None
                continue
        kept.append(at)
    batch.settings[inode] = kept


def _join_setattr(batch: _Batch, k: int, op: SetAttr) -> bool:
    """Setattr + setattr = one, later fields win. An mtime moves up only past nothing that could set it."""
    settings = batch.settings.get(op.i)
    at = settings[-1] if settings else None
    slot = None if at is None else batch.slots[at]
    if at is None or slot is None or not isinstance(slot.op, SetAttr):
        return False
    if op.mask & SET_MTIME and (batch.mentioned.get(op.i) != at or batch.unknown > at):
        return False
    old = slot.op
    slot.op = SetAttr(
        old.i,
        old.mask | op.mask,
        op.mode if op.mask & SET_MODE else old.mode,
        op.uid if op.mask & SET_UID else old.uid,
        op.gid if op.mask & SET_GID else old.gid,
        op.mtime_ns if op.mask & SET_MTIME else old.mtime_ns,
    )
    _take(batch, at, slot, k)
    return True


def _ks(batch: _Batch, at: int) -> list[int]:
    slot = batch.slots[at]
    return [] if slot is None else slot.ks


# ---- what never existed for anybody else ---------------------------------------------------------------------------


def _vanish(batch: _Batch, index: int, op: Unlink | Rmdir) -> bool:
    """Create ... unlink of the only link = nothing, unless something else depends on the node."""
    made = batch.made.get(op.i)
    if made is None or made.fixed or made.links != 1 or made.parent_of or len(op.lver) != 1:
        return False
    if batch.last_use[op.i] != index:
        return False  # it comes back from the trash
    ks = [k for at in made.slots for k in _ks(batch, at)]
    if any(batch.citers.get(k, set()) - {op.i} for k in ks):
        return False  # after a conflict its content, or its name, was merged into another file
    number = provisional_number(op.lver[0])
    place = None if number is None else batch.places.pop((number, op.i), None)
    slot = batch.slots[made.at]
    if place is None or slot is None:
        return False
    batch.touched[place] = index
    batch.vanished.append(slot.ks[0])
    for at in made.slots:
        dropped = batch.slots[at]
        parent = None if dropped is None else batch.made.get(_parent(dropped.op) or b"")
        if parent is not None:
            parent.parent_of -= 1
        batch.slots[at] = None
    del batch.made[op.i]
    return True
