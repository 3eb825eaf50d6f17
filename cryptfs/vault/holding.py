"""What is in use of the packs that this device holds: asked of the tree, and of what is open or unsent here.

Manifests of paged contents in force are read first, since one that is unknown may use anything.
"""

from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Final, TypeVar

import trio

from cryptfs.crypto.keys import KeyLabel
from cryptfs.errors import AuthError, Damaged, HostileStore, Invalid, NeedsUpdate, NotAllowed, Retry
from cryptfs.format.content import PAGE_CHUNKS, Content, MRef, Paged, Root
from cryptfs.format.manifest import open_page, open_root
from cryptfs.tree.places import Place, Used, page_places, present_place, root_places, wire_places
from cryptfs.tree.uses import InUse
from cryptfs.vault.containers import Ref
from cryptfs.vault.content import FileContent
from cryptfs.vault.latereferences import LateReferences
from cryptfs.vault.records import locate

if TYPE_CHECKING:
    from cryptfs.vault.vault import Vault

__all__ = ["TRIES", "Holding"]

T = TypeVar("T")

_PageOf = tuple[bytes, bytes, bytes, int, int, int]
"""Key set and hash of a page's record; fid and chunk size of the content; number of the page, and where in the file it
ends."""

_AT_ONCE: Final = 200
"""Contents taken in between two breaths."""
_ASKED_AT_ONCE: Final = 4_000
"""Contents asked about between two breaths: some hundredths of a second."""
TRIES: Final = 20
"""Looks at what is in use, while more is sealed in between."""


class Holding:
    """Asks what is in use, for one vault."""

    def __init__(self, vault: "Vault") -> None:
        self._vault = vault
        self._pages: dict[_PageOf, list[Used]] = {}
        self._late_references = LateReferences(vault)
        self._late: list[Used] = []

    async def learn(self, stable: int) -> None:
        """Take in every content that was sealed meanwhile, also by late work, for `ask` with this stamp.

        Raises Damaged if a manifest is missing, StoreError.
        """
        uses = self._vault.replica.uses
        while True:
            while not uses.catch_up(_AT_ONCE):
                await trio.lowlevel.checkpoint()
            unread = uses.unread(stable)
            if not unread:
                break
            for op, content in unread:
                uses.learn_manifest(op, await self._places_of(content))
        self._late = []
        for content in await self._late_references.contents():
            try:
                self._late += await self._places_of(content)
            except (HostileStore, NotAllowed, NeedsUpdate):
                # Somebody outside shall not hold everything up by naming what there never was, or keys of nobody.
                self._late += wire_places(content)
        self._pages.clear()

    async def look(self, places: Collection[Place], stable: int) -> InUse:
        """`learn` and `ask` until nothing is sealed in between; what is returned is so at this very moment.

        Raises as `learn`, and Retry if it does not come about.
        """
        for _ in range(TRIES):
            await self.learn(stable)
            found = self.ask(places, stable)
            if found is not None:
                return found
        raise Retry("Too much changes to tell what is unused.", "It is tried again.")

    def ask(self, places: Iterable[Place], stable: int) -> InUse | None:
        """What is in use of these packs, at this very moment; None if something was sealed that is not taken in yet."""
        uses = self._vault.replica.uses
        if not uses.catch_up(_AT_ONCE):
            return None
        found = uses.in_use(places, stable)
        return found if not found.unread else None

    def portion(self, left: list[T], place_of: Callable[[T], Place]) -> list[T]:
        """Take containers off the list, as many as can be asked about at once."""
        taken: list[T] = []
        cost = 0
        while left and cost < _ASKED_AT_ONCE:
            taken.append(left.pop())
            cost += 1 + self._vault.replica.uses.count(place_of(taken[-1]))
        return taken

    def pinned(self) -> set[Place]:
        """Containers that files which are open or unsent here refer to, or late work, whatever the tree says."""
        moves = self._vault.replica.uses.moves()
        found = {there.place for used in self._late for there in present_place(used, moves)}
        for file in self._vault.contents():
            found |= self._pinned_by(file)
        return found

    def _pinned_by(self, file: FileContent) -> set[Place]:
        sealing = file.map.sealing
        layers = (file.map.top.chunks, sealing.chunks if sealing is not None else {}, file.map.base.chunks)
        refs = {(id(ref.container), ref.off): ref for layer in layers for ref in layer.values() if ref is not None}
        base = file.map.base
        manifests = [base.manifest] if base.manifest is not None else []
        manifests += [page for page in base.root.pages if page is not None] if base.root is not None else []
        located = [locate(ref)[0] for ref in refs.values()]
        located += [locate(Ref(self._vault.container(one.loc), one.loc.off, 0, b""))[0] for one in manifests]
        return {Place(one.where, one.id) for one in located if one.id}

    # ---- manifests ------------------------------------------------------------------------------------------------

    async def _places_of(self, content: Content) -> list[Used]:
        """Everything a paged content uses. Bytes that were signed for, and yet are no manifest, use nothing."""
        found = wire_places(content)
        root = await self._root(content)
        if root is not None:
            found += root_places(root)
            for number, ref in enumerate(root.pages):
                if ref is not None:
                    found += await self._page(content, number, ref)
        return found

    async def _root(self, content: Content) -> Root | None:
        if not isinstance(content.body, Paged):
            return None
        ref = content.body.root
        key, record = self._vault.keyring.key(KeyLabel.META, ref.ks), await self._record(ref)
        try:
            return open_root(key, self._vault.vault_id, ref.ks, content, record)
        except (Invalid, AuthError):
            return None

    async def _page(self, content: Content, number: int, ref: MRef) -> list[Used]:
        # Not by the hash alone: a page tells something else, or nothing, of a file that only claims it as its own.
        end = min(content.size, (number + 1) * PAGE_CHUNKS << content.chunk_log2)
        page_of = ref.ks, ref.hash, content.fid, content.chunk_log2, number, end
        known = self._pages.get(page_of)
        if known is None:
            key, record = self._vault.keyring.key(KeyLabel.META, ref.ks), await self._record(ref)
            try:
                page = open_page(key, self._vault.vault_id, ref.ks, content, record, number=number)
                known = page_places(content, number, page)
            except (Invalid, AuthError):
                known = []
            self._pages[page_of] = known
        return known

    async def _record(self, ref: MRef) -> bytes | memoryview:
        place = Ref(self._vault.container(ref.loc), ref.loc.off, 0, ref.hash)
        try:
            return await self._vault.records.fetch_record(place, ref.len)
        except Damaged as err:
            raise Damaged("a file's manifest is missing; nothing is deleted while what it names is unknown") from err
