"""Checkpoints of one open vault: finding those of others and saying whether they are right, and making one when due.

Of every checkpoint that appears this device computes the root itself. If it is the same, its next segment says so
(`attest`); once everybody has, nothing below is revised any more (the floor). If it is another one although the logs
are the same, that is an alarm: replicas disagree, and nothing is deleted (docs/replication.md, "Checkpoints").
"""

import logging
import time
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Final

import msgspec
import trio

from cryptfs import VERSION
from cryptfs.errors import CryptfsError, HostileStore, NeedsUpdate, NotAllowed, NotFound
from cryptfs.format.checkpoint_head import CheckpointLog
from cryptfs.format.codec import Ext
from cryptfs.format.segment_body import Attest, LogHead
from cryptfs.format.statement import Cut
from cryptfs.group.authority import Tier
from cryptfs.group.ends import Settled
from cryptfs.group.floor import NO_FLOOR, Floor
from cryptfs.tree.integrate import NeedsRebuild
from cryptfs.vault import doubts
from cryptfs.vault.checkpoints import Ground, StoredCheckpoint, contradiction, newest_first, read_head, vouching
from cryptfs.vault.expiry import turn
from cryptfs.vault.logpast import heads_at, tells_the_same
from cryptfs.vault.outlived import outliving
from cryptfs.vault.statefile import StateFile, root_at

if TYPE_CHECKING:
    from cryptfs.vault.vault import Vault

__all__ = ["Checkpointing", "Known", "is_due"]

log = logging.getLogger(__name__)

_LOOK: Final = 60.0
"""Seconds between two looks at the checkpoints in the store."""
_TURN_S: Final = 600.0
"""Seconds that each further writer's device waits for those before it."""
_LOOKS: Final = 10
"""Looks without the newest checkpoint after which it counts as gone: a listing may lag."""
_FEW_OPS: Final = 500
_MANY_OPS: Final = 20_000
_WEEK_MS: Final = 7 * 86_400_000
_KEPT: Final = 8
"""Checkpoints that are remembered, the newest, beside those of F and the floor before."""
_STORED: Final = "checkpoints"


class Known(msgspec.Struct, array_like=True, frozen=True):
    """A checkpoint as this device sees it: what it says, and what was found here.

    `agreed`: this device has computed the same root from the same logs; `other`: it has computed this one instead,
    empty if not. `given`: it was begun from, so this device has no word of its own about it. `rows`: nodes in it.
    `seen_ms`: when this device came across it. `client`: the program that made it.
    """

    name: str
    digest: bytes
    stamp: int
    root: bytes
    author: bytes
    client: str
    rows: int
    heads: tuple[CheckpointLog, ...]
    seen_ms: int
    agreed: bool = False
    other: bytes = b""
    given: bool = False

    @classmethod
    def of(cls, one: StoredCheckpoint, now_ms: int) -> "Known":
        """Before anything was found out about it."""
        rows = one.head.tables[0].rows
        return cls(one.name, one.raw.digest, one.stamp, one.root, one.raw.author, one.head.client, rows,
                   one.head.heads, now_ms)  # fmt: skip


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(tuple[Known, ...]).decode


def is_due(ops: int, rows: int, age_ms: int) -> bool:
    """Whether a checkpoint should be made: after `ops` stable operations since the last, which has `rows` nodes."""
    if ops <= _FEW_OPS:  # they are replayed in a moment
        return False
    return ops > _MANY_OPS or ops * 4 > rows or age_ms > _WEEK_MS


