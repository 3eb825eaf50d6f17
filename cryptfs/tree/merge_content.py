"""The merge rules for contents: put, restore, rekey (docs/replication.md, rows 7 to 12, 30, 31)."""

from collections.abc import Sequence
from dataclasses import dataclass

from cryptfs.format.content import Content
from cryptfs.format.operation import KIND_FILE, Put, Rekey, Restore, Ver
from cryptfs.format.operation_rules import ROLE_ADMIN
from cryptfs.tree.ids import OP_ID_LEN, split, st_of_k
from cryptfs.tree.rows import History, NodeRow
from cryptfs.tree.state import State, Step

__all__ = ["put", "rekey", "restore"]

_LOST_MODE = 0o600


@dataclass(frozen=True, slots=True)
class _New:
    """A content that is to become the present one: `carrier` is the id of the operation whose Content it is."""

    carrier: bytes | None
    content: Content | None
    size: int
    mtime_ns: int


def put(state: State, step: Step, op: Put) -> None:
    """Rows 7 to 12."""
    if step.k is None and state.rows.landing(step.op) is not None:
        step.invalid += 1  # 36: the id was used before
        return
    node, base = _target(state, step, op.i, op.base)
    new = _New(step.op, op.content, op.content.size, op.mtime_ns)
    if node is None:
        _to_lost(state, step, op.i, new)
    elif node.kind != KIND_FILE:
        step.invalid += 1  # 36
    else:
        _become(state, step, node, base, new)


def restore(state: State, step: Step, op: Restore) -> None:
    """Row 30: an old version becomes the present one, as a put with that content."""
    step.clean = False
    if step.k is None and state.rows.landing(step.op) is not None:
        step.invalid += 1  # 36
        return
    node, base = _target(state, step, op.i, op.base)
    old = None if node is None else state.rows.history_of(node.st, state.ids.external_of(op.old))
    if node is None or old is None:
        state.tell(step, "no longer kept", 0 if node is None else node.st)
        return
    content = None if old.content is None else state.facts.content(old.content)
    _become(state, step, node, base, _New(old.content, content, old.size, old.mtime_ns))


def rekey(state: State, step: Step, op: Rekey) -> None:
    """Row 31: the same plaintext under other keys takes the place of a content, present or old; no new version.

    Nothing goes to the history, so whoever may do this can make a version unreadable for ever: like `expire` it is for
    administrators. Equal digests are no proof, only a guard against mistakes; most contents have none.
    """
    step.clean = False
    if step.k is None and step.role < ROLE_ADMIN:
        step.invalid += 1
        return
    base = state.ids.external_of(op.base)
    nodes = [node for node in _candidates(state, op.i, split(base)) if node.kind == KIND_FILE]
    # An id of an old version may be one of several in the present version's: what is named exactly is meant.
    for node in nodes:
        old = state.rows.history_of(node.st, base)
        if old is not None:
            if old.content is not None and _same_shape(state, old.content, op.content):
                state.rows.put_history(old._replace(content=step.op))
            return
    present = next((node for node in nodes if _shares(state, node, set(split(base)))), None)
    if present is None or present.content is None:
        return
    if _same_shape(state, state.ids.external(present.content), op.content):
        state.rows.put_node(present._replace(content=step.op), present)


def _same_shape(state: State, carrier: bytes, new: Content) -> bool:
    """Whether size and digest of the new content are those of the content that `carrier` brought."""
    old = state.facts.content(carrier)
    return old is not None and new.size > 0 and (old.size, old.digest) == (new.size, new.digest)


def _target(state: State, step: Step, ino: bytes, base_ver: Ver) -> tuple[NodeRow | None, set[bytes]]:
    """The node whose content is meant, and the base as a set of ids.

    Versions, not inodes, say what a change was based on: a conflict copy exists in one order and not in another, and
    the author's next puts must follow the content to wherever it landed.
    """
    base = split(state.ids.external_of(base_ver))
    ids = set(base)
    named = state.find(ino)
    if named is not None and len(base) == 1 and _shares(state, named, ids):
        return named, ids  # one id is in the version of one node only, so no landing can be a better answer
    found = _candidates(state, ino, base)
    landed = found if named is None else found[:-1]
    step.clean = step.clean and all(named is not None and node.st == named.st for node in landed)
    return next((node for node in found if _shares(state, node, ids)), found[0] if found else None), ids


