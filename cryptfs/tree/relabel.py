"""Tentative operations become a sealed segment where they stand: names and stamps change, the tree does not.

Taking them back and integrating the segment (`tree/integrate.py`) gives the same State, and is what happens whenever
anything came between or did not simply go through. While a device writes undisturbed this costs a fraction: ids are
translated by a table (`tree/ids.py`), so only what follows from the stamp and the clock of the segment is written.
Later tentative operations stay on top; what they remember of the rows that change here is corrected too.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from cryptfs.format.operation import (
    SET_MTIME,
    Create,
    DelXattr,
    Link,
    Op,
    Put,
    Rename,
    Rmdir,
    SetAttr,
    SetXattr,
    Unlink,
)
from cryptfs.tree.core import Core
from cryptfs.tree.ids import st_of_k
from cryptfs.tree.integrate import advance, name_containers, wall_ns_of
from cryptfs.tree.rows import Entry, History, NodeRow
from cryptfs.tree.schema import ReplicaDamaged
from cryptfs.tree.segment import IntegratedSegment
from cryptfs.tree.undo import Table

__all__ = ["mark_sealed"]

_PLAIN: Final = (Create, Put, Link, Unlink, Rmdir, Rename, SetAttr, SetXattr, DelXattr)

_Change = tuple[int, tuple[Any, ...], tuple[Any, ...] | None]
"""Table, key, and the row before."""


@dataclass(slots=True)
class _Batch:
    """The tentative operations that are being sealed.

    `changes`: what each k changed; `first`: unit of the first, or `seal_u`; `later`: unit where the operations begin
    that stay tentative, or None; `seal_u`: the odd unit for what changes here; `keep`: whether it may have to be
    undone. `nodes`, `dirs` as in `Step`; `written`: all nodes whose rows the operations wrote.
    """

    seg: IntegratedSegment
    upto_k: int
    changes: dict[int, list[_Change]]
    first: int
    later: int | None
    seal_u: int
    keep: bool
    nodes: set[int] = field(default_factory=set)
    dirs: set[int] = field(default_factory=set)
    written: set[int] = field(default_factory=set)


def mark_sealed(core: Core, seg: IntegratedSegment, upto_k: int, vanished: Iterable[int], *, stable: int) -> bool:
    """The tentative operations with k <= `upto_k` are `seg` now, made of them by `make_batch` (`seg.ids`, `vanished`).

    `stable`: at or below this stamp nothing will ever be inserted; a device that is alone gives `seg.stamp`. False, and
    nothing has changed, if the segment does not come last or some operation did not simply go through: then
    `integrate` it.
    """
    batch = _batch(core, seg, upto_k, keep=seg.stamp > stable)
    if batch is None:
        return False
    leaders = _leaders(seg)
    _learn(core, seg, leaders)
    core.undo.u, present = batch.seal_u, core.undo.u
    core.undo.enabled = batch.keep
    try:
        name_containers(core, seg)
        for n, op in enumerate(seg.ops, seg.first_op):
            _touch(core, batch, op, leaders[n])
            if isinstance(op, Put):
                _keep_old(core, batch, op, seg.log + n.to_bytes(8, "big"), leaders[n])
        _correct(core, batch)
        for k in vanished:
            _purge(core, st_of_k(k))
    finally:
        core.undo.u, core.undo.enabled = max(present, batch.seal_u + 1), True
    core.tentative.drop(upto_k)
    core.applied.set_head(seg)
    if batch.keep:
        core.applied.add(seg, batch.first)
    advance(core, stable)
    return True


def _batch(core: Core, seg: IntegratedSegment, upto_k: int, *, keep: bool) -> _Batch | None:
    """Collect what the operations changed; None if they cannot be relabelled."""
    units = core.tentative.units(upto_k)
    later = core.tentative.first_unit(upto_k)
    last = core.applied.last()
    if (last is not None and seg.position < last) or seg.stamp <= core.applied.floor():
        return None
    if not core.tentative.clean(upto_k) or not all(isinstance(op, _PLAIN) for op in seg.ops):
        return None
    if keep and not units and later is not None:
        return None  # a segment without operations has no unit of its own below the later ones
    seal_u = core.undo.u + 1 if later is None else later - 1
    batch = _Batch(seg, upto_k, {k: [] for k in units}, min(units.values(), default=seal_u), later, seal_u, keep)
    if units:
        by_unit = {u: k for k, u in units.items()}
        for u, _, table, key, before in core.undo.entries(batch.first, later):
            batch.changes[by_unit[u]].append((table, key, before))
            if table == Table.NODE:
                batch.written.add(key[0])
    return batch


def _leaders(seg: IntegratedSegment) -> dict[int, int]:
    """The first local operation of each operation of the segment, by its number."""
    leaders: dict[int, int] = {}
    for k, n in seg.ids.items():
        leaders[n] = min(k, leaders.get(n, k))
    return leaders


def _learn(core: Core, seg: IntegratedSegment, leaders: dict[int, int]) -> None:
    """Final ids, inodes and contents: facts from now on."""
    core.ids.learn_own(seg.log, seg.ids)
    for n, op in enumerate(seg.ops, seg.first_op):
        ident = seg.log + n.to_bytes(8, "big")
        if isinstance(op, Create):
            core.ids.name(st_of_k(leaders[n]), core.ids.made_by(ident))
        if isinstance(op, Create | Put) and op.content is not None:
            core.facts.learn(ident, op.content, seg.digest)


def _touch(core: Core, batch: _Batch, op: Op, k: int) -> None:
    """Note which nodes and directories the final operation touches, as its rule in `tree/merge.py` does."""
    match op:
        case Create():
            batch.nodes.add(st_of_k(k))
            batch.dirs.add(_st(core, op.p))
        case Link():
            batch.nodes.add(_st(core, op.i))
            batch.dirs.add(_st(core, op.p))
        case Put() | SetAttr() | SetXattr() | DelXattr():
            st = _st(core, op.i)
            batch.nodes.add(st)
            if isinstance(op, SetAttr) and op.mask & SET_MTIME:
                batch.dirs.discard(st)
        case Unlink() | Rmdir() | Rename():
            batch.nodes.add(_st(core, op.i))
            for table, key, before in batch.changes[k]:
                if table == Table.DIRENT:
                    batch.dirs.add(key[0])
                    if before is not None:
                        batch.nodes.add(Entry._make(before).st)


def _st(core: Core, ino: bytes) -> int:
    st = core.ids.st_of(ino)
    if st is None:
        raise ReplicaDamaged("a sealed operation names a node that this device does not know")
    return core.state.res(st)


def _keep_old(core: Core, batch: _Batch, op: Put, ident: bytes, k: int) -> None:
    """What integrating a put adds: the old version to the history, and where the new one lies."""
    st = _st(core, op.i)
    external = core.ids.external
    before = next(row for table, key, row in batch.changes[k] if table == Table.NODE and key[0] == st)
    if before is not None:
        old = NodeRow._make(before)
        content = None if old.content is None else external(old.content)
        core.rows.put_history(History(st, external(old.cver), content, old.size, old.mtime_ns, batch.seg.stamp))
    core.rows.put_landing(ident, st)


def _correct(core: Core, batch: _Batch) -> None:
    """Give rows the stamp and times of the segment, also where later operations remember them."""
    nodes = batch.nodes | batch.dirs | batch.written
    by_wall = set(batch.dirs)  # directories whose mtime is still that of the segment, walking up through later ones
    seen = set()
    later = [] if batch.later is None else list(core.undo.entries(batch.later))
    for u, n, table, key, before in later:
        if table == Table.MTIME_SET:
            by_wall.discard(key[0])
        elif table == Table.NODE and before is not None and key[0] in nodes:
            row = NodeRow._make(before)
            fixed = _fixed(batch, row, by_wall)
            if row.st not in seen and batch.keep:
                core.undo.note_at(batch.seal_u, Table.NODE, key, row)
            seen.add(row.st)
            if fixed != row:
                core.undo.rewrite(u, n, fixed)
    for st in sorted(nodes):
        present = core.rows.node(st)
        if present is not None:
            fixed = _fixed(batch, present, by_wall)
            if fixed != present:
                core.undo.enabled = batch.keep and st not in seen
                core.rows.put_node(fixed, present)
    core.undo.enabled = batch.keep


def _fixed(batch: _Batch, row: NodeRow, by_wall: set[int]) -> NodeRow:
    wall = wall_ns_of(batch.seg.wall_ms)
    touched = row.st in batch.nodes or row.st in batch.dirs
    gone = row.gone_l
    if gone is not None and -(batch.upto_k + 1) <= gone < 0:
        gone = batch.seg.stamp
    return row._replace(
        ctime_ns=max(row.ctime_ns, wall) if touched else row.ctime_ns,
        mtime_ns=wall if row.st in by_wall else row.mtime_ns,
        gone_l=gone,
    )


def _purge(core: Core, st: int) -> None:
    """Forget a node that came and went within the batch."""
    node = core.rows.node(st)
    if node is None:
        return
    for key, value in core.rows.xattrs(st):
        core.rows.del_xattr(st, key, value)
    core.rows.del_node(node)
    core.forget_local(st)
