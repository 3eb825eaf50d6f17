"""From local operations to those of a segment: coalesced, numbered, every provisional id exchanged for a final one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from cryptfs.format.names import copy_inode_of, inode_of
from cryptfs.format.operation import (
    Create,
    Op,
    OpId,
    is_provisional_ino,
    provisional_number,
)
from cryptfs.tree.coalesce import Coalesced, Pending, coalesce
from cryptfs.tree.renaming import Names, rename_ids

__all__ = ["Batch", "SealedNames", "finalise", "make_batch", "settle"]


class SealedNames(Protocol):
    """What is known about operations sealed before; the replica knows."""

    def own_id(self, k: int) -> OpId | None:
        """Final id of local operation `k`."""

    def final_ino(self, ino: bytes) -> bytes:
        """The final form of an inode if it has one, else the inode itself."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What a segment will carry: `ops`; `ids` local number k -> number n in the log; `vanished` creates (k) of nodes
    that nobody else will ever see.
    """  # noqa: D205 - one sentence

    ops: tuple[Op, ...]
    ids: dict[int, int]
    vanished: list[int]


def make_batch(
    pending: Sequence[Pending],
    names: SealedNames,
    log: bytes,
    first_op: int,
    vault: bytes,
    *,
    later: Sequence[Pending] = (),
) -> Batch:
    """Settle, coalesce and finalise. `log` 16 bytes, `first_op` operations of the log so far, `vault` 32 bytes.

    `later`: the operations that stay pending.
    """
    return finalise(coalesce(settle(pending, names), settle(later, names)), log, first_op, vault)


def settle(pending: Sequence[Pending], names: SealedNames) -> list[Pending]:
    """Exchange the provisional ids of what has been sealed meanwhile, so that every inode has one name only."""

    def op_id(one: OpId) -> OpId:
        k = provisional_number(one)
        return one if k is None else names.own_id(k) or one

    exchange = Names(op_id, names.final_ino)
    return [Pending(one.k, rename_ids(one.op, exchange)) for one in pending]


def finalise(coalesced: Coalesced, log: bytes, first_op: int, vault: bytes) -> Batch:
    """Number the operations from `first_op` and name everything by its final id.

    Raises ValueError if an operation names something that is neither in the batch nor sealed: a bug of the caller.
    """
    ids: dict[int, int] = {}
    made: dict[int, bytes] = {}
    for n, group in enumerate(coalesced.groups, first_op):
        for k in group.ks:
            ids[k] = n
        # Others than creates make an inode only where they became a conflict copy.
        make = inode_of if isinstance(group.op, Create) else copy_inode_of
        made[group.ks[0]] = make(vault, OpId(log, n))
    exchange = Names(lambda one: _op_id(one, log, ids), lambda ino: _inode(ino, made))
    return Batch(tuple(rename_ids(group.op, exchange) for group in coalesced.groups), ids, coalesced.vanished)


def _op_id(one: OpId, log: bytes, ids: Mapping[int, int]) -> OpId:
    k = provisional_number(one)
    if k is None:
        return one
    if k not in ids:
        raise ValueError(f"local operation {k} is neither sealed nor in the batch")
    return OpId(log, ids[k])


def _inode(ino: bytes, made: Mapping[int, bytes]) -> bytes:
    if not is_provisional_ino(ino):
        return ino
    k = int.from_bytes(ino[8:], "big")
    if k not in made:
        raise ValueError(f"the node of local operation {k} is neither sealed nor in the batch")
    return made[k]
