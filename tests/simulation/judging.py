"""What the judges of simulated histories look at: own edits, differences, and what the folder itself says."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from cryptfs.crypto.keys import KeyLabel
from cryptfs.errors import CryptfsError
from cryptfs.format.content import WHERE_BODY2, WHERE_HERE, Content, Inline, Paged, Run
from cryptfs.format.names import SegmentName, parse_name
from cryptfs.format.operation import KIND_FILE, Op, OpId, Rename, Restore, Unlink
from cryptfs.format.segment import SegmentBody, open_segment, parse_segment
from cryptfs.vault.vault import Vault

__all__ = ["Evidence", "Said", "deleted_here", "difference", "own_edits", "places_of"]

_PROVISIONAL = b"\xff" * 16


def own_edits(vault: Vault, *, linked: bool = True) -> set[object]:
    """Versions made here, not sealed yet, of files that are linked and not empty."""
    found: set[object] = set()
    for row in vault.replica.all_rows("node"):
        if row[1] == KIND_FILE and row[6] > 0 and (row[14] is None or not linked):
            found |= {op.n for op in vault.replica.extern_ver(row[9]) if op.log == _PROVISIONAL}
    return found


def deleted_here(vault: Vault) -> set[object]:
    """Own edits that the user has deleted or replaced since; a conflict may show them again for a while."""
    found: set[object] = set()
    for entry in vault.pending.entries():
        op = entry.op
        if isinstance(op, Unlink):
            found |= {one.n for one in op.cver}
        elif isinstance(op, Rename) and op.replaced is not None:
            found |= {one.n for one in op.replaced.cver}
        elif isinstance(op, Restore):
            found |= {one.n for one in op.base}
    return found


def difference(expected: dict[bytes, Any], found: dict[bytes, Any]) -> str:
    """In words, how two pictures of a tree differ."""
    names = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    return f"differs in {[(name, _short(expected.get(name)), _short(found.get(name))) for name in names[:5]]}"


def _short(value: Any) -> Any:
    return value if value is None else (*value[:-1], len(value[-1]))


def places_of(content: Content, own: bytes) -> Iterator[tuple[int, bytes]]:
    """Where the records of a content lie, but for those that pages name; `own`: digest of the segment that says it."""
    body = content.body
    if isinstance(body, Inline):
        locs = [span.loc for span in body.spans if isinstance(span, Run)]
    else:
        locs = [body.root.loc, *(patch.span.loc for patch in body.patches if isinstance(patch.span, Run))]
    yield from ((loc.where, loc.id) if loc.where != WHERE_HERE else (WHERE_BODY2, own) for loc in locs)


def is_paged(content: Content) -> bool:
    """Whether what it uses stands in pages."""
    return isinstance(content.body, Paged)


@dataclass(frozen=True)
class Said:
    """One segment that was in the folder at some time."""

    log: bytes
    seq: int
    digest: bytes
    body: SegmentBody

    @property
    def numbered(self) -> Iterator[tuple[OpId, Op]]:
        """Its operations with their ids."""
        return ((OpId(self.log, n), op) for n, op in enumerate(self.body.ops, self.body.first_op))


class Evidence:
    """All segments that ever lay in the folder, read without any replica; `judge` gives the keys and where logs end."""

    def __init__(self, objects: dict[str, bytes], judge: Vault, *, junk: set[str]) -> None:
        self._judge = judge
        self.segments: dict[bytes, Said] = {}
        for key, data in objects.items():
            if isinstance(parse_name(key), SegmentName) and key not in junk:
                said = self._read(data)
                if said is not None:
                    self.segments[said.digest] = said

    def _read(self, data: bytes) -> Said | None:
        try:
            raw = parse_segment(data, self._judge.vault_id)
            body = open_segment(raw, self._judge.keyring.key(KeyLabel.LOG, raw.ks))
        except CryptfsError:
            return None  # under a key that the judge never had
        return Said(raw.log_id, raw.seq, raw.digest, body)

    @cached_property
    def counting(self) -> dict[bytes, list[Said]]:
        """By log the segments that count, in order."""
        reader = self._judge.reader
        logs = {one.log for one in self.segments.values()}
        found = {}
        for log_id in sorted(logs):
            chain = [self.segments.get(one.digest) for one in reader.counting(log_id)]
            counted = [one for one in chain if one is not None]
            while counted and counted[0].seq:  # the judge began from a checkpoint: what was before is in it
                counted.insert(0, self.segments[counted[0].body.prev])
            found[log_id] = counted
        return found

    @cached_property
    def made_by(self) -> dict[OpId, Said]:
        """The segment of each operation that counts."""
        return {op: said for chain in self.counting.values() for said in chain for op, _ in said.numbered}

    @cached_property
    def operations(self) -> list[tuple[OpId, Op, Said]]:
        """All operations that count."""
        return [(op, what, said) for chain in self.counting.values() for said in chain for op, what in said.numbered]

    def had_seen(self, said: Said, op: OpId) -> bool:
        """Whether the author of a segment had applied an operation, or had made it himself until then."""
        if op.log == said.log:
            return op.n < said.body.first_op + len(said.body.ops)
        other = self.made_by.get(op)
        return other is not None and self._seen(said).get(op.log, -1) >= other.seq

    def _seen(self, said: Said) -> dict[bytes, int]:
        """Highest segment of each log that a segment's vector and its predecessors' name, themselves included."""
        seen: dict[bytes, int] = {}
        for one in self.counting[said.log][: said.seq + 1]:
            for head in one.body.vec:
                seen[head.log] = max(seen.get(head.log, -1), head.seq)
        return seen

    def at(self, stamp: Any) -> list[tuple[OpId, Op, Said]]:
        """The operations of segments with that stamp."""
        return self._by_stamp.get(stamp, [])

    @cached_property
    def _by_stamp(self) -> dict[int, list[tuple[OpId, Op, Said]]]:
        found: dict[int, list[tuple[OpId, Op, Said]]] = {}
        for one in self.operations:
            found.setdefault(one[2].body.stamp, []).append(one)
        return found

    @cached_property
    def holders(self) -> dict[bytes, bytes]:
        """The log that first names each pack: it holds it."""
        found: dict[bytes, tuple[int, bytes]] = {}
        for chain in self.counting.values():
            for said in chain:
                for pack in said.body.packs:
                    found[pack.id] = min(found.get(pack.id, (1 << 62, b"")), (said.body.stamp, said.log))
        return {pack: log for pack, (_, log) in found.items()}

    @cached_property
    def contents(self) -> dict[OpId, Content]:
        """What each operation that counts says a file holds."""
        return {op: what.content for op, what, _ in self.operations if getattr(what, "content", None) is not None}  # type: ignore[misc]
