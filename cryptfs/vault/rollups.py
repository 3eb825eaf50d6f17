"""Rolls up logs, this device's own and ended ones: many small objects become one, later the small ones are deleted.

    ROLL UP  more than 64 segments that are older than ten minutes: one object with all of them, byte for byte
    WAIT     until every counted log has acknowledged the last of them, and a day
    CHECK    the rollup as the store gives it back: each segment in it is ours and verifies
    DELETE   the small ones that lie in it; who was about to read one finds the rollup

Rollups are rolled up like segments, each time with what went before as long as that is not more: so there are few, and
no segment is sent more often than the logarithm of their number. The newest segment always stays by itself: its name is
what others compare the folder with. Whatever stops this half-way leaves objects that say the same twice, and the next
run goes on.
"""

import hashlib
import logging
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from cryptfs.errors import HostileStore, NeedsUpdate, NotFound
from cryptfs.format.limits import MIB
from cryptfs.format.names import RollupName, SegmentName, log_prefix, parse_name, rollup_name, segment_name
from cryptfs.format.rollup import build_rollup
from cryptfs.format.segment import verify_segment
from cryptfs.store.base import Stat
from cryptfs.vault.logobjects import key_of
from cryptfs.vault.logpast import heads_at
from cryptfs.vault.stability import owing, sight_of
from cryptfs.vault.wholerollups import read_whole

if TYPE_CHECKING:
    from cryptfs.vault.vault import Vault

__all__ = ["Covered", "RolledUp", "Rollups", "choose"]

log = logging.getLogger(__name__)

_MANY: Final = 64
"""Segments that may lie by themselves."""
_TARGET: Final = 8 * MIB
"""Bytes of a rollup: what a reader takes in at once, where the limit of the format is 64 MiB."""
_SETTLED_MS: Final = 600_000
_DAY_MS: Final = 86_400_000
_AT_ONCE: Final = 32
"""Rollups made in one run."""
_CHECK_AT_ONCE: Final = 4
"""Rollups in this device's name that one run looks into because it does not remember having made them."""
_NOTED: Final = "rollups/"
"""And the log, in hex."""

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(dict[str, int]).decode


class Covered(NamedTuple):
    """Segments `first`..`last` of a log that lie in one object of `size` bytes."""

    first: int
    last: int
    size: int

    @property
    def length(self) -> int:
        """How many."""
        return self.last - self.first + 1


def choose(
    singles: Mapping[int, int], rollups: Iterable[Covered], many: int, target: int, parts: Sequence[int] = ()
) -> Covered | None:
    """What to roll up next: None if there is nothing to gain.

    `many`: segments that may lie by themselves; `target`: bytes of a rollup; `parts`: ascending, numbers at which
    another part of the log begins that may be deleted at another time, so nothing is put together across.

    `singles`: size in bytes of each segment, by number, that lies by itself and is old enough; `rollups`: what is
    rolled up already. The result is a run of numbers with the sum of their sizes: segments that are in no rollup, at
    least two of them, and the rollups just before if they are not more.
    """
    known = list(rollups)
    bare = sorted(seq for seq in singles if not any(one.first <= seq <= one.last for one in known))
    if len(bare) <= many:
        return None
    for at, first in enumerate(bare):
        run = Covered(first, first, singles[first])
        for seq in bare[at + 1 :]:
            if seq != run.last + 1 or run.size + singles[seq] > target or seq in parts:
                break
            run = Covered(first, seq, run.size + singles[seq])
        if run.length > 1:
            whole = [one for one in known if bisect_right(parts, one.first) == bisect_right(parts, run.first)]
            return _with_earlier(run, whole, target)
    return None


def _with_earlier(run: Covered, rollups: Sequence[Covered], target: int) -> Covered:
    """The run and those rollups right before it that hold no more than what is gathered by then."""
    while True:
        fitting = [
            one
            for one in rollups
            if one.first < run.first <= one.last + 1 <= run.last + 1
            and one.length <= run.length
            and run.size + one.size <= target
        ]
        if not fitting:
            return run
        before = min(fitting)
        run = Covered(before.first, run.last, run.size + before.size)


_Small = SegmentName | RollupName


