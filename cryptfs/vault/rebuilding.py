"""Makes the tree anew while the vault stays open, where undoing does not reach far enough.

From the newest checkpoint that may be trusted and that what changed lies above; else from the beginning of all logs.
Gather, then change: everything is read and judged beside the replica first, and replaced between two awaits. Numbers of
nodes stay (`Core.start_over`), so what programs have open stays open; pending operations come on top again.
"""

import logging
from typing import TYPE_CHECKING

from cryptfs.errors import HostileStore, NeedsUpdate, NotFound, StoreGone
from cryptfs.format.operation import KIND_DIR
from cryptfs.tree.integrate import Diff, integrate
from cryptfs.tree.replica import Node, Replica
from cryptfs.tree.schema import ROOT_ST
from cryptfs.tree.segment import IntegratedSegment
from cryptfs.vault.logpast import begin_logs
from cryptfs.vault.logs import BASES, Logs
from cryptfs.vault.pull import LogReader
from cryptfs.vault.standing import Standing
from cryptfs.vault.starting import Candidate, candidates, drop, fetch, forget_beginning, take_in

if TYPE_CHECKING:
    from cryptfs.vault.vault import Vault

__all__ = ["rebuild", "rebuild_from"]

log = logging.getLogger(__name__)

_Picture = tuple[dict[tuple[int, bytes], int], dict[int, tuple[Node | None, bytes | None]]]
"""Entries (directory, name) to node; nodes to what is shown of them, and their content."""


class _Beside:
    """A shelf in memory."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}

    def meta_get(self, key: str) -> bytes | None:
        return self.values.get(key)

    def meta_set(self, key: str, value: bytes) -> None:
        self.values[key] = value


async def rebuild(vault: "Vault") -> None:
    """Read the logs again, and put what counts in place of what is in the tree.

    Raises StoreError, and HostileStore if the store shows less than was read before; then nothing has changed.
    """
    for candidate in [*await candidates(vault), None]:
        try:
            await rebuild_from(vault, candidate)
        except (HostileStore, NeedsUpdate, NotFound) as err:
            if candidate is None:
                raise
            log.warning("the tree is not made anew from %s: %s", candidate.one.name, err)
        else:
            return
        finally:
            drop(vault)


async def rebuild_from(vault: "Vault", candidate: Candidate | None) -> None:
    """Read the logs again after that checkpoint, or from their beginning, and put that in place of the tree.

    The caller drops what was fetched. Raises as `rebuild`; HostileStore, NeedsUpdate, NotFound if it does not serve.
    """
    if vault.unconfirmed is not None:
        raise StoreGone("The tree is made anew when the segment on its way has arrived.")
    shelf, found = _Beside(), dict[tuple[bytes, int], IntegratedSegment]()

    def take(segments: list[IntegratedSegment], void: list[tuple[bytes, int]]) -> None:
        found.update(((one.log, one.seq), one) for one in segments)
        for gone in void:
            if gone not in found:
                raise HostileStore("something below the checkpoint does not count any more")
            del found[gone]

    standing, old = vault.standing, vault.reader
    logs = Logs(shelf, vault.membership.graph)
    if candidate is not None:
        begin_logs(logs, candidate.one.head.heads, candidate.one.past)
    reader = LogReader(
        vault.membership, vault.log_objects, logs, vault.cache.segments, take, preferred=old.preferences()
    )
    reader.own_ids, reader.own_log = old.own_ids, old.own_log
    reader.settle_at(old.settled)
    await reader.read_all()
    if candidate is not None and any(one.stamp <= candidate.one.stamp for one in found.values()):
        raise HostileStore("something is missing in the checkpoint that counts")
    fetched = await fetch(vault, candidate.one) if candidate is not None else None
    if vault.unconfirmed is not None:
        raise StoreGone("The tree is made anew when the segment on its way has arrived.")
    if _lacks(standing, logs):
        raise HostileStore("The folder lacks segments that the tree was made of: it cannot be made anew.")
    before = _picture(vault.replica)
    with vault.replica.attempt():
        if fetched is not None and candidate is not None:
            take_in(vault, fetched, candidate.ground)
        else:
            vault.replica.start_over()
            forget_beginning(vault)
        for key, value in shelf.values.items():
            vault.replica.meta_set(key, value)
        vault.replica.meta_set(BASES, shelf.values.get(BASES, b""))
        segments = sorted(found.values(), key=lambda one: one.position)
        integrate(vault.replica, segments, vault.pending.operations())
    standing.logs.reload()
    for log_id in standing.logs.ids():
        vault.replica.uses.read_again(log_id)
    vault.cache.follow(vault.replica.uses.moves())
    old.take_over(reader)
    vault.exchange.tell(_difference(before, _picture(vault.replica)))


def _lacks(standing: Standing, logs: Logs) -> bool:
    """Whether something that was read before was not found again, but for a segment here that was never sent.

    What lies below the beginning of a log as it was read now is in the checkpoint.
    """
    made = standing.made
    for log_id in standing.logs.ids():
        again = {(one.seq, one.digest) for one in logs.held(log_id)}
        gone = [
            one
            for one in standing.logs.held(log_id)
            if (one.seq, one.digest) not in again and one.seq >= logs.base(log_id)
        ]
        if any(made is None or log_id != made.log or one.seq < made.seq for one in gone):
            return True
    return False


def _picture(replica: Replica) -> _Picture:
    entries: dict[tuple[int, bytes], int] = {}
    nodes: dict[int, tuple[Node | None, bytes | None]] = {}
    waiting = [ROOT_ST]
    while waiting:
        parent = waiting.pop()
        nodes[parent] = replica.node(parent), None
        for name, st, kind in replica.entries(parent):
            entries[parent, name] = st
            if kind == KIND_DIR:
                waiting.append(st)
            else:
                nodes[st] = replica.node(st), replica.content_of(st)
    return entries, nodes


def _difference(before: _Picture, after: _Picture) -> Diff:
    entries = [key for key in before[0].keys() | after[0].keys() if before[0].get(key) != after[0].get(key)]
    attributes, contents = set[int](), set[int]()
    for st in before[1].keys() | after[1].keys():
        was, now = before[1].get(st), after[1].get(st)
        if was is None or now is None or was[0] != now[0]:
            attributes.add(st)
        if was is not None and now is not None and was[1] != now[1]:
            contents.add(st)
    return Diff(sorted(entries), attributes, contents, set())
