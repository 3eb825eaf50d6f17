"""Unsent changes leave containers that are retired: what is sealed from now on must not refer to them.

Whoever holds a container deletes it once everybody has acknowledged that it is retired, and a segment acknowledges
what it has seen. So before each seal every record that an unsent change relies on, in this segment or a later one, is
copied into a pack of our own, unless its holder has copied it already (docs/replication.md, "Collection").

A record that is nowhere is waited for, as the folder may lag, but not for ever: whoever may write could else name a
pack that never was, retire it, and keep everything from being sent that is built on it. The file then goes without the
chunk, as it does anyway; and should the pack turn up, its holder sees our reference before it deletes.
"""

import logging
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

import trio

from cryptfs.errors import Damaged
from cryptfs.format.content import Loc
from cryptfs.tree.merge_containers import RETIRED
from cryptfs.vault.containers import Container, Ref
from cryptfs.vault.content import FileContent
from cryptfs.vault.records import locate
from cryptfs.vault.remnant import Waits

if TYPE_CHECKING:
    from cryptfs.vault.vault import Vault

__all__ = ["Rescue"]

log = logging.getLogger(__name__)

_PATIENCE: Final = 600.0
"""Seconds that a record may be nowhere before its file goes without it."""

_Key = tuple[int, bytes]
"""A container: where, and its id."""


class Rescue:
    """Looks after the unsent contents of one vault."""

    def __init__(self, vault: "Vault", waits: Waits) -> None:
        self._vault = vault
        self._waits = waits
        self._unreadable: set[FileContent] = set()
        """Files whose manifest is nowhere: what it names is not rescued."""
        self._missing_since: dict[_Key, float] = {}
        self._given_up: set[_Key] = set()

    def needed(self) -> bool:
        """Whether an unsent change refers to something retired. No waiting."""
        if not self._vault.replica.uses.any_retired():
            return False
        look = _Look(self._vault, self._given_up)
        return any(self._unknown(look, file) or look.manifest(file) or look.chunks(file) for file in self._unsent())

    async def bring_out(self) -> None:
        """Copy what is needed, and journal where it lies.

        Raises Damaged while a record that is nowhere is waited for, StoreError, LocalDisk.
        """
        if not self._vault.replica.uses.any_retired():
            return
        look = _Look(self._vault, self._given_up)
        for file in list(self._unsent()):
            if self._unknown(look, file):
                await self._load(file)
            if look.manifest(file):
                await self._copy(file, file.present_chunks(), whole=True)
            elif chunks := look.chunks(file):
                await self._copy(file, chunks, whole=False)

    def _unknown(self, look: "_Look", file: FileContent) -> bool:
        return file not in self._unreadable and look.unknown(file)

    async def _load(self, file: FileContent) -> None:
        """Load the manifest. One that is nowhere for long holds nobody else up; then see `remnant.py`."""
        try:
            await file.load_all()
        except Damaged:
            if not self._waits.is_over(file.st, trio.current_time()):
                raise
            self._unreadable.add(file)

    def _unsent(self) -> Iterator[FileContent]:
        return (file for file in self._vault.contents() if file.pending > 0 or file.changed)

    async def _copy(self, file: FileContent, chunks: Iterable[int], *, whole: bool) -> None:
        """Copy the records of these chunks; those that somebody writes meanwhile need it no more."""
        records = self._vault.records
        found: list[tuple[int, Ref, bytes]] = []
        for index in chunks:
            ref = file.map.get(index)
            if ref is None or not locate(ref)[0].id:
                continue  # written here and not sent: it lies in no container yet
            try:
                record = await records.fetch_record(ref, file.sealed_len(index))
            except Damaged:
                if not self._gives_up(locate(ref)[0]):
                    raise
                continue
            found.append((index, ref, bytes(record)))
        still = [(index, ref, record) for index, ref, record in found if file.map.get(index) is ref]
        if whole and len(still) < len(found):
            return  # the next round looks again
        copies = {
            index: records.copy_record(file, index, ref, record, file.plain_len(index)) for index, ref, record in still
        }
        if whole:
            copies |= {
                i: ref for i in file.present_chunks() if i not in copies and (ref := file.map.get(i)) is not None
            }
        if copies:
            file.replace_records(copies, whole=whole)

    def _gives_up(self, container: Container) -> bool:
        key, now = (container.where, container.id), trio.current_time()
        if now - self._missing_since.setdefault(key, now) < _PATIENCE:
            return False
        if key not in self._given_up:
            log.warning("a record that an unsent change keeps is nowhere: its file goes without it")
        self._given_up.add(key)
        return True


class _Look:
    """One look at what is retired; remembers the answers. `given_up`: containers that count as not retired."""

    def __init__(self, vault: "Vault", given_up: set[_Key]) -> None:
        self._vault = vault
        self._known: dict[_Key, bool] = dict.fromkeys(given_up, False)

    def unknown(self, file: FileContent) -> bool:
        """Whether chunks of an older version show through whose places are not loaded."""
        file.ensure_loaded()
        return self._lowest(file) > 0 and bool(file.map.base.missing_pages())

    def manifest(self, file: FileContent) -> bool:
        """Whether a manifest that the next version would name lies in something retired."""
        base = file.map.base
        if base.manifest is None or base.root is None or self._lowest(file) == 0:
            return False
        places = [base.manifest.loc, *(page.loc for page in base.root.pages if page is not None)]
        return any(self._retired(self._at(loc)) for loc in places)

    def chunks(self, file: FileContent) -> list[int]:
        """Chunks whose record lies in something retired."""
        sealing = file.map.sealing
        layers = (file.map.top.chunks, sealing.chunks if sealing is not None else {}, file.map.base.chunks)
        found = {
            index
            for layer in layers
            for index, ref in layer.items()
            if ref is not None and self._retired(locate(ref)[0]) and file.map.get(index) is ref
        }
        return sorted(found)

    def _lowest(self, file: FileContent) -> int:
        """First chunk below which the base is seen no more."""
        sealing = file.map.sealing
        return min(file.map.top.cut, sealing.cut if sealing is not None else file.map.top.cut)

    def _at(self, loc: Loc) -> Container:
        return locate(Ref(self._vault.container(loc), loc.off, 0, b""))[0]

    def _retired(self, container: Container) -> bool:
        if not container.id:
            return False
        key = (container.where, container.id)
        if key not in self._known:
            row = self._vault.replica.rows.container(*key)
            self._known[key] = row is not None and row.state == RETIRED
        return self._known[key]
