"""Live records of some containers, copied byte for byte into a new pack (docs/replication.md, "Collection").

Every record is compared with the hash that is known of it: what is damaged is not spread, and a container that holds it
is left alone. Keys and hints come along, so that the new pack can be salvaged like any other.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from cryptfs.errors import HostileStore
from cryptfs.format.operation import Range, Relocate
from cryptfs.tree.places import Place
from cryptfs.vault.pieces import Piece, Sparse, piece_of
from cryptfs.vault.wholepack import WholePack

if TYPE_CHECKING:
    from cryptfs.vault.vault import Vault

__all__ = ["repack"]


async def repack(vault: "Vault", containers: Iterable[Sparse]) -> tuple[list[Relocate], dict[Place, str]]:
    """Copy what is live in these containers into one new pack, which the store has on return.

    Returns the operations that say so, and which containers were left alone for which reason. Raises StoreError,
    LocalDisk, and Damaged if a record rots while it is copied; nothing has changed then.
    """
    pieces: list[Piece] = []
    left: dict[Place, str] = {}
    for one in containers:
        try:
            pieces.append(await piece_of(vault, one))
        except HostileStore as err:
            left[one.place] = str(err)
    if not pieces:
        return [], left
    whole = WholePack(vault.vault_id, vault.keyring)
    moves = {piece.place: _joined(piece.add_to(whole)) for piece in pieces}
    await vault.packer.send_whole(whole)
    vault.faults.step("repack.sent")
    new = whole.container
    vault.cache.adopt(new)
    if new.path is not None:
        vault.cache.pinned.add(new.path)
    return [Relocate(*place, new.where, new.id, ranges) for place, ranges in moves.items()], left


def _joined(moves: Iterable[tuple[int, int, int]]) -> tuple[Range, ...]:
    """(old offset, new offset, length) of records, in as few ranges as possible."""
    ranges: list[Range] = []
    for old, new, length in moves:
        last = ranges[-1] if ranges else None
        if last is not None and (last.old_off + last.len, last.new_off + last.len) == (old, new):
            ranges[-1] = Range(last.old_off, last.new_off, last.len + length)
        else:
            ranges.append(Range(old, new, length))
    return tuple(ranges)
