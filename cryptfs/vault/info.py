"""What holds one file: objects of the store, sizes, and how far it has been sent. For people and for `cryptfs info`."""

import errno
from typing import TYPE_CHECKING, Final

from cryptfs.errors import FsError
from cryptfs.format.content import WHERE_BODY2
from cryptfs.format.names import pack_name
from cryptfs.format.operation import KIND_FILE
from cryptfs.tree.replica import Replica
from cryptfs.vault.content import FileContent
from cryptfs.vault.records import locate

if TYPE_CHECKING:
    from cryptfs.vault.vault import Vault

__all__ = ["file_info", "path_of"]

_DEPTH_MAX: Final = 4096
"""Steps upwards; no honest tree is deeper."""


async def file_info(vault: "Vault", st: int) -> dict[str, object]:
    """Everything about the node `st` as JSON values. Raises FsError(ENOENT), and what reading a manifest raises."""
    node = vault.replica.node(st)
    if node is None:
        raise FsError(errno.ENOENT)
    info: dict[str, object] = {
        "inode": vault.replica.ino_of(st).hex(),
        "st_ino": st,
        "kind": ("file", "directory", "symlink", "fifo", "socket", "character device", "block device")[node.kind],
        "size": node.size,
        "links": node.nlink,
    }
    if node.kind == KIND_FILE:
        content = vault.open_file(st)
        try:
            await content.load_all()
            info |= _content_info(vault, content)
        finally:
            vault.release_file(content)
    return info


def path_of(replica: Replica, st: int) -> bytes:
    """One path of a node from the root, without leading slash; what is known of it if it has no link."""
    parts: list[bytes] = []
    while st != 1 and len(parts) < _DEPTH_MAX:
        links = replica.links(st)
        if not links:
            break
        parts.append(links[0].name)
        st = links[0].parent
    return b"/".join(reversed(parts))


def _content_info(vault: "Vault", content: FileContent) -> dict[str, object]:
    objects: dict[str, dict[str, object]] = {}
    sealed = 0
    for index in content.present_chunks():
        ref = content.map.get(index)
        if ref is None:
            continue
        container, _ = locate(ref)
        length = content.sealed_len(index)
        sealed += length
        if not container.id:
            name, state = f"local pack {container.num}", "waits to be sent"
        elif container.where == WHERE_BODY2:
            name, state = vault.cache.segments.name(container.id) or f"segment {container.id.hex()}", "stored"
        else:
            name = pack_name(container.id)
            state = "being sent" if container.num in vault.records.local else "stored"
        entry = objects.setdefault(
            name, {"object": name, "state": state, "cached": container.path is not None, "records": 0, "bytes": 0}
        )
        entry["records"] = int(str(entry["records"])) + 1
        entry["bytes"] = int(str(entry["bytes"])) + length
    return {
        "size": content.size,
        "chunk_size": 1 << content.chunk_log2,
        "sealed_bytes": sealed,
        "unsealed_bytes": content.dirty_len,
        "state": vault.state_of(content.st),
        "lineage": content.fid.hex(),
        "objects": sorted(objects.values(), key=lambda one: str(one["object"])),
    }
