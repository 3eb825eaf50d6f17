"""Short histories written by hand: who does what after whom, and what the tree looks like then."""

from cryptfs.format.names import copy_inode_of, inode_of
from cryptfs.format.operation import KIND_DIR, KIND_FILE, KIND_SYMLINK, Create, Op, OpId, Put, Ver
from cryptfs.format.segment_body import PackRef
from cryptfs.tree import IntegratedSegment
from tests.simulation.tree_device import VAULT, check_tree, content_of, open_replica, state_of

ANNA = b"A" * 16
BOB = b"B" * 16
WALL_MS = 1_700_000_000_000
"""14 November 2023."""


class Script:
    """One replica that gets segments in order. `wall_ms` advances by one second a segment."""

    def __init__(self) -> None:
        self.replica = open_replica()
        self.root = self.replica.ids.root_ino
        self.stamp = 0
        self.counts: dict[bytes, tuple[int, int]] = {}

    def segment(
        self, who: bytes, *ops: Op, role: int = 1, packs: tuple[PackRef, ...] = (), inherits: tuple[bytes, ...] = ()
    ) -> IntegratedSegment:
        """A segment that comes last of all."""
        self.stamp += 1
        seq, first = self.counts.get(who, (0, 0))
        self.counts[who] = (seq + 1, first + len(ops))
        label = {ANNA: "Anna", BOB: "Bob"}.get(who, "Eve")
        digest = who + self.stamp.to_bytes(16, "big")
        wall = WALL_MS + self.stamp * 1000
        return IntegratedSegment(who, seq, digest, self.stamp, wall, label, role, first, ops, packs, inherits=inherits)

    def write(
        self, who: bytes, *ops: Op, role: int = 1, packs: tuple[PackRef, ...] = (), inherits: tuple[bytes, ...] = ()
    ) -> Ver:
        """Apply operations of `who`; returns the version that the last of them makes."""
        seg = self.segment(who, *ops, role=role, packs=packs, inherits=inherits)
        self.replica.integrate([seg])
        check_tree(self.replica)
        return (OpId(who, seg.first_op + len(ops) - 1),)

    # ---- operations with everything that does not matter filled in

    def file(self, who: bytes, name: bytes, text: bytes = b"", parent: bytes | None = None) -> Ver:
        """Create a file with content."""
        return self.write(who, make_file(parent or self.root, name, text))

    def folder(self, who: bytes, name: bytes, parent: bytes | None = None) -> Ver:
        """Make a directory."""
        return self.write(who, make_folder(parent or self.root, name))

    # ---- looking

    def tree(self) -> dict[str, str]:
        """Path -> "dir", "link to X", or the version of the content as the names of its authors and numbers."""
        found = {}
        for path, st in self.replica.walk():
            node = self.replica.node(st)
            assert node is not None
            if node.kind == KIND_DIR:
                found[path.decode()] = "dir"
            elif node.kind == KIND_SYMLINK:
                found[path.decode()] = f"link to {node.target.decode()}"
            else:
                ver = self.replica.extern_ver(node.cver)
                found[path.decode()] = " ".join(f"{op.log[:1].decode()}{op.n}" for op in ver)
        return found

    def notices(self) -> list[str]:
        """Kinds of all notices."""
        return [notice.kind for notice in self.replica.notices()]

    def history(self) -> list[str]:
        """Versions that are kept."""
        rows = self.replica.state_rows("history")
        return [" ".join(f"{op.log[:1].decode()}{op.n}" for op in row[1]) for row in rows]

    def unchanged_by(self, who: bytes, op: Op, **more: object) -> bool:
        """Whether the operation changes no row of the State but for containers."""
        before = state_of(self.replica)
        self.write(who, op, **more)  # type: ignore[arg-type]
        return state_of(self.replica) == before


def made(ver: Ver) -> bytes:
    """The inode a create made."""
    return inode_of(VAULT, ver[0])


def copy(ver: Ver) -> bytes:
    """The inode of a conflict copy."""
    return copy_inode_of(VAULT, ver[0])


def make_file(parent: bytes, name: bytes, text: bytes = b"") -> Create:
    content = content_of(text) if text else None
    return Create(parent, name, KIND_FILE, 0o644, 0, 0, 0, 7, b"", content)


def make_folder(parent: bytes, name: bytes) -> Create:
    return Create(parent, name, KIND_DIR, 0o755, 0, 0, 0, 7, b"", None)


def make_symlink(parent: bytes, name: bytes, target: bytes) -> Create:
    return Create(parent, name, KIND_SYMLINK, 0o777, 0, 0, 0, 7, target, None)


def edit(ino: bytes, base: Ver, text: bytes) -> Put:
    return Put(ino, base, content_of(text), 9)
