"""What the next segment is to say: the oldest pending operations, joined, and a snapshot of each content they carry.

Made in one moment, without waiting. What is awaited afterwards - packs, the store - may take long; so before the
signature the draft is asked whether it still says what is so.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from cryptfs.format.operation import Create, Put, Rekey
from cryptfs.format.segment import LogHead, PackRef
from cryptfs.format.segment_body import Attest
from cryptfs.tree.coalesce import Coalesced, Pending, coalesce
from cryptfs.tree.finalise import settle
from cryptfs.tree.ids import st_of_k
from cryptfs.vault.containers import Container
from cryptfs.vault.content import FileContent
from cryptfs.vault.manifest import Snapshot
from cryptfs.vault.pending import Batch

if TYPE_CHECKING:
    from cryptfs.vault.vault import Vault

__all__ = ["Draft", "Rekeyed", "draft", "still_holds"]


class Rekeyed(Protocol):
    """One content that is to be sealed under other keys, see `resealing.py`."""

    @property
    def op(self) -> Rekey:
        """The operation that says so."""

    @property
    def containers(self) -> Sequence[Container]:
        """The packs that hold its new records."""

    def holds(self) -> bool:
        """Whether the content is still the one that was sealed anew, and the keys are still the present ones."""

    def settle(self) -> None:
        """A segment says so now: whoever has the file open goes on with the new records. No waiting."""


@dataclass(slots=True)
class Draft:
    """One segment in the making. `snapshots`: index of the operation -> its file as it goes into the segment."""

    batch: Batch
    coalesced: Coalesced
    snapshots: dict[int, Snapshot] = field(default_factory=dict)
    vanishing: list[FileContent] = field(default_factory=list)
    body2: bytearray = field(default_factory=bytearray)
    here: dict[tuple[int, int], int] = field(default_factory=dict)  # (local pack, offset) -> offset in body2
    manifests: list[Container] = field(default_factory=list)
    rekeys: Sequence[Rekeyed] = field(default_factory=list)
    ahead: bool = False  # a file was saved again later than the batch goes: its content is already that one
    parted: set[int] = field(default_factory=set)  # operations whose base is not what they are put on any more
    packs: tuple[PackRef, ...] = ()
    wall_ms: int = 0
    stamp: int = 0
    mheads: tuple[bytes, ...] = ()
    vec: tuple[LogHead, ...] = ()
    attest: tuple[Attest, ...] = ()

    def may_part(self, snap: Snapshot) -> bool:
        """Whether the file can become a copy of its own: its changes are all puts, not the making of it."""
        return all(isinstance(self.coalesced.groups[at].op, Put) for at, one in self.snapshots.items() if one is snap)

    def part(self, snap: Snapshot, rest: Snapshot) -> None:
        """Say `rest` in place of `snap`, based on nothing: by the rules of merging that is a conflicted copy."""
        for at in [at for at, one in self.snapshots.items() if one is snap]:
            self.snapshots[at] = rest
            self.parted.add(at)
        self.ahead = True

    def abandon(self) -> None:
        """As if it had not been begun."""
        for snap in self.snapshots.values():
            snap.file.map.abandon_sealing()
        for file in self.vanishing:
            file.vanishing = False


def draft(vault: "Vault") -> Draft:
    """Fix what the segment says. No waiting: this is one moment in the life of the tree."""
    batch = vault.pending.batch()
    made = Draft(batch, _joined(vault, batch))
    for k in made.coalesced.vanished:
        if (file := vault.files.get(st_of_k(k))) is not None and file.origin == file.st:
            file.vanishing = True
            made.vanishing.append(file)
    taken: dict[FileContent, Snapshot] = {}
    for at, group in enumerate(made.coalesced.groups):
        op = group.op
        if not isinstance(op, Create | Put) or op.content is None:
            continue
        file = next((vault.carried[k] for k in group.ks if k in vault.carried), None)
        if file is None:
            raise RuntimeError("a pending content has no file")
        if file not in taken:
            taken[file] = Snapshot(
                file, file.map.begin_sealing(), file.map.base, file.size, file.chunk_log2, file.digest
            )
        snap = made.snapshots[at] = taken[file]
        made.ahead = made.ahead or (snap.size, snap.digest) != (op.content.size, op.content.digest)
    return made


def still_holds(vault: "Vault", made: Draft) -> bool:
    """Whether nothing that the draft leaves out has become known to anybody since it was made."""
    return not made.coalesced.vanished or _joined(vault, made.batch).vanished == made.coalesced.vanished


def _joined(vault: "Vault", batch: Batch) -> Coalesced:
    """What need not be said is left out, but for nodes that somebody may still name.

    A node that was made and removed in one batch is on the way out - unless what others made meanwhile was merged with
    it: then the tree shows it, and what is written to it is based on its version.
    """
    replica = vault.replica
    pending = settle([Pending(entry.k, entry.op) for entry in batch.entries], replica)
    coalesced = coalesce(pending)
    if not coalesced.vanished:
        return coalesced
    later = [Pending(entry.k, entry.op) for entry in vault.pending.entries() if entry.k > batch.upto]
    kept = [k for k in coalesced.vanished if replica.is_merged(st_of_k(k))]
    return coalesce(pending, settle(later, replica), kept) if later or kept else coalesced
