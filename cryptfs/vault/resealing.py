"""One version of a file on its way to new keys: its chunks opened and sealed again, into packs made in memory.

Records are sealed first and take as long as they take; only then is it asked whether the version still stands, and a
segment made that says so (`Sealer.seal_rekeys`). A file that was written meanwhile loses nothing: chunks that did not
change are known by hash, so the second attempt costs no sealing.
"""

import hashlib
from typing import TYPE_CHECKING

from cryptfs.crypto.keys import FileKey, chunk_ctx
from cryptfs.crypto.seal import seal
from cryptfs.errors import HostileStore
from cryptfs.format.content import Content, Loc
from cryptfs.format.operation import Rekey
from cryptfs.format.pack import RECORD_CHUNK, PackHint, PackKey, PackRecord
from cryptfs.tree.merge_containers import RETIRED
from cryptfs.tree.replica import StoredVersion
from cryptfs.vault.chunkmap import Layer
from cryptfs.vault.containers import Container, Ref
from cryptfs.vault.manifest import Manifest, PagePlan, Snapshot, light_content, paged_content, plan_pages, seal_root
from cryptfs.vault.oldkeys import content_of
from cryptfs.vault.pace import Pace
from cryptfs.vault.records import locate
from cryptfs.vault.stored import StoredContent
from cryptfs.vault.wholepack import WHOLE_PACK_TARGET, WholePack

if TYPE_CHECKING:
    from cryptfs.vault.vault import Vault

__all__ = ["Known", "NewRecords", "Resealed", "make_contents"]

Known = dict[tuple[bytes, int, bytes], Ref]
"""Of one file: (box of the new key, chunk, hash of the old record) -> the new record. Versions share chunks."""


class NewRecords:
    """Where newly sealed chunks go: one pack after another, each sent when it is full.

    `packs` are those that the store has, `bytes` the plaintext sealed, both since `begin`.
    """

    def __init__(self, vault: "Vault") -> None:
        self._vault = vault
        self._pack: WholePack | None = None
        self.packs: list[Container] = []
        self.bytes = 0

    def begin(self) -> None:
        """What was sealed until now has been taken care of."""
        self.packs, self.bytes = [], 0

    async def add(self, key: PackKey, fk: FileKey, hint: PackHint, index: int, plain: bytes) -> Ref:
        """Seal chunk `index`. The place of the record is known once `finish` returned. Raises LocalDisk(Full)."""
        if self._pack is not None and self._pack.container.size >= WHOLE_PACK_TARGET:
            await self.finish()
        if self._pack is None:
            self._pack = WholePack(self._vault.vault_id, self._vault.keyring)
        record = seal(fk, chunk_ctx(self._vault.vault_id, key.fid, key.fkv, index, len(plain), 0), plain)
        digest = hashlib.sha256(record).digest()
        row = PackRecord(key.fid, RECORD_CHUNK, key.fkv, b"", index, 0, len(record), len(plain), 0, digest)
        off = self._pack.add(row, record)
        self._pack.tell(key, hint)
        self.bytes += len(plain)
        return Ref(self._pack.container, off, key.fkv, digest)

    async def finish(self) -> None:
        """Have the store hold everything that was added."""
        pack, self._pack = self._pack, None
        if pack is not None:
            await self._vault.packer.send_whole(pack)
            self.packs.append(pack.container)


