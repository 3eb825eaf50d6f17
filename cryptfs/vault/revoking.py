"""Eager revocation as commands ask for it: what it would cost, and doing it; JSON values in and out.

As with `acts.py` it makes no difference whether the vault is mounted.
"""

import os
import time
from collections.abc import Awaitable, Callable, Mapping
from errno import ENOENT
from typing import TYPE_CHECKING

from cryptfs.errors import FsError, HostileStore, StoreError, UsageError
from cryptfs.tree.replica import Replica
from cryptfs.vault.administration import check_administrator
from cryptfs.vault.leftovers import Leftovers, leftovers
from cryptfs.vault.oldkeys import survey
from cryptfs.vault.pace import Pace
from cryptfs.vault.reencrypt import Outcome, Reencryption, asked_for

if TYPE_CHECKING:
    from cryptfs.vault.vault import Vault

__all__ = ["Say", "carry_out", "cost"]

Answer = dict[str, object]
Say = Callable[[Answer], Awaitable[None]]


async def cost(vault: "Vault", arguments: Mapping[str, object]) -> Answer:
    """What a re-encryption of `path` (all of the vault without it) would do, or with `resume` of what is unfinished.

    Raises NotAllowed for who is no administrator, UsageError if there is nothing to resume, FsError(ENOENT).
    """
    await vault.exchange.pull()
    check_administrator(vault)
    path = _path(vault, arguments)
    found = await survey(vault, _node(vault.replica, path), Pace())
    return {
        "path": os.fsdecode(path),
        "files": found.files,
        "deleted_files": found.trash,
        "versions": found.versions,
        "bytes": found.bytes,
        "unreadable": found.unreadable,
    }


async def carry_out(vault: "Vault", arguments: Mapping[str, object], pace: Pace, say: Say) -> Answer:
    """Do it. `say` is told `{"progress": {"bytes": n}}`, n more bytes sealed anew. Raises as `Reencryption.run`."""

    async def seen(more: int) -> None:
        await say({"progress": {"bytes": more}})

    path = _path(vault, arguments)
    began = time.monotonic()
    outcome = await Reencryption(vault, _node(vault.replica, path), path, pace, seen).run()
    seconds = round(time.monotonic() - began, 1)
    return _told(outcome, path) | {"seconds": seconds, "objects": await _clear_away(vault)}


async def _clear_away(vault: "Vault") -> Answer:
    """Delete what may be deleted already of what is unused now, and tell what is left for whom.

    That goes wrong without harm: what was sealed anew is, and the collector comes again.
    """
    done: Answer = {"deleted": 0, "deleted_bytes": 0, "held_back": ""}
    try:
        collected = await vault.collector.run(now=True)
        done["deleted"], done["deleted_bytes"] = collected.deleted, collected.deleted_bytes
        done["held_back"] = collected.held_back or " ".join(collected.left.values())
    except (HostileStore, StoreError) as err:
        done["held_back"] = str(err)
    try:
        return done | (await leftovers(vault)).as_json()
    except (HostileStore, StoreError) as err:
        return done | {"held_back": str(err)} | Leftovers({}, 0, []).as_json()


def _told(outcome: Outcome, path: bytes) -> Answer:
    return {
        "path": os.fsdecode(path),
        "complete": outcome.complete,
        "files": len(outcome.files),
        "versions": outcome.versions,
        "bytes": outcome.amount,
        "segments": outcome.segments,
        "failed": [{"path": os.fsdecode(name), "reason": why} for name, why in sorted(outcome.failed.items())],
        "busy": [os.fsdecode(name) for name in sorted(outcome.busy)],
    }


def _path(vault: "Vault", arguments: Mapping[str, object]) -> bytes:
    if arguments.get("resume"):
        unfinished = asked_for(vault)
        if unfinished is None:
            raise UsageError("No re-encryption was begun here and left unfinished.", "Leave out --resume.")
        return unfinished
    path = arguments.get("path", "")
    if not isinstance(path, str):
        raise UsageError("'path' must be text.")
    return os.fsencode(path).strip(b"/")


def _node(replica: Replica, path: bytes) -> int | None:
    """The node at a path from the root; None for the whole vault. Raises FsError(ENOENT)."""
    st = replica.find(path) if path else None
    if path and st is None:
        raise FsError(ENOENT, f"There is no '{os.fsdecode(path)}' in the vault.")
    return st
