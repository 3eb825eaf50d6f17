"""Whether single objects in the store are what they claim to be: their bytes, their seals, their signatures.

Nothing here looks at the tree; who does is `checking.py`. Each finding is a word about one object.
"""

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from cryptfs.crypto.keys import KeyLabel
from cryptfs.errors import HostileStore, NeedsUpdate, NotAllowed, NotFound
from cryptfs.format.checkpoint import open_block
from cryptfs.format.names import (
    GenesisName,
    PackName,
    RollupName,
    SegmentName,
    StatementName,
    WrapsName,
    parse_name,
    segment_name,
)
from cryptfs.format.pack import open_index, parse_pack_header
from cryptfs.format.segment import RawSegment, verify_segment
from cryptfs.vault.checkpoints import read_head
from cryptfs.vault.evidence import LogEvidence
from cryptfs.vault.folder import MEMBERSHIP_OBJECT_MAX
from cryptfs.vault.logobjects import LogObjects

if TYPE_CHECKING:
    from cryptfs.vault.vault import Vault

__all__ = ["WRONG", "Inspector"]

WRONG: Final = "does not hold what its name promises"
_SECONDS: Final = 60.0
_PIECE: Final = 4 << 20
_HEADER_MAX: Final = 304


class Inspector:
    """Looks at objects for one vault. Each method returns what is wrong, empty if nothing is; raises StoreError."""

    def __init__(self, vault: "Vault") -> None:
        self._vault = vault
        self._logs = LogObjects(vault.vault_id, vault.sender)
        self.logs: dict[bytes, LogEvidence] = {}
        """What the log objects looked at so far prove."""

    async def membership_object(self, name: str) -> str:
        """A statement, wraps, or the genesis; one that this device knows nothing of says nothing."""
        membership = self._vault.membership
        data = await self._vault.sender.fetch(name, 0, MEMBERSHIP_OBJECT_MAX, _SECONDS)
        if name in membership.damaged:
            return "does not verify"
        return WRONG if membership.has_object(name) and not membership.has_object(name, data) else ""

    async def log_object(self, name: str, parsed: SegmentName | RollupName) -> str:
        """A segment or a rollup; what it proves is in `logs`."""
        log = self.logs.setdefault(parsed.log_id, LogEvidence(parsed.log_id))
        owner = self._vault.membership.graph.log_owner(parsed.log_id)
        if owner is None:
            return "no statement opens this log"
        try:
            raws = await self._logs.segments(name)
        except (HostileStore, NeedsUpdate) as err:
            return str(err)
        finally:
            self._logs.forget_bytes()
        if any(raw.log_id != parsed.log_id for raw in raws):
            return "holds a segment of another log"
        before = len(log.problems)
        for raw in raws:
            log.take(raw, owner.sign_pub)
        wrong = log.problems[before:]
        del log.problems[before:]
        return "; ".join(wrong) or _misnamed(name, parsed, raws)

    async def has_segment(self, log_id: bytes, seq: int, digest: bytes) -> bool:
        """Whether a segment is anywhere, whole: it may have been rolled up since, or lie beside a damaged rollup."""
        owner = self._vault.membership.graph.log_owner(log_id)
        try:
            raw = await self._logs.find(log_id, seq, digest)
            if owner is not None:
                verify_segment(raw, owner.sign_pub)
        except (NotFound, HostileStore):
            return False
        finally:
            self._logs.forget_bytes()
        return owner is not None

    async def lacking(self, rollup: RollupName) -> list[str]:
        """Segments of a rollup that no object has whole, by the names they have by themselves; "" if not known here."""
        found, logs = [], self._vault.standing.logs
        for seq in range(rollup.first, min(rollup.last, logs.state(rollup.log_id).next_seq) + 1):
            digest = logs.digest_at(rollup.log_id, seq)
            if digest is None or not await self.has_segment(rollup.log_id, seq, digest):
                found.append(segment_name(rollup.log_id, seq, digest) if digest is not None else "")
        return found

    async def pack_index(self, name: str, size: int, used: Iterable[tuple[int, bytes]]) -> str:
        """Header and index of a pack of `size` bytes; `used`: (offset, hash) of records that contents name."""
        vault = self._vault
        try:
            first = await vault.sender.fetch(name, 0, _HEADER_MAX, _SECONDS)
            header = parse_pack_header(first, size, vault.vault_id)
            sealed = await vault.sender.fetch(name, header.index_at, size - header.index_at, _SECONDS)
            index = open_index(vault.keyring.key(KeyLabel.PACK, header.ks), header, sealed)
        except (HostileStore, NeedsUpdate, NotAllowed) as err:
            return f"its index cannot be read: {err}"
        there = {(rec.off, rec.hash) for rec in index.recs}
        return "" if there.issuperset(used) else "its index lacks records that are in use"

    async def pack_bytes(self, name: str, size: int, ident: bytes) -> str:
        """Every byte of a pack."""
        digest = hashlib.sha256()
        for at in range(0, size, _PIECE):
            digest.update(await self._vault.sender.fetch(name, at, _PIECE, _SECONDS))
        return "" if digest.digest() == ident else WRONG

    async def checkpoint(self, name: str, size: int, *, blocks: bool) -> str:
        """Head and signature of a checkpoint, and its blocks if wanted."""
        vault = self._vault
        try:
            one = await read_head(vault.sender, vault.membership, name, size)
            key = vault.keyring.key(KeyLabel.META, one.raw.ks)
            for table in one.head.tables if blocks else ():
                for number, ref in enumerate(table.blocks):
                    sealed = await vault.sender.fetch(name, one.raw.blocks_at + ref.off, ref.len, _SECONDS)
                    open_block(one.raw, key, table, number, sealed)
        except (HostileStore, NeedsUpdate, NotAllowed) as err:
            return str(err)
        return ""

    async def is_sound(self, name: str) -> bool:
        """Whether the store has the object with all the bytes it should have, looked at to the last one."""
        parsed = parse_name(name)
        size = await self._vault.sender.size(name)
        if size is None:
            return False
        try:
            if isinstance(parsed, PackName):
                return not await self.pack_bytes(name, size, parsed.id)
            if isinstance(parsed, SegmentName | RollupName):
                return not await self.log_object(name, parsed)
            if isinstance(parsed, StatementName | WrapsName | GenesisName):
                return not await self.membership_object(name)
        except NotFound:
            return False
        return True


def _misnamed(name: str, parsed: SegmentName | RollupName, raws: tuple[RawSegment, ...]) -> str:
    if isinstance(parsed, SegmentName):
        return WRONG if segment_name(raws[0].log_id, raws[0].seq, raws[0].digest) != name else ""
    return "lacks segments it should have" if len(raws) != parsed.last - parsed.first + 1 else ""
