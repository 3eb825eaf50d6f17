"""Late work: segments beyond the end of their log, listed, accepted or put aside; and the closing of logs.

They are signed and whole, but do not count: their author was removed, its log was closed, or it exists twice.
Nothing is merged silently, and nothing is thrown away (docs/membership.md, "Late work").
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import msgspec

from cryptfs.errors import CryptfsError, NotAllowed, UsageError
from cryptfs.format.operation import Create, Link, Put, Rename, Unlink
from cryptfs.format.statement import CLOSE_LOST, CLOSE_SUSPENDED, Accept, Close, Cut, NewLog
from cryptfs.group.ends import HeldSegment, closers
from cryptfs.tree.segment import IntegratedSegment
from cryptfs.vault.administration import state
from cryptfs.vault.info import path_of
from cryptfs.vault.people import called
from cryptfs.vault.vault import Vault

__all__ = ["Late", "accept", "close_log", "discard", "late_work", "log_of"]

_DISCARDED: Final = "late/discarded"
_PATHS: Final = 8
"""Paths named of one log."""
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(tuple[bytes, ...]).decode


@dataclass(frozen=True, slots=True)
class Late:
    """What one log has beyond its end. `changes`: operations, as far as they could be read; `last_ms`: its author's
    clock; `again`: its device works on in another log, and sends these changes again itself.
    """  # noqa: D205 - one sentence

    log: bytes
    who: str
    why: str
    segments: tuple[HeldSegment, ...]
    changes: int
    last_ms: int
    paths: tuple[str, ...]
    again: bool


async def late_work(vault: Vault) -> list[Late]:
    """Late work that is known here and was not put aside, by log. Raises StoreError."""
    await vault.exchange.pull()
    kept = vault.replica.meta_get(_DISCARDED)
    aside = set(_decode(kept)) if kept is not None else set()
    found = []
    for log_id, held in sorted(vault.reader.late.items()):
        segments = tuple(one for one in held if one.digest not in aside)
        if segments:
            found.append(await _describe(vault, log_id, segments))
    return found


async def _describe(vault: Vault, log_id: bytes, segments: tuple[HeldSegment, ...]) -> Late:
    membership = vault.membership
    owner = membership.graph.log_owner(log_id)
    entry = owner.entry if owner is not None else b""
    read: list[IntegratedSegment] = []
    for one in segments:
        try:
            read.append(await vault.reader.fetch(log_id, one))
        except CryptfsError:  # it was read once; that it is listed matters more than what is in it
            continue
    paths = dict.fromkeys(path for one in read for path in _paths(vault, one))
    own_closers = closers(membership.graph, membership.resolved, log_id) & {entry}
    return Late(
        log_id,
        membership.name_of(entry),
        _why(vault, log_id, entry),
        segments,
        sum(len(one.ops) for one in read),
        max((one.wall_ms for one in read), default=0),
        tuple(paths)[:_PATHS],
        bool(own_closers) and entry in membership.resolved.roster and _goes_on(vault, entry, log_id),
    )


def _goes_on(vault: Vault, entry: bytes, log_id: bytes) -> bool:
    graph = vault.membership.graph
    for other in graph.logs_of(entry):
        opener = graph.log_opener(other)
        op = opener.statement.payload.op if opener is not None else None
        if isinstance(op, NewLog) and any(cut.log_id == log_id for cut in op.closes):
            return True
    return False


def _why(vault: Vault, log_id: bytes, entry: bytes) -> str:
    membership, name = vault.membership, vault.membership.name_of
    graph, now = membership.graph, membership.resolved
    if entry in now.removals:
        by = {name(graph.node(one).author.entry) for one in now.removals[entry]}
        return f"arrived after {name(entry)} was removed by {' and '.join(sorted(by))}"
    if log_id in vault.standing.logs.forked():
        return f"{name(entry)} exists twice (copied or restored from a backup)"
    by = {name(one) for one in closers(graph, now, log_id)}
    return f"arrived after the log was closed by {' and '.join(sorted(by)) or 'somebody'}"


def _paths(vault: Vault, segment: IntegratedSegment) -> Iterable[str]:
    """Paths that its operations name, as far as their places are known here."""
    replica = vault.replica
    for op in segment.ops:
        if isinstance(op, Create | Link):
            parent, name = replica.st_of(op.p), op.name
        elif isinstance(op, Rename):
            parent, name = replica.st_of(op.p2), op.name2
        elif isinstance(op, Put | Unlink):
            st = replica.st_of(op.i)
            if st is not None and replica.links(st):
                yield path_of(replica, st).decode(errors="replace")
            continue
        else:
            continue
        if parent is not None and replica.node(parent) is not None:
            above = path_of(replica, parent)
            yield (above + b"/" + name if above else name).decode(errors="replace")


def log_of(vault: Vault, word: str) -> bytes:
    """The log that `word` means: the first digits of its id, or who wrote one with late work, by any name of `choose`.

    Raises UsageError unless exactly one fits.
    """
    graph = vault.membership.graph
    known = {one: graph.log_owner(one) for one in {*vault.standing.logs.ids(), *vault.reader.late}}
    found = [one for one in known if len(word) >= 6 and one.hex().startswith(word.lower())]
    found = found or [
        one
        for one in vault.reader.late
        if (owner := known[one]) is not None and word in called(vault.membership, owner.entry)
    ]
    if len(found) != 1:
        raise UsageError(
            f"There is {'no' if not found else 'more than one'} log '{word}'.", "See `cryptfs-admin late`."
        )
    return found[0]


async def accept(vault: Vault, log_id: bytes, upto: int = -1) -> int:
    """Have the late work of a log count after all, up to segment `upto` (-1: all); returns how many segments.

    Of a log that forks the branch with the last segment is taken. Raises UsageError if there is none, NotAllowed for
    who may not decide about its device.
    """
    await vault.exchange.pull()
    held = [one for one in vault.reader.late.get(log_id, ()) if upto < 0 or one.seq <= upto]
    if not held:
        raise UsageError("There is no late work in that log.", "See `cryptfs-admin late`.")
    before = len(vault.reader.counting(log_id))
    last = max(held, key=lambda one: (one.seq, one.digest))
    await state(vault, lambda: Accept((Cut(log_id, last.seq + 1, last.digest),)))
    return len(vault.reader.counting(log_id)) - before


async def discard(vault: Vault, log_id: bytes) -> int:
    """Take the late work of a log off this device's list; returns how many segments. They stay in the folder."""
    await vault.exchange.pull()
    held = vault.reader.late.get(log_id, [])
    kept = vault.replica.meta_get(_DISCARDED)
    aside = {*(_decode(kept) if kept is not None else ()), *(one.digest for one in held)}
    vault.replica.meta_set(_DISCARDED, _encode(sorted(aside)))
    vault.replica.commit()
    return len(held)


async def close_log(vault: Vault, entry: bytes, *, lost: bool) -> int:
    """Close all open logs of a device where they stand here; returns how many.

    A device that comes back goes on in a new log and sends again what does not count. `lost`: what is missing of the
    logs is given up, so that nobody waits for it. Raises NotAllowed for who may not decide about it, and for oneself.
    """
    await vault.exchange.pull()
    logs, reader = vault.standing.logs, vault.reader
    mine = vault.membership.graph.logs_of(entry)
    cuts = []
    for log_id in sorted(mine):
        end = reader.end(log_id)
        if end is not None and end.count is None:
            cuts.append(Cut(log_id, logs.state(log_id).next_seq, logs.state(log_id).digest))
    if any(cut.log_id == vault.standing.log_id for cut in cuts):
        raise NotAllowed("A device cannot close the log that it writes.", "Another administrator's device can.")
    if not cuts:
        raise NotAllowed("This device has no open log.", "See `cryptfs-admin members`.")
    await state(vault, lambda: Close(tuple(cuts), CLOSE_LOST if lost else CLOSE_SUSPENDED))
    return len(cuts)
