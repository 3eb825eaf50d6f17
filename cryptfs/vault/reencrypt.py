"""Eager revocation: whatever still lies under older keys is sealed anew, batch by batch, while work goes on.

    files that are old -> records sealed anew, sent -> one segment of rekeys -> next batch

What is left to do is found in the tree itself (`oldkeys.py`), so a run that is killed anywhere is continued by the
next; it leaves at most one batch of packs in the store that nothing names. Each batch is confirmed before the next is
begun, which bounds what lies twice on this disk. Names and other entries of log segments from before stay as they are:
logs are never written anew.
"""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cryptfs.errors import HostileStore, InUse, NeedsUpdate, NotAllowed
from cryptfs.format.names import pack_name
from cryptfs.tree.replica import StoredVersion
from cryptfs.vault.containers import Container
from cryptfs.vault.info import path_of
from cryptfs.vault.oldkeys import files_below, old_bytes
from cryptfs.vault.pace import Pace
from cryptfs.vault.resealing import Known, NewRecords, Resealed, make_contents

if TYPE_CHECKING:
    from cryptfs.vault.vault import Vault

__all__ = ["Outcome", "Reencryption", "asked_for"]

log = logging.getLogger(__name__)

BATCH_BYTES: Final = 64 << 20
"""Plaintext sealed anew before a segment says so: what a kill costs, and what lies twice on this disk."""
BATCH_VERSIONS: Final = 400
"""Contents in one segment, of at most some 5 KiB each."""
_ROUNDS: Final = 4
"""Tries to say so of a file that is being written."""
_PASSES: Final = 5
"""Looks at all files: each finds what was written, under old keys or in part, since the one before."""
_ASKED: Final = "reencrypt"
"""Key in the replica, which is sealed: what was asked for and is not finished, b"/" and a path."""

Seen = Callable[[int], Awaitable[None]]
"""Is told how many bytes more are sealed anew."""


