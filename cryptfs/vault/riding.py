"""How the records that a journal frame refers to become durable: a little rides in it, more is flushed before it.

A flush of a pack file costs as much as that of the journal, so a small `fsync` of a program is one flush and not two.
"""

from collections.abc import Callable
from typing import Final

from cryptfs.faults import Faults
from cryptfs.vault.journal import Record
from cryptfs.vault.records import Records

__all__ = ["Riding"]

_RIDE_MAX: Final = 256 << 10
"""Bytes of records that ride in the journal at one commit; more are flushed in their pack files."""


class Riding:
    """For the packs of `records` that are not sent yet. Its owner is the journal, see `Journal.before_write`."""

    def __init__(self, records: Records, faults: Faults) -> None:
        self._records = records
        self._faults = faults

    def before_write(self, new_generation: bool) -> Callable[[], list[Record]]:
        """Decide which of the two it is, on the trio thread; what is returned does it, in the journal's.

        `new_generation`: the frame begins a file of the journal, which takes nothing of the one before with it. Raises
        LocalDisk.
        """
        packs = [pack for pack in self._records.local.values() if pack.unsynced() > 0]
        if not new_generation and sum(pack.undurable() for pack in packs) <= _RIDE_MAX:
            marks = [(pack, pack.size) for pack in packs]
            records = [record for pack in packs if (record := pack.riding_record()) is not None]

            def ride() -> list[Record]:
                for pack, size in marks:
                    pack.mark_journaled(size)
                return records

            return ride
        for pack in packs:
            pack.flush()
        targets = [(pack, pack.size) for pack in packs]

        def sync() -> list[Record]:
            for pack, size in targets:
                self._faults.step("pack.sync")
                pack.sync_file(size)
                pack.mark_synced(size)
            return []

        return sync
