"""Watches that the folder never shows less, or something else, than this device has seen before.

What was seen is in the trust memory (`group/memory.py`), one small sealed file. After every pull the listing is
compared with it. What contradicts is an alarm at once; what is merely absent becomes one when it stays absent, because
listings of some stores lag. While an alarm stands nothing is sealed and the mount is read-only; it ends by itself when
the store shows again what is missing.
"""

import logging
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import trio
from msgspec.structs import replace

from cryptfs.crypto.keys import PurposeKey, random_bytes
from cryptfs.errors import HostileStore, NotAllowed
from cryptfs.format.names import SegmentName, StatementName, parse_name
from cryptfs.format.segment_body import LogHead
from cryptfs.group.memory import Alarm, Finding, News, Sight, TrustMemory, compare, forget, learn, recall, remember
from cryptfs.store.base import Cap
from cryptfs.vault.disk import local_disk, sync_directory
from cryptfs.vault.freshness import Freshness
from cryptfs.vault.home import VaultHome
from cryptfs.vault.standing import Standing
from cryptfs.vault.upload import Sender

__all__ = ["Trust"]

log = logging.getLogger(__name__)

_PATIENCE: Final = 120.0
"""Seconds that something may be absent from a listing that may lag."""
_CLOCK_STEP_MS: Final = 3_600_000
"""How far the clock may run on before that alone is worth writing the memory."""


