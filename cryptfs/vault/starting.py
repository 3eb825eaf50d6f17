"""A device that has read nothing begins from a checkpoint: fetched in few large pieces, taken in block by block.

The newest that may be trusted is tried first, then older ones; with none the logs are replayed from their beginning.
Where logs were deleted since, and nobody known here stands up for any checkpoint, the newest is shown read-only until
a person has compared the words of its root (docs/replication.md, "Checkpoints").
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import trio
from msgspec.structs import replace

from cryptfs.crypto.keys import KeyLabel
from cryptfs.errors import CryptfsError, HostileStore, Invalid, NeedsUpdate, NotAllowed, NotFound
from cryptfs.format.checkpoint import open_block
from cryptfs.format.names import segment_name
from cryptfs.format.segment_body import LogHead
from cryptfs.tree.loading import Loader
from cryptfs.vault.checkpointing import Known
from cryptfs.vault.checkpoints import (
    Ground,
    StoredCheckpoint,
    contradiction,
    ground,
    is_whole,
    newest_first,
    read_head,
    suffices,
    vouchers,
)
from cryptfs.vault.disk import local_disk
from cryptfs.vault.logpast import begin_logs

if TYPE_CHECKING:
    from cryptfs.vault.vault import Vault

__all__ = [
    "Beginning",
    "Candidate",
    "Fetched",
    "begin",
    "candidates",
    "drop",
    "fetch",
    "forget_beginning",
    "judge",
    "take_in",
]

log = logging.getLogger(__name__)

_PIECE: Final = 8 << 20
"""Bytes asked of the store at once: a checkpoint of 100,000 entries is some ten pieces."""
_FILE: Final = "checkpoint.tmp"
_BEGAN: Final = "began"


class Beginning(msgspec.Struct, array_like=True, frozen=True):
    """The checkpoint that the replica was begun from; `ground`: name of the `Ground` it was trusted on."""

    name: str
    stamp: int
    root: bytes
    ground: str

    @classmethod
    def of(cls, vault: "Vault") -> "Beginning | None":
        """Of this replica; None if it was made of the logs alone."""
        kept = vault.replica.meta_get(_BEGAN)
        return _decode(kept) if kept else None


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Beginning).decode


@dataclass(frozen=True, slots=True)
class Candidate:
    """A checkpoint that nothing known here speaks against, and why it may be begun from."""

    one: StoredCheckpoint
    ground: Ground


@dataclass(frozen=True, slots=True)
class Fetched:
    """A whole checkpoint on this disk: `path` has its blocks, sealed."""

    one: StoredCheckpoint
    path: Path

    def blocks(self, vault: "Vault") -> Iterator[tuple[int, list[bytes]]]:
        """Rows with the number of their table, block by block. Raises HostileStore, LocalDisk."""
        meta_key = vault.keyring.key(KeyLabel.META, self.one.raw.ks)
        with local_disk("reading a checkpoint"), self.path.open("rb") as file:
            for table in self.one.head.tables:
                for number, ref in enumerate(table.blocks):
                    file.seek(ref.off)
                    yield table.table, open_block(self.one.raw, meta_key, table, number, file.read(ref.len))


async def begin(vault: "Vault", own_head: LogHead | None) -> bool:
    """Take the newest checkpoint that may be trusted into the empty replica; False if there is none.

    `own_head`: the last segment that the journal says was made here. Raises StoreError if the store cannot be asked.
    """
    doubtful: list[StoredCheckpoint] = []
    for name, size in await newest_first(vault.sender, vault.membership):
        found = await judge(vault, name, size, own_head)
        if found is None:
            continue
        if found.ground is Ground.NONE:
            doubtful.append(found.one)
        elif await _try(vault, found):
            return True
    for one in doubtful:
        if is_whole(await vault.log_objects.look(), one):
            break  # nothing is lost by not trusting anybody
        if await _try(vault, Candidate(one, Ground.NONE)):
            return True
    return False


def forget_beginning(vault: "Vault") -> None:
    """The replica is made of the logs alone now."""
    vault.replica.meta_set(_BEGAN, b"")


async def candidates(vault: "Vault") -> list[Candidate]:
    """For a tree that is made anew: checkpoints that may be trusted, the newest first. Raises StoreError."""
    found = []
    for name, size in await newest_first(vault.sender, vault.membership):
        one = await judge(vault, name, size, vault.standing.made)
        if one is not None and one.ground is not Ground.NONE:
            found.append(one)
    return found


async def judge(vault: "Vault", name: str, size: int, own_head: LogHead | None) -> Candidate | None:
    """Read the head of a checkpoint of `size` bytes; None if something speaks against it.

    `own_head`: see `begin`. Raises StoreError.
    """
    membership, memory = vault.membership, vault.trust.memory
    try:
        one = await read_head(vault.sender, membership, name, size)
    except (HostileStore, NeedsUpdate, NotAllowed, NotFound) as err:
        log.warning("a checkpoint is ignored: %s", err)
        return None
    why = contradiction(one, membership, vault.reader.ends(), memory) or _beyond(one, own_head)
    if why:
        log.warning("the checkpoint %s is not begun from: %s", name, why)
        return None
    why_trusted = vault.checkpointing.knows(one) or ground(one, membership, memory)
    if why_trusted is Ground.NONE and suffices(await vouchers(one, vault.log_objects, membership)):
        why_trusted = Ground.VOUCHED
    return Candidate(one, why_trusted)


def _beyond(one: StoredCheckpoint, own_head: LogHead | None) -> str:
    """Whether the checkpoint has more of this device's log than its journal: then a copy of it has written there."""
    for head in one.head.heads:
        if own_head is None or head.log != own_head.log:
            continue
        if head.seq > own_head.seq or (head.seq == own_head.seq and head.digest != own_head.digest):
            return "it has more of this device's log than this device has written"
    return ""


