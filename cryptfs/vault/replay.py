"""What the journal holds comes into a freshly opened vault: packs, pending operations, and the contents they made.

Damage costs only what it hits. An operation that builds on one whose frame is lost is left out; a file whose newest
content needs a record that is gone falls back to its sealed version. Both are reported.
"""

import logging
import os
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

from msgspec.structs import replace

from cryptfs.crypto.seal import sealed_len
from cryptfs.errors import HostileStore, StoreError, StoreGone
from cryptfs.format.content import WHERE_PACK, Content, Inline, Loc
from cryptfs.format.names import pack_name
from cryptfs.format.operation import Create, Op, OpId, Put, Ver, is_provisional_ino, provisional_number
from cryptfs.format.segment import parse_segment
from cryptfs.tree import renaming
from cryptfs.tree.ids import st_of_k
from cryptfs.vault.chunkmap import Delta, decode_delta, encode_delta
from cryptfs.vault.containers import Container, OpenPack, Ref
from cryptfs.vault.content import FileContent
from cryptfs.vault.disk import local_disk, sync_directory
from cryptfs.vault.found import Found
from cryptfs.vault.journal import Record, Submitted
from cryptfs.vault.vault import Vault

__all__ = ["Replay"]

log = logging.getLogger(__name__)


class Replay:
    """Takes pending operations from the journal into a vault whose replica is at the end of this device's log."""

    def __init__(self, vault: Vault, found: Found) -> None:
        self._vault = vault
        self._found = found
        self._packs: dict[int, OpenPack] = {}
        self._pieces: dict[int, list[tuple[int, int]]] = {}  # of packs whose file was gone: what the journal had
        self._gone = Container(-1)  # stands for whatever held a record that is not there any more
        self._moves: dict[tuple[int, int], tuple[int, int]] = {}
        for closed in found.closed.values():
            for source, old, new in closed.moves:
                self._moves[source, old] = (closed.num, new)

    async def run(self) -> None:
        """Do it. Raises StoreError if a manifest that is not here is needed, LocalDisk."""
        vault, found = self._vault, self._found
        numbers = [int(path.stem) for path in vault.home.packs_dir.glob("*.pack") if path.stem.isdigit()]
        vault.records.next_pack = max([found.next_pack, *(number + 1 for number in numbers)])
        vault.pending.owed = found.owed | vault.pending.owed
        if found.unsent:
            vault.unconfirmed = found.unsent[-1]
            raw = parse_segment(found.unsent[-1].data, vault.vault_id)
            vault.keep_body2(raw.digest, bytes(raw.body2), found.unsent[-1].name)
        self._open_packs()
        await self._look_for_closed()
        self._drop_sealed()
        pending = self._sound() if found.damaged else found.pending
        self._look_for_bases(pending.values())
        carried = vault.carried
        for k, entry in sorted(pending.items()):
            if entry.delta and isinstance(entry.op, Put):
                carried[k] = await self._content(entry.op, decode_delta(entry.delta), k)
            elif isinstance(entry.op, Put | Create) and entry.op.content is not None:
                carried[k] = self._resumed(entry.op, entry.op.content, k)
        broken = {one for one in carried.values() if self._is_broken(one)}
        self._fall_back(broken)
        lost = [k for k, content in carried.items() if content in broken]
        for k in lost:
            del carried[k]
        for k, entry in sorted(pending.items()):
            self._apply(self._without_records(entry) if k in lost else entry)
            if k in carried and isinstance(entry.op, Put | Create):
                carried[k].mtime_ns = entry.op.mtime_ns
        vault.follow()
        vault.recovering = True
        await self._write_again()
        vault.recovering = False
        vault.cited.sealed(tuple(found.names.items()), vault.next_k)
        self._drop_dead_packs()

    def _look_for_bases(self, pending: Iterable[Submitted]) -> None:
        """Raise StoreGone while versions that unsent changes were made to are not here: their bytes would be missing.

        That happens when the cache was lost and the store does not show everything yet.
        """
        bases = [entry.op.base for entry in pending if isinstance(entry.op, Put)]
        bases += [writes[0].base for writes in self._found.wrote.values()]
        if any(self._is_awaited(one) for ver in bases for one in ver):
            raise StoreGone(
                "The folder does not show yet what some unsent changes were made to.",
                "Try again later; the changes are kept on this machine.",
            )

    def _is_awaited(self, one: OpId) -> bool:
        logs, reader = self._vault.standing.logs, self._vault.reader
        if provisional_number(one) is not None or one.n < logs.state(one.log).next_n:
            return False
        end = reader.end(one.log)
        return end is None or end.count is None or logs.state(one.log).next_seq < end.count

    def _apply(self, entry: Submitted) -> None:
        self._vault.replica.apply_local(entry.op, entry.k, entry.now_ns)
        self._vault.pending.add(entry)

    async def _write_again(self) -> None:
        """What programs wrote and made durable, but was not handed over: write it again, and hand it over."""
        vault = self._vault
        vault.next_k = max(vault.replica.next_k(), self._found.next_k)
        for writes in self._found.wrote.values():
            st = vault.replica.st_of(writes[0].ino)
            node = vault.replica.node(st) if st is not None else None
            if st is None or node is None or node.nlink == 0:
                continue
            content = self._changed(writes[0].ino, writes[0].base)
            if content.pending <= 0:
                vault.files[st] = content
            try:
                for one in writes:
                    for offset, data in one.pieces:
                        await content.write(offset, data, one.mtime_ns)
                    content.mtime_ns = one.mtime_ns
            except HostileStore as err:
                log.warning("saved changes of inode %d are lost: %s", st, err)
                vault.cache.damaged[f"inode {st}"] = "its saved changes are lost"
                content.changed = False
                vault.drop_if_idle(content)
            else:
                content.hand_over_now()

    # ---- packs ----------------------------------------------------------------------------------------------------

    def _open_packs(self) -> None:
        """Local packs that are not confirmed, with the records that were riding in the journal put into their files."""
        vault, found = self._vault, self._found
        wanted = sorted(num for num in found.opened if num not in found.confirmed)
        paths = {num: vault.home.packs_dir / f"{num:012d}.pack" for num in wanted}
        # A closed pack was durable before it was closed, and is not to be touched any more.
        riding = sorted((one for one in found.records if one.num in paths), key=lambda one: one.num)
        with local_disk("restoring packs"):
            for num, group in groupby(riding, key=lambda one: one.num):
                if num not in found.closed:
                    records = list(group)
                    if not paths[num].exists():
                        # Removed, when all of it was sealed, or never durable: no more of it is here than rides.
                        self._pieces[num] = _stretches(records)
                    _restore(paths[num], records)
            if riding:
                sync_directory(vault.home.packs_dir)
        for num in wanted:
            if not paths[num].exists():
                continue
            pack = OpenPack(num, found.opened[num], paths[num], recovered=True)
            closed = found.closed.get(num)
            if closed is not None:
                pack.where, pack.id, pack.size = WHERE_PACK, closed.id, closed.size
                vault.cache.adopt(pack)
            self._packs[num] = pack
            vault.records.local[num] = pack
        for closed in found.closed.values():
            vault.cited.closed(closed)

    async def _look_for_closed(self) -> None:
        """Closed packs whose files are not here any more: most likely the store got them just before the crash."""
        vault, found = self._vault, self._found
        for num in sorted(found.closed.keys() - found.confirmed - self._packs.keys()):
            container = vault.container(Loc(WHERE_PACK, found.closed[num].id, 0))
            try:
                there = container.path is not None or await vault.sender.size(pack_name(container.id)) is not None
            except StoreError:
                there = True  # nobody knows; if it is not, its files cannot be read
            if there:
                found.confirmed.add(num)

    def _drop_dead_packs(self) -> None:
        """What was sealed before the crash, or never became durable, needs its pack no longer."""
        for pack in list(self._packs.values()):
            if not any(written.holder.wants(written.chunk, written.ref) for written in pack.records):
                self._vault.packer.discard(pack)

    # ---- contents -------------------------------------------------------------------------------------------------

    async def _content(self, put: Put, delta: Delta, k: int) -> FileContent:
        content = self._changed(put.i, put.base)
        refs: dict[int, Ref] = {}
        for index, num, off, fkv, digest in delta.chunks:
            length = sealed_len(min(1 << delta.chunk_log2, delta.size - (index << delta.chunk_log2)))
            refs[index] = self._ref(num, off, length, fkv, digest) or await self._sealed(content, index, fkv, digest)
        content.replay(delta, refs, k)
        for index, ref in refs.items():
            if isinstance(ref.container, OpenPack):
                ref.container.adopt_record(content, index, ref, content.plain_len(index))
        return content

    def _resumed(self, op: Put | Create, whole: Content, k: int) -> FileContent:
        """The content of an operation that was sealed once, in a segment that does not count."""
        if isinstance(op, Create):
            content = FileContent(self._vault, st_of_k(k), 0, op.mtime_ns)
        else:
            content = self._changed(op.i, op.base)
        content.resume(whole, k)
        return content

    def _changed(self, ino: bytes, base: Ver) -> FileContent:
        """The content that a change was made to: of the change before it, if that is here, or the version it names.

        Two changes of one file need not be of one content: what others made of it may have come between them.
        """
        for one in base:
            k = provisional_number(one)
            if k is not None and k in self._vault.carried:
                return self._vault.carried[k]
        # What made the file may not have been read yet, if the store is slow and the cache was lost.
        content = FileContent(self._vault, self._vault.replica.ids.give_st(ino), 0, 0)
        content.start_from(base)
        return content

    def _ref(self, num: int, off: int, length: int, fkv: int, digest: bytes) -> Ref | None:
        num, off = self._moves.get((num, off), (num, off))
        closed = self._found.closed.get(num)
        pack: Container | None = self._packs.get(num)
        if pack is None and closed is not None and num in self._found.confirmed:
            pack = self._vault.container(Loc(WHERE_PACK, closed.id, 0))
            pack.size = closed.size
            pack.named = False
        if pack is None or off + length > pack.size:
            return None
        pieces = self._pieces.get(num)
        here = pieces is None or any(start <= off and off + length <= end for start, end in pieces)
        return Ref(pack, off, fkv, digest) if here else None

    async def _sealed(self, content: FileContent, index: int, fkv: int, digest: bytes) -> Ref:
        """A record that no pack here has.

        Either a segment went ahead of this operation and has it, or it was overwritten before the crash and left out
        when its pack was closed: then nothing in force needs it. Else it is lost.
        """
        try:
            return await content.find_sealed(index, digest)
        except HostileStore:
            return Ref(self._gone, 0, fkv, digest)

    def _is_broken(self, content: FileContent) -> bool:
        return any(ref.container is self._gone for ref in content.map.top.chunks.values())

    def _fall_back(self, broken: Iterable[FileContent]) -> None:
        """Start these files anew from their sealed versions."""
        vault = self._vault
        for content in broken:
            log.error("the unsent content of inode %d is lost: it falls back to what was sent before", content.st)
            vault.cache.damaged[f"inode {content.st}"] = "its unsent changes are lost"
            content.map.cut(0)  # what is left of it in packs is of no use

    def _without_records(self, entry: Submitted) -> Submitted:
        """The same change of a file, made of the content that it has anyway."""
        vault, op = self._vault, entry.op
        if isinstance(op, Put | Create) and op.content is not None and not entry.delta:
            vault.carried[entry.k] = self._resumed(op, op.content, entry.k)  # begun anew: this it has
            return entry
        if not isinstance(op, Put):
            return entry
        content = vault.carried[entry.k] = self._changed(op.i, op.base)
        if not content.fid:
            content.lineage.write_key()
        delta = Delta(
            content.origin, content.fid, content.size, content.chunk_log2, b"", content.lineage.to_keep(), -1, ()
        )
        content.replay(delta, {}, entry.k)
        stub = Content(delta.fid, delta.size, delta.chunk_log2, b"", (), Inline(()))
        return Submitted(entry.k, entry.now_ns, replace(op, content=stub), encode_delta(delta))

    # ---- damage ---------------------------------------------------------------------------------------------------

    def _drop_sealed(self) -> None:
        """Operations of which the replica knows that they are sealed: the frame that said so is lost."""
        pending = self._found.pending
        last = max((k for k in pending if self._vault.replica.own_id(k) is not None), default=-1)
        for k in [k for k in pending if k <= last]:
            del pending[k]

    def _sound(self) -> dict[int, Submitted]:
        """The pending operations that build on nothing that is lost."""
        sound: dict[int, Submitted] = {}
        for k, entry in sorted(self._found.pending.items()):
            if all(
                one in sound or one == k or one in self._found.names or self._vault.replica.own_id(one) is not None
                for one in _cited(entry.op)
            ):
                sound[k] = entry
        if len(sound) < len(self._found.pending):
            log.error("%d changes are left out: they build on lost ones", len(self._found.pending) - len(sound))
        return sound


def _cited(op: Op) -> set[int]:
    """Numbers of the local operations that `op` refers to."""
    cited: set[int] = set()

    def op_id(one: OpId) -> OpId:
        k = provisional_number(one)
        if k is not None:
            cited.add(k)
        return one

    def inode(ino: bytes) -> bytes:
        if is_provisional_ino(ino):
            cited.add(int.from_bytes(ino[8:], "big"))
        return ino

    renaming.rename_ids(op, renaming.Names(op_id, inode))
    return cited


def _stretches(records: Iterable[Record]) -> list[tuple[int, int]]:
    """Where the records lie, as few (start, end) as possible."""
    found: list[tuple[int, int]] = []
    for start, end in sorted((one.off, one.off + len(one.data)) for one in records):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found


def _restore(path: Path, records: Iterable[Record]) -> None:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        for record in records:
            os.pwrite(fd, record.data, record.off)
        os.fsync(fd)
    finally:
        os.close(fd)
