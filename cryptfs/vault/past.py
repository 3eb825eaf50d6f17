"""What lay at a path: the present file, its old versions, and what was deleted there, as one list of versions.

Programs that save by writing a new file over the old one leave a deleted file at the same path with every save; for
people that is an older version like any other, so both kinds stand in one list.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptfs.errors import NotKept, UsageError
from cryptfs.format.content import Content
from cryptfs.format.operation import KIND_DIR, KIND_FILE
from cryptfs.tree.ids import PROVISIONAL_PREFIX
from cryptfs.tree.past import gone_from, replaced
from cryptfs.tree.rows import History, NodeRow
from cryptfs.tree.schema import ROOT_ST
from cryptfs.vault.authorship import Authorship, Made
from cryptfs.vault.info import path_of

if TYPE_CHECKING:
    from cryptfs.vault.vault import Vault

__all__ = ["Past", "Spot", "Version", "choose", "in_words"]

DELETED: Final = "deleted"
OLD: Final = "old"
PRESENT: Final = "present"

_ID_LEN: Final = 8
_ID_MIN: Final = 4
"""Hex digits of a version's id that are enough to mean it."""
_DEPTH_MAX: Final = 4096


@dataclass(frozen=True, slots=True)
class Version:
    """One version of what lay at a path: `ver` of the node `st`, in external form.

    `carrier`: the operation that brought its content, None for an empty file and for what is no file. `standing`:
    present, old (replaced) or deleted (the last content of a node without a name). `until`: stamp of the segment that
    ended it, with tentative ones last.
    """

    st: int
    kind: int
    ver: bytes
    carrier: bytes | None
    size: int
    mtime_ns: int
    standing: str
    until: tuple[bool, int]
    made: Made

    @property
    def id(self) -> str:
        """What people call it: the same on every device once it is sealed."""
        return hashlib.sha256(self.ver).hexdigest()[:_ID_LEN]


@dataclass(frozen=True, slots=True)
class Spot:
    """A path, now and before. `parent`: the directory that is there now, None if there is none any more.

    `entry`: the node that has the name now; `gone`: those that had it, the one dropped last first.
    """

    path: bytes
    parent: int | None
    name: bytes
    entry: int | None
    gone: tuple[NodeRow, ...]


