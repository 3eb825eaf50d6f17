"""A file's content as it is sealed: which record holds which chunk, under which keys, loaded as far as needed.

Nothing here changes bytes; that is the work of `content.py`, which builds on it.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from cryptfs.crypto.keys import KeyLabel
from cryptfs.crypto.seal import sealed_len
from cryptfs.errors import Damaged, Invalid
from cryptfs.format.content import CHUNK_LOG2S, Content, Inline, Loc, MRef
from cryptfs.format.limits import U32_MAX
from cryptfs.format.manifest import open_page, open_root
from cryptfs.format.operation import Ver
from cryptfs.group.keyring import Keyring
from cryptfs.vault.chunkmap import NOTHING, Base, ChunkMap, Delta, Layer, PageMissing
from cryptfs.vault.containers import Container, OpenPack, Ref
from cryptfs.vault.lineage import Lineage
from cryptfs.vault.records import Records

if TYPE_CHECKING:
    from cryptfs.vault.content import FileContent

__all__ = ["Host", "StoredContent"]

_CHUNK_LOG2: Final = CHUNK_LOG2S[0]
"""64 KiB: small enough that random access stays quick; larger only where the number of chunks demands it."""
_KEYS_MAX: Final = U32_MAX - 1000
"""Versions of a file's key; a writer may claim any, and a change must find some free."""


_decode: Final = msgspec.msgpack.Decoder(Content).decode
"""Of what our own sealed database says; the spelling was judged when it came in."""


class Host(Protocol):
    """What a content needs from the vault that holds it."""

    vault_id: bytes
    records: Records
    dirty_bytes: int

    @property
    def keyring(self) -> Keyring:
        """The keys of the vault now."""

    def container(self, loc: Loc) -> Container:
        """The container that a location names."""

    def sealed_content(self, st: int) -> bytes | None:
        """Encoded `Content` of the present sealed version of `st`."""

    def sealed_version(self, ver: Ver) -> bytes | None:
        """Encoded `Content` of that version, if it is sealed and has one."""

    def present_size(self, st: int) -> int:
        """Size in bytes of the present version of `st`."""

    def present_version(self, st: int) -> bytes:
        """The version whose content `st` has now, as the replica keeps it."""

    def extern_ver(self, blob: bytes) -> Ver:
        """A version as operations name it."""

    def submit_put(self, content: "FileContent", delta: Delta, base: Ver, mtime_ns: int) -> Ver:
        """Journal and apply a Put; returns the version it makes."""

    def log_write(
        self, content: "StoredContent", pieces: tuple[tuple[int, bytes], ...], size: int, mtime_ns: int
    ) -> None:
        """Journal bytes of a file that is not handed over yet: (offset, bytes), size and mtime of the whole."""

    def drop_writes(self, content: "StoredContent") -> None:
        """Journal that what `log_write` said of a file counts no more."""

    def check_space(self) -> None:
        """Raise LocalDiskFull or Quota when nothing more can be accepted."""

    def relieve(self) -> None:
        """Bound the plaintext in memory, all files together."""

    def pack_full(self, pack: OpenPack) -> None:
        """A pack of this file reached its target."""