async def _try(vault: "Vault", candidate: Candidate) -> bool:
    """Begin from it; False, and nothing has changed, if it turns out not to be what its head says."""
    one = candidate.one
    try:
        fetched = await fetch(vault, one)
        with vault.replica.attempt():
            take_in(vault, fetched, candidate.ground)
    except (HostileStore, NeedsUpdate, NotAllowed, NotFound) as err:
        log.warning("the checkpoint %s is not begun from: %s", one.name, err)
        return False
    finally:
        drop(vault)
    begin_logs(vault.standing.logs, one.head.heads, one.past)
    believed = candidate.ground is not Ground.NONE
    vault.checkpointing.remember(replace(Known.of(one, vault.wall_ms()), agreed=believed, given=True))
    log.info("begun from the checkpoint %s: %s", one.name, candidate.ground.value)
    return True


def drop(vault: "Vault") -> None:
    """The copy of the checkpoint is not needed any more."""
    _path(vault).unlink(missing_ok=True)


def _path(vault: "Vault") -> Path:
    return vault.home.cache_dir / _FILE


async def fetch(vault: "Vault", one: StoredCheckpoint) -> Fetched:
    """Bring the blocks here, several pieces at once. Raises StoreError, LocalDisk."""
    path = _path(vault)
    length = one.raw.size - one.raw.blocks_at
    failures: list[CryptfsError] = []

    async def piece(at: int) -> None:
        try:
            data = await vault.sender.get(one.name, one.raw.blocks_at + at, min(_PIECE, length - at), seconds=600.0)
            with local_disk("keeping a checkpoint"):
                file.seek(at)
                file.write(data)
        except CryptfsError as err:  # one by one, not as a group: callers ask what went wrong
            failures.append(err)
            nursery.cancel_scope.cancel()

    with local_disk("keeping a checkpoint"), path.open("wb") as file:
        async with trio.open_nursery() as nursery:
            for at in range(0, length, _PIECE):
                nursery.start_soon(piece, at)
    if failures:
        raise failures[0]
    return Fetched(one, path)


def take_in(vault: "Vault", fetched: Fetched, why: Ground) -> None:
    """Put the state in place of the tree. No waiting.

    Raises HostileStore if it is not what its head says; then the tree must be put back (`Core.attempt`).
    """
    one, replica = fetched.one, vault.replica
    replica.widen(wide=True)
    try:
        loader = Loader(replica, one.head.heads, vault.reader.own_ids, vault.reader.own_log)
        for table, rows in fetched.blocks(vault):
            loader.take(table, rows)
        hashes = loader.hashes()
        if hashes != {ref.table: ref.thash for ref in one.head.tables if ref.table in hashes}:
            raise Invalid("rows of a checkpoint do not have the root that its head says")
        loader.finish(one.stamp)
    finally:
        replica.widen(wide=False)
    for log_id, seq, digest in loader.bodies():
        vault.cache.segments.learn(digest, segment_name(log_id, seq, digest))
    vault.cache.follow(replica.uses.moves())
    replica.meta_set(_BEGAN, _encode(Beginning(one.name, one.stamp, one.root, why.name)))
