"""The merge rules for links and attributes, and the table of all rules: one function an operation.

Numbers in comments are the rows of the table in docs/replication.md, "The rules". `apply` is total: whatever an author
signed ends in one of the rows, without an exception. It reads and writes rows through `State` and `Rows` only and
depends on nothing else, so that every device comes to the same tree.
"""

from collections.abc import Callable
from typing import Any, Final

from cryptfs.errors import Invalid
from cryptfs.format.operation import (
    KIND_DIR,
    KIND_FILE,
    KIND_SYMLINK,
    RENAME_EXCHANGE,
    SET_GID,
    SET_MODE,
    SET_MTIME,
    SET_UID,
    Adopted,
    Create,
    DelXattr,
    Expire,
    Link,
    Op,
    Put,
    Rekey,
    Relocate,
    Rename,
    Restore,
    Retire,
    Rmdir,
    Rules,
    SetAttr,
    SetXattr,
    Undelete,
    Unlink,
    Unretire,
)
from cryptfs.format.operation_rules import check_op
from cryptfs.tree.ids import st_of_k
from cryptfs.tree.merge_containers import adopted, expire, relocate, retire, rules, unretire
from cryptfs.tree.merge_content import put, rekey, restore
from cryptfs.tree.rows import Entry, History, NodeRow
from cryptfs.tree.schema import ROOT_ST
from cryptfs.tree.state import Home, State, Step
from cryptfs.tree.undo import Table

__all__ = ["BODY2_ANY", "apply"]

BODY2_ANY: Final = 1 << 31
"""Places in body2 were checked when the segment was read; here only the shape of the operation matters."""


def apply(state: State, step: Step, op: Op) -> None:
    """Apply one operation where the order puts it; `step.invalid` counts void ones."""
    if step.k is None and not step.checked:
        try:
            check_op(op, BODY2_ANY)
        except Invalid:
            step.invalid += 1  # 36
            return
    _RULE[type(op)](state, step, op)


# ---- create --------------------------------------------------------------------------------------------------------


def _create(state: State, step: Step, op: Create) -> None:
    rows = state.rows
    st = _new_st(state, step)
    if st is None:
        step.invalid += 1  # 36: the id was used before
        return
    home = state.home(op.p)
    if home is None:
        step.invalid += 1  # 36: the parent is no directory
        return
    held = None if home.fresh else rows.entry(home.parent, op.name)
    if held is not None and _joins(state, step, op, st, held):
        return
    parent = state.build(step, home)
    size = 0 if op.content is None else op.content.size
    node = NodeRow(
        st, op.kind, op.mode, op.uid, op.gid, op.rdev, size, op.mtime_ns, 0, step.op,
        None if op.content is None else step.op, op.target, None, None, None,
    )  # fmt: skip
    rows.put_node(node, None)
    free = state.place(step, parent, op.name, node)
    _tell_placed(state, step, home, st, op.name, free=free)


def _new_st(state: State, step: Step) -> int | None:
    """Number of the node that this operation makes; None if there is, or was, one."""
    if step.k is not None:
        state.ids.born(step.k)
        return st_of_k(step.k)
    st = state.ids.give_st(state.ids.made_by(step.op), step.hint)
    return None if st in state.rows.aliases or state.rows.node(st) is not None else st


def _joins(state: State, step: Step, op: Create, st: int, held: Entry) -> bool:
    """Rules 2 and 3: what was made twice becomes one."""
    rows = state.rows
    if op.kind != held.kind:
        return False
    if op.kind == KIND_DIR:  # 2
        step.clean = False
        rows.put_alias(st, held.st)
        return True
    node = rows.node(held.st)
    if node is None:
        return False
    size = 0 if op.content is None else op.content.size
    alike = (op.kind == KIND_FILE and state.same(node, size, op.content)) or (
        op.kind == KIND_SYMLINK and node.target == op.target
    )
    cver, lver = state.joined(node.cver, step.op), state.joined(held.lver, step.op)
    if not alike or cver is None or lver is None:  # 4, 11
        return False
    step.clean = False  # 3
    rows.put_alias(st, held.st)
    rows.put_node(node._replace(cver=cver), node)
    rows.put_entry(held._replace(lver=lver), held)
    if op.content is not None:
        # Kept because the digest is only what its author says: a false one must not make this content vanish.
        rows.put_history(History(held.st, step.op, step.op, size, op.mtime_ns, step.stamp))
    step.nodes.add(held.st)
    return True