class StoredContent:
    """One inode's content. `size` and `chunk_log2` are those of the newest version, sealed or not."""

    __slots__ = ("_base_ver", "_host", "_loaded", "chunk_log2", "lineage", "map", "origin", "size", "st")

    def __init__(self, host: Host, st: int, size: int, version: bytes = b"") -> None:
        """`version`: which one has that size, as the replica keeps it; empty: the one there is when it is loaded."""
        self._host = host
        self._loaded = False
        self.st = st
        self.origin = st
        """The node that its changes name; a merge may have them land in another one, which is `st` then."""
        self.size = size
        self.chunk_log2 = _CHUNK_LOG2
        self.map = ChunkMap(NOTHING)
        self.lineage = Lineage(host)
        self._base_ver: Ver | bytes = version or ()

    def start_anew(self) -> None:
        """Take the present version instead of the one that was loaded."""
        host = self._host
        self.size = host.present_size(self.st)
        self.chunk_log2 = _CHUNK_LOG2
        self.map = ChunkMap(NOTHING)
        self.lineage = Lineage(host)
        self._base_ver = ()
        if self._loaded:
            self._load()  # at once: whoever waits for a chunk looks again when he wakes

    @property
    def base_ver(self) -> Ver:
        """The version that the next change starts from. Named as late as that: who only reads needs no name for it."""
        if isinstance(self._base_ver, bytes):
            self._base_ver = self._host.extern_ver(self._base_ver)
        return self._base_ver

    @base_ver.setter
    def base_ver(self, ver: Ver) -> None:
        self._base_ver = ver

    @property
    def fid(self) -> bytes:
        """Id of the key lineage, 16 bytes; empty before the first write."""
        return self.lineage.fid

    def plain_len(self, index: int) -> int:
        """Plaintext bytes of chunk `index`."""
        chunk = 1 << self.chunk_log2
        return min(chunk, self.size - (index << self.chunk_log2))

    def sealed_len(self, index: int) -> int:
        """Bytes of the record of chunk `index`."""
        return sealed_len(self.plain_len(index))

    def is_hole(self, index: int) -> bool:
        """Whether chunk `index` is known to be a hole; one in a page that is not loaded is not."""
        try:
            return self.map.get(index) is None
        except PageMissing:
            return False

    def ensure_loaded(self) -> None:
        """Take in the sealed version if that has not happened yet."""
        if not self._loaded:
            self._load()

    def start_from(self, ver: Ver) -> None:
        """Take in that sealed version, unless something is loaded already: a change found again was made to it.

        The present one may be somebody else's by now; what was changed must not be put on top of that.
        """
        if not self._loaded:
            self._begin(ver, self._host.sealed_version(ver))
            content = self.map.base.content
            self.size = content.size if content is not None else 0

    def _load(self) -> None:
        """Take in the sealed version this content starts from. No waiting; pages come when they are needed."""
        host, begun = self._host, self._base_ver
        present = host.present_version(self.st)
        if isinstance(begun, bytes) and begun != present and host.extern_ver(begun) != host.extern_ver(present):
            # Others have made a newer one since it was opened: who reads it sees one version from beginning to end.
            ver = host.extern_ver(begun)
            encoded = host.sealed_version(ver)
            if encoded is not None:
                self._begin(ver, encoded)
                return
            self.size = host.present_size(self.st)  # so long ago that nobody has it any more
        self._begin(present, host.sealed_content(self.st))

    def _begin(self, ver: Ver | bytes, encoded: bytes | None) -> None:
        self._loaded = True
        self._base_ver = ver
        if encoded is not None:
            self._take(_decode(encoded))

    def take_version(self, content: Content) -> None:
        """Be this sealed version, whichever the file has now; for old versions, which nobody changes."""
        self._loaded = True
        self.size = content.size
        self._take(content)

    def _take(self, content: Content) -> None:
        if content.keys or not isinstance(content.body, Inline):
            self.lineage.fid = content.fid  # holes have no key, so what is written into them begins a new lineage
        self.chunk_log2 = content.chunk_log2
        self.lineage.sealed_with(content.keys)
        self.map = ChunkMap(Base(content, self._host.container))

    async def load_keys(self) -> None:
        """Load what names the file's keys: a new key must not take the version of an old one.

        Raises Invalid if none is left for it, else as `read`.
        """
        self.ensure_loaded()
        while (base := self.map.base).manifest is not None and base.root is None:
            await self.load_page(base, -1)
        if self.lineage.newest > _KEYS_MAX:
            raise Invalid("a file claims more keys than any can have had")

    def lacks_key(self, ref: Ref) -> bool:
        """Whether the key of a chunk stands in a root manifest that is not loaded."""
        base = self.map.base
        return not self.lineage.knows(ref.fkv) and base.manifest is not None and base.root is None

    async def load_all(self) -> None:
        """Load every manifest page, as building a new manifest needs. Raises as `read`."""
        self.ensure_loaded()
        while missing := self.map.base.missing_pages():
            await self.load_page(self.map.base, missing[0])

    async def load_page(self, base: Base, number: int) -> None:
        """Load one manifest page of `base` (-1: the root). Raises as `read`."""
        ref = base.manifest if number < 0 else (base.root.pages[number] if base.root else None)
        content, vault = base.content, self._host.vault_id
        if ref is None or content is None:
            raise Damaged("a file's manifest is incomplete")
        record = await self._manifest_record(ref)
        key = self._host.keyring.key(KeyLabel.META, ref.ks)
        if number < 0:
            base.root = open_root(key, vault, ref.ks, content, record)
            if base is self.map.base:  # else somebody's newer version came meanwhile
                self.lineage.learn_boxes(base.root.keys)
                if self.lineage.newest < 0:
                    self.lineage.fid = b""  # holes throughout, as above
        elif number not in base.pages:
            base.add_page(number, open_page(key, vault, ref.ks, content, record, number=number))

    async def _manifest_record(self, ref: MRef) -> bytes | memoryview:
        place = Ref(self._host.container(ref.loc), ref.loc.off, 0, ref.hash)
        return await self._host.records.fetch_record(place, ref.len)

    async def find_sealed(self, index: int, digest: bytes) -> Ref:
        """The record of chunk `index` with that hash in the sealed version. Raises Damaged if that has another."""
        self.ensure_loaded()
        while True:
            try:
                ref = self.map.base.get(index)
            except PageMissing as missing:
                await self.load_page(self.map.base, missing.page)
                continue
            if ref is None or ref.hash != digest:
                raise Damaged("a record that an unsent change needs is gone")
            return ref

    def rekeyed(self, content: Content, moved: Mapping[int, Ref]) -> None:
        """The sealed version is the same bytes in other records now: `moved` by chunk, the others where they were.

        Whatever lies above stays as it is.
        """
        old, base = self.map.base, Base(content, self._host.container)
        if old.manifest is not None:
            base.chunks, base.pages = old.chunks | base.chunks, set(old.pages)
        base.chunks |= moved
        self.map.base = base
        self.lineage.sealed_with(content.keys)

    def rebase(self, content: Content, sealed: Layer) -> None:
        """The layer `sealed` became part of the sealed version `content`."""
        base = Base(content, self._host.container)
        if not isinstance(content.body, Inline):
            # Everything is known already: spare the next reader the manifest.
            for index, ref in sealed.chunks.items():
                base.chunks.setdefault(index, ref)
        self.map.sealed(base)
        self.lineage.sealed_with(content.keys)
