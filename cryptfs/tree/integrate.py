"""Putting sealed segments where the order wants them: take back what comes later, insert, apply again.

docs/replication.md, "Integrate". The result depends on the set of segments only, not on the order of their arrival.
"""

import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from cryptfs.errors import Invalid, NeedsUpdate
from cryptfs.format.limits import I64_MAX
from cryptfs.format.operation import Op, Rules
from cryptfs.format.operation_rules import check_op
from cryptfs.tree.applied import AppliedRow
from cryptfs.tree.conflict_name import date_of, label_of
from cryptfs.tree.core import Core
from cryptfs.tree.ids import st_of_k
from cryptfs.tree.merge import BODY2_ANY, apply
from cryptfs.tree.rows import Container, NodeRow
from cryptfs.tree.schema import ReplicaDamaged
from cryptfs.tree.segment import IntegratedSegment, Position
from cryptfs.tree.state import Step
from cryptfs.tree.undo import Recorder, Table

__all__ = ["RULES", "Diff", "NeedsRebuild", "advance", "integrate", "name_containers", "wall_ns_of", "watched"]

RULES: Final = 1
"""The highest number of merge rules this version knows."""

_PLACE_PACK: Final = 1
_PLACE_BODY2: Final = 2
_NS_PER_MS: Final = 1_000_000


class NeedsRebuild(ReplicaDamaged):
    """The change lies below the floor, where nothing can be undone any more."""


class Diff(NamedTuple):
    """What the kernel must hear: entries (directory, name) that changed, then nodes by what changed.

    `records`: files of the same version and bytes whose records lie elsewhere; nothing for the kernel.
    """

    entries: list[tuple[int, bytes]]
    attributes: set[int]
    contents: set[int]
    records: set[int]


def integrate(
    core: Core,
    segments: Iterable[IntegratedSegment],
    pending: Sequence[tuple[int, Op]] = (),
    *,
    void: Iterable[tuple[bytes, int]] = (),
    stable: int = -1,
    heeded: bool = True,
) -> Diff:
    """Integrate the segments that are not in the tree; the caller has checked that all they depend on is there.

    Tentative operations are taken back first; `pending` (k, op) are those that still are, and are applied again on top.
    `void` names applied segments (log, seq) that no longer count; given again as `segments`, they do again. At or below
    the stamp `stable` nothing will ever be inserted: no way back is kept. Unless it is `heeded`, no difference is told.
    Raises NeedsRebuild or NeedsUpdate before anything has changed.
    """
    gone = set(void)
    rows = core.applied.rows()
    new = _unknown(core, segments, rows)
    touched = [seg.position for seg in new] + [row.position for row in rows if (row.position[1], row.seq) in gone]
    _check(core, new, min(touched, default=None), gone - {(row.position[1], row.seq) for row in rows})
    recorder: Recorder = {}
    core.undo.recorder = recorder if heeded else None
    try:
        core.pop_tentative()
        if touched:
            tail = [row for row in rows if row.position >= min(touched)]
            kept = [core.applied.segment(row.position) for row in tail if (row.position[1], row.seq) not in gone]
            if tail:
                core.undo.undo_from(tail[0].u)
                core.rows.reload()
            core.applied.remove(tail)
            _redo(core, kept, new, stable)
        core.reapply(pending)
    finally:
        core.undo.recorder = None
    advance(core, stable)
    return _diff(core, recorder)


def watched(core: Core, change: Callable[[], object]) -> Diff:
    """Make local changes that the kernel did not ask for, and say what it must hear of them."""
    recorder: Recorder = {}
    core.undo.recorder = recorder
    try:
        change()
    finally:
        core.undo.recorder = None
    return _diff(core, recorder)


def advance(core: Core, stamp: int) -> None:
    """Forget how to undo segments at or below `stamp`."""
    if stamp >= 0:
        core.applied.advance(stamp, core.tentative.first_unit())


def name_containers(core: Core, seg: IntegratedSegment) -> None:
    """Who first names a container holds it."""
    named = [(_PLACE_PACK, pack.id, pack.size, pack.kind) for pack in seg.packs]
    if seg.body2:
        named.append((_PLACE_BODY2, seg.digest, seg.body2, 0))
    for place, ident, size, kind in named:
        if core.rows.container(place, ident) is None:
            core.rows.put_container(Container(place, ident, size, kind, seg.log, 0, b""), None)


def wall_ns_of(wall_ms: int) -> int:
    """The author's clock in ns, within what a row can hold."""
    return min(max(wall_ms, 0) * _NS_PER_MS, I64_MAX)


# ---- the parts -----------------------------------------------------------------------------------------------------


