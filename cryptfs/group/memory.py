"""The trust memory: what this device has seen, so that the store cannot take it back unnoticed (docs/membership.md).

Rollback, fork and freeze cannot be seen in a folder; they show only against what one remembers. The memory is one small
sealed file per vault, outside journal and cache so that discarding those does not lose it, written before anything
derived from it is shown. Here it is a value, compared and advanced by pure functions; the file is the caller's.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from msgspec.structs import replace

from cryptfs.crypto.keys import PurposeKey, local_ctx
from cryptfs.crypto.seal import open_sealed, seal
from cryptfs.errors import Damaged, Invalid
from cryptfs.format import form
from cryptfs.format.codec import Wire, check_fmt, decode_top, encode
from cryptfs.format.segment_body import LogHead

__all__ = [
    "Alarm",
    "Finding",
    "News",
    "Sight",
    "TrustMemory",
    "clock",
    "compare",
    "days_without_news",
    "forget",
    "learn",
    "recall",
    "remember",
    "reset_clock",
]

_MAGIC: Final = b"CFSMEMO1"
_FMT: Final = 1
_MEMORY_MAX: Final = 4 << 20
_DAY_MS: Final = 86_400_000


class News(Wire, frozen=True):
    """When this device first saw the latest segment of an entry, in ms of its own clock."""

    entry: bytes
    ms: int


class TrustMemory(Wire, frozen=True):
    """Everything remembered of one vault.

    `heads`: highest segment seen of each log. Lists are sorted by ids. `own_log` is empty before the first segment.
    """

    fmt: int
    vault: bytes
    frontier: tuple[bytes, ...]
    heads: tuple[LogHead, ...]
    own_log: bytes
    stamp: int  # stable stamp S, and the root of State(S), empty while there is none
    root: bytes
    min_format: int  # never goes down
    clock_ms: int  # highest value of the own clock
    news: tuple[News, ...]

    def head(self, log_id: bytes) -> LogHead | None:
        """What is remembered of a log."""
        return next((one for one in self.heads if one.log == log_id), None)

    @property
    def own_head(self) -> LogHead | None:
        """The last segment of this device's current log."""
        return self.head(self.own_log) if self.own_log else None


def forget(vault: bytes) -> TrustMemory:
    """The memory of a device that has seen nothing of `vault` (32 bytes)."""
    return TrustMemory(_FMT, vault, (), (), b"", 0, b"", 0, 0, ())


# ---- the file --------------------------------------------------------------------------------------------------------


def remember(memory: TrustMemory, key: PurposeKey) -> bytes:
    """The bytes of the memory's file, sealed under the local key for "memory": magic, then SEAL."""
    return _MAGIC + seal(key, local_ctx("memory", memory.vault), encode(memory))


def recall(data: bytes, key: PurposeKey, vault: bytes) -> TrustMemory:
    """The memory in a file made by `remember`.

    Raises AuthError or Damaged for a torn, foreign or altered file: then nobody can tell whether the folder is older
    than before, and the person is told so. Raises NeedsUpdate for one of a later version.
    """
    if data[:8] != _MAGIC:
        raise Damaged("this is no trust memory")
    plain = open_sealed(key, local_ctx("memory", vault), data[8:])
    try:
        memory = decode_top(TrustMemory, plain, _MEMORY_MAX)
        check_fmt(memory.fmt)
        _check(memory)
    except Invalid as err:
        raise Damaged("the trust memory is damaged") from err
    return memory


def _check(memory: TrustMemory) -> None:
    form.id32(memory.vault, "vault")
    form.ascending(memory.frontier, "frontier")
    form.ascending((one.log for one in memory.heads), "heads")
    form.ascending((one.entry for one in memory.news), "news")
    form.optional(memory.own_log, 16, "own log")
    form.optional(memory.root, 32, "root")
    for one in memory.heads:
        form.id16(one.log, "log id")
        form.id32(one.digest, "digest")


# ---- comparing with what the store shows -----------------------------------------------------------------------------


class Alarm(Enum):
    """What a comparison finds. The value is whether it stops sealing until a person or the store has answered."""

    STATEMENT_GONE = ("membership decisions have disappeared from the folder", True)
    LOG_OLDER = ("the folder shows an older state than this device has seen", True)
    LOG_FORKED = ("two segments were signed for one place in a log", False)
    OWN_LOG_AHEAD = ("this device's log is longer in the folder than here: another copy of it is running", True)
    ROOTS_DIFFER = ("replicas disagree about one state", True)
    FORMAT_LOWERED = ("the least format version went down; the higher one stays in force", False)

    def __init__(self, words: str, stops: bool) -> None:
        self.words = words
        self.stops_sealing = stops