@dataclass(slots=True)
class RolledUp:
    """What a run did: segments rolled up, objects made and deleted; `left`: rollups that are not as they should be."""

    segments: int = 0
    made: int = 0
    deleted: int = 0
    left: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _Own:
    """The objects of a log that is rolled up here: single segments that count, by number, and rollups."""

    log: bytes
    singles: dict[int, Stat] = field(default_factory=dict)
    rollups: dict[RollupName, Stat] = field(default_factory=dict)


class Rollups:
    """Rolls up for one vault. The caller says when, and that nothing speaks against deleting."""

    def __init__(self, vault: "Vault") -> None:
        self._vault = vault
        self._foreign: set[RollupName] = set()
        """In this device's name, and not what they should be."""

    async def run(self, logs: Iterable[bytes], *, now: bool) -> RolledUp:
        """One run on these logs; `now` waives the day.

        Raises StoreError, HostileStore, LocalDisk; whatever was done stays done.
        """
        done = RolledUp()
        for log_id in logs:
            await self._run(log_id, done, now=now)
        return done

    async def _run(self, log_id: bytes, done: RolledUp, *, now: bool) -> None:
        own = await self._look(log_id)
        noted = await self._note(own, done)
        for _ in range(_AT_ONCE):
            chosen = self._choose(own, noted)
            if chosen is None:
                break
            await self._make(chosen, own, noted, done)
        await self._tidy(own, noted, done, 0 if now else int(self._vault.options.rollup_delay_s * 1000))

    # ---- what there is ----------------------------------------------------------------------------------------------

    async def _look(self, log_id: bytes) -> _Own:
        """What the store has of a log, and counts: not what a copy of its device put there."""
        vault, own = self._vault, _Own(log_id)
        logs = vault.standing.logs
        last = logs.state(log_id).taken - 1
        for stat in await vault.sender.stats(log_prefix(log_id)):
            name = parse_name(stat.key)
            if isinstance(name, SegmentName) and name.seq < last:
                digest = logs.digest_at(log_id, name.seq)
                if digest is not None and digest[:8] == name.h16:
                    own.singles[name.seq] = stat
            elif isinstance(name, RollupName) and name.last < last:
                own.rollups[name] = stat
        return own

    async def _note(self, own: _Own, done: RolledUp) -> dict[str, int]:
        """When this device first knew of each of its rollups, in ms: those it made, and those that hold what they say.

        What is lost of that only delays.
        """
        replica, now = self._vault.replica, self._vault.wall_ms()
        kept = replica.meta_get(_NOTED + own.log.hex())
        known = _decode(kept) if kept is not None else {}
        noted = {key_of(name): known[key_of(name)] for name in own.rollups if key_of(name) in known}
        unknown = [name for name in own.rollups if key_of(name) not in noted and name not in self._foreign]
        for name in sorted(unknown, key=lambda one: (one.first, one.last))[:_CHECK_AT_ONCE]:
            if await self._read(name, done) is not None:
                noted[key_of(name)] = now
        self._remember(own, noted)
        return noted

    def _remember(self, own: _Own, noted: dict[str, int]) -> None:
        self._vault.replica.meta_set(_NOTED + own.log.hex(), _encode(noted))

    async def _read(self, name: RollupName, done: RolledUp) -> list[bytes] | None:
        """The segments in a rollup, as the store has it now; None if not all of them are ours, in order and sound."""
        try:
            return await read_whole(self._vault, name)
        except (NotFound, HostileStore, NeedsUpdate) as err:
            done.left[key_of(name)] = str(err)
            self._foreign.add(name)
            return None

    # ---- rolling up -------------------------------------------------------------------------------------------------

    def _choose(self, own: _Own, noted: Mapping[str, int]) -> Covered | None:
        vault = self._vault
        logs, log_id = vault.standing.logs, own.log
        horizon = vault.wall_ms() - _SETTLED_MS
        settled = {
            seq: stat.size
            for seq, stat in own.singles.items()
            if stat.mtime_ms <= horizon and (moment := logs.moment(log_id, seq)) is not None and moment[1] <= horizon
        }
        rollups = [Covered(one.first, one.last, stat.size) for one, stat in own.rollups.items() if key_of(one) in noted]
        return choose(settled, rollups, _MANY, _TARGET, self._parts(log_id))

    def _parts(self, log_id: bytes) -> list[int]:
        """Where the log is cut by states that everybody has vouched for: what lies before may go together some day."""
        logs, horizon = self._vault.standing.logs, self._vault.horizon
        heads = (heads_at(logs, floor.stamp) or () for floor in horizon.floors())
        return sorted({head.seq + 1 for some in heads for head in some if head.log == log_id})

    async def _make(self, chosen: Covered, own: _Own, noted: dict[str, int], done: RolledUp) -> None:
        vault = self._vault
        log_id, logs = own.log, vault.standing.logs
        segments = []
        for seq in range(chosen.first, chosen.last + 1):
            digest = logs.digest_at(log_id, seq)
            if digest is None:
                raise NotFound(f"segment {seq} of a log is not known here")
            copy = await vault.copies.find(segment_name(log_id, seq, digest))
            segments.append(copy if isinstance(copy, bytes) else await self._from_store(log_id, seq, digest))
        data = build_rollup(vault.vault_id, log_id, chosen.first, segments)
        name = rollup_name(log_id, chosen.first, chosen.last, hashlib.sha256(data).digest())
        vault.faults.step("rollup.put")
        await vault.sender.put(name, data)  # one try: whoever may write can put junk under a name that he computed
        vault.faults.step("rollup.made")
        noted[name] = vault.wall_ms()
        self._remember(own, noted)
        parsed = parse_name(name)
        if isinstance(parsed, RollupName):
            own.rollups[parsed] = Stat(name, len(data), vault.wall_ms(), "")
        vault.log_objects.told([name])
        done.made += 1
        done.segments += chosen.length

    async def _from_store(self, log_id: bytes, seq: int, digest: bytes) -> bytes:
        raw = await self._vault.log_objects.find(log_id, seq, digest)
        owner = self._vault.membership.graph.log_owner(log_id)
        if owner is not None:
            verify_segment(raw, owner.sign_pub)
        return raw.data

    # ---- deleting ---------------------------------------------------------------------------------------------------

    async def _tidy(self, own: _Own, noted: Mapping[str, int], done: RolledUp, delay_ms: int) -> None:
        """Delete what lies in a rollup that everybody has had so long to find."""
        horizon = self._vault.wall_ms() - delay_ms
        largest = sorted(own.rollups, key=lambda one: (one.first - one.last, one.first))
        for name in largest:
            since = noted.get(key_of(name))
            stat = own.rollups.get(name)
            if since is None or stat is None or max(since, stat.mtime_ms) > horizon or self._owing(name):
                continue
            inside = self._inside(name, own)
            if inside and (segments := await self._read(name, done)) is not None:
                await self._delete(name, inside, segments, own, done)

    def _owing(self, name: RollupName) -> bool:
        standing = self._vault.standing
        return bool(owing(sight_of(standing.membership, standing.logs, name.log_id), name.last))

    def _inside(self, name: RollupName, own: _Own) -> list[_Small]:
        found: list[_Small] = []
        for seq, stat in own.singles.items():
            parsed = parse_name(stat.key)
            if name.first <= seq <= name.last and isinstance(parsed, SegmentName):
                found.append(parsed)
        found += [one for one in own.rollups if one != name and name.first <= one.first and one.last <= name.last]
        return found

    async def _delete(
        self,
        whole: RollupName,
        inside: list[_Small],
        segments: list[bytes],
        own: _Own,
        done: RolledUp,
    ) -> None:
        vault, logs = self._vault, self._vault.standing.logs
        for one in inside:
            if isinstance(one, SegmentName):
                digest = logs.digest_at(one.log_id, one.seq)
                key = segment_name(one.log_id, one.seq, digest) if digest is not None else ""
                del own.singles[one.seq]
            else:
                # Byte for byte the same segments, or it is somebody else's, and says perhaps what nothing else does.
                part = segments[one.first - whole.first : one.last - whole.first + 1]
                same = hashlib.sha256(build_rollup(vault.vault_id, one.log_id, one.first, part)).digest()[:8] == one.h16
                key = key_of(one) if same else ""
                del own.rollups[one]
            if key:
                vault.faults.step("rollup.delete")
                await vault.sender.delete(key)
                done.deleted += 1
