"""What still lies under older keys than the present ones: found in the tree itself, so nothing has to be remembered.

A version is *old* if one of its file keys is boxed under another key set than the present one, or its manifest lies
under one: whoever was put out since may hold these keys. It is old as long as one chunk is.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptfs.errors import HostileStore, NeedsUpdate
from cryptfs.format.codec import decode
from cryptfs.format.content import Content, Hole, Paged, Root
from cryptfs.format.content_rules import plain_chunk_len
from cryptfs.format.limits import MANIFEST_MAX
from cryptfs.format.operation import KIND_DIR
from cryptfs.tree.replica import StoredVersion
from cryptfs.vault.pace import Pace
from cryptfs.vault.stored import StoredContent

if TYPE_CHECKING:
    from cryptfs.vault.vault import Vault

__all__ = ["Survey", "content_of", "files_below", "old_bytes", "survey"]


@dataclass(slots=True)
class Survey:
    """How much is old: files, all their old versions, and at most so many bytes.

    `trash` of the files are deleted ones; `unreadable` could not be judged.
    """

    files: int = 0
    trash: int = 0
    versions: int = 0
    bytes: int = 0
    unreadable: int = 0


def content_of(version: StoredVersion) -> Content:
    """The decoded content of a version. Raises Invalid."""
    return decode(Content, version.content, MANIFEST_MAX)


def files_below(vault: "Vault", top: int | None) -> list[int]:
    """Files below the node `top`, or it itself; with None all of the vault, those in the trash too."""
    replica = vault.replica
    if top is None:
        return replica.files_with_versions()
    node = replica.node(top)
    if node is None:
        return []
    if node.kind != KIND_DIR:
        return [top]
    found, waiting = set(), [top]
    while waiting:
        for _, st, kind in replica.entries(waiting.pop()):
            if kind == KIND_DIR:
                waiting.append(st)
            else:
                found.add(st)  # a file with several links is one file
    return sorted(found)


async def old_bytes(vault: "Vault", version: StoredVersion) -> int:
    """Bytes of a version under old keys, 0 if it is not old; of a large file all of it, however much is old.

    Never 0 for a version that is old. Raises what reading a manifest raises.
    """
    ks, content = vault.keyring.write_keyset, content_of(version)
    old = {box.fkv for box in content.keys if box.ks != ks}
    if not isinstance(content.body, Paged):
        return sum(_old_chunks(content, old))
    if old or content.body.root.ks != ks or _names_old(await _root(vault, version, content), ks):
        return max(1, content.size)
    return 0


def _old_chunks(content: Content, old: set[int]) -> Iterator[int]:
    """Plain lengths of the chunks of an inline content that are sealed under these versions of its key."""
    index = 0
    spans = () if isinstance(content.body, Paged) else content.body.spans
    for span in spans:
        if not isinstance(span, Hole) and span.fkv in old:
            yield from (
                plain_chunk_len(content.size, content.chunk_log2, at) for at in range(index, index + span.count)
            )
        index += span.count


async def _root(vault: "Vault", version: StoredVersion, content: Content) -> Root:
    stored = StoredContent(vault, version.st, content.size)
    stored.take_version(content)
    base = stored.map.base
    if base.root is None:
        await stored.load_page(base, -1)
    if base.root is None:
        raise RuntimeError("a root that was loaded is not there")
    return base.root


def _names_old(root: Root, ks: bytes) -> bool:
    return any(box.ks != ks for box in root.keys) or any(page is not None and page.ks != ks for page in root.pages)


async def survey(vault: "Vault", top: int | None, pace: Pace) -> Survey:
    """Look at all files below `top`, or of the whole vault. Raises StoreError, LocalDisk."""
    found = Survey()
    for st in files_below(vault, top):
        await pace.step()
        versions = amount = 0
        for version in vault.replica.versions(st):
            try:
                old = await old_bytes(vault, version)
            except (HostileStore, NeedsUpdate):
                found.unreadable += 1
                continue
            versions += old > 0
            amount += old
        if versions:
            node = vault.replica.node(st)
            found.files += 1
            found.trash += node is not None and node.nlink == 0
            found.versions += versions
            found.bytes += amount
    return found
