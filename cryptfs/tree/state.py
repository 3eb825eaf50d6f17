"""The State that operations meet, in the notions of the merge rules: what an inode means, the way home, drop, place.

docs/replication.md, "Notions". Functions that look do not change anything: an operation that comes to nothing must not
change a row, so the way home is first planned (`Home`) and built only when the operation goes through.
"""

from dataclasses import dataclass, field
from typing import Final, NamedTuple

from cryptfs.format.content import Content
from cryptfs.format.limits import VER_MAX
from cryptfs.format.operation import KIND_DIR
from cryptfs.tree.conflict_name import conflict_name
from cryptfs.tree.facts import Facts
from cryptfs.tree.ids import OP_ID_LEN, Ids
from cryptfs.tree.rows import Entry, NodeRow, Rows
from cryptfs.tree.schema import ROOT_ST, ReplicaDamaged

__all__ = ["Home", "State", "Step"]

LOST_NAME: Final = b"lost+found"
_LOST_MODE: Final = 0o700


@dataclass(slots=True)
class Step:
    """The operation that is being applied, and what it has touched.

    `op`: its 24 bytes (provisional while tentative); `k`: its local number while tentative, else None; `stamp` L of the
    segment, -(k + 1) while tentative; `wall_ns` of the segment; `label`, `date` for conflict names; `role` of the
    author; `log` of the author; `inherits` the logs whose containers it may take over besides; `hint` the number that a
    node made by this operation had while it was tentative; `checked`: its form was looked at when its segment was read.
    Collected over a whole segment: `nodes` that changed, `dirs` whose entries changed (and whose mtime was not set by
    hand afterwards), `mtimes` directories whose mtime was. `clean` turns False when anything but the plain outcome
    happens; `invalid` counts what is void.
    """

    op: bytes
    k: int | None
    stamp: int
    wall_ns: int
    label: bytes
    date: bytes
    role: int
    log: bytes
    inherits: tuple[bytes, ...] = ()
    hint: int | None = None
    checked: bool = False
    nodes: set[int] = field(default_factory=set)
    dirs: set[int] = field(default_factory=set)
    mtimes: set[int] = field(default_factory=set)
    clean: bool = True
    invalid: int = 0


class Back(NamedTuple):
    """One removed directory on the way home: back as `parent`/`name`, or an alias of the one that is there."""

    node: NodeRow
    parent: int
    name: bytes
    alias: int | None


@dataclass(slots=True)
class Home:
    """Where a parent directory is, or will be once `backs` are brought back, uppermost first.

    `base` is the lowest directory that is there already; `fresh`: the parent itself is brought back, hence empty;
    `lost`: the parent was never known, this is `lost+found`.
    """

    parent: int
    base: int
    backs: list[Back]
    fresh: bool
    lost: bool


