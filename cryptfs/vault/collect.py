"""Gives the space of what nobody uses any more back to the store (docs/replication.md, "Collection").

    RETIRE   containers of this device's log of which nothing is used, or what is was copied elsewhere (`retiring.py`)
    WAIT     until every log has acknowledged that, and then a comfort delay
    RECHECK  what was used again meanwhile goes back into use
    DELETE   the object, if it is a pack; body2 of a segment goes with its log (`logdeletion.py`)

Each step begins from what is in the replica, so a run may end anywhere and the next one goes on. Waiting alone deletes
nothing: what counts is the word of every device that may write.
"""

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from cryptfs.errors import CryptfsError, NotAllowed
from cryptfs.format.content import WHERE_BODY2, WHERE_PACK
from cryptfs.format.names import pack_name
from cryptfs.format.operation import Unretire
from cryptfs.tree.places import Place
from cryptfs.tree.retirement import Retirement
from cryptfs.vault.estates import tended_logs
from cryptfs.vault.expiry import expire
from cryptfs.vault.holding import TRIES, Holding
from cryptfs.vault.logdeletion import LogDeletion
from cryptfs.vault.oldcheckpoints import delete_old_checkpoints
from cryptfs.vault.retiring import Retiring, Say, wheres
from cryptfs.vault.rollups import Rollups
from cryptfs.vault.saying import say_in_log
from cryptfs.vault.stability import LogSight, owing, sight_of

if TYPE_CHECKING:
    from cryptfs.vault.vault import Vault