def _tell_placed(state: State, step: Step, home: Home, st: int, name: bytes, *, free: bool) -> None:
    if home.lost:
        state.tell(step, "lost+found", st, name)  # 6
    elif not free:
        state.tell(step, "conflict", st, name)  # 4, 22, 27
    elif home.backs:
        state.tell(step, "folder restored", st, name)  # 5


# ---- link, undelete ------------------------------------------------------------------------------------------------


def _link(state: State, step: Step, op: Link) -> None:
    node = state.find(op.i)
    if node is None:  # 35
        step.clean = False
        return
    home = state.home(op.p)
    if home is None or node.kind == KIND_DIR or state.used(step, node.st):
        step.invalid += 1  # 36
        return
    _place_home(state, step, home, op.name, node)  # 26, 27


def _undelete(state: State, step: Step, op: Undelete) -> None:
    step.clean = False
    node = state.find(op.i)
    if node is None:
        state.tell(step, "no longer kept", 0, op.name)
        return
    if node.gone_l is None:
        return
    home = state.home(op.p)
    if home is None:
        step.invalid += 1  # 36
        return
    if node.kind == KIND_DIR and node.st in state.above(home):
        return
    _place_home(state, step, home, op.name, node)  # 29


def _place_home(state: State, step: Step, home: Home, name: bytes, node: NodeRow) -> None:
    parent = state.build(step, home)
    # Bringing back the parent may have touched the node itself (an alias chain): read it again.
    node = state.rows.node(node.st) or node
    free = state.place(step, parent, name, node)
    _tell_placed(state, step, home, node.st, name, free=free)


# ---- unlink, rmdir -------------------------------------------------------------------------------------------------


def _unlink(state: State, step: Step, op: Unlink) -> None:
    node = state.find(op.i)
    if node is None:  # 35
        step.clean = False
        return
    if node.kind == KIND_DIR:
        step.invalid += 1  # 36
        return
    links = state.rows.links(node.st)
    external = state.ids.external
    lver = state.ids.external_of(op.lver)
    entry = next((one for one in links if external(one.lver) == lver), None)
    if entry is None:  # 16
        _tell_moved(state, step, node)
    elif len(links) > 1 or external(node.cver) == state.ids.external_of(op.cver):
        state.drop(step, entry, node)  # 13, 15
    else:
        state.tell(step, "kept because edited", node.st, entry.name)  # 14


def _rmdir(state: State, step: Step, op: Rmdir) -> None:
    node = state.find(op.i)
    if node is None:  # 35
        step.clean = False
        return
    if node.kind != KIND_DIR:
        step.invalid += 1  # 36
        return
    entry = state.link(node.st, state.ids.external_of(op.lver))
    if entry is None:  # 16
        _tell_moved(state, step, node)
    elif state.rows.has_entries(node.st):
        state.tell(step, "folder kept", node.st, entry.name)  # 17
    else:
        state.drop(step, entry, node)  # 18


def _tell_moved(state: State, step: Step, node: NodeRow) -> None:
    step.clean = False
    if node.gone_l is None and node.st != ROOT_ST:
        state.tell(step, "kept because moved", node.st)


# ---- rename --------------------------------------------------------------------------------------------------------


def _rename(state: State, step: Step, op: Rename) -> None:
    node = state.find(op.i)
    if node is None:  # 35
        step.clean = False
        return
    if op.flags == RENAME_EXCHANGE:
        _exchange(state, step, op, node)
        return
    home = state.home(op.p2)
    if home is None or state.used(step, node.st):
        step.invalid += 1  # 36
        return
    entry = state.link(node.st, state.ids.external_of(op.lver))
    if entry is None:  # 20
        state.tell(step, "moved elsewhere", node.st, op.name2)
        return
    if node.kind == KIND_DIR and node.st in state.above(home):  # 23
        state.tell(step, "move into itself", node.st, op.name2)
        return
    held = None if home.fresh else state.rows.entry(home.parent, op.name2)
    if held is not None and held.name == entry.name and held.parent == entry.parent:  # 24
        step.clean = False
        return
    replaced = None if held is None else _replaced(state, op, held, node)
    parent = state.build(step, home)
    state.rows.del_entry(entry)
    step.dirs.add(entry.parent)
    if held is not None and replaced is not None:
        state.drop(step, held, replaced)  # 21
    free = state.place(step, parent, op.name2, node)  # 19, 22
    _tell_placed(state, step, home, node.st, op.name2, free=free)


