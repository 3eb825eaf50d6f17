"""The state at a stamp, hashed or written into a checkpoint file: by a thread, beside the vault that goes on.

Everything that is said of the state is fixed in one moment, with the connection that the thread reads from. Rows wait
on the disk, sealed under a key that nobody keeps, until the sizes of all blocks are known (`format/checkpoint_making`).
"""

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Final

import trio

from cryptfs import VERSION
from cryptfs.crypto.keys import KeyLabel, lp, random_bytes
from cryptfs.crypto.seal import open_sealed, seal, sealed_len
from cryptfs.errors import NotAllowed
from cryptfs.format.checkpoint_head import TABLE_HINTS, CheckpointLog, state_root, table_hasher
from cryptfs.format.checkpoint_logs import logs_extension
from cryptfs.format.checkpoint_making import About, Making, Outline, blocks_of
from cryptfs.format.names import checkpoint_name
from cryptfs.tree.integrate import RULES
from cryptfs.tree.snapshot import StateAt, state_at
from cryptfs.vault.disk import local_disk
from cryptfs.vault.logpast import heads_at, past_at
from cryptfs.vault.stability import sight_of

if TYPE_CHECKING:
    from cryptfs.vault.vault import Vault

__all__ = ["Made", "StateFile", "root_at"]

_FILE: Final = "making.tmp"
_KEY_LEN: Final = 32
_CONTEXT: Final = b"cryptfs/v1 waiting rows"
_NOT_KNOWN: Final = "How the logs stood at the stable stamp is not known here yet."


async def root_at(vault: "Vault", stamp: int) -> bytes:
    """The root of the state at `stamp` as this device has it. Raises NeedsRebuild if it cannot be told any more."""
    with state_at(vault.replica, stamp) as then:
        return await trio.to_thread.run_sync(_root, vault.vault_id, stamp, then)


def _root(vault: bytes, stamp: int, then: StateAt) -> bytes:
    thashes = {}
    for table, rows in then.tables():
        hasher = table_hasher(table)
        for row in rows:
            hasher.update(lp(row))
        thashes[table] = hasher.digest()
    return state_root(vault, stamp, RULES, thashes)


@dataclass(frozen=True, slots=True)
class Made:
    """A checkpoint on this disk, to be sent."""

    path: Path
    name: str
    digest: bytes
    root: bytes
    heads: tuple[CheckpointLog, ...]
    rows: int
    size: int
    client: str


class StateFile:
    """Makes one checkpoint file for one vault."""

    def __init__(self, vault: "Vault") -> None:
        self._vault = vault
        self._path = vault.home.cache_dir / _FILE
        self._client = f"cryptfs {VERSION}"

    async def make(self, stamp: int, previous: bytes) -> Made:
        """Of the state at `stamp`; `previous` is the digest of an earlier checkpoint, or empty.

        Raises NotAllowed without a key or while not all is known that it has to say, NeedsRebuild, LocalDisk.
        """
        vault = self._vault
        logs = vault.standing.logs
        heads = heads_at(logs, stamp)
        sights = sight_of(vault.membership, logs, vault.standing.log_id)
        past = past_at(logs, heads, [one.log for one in sights if one.unfinished]) if heads is not None else None
        if heads is None or past is None:
            raise NotAllowed(_NOT_KNOWN)
        about = About(stamp, RULES, vault.standing.mheads(), heads, previous, (logs_extension(past),))
        ks = vault.keyring.write_keyset
        meta_key = vault.keyring.key(KeyLabel.META, ks)
        entry, seed = vault.standing.entry, vault.standing.sign_seed

        def write(then: StateAt) -> Made:
            with local_disk("writing a checkpoint"), ExitStack() as files:
                waiting = files.enter_context(TemporaryFile(dir=vault.home.cache_dir))
                spool = _Spool(waiting)
                outlines = [spool.take(table, rows) for table, rows in then.tables()]
                outlines.append(spool.take(TABLE_HINTS, then.moments()))
                making = Making(
                    vault=vault.vault_id, ks=ks, author=entry, meta_key=meta_key, about=about, client=self._client,
                    outlines=outlines,
                )  # fmt: skip
                out = files.enter_context(self._path.open("wb"))
                out.seek(making.blocks_at)
                for table, number, plain in spool.blocks(outlines):
                    out.write(making.seal_block(table, number, plain))
                size = out.tell()
                first, digest = making.finish(seed)
                out.seek(0)
                out.write(first)
            rows = sum(count for count, _ in outlines[0].blocks)
            name = checkpoint_name(stamp, entry, digest)
            return Made(self._path, name, digest, making.root, heads, rows, size, self._client)

        with state_at(vault.replica, stamp) as then:
            return await trio.to_thread.run_sync(write, then)


class _Spool:
    """Blocks in clear that wait, on the disk and under a key that is forgotten with this object."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._key = random_bytes(_KEY_LEN)

    def take(self, table: int, rows: Iterator[bytes]) -> Outline:
        """Keep the rows of a table; returns what can be said of them."""
        hasher, blocks = table_hasher(table), []
        for count, plain in blocks_of(_hashed(rows, hasher)):
            self._file.write(seal(self._key, _CONTEXT, plain))
            blocks.append((count, len(plain)))
        return Outline(table, hasher.digest(), blocks)

    def blocks(self, outlines: list[Outline]) -> Iterator[tuple[int, int, bytes]]:
        """(table, number, block in clear), as they were taken."""
        self._file.seek(0)
        for one in outlines:
            for number, (_, size) in enumerate(one.blocks):
                yield one.table, number, open_sealed(self._key, _CONTEXT, self._file.read(sealed_len(size)))


def _hashed(rows: Iterator[bytes], hasher: "hashlib._Hash") -> Iterator[bytes]:
    for row in rows:
        hasher.update(lp(row))
        yield row