class Checkpointing:
    """For one vault, while it is open. What is known is kept with the replica."""

    def __init__(self, vault: "Vault") -> None:
        self._vault = vault
        self._lock = trio.Lock()
        self._due_since = -1.0
        self._bulk = (0, 0)
        """Bytes of the logs in the store, and of the largest checkpoint: what one would let go, and what it takes."""
        self._unshown = 0
        """Looks in a row that did not show the newest one."""
        self._ignored: dict[str, int] = {}
        """Checkpoints that came to nothing, and how many statements were known then: with more, one looks again."""
        self._unmet: dict[str, StoredCheckpoint] = {}
        """Those of which nothing can be said yet."""
        self._doubtful: Known | None = None
        """It alone has what this device lacks, and nobody known here stands up for it."""
        self._headless: Collection[bytes] = frozenset()
        kept = vault.replica.meta_get(_STORED)
        self.known: tuple[Known, ...] = _decode(kept) if kept is not None else ()
        """The newest last."""

    # ---- what others ask --------------------------------------------------------------------------------------------

    @property
    def newest(self) -> Known | None:
        """The newest one that this device agrees with."""
        return next((one for one in reversed(self.known) if one.agreed), None)

    def knows(self, one: StoredCheckpoint) -> Ground | None:
        """Ground to begin from a checkpoint: this device has agreed with it."""
        return Ground.KNOWN if any(known.digest == one.raw.digest and known.agreed for known in self.known) else None

    def to_say(self) -> tuple[tuple[Attest, ...], tuple[Ext, ...]]:
        """What the next segment attests, with the digests of the checkpoints that this device stands up for."""
        said = self._vault.standing.log.attested
        mine = [one for one in self.known if one.stamp not in said and (one.other or (one.agreed and not one.given))]
        roots = {one.stamp: one.other or one.root for one in mine}
        stands_up = vouching(one.digest for one in mine if one.agreed)
        return tuple(Attest(stamp, roots[stamp]) for stamp in sorted(roots)), stands_up

    @property
    def owes(self) -> bool:
        """Whether there is anything to attest."""
        return bool(self.to_say()[0])

    @property
    def dispute(self) -> str:
        """Who disagrees with whom, for people; empty if nobody does. It ends when everybody agrees on a later state."""
        floor, membership = self._vault.horizon.floor().stamp, self._vault.membership
        me = f"{self._vault.standing.label}, cryptfs {VERSION}"
        for one in reversed(self.known):
            if one.stamp <= floor:
                break
            maker = f"{membership.name_of(one.author)}, {one.client}"
            if one.other:
                return f"Replicas disagree ({maker}; {me})"
            known = {other.root for other in self.known if other.stamp == one.stamp}
            said = self._vault.horizon.said_of(one.stamp)
            others = [log_id for root, log_ids in said.items() if root not in known for log_id in log_ids]
            if one.agreed and others:
                names = sorted({membership.name_of_log(log_id) for log_id in others})
                return f"Replicas disagree ({maker}; {' and '.join(names)})"
        return ""

    def words_for(self) -> dict[str, object]:
        """For `status`."""
        floor, newest = self._vault.horizon.floor(), self.newest
        return {
            "stable": self._vault.horizon.stable(),
            "floor": floor.stamp,
            "newest": newest.stamp if newest is not None else None,
            "by": self._vault.membership.name_of(newest.author) if newest is not None else "",
            "nodes": newest.rows if newest is not None else 0,
            "operations_since": self._operations_since(newest.stamp if newest is not None else -1),
            "to_attest": len(self.to_say()[0]),
            "waiting_for": self._waiting_for(newest) if newest is not None else [],
        }

    def _waiting_for(self, one: Known) -> list[str]:
        """Devices that have not said yet what they find at a checkpoint: until then it is not the floor."""
        return sorted({self._vault.membership.name_of_log(log_id) for log_id in self._vault.horizon.unsaid(one.stamp)})

    # ---- looking --------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Look regularly, until cancelled. Trouble is told once, and tried again."""
        while True:
            await trio.sleep(_LOOK)
            try:
                await self.tend()
            except CryptfsError as err:
                self._vault.upkeep.note("checkpoints", err)
            else:
                self._vault.upkeep.over("checkpoints")

    async def tend(self) -> None:
        """Look, and make one if one is due and it is this device's turn. Raises as both."""
        await self.look()
        if self._is_our_turn():
            await self.make()

    async def look(self) -> None:
        """Come to know the checkpoints in the store, say of each whether it is right, and move the floor.

        Raises StoreError, LocalDisk.
        """
        async with self._lock:
            vault, names = self._vault, {one.name for one in self.known}
            ignored = [name for name in self._ignored if self._is_ignored(name)]
            listed = await newest_first(vault.sender, vault.membership, surely=names, never=ignored)
            shown = self.newest is None or self.newest.name in {name for name, _ in listed}
            self._unshown = 0 if shown else self._unshown + 1
            for name, size in reversed(listed):
                if name not in names and not self._is_ignored(name):
                    one = self._unmet.pop(name, None) or await self._read(name, size)
                    if one is not None and not await self._meet(one):
                        self._unmet[name] = one
            self.settle()
            vault.replica.commit()

    async def _read(self, name: str, size: int) -> StoredCheckpoint | None:
        vault = self._vault
        try:
            one = await read_head(vault.sender, vault.membership, name, size)
        except (HostileStore, NeedsUpdate, NotAllowed, NotFound) as err:
            log.warning("a checkpoint is ignored: %s", err)
            self._ignore(name)
            return None
        why = contradiction(one, vault.membership, vault.reader.ends(), vault.trust.memory)
        if why:
            log.warning("the checkpoint %s is ignored: %s", name, why)
            self._ignore(name)
        return None if why else one

    def _ignore(self, name: str) -> None:
        self._ignored[name] = len(self._vault.membership.graph)

    def _is_ignored(self, name: str) -> bool:
        return self._ignored.get(name) == len(self._vault.membership.graph)

    async def _meet(self, one: StoredCheckpoint) -> bool:
        """Compare a checkpoint with what is here; False while nothing can be said about it."""
        vault, logs = self._vault, self._vault.standing.logs
        vault.reader.flush()
        if one.stamp < vault.replica.applied.floor():
            self._ignore(one.name)  # what was then cannot be told any more
            return True
        if vault.horizon.stable() < one.stamp or heads_at(logs, one.stamp) != one.head.heads:
            return False  # this device is not there yet, or one of the two knows of other decisions
        if not tells_the_same(logs, one.head.heads, one.past):
            log.warning("the checkpoint %s is ignored: what it says of the logs is not so", one.name)
            self._ignore(one.name)
            return True
        try:
            root = await root_at(vault, one.stamp)
        except NeedsRebuild:
            return False
        if heads_at(logs, one.stamp) != one.head.heads:
            return False
        if root != one.root:
            log.error("this device computes another root for the checkpoint %s", one.name)
        known = Known.of(one, vault.wall_ms())
        self.remember(msgspec.structs.replace(known, agreed=root == one.root, other=b"" if root == one.root else root))
        return True

    def remember(self, one: Known) -> None:
        """Keep what is known of a checkpoint, with the replica."""
        others = [known for known in self.known if known.name != one.name]
        ordered = sorted([*others, one], key=lambda known: (known.stamp, known.name))
        floors = {floor.stamp for floor in outliving(self._vault.horizon)}  # however much newer the others are
        self.known = (*(known for known in ordered[:-_KEPT] if known.stamp in floors), *ordered[-_KEPT:])
        self._vault.replica.meta_set(_STORED, _encode(self.known))

    def settle(self) -> None:
        """Hold to the floor, as far as it is known what it settles; tell the watch what this device stands on."""
        vault, floor = self._vault, self._vault.horizon.floor()
        if floor != NO_FLOOR and floor.stamp > vault.reader.settled.stamp:
            settled = self._settled(floor)
            if settled is not None:
                vault.reader.settle_at(settled)
                vault.replica.advance(floor.stamp)
        unvouched = self._unvouched()
        if unvouched and unvouched != vault.trust.unvouched:
            log.error("%s.", unvouched)
        vault.trust.unvouched = unvouched
        vault.trust.dispute = self.dispute
        newest = self.newest
        if newest is not None:
            vault.trust.stand_on(newest.stamp, newest.root)
        witness = self._doubtful or newest  # in doubt nothing is written anyway: that is all that needs saying
        if witness is not None:
            vault.trust.cover(witness.name, self._covered())

    def doubt(self, one: StoredCheckpoint | None) -> None:
        """This one would have to be gone on from, and is not to be believed; None: no such one (any more)."""
        if one is None and self._doubtful is None:
            return
        self._doubtful = Known.of(one, self._vault.wall_ms()) if one is not None else None
        self.settle()

    def lack(self, log_ids: Collection[bytes]) -> None:
        """The beginnings of these logs are nowhere, so that the tree is not whole; none: it is (again)."""
        if set(log_ids) != set(self._headless):
            self._headless = frozenset(log_ids)
            self.settle()

    @property
    def doubtful(self) -> Known | None:
        """The checkpoint whose words a person has to compare before anything is written; None if there is none."""
        return self._doubtful or next((one for one in self.known if one.given and not one.agreed), None)

    def _unvouched(self) -> str:
        """Why what the folder shows is not to be believed yet: it was begun from, or would have to be, and nobody
        stands up for it.
        """  # noqa: D205 - one sentence
        memory = self._vault.trust.memory
        if self._doubtful is not None and (memory.stamp, memory.root) != (self._doubtful.stamp, self._doubtful.root):
            return doubts.behind(self._vault.name, self._doubtful.root)
        if self._headless:
            return doubts.headless({self._vault.membership.name_of_log(log_id) for log_id in self._headless})
        for one in self.known:
            if one.given and not one.agreed:
                if (memory.stamp, memory.root) != (one.stamp, one.root):
                    return doubts.unvouched(self._vault.name, one.root)
                self.remember(msgspec.structs.replace(one, agreed=True))
        return ""

    def _covered(self) -> Mapping[bytes, LogHead]:
        """Up to where segments may be gone: what lies below the floor before F, or was never read here."""
        before = self._vault.horizon.floors()[1:2]
        deep = [one for one in self.known if one.agreed and before and one.stamp <= before[0].stamp]
        begun = [one for one in self.known if one.agreed and one.given]
        doubtful = [self._doubtful] if self._doubtful is not None else []
        heads: dict[bytes, LogHead] = {}
        for one in (*deep, *begun, *doubtful):
            heads |= {head.log: LogHead(head.log, head.seq, head.digest) for head in one.heads}
        return heads

    async def confirm(self) -> Known:
        """A person has compared the words of the doubtful checkpoint. If it was not begun from yet, the next pull does.

        Raises NotAllowed if none waits.
        """
        one = self.doubtful
        if one is None:
            raise NotAllowed("No checkpoint waits to be confirmed on this device.")
        await self._vault.trust.confirm(one.stamp, one.root)
        self.settle()
        self._vault.replica.commit()
        return one

    def _settled(self, floor: Floor) -> Settled | None:
        for one in self.known:
            if one.agreed and (one.stamp, one.root) == (floor.stamp, floor.root):
                return Settled(one.stamp, {head.log: Cut(head.log, head.seq + 1, head.digest) for head in one.heads})
        return None

    # ---- making -----------------------------------------------------------------------------------------------------

    def _operations_since(self, stamp: int) -> int:
        """Stable operations since a stamp."""
        rows = self._vault.replica.question(
            "SELECT coalesce(sum(ops), 0) FROM moment WHERE stamp > ? AND stamp <= ?",
            (stamp, self._vault.horizon.stable()),
        )
        return int(rows[0][0])

    def _is_our_turn(self) -> bool:
        """Whether one is due, and has been for as long as this device waits for those before it."""
        vault, newest = self._vault, self.newest
        if self._objection() or vault.trust.dispute:  # another one would only be disputed, too
            return False
        since, rows, seen_ms = (newest.stamp, newest.rows, newest.seen_ms) if newest is not None else (-1, 0, 0)
        age_ms = vault.wall_ms() - seen_ms if newest is not None else 0
        due = is_due(self._operations_since(since), rows, age_ms) or self._is_gone
        if not due and not (age_ms > _WEEK_MS and self._is_worth_it()):
            self._due_since = -1.0
            return False
        now = time.monotonic()
        if self._due_since < 0:
            self._due_since = now
        roster, me = vault.membership.resolved.roster, vault.standing.entry
        others = [entry for entry, who in roster.items() if who.role >= Tier.WRITER and entry != me]
        return now - self._due_since >= turn(me, others, vault.horizon.stable()) * _TURN_S

    def weigh(self, logs: int, checkpoint: int) -> None:
        """So many bytes the logs take in the store, and the largest checkpoint there."""
        self._bulk = logs, checkpoint

    def _is_worth_it(self) -> bool:
        """Whether another one gives back more than it takes, be it of the same tree as the newest.

        Of what was done since the floor before F the log stays, with small files that lie in it; once nothing more is
        done, for ever.
        """
        newest, (first, before) = self.newest, outliving(self._vault.horizon)
        logs, checkpoint = self._bulk
        settled = newest is not None and newest.stamp == first.stamp
        return settled and logs > checkpoint and self._operations_since(before.stamp) > 0

    @property
    def _is_gone(self) -> bool:
        """Whether nobody can begin from the newest one: it was deleted, or who made it is out."""
        return self._unshown >= _LOOKS

    def _objection(self) -> str:
        """Why none may be made now; empty if one may."""
        vault = self._vault
        if vault.read_only:
            return vault.trust.stops or vault.standing.objection or "The vault is open for reading only."
        return vault.trust.words + "." if vault.trust.alarms else ""

    async def make(self) -> Known | None:
        """Make a checkpoint of the stable state, and have the store hold it; None if the newest one is that already.

        Raises NotAllowed, StoreError, LocalDisk.
        """
        async with self._lock:
            vault = self._vault
            if why := self._objection():
                raise NotAllowed(f"{why} No checkpoint is made.")
            vault.check_may_seal()
            vault.reader.flush()
            stable = vault.horizon.stable()
            newest = self.newest
            if stable < 0 or (newest is not None and newest.stamp >= stable and not self._is_gone):
                return None
            needless = newest is not None and not self._operations_since(newest.stamp) and not self._is_gone
            if needless and not vault.trust.dispute and not self._is_worth_it():
                return None
            previous = newest.digest if newest is not None else b""
            made = await StateFile(vault).make(stable, previous)
            try:
                await vault.sender.put_until_confirmed(made.name, made.path)
            finally:
                made.path.unlink(missing_ok=True)
            known = Known(
                made.name, made.digest, stable, made.root, vault.standing.entry, made.client, made.rows, made.heads,
                vault.wall_ms(), agreed=True,
            )  # fmt: skip
            self.remember(known)
            self.settle()
            self._due_since, self._unshown = -1.0, 0
            vault.replica.commit()
            log.info("made the checkpoint %s of %d nodes, %d bytes", made.name, made.rows, made.size)
            return known