class State:
    """What is there, and the elementary changes of which all rules are made."""

    def __init__(self, rows: Rows, ids: Ids, facts: Facts) -> None:
        self.rows = rows
        self.ids = ids
        self.facts = facts

    # ---- looking

    def res(self, st: int) -> int:
        """The node that `st` means now: follows aliases, which never form a circle."""
        aliases = self.rows.aliases
        while st in aliases:
            st = aliases[st]
        return st

    def find(self, ino: bytes) -> NodeRow | None:
        """The node that an inode means now; None if never known, or expired."""
        st = self.ids.st_of(ino)
        return None if st is None else self.rows.node(self.res(st) if self.rows.aliases else st)

    def link(self, st: int, lver: bytes) -> Entry | None:
        """The link of a node that `lver` (external form) placed."""
        external = self.ids.external
        for entry in self.rows.links(st):
            if external(entry.lver) == lver:
                return entry
        return None

    def used(self, step: Step, st: int) -> bool:
        """Whether the operation has placed a link of the node already, which only a forger's can have."""
        return step.k is None and self.link(st, self.ids.external(step.op)) is not None

    def first_link(self, st: int) -> Entry | None:
        """The link that comes first by version, directory and name, the same on every device."""
        links = self.rows.links(st)
        if len(links) <= 1:
            return links[0] if links else None
        return min(links, key=lambda e: (self.ids.external(e.lver), self.ids.ino_of(e.parent), e.name))

    def path(self, st: int) -> list[int]:
        """A linked directory and all above it, up to the root."""
        found = [st]
        while st != ROOT_ST:
            links = self.rows.links(st)
            if not links:
                break
            st = links[0].parent
            found.append(st)
        return found

    # ---- the way home

    def home(self, ino: bytes) -> Home | None:
        """Plan the directory `ino` as a place for an entry; None if the inode is known and no directory."""
        node = self.find(ino)
        if node is None:
            return self.lost()
        if node.kind != KIND_DIR:
            return None
        if node.gone_l is None:
            return Home(node.st, node.st, [], fresh=False, lost=False)
        return self._way(node)

    def lost(self) -> Home:
        """Plan `lost+found`."""
        home = self._way(self._lost_or_planned())
        home.lost = True
        return home

    def _lost_or_planned(self) -> NodeRow:
        st = self.ids.give_st(self.ids.lost_ino)
        return self.rows.node(self.res(st)) or _lost_node(st)

    def _root(self) -> NodeRow:
        root = self.rows.node(ROOT_ST)
        if root is None:
            raise ReplicaDamaged("the local copy of the tree has no root")
        return root

    def place_of(self, node: NodeRow) -> tuple[Home, bytes]:
        """Plan the last place of a node without links."""
        return self._above(node), node.last_name or self.ids.ino_of(node.st).hex()[:16].encode()

    def _above(self, node: NodeRow) -> Home:
        """The home of the directory in which a removed node was."""
        parent = None if node.last_parent is None else self.rows.node(self.res(node.last_parent))
        return self.lost() if parent is None else self._way(parent)

    def _way(self, node: NodeRow) -> Home:
        """Walk up from a directory to what is linked, then down again, as it will be built."""
        removed: list[NodeRow] = []
        lost = False
        while node.gone_l is not None:
            removed.append(node)
            above = None if node.last_parent is None else self.rows.node(self.res(node.last_parent))
            if above is None:  # expired
                above, lost = self._lost_or_planned(), True
            # Who was dropped later stood above, so this ends; the check stands against what cannot be.
            node = above if all(above.st != one.st for one in removed) else self._root()
        home = Home(node.st, node.st, [], fresh=False, lost=lost)
        for back in reversed(removed):
            name = back.last_name or self.ids.ino_of(back.st).hex()[:16].encode()
            held = None if home.fresh else self.rows.entry(home.parent, name)
            if held is not None and held.kind == KIND_DIR:
                home.backs.append(Back(back, home.parent, name, held.st))
                home.parent = home.base = held.st
            else:
                home.backs.append(Back(back, home.parent, name, None))
                home.parent, home.fresh = back.st, True
        return home

    def above(self, home: Home) -> set[int]:
        """Everything that will be above an entry placed there: the cycle check of moves."""
        return {*self.path(home.base), *(back.node.st for back in home.backs)}

    def build(self, step: Step, home: Home) -> int:
        """Bring back what the plan says; returns the directory."""
        for back in home.backs:
            if back.alias is None:
                node = self._unlost(step, back.node)
                self.place(step, back.parent, back.name, node)
            else:
                self.rows.put_alias(back.node.st, back.alias)
        if home.backs:
            step.clean = False
        return home.parent

    def _unlost(self, step: Step, node: NodeRow) -> NodeRow:
        """`lost+found` exists only as a plan until it is needed."""
        if self.rows.node(node.st) is None:
            node = node._replace(gone_l=step.stamp)
            self.rows.put_node(node, None)
        return node

    # ---- changing

    def place(self, step: Step, parent: int, name: bytes, node: NodeRow) -> bool:
        """Make an entry for a node, under a conflict name if the name is taken. False if it was."""
        rows = self.rows
        free = rows.entry(parent, name) is None
        if not free:
            name = conflict_name(name, step.label, step.date, step.op, lambda n: rows.entry(parent, n) is not None)
            step.clean = False
        rows.put_entry(Entry(parent, name, node.st, node.kind, step.op), None)
        if node.gone_l is not None:
            rows.put_node(node._replace(last_parent=None, last_name=None, gone_l=None), node)
        step.nodes.add(node.st)
        step.dirs.add(parent)
        return free

    def drop(self, step: Step, entry: Entry, node: NodeRow) -> None:
        """Take an entry away; a node that loses its last one goes to the trash and remembers the place."""
        rows = self.rows
        rows.del_entry(entry)
        if not (rows.linked(node.st) if node.kind == KIND_DIR else rows.count(node)):
            gone = node._replace(last_parent=entry.parent, last_name=entry.name, gone_l=step.stamp)
            rows.put_node(gone, node)
        step.nodes.add(node.st)
        step.dirs.add(entry.parent)

    def same(self, node: NodeRow, size: int, content: Content | None) -> bool:
        """Whether the present content of a file is certainly the given one."""
        if node.size != size:
            return False
        if size == 0:
            return True
        if content is None or not content.digest or node.content is None:
            return False
        present = self.facts.content(self.ids.external(node.content))
        return present is not None and present.digest == content.digest

    def joined(self, ver: bytes, op: bytes) -> bytes | None:
        """A version that gains one id, in external form; None if it is full."""
        found = self.ids.external(ver + op)
        return found if len(found) <= VER_MAX * OP_ID_LEN else None

    def tell(self, step: Step, kind: str, st: int, text: bytes = b"") -> None:
        """Leave a notice; an operation that needs one did not simply go through."""
        step.clean = False
        self.rows.put_notice(step.op, kind, st, text)


def _lost_node(st: int) -> NodeRow:
    """`lost+found` before it was ever needed: removed, last seen in the root."""
    return NodeRow(st, KIND_DIR, _LOST_MODE, 0, 0, 0, 0, 0, 0, b"", None, b"", ROOT_ST, LOST_NAME, 0)
