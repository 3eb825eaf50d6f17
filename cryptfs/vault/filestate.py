"""How a file stands between this device and the store, in a word: what `cryptfs info` and a status attribute say of it.

Nothing here waits, or asks the store: it is what is known anyway.
"""

from enum import StrEnum
from typing import TYPE_CHECKING

from cryptfs.format.operation import is_provisional_ino
from cryptfs.vault.containers import Ref
from cryptfs.vault.reading import ReadContent
from cryptfs.vault.records import locate

if TYPE_CHECKING:
    from cryptfs.vault.vault import Vault

__all__ = ["FileState", "state_of"]


class FileState(StrEnum):
    """Of a file, or of anything that was made here; the words are promises (docs/mount.md, "POSIX notes")."""

    WAITING = "waits to be sent"
    UNREADABLE = "not readable"
    STORED = "stored"


def state_of(vault: "Vault", st: int) -> FileState:
    """Whether the store has what is here; if it has, whether a part of the content is known to be missing there."""
    content = vault.files.get(st)
    if content is not None and (content.pending > 0 or content.dirty):
        return FileState.WAITING
    if is_provisional_ino(vault.replica.ino_of(st)):
        return FileState.WAITING  # nobody else knows of it yet, empty or not
    return FileState.UNREADABLE if vault.cache.damaged and _lacks(vault, st) else FileState.STORED


def _lacks(vault: "Vault", st: int) -> bool:
    """Whether a record lies in an object that was found missing or damaged, and not on this disk.

    Of a file with manifests, as far as those were read.
    """
    reading = ReadContent(vault, st, vault.present_size(st))
    reading.ensure_loaded()
    manifest = reading.map.base.manifest
    if manifest is not None:
        root = Ref(vault.container(manifest.loc), manifest.loc.off, 0, manifest.hash)
        if _is_out_of_reach(vault, root, manifest.len):
            return True
    refs = ((index, reading.map.get(index)) for index in reading.present_chunks())
    return any(ref is not None and _is_out_of_reach(vault, ref, reading.sealed_len(index)) for index, ref in refs)


def _is_out_of_reach(vault: "Vault", ref: Ref, length: int) -> bool:
    container, off = locate(ref)
    if container.path is not None or vault.cache.name_of(container) not in vault.cache.damaged:
        return False
    sparse = container.sparse
    return sparse is None or not sparse.present.covers(off, off + length)