@dataclass(frozen=True, slots=True)
class Finding:
    """An alarm, and what it is about: a statement id, a log id, or empty."""

    alarm: Alarm
    subject: bytes = b""


@dataclass(frozen=True, slots=True)
class Sight:
    """What the store and the applied segments show now.

    `has_statement(id)`; `digest_at(log_id, seq)`: D of the segment held there, None if none is; `covered`: heads of a
    trusted checkpoint, which stand for all segments at or before them; `heads`: the last applied segment of each log.
    """

    has_statement: Callable[[bytes], bool]
    digest_at: Callable[[bytes, int], bytes | None]
    heads: Mapping[bytes, LogHead]
    frontier: tuple[bytes, ...]
    min_format: int
    covered: Mapping[bytes, LogHead]
    stamp: int = 0
    root: bytes = b""


def compare(memory: TrustMemory, sight: Sight) -> list[Finding]:
    """Everything in which `sight` contradicts the memory, or falls behind it; empty is the usual answer.

    A listing may lag, so what is merely absent becomes an alarm only if it stays so (the caller waits and looks again);
    what contradicts is proof at once.
    """
    found = [Finding(Alarm.STATEMENT_GONE, one) for one in memory.frontier if not sight.has_statement(one)]
    for head in memory.heads:
        shown = sight.digest_at(head.log, head.seq)
        if shown is not None and shown != head.digest:
            found.append(Finding(Alarm.LOG_FORKED, head.log))
        elif shown is None and not _covers(sight.covered.get(head.log), head):
            found.append(Finding(Alarm.LOG_OLDER, head.log))
    own = memory.own_head
    if own is not None and sight.digest_at(own.log, own.seq + 1) is not None:
        found.append(Finding(Alarm.OWN_LOG_AHEAD, own.log))
    if sight.root and memory.root and sight.stamp == memory.stamp and sight.root != memory.root:
        found.append(Finding(Alarm.ROOTS_DIFFER))
    if sight.min_format < memory.min_format:
        found.append(Finding(Alarm.FORMAT_LOWERED))
    return found


def _covers(checkpoint: LogHead | None, head: LogHead) -> bool:
    """Above its place, the checkpoint's author vouches for the chain below; at the same place digests must agree."""
    return checkpoint is not None and (checkpoint.seq > head.seq or checkpoint == head)


# ---- going forward ---------------------------------------------------------------------------------------------------


def learn(
    memory: TrustMemory, sight: Sight, now_ms: int, owners: Mapping[bytes, bytes], own_log: bytes = b""
) -> TrustMemory:
    """The memory after `sight`, which `compare` found nothing against. Nothing in it ever goes back.

    `now_ms` own clock; `owners`: log id -> entry, to note when somebody was last heard of; `own_log`: this device's
    current log, empty if it is still the one remembered.
    """
    heads = {one.log: one for one in memory.heads}
    news = {one.entry: one.ms for one in memory.news}
    for log_id, head in sight.heads.items():
        known = heads.get(log_id)
        if known is None or head.seq > known.seq:
            heads[log_id] = head
            if log_id in owners:
                news[owners[log_id]] = now_ms
    ahead = sight.root and sight.stamp > memory.stamp
    return TrustMemory(
        fmt=_FMT,
        vault=memory.vault,
        frontier=sight.frontier,
        heads=tuple(heads[one] for one in sorted(heads)),
        own_log=own_log or memory.own_log,
        stamp=sight.stamp if ahead else memory.stamp,
        root=sight.root if ahead else memory.root,
        min_format=max(memory.min_format, sight.min_format),
        clock_ms=max(memory.clock_ms, now_ms),
        news=tuple(News(one, news[one]) for one in sorted(news)),
    )


def clock(memory: TrustMemory, own_ms: int, others_ms: Iterable[int] = ()) -> int:
    """The time that certificates are judged by, in ms: never behind what was seen before.

    `others_ms`: thisUpdate of verified revocation lists, the date the store reports. Times claimed by members do not
    count, since one of them could expire everybody else.
    """
    return max(own_ms, memory.clock_ms, *others_ms)


def reset_clock(memory: TrustMemory, now_ms: int) -> TrustMemory:
    """The memory after a person has said that the own clock once ran ahead and is right now."""
    return replace(memory, clock_ms=now_ms)


def days_without_news(memory: TrustMemory, administrators: Iterable[bytes], now_ms: int) -> int | None:
    """Whole days since this device first saw the latest segment of any of `administrators` (entry ids).

    None if it has seen none of them yet.
    """
    wanted = set(administrators)
    latest = max((one.ms for one in memory.news if one.entry in wanted), default=None)
    return None if latest is None else max(0, now_ms - latest) // _DAY_MS
