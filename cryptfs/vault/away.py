"""What a person is told while the store is away, or while nothing more can be written: words for `status`."""

import time
from typing import TYPE_CHECKING, Final

from cryptfs.vault.disk import in_words

if TYPE_CHECKING:
    from cryptfs.vault.vault import Vault

__all__ = ["no_room", "offline"]

_MINUTE: Final = 60
_HOUR: Final = 3600
_DAY: Final = 86_400


def offline(vault: "Vault") -> str:
    """How long the store has not answered, and how much waits for it; empty if it answers."""
    state = vault.sender.state
    if state.state != "unreachable":
        return ""
    since = _ago(time.monotonic() - state.away_since)
    here = "What is on this machine can be read"
    if vault.read_only:
        return f"The store has not answered for {since}. {here}."
    waiting = vault.pending_bytes()
    room = max(0, vault.options.spool_bytes - waiting)
    how_much = f"{in_words(waiting)} wait to be sent, {in_words(room)} more fit"
    return f"The store has not answered for {since}. {here}, and changed: {how_much}."


def no_room(vault: "Vault") -> str:
    """Why programs get ENOSPC, on this machine's side; empty if they do not."""
    upkeep = vault.upkeep
    if upkeep.disk_full:
        return "The local disk is full. Free space on it; work goes on by itself."
    if upkeep.spool_full:
        waiting, limit = in_words(vault.pending_bytes()), in_words(vault.options.spool_bytes)
        return f"{waiting} wait for the store, and spool_size is {limit}. Nothing more is taken until some is sent."
    return ""


def _ago(seconds: float) -> str:
    for length, unit in ((_DAY, "days"), (_HOUR, "hours"), (_MINUTE, "minutes")):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} seconds"
