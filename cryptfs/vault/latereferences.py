"""What late work refers to: it is without effect, and may be accepted yet.

Collection leaves it alone for the retention, by the store's date: an accept after that may find gaps
(docs/replication.md, "Collection").
"""

from typing import TYPE_CHECKING

from cryptfs.errors import HostileStore, NeedsUpdate, NotAllowed, NotFound
from cryptfs.format.content import Content
from cryptfs.format.operation import Create, Put, Rekey
from cryptfs.group.ends import HeldSegment
from cryptfs.tree.facts import anchored

if TYPE_CHECKING:
    from cryptfs.vault.vault import Vault

__all__ = ["LateReferences"]


class LateReferences:
    """Reads late segments of one vault, each once."""

    def __init__(self, vault: "Vault") -> None:
        self._vault = vault
        self._read: dict[bytes, list[Content]] = {}  # by digest of the segment

    async def contents(self) -> list[Content]:
        """Contents that segments beyond the ends of logs carry, of objects not older than the retention.

        What cannot be read here could not be accepted either. Raises StoreError.
        """
        vault = self._vault
        if not vault.reader.late:
            return []
        dates = await vault.sender.dates("l/")
        old = vault.wall_ms() - int(vault.options.history_s * 1000)
        found: list[Content] = []
        for log_id, segments in sorted(vault.reader.late.items()):
            for one in segments:
                if vault.log_objects.dated(dates, log_id, one.seq, one.digest) >= old:
                    found += await self._contents_in(log_id, one)
        return found

    async def _contents_in(self, log_id: bytes, one: HeldSegment) -> list[Content]:
        if one.digest not in self._read:
            try:
                segment = await self._vault.reader.fetch(log_id, one)
            except (NotFound, HostileStore, NeedsUpdate, NotAllowed):
                return []
            contents = (op.content for op in segment.ops if isinstance(op, Create | Put | Rekey))
            self._read[one.digest] = [anchored(content, one.digest) for content in contents if content is not None]
        return self._read[one.digest]