def _replaced(state: State, op: Rename, held: Entry, node: NodeRow) -> NodeRow | None:
    """Rule 21: the node that may be replaced, because it is exactly what the author saw."""
    if op.replaced is None or held.st == node.st:
        return None
    old = state.find(op.replaced.i)
    if old is None or old.st != held.st:
        return None
    external, external_of = state.ids.external, state.ids.external_of
    if external(held.lver) != external_of(op.replaced.lver) or external(old.cver) != external_of(op.replaced.cver):
        return None
    if (node.kind == KIND_DIR) != (old.kind == KIND_DIR):
        return None
    return None if old.kind == KIND_DIR and state.rows.has_entries(old.st) else old


def _exchange(state: State, step: Step, op: Rename, node: NodeRow) -> None:
    """Rule 25: two links change places, or nothing happens."""
    other = None if op.replaced is None else state.find(op.replaced.i)
    one = state.link(node.st, state.ids.external_of(op.lver))
    two = None
    if other is not None and op.replaced is not None:
        two = state.link(other.st, state.ids.external_of(op.replaced.lver))
    if one is None or two is None or one.st == two.st:
        step.clean = False
        state.tell(step, "moved elsewhere", node.st, op.name2)
        return
    if state.used(step, one.st) or state.used(step, two.st):
        step.invalid += 1  # 36
        return
    circle = (one.kind == KIND_DIR and one.st in state.path(two.parent)) or (
        two.kind == KIND_DIR and two.st in state.path(one.parent)
    )
    if circle:
        state.tell(step, "move into itself", node.st, op.name2)
        return
    state.rows.put_entry(Entry(one.parent, one.name, two.st, two.kind, step.op), one)
    state.rows.put_entry(Entry(two.parent, two.name, one.st, one.kind, step.op), two)
    step.nodes.update((one.st, two.st))
    step.dirs.update((one.parent, two.parent))


# ---- attributes: last in order wins --------------------------------------------------------------------------------


def _setattr(state: State, step: Step, op: SetAttr) -> None:
    node = state.find(op.i)
    if node is None:  # 35
        step.clean = False
        return
    mask = op.mask
    new = node._replace(
        mode=op.mode if mask & SET_MODE else node.mode,
        uid=op.uid if mask & SET_UID else node.uid,
        gid=op.gid if mask & SET_GID else node.gid,
        mtime_ns=op.mtime_ns if mask & SET_MTIME else node.mtime_ns,
    )
    state.rows.put_node(new, node)
    step.nodes.add(node.st)
    if mask & SET_MTIME and node.kind == KIND_DIR:
        step.dirs.discard(node.st)
        step.mtimes.add(node.st)
        if step.k is not None:
            state.rows.mark(Table.MTIME_SET, node.st)


def _setxattr(state: State, step: Step, op: SetXattr) -> None:
    node = state.find(op.i)
    if node is None:  # 35
        step.clean = False
        return
    state.rows.put_xattr(node.st, op.key, op.value, state.rows.xattr(node.st, op.key))
    step.nodes.add(node.st)


def _delxattr(state: State, step: Step, op: DelXattr) -> None:
    node = state.find(op.i)
    before = None if node is None else state.rows.xattr(node.st, op.key)
    if node is None or before is None:
        step.clean = False
        return
    state.rows.del_xattr(node.st, op.key, before)
    step.nodes.add(node.st)


# Any: each rule takes exactly the type it is listed under, which a mapping cannot say.
_RULE: Final[dict[type, Callable[[State, Step, Any], None]]] = {
    Create: _create,
    Put: put,
    Link: _link,
    Unlink: _unlink,
    Rmdir: _rmdir,
    Rename: _rename,
    SetAttr: _setattr,
    SetXattr: _setxattr,
    DelXattr: _delxattr,
    Undelete: _undelete,
    Restore: restore,
    Rekey: rekey,
    Retire: retire,
    Unretire: unretire,
    Relocate: relocate,
    Adopted: adopted,
    Expire: expire,
    Rules: rules,
}