class Resealed:
    """One version of a file, and the chunks of it that are sealed anew; a `Rekeyed` for the sealer.

    While it lives the file stays open here: its key lineage is the one from which programs on this device take the keys
    of what they write, so no version number is given to two keys.
    """

    def __init__(self, vault: "Vault", version: StoredVersion, known: Known) -> None:
        self._vault = vault
        self._known = known
        self.version = version
        self.content = content_of(version)
        self.file = vault.open_file(version.st)
        self.stored: StoredContent = self.file
        if version.present:
            self.stored.ensure_loaded()
        else:
            self.stored = StoredContent(vault, version.st, self.content.size)
            self.stored.take_version(self.content)
        self.base, self.lineage = self.stored.map.base, self.stored.lineage
        self.ks = vault.keyring.write_keyset
        self.moved: dict[int, Ref] = {}
        self.complete = False
        """No chunk of it is under an old key any more, once `moved` counts."""
        self.new: Content | None = None
        self.containers: list[Container] = []

    def close(self) -> None:
        """Give the file back."""
        self._vault.release_file(self.file)

    def settled(self) -> bool:
        """Whether the version in memory is the one in the tree: no change of it is on its way into a segment."""
        if self.stored is self.file and (self.file.pending > 0 or self.file.map.sealing is not None):
            return False
        return (
            self.stored.map.base is self.base
            and self.stored.lineage is self.lineage
            and self.base.content == self.content
        )

    # ---- sealing anew ---------------------------------------------------------------------------------------------

    async def reseal(self, records: NewRecords, room: int, pace: Pace) -> None:
        """Seal old chunks anew until `complete`, or until `records` have `room` bytes. Raises what reading raises."""
        key, fk, hint = await self._new_key()
        for index in await self._old_chunks():
            ref = self.base.get(index)
            if ref is None or index in self.moved:
                continue
            known = self._known.get((key.box, index, ref.hash))
            if known is None:
                if records.bytes >= room:
                    return
                plain = await self._open(index, ref)
                known = self._known[key.box, index, ref.hash] = await records.add(key, fk, hint, index, plain)
                await pace.step()
            self.moved[index] = known
        self.complete = True

    async def _new_key(self) -> tuple[PackKey, FileKey, PackHint]:
        """A file key of the present key set, minted if the file has none yet. Old versions use that of their file."""
        await self.stored.load_keys()
        lineage = self.lineage
        if self.stored is not self.file and self.content.fid == self.file.fid:
            await self.file.load_keys()
            fkv, fk = self.file.lineage.write_key()
            box = self.file.lineage.box(fkv)
            if not lineage.knows(fkv):
                lineage.learn_boxes((box,))
            if lineage.box(fkv) != box:  # the number is taken: the file went another way after this version
                fkv, fk = lineage.write_key()
        else:
            fkv, fk = lineage.write_key()
        box = lineage.box(fkv)
        hint = self._vault.hint(self.file, self._vault.wall_ms())
        return PackKey(lineage.fid, fkv, box.ks, box.box), fk, PackHint(lineage.fid, *_but_fid(hint))

    async def _old_chunks(self) -> list[int]:
        """Chunks that are sealed under another key set's file keys, or lie where nothing may refer to any more."""
        while missing := self.base.missing_pages():
            await self.stored.load_page(self.base, missing[0])
        used = {ref.fkv for ref in self.base.chunks.values() if ref is not None}
        old = {fkv for fkv in used if self.lineage.box(fkv).ks != self.ks}
        return sorted(
            index
            for index, ref in self.base.chunks.items()
            if ref is not None and (ref.fkv in old or self._is_retired(locate(ref)[0]))
        )

    def _is_retired(self, container: Container) -> bool:
        row = self._vault.replica.rows.container(container.where, container.id)
        return row is not None and row.state == RETIRED

    async def _open(self, index: int, ref: Ref) -> bytes:
        plain_len = min(1 << self.content.chunk_log2, self.content.size - (index << self.content.chunk_log2))
        key = self.lineage.key(ref.fkv)
        return await self._vault.records.open_once(self.content.fid, index, ref, key, plain_len)

    def again(self) -> bool:
        """Take the version as it is now, after somebody changed the file; False if that has to wait."""
        present = next((one for one in self._vault.replica.versions(self.version.st) if self._is_successor(one)), None)
        if present is None:
            return False
        self.version, self.content = present, content_of(present)
        self.base, self.lineage = self.stored.map.base, self.stored.lineage
        self.ks = self._vault.keyring.write_keyset
        self.moved, self.complete, self.new = {}, False, None
        return self.settled()

    def _is_successor(self, other: StoredVersion) -> bool:
        return other.present if self.version.present else (not other.present and other.ver == self.version.ver)

    # ---- as a Rekeyed ---------------------------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """What is to be said about it: everything anew if nothing old is left, else only what changed."""
        layer = Layer()
        layer.chunks = dict(self.moved)
        content = self.content
        return Snapshot(
            self.stored, layer, self.base, content.size, content.chunk_log2, content.digest, anew=self.complete
        )

    @property
    def op(self) -> Rekey:
        """The operation; `new` has to be made before."""
        if self.new is None:
            raise RuntimeError("a rekey without content")
        return Rekey(self._vault.replica.ino_of(self.version.st), self.version.ver, self.new)

    def holds(self) -> bool:
        """See `Rekeyed`."""
        if self.new is None or not self.settled() or self._vault.keyring.write_keyset != self.ks:
            return False
        kept = {locate(ref)[0] for index, ref in self.base.chunks.items() if ref and index not in self.moved}
        if any(self._is_retired(container) for container in kept):
            return False
        return any(
            one.carrier == self.version.carrier and one.ver == self.version.ver and one.present == self.version.present
            for one in self._vault.replica.versions(self.version.st)
        )

    def settle(self) -> None:
        """See `Rekeyed`."""
        if self.new is not None and self.stored.map.base is self.base:
            self.stored.rekeyed(self.new, self.moved)


def _but_fid(hint: PackHint) -> tuple[bytes, bytes, int, int]:
    return hint.ino, hint.path, hint.size, hint.wall_ms


async def make_contents(vault: "Vault", versions: list[Resealed]) -> list[Container]:
    """Say what the versions are made of now; manifests go into packs, which are returned and the store has.

    All places of records must be known. What somebody changed meanwhile gets no `new`. Raises LocalDisk, StoreError.
    """
    plans: list[tuple[Resealed, Snapshot, PagePlan]] = []
    for one in versions:
        snap, one.new = one.snapshot(), None
        try:
            one.new = await light_content(snap, _place)
            if one.new is None:
                plans.append((one, snap, await plan_pages(snap, _place, vault.keyring)))
        except HostileStore:
            if one.settled():
                raise
    made = await vault.packer.store_manifests([page for _, _, plan in plans for page in plan.records()])
    roots: list[tuple[Resealed, Snapshot, Manifest]] = [
        (one, snap, seal_root(snap, plan, vault.keyring)) for one, snap, plan in plans if one.settled()
    ]
    made += await vault.packer.store_manifests([root for _, _, root in roots])
    for one, snap, root in roots:
        one.new = paged_content(snap, root)
    for one in versions:
        one.containers = [*{locate(ref)[0] for ref in one.moved.values()}, *made]
    return made


def _place(ref: Ref) -> Loc:
    container, off = locate(ref)
    if not container.id:
        raise RuntimeError("a record was named before it had a place")
    return Loc(container.where, container.id, off)