def _candidates(state: State, ino: bytes, base: Sequence[bytes]) -> list[NodeRow]:
    """Where contents of these versions came to lie, in their order, and last the node that is named."""
    landings = (state.rows.landing(op) for op in base)
    nodes = [None if st is None else state.rows.node(st) for st in landings]
    return [node for node in (*nodes, state.find(ino)) if node is not None]


def _shares(state: State, node: NodeRow, base: set[bytes]) -> bool:
    """Whether the author had seen the present content: one id in common, as the contents of one version are equal."""
    cver = state.ids.external(node.cver)
    return cver in base if len(cver) == OP_ID_LEN else not base.isdisjoint(split(cver))


def _become(state: State, step: Step, node: NodeRow, base: set[bytes], new: _New) -> None:
    if _shares(state, node, base):
        if step.k is None:
            _keep(state, step, node)
        changed = node._replace(cver=step.op, content=new.carrier, size=new.size, mtime_ns=new.mtime_ns)
        state.rows.put_node(changed, node)  # 7
        _land(state, step, node.st)
        step.nodes.add(node.st)
        if node.gone_l is not None:
            _relink(state, step, changed)  # 8
        return
    cver = state.joined(node.cver, step.op)
    if cver is not None and state.same(node, new.size, new.content):
        step.clean = False
        if step.k is None and new.carrier is not None:
            # As with creates: the digest is only what the authors say.
            state.rows.put_history(History(node.st, step.op, new.carrier, new.size, new.mtime_ns, step.stamp))
        changed = node._replace(cver=cver)
        state.rows.put_node(changed, node)  # 9
        _land(state, step, node.st)
        step.nodes.add(node.st)
        if node.gone_l is not None:
            _relink(state, step, changed)
        return
    _copy(state, step, node, new)  # 10, 11


def _keep(state: State, step: Step, node: NodeRow) -> None:
    """The content that is replaced goes to the history."""
    external = state.ids.external
    content = None if node.content is None else external(node.content)
    state.rows.put_history(History(node.st, external(node.cver), content, node.size, node.mtime_ns, step.stamp))


def _land(state: State, step: Step, st: int) -> None:
    """Landings of tentative puts matter only where they are not the node itself; sealing adds the others."""
    if step.k is None or not step.clean:
        state.rows.put_landing(step.op, st)


def _relink(state: State, step: Step, node: NodeRow) -> None:
    """An edited file comes back at its last place."""
    home, name = state.place_of(node)
    parent = state.build(step, home)
    state.place(step, parent, name, node)
    state.tell(step, "kept because edited", node.st, name)


def _copy(state: State, step: Step, node: NodeRow, new: _New) -> None:
    """A conflict copy beside the first link of the file, or in its last place."""
    step.clean = False
    link = state.first_link(node.st)
    copy = _made(state, step, node, new)
    if link is not None:
        parent, name = link.parent, link.name
    else:
        home, name = state.place_of(node)
        parent = state.build(step, home)
    state.rows.put_node(copy, None)
    state.place(step, parent, name, copy)
    state.rows.put_landing(step.op, copy.st)
    state.tell(step, "conflict", copy.st, name)


def _to_lost(state: State, step: Step, ino: bytes, new: _New) -> None:
    """Row 12: nobody knows the file any more (its maker was cut, or it expired)."""
    copy = _made(state, step, None, new)
    home = state.lost()
    parent = state.build(step, home)
    name = ino.hex()[:16].encode()
    state.rows.put_node(copy, None)
    state.place(step, parent, name, copy)
    state.rows.put_landing(step.op, copy.st)
    state.tell(step, "lost+found", copy.st, name)


def _made(state: State, step: Step, like: NodeRow | None, new: _New) -> NodeRow:
    """The node of a conflict copy, with the attributes of the file it is a copy of."""
    ids = state.ids
    st = st_of_k(step.k) if step.k is not None else ids.give_st(ids.copy_made_by(step.op), step.hint)
    mode, uid, gid = (_LOST_MODE, 0, 0) if like is None else (like.mode, like.uid, like.gid)
    return NodeRow(
        st, KIND_FILE, mode, uid, gid, 0, new.size, new.mtime_ns, 0, step.op, new.carrier, b"", None, None, None
    )
