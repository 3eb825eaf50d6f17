"""What a file needs of the store to be read without it: its records, and the pages of its manifest.

A large file is gone through window by window, each the chunks of one manifest page, so that the records of a terabyte
are never all in memory.
"""

from typing import TYPE_CHECKING, NamedTuple

from cryptfs.errors import StoreGone
from cryptfs.format.content import PAGE_CHUNKS, Content, MRef, Paged
from cryptfs.vault.chunkmap import Base
from cryptfs.vault.containers import Container, Ref
from cryptfs.vault.reading import ReadContent
from cryptfs.vault.records import locate

if TYPE_CHECKING:
    from cryptfs.vault.vault import Vault

__all__ = ["FileNeeds", "Need"]


class Need(NamedTuple):
    """A sealed record of `length` bytes, which lies at `off` of `container` now; `ref` is how it was signed for."""

    container: Container
    off: int
    length: int
    ref: Ref

    @classmethod
    def of(cls, ref: Ref, length: int) -> "Need":
        """For a record of a version."""
        return cls(*locate(ref), length, ref)


class FileNeeds:
    """The records of the sealed version `content` of the file `st`. `offline`: the store is not asked for manifests."""

    def __init__(self, vault: "Vault", st: int, content: Content, *, offline: bool = False) -> None:
        self._vault = vault
        self._offline = offline
        self._st = st
        self._content = content
        self._count = -(-content.size >> content.chunk_log2)
        self.windows = -(-self._count // PAGE_CHUNKS) if isinstance(content.body, Paged) else 1

    async def window(self, number: int) -> list[Need]:
        """What the chunks of one window need. Pages that are not here are fetched, as what nobody waits for.

        Raises HostileStore for a manifest that is missing or wrong, NotAllowed, StoreError, LocalDisk.
        """
        reading = ReadContent(self._vault, self._st, self._content.size)
        reading.take_version(self._content)
        base = reading.map.base
        needs = await self._pages(reading, base, number) if isinstance(self._content.body, Paged) else []
        first = number * PAGE_CHUNKS
        last = self._count if self.windows == 1 else min(self._count, first + PAGE_CHUNKS)
        for index in range(first, last):
            ref = base.get(index)
            if ref is not None:
                needs.append(Need.of(ref, base.record_len(index)))
        return needs

    async def _pages(self, reading: ReadContent, base: Base, number: int) -> list[Need]:
        """Load the root and one page into `base`; the needs of both, the root's with the first window."""
        found = []
        root = base.manifest
        if root is not None:
            found.append(await self._bring(root))
            await reading.load_page(base, -1)
        pages = base.root.pages if base.root is not None else ()
        page = pages[number] if number < len(pages) else None
        if page is not None:
            found.append(await self._bring(page))
            await reading.load_page(base, number)
        return found if number == 0 else found[1:]

    async def _bring(self, page: MRef) -> Need:
        need = Need.of(Ref(self._vault.container(page.loc), page.loc.off, 0, page.hash), page.len)
        fetching, end = self._vault.cache.fetching, need.off + need.length
        if fetching.lacks(need.container, need.off, end):
            if self._offline:
                raise StoreGone("a manifest is not here")
            await fetching.quietly(need.container, need.off, end)
        return need
