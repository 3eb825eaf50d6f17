"""What exists of a changed file whose manifest is nowhere: enough to say what was written, and no more.

A file with unsent changes keeps most of its chunks from the version below. If a manifest page that names them is gone
from the folder and from this disk, the new version cannot be said whole, and everything that was done later would wait
for it. So after a while what exists goes out as a conflicted copy: the chunks that were written here, and those of the
version below that can still be named, over holes. The file itself stays as the others have it, for its manifest may
come back (docs/replication.md, "Missing objects").
"""

from typing import Final

from cryptfs.errors import Damaged
from cryptfs.vault.chunkmap import NOTHING, Layer
from cryptfs.vault.manifest import Snapshot

__all__ = ["PATIENCE", "Waits", "remnant_of"]

PATIENCE: Final = 120.0
"""Seconds that a manifest may be nowhere before its file goes without it; a listing may lag."""


class Waits:
    """How long each file, by its st number, has been waiting for something that is nowhere."""

    def __init__(self) -> None:
        self._since: dict[int, float] = {}

    def is_over(self, st: int, now: float) -> bool:
        """Whether it has waited long enough; `now` in seconds that only run forward."""
        return now - self._since.setdefault(st, now) >= PATIENCE

    def end(self, st: int) -> None:
        """What it waited for is there."""
        self._since.pop(st, None)


async def remnant_of(snap: Snapshot) -> Snapshot:
    """The same file with all that can be named of it, over holes. Raises StoreError, LocalDisk."""
    base = snap.base
    for page in base.missing_pages():
        try:
            await snap.file.load_page(base, page)
        except Damaged:
            continue
    whole = Layer(cut=0)
    whole.chunks = {
        index: ref for index, ref in base.chunks.items() if ref is not None and index < min(snap.layer.cut, snap.count)
    }
    whole.chunks.update(snap.layer.chunks)
    return Snapshot(snap.file, whole, NOTHING, snap.size, snap.chunk_log2, b"")
