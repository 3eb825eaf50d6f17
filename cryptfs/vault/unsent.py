"""Which files hold changes that no segment carries yet: what a device that may not write any more can still export."""

from collections.abc import AsyncIterator
from typing import Final

from cryptfs.format.operation import KIND_FILE, Create, Put
from cryptfs.tree.ids import st_of_k
from cryptfs.vault.info import path_of
from cryptfs.vault.vault import Vault

__all__ = ["read_whole", "unsent_files"]

_PIECE: Final = 1 << 20
"""Bytes read at once."""


def unsent_files(vault: Vault) -> list[tuple[bytes, int]]:
    """(path without leading slash, node) of every file with unsent content, or made and not sent yet; by path."""
    found: dict[bytes, int] = {}
    for entry in vault.pending.entries():
        op = entry.op
        if isinstance(op, Create) and op.kind == KIND_FILE:
            st: int | None = st_of_k(entry.k)
        elif isinstance(op, Put):
            st = vault.replica.st_of(op.i)
        else:
            continue
        if st is not None and vault.replica.links(st):
            found[path_of(vault.replica, st)] = st
    return sorted(found.items())


async def read_whole(vault: Vault, st: int) -> AsyncIterator[bytes]:
    """The bytes of a file, in pieces. What did not change may be in the store only.

    Raises what reading raises.
    """
    content = vault.open_file(st)
    try:
        at = 0
        while at < content.size:
            piece = bytes(await content.read(at, _PIECE))
            yield piece
            at += len(piece)
    finally:
        vault.release_file(content)