__all__ = ["Collected", "Collector", "Waiting"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A log that has not acknowledged yet: whose it is, and when its author last said anything (ms, 0: never)."""

    log: bytes
    name: str
    last_ms: int


@dataclass(slots=True)
class Collected:
    """What a run did, and what is left: packs and bytes of the store; `rolled_up`: segments of the log.

    `held_back`: why nothing was done, empty if something could be; `logs_held_back`: why log objects stay that could
    go. `waiting`: whose word is missing. `comfort_ms`: when the earliest of what waits for the delay alone may go, 0 if
    nothing does. `left`: objects that could not be repacked or deleted, and why.
    """

    expired: int = -1
    retired: int = 0
    retired_bytes: int = 0
    repacked: int = 0
    deleted: int = 0
    deleted_bytes: int = 0
    used_again: int = 0
    rolled_up: int = 0
    log_objects_deleted: int = 0
    log_bytes_deleted: int = 0
    """Of what is behind the floor alone; what lies in rollups is there once more."""
    checkpoints_deleted: int = 0
    logs_held_back: str = ""
    remaining: int = 0
    remaining_bytes: int = 0
    waiting: list[Waiting] = field(default_factory=list)
    comfort_ms: int = 0
    held_back: str = ""
    left: dict[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, object]:
        """For commands; times in ms since 1970."""
        return {
            "history_let_go": self.expired >= 0,
            "retired": self.retired,
            "retired_bytes": self.retired_bytes,
            "repacked": self.repacked,
            "deleted": self.deleted,
            "deleted_bytes": self.deleted_bytes,
            "used_again": self.used_again,
            "segments_rolled_up": self.rolled_up,
            "log_objects_deleted": self.log_objects_deleted,
            "log_bytes_deleted": self.log_bytes_deleted,
            "checkpoints_deleted": self.checkpoints_deleted,
            "logs_held_back": self.logs_held_back,
            "remaining": self.remaining,
            "remaining_bytes": self.remaining_bytes,
            "waiting_for": [
                {"log": one.log.hex(), "name": one.name, "last_heard_ms": one.last_ms} for one in self.waiting
            ],
            "delay_ends_ms": self.comfort_ms,
            "held_back": self.held_back,
            "left": dict(self.left),
        }

    @property
    def finished(self) -> bool:
        """Whether nothing that is unused waits for anything."""
        return not self.held_back and self.remaining == 0


class Collector:
    """Collects for one vault; one run at a time, whoever asks."""

    def __init__(self, vault: "Vault") -> None:
        self._vault = vault
        self._holding = Holding(vault)
        self._retiring = Retiring(vault, self._holding)
        self._rollups = Rollups(vault)
        self._log_deletion = LogDeletion(vault)
        self._lock = trio.Lock()
        self.last: Collected | None = None
        """Outcome of the last run."""

    async def run(self, *, now: bool = False, history: bool = False, say: Say | None = None) -> Collected:
        """One run. `now` waives the comfort delay, `history` lets all old versions and the trash expire before.

        Never waives a word that is missing. Raises StoreError, HostileStore, LocalDisk; nothing is lost then.
        """
        async with self._lock:
            done = Collected(held_back=self._objection())
            if not done.held_back:
                try:
                    await self._run(done, now=now, history=history, say=say or log.debug)
                except NotAllowed as err:
                    done.held_back = str(err)
            self.last = done
            return done

    async def _run(self, done: Collected, *, now: bool, history: bool, say: Say) -> None:
        vault = self._vault
        await vault.exchange.pull()
        vault.check_may_seal()
        await vault.acknowledging.now()  # others may wait for this device's word, too
        await vault.adopter.settle_estates(say)
        done.expired = await expire(vault, self.stable(), everything=history)
        if done.expired >= 0:
            say("Old versions and the trash are let go.")
            await say_in_log(vault, [])
        await self._retire(done, everything=now, say=say)
        self._note()
        self._hear()
        bodies = await self._delete(done, now=now, say=say)
        self._tell_what_waits(done, now=now)
        await self._tidy_logs(bodies, done, now=now, say=say)
        vault.replica.commit()

    def _objection(self) -> str:
        """Why nothing may be deleted now; empty if something may."""
        vault = self._vault
        if vault.options.read_only:
            return "The vault is open for reading only."
        if vault.trust.words:
            return vault.trust.words + "."
        if vault.sealer.reencrypting:
            return "The vault is being re-encrypted here."
        return vault.standing.objection

    def stable(self) -> int:
        """S as of now: at or below this stamp no segment can appear any more."""
        vault = self._vault
        vault.reader.flush()
        return vault.horizon.stable()

    # ---- retire ---------------------------------------------------------------------------------------------------

    async def _retire(self, done: Collected, *, everything: bool, say: Say) -> None:
        retired = await self._retiring.choose(everything=everything, say=say)
        done.left.update(retired.left)
        done.repacked = retired.repacked
        done.retired, done.retired_bytes = len(retired.packs), sum(one.size for one in retired.packs)
        if retired.ops:
            say(f"Retiring {done.retired} packs.")
            await say_in_log(self._vault, retired.ops)

    async def _tidy_logs(self, bodies: set[Place], done: Collected, *, now: bool, say: Say) -> None:
        """`bodies`: what lies in segments and is unused, as everybody has acknowledged."""
        logs = tended_logs(self._vault)
        shed = await self._log_deletion.run(logs, bodies, now=now)
        rolled = await self._rollups.run(logs, now=now)
        done.rolled_up, done.log_objects_deleted = rolled.segments, rolled.deleted + shed.deleted
        done.log_bytes_deleted, done.logs_held_back = shed.deleted_bytes, shed.held_back
        done.left.update(rolled.left | shed.left)
        done.checkpoints_deleted = await delete_old_checkpoints(self._vault, done.left, now=now)
        sizes = [stat.size for stat in await self._vault.sender.stats("c/")]
        logs_size = sum(stat.size for stat in await self._vault.sender.stats("l/"))
        self._vault.checkpointing.weigh(logs_size, max(sizes, default=0))
        if rolled.made or done.log_objects_deleted:
            say(f"Rolled up {rolled.segments} log segments, deleted {done.log_objects_deleted} log objects.")

    # ---- wait -----------------------------------------------------------------------------------------------------

    def _note(self) -> None:
        """From the moment we see that something is retired, everybody has to have seen our log that far."""
        vault = self._vault
        known = vault.replica.retirements
        retired = self._retired()
        for place in retired:
            known.ask(place, vault.standing.log.next_seq - 1, vault.wall_ms())
        for one in known.all():
            if one.place not in retired:
                known.forget(one.place)

    def _retired(self) -> set[Place]:
        vault = self._vault
        uses, log_id = vault.replica.uses, vault.standing.log_id
        held = (one for where in (WHERE_PACK, WHERE_BODY2) for one in uses.held(log_id, where, retired=True))
        return {Place(one.place, one.id) for one in held}

    def _hear(self) -> None:
        """Note what everybody has acknowledged."""
        vault = self._vault
        vault.reader.flush()
        sights = self._sights()
        for one in vault.replica.retirements.all():
            if one.acked_ms is None and not owing(sights, one.seq):
                vault.replica.retirements.acknowledge(one.place, vault.wall_ms())

    def _sights(self) -> list[LogSight]:
        standing = self._vault.standing
        return sight_of(standing.membership, standing.logs, standing.log_id)

    # ---- recheck and delete -----------------------------------------------------------------------------------------

    async def _delete(self, done: Collected, *, now: bool, say: Say) -> set[Place]:
        """Delete packs; returns body2 of segments that only their log keeps."""
        vault = self._vault
        free, again = await self._recheck(now=now)
        if again:
            done.used_again = len(again)
            say(f"{len(again)} containers are in use again.")
            await say_in_log(vault, [Unretire(some) for some in wheres(again)])
            self._note()
        packs = [one for one in free if one.where == WHERE_PACK]
        sizes = {one.place: self._size(one) for one in packs}
        for number, one in enumerate(packs, 1):
            say(f"Deleting {number} of {len(packs)} packs.")
            vault.faults.step("collect.delete")
            try:
                await vault.sender.delete(pack_name(one.id))
            except CryptfsError as err:
                done.left[pack_name(one.id)] = f"{err} {err.advice}".strip()
                continue
            vault.replica.retirements.deleted(one.place)
            vault.cache.forget(one.place)
            done.deleted += 1
            done.deleted_bytes += sizes[one.place]
        return {one.place for one in free if one.where == WHERE_BODY2}

    async def _recheck(self, *, now: bool) -> tuple[list[Retirement], list[Place]]:
        """What may be deleted, and what is used again. Each portion is decided in a moment of its own.

        That is as good as one moment for all: whoever has acknowledged a retire makes no new reference, so what is
        unused once everything acknowledged is applied stays unused, whatever happens between two portions.
        """
        free: list[Retirement] = []
        again: list[Place] = []
        bound = self._log_deletion.bound(now=now)
        left = [one for one in self._vault.replica.retirements.all() if self._is_due(one, bound, now=now)]
        while left:
            portion = self._holding.portion(left, lambda one: one.place)
            ready, used = await self._decide(portion)
            free += [one for one in ready if one.place not in used]
            again += [one.place for one in ready if one.place in used]
            await trio.lowlevel.checkpoint()
        return free, again

    async def _decide(self, portion: list[Retirement]) -> tuple[list[Retirement], set[Place]]:
        """Which of these may be decided about now, on everything acknowledged, and which places are in use."""
        for _ in range(TRIES):
            await self._holding.learn(self.stable())
            stable, sights = self.stable(), self._sights()
            ours = self._retired()  # asked once more: the device may have begun another log meanwhile
            ready = [one for one in portion if one.place in ours and not owing(sights, one.seq)]
            found = self._holding.ask([one.place for one in ready], stable) if ready else None
            if found is not None:
                return ready, set(found.ranges) | self._holding.pinned()
        return [], set()

    def _is_due(self, one: Retirement, bound: int, *, now: bool) -> bool:
        if one.gone or one.acked_ms is None:
            return False
        if one.where != WHERE_PACK and not self._log_deletion.is_concerned(one, bound):
            return False
        return now or self._vault.wall_ms() - one.acked_ms >= self._vault.options.collect_delay_s * 1000

    def _size(self, one: Retirement) -> int:
        row = self._vault.replica.rows.container(*one.place)
        return row.size if row is not None else 0

    def _tell_what_waits(self, done: Collected, *, now: bool) -> None:
        standing, sights = self._vault.standing, self._sights()
        missing: set[bytes] = set()
        delay_ms = int(self._vault.options.collect_delay_s * 1000)
        for one in self._vault.replica.retirements.all():
            if one.where != WHERE_PACK or one.gone:
                continue
            done.remaining += 1
            done.remaining_bytes += self._size(one)
            late = owing(sights, one.seq)
            missing.update(late)
            if not late and not now:
                due = (one.acked_ms or self._vault.wall_ms()) + delay_ms
                done.comfort_ms = min(done.comfort_ms or due, due)
        for log_id in sorted(missing):
            name = standing.membership.name_of_log(log_id)
            done.waiting.append(Waiting(log_id, name, standing.logs.state(log_id).wall_ms))
