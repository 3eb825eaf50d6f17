"""Keeps on this disk what is pinned, so that it can be read without the store, and says how far that is.

After every change of the tree a look learns what is needed (`pinned.py`), and what is missing is brought here in the
background (`bringing.py`). The cache leaves alone what is needed, whatever its limit.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import trio

from cryptfs.errors import CryptfsError, LocalDiskFull, StoreError
from cryptfs.vault.bringing import Bringing
from cryptfs.vault.disk import in_words as amount_in_words
from cryptfs.vault.disk import space_of
from cryptfs.vault.info import path_of
from cryptfs.vault.past import in_words
from cryptfs.vault.pinned import AGAIN, PinnedFile, Survey
from cryptfs.vault.pins import Pin, Pins

if TYPE_CHECKING:
    from cryptfs.vault.vault import Vault

__all__ = ["Amount", "Keeper"]

log = logging.getLogger(__name__)

_SETTLE: Final = 2.0
"""Seconds between a change and the look that follows it: changes come in groups."""
_IN_TROUBLE: Final = 30.0
_IN_PEACE: Final = 3600.0
"""Seconds until the next look if nothing changes: the store is back, an object was put back, the cache was deleted."""
_SHOWN: Final = 20
"""Files that are named one by one in `status`."""


@dataclass(slots=True)
class Amount:
    """Files, their sealed bytes, and how many of these are on this disk."""

    files: int = 0
    bytes: int = 0
    here: int = 0

    def add(self, file: PinnedFile | None, size: int) -> None:
        """Count one more; None: no look has found it yet, and it has about `size` bytes."""
        self.files += 1
        self.bytes += size if file is None else file.size
        self.here += 0 if file is None else max(0, file.size - file.lacking)


class Keeper:
    """Keeps what `pins` says, for one vault. Trio thread."""

    def __init__(self, vault: "Vault", pins: Pins) -> None:
        self._vault = vault
        self.pins = pins
        self._survey = Survey(vault)
        self._bringing = Bringing(vault, self._survey, self.require_room)
        self._stirred = trio.Event()
        self._trouble: CryptfsError | None = None
        if pins.all:
            vault.cache.kept = None  # nothing goes before it is known what is needed
            self._stirred.set()

    def stir(self) -> None:
        """The tree has changed, or what is pinned."""
        self._stirred.set()

    async def run(self) -> None:
        """Look and bring whenever something has changed, until cancelled."""
        while True:
            with trio.move_on_after(self._patience()):
                await self._stirred.wait()
            self._stirred = trio.Event()
            if self.pins.all:
                await trio.sleep(_SETTLE)
                await self._turn()

    async def _turn(self) -> None:
        try:
            await self.look()
            await self._bringing.bring()
        except CryptfsError as err:
            if str(err) != str(self._trouble):
                log.warning("what is pinned is not all here: %s %s", err, err.advice)
            self._trouble = err
        else:
            self._trouble = None

    def _patience(self) -> float:
        if self._trouble is not None or not all(file.known for file in self._survey.files.values()):
            return _IN_TROUBLE
        return AGAIN if any(file.problem for file in self._survey.files.values()) else _IN_PEACE

    async def look(self, pins: tuple[Pin, ...] | None = None) -> None:
        """Learn what is pinned, or would be with these `pins`, and how much is not here. Raises LocalDisk."""
        await self._survey.look(self.nodes(self.pins.all if pins is None else pins))
        if pins is None:
            self.pins.replace(tuple(map(self._as_now, self.pins.all)))

    async def bring(self) -> None:
        """Look, and bring what is missing, now. Raises StoreError, LocalDisk, LocalDiskFull; what came stays."""
        await self.look()
        await self._bringing.bring()

    def require_room(self, lacking: int) -> None:
        """Raise LocalDiskFull unless so many bytes fit on the disk of the cache."""
        space = space_of(self._vault.home.cache_dir)
        room = max(0, space.free - space.reserve)
        if lacking > room:
            needed, left = amount_in_words(lacking), amount_in_words(room)
            raise LocalDiskFull(
                f"What is pinned needs {needed} more; the disk of the cache has {left} left.",
                "Free space there, unpin something, or mount with a smaller cache_size.",
            )

    # ---- the pins -------------------------------------------------------------------------------------------------

    def nodes(self, pins: Iterable[Pin]) -> list[int]:
        """Their st numbers, as far as they are known."""
        replica = self._vault.replica
        found = (replica.st_of(pin.ino) for pin in pins)
        return [replica.state.res(st) for st in found if st is not None]

    def node(self, pin: Pin) -> int | None:
        """The node that is pinned; None if it was deleted."""
        for st in self.nodes([pin]):
            node = self._vault.replica.rows.node(st)
            if node is not None and node.gone_l is None:
                return st
        return None

    def _as_now(self, pin: Pin) -> Pin:
        """The pin under the inode and path that it has now."""
        st, replica = self.node(pin), self._vault.replica
        return pin if st is None else Pin(replica.ino_of(st), path_of(replica, st))

    # ---- answers --------------------------------------------------------------------------------------------------

    @property
    def looked(self) -> bool:
        """Whether there was a look since the start."""
        return self._survey.looked

    @property
    def lacking(self) -> int:
        """Bytes that are not here, as the last look found."""
        return sum(file.lacking for file in self._survey.files.values())

    def amount(self, pins: Iterable[Pin]) -> Amount:
        """How much that is, as far as the last look knows it. Some tenths of a second for 100,000 files."""
        total, seen = Amount(), set[int]()
        for st, size, _ in self._survey.below(self.nodes(pins)):
            if st not in seen:
                seen.add(st)
                total.add(self._survey.files.get(st), size)
        return total

    @property
    def state(self) -> str:
        """In words; empty if nothing is pinned."""
        files = self._survey.files.values()
        if not self.pins.all:
            return ""
        if self._trouble is not None and not isinstance(self._trouble, StoreError):
            return f"{self._trouble} {self._trouble.advice}"
        if not self._survey.looked:
            return "being looked at"
        if any(file.wanted or not file.known for file in files):
            return "being fetched" if self._vault.sender.state.state == "ok" else "waits for the store"
        return "not all of it can be had" if any(file.problem for file in files) else "all here"

    def problems(self) -> list[str]:
        """Which files cannot be kept, and why, for people."""
        wrong = [(st, file.problem) for st, file in self._survey.files.items() if file.problem]
        words = [f"'{in_words(path_of(self._vault.replica, st))}' is pinned: {why}" for st, why in wrong[:_SHOWN]]
        if len(wrong) > _SHOWN:
            words.append(f"{len(wrong) - _SHOWN} more pinned files cannot be had.")
        return words

    def status(self) -> dict[str, object]:
        """For `status`: names and meanings are in docs/mount.md."""
        total = Amount()
        for file in self._survey.files.values():
            total.add(file, file.size)
        return {
            "pins": len(self.pins.all),
            "files": total.files,
            "bytes": total.bytes,
            "bytes_here": total.here,
            "state": self.state,
            "problems": self.problems(),
        }