class Past:
    """Looks back in one vault. Made for one question."""

    def __init__(self, vault: "Vault") -> None:
        self._vault = vault
        self._replica = vault.replica
        self.authors = Authorship(vault)
        aliases = vault.replica.rows.aliases
        self._also: dict[int, list[int]] = {}
        for old in aliases:
            self._also.setdefault(vault.replica.state.res(old), []).append(old)

    # ---- places ---------------------------------------------------------------------------------------------------

    def gone_in(self, directory: int) -> list[NodeRow]:
        """What was dropped from a directory, also under another number it had."""
        found = gone_from(self._replica, directory)
        for old in self._also.get(directory, ()):
            found += gone_from(self._replica, old)
        return found

    def spot(self, path: bytes) -> Spot:
        """What the path means, now and before. Raises NotKept."""
        parts = parts_of(path)
        if not parts:
            raise UsageError("The root of a vault has no versions.", "Name a file or a folder in it.")
        live, directories = self._directories(parts[:-1])
        name = parts[-1]
        entry = None if live is None else self._replica.lookup(live, name)
        gone = [node for one in directories for node in self.gone_in(one) if node.last_name == name]
        if entry is None and not gone:
            raise _not_kept(parts)
        return Spot(b"/".join(parts), live, name, None if entry is None else entry.st, tuple(gone))

    def directories(self, path: bytes) -> tuple[int | None, list[int]]:
        """The directory at a path if there is one now, and all that ever were, that one first. Raises NotKept."""
        return self._directories(parts_of(path))

    def _directories(self, parts: Sequence[bytes]) -> tuple[int | None, list[int]]:
        live: int | None = ROOT_ST
        found = [ROOT_ST]
        for name in parts:
            below = [
                node.st
                for one in found
                for node in self.gone_in(one)
                if node.last_name == name and node.kind == KIND_DIR
            ]
            entry = None if live is None else self._replica.lookup(live, name)
            live = entry.st if entry is not None and entry.kind == KIND_DIR else None
            found = below if live is None else [live, *below]
            if not found:
                raise _not_kept(parts)
        return live, found

    def path_of_gone(self, node: NodeRow) -> bytes:
        """Where a node without a name was last; a path that begins with "?" leads to what nobody knows any more."""
        parts: list[bytes] = []
        at: NodeRow | None = node
        while at is not None and at.gone_l is not None and len(parts) < _DEPTH_MAX:
            parts.append(at.last_name or b"?")
            parent = None if at.last_parent is None else self._replica.state.res(at.last_parent)
            at = None if parent is None else self._replica.rows.node(parent)
        if at is None or at.gone_l is not None:
            parts.append(b"?")
        elif at.st != ROOT_ST:
            parts.append(path_of(self._replica, at.st))
        return b"/".join(reversed(parts))

    # ---- versions -------------------------------------------------------------------------------------------------

    async def versions(self, spot: Spot) -> list[Version]:
        """Everything that was at the place, newest first."""
        found: list[Version] = []
        node = None if spot.entry is None else self._replica.rows.node(spot.entry)
        for one in (*([node] if node is not None else []), *spot.gone):
            found += self.of_node(one)
        return sorted(found, key=lambda one: (one.standing != PRESENT, not one.until[0], -one.until[1]))

    def of_node(self, node: NodeRow) -> Iterator[Version]:
        """The content of a node, and its old versions, newest first."""
        external, authors = self._replica.ids.external, self.authors
        ver = external(node.cver)
        carrier = None if node.content is None else external(node.content)
        gone = node.gone_l
        until = (True, 0) if gone is None else (gone < 0, abs(gone))
        standing = PRESENT if gone is None else DELETED
        made = authors.of_version(ver)
        yield Version(node.st, node.kind, ver, carrier, node.size, node.mtime_ns, standing, until, made)
        for old in replaced(self._replica, node.st) if node.kind == KIND_FILE else ():
            yield self._old(old)

    def _old(self, old: History) -> Version:
        made = self.authors.of_version(old.cver)
        return Version(old.st, KIND_FILE, old.cver, old.content, old.size, old.mtime_ns, OLD, (False, old.sup_l), made)

    def content_of(self, version: Version) -> Content | None:
        """The sealed content of a version; None for an empty file, or one that is not sealed yet."""
        return None if version.carrier is None else self._replica.facts.content(version.carrier)

    def unsent(self, version: Version) -> bool:
        """Whether the bytes of the version are still this device's alone."""
        carrier = version.carrier
        content = self._vault.files.get(version.st)
        pending = content is not None and (content.changed or content.pending > 0) and version.standing == PRESENT
        return pending or (carrier is not None and carrier.startswith(PROVISIONAL_PREFIX))


def _not_kept(parts: Sequence[bytes]) -> NotKept:
    return NotKept(f"{in_words(b'/'.join(parts))}: nothing of that name is there, or kept.")


def parts_of(path: bytes) -> list[bytes]:
    """Names on the way from the root. Raises UsageError for `..`, which leads nowhere here."""
    names = [name for name in path.split(b"/") if name not in (b"", b".")]
    if b".." in names:
        raise UsageError("Paths in a vault start at its root; '..' leads nowhere.")
    return names


def in_words(path: bytes) -> str:
    """A path as it is shown and sent: with its slash, bytes that are no UTF-8 as lone surrogates."""
    return "/" + path.decode(errors="surrogateescape")


def choose(versions: Sequence[Version], *, id_: str = "", before_ms: int = 0) -> Version:
    """The version with that id; or the one in force before a time; or the newest that is not present.

    Raises UsageError if there is none, or if several begin with these digits.
    """
    if id_:
        found = [one for one in versions if len(id_) >= _ID_MIN and one.id.startswith(id_.lower())]
        if len({one.ver for one in found}) != 1:
            many = "Several versions begin" if found else "No version begins"
            raise UsageError(f"{many} with '{id_}'.", "`cryptfs versions` lists them with their ids.")
        return found[0]
    if before_ms:
        older = [one for one in versions if 0 < one.made.wall_ms < before_ms]
        if not older:
            raise UsageError("No version from before that time is kept.", "`cryptfs versions` lists those that are.")
        return max(older, key=lambda one: one.made.wall_ms)
    past = [one for one in versions if one.standing != PRESENT]
    if not past:
        raise UsageError("There is no older version of this.", "`cryptfs versions` lists what is kept.")
    return past[0]
