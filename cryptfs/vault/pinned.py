"""What the pinned files need of the store, and how much of that is not on this disk.

A *look* goes through all that is pinned. What a file needed is remembered by the operation that carries its content, so
the next look costs little where nothing changed; new files in a pinned folder, and new contents, are found by it.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec
import trio

from cryptfs.errors import CryptfsError, HostileStore, NeedsUpdate, NotAllowed, StoreError
from cryptfs.format.content import Content
from cryptfs.format.operation import KIND_DIR, KIND_FILE
from cryptfs.vault.containers import Container
from cryptfs.vault.needs import FileNeeds, Need
from cryptfs.vault.pace import Pace

if TYPE_CHECKING:
    from cryptfs.vault.vault import Vault

__all__ = ["AGAIN", "FILE_TROUBLE", "SHARE", "PinnedFile", "Survey", "is_whole", "needs_of"]

SHARE: Final = 0.3
"""Of the time of the one thread, for looking and comparing."""
AGAIN: Final = 300.0
"""Seconds after which what could not be had is tried again."""
FILE_TROUBLE: Final = (HostileStore, NotAllowed, NeedsUpdate)
"""What is wrong with one file, and no reason to let the others wait."""

_decode: Final = msgspec.msgpack.Decoder(Content).decode
"""Of what our own sealed database says; the spelling was judged when it came in."""


@dataclass(slots=True, eq=False)
class PinnedFile:
    """One file: `size` and `lacking` in sealed bytes, the ids of the objects that hold it.

    `carrier` None: it is empty, or not sealed, so all of it is here. `proved`: what is here was compared with what was
    signed for; `window`: up to where that was done. `known`: its manifest could be read; `problem`: why it cannot be
    had, empty if it can, and since when.
    """

    carrier: bytes | None
    size: int = 0
    lacking: int = 0
    objects: tuple[bytes, ...] = ()
    proved: bool = True
    window: int = 0
    known: bool = True
    problem: str = ""
    since: float = 0.0

    def fails(self, err: CryptfsError) -> None:
        """It cannot be had, for that reason; it is tried again after a while."""
        self.problem, self.since = str(err), trio.current_time()

    @property
    def settled(self) -> bool:
        """Whether what is known of it counts until its content changes."""
        return self.known and (not self.problem or trio.current_time() - self.since < AGAIN)

    @property
    def wanted(self) -> bool:
        """Whether something is to be brought, or compared. Of what is not sealed, that waits until it is."""
        return self.carrier is not None and self.known and not self.problem and (self.lacking > 0 or not self.proved)


def is_whole(container: Container) -> bool:
    """Whether all of it is here and is what its name says: its records need no look of their own."""
    return container.path is not None and container.verified


def needs_of(vault: "Vault", st: int, carrier: bytes, *, offline: bool = False) -> FileNeeds | None:
    """The needs of the content that the node `st` had by that operation; None if it is not sealed."""
    encoded = vault.replica.content_carried(carrier)
    return None if encoded is None else FileNeeds(vault, st, _decode(encoded), offline=offline)


class Survey:
    """The files that are pinned, as the last look found them, by st number."""

    def __init__(self, vault: "Vault") -> None:
        self._vault = vault
        self._lock = trio.Lock()
        self._moves = vault.cache.moves
        self.files: dict[int, PinnedFile] = {}
        self.looked = False

    def below(self, nodes: Iterable[int]) -> Iterator[tuple[int, int, bytes | None]]:
        """(st, size, content) of every file that is one of these nodes or lies below one; content as in `Node`.

        Between two of them the tree may change: then some are missing, or come twice.
        """
        replica = self._vault.replica
        waiting: list[int] = []
        for st in nodes:
            node = replica.rows.node(st)
            if node is not None and node.gone_l is None:
                if node.kind == KIND_FILE:
                    yield st, node.size, node.content
                elif node.kind == KIND_DIR:
                    waiting.append(st)
        seen: set[int] = set()
        while waiting:
            directory = waiting.pop()
            if directory in seen:
                continue
            seen.add(directory)
            for st, kind, size, content in replica.nodes_in(directory):
                if kind == KIND_DIR:
                    waiting.append(st)
                elif kind == KIND_FILE:
                    yield st, size, content

    async def look(self, nodes: Iterable[int]) -> None:
        """Learn what these nodes and all below them need, and tell the cache to leave that alone. Raises LocalDisk."""
        async with self._lock:
            cache, pace = self._vault.cache, Pace(SHARE)
            before, found = self.files, dict[int, PinnedFile]()
            if cache.moves is not self._moves:  # records lie elsewhere now
                before, self._moves = {}, cache.moves
            away = False
            for st, size, carrier in self.below(nodes):
                if st not in found:
                    found[st] = await self._judge(st, size, carrier, before.get(st), away=away)
                    away = away or not found[st].known
                    await pace.step()
            self.files = found
            self.looked = True
            self._keep(found.values())

    def _keep(self, files: Iterable[PinnedFile]) -> None:
        """As long as what is needed is not all known, nothing is taken off the cache's list."""
        cache = self._vault.cache
        ids = frozenset(one.hex() for file in files for one in file.objects)
        if all(file.known for file in files):
            cache.kept = ids
        elif cache.kept is not None:
            cache.kept |= ids

    async def _judge(
        self, st: int, size: int, carrier: bytes | None, before: PinnedFile | None, *, away: bool
    ) -> PinnedFile:
        if carrier is None:
            return PinnedFile(None)
        if before is not None and before.carrier == carrier and before.settled:
            return before
        needs = needs_of(self._vault, st, carrier, offline=away)
        if needs is not None:
            return await self._measure(PinnedFile(carrier), needs, size)
        needs = self._unsent(st, offline=away)
        return PinnedFile(None, size) if needs is None else await self._measure(PinnedFile(None), needs, size)

    async def _measure(self, file: PinnedFile, needs: FileNeeds, size: int) -> PinnedFile:
        """Count what the file needs; `size` in bytes stands for that as long as it is not known."""
        objects: set[bytes] = set()
        try:
            for number in range(needs.windows):
                for need in await needs.window(number):
                    self._count(file, need, objects)
        except FILE_TROUBLE as err:
            file.fails(err)
        except StoreError:
            file.known = False
        if file.problem or not file.known:
            file.size = file.lacking = size
        file.objects = tuple(objects)
        return file

    def _count(self, file: PinnedFile, need: Need, objects: set[bytes]) -> None:
        one = need.container
        file.size += need.length
        file.lacking += self._vault.cache.fetching.lacks(one, need.off, need.off + need.length)
        file.proved = file.proved and is_whole(one)
        objects.add(one.id)

    def _unsent(self, st: int, *, offline: bool) -> FileNeeds | None:
        """What a file that waits to be sent has kept of the version before; its changes are here anyhow."""
        live = self._vault.files.get(st)
        content = live.map.base.content if live is not None else None
        return None if content is None else FileNeeds(self._vault, st, content, offline=offline)
