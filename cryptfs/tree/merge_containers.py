"""The merge rules for what holds records, and for the end of history (docs/replication.md, rows 32 to 34)."""

from dataclasses import dataclass
from typing import Final

import msgspec

from cryptfs.format.operation import Adopted, Expire, Relocate, Retire, Rules, Unretire, Where
from cryptfs.format.operation_rules import ROLE_ADMIN, ROLE_OWNER
from cryptfs.tree.ids import split
from cryptfs.tree.rows import Container
from cryptfs.tree.state import State, Step

__all__ = ["IN_USE", "RETIRED", "Moved", "adopted", "expire", "moved_ranges", "relocate", "retire", "rules", "unretire"]

IN_USE: Final = 0
RETIRED: Final = 1


@dataclass(frozen=True, slots=True, order=True)
class Moved:
    """`len` bytes at `old_off` of a container lie at `new_off` of the container (`where`, `id`) now."""

    old_off: int
    new_off: int
    len: int
    where: int
    id: bytes


_ENCODE: Final = msgspec.msgpack.Encoder().encode
_RANGES: Final = msgspec.msgpack.Decoder(tuple[tuple[int, int, int, int, bytes], ...])


def moved_ranges(container: Container) -> list[Moved]:
    """What was moved out of a container, sorted by offset."""
    return [Moved(*one) for one in _RANGES.decode(container.moved)] if container.moved else []


def retire(state: State, step: Step, op: Retire) -> None:
    """Row 32."""
    _set_state(state, step, op.containers, RETIRED)


def unretire(state: State, step: Step, op: Unretire) -> None:
    """Row 32."""
    _set_state(state, step, op.containers, IN_USE)


def _set_state(state: State, step: Step, containers: tuple[Where, ...], to: int) -> None:
    step.clean = False
    for one in containers:
        container = state.rows.container(one.where, one.id)
        if container is None or container.holder != step.log:
            step.invalid += 1
        elif container.state != to:
            state.rows.put_container(container._replace(state=to), container)


def relocate(state: State, step: Step, op: Relocate) -> None:
    """Row 32: only the holder of the old container says where its records went; the newest word counts."""
    step.clean = False
    container = state.rows.container(op.old_where, op.old_id)
    if container is None or container.holder != step.log:
        step.invalid += 1
        return
    ranges = {one.old_off: one for one in moved_ranges(container)}
    for new in op.ranges:
        ranges[new.old_off] = Moved(new.old_off, new.new_off, new.len, op.new_where, op.new_id)
    moved = _ENCODE([(r.old_off, r.new_off, r.len, r.where, r.id) for r in sorted(ranges.values())])
    state.rows.put_container(container._replace(moved=moved), container)


def adopted(state: State, step: Step, op: Adopted) -> None:
    """Row 33: the author holds the containers from now on, if it may take them over from who holds them now."""
    step.clean = False
    for one in op.containers:
        container = state.rows.container(one.where, one.id)
        if container is None or not _may_take_over(step, container.holder):
            step.invalid += 1
        elif container.holder != step.log:
            state.rows.put_container(container._replace(holder=step.log), container)


def _may_take_over(step: Step, holder: bytes) -> bool:
    """Administrators and owners from anybody: custodians are theirs. Others as `group/heirs.py` says."""
    return step.log == holder or step.role >= ROLE_ADMIN or holder in step.inherits


def expire(state: State, step: Step, op: Expire) -> None:
    """Row 34: drop what was superseded or deleted at or below the stamp, and what refers to it."""
    step.clean = False
    rows = state.rows
    if step.role < ROLE_ADMIN or step.k is not None or op.stamp >= step.stamp:
        step.invalid += 1
        return
    for old in rows.expired_history(op.stamp):
        rows.del_history(old)
        _drop_landings(state, old.cver)
    gone = rows.expired_nodes(op.stamp)
    for node in gone:
        for key, value in rows.xattrs(node.st):
            rows.del_xattr(node.st, key, value)
        for old in rows.history(node.st):
            rows.del_history(old)
            _drop_landings(state, old.cver)
        _drop_landings(state, state.ids.external(node.cver))
        rows.del_node(node)
    # What only led to an expired node leads nowhere now.
    expired = {node.st for node in gone}
    for st in [old for old in rows.aliases if state.res(old) in expired]:
        rows.del_alias(st)


def _drop_landings(state: State, cver: bytes) -> None:
    for op in split(cver):
        st = state.rows.landing(op)
        if st is not None:
            state.rows.del_landing(op, st)


def rules(_state: State, step: Step, op: Rules) -> None:
    """Rules of a later number stop the log before this (see `integrate`); number 1 is in force already."""
    step.clean = False
    if step.role < ROLE_OWNER or op.number != 1:
        step.invalid += 1