@dataclass(slots=True)
class Outcome:
    """What a run did. `files` by node, `amount` in bytes of plaintext.

    `failed`: path -> why it could not be read; `busy`: paths of files that were changed again and again meanwhile.
    """

    files: set[int] = field(default_factory=set)
    versions: int = 0
    amount: int = 0
    segments: int = 0
    failed: dict[bytes, str] = field(default_factory=dict)
    busy: list[bytes] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether nothing that was asked for is left."""
        return not self.failed and not self.busy


def asked_for(vault: "Vault") -> bytes | None:
    """The path (b"" is all of the vault) whose re-encryption was begun here and not finished; None if there is none."""
    path = vault.replica.meta_get(_ASKED)
    return path[1:] if path else None


class Reencryption:
    """One run over the files below the node `top`, which was asked for as `path`, or over the whole vault (None, b"").

    One at a time on a device; several devices at once do no harm, but for work done twice.
    """

    def __init__(self, vault: "Vault", top: int | None, path: bytes, pace: Pace, seen: Seen) -> None:
        self._vault = vault
        self._top = top
        self._path = path
        self._pace = pace
        self._seen = seen
        self._records = NewRecords(vault)
        self._batch: list[Resealed] = []
        self._known: Known = {}
        self._failed: dict[int, str] = {}
        self._told = 0
        self.outcome = Outcome()

    async def run(self) -> Outcome:
        """Do it. Raises InUse, NotAllowed for who is no administrator, StoreError, LocalDisk; then run it again."""
        vault = self._vault
        if vault.sealer.reencrypting:
            raise InUse("The vault is being re-encrypted here already.", "Wait until that is done.")
        vault.sealer.reencrypting = True
        try:
            await vault.sync()
            vault.standing.check_may_rekey()
            if vault.read_only:
                raise NotAllowed("The vault is open for reading only.", "Mount it without `ro`, or unmount it.")
            vault.replica.meta_set(_ASKED, b"/" + self._path)
            vault.replica.commit()
            await self._all_passes()
        finally:
            vault.sealer.reencrypting = False
            while self._batch:
                self._batch.pop().close()
        if self.outcome.complete:
            vault.replica.meta_set(_ASKED, b"")
            vault.replica.commit()
        return self.outcome

    async def _all_passes(self) -> None:
        vault = self._vault
        for turn in range(_PASSES + 1):
            left = [st for st in files_below(vault, self._top) if await self._is_old(st)]
            if not left or turn == _PASSES:
                break
            for st in left:
                await self._file(st)
            await self._flush()
            await vault.sync()  # changes that were in the way are sealed before the next look
        self.outcome.failed = {self._name(st): why for st, why in self._failed.items()}
        self.outcome.busy = [self._name(st) for st in left if st not in self._failed]

    async def _is_old(self, st: int) -> bool:
        await self._pace.step()
        if st in self._failed:
            return False
        try:
            return any([await old_bytes(self._vault, one) for one in self._vault.replica.versions(st)])
        except (HostileStore, NeedsUpdate) as err:
            self._failed[st] = str(err)
            return False

    def _name(self, st: int) -> bytes:
        row = self._vault.replica.rows.node(st)
        last = row.last_name if row is not None and row.last_name is not None else b""
        return path_of(self._vault.replica, st) or b"(deleted) " + last

    # ---- one file -------------------------------------------------------------------------------------------------

    async def _file(self, st: int) -> None:
        """All versions of one file: the present one first, as what is old in others is mostly the same records."""
        self._known = {}
        try:
            for version in self._vault.replica.versions(st):
                if await old_bytes(self._vault, version):
                    await self._version(version)
        except (HostileStore, NeedsUpdate) as err:
            self._failed[st] = str(err)

    async def _version(self, version: StoredVersion) -> None:
        """One version, in as many parts as it has batches. What others change meanwhile is left to the next pass."""
        one = Resealed(self._vault, version, self._known)
        try:
            while await self._part(one):
                carrier = one.version.carrier
                if not one.again() or one.version.carrier == carrier:
                    break
        except (HostileStore, NeedsUpdate):
            if one.settled():  # else it is another version that the keys are of
                raise
        finally:
            if one not in self._batch:
                one.close()

    async def _part(self, one: Resealed) -> bool:
        """As much of a version as a batch has room for; whether more of it is left."""
        if not one.settled():
            return False
        await one.reseal(self._records, BATCH_BYTES, self._pace)
        await self._tell()
        self._batch.append(one)
        more = not one.complete
        if self._records.bytes >= BATCH_BYTES or len(self._batch) >= BATCH_VERSIONS:
            await self._flush(keep=one)
        return more

    async def _tell(self) -> None:
        await self._seen(self._records.bytes - self._told)
        self.outcome.amount += self._records.bytes - self._told
        self._told = self._records.bytes

    # ---- one batch ------------------------------------------------------------------------------------------------

    async def _flush(self, keep: Resealed | None = None) -> None:
        """Have a segment say what was sealed anew. All of the batch is closed, but `keep`, which its owner closes."""
        vault = self._vault
        await self._records.finish()
        made: list[Container] = list(self._records.packs)
        waiting = list(self._batch)
        for _ in range(_ROUNDS):
            waiting = [one for one in waiting if one.settled() or await self._renewed(one)]
            if not waiting:
                break
            made += await make_contents(vault, waiting)
            done = await vault.sealer.seal_rekeys(waiting)
            self._count([one for one in waiting if one in done])
            waiting = [one for one in waiting if one not in done]
            if waiting:
                while await vault.sealer.seal():  # what stands in their way waits to be sealed
                    pass
                waiting = [one for one in waiting if await self._renewed(one)]
        for one in self._batch:
            if one is not keep:
                one.close()
        self._batch = []
        await self._forget_unused(made)
        self._records.begin()
        self._told = 0

    async def _renewed(self, one: Resealed) -> bool:
        """Take the file as it is now; of its chunks those that did not change since are sealed anew already."""
        if not one.again():
            return False
        try:
            await one.reseal(self._records, 0, self._pace)
        except (HostileStore, NeedsUpdate):
            return False  # the next pass says what is wrong with it
        return bool(one.moved) or one.complete

    def _count(self, done: list[Resealed]) -> None:
        self.outcome.segments += bool(done)
        self.outcome.files.update(one.version.st for one in done if one.complete)
        self.outcome.versions += sum(one.complete for one in done)

    async def _forget_unused(self, made: list[Container]) -> None:
        """Packs that no segment names in the end: nobody ever heard of them."""
        unused = {one for one in made if not one.named}
        self._known = {key: ref for key, ref in self._known.items() if ref.container not in unused}
        for container in unused:
            await self._vault.sender.delete_quietly(pack_name(container.id))
            container.drop_file()