class Trust:
    """The watch of one open vault. `alarms` are those that stand; `lost`: there was no memory to compare with."""

    def __init__(self, home: VaultHome, key: PurposeKey, standing: Standing, sender: Sender) -> None:
        self._home = home
        self._key = key
        self._standing = standing
        self._sender = sender
        self._absent_since: dict[Finding, float] = {}
        self._missed: list[Finding] = []
        self._stand: tuple[int, bytes] = (0, b"")
        self._cover: tuple[str, dict[bytes, LogHead]] = ("", {})
        self.dispute = ""
        """Which replicas disagree, for people; empty if none do."""
        self.unvouched = ""
        """Why what is shown is not to be believed yet, for people: nobody known here stands up for it."""
        self.alarms: list[Finding] = []
        self._limiter = trio.CapacityLimiter(1)
        self.lost = False
        self.memory = self._recall()
        self.freshness = Freshness(standing, lambda: self.memory, _now_ms)

    def _recall(self) -> TrustMemory:
        """What the file says. A file that is gone or does not open is said so, and begun anew."""
        vault = self._standing.vault
        try:
            with local_disk("reading what this device has seen"):
                data = self._home.trust_file.read_bytes() if self._home.trust_file.exists() else b""
            if data:
                return recall(data, self._key, vault)
        except HostileStore as err:
            log.warning("%s; whether the folder is older than before cannot be told", err)
        self.lost = True
        return forget(vault)

    @property
    def words(self) -> str:
        """The alarms that stand, for people; empty if none."""
        standing = self._standing
        said = [self.dispute + ". Nothing was deleted and clean-up is off"] if self.dispute else []
        for one in self.alarms:
            owner = standing.membership.graph.log_owner(one.subject) if len(one.subject) == 16 else None
            whose = f" ({standing.membership.name_of(owner.entry)})" if owner is not None else ""
            said.append(one.alarm.words[:1].upper() + one.alarm.words[1:] + whose)
        return ". ".join(said)

    @property
    def advice(self) -> str:
        """What a person may do about them; empty if nothing."""
        if not any(one.alarm in {Alarm.STATEMENT_GONE, Alarm.LOG_OLDER} for one in self.alarms):
            return ""
        return (
            "Either a backup of the folder was restored, or the provider is hiding data. Your local copy is complete. "
            f"Put the missing data back (`cryptfs fsck {self._home.name} --heal`), or stay read-only."
        )

    @property
    def stops(self) -> str:
        """Why nothing may be written; empty if no alarm asks for that."""
        return self.words if any(one.alarm.stops_sealing for one in self.alarms) else self.unvouched

    def stand_on(self, stamp: int, root: bytes) -> None:
        """This device has computed `root` for the state at `stamp`."""
        if stamp > self.memory.stamp or root == self.memory.root:
            self._stand = stamp, root

    def cover(self, witness: str, covered: Mapping[bytes, LogHead]) -> None:
        """Segments up to those of `covered` need not be shown any more, while the checkpoint `witness` is there."""
        self._cover = witness, dict(covered)

    async def confirm(self, stamp: int, root: bytes) -> None:
        """A person says that the state at `stamp` is the one with `root`. Raises LocalDisk."""
        await self._save(replace(self.memory, stamp=stamp, root=root))
        self.unvouched = ""

    def check_may_seal(self) -> None:
        """Raise NotAllowed while an alarm stands that stops sealing, or too long no administrator was heard of."""
        if self.stops:
            raise NotAllowed(f"{self.stops}.", f"Unsent changes are kept on this machine. {self.advice}".strip())
        self.freshness.check_may_seal()

    @property
    def uneasy(self) -> bool:
        """Whether the last listing lacked something, or contradicted it: another one may answer that."""
        return bool(self._missed)

    async def look(self, names: list[str] | None, before: TrustMemory, forks: Iterable[bytes] = ()) -> None:
        """Compare a listing of `m/` and `l/` with the memory as it was before the listing, and remember it.

        None: nothing was listed as a whole; what the last listing lacked is still lacking, what was read since is
        remembered. What stops writing is not remembered, or it would look right the next time. `forks`: logs that were
        found to fork, and about which nobody has done anything yet. Raises LocalDisk.
        """
        parsed = {name: parse_name(name) for name in names or ()}
        segments: dict[tuple[bytes, int], set[bytes]] = {}
        for one in parsed.values():
            if isinstance(one, SegmentName):
                segments.setdefault((one.log_id, one.seq), set()).add(one.h16)
        statements = {one.id for one in parsed.values() if isinstance(one, StatementName)}
        sight = self._sight(segments, statements, before, {})
        if names is not None:
            witness, covered = self._cover
            self._missed = compare(before, sight)
            if covered and self._missed and await self._sender.size(witness) is not None:
                self._missed = compare(before, self._sight(segments, statements, before, covered))
        self._decide([*self._missed, *(Finding(Alarm.LOG_FORKED, one) for one in sorted(forks))])
        if not self.stops:
            await self._learn(sight)

    def _sight(
        self,
        segments: dict[tuple[bytes, int], set[bytes]],
        statements: set[bytes],
        before: TrustMemory,
        covered: dict[bytes, LogHead],
    ) -> Sight:
        standing, logs = self._standing, self._standing.logs
        remembered = {(head.log, head.seq): head.digest for head in before.heads}

        def digest_at(log_id: bytes, seq: int) -> bytes | None:
            """What is there by name; only what was verified counts as something else than remembered."""
            # Beyond what is remembered there may be segments of this device that the last look did not see yet, and
            # those of a copy used in turn, which are read like any other: neither contradicts anything.
            known = remembered.get((log_id, seq))
            return known if known is not None and known[:8] in segments.get((log_id, seq), ()) else None

        heads = {log_id: head for log_id in logs.ids() if (head := logs.state(log_id).head(log_id)) is not None}
        own = heads.get(standing.log_id)
        if own is not None and own.digest[:8] not in segments.get((own.log, own.seq), ()):
            del heads[standing.log_id]  # on its way: remembered once the store has it
        return Sight(
            has_statement=lambda one: one in statements or one == standing.vault,
            digest_at=digest_at,
            heads=heads,
            frontier=standing.membership.frontier(),
            min_format=standing.membership.resolved.policy.min_format,
            covered=covered | self._later(segments, before),
            stamp=self._stand[0],
            root=self._stand[1],
        )

    def _later(self, segments: dict[tuple[bytes, int], set[bytes]], before: TrustMemory) -> dict[bytes, LogHead]:
        """For logs whose remembered head lies in a rollup by now, or was deleted: a later segment that is shown.

        It was verified and follows from the remembered one, so the folder is not older. Only what lies by itself
        counts: the name of a rollup says nothing about what is in it, and the newest segment is never rolled up.
        """
        logs, found = self._standing.logs, dict[bytes, LogHead]()
        for head in before.heads:
            shown = segments.get((head.log, head.seq), ())
            if head.digest[:8] in shown or logs.digest_at(head.log, head.seq) != head.digest:
                continue
            for seq in sorted((seq for log_id, seq in segments if log_id == head.log and seq > head.seq), reverse=True):
                digest = logs.digest_at(head.log, seq)
                if digest is not None and digest[:8] in segments[head.log, seq]:
                    found[head.log] = LogHead(head.log, seq, digest)
                    break
        return found

    def _decide(self, findings: list[Finding]) -> None:
        """Which findings are alarms by now."""
        patience = 0.0 if Cap.STRONG_LIST in self._sender.store.caps else _PATIENCE
        now = time.monotonic()
        self._absent_since = {one: self._absent_since.get(one, now) for one in findings}
        alarms = [one for one in findings if now - self._absent_since[one] >= patience]
        if alarms != self.alarms:
            self.alarms = alarms
            if alarms:
                stopped = f" Nothing is written until that is answered. {self.advice}".rstrip()
                log.error("%s.%s", self.words, stopped if self.stops else "")
            else:
                log.warning("the folder shows again what it had shown before")

    async def _learn(self, sight: Sight) -> None:
        standing = self._standing
        graph = standing.membership.graph
        owners = {one: owner.entry for one in sight.heads if (owner := graph.log_owner(one)) is not None}
        later = learn(self.memory, sight, _now_ms(), owners, standing.log_id)
        same = (later.heads, later.frontier, later.min_format, later.own_log, later.root) == (
            self.memory.heads, self.memory.frontier, self.memory.min_format, self.memory.own_log, self.memory.root,
        ) and later.clock_ms - self.memory.clock_ms < _CLOCK_STEP_MS  # fmt: skip
        if not same or not self._home.trust_file.exists():
            await self._save(later)

    async def sent(self, head: LogHead) -> None:
        """The store has a segment of this device. Raises LocalDisk."""
        heads = {one.log: one for one in self.memory.heads} | {head.log: head}
        news = {one.entry: one for one in self.memory.news} | {
            self._standing.entry: News(self._standing.entry, _now_ms())
        }
        await self._save(
            replace(
                self.memory,
                heads=tuple(heads[one] for one in sorted(heads)),
                own_log=head.log,
                news=tuple(news[one] for one in sorted(news)),
            )
        )

    @property
    def last_sent_ms(self) -> int:
        """When a segment of this device was sent, or first seen, last; ms since 1970, 0 if never."""
        return next((one.ms for one in self.memory.news if one.entry == self._standing.entry), 0)

    async def _save(self, later: TrustMemory) -> None:
        self.memory = later
        data = remember(later, self._key)
        await trio.to_thread.run_sync(_write, self._home.trust_file, data, limiter=self._limiter)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _write(path: Path, data: bytes) -> None:
    with local_disk("remembering what was seen"):
        temporary = path.with_name(f".tmp-{random_bytes(8).hex()}")
        with temporary.open("wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        temporary.rename(path)
        sync_directory(path.parent)