def _unknown(core: Core, segments: Iterable[IntegratedSegment], rows: list[AppliedRow]) -> list[IntegratedSegment]:
    """Segments beyond the heads, and those above the floor that turned void once."""
    heads, floor = core.applied.heads(), core.applied.floor()
    present = {row.position for row in rows}
    new = [
        seg
        for seg in segments
        if seg.position not in present and (seg.stamp > floor or seg.log not in heads or seg.seq > heads[seg.log].seq)
    ]
    return sorted(new, key=lambda seg: seg.position)


def _check(core: Core, new: list[IntegratedSegment], lo: Position | None, missing: set[tuple[bytes, int]]) -> None:
    if any(isinstance(op, Rules) and op.number > RULES for seg in new for op in seg.ops):
        raise NeedsUpdate("the vault uses merge rules that this version does not know")
    for seg in new:
        for op in () if seg.checked else seg.ops:
            # Only to hear now, before anything has changed, that some content needs a later version.
            with contextlib.suppress(Invalid):
                check_op(op, BODY2_ANY)
    if missing or (lo is not None and lo[0] <= core.applied.floor()):
        raise NeedsRebuild("a change lies below what can be undone")


def _redo(core: Core, kept: list[IntegratedSegment], new: list[IntegratedSegment], stable: int) -> None:
    fresh = {seg.position for seg in new}
    for seg in sorted(kept + new, key=lambda seg: seg.position):
        u = core.undo.next_u()
        core.undo.enabled = seg.stamp > stable
        try:
            _apply_segment(core, seg, first_time=seg.position in fresh)
        finally:
            core.undo.enabled = True
        if seg.stamp > stable:
            core.applied.add(seg, u)
        if seg.position in fresh:
            core.applied.set_head(seg)


def _apply_segment(core: Core, seg: IntegratedSegment, *, first_time: bool) -> None:
    hints: dict[int, int] = {}
    if first_time and seg.own:
        core.learn_own(seg.log, seg.ids)
    for k, n in seg.ids.items() if seg.own else ():
        hints[n] = min(st_of_k(k), hints.get(n, st_of_k(k)))
    name_containers(core, seg)
    label, date = label_of(seg.label), date_of(seg.wall_ms)
    step = Step(
        b"", None, seg.stamp, wall_ns_of(seg.wall_ms), label, date, seg.role, seg.log, seg.inherits, checked=seg.checked
    )
    for n, op in enumerate(seg.ops, seg.first_op):
        step.op = seg.log + n.to_bytes(8, "big")
        step.hint = hints.get(n)
        content = getattr(op, "content", None)
        if first_time and content is not None:
            core.facts.learn(step.op, content, seg.digest)
        apply(core.state, step, op)
    _settle_times(core, step, own=seg.own)
    if step.invalid:
        core.rows.put_notice(seg.digest, "invalid", 0, b"%d" % step.invalid)


def _settle_times(core: Core, step: Step, *, own: bool) -> None:
    """Change times never go back; the mtime of a directory is that of the last segment that changed its entries."""
    for st in sorted(step.nodes | step.dirs):
        node = core.rows.node(st)
        if node is None:
            continue
        ctime = max(node.ctime_ns, step.wall_ns)
        mtime = step.wall_ns if st in step.dirs else node.mtime_ns
        if (ctime, mtime) != (node.ctime_ns, node.mtime_ns):
            core.rows.put_node(node._replace(ctime_ns=ctime, mtime_ns=mtime), node)
        if not own:
            core.times.forget(st)


def _diff(core: Core, recorder: Recorder) -> Diff:
    """What differs from before as far as the kernel can see it: not ids, not stamps, not what moved to and fro."""
    entries: list[tuple[int, bytes]] = []
    attributes: set[int] = set()
    contents: set[int] = set()
    records: set[int] = set()
    for (table, key), before in recorder.items():
        if table == Table.DIRENT:
            entry = core.rows.entry(*key)
            old = None if before is None else before[2]
            if old != (None if entry is None else entry.st):
                entries.append(key)
                attributes.update(st for st in (key[0], old, None if entry is None else entry.st) if st is not None)
        elif table == Table.NODE:
            node = core.rows.node(*key)
            was = None if before is None else NodeRow._make(before)
            if was is None or node is None:
                attributes.update(key)
            else:
                if _shown(was) != _shown(node):
                    attributes.add(node.st)
                if _content(core, was) != _content(core, node):
                    same = core.ids.external(was.cver) == core.ids.external(node.cver)
                    (records if same else contents).add(node.st)
        elif table == Table.XATTR:
            attributes.add(key[0])
    return Diff(entries, attributes, contents, records)


def _shown(node: NodeRow) -> tuple[int, ...]:
    return node.mode, node.uid, node.gid, node.size, node.mtime_ns, node.ctime_ns


def _content(core: Core, node: NodeRow) -> bytes | None:
    return None if node.content is None else core.ids.external(node.content)
